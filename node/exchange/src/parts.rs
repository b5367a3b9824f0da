//! The parts of a package, as both hospitals keep them beside its header, which only commits to them.

use handover_core::artefact::transfer::{PackageHeader, PartList};
use handover_core::{TransferId, rules};
use handover_dossier::DossierError;
use handover_store::{KeyMaker, StoreError, Txn, rows};

const PARTS: &str = "package-parts";
/// The most bytes of a stored list.
const LIST_MAX_BYTES: usize = 2 * 1024 * 1024;

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

/// The parts that a header commits to: they were kept with it.
pub(crate) fn of(
    txn: &mut dyn Txn,
    keys: &KeyMaker,
    header: &PackageHeader,
) -> Result<PartList, DossierError> {
    let parts = get(txn, keys, header.transfer)?.ok_or_else(|| rows::damaged("a package's parts"))?;
    rules::parts(&parts, header)?;
    Ok(parts)
}
