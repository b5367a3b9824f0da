//! Whose a transfer is: in the federation, so that a patient's inbox is read without a look at others' transfers; and
//! here, from its beginning on, whatever wallet is linked to whom later.

use std::collections::VecDeque;

use handover_core::{PatientRef, TransferId};
use handover_dossier::Row;
use handover_records::LocalPatient;
use handover_store::{KeyMaker, SCAN_MAX_CELLS, StoreError, Txn, rows};

/// Transfers in one inbox.
const INBOX_MAX: usize = 100;
const OF_PATIENT: &str = "transfer-of";
const OF_LOCAL: &str = "transfer-of-local";
const WHOSE: &str = "transfer-whose";

/// Notes whose a new transfer is.
pub(crate) fn note(
    txn: &mut dyn Txn,
    keys: &KeyMaker,
    row: &Row,
    local: Option<&LocalPatient>,
) -> Result<(), StoreError> {
    let transfer = row.transfer.as_bytes();
    let of = keys.space(OF_PATIENT).hashed(row.patient.as_bytes());
    txn.put(&of.raw(transfer).build(), transfer.to_vec())?;
    let Some(local) = local else { return Ok(()) };
    let of = keys.space(OF_LOCAL).hashed(local.as_str());
    txn.put(&of.raw(transfer).build(), transfer.to_vec())?;
    txn.put(&keys.space(WHOSE).hashed(transfer).build(), local.as_str().as_bytes().to_vec())
}

/// The patient here that a transfer is about; none once they are forgotten.
pub(crate) fn whose(
    txn: &mut dyn Txn,
    keys: &KeyMaker,
    transfer: TransferId,
) -> Result<Option<LocalPatient>, StoreError> {
    let Some(bytes) = txn.get(&keys.space(WHOSE).hashed(transfer.as_bytes()).build())? else {
        return Ok(None);
    };
    let local = std::str::from_utf8(&bytes).ok().and_then(|text| text.parse().ok());
    local.map(Some).ok_or_else(|| rows::damaged("a transfer's patient"))
}

/// Takes away that a transfer is about a patient here.
pub(crate) fn forget(
    txn: &mut dyn Txn,
    keys: &KeyMaker,
    local: &LocalPatient,
    transfer: TransferId,
) -> Result<(), StoreError> {
    let of = keys.space(OF_LOCAL).hashed(local.as_str());
    txn.remove(&of.raw(transfer.as_bytes()).build())?;
    txn.remove(&keys.space(WHOSE).hashed(transfer.as_bytes()).build())
}

/// A page of all transfers of a patient here, with the keys that page on.
pub(crate) fn page_of_local(
    txn: &mut dyn Txn,
    keys: &KeyMaker,
    local: &LocalPatient,
    after: Option<&[u8]>,
    limit: usize,
) -> Result<Vec<(Vec<u8>, TransferId)>, StoreError> {
    page(txn, &keys.space(OF_LOCAL).hashed(local.as_str()).build(), after, limit)
}

fn page(
    txn: &mut dyn Txn,
    prefix: &[u8],
    after: Option<&[u8]>,
    limit: usize,
) -> Result<Vec<(Vec<u8>, TransferId)>, StoreError> {
    let read = |(key, transfer): (Vec<u8>, Vec<u8>)| {
        let transfer = TransferId::try_from(transfer.as_slice());
        Ok((key, transfer.map_err(|_| rows::damaged("a patient's transfer"))?))
    };
    txn.scan(prefix, after, limit)?.into_iter().map(read).collect()
}

/// A patient's newest transfers, ascending.
pub(crate) fn newest(
    txn: &mut dyn Txn,
    keys: &KeyMaker,
    patient: PatientRef,
) -> Result<VecDeque<TransferId>, StoreError> {
    let (mut newest, mut after) = (VecDeque::with_capacity(INBOX_MAX), None);
    let prefix = keys.space(OF_PATIENT).hashed(patient.as_bytes()).build();
    loop {
        let page = page(txn, &prefix, after.as_deref(), SCAN_MAX_CELLS)?;
        let is_last = page.len() < SCAN_MAX_CELLS;
        for (key, transfer) in page {
            if newest.len() >= INBOX_MAX {
                newest.pop_front();
            }
            newest.push_back(transfer);
            after = Some(key);
        }
        if is_last {
            return Ok(newest);
        }
    }
}

#[cfg(test)]
mod tests {
    use handover_core::Timestamp;
    use handover_store::{CellKey, Store};

    use super::*;

    #[tokio::test]
    async fn an_inbox_holds_the_newest_of_its_patient() {
        let store = Store::memory(&CellKey::from_bytes([1; 32]));
        let keys = store.keys();
        let (anna, ben) = (PatientRef::from_bytes([1; 32]), PatientRef::from_bytes([2; 32]));
        let id = |number: i64| TransferId::new(Timestamp::from_millis(number), [1; 10]);
        let found = store.write(move |txn| -> Result<_, StoreError> {
            for number in 0..1_200 {
                let patient = if number == 1_199 { ben } else { anna };
                let place = keys.space(OF_PATIENT).hashed(patient.as_bytes());
                let transfer = id(number);
                txn.put(&place.raw(transfer.as_bytes()).build(), transfer.as_bytes().to_vec())?;
            }
            newest(txn, &keys, anna)
        });
        assert_eq!(Vec::from(found.await.unwrap()), (1_099..1_199).map(id).collect::<Vec<_>>());
    }
}
