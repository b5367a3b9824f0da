//! Which record versions a transfer is about: frozen when it is quoted, so that what is consented to is what is sent.

use handover_core::artefact::transfer::{PACKAGE_MAX_CONTENTS, PACKAGE_MAX_RECORDS};
use handover_core::codec::Extensions;
use handover_core::{Digest, TransferId, cbor_map};
use handover_records::{INLINE_MAX_BYTES, RecordId, RecordRef, RecordVersionRef};
use handover_store::{KeyMaker, Store, StoreError, Txn, rows};

use crate::ExchangeError;

/// The most bytes of a stored selection: 24 for each record.
const SELECTION_MAX_BYTES: usize = 64 * 1024 * 1024;
const SELECTION: &str = "selection";
/// What the destination has under a continuous consent, by the transfer that it was given for.
const SENT: &str = "continuous-sent";

cbor_map! {
    /// A record version.
    pub(crate) struct Selected {
        /// The record.
        1 => record: [u8; 16],
        /// Its version.
        2 => version: u32,
    }
}

cbor_map! {
    /// The versions, ascending.
    pub(crate) struct Selection {
        /// Each once.
        1 => records: Vec<Selected>,
        /// Those that are not sent and are tests that its fee is made of.
        2 => others: Vec<Selected>,
    }
}

/// Which record versions a transfer is about.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Chosen {
    /// Those that are sent.
    pub(crate) records: Vec<RecordRef>,
    /// Those that are not, of other tests that the fee is made of.
    pub(crate) others: Vec<RecordRef>,
}

impl Chosen {
    /// All of them.
    pub(crate) fn all(&self) -> impl Iterator<Item = RecordRef> {
        self.records.iter().chain(&self.others).copied()
    }
}

impl From<Selection> for Chosen {
    fn from(Selection { records, others, .. }: Selection) -> Self {
        let reference =
            |it: Selected| RecordRef { record: RecordId::from_bytes(it.record), version: it.version };
        let all = |some: Vec<Selected>| some.into_iter().map(reference).collect();
        Self { records: all(records), others: all(others) }
    }
}

/// Puts the versions of a transfer.
pub(crate) fn put(
    txn: &mut dyn Txn,
    keys: &KeyMaker,
    transfer: TransferId,
    chosen: &Chosen,
) -> Result<(), StoreError> {
    put_in(txn, keys, SELECTION, transfer, (&chosen.records, &chosen.others))
}

/// Puts what the destination has under the consent of a transfer.
pub(crate) fn put_sent(
    txn: &mut dyn Txn,
    keys: &KeyMaker,
    origin: TransferId,
    versions: &[RecordRef],
) -> Result<(), StoreError> {
    put_in(txn, keys, SENT, origin, (versions, &[]))
}

fn put_in(
    txn: &mut dyn Txn,
    keys: &KeyMaker,
    space: &'static str,
    transfer: TransferId,
    (records, others): (&[RecordRef], &[RecordRef]),
) -> Result<(), StoreError> {
    let selected = |it: &RecordRef| Selected {
        record: *it.record.as_bytes(),
        version: it.version,
        extensions: Extensions::default(),
    };
    let all = |some: &[RecordRef]| some.iter().map(selected).collect();
    let selection =
        Selection { records: all(records), others: all(others), extensions: Extensions::default() };
    rows::put_large(txn, &keys.space(space).hashed(transfer.as_bytes()), &selection)
}

/// The versions of a transfer.
pub(crate) async fn get(store: &Store, transfer: TransferId) -> Result<Chosen, ExchangeError> {
    let keys = store.keys();
    let selection = store.read(move |txn| read(txn, &keys, transfer)).await?;
    Ok(selection.ok_or_else(|| rows::damaged("a quoted transfer's selection"))?)
}

/// The versions of a transfer, if they are here.
pub(crate) fn read(
    txn: &mut dyn Txn,
    keys: &KeyMaker,
    transfer: TransferId,
) -> Result<Option<Chosen>, StoreError> {
    read_in(txn, keys, SELECTION, transfer)
}

/// What the destination has under the consent of a transfer, if something was delivered since.
pub(crate) fn read_sent(
    txn: &mut dyn Txn,
    keys: &KeyMaker,
    origin: TransferId,
) -> Result<Option<Vec<RecordRef>>, StoreError> {
    Ok(read_in(txn, keys, SENT, origin)?.map(|sent| sent.records))
}

fn read_in(
    txn: &mut dyn Txn,
    keys: &KeyMaker,
    space: &'static str,
    transfer: TransferId,
) -> Result<Option<Chosen>, StoreError> {
    let place = keys.space(space).hashed(transfer.as_bytes());
    let selection: Option<Selection> = rows::get_large(txn, &place, SELECTION_MAX_BYTES)?;
    Ok(selection.map(Chosen::from))
}

/// Removes them: the transfer's patient is forgotten here.
pub(crate) fn remove(txn: &mut dyn Txn, keys: &KeyMaker, transfer: TransferId) -> Result<(), StoreError> {
    rows::remove_pieces(txn, &keys.space(SELECTION).hashed(transfer.as_bytes()))
}

/// Removes what the destination has under the consent of a transfer: nothing goes on with it.
pub(crate) fn remove_sent(txn: &mut dyn Txn, keys: &KeyMaker, origin: TransferId) -> Result<(), StoreError> {
    rows::remove_pieces(txn, &keys.space(SENT).hashed(origin.as_bytes()))
}

/// As many of these records, in order, as one package holds.
pub(crate) fn as_fit<'a>(records: impl Iterator<Item = &'a RecordVersionRef>) -> Vec<RecordVersionRef> {
    let limit = usize::try_from(PACKAGE_MAX_RECORDS).unwrap_or(usize::MAX);
    let mut contents = 0_usize;
    let fits = |record: &&RecordVersionRef| {
        contents = contents.saturating_add(usize::from(record.bytes > INLINE_MAX_BYTES as u64));
        contents <= PACKAGE_MAX_CONTENTS
    };
    records.take(limit).take_while(fits).cloned().collect()
}

/// One hash over versions and their contents: what a quote is about.
pub(crate) fn versions_hash(records: &[RecordVersionRef]) -> Digest {
    let mut bytes = Vec::with_capacity(records.len().saturating_mul(52));
    for record in records {
        bytes.extend_from_slice(record.reference.record.as_bytes());
        bytes.extend_from_slice(&record.reference.version.to_be_bytes());
        bytes.extend_from_slice(record.content_hash.as_bytes());
    }
    Digest::sha256(&[b"handover/1/versions", &bytes])
}

#[cfg(test)]
mod tests {
    use handover_core::Timestamp;
    use handover_records::{Origin, RecordSummary};

    use super::*;

    fn record(bytes: u64) -> RecordSummary {
        RecordSummary {
            reference: RecordRef { record: RecordId::from_bytes([1; 16]), version: 1 },
            patient: "anna".parse().unwrap(),
            department: "radiology".parse().unwrap(),
            resource_type: "Binary".to_owned(),
            resource_id: "scan".to_owned(),
            content_hash: Digest::from_bytes([1; 32]),
            date: None,
            is_restricted: false,
            file: None,
            bytes,
            origin: Origin::Local,
            filed: Timestamp::from_millis(0),
            mark: None,
        }
    }

    #[test]
    fn a_package_holds_so_many_records_and_so_many_large_ones() {
        let (small, large) = (record(1), record(INLINE_MAX_BYTES as u64 + 1));
        let fit = |small_ones: usize, large_ones: usize| {
            let all = std::iter::repeat_n(&small, small_ones).chain(std::iter::repeat_n(&large, large_ones));
            as_fit(all).len()
        };
        assert_eq!(fit(10, PACKAGE_MAX_CONTENTS), 10 + PACKAGE_MAX_CONTENTS);
        assert_eq!(fit(10, PACKAGE_MAX_CONTENTS + 1), 10 + PACKAGE_MAX_CONTENTS);
        let most = usize::try_from(PACKAGE_MAX_RECORDS).unwrap();
        assert_eq!(fit(most + 1, 0), most);
    }
}
