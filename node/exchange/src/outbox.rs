//! What this node owes to others: artefacts, durable from the transaction that made them until they were taken.
//!
//! Each target's parcels go out in order; a target that cannot be reached is tried again, doubling from half a
//! second to a minute, and at once when it connects. What a target refuses for good becomes a dead letter, which a
//! person sees and can send again.
//!
//! What the index takes to pass it on is kept until something has come of it: an index that says yes and forgets keeps
//! nothing from anybody.

use handover_core::codec::{Bytes, Extensions};
use handover_core::message::Tally;
use handover_core::transfer::Phase;
use handover_core::{Code, HospitalId, Party, Timestamp, TransferId, cbor_enum, cbor_map};
use handover_dossier::tally;
use handover_store::{KeyMaker, SCAN_MAX_CELLS, Store, StoreError, Txn, rows};

use crate::ExchangeError;

cbor_enum! {
    /// Which way a parcel goes.
    pub(crate) enum Via {
        /// To the index, for the index or for it to pass on; to the hospital itself if the index is away.
        Index = 1, "index";
        /// Straight to the hospital.
        Direct = 2, "direct";
    }
}

cbor_map! {
    /// Where a parcel goes; its content lies beside it.
    pub(crate) struct Label {
        /// The hospital that it is for; absent: for the index only.
        1 => to: Option<HospitalId>,
        /// Which way.
        2 => via: Via,
        /// The transfer that it belongs to.
        3 => transfer: TransferId,
        /// Why it was refused, if it is a dead letter.
        4 => refused: Option<Code>,
        /// Since when.
        5 => since: Timestamp,
    }
}

cbor_map! {
    /// A parcel that the index took to pass it on.
    pub(crate) struct Passed {
        /// Where it goes.
        1 => label: Label,
        /// How far its transfer comes without it; what is beyond shows that it was passed on.
        2 => phase: Phase,
        /// When the index took it.
        3 => at: Timestamp,
    }
}

/// Who takes a parcel first.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Target {
    /// The index.
    Index,
    /// A hospital.
    Hospital(HospitalId),
}

impl Target {
    /// Who it is.
    #[must_use]
    pub(crate) fn party(self) -> Party {
        match self {
            Self::Index => Party::Index,
            Self::Hospital(hospital) => Party::Hospital(hospital),
        }
    }
}

impl Label {
    /// A parcel for a hospital, by way of the index.
    #[must_use]
    pub(crate) fn via_index(to: HospitalId, transfer: TransferId, now: Timestamp) -> Self {
        Self::new(Some(to), Via::Index, transfer, now)
    }

    /// A parcel straight to a hospital.
    #[must_use]
    pub(crate) fn direct(to: HospitalId, transfer: TransferId, now: Timestamp) -> Self {
        Self::new(Some(to), Via::Direct, transfer, now)
    }

    /// A copy for the index.
    #[must_use]
    pub(crate) fn copy(transfer: TransferId, now: Timestamp) -> Self {
        Self::new(None, Via::Index, transfer, now)
    }

    fn new(to: Option<HospitalId>, via: Via, transfer: TransferId, since: Timestamp) -> Self {
        Self { to, via, transfer, refused: None, since, extensions: Extensions::default() }
    }

    /// Who takes it first.
    #[must_use]
    pub(crate) fn target(&self) -> Target {
        match (&self.to, self.via) {
            (Some(hospital), Via::Direct) => Target::Hospital(hospital.clone()),
            _ => Target::Index,
        }
    }
}

/// A parcel as it waits.
#[derive(Clone, Debug)]
pub(crate) struct Waiting {
    /// Its number; ascending.
    pub(crate) number: u64,
    /// Where it goes.
    pub(crate) label: Label,
}

const OUTBOX: &str = "outbox";
const CONTENT: &str = "outbox-content";
const NEXT: &str = "outbox-next";
const DEAD: &str = "dead-letter";
const PASSED: &str = "outbox-passed";

/// Adds a parcel inside the transaction that makes it due.
///
/// # Errors
/// The store's.
pub(crate) fn push(
    txn: &mut dyn Txn,
    keys: &KeyMaker,
    label: &Label,
    content: &[u8],
) -> Result<(), StoreError> {
    let next_key = keys.space(NEXT).build();
    let number = match txn.get(&next_key)? {
        None => 0,
        Some(bytes) => <[u8; 8]>::try_from(bytes.as_slice()).map(u64::from_be_bytes).unwrap_or_default(),
    };
    txn.put(&next_key, number.wrapping_add(1).to_be_bytes().to_vec())?;
    rows::put(txn, &keys.space(OUTBOX).u64(number).build(), label)?;
    rows::put_pieces(txn, &keys.space(CONTENT).u64(number), content)
}

fn number_of(key: &[u8]) -> Result<u64, StoreError> {
    let number = key.last_chunk::<8>().map(|bytes| u64::from_be_bytes(*bytes));
    number.ok_or_else(|| rows::damaged("a parcel's number"))
}

fn decode(key: &[u8], value: &[u8]) -> Result<Waiting, StoreError> {
    Ok(Waiting { number: number_of(key)?, label: rows::read(value)? })
}

async fn page(
    store: &Store,
    space: &'static str,
    after: Option<u64>,
    limit: usize,
) -> Result<Vec<Waiting>, ExchangeError> {
    let keys = store.keys();
    let cells = store
        .read(move |txn| {
            let after = after.map(|number| keys.space(space).u64(number).build());
            txn.scan(&keys.space(space).build(), after.as_deref(), limit)
        })
        .await?;
    Ok(cells.iter().map(|(key, value)| decode(key, value)).collect::<Result<_, _>>()?)
}

/// The oldest parcels that wait, behind `after`.
///
/// # Errors
/// The store's.
pub(crate) async fn waiting(
    store: &Store,
    after: Option<u64>,
    limit: usize,
) -> Result<Vec<Waiting>, ExchangeError> {
    page(store, OUTBOX, after, limit).await
}

/// The labels of the parcels that wait, and of the dead letters, of those that `is_wanted` names.
///
/// # Errors
/// The store's.
pub(crate) async fn labels(
    store: &Store,
    is_wanted: impl Fn(&Label) -> bool,
) -> Result<(Vec<Label>, Vec<Label>), ExchangeError> {
    let mut labels = [Vec::new(), Vec::new()];
    for (labels, space) in labels.iter_mut().zip([OUTBOX, DEAD]) {
        let mut after = None;
        loop {
            let found = page(store, space, after, SCAN_MAX_CELLS).await?;
            after = found.last().map(|parcel| parcel.number).filter(|_| found.len() == SCAN_MAX_CELLS);
            labels.extend(found.into_iter().map(|parcel| parcel.label).filter(&is_wanted));
            if after.is_none() {
                break;
            }
        }
    }
    let [waiting, dead] = labels;
    Ok((waiting, dead))
}

/// The content of a parcel.
///
/// # Errors
/// The store's.
pub(crate) async fn content(store: &Store, number: u64) -> Result<Option<Bytes>, ExchangeError> {
    let keys = store.keys();
    Ok(store.read(move |txn| rows::get_pieces(txn, &keys.space(CONTENT).u64(number))).await?.map(Bytes))
}

/// How much whoever took a parcel says to have taken of this hospital's.
pub(crate) type TallyOf = (Party, Tally);

fn keep(txn: &mut dyn Txn, keys: &KeyMaker, taken: Option<&TallyOf>) -> Result<(), StoreError> {
    taken.map_or(Ok(()), |(by, tally)| tally::keep(txn, keys, by, tally))
}

/// Takes a parcel out: it was taken.
///
/// # Errors
/// The store's.
pub(crate) async fn done(store: &Store, number: u64, taken: Option<TallyOf>) -> Result<(), ExchangeError> {
    let keys = store.keys();
    Ok(store
        .write(move |txn| -> Result<(), StoreError> {
            keep(txn, &keys, taken.as_ref())?;
            txn.remove(&keys.space(OUTBOX).u64(number).build())?;
            rows::remove_pieces(txn, &keys.space(CONTENT).u64(number))
        })
        .await?)
}

/// Keeps a parcel that the index took: it is not known yet whether it passes it on.
///
/// # Errors
/// The store's.
pub(crate) async fn passed(
    store: &Store,
    number: u64,
    passed: Passed,
    taken: Option<TallyOf>,
) -> Result<(), ExchangeError> {
    let keys = store.keys();
    Ok(store
        .write(move |txn| -> Result<(), StoreError> {
            keep(txn, &keys, taken.as_ref())?;
            txn.remove(&keys.space(OUTBOX).u64(number).build())?;
            rows::put(txn, &keys.space(PASSED).u64(number).build(), &passed)
        })
        .await?)
}

/// Looks at what the index took before `until`: what `has_come` says that something came of goes, the rest goes out
/// again, straight to its hospital. Says how many those are.
///
/// # Errors
/// The store's, and those of `has_come`.
pub(crate) async fn look_at_passed<E>(
    store: &Store,
    until: Timestamp,
    has_come: impl Fn(&mut dyn Txn, &Passed) -> Result<bool, E> + Clone + Send + 'static,
) -> Result<usize, ExchangeError>
where
    E: From<StoreError> + Send + 'static,
    ExchangeError: From<E>,
{
    let (mut after, mut straight) = (None, 0_usize);
    loop {
        let (keys, has_come) = (store.keys(), has_come.clone());
        let page = store.write(move |txn| -> Result<_, E> {
            let from = after.map(|number| keys.space(PASSED).u64(number).build());
            let cells = txn.scan(&keys.space(PASSED).build(), from.as_deref(), SCAN_MAX_CELLS)?;
            let (mut last, mut straight) = (None, 0_usize);
            for (key, value) in &cells {
                let number = number_of(key)?;
                last = Some(number).filter(|_| cells.len() == SCAN_MAX_CELLS);
                let passed: Passed = rows::read(value)?;
                if passed.at > until {
                    continue;
                }
                txn.remove(key)?;
                if has_come(txn, &passed)? {
                    rows::remove_pieces(txn, &keys.space(CONTENT).u64(number))?;
                } else {
                    let label = Label { via: Via::Direct, ..passed.label };
                    rows::put(txn, &keys.space(OUTBOX).u64(number).build(), &label)?;
                    straight = straight.saturating_add(1);
                }
            }
            Ok((last, straight))
        });
        let (last, of_page) = page.await?;
        straight = straight.saturating_add(of_page);
        after = last;
        if after.is_none() {
            return Ok(straight);
        }
    }
}

/// Changes where a parcel still has to go: after it reached its hospital without the index, the copy remains.
///
/// # Errors
/// The store's.
pub(crate) async fn relabel(
    store: &Store,
    number: u64,
    label: Label,
    taken: Option<TallyOf>,
) -> Result<(), ExchangeError> {
    let (keys, key) = (store.keys(), store.keys().space(OUTBOX).u64(number).build());
    Ok(store
        .write(move |txn| -> Result<(), StoreError> {
            keep(txn, &keys, taken.as_ref())?;
            if txn.get(&key)?.is_some() { rows::put(txn, &key, &label) } else { Ok(()) }
        })
        .await?)
}

/// Makes a parcel a dead letter.
///
/// # Errors
/// The store's.
pub(crate) async fn bury(store: &Store, waiting: Waiting, code: Code) -> Result<(), ExchangeError> {
    let keys = store.keys();
    let Waiting { number, mut label } = waiting;
    label.refused = Some(code);
    Ok(store
        .write(move |txn| -> Result<(), StoreError> {
            txn.remove(&keys.space(OUTBOX).u64(number).build())?;
            rows::put(txn, &keys.space(DEAD).u64(number).build(), &label)
        })
        .await?)
}

/// Puts a transfer's dead letters back into the outbox; says how many.
///
/// # Errors
/// The store's.
pub(crate) async fn revive(store: &Store, transfer: TransferId) -> Result<usize, ExchangeError> {
    let (mut after, mut count) = (None, 0_usize);
    loop {
        let letters = page(store, DEAD, after, SCAN_MAX_CELLS).await?;
        let last = letters.last().map(|letter| letter.number).filter(|_| letters.len() == SCAN_MAX_CELLS);
        let keys = store.keys();
        let due: Vec<Waiting> =
            letters.into_iter().filter(|letter| letter.label.transfer == transfer).collect();
        count = count.saturating_add(due.len());
        store
            .write(move |txn| -> Result<(), StoreError> {
                for Waiting { number, label } in &due {
                    let label = Label { refused: None, ..label.clone() };
                    txn.remove(&keys.space(DEAD).u64(*number).build())?;
                    rows::put(txn, &keys.space(OUTBOX).u64(*number).build(), &label)?;
                }
                Ok(())
            })
            .await?;
        if last.is_none() {
            return Ok(count);
        }
        after = last;
    }
}

#[cfg(test)]
mod tests {
    use handover_store::CellKey;

    use super::*;

    fn transfer(number: u8) -> TransferId {
        TransferId::new(Timestamp::from_millis(1), [number; 10])
    }

    #[tokio::test]
    async fn dead_letters_behind_the_first_page_are_counted_and_revived() {
        let store = Store::memory(&CellKey::from_bytes([1; 32]));
        let keys = store.keys();
        let number = SCAN_MAX_CELLS as u64 + 5;
        let filled = store.write(move |txn| -> Result<(), StoreError> {
            for number in 0..number {
                let of = if number < 5 { 2 } else { 1 };
                let label = Label::copy(transfer(of), Timestamp::from_millis(0));
                rows::put(txn, &keys.space(DEAD).u64(number).build(), &label)?;
            }
            let wanted = Label::copy(transfer(2), Timestamp::from_millis(0));
            rows::put(txn, &keys.space(DEAD).u64(number).build(), &wanted)
        });
        filled.await.unwrap();
        let of_it = |label: &Label| label.transfer == transfer(2);
        let counts = || async {
            let (waiting, dead) = labels(&store, of_it).await.unwrap();
            (waiting.len(), dead.len())
        };
        assert_eq!(counts().await, (0, 6));
        assert_eq!(revive(&store, transfer(2)).await.unwrap(), 6);
        assert_eq!(counts().await, (6, 0));
    }

    #[tokio::test]
    async fn a_parcel_that_is_gone_gets_no_new_label() {
        let store = Store::memory(&CellKey::from_bytes([1; 32]));
        let label = Label::copy(transfer(1), Timestamp::from_millis(0));
        relabel(&store, 7, label, None).await.unwrap();
        assert_eq!(waiting(&store, None, 10).await.unwrap().len(), 0);
    }
}
