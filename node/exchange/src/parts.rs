//! The parts of a package, as both hospitals keep them beside its header, which only commits to them.

use std::collections::BTreeSet;

use handover_core::artefact::transfer::{PackageHeader, PartList};
use handover_core::{ContentRoot, TransferId, rules};
use handover_dossier::DossierError;
use handover_store::{KeyMaker, Store, StoreError, Txn, rows};

const PARTS: &str = "package-parts";
/// The most bytes of a stored list.
const LIST_MAX_BYTES: usize = 2 * 1024 * 1024;
/// Transfers whose parts are read at once.
const PAGE: usize = 20;

/// Puts the parts of a transfer's package.
pub(crate) fn put(
    txn: &mut dyn Txn,
    keys: &KeyMaker,
    transfer: TransferId,
    parts: &PartList,
) -> Result<(), StoreError> {
    rows::put_large(txn, &keys.space(PARTS).hashed(transfer.as_bytes()), parts)
}

/// The parts of a transfer's package, if they are known here.
pub(crate) fn get(
    txn: &mut dyn Txn,
    keys: &KeyMaker,
    transfer: TransferId,
) -> Result<Option<PartList>, StoreError> {
    rows::get_large(txn, &keys.space(PARTS).hashed(transfer.as_bytes()), LIST_MAX_BYTES)
}

/// Contents that transfers under way stand on: one that was delivered may be a blob that lay here already.
pub(crate) async fn contents_under_way(store: &Store) -> Result<BTreeSet<ContentRoot>, DossierError> {
    let (mut wanted, mut after) = (BTreeSet::new(), None);
    loop {
        let keys = store.keys();
        let read = store.read(move |txn| -> Result<_, DossierError> {
            let page = handover_dossier::active(txn, &keys, after, PAGE)?;
            let mut roots = Vec::new();
            for row in &page {
                let parts = get(txn, &keys, row.transfer)?;
                roots.extend(parts.into_iter().flat_map(|parts| parts.contents).map(|part| part.root));
            }
            Ok((roots, page.into_iter().nth(PAGE - 1).map(|row| row.transfer)))
        });
        let (roots, next) = read.await?;
        wanted.extend(roots);
        after = next;
        if after.is_none() {
            return Ok(wanted);
        }
    }
}

/// The parts that a header commits to, if they are here: they are kept with it, but a store that was restored may lack
/// them, or have an earlier attempt's.
pub(crate) fn held(
    txn: &mut dyn Txn,
    keys: &KeyMaker,
    header: &PackageHeader,
) -> Result<Option<PartList>, StoreError> {
    Ok(get(txn, keys, header.transfer)?.filter(|parts| rules::parts(parts, header).is_ok()))
}
