//! What a transfer leaves in the data folder and nobody needs once it is over: sealed manifests, and parts of packages
//! that were on their way in. Each is noted before it is made, and removed when its transfer has ended, or at the next
//! start after that.

use std::path::Path;

use handover_core::codec::Extensions;
use handover_core::{ContentRoot, TransferId, cbor_map};
use handover_dossier::{Dossier, DossierError};
use handover_records::Records;
use handover_store::{Blobs, Store, StoreError, rows};

use crate::ExchangeError;

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
        let page = store
            .read(move |txn| -> Result<_, DossierError> {
                let cells = txn.scan(&keys.space(LEFTOVER).build(), from.as_deref(), PAGE)?;
                let mut found = Vec::with_capacity(cells.len());
                for (key, value) in cells {
                    let leftover: Leftover = rows::read(&value)?;
                    let row = Dossier::of(txn, &keys, leftover.transfer).row()?;
                    found.push((key, leftover, row.is_some_and(|row| row.state.phase.is_final())));
                }
                Ok(found)
            })
            .await?;
        after = page.last().map(|(key, ..)| key.clone());
        let is_last = page.len() < PAGE;
        for (key, leftover, is_over) in page {
            if is_over {
                delete_manifest(blobs, records, leftover.manifest).await?;
                remove_folder(&incoming.join(leftover.transfer.to_string()))?;
                store.write(move |txn| -> Result<(), StoreError> { txn.remove(&key) }).await?;
                swept += 1;
            }
        }
        if is_last {
            return Ok(swept);
        }
    }
}

/// Deletes a transfer's manifest; not one that is a record's content here, whatever another hospital named so.
pub(crate) async fn delete_manifest(
    blobs: &Blobs,
    records: &Records,
    manifest: ContentRoot,
) -> Result<(), ExchangeError> {
    if records.is_content(manifest).await? {
        return Ok(());
    }
    Ok(blobs.delete(manifest).await?)
}

fn remove_folder(folder: &Path) -> Result<(), ExchangeError> {
    match std::fs::remove_dir_all(folder) {
        Err(fault) if fault.kind() != std::io::ErrorKind::NotFound => Err(fault.into()),
        _ => Ok(()),
    }
}
