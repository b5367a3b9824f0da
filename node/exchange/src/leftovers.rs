//! What a transfer leaves in the data folder and nobody needs once it is over: sealed manifests, parts of packages that
//! were on their way in, and large contents that came and were never filed. It is noted before it is made, and removed
//! when its transfer has ended, or at the next start after that. What a record stands on here stays, and what another
//! transfer under way brought, too; should that come in this very moment, filing misses it and asks once more.

use std::collections::BTreeSet;
use std::path::Path;

use handover_core::codec::Extensions;
use handover_core::{ContentRoot, TransferId, cbor_map};
use handover_dossier::{Dossier, DossierError};
use handover_records::Records;
use handover_store::{Blobs, Store, StoreError, rows};

use crate::{ExchangeError, parts};

const LEFTOVER: &str = "leftover";
/// Notes looked at in one page.
const PAGE: usize = 500;

cbor_map! {
    /// A sealed manifest of a transfer.
    struct Leftover {
        /// The transfer.
        1 => transfer: TransferId,
        /// The manifest's blob.
        2 => manifest: ContentRoot,
    }
}

/// Notes a manifest that is about to be put among the blobs.
pub(crate) async fn note(
    store: &Store,
    transfer: TransferId,
    manifest: ContentRoot,
) -> Result<(), ExchangeError> {
    let keys = store.keys();
    let row = Leftover { transfer, manifest, extensions: Extensions::default() };
    Ok(store
        .write(move |txn| -> Result<(), StoreError> {
            let key = keys.space(LEFTOVER).raw(transfer.as_bytes()).hashed(manifest.as_bytes()).build();
            rows::put(txn, &key, &row)
        })
        .await?)
}

/// Removes what belongs to transfers that are over; says how many were.
pub(crate) async fn sweep(
    store: &Store,
    blobs: &Blobs,
    records: &Records,
    incoming: &Path,
) -> Result<usize, ExchangeError> {
    let (mut swept, mut after) = (0, None::<Vec<u8>>);
    loop {
        let (keys, from) = (store.keys(), after.clone());
        let (over, next) = store
            .read(move |txn| -> Result<_, DossierError> {
                let cells = txn.scan(&keys.space(LEFTOVER).build(), from.as_deref(), PAGE)?;
                let mut found = Vec::new();
                for (key, value) in &cells {
                    let leftover: Leftover = rows::read(value)?;
                    let row = Dossier::of(txn, &keys, leftover.transfer).row()?;
                    if row.is_some_and(|row| row.state.phase.is_final()) {
                        let contents = parts::get(txn, &keys, leftover.transfer)?.map(|parts| parts.contents);
                        found.push((key.clone(), leftover, contents.unwrap_or_default()));
                    }
                }
                let next = cells.into_iter().nth(PAGE - 1).map(|(key, _)| key);
                Ok((found, next))
            })
            .await?;
        let wanted = if over.is_empty() { BTreeSet::new() } else { parts::contents_under_way(store).await? };
        for (key, leftover, contents) in over {
            delete_unowned(blobs, records, leftover.manifest).await?;
            for content in contents.iter().filter(|content| !wanted.contains(&content.root)) {
                delete_unowned(blobs, records, content.root).await?;
            }
            remove_folder(&incoming.join(leftover.transfer.to_string()))?;
            store.write(move |txn| -> Result<(), StoreError> { txn.remove(&key) }).await?;
            swept += 1;
        }
        after = next;
        if after.is_none() {
            return Ok(swept);
        }
    }
}

/// Deletes a part of a package; not one that is a record's content here, whatever another hospital named so.
pub(crate) async fn delete_unowned(
    blobs: &Blobs,
    records: &Records,
    part: ContentRoot,
) -> Result<(), ExchangeError> {
    if records.is_content(part).await? {
        return Ok(());
    }
    Ok(blobs.delete(part).await?)
}

fn remove_folder(folder: &Path) -> Result<(), ExchangeError> {
    match std::fs::remove_dir_all(folder) {
        Err(fault) if fault.kind() != std::io::ErrorKind::NotFound => Err(fault.into()),
        _ => Ok(()),
    }
}
