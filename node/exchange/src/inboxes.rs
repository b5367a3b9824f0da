//! Whose a transfer is: a patient's inbox is read by this, without a look at others' transfers.

use std::collections::VecDeque;

use handover_core::{PatientRef, TransferId};
use handover_dossier::Row;
use handover_store::{KeyMaker, SCAN_MAX_CELLS, StoreError, Txn, rows};

/// Transfers in one inbox.
const INBOX_MAX: usize = 100;
const OF_PATIENT: &str = "transfer-of";

/// Notes whose a new transfer is, so that their inbox needs no look at others'.
pub(crate) fn note(txn: &mut dyn Txn, keys: &KeyMaker, row: &Row) -> Result<(), StoreError> {
    let transfer = row.transfer.as_bytes();
    txn.put(&keys.space(OF_PATIENT).hashed(row.patient.as_bytes()).raw(transfer).build(), transfer.to_vec())
}

/// A page of all of a patient's transfers, with the keys that page on.
pub(crate) fn page(
    txn: &mut dyn Txn,
    keys: &KeyMaker,
    patient: PatientRef,
    after: Option<&[u8]>,
    limit: usize,
) -> Result<Vec<(Vec<u8>, TransferId)>, StoreError> {
    let prefix = keys.space(OF_PATIENT).hashed(patient.as_bytes()).build();
    let read = |(key, transfer): (Vec<u8>, Vec<u8>)| {
        let transfer = TransferId::try_from(transfer.as_slice());
        Ok((key, transfer.map_err(|_| rows::damaged("a patient's transfer"))?))
    };
    txn.scan(&prefix, after, limit)?.into_iter().map(read).collect()
}

/// A patient's newest transfers, ascending.
pub(crate) fn newest(
    txn: &mut dyn Txn,
    keys: &KeyMaker,
    patient: PatientRef,
) -> Result<VecDeque<TransferId>, StoreError> {
    let (mut newest, mut after) = (VecDeque::with_capacity(INBOX_MAX), None);
    loop {
        let page = page(txn, keys, patient, after.as_deref(), SCAN_MAX_CELLS)?;
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
