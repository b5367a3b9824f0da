//! Link codes while they are out, and the links made with them.
//!
//! The patient proves the desk's code without carrying it, so the hospital must know which codes are out: each lies
//! in its own cell until it is used or a day has passed.

use handover_core::artefact::patient::PatientLink;
use handover_core::artefact::{Countersigned, Verified};
use handover_core::codec::{Bytes, Extensions};
use handover_core::key_chain::{KEY_CHAIN_MAX_RECORDS, KEY_RECORD_MAX_BYTES};
use handover_core::{Code, PatientRef, Timestamp, cbor_map, rules};
use handover_records::LINK_CODE_LASTS_MS;
use handover_store::{KeyMaker, Store, StoreError, Txn, rows};

use crate::ExchangeError;

const CODES: &str = "link-code-out";
const SIGNED: &str = "link-signed";
const TO_INDEX: &str = "link-to-index";
const REFUSED: &str = "link-refused";
/// Codes that can be out at once.
const CODES_MAX: usize = 1_000;
const WRONG_MINUTE: &str = "link-wrong-minute";
const WRONG_DAY: &str = "link-wrong-day";
/// Wrong proofs in any minute, of everybody together.
const WRONG_PER_MINUTE: usize = 20;
/// Wrong proofs of one patient reference in a day.
const WRONG_PER_PATIENT_DAY: usize = 5;
/// Counts of days gone by that are removed at a time.
const WRONG_SWEEP: usize = 100;
/// Links looked at in one page.
const PAGE: usize = 500;
const MINUTE_MS: i64 = 60_000;
const DAY_MS: i64 = 24 * 60 * MINUTE_MS;
/// The most bytes of a link's envelope: the key records, and the link itself.
pub(crate) const LINK_MAX_BYTES: usize = KEY_CHAIN_MAX_RECORDS * KEY_RECORD_MAX_BYTES + 4 * 1024;

cbor_map! {
    /// A code that is out.
    pub(crate) struct CodeRow {
        /// The code.
        1 => code: String,
        /// Since when.
        2 => since: Timestamp,
    }
}

cbor_map! {
    /// A link that the index refused.
    struct RefusedRow {
        /// As the patient and this hospital signed it.
        1 => link: Bytes,
        /// Why.
        2 => code: Code,
        /// When.
        3 => since: Timestamp,
    }
}

/// A link that the index does not know: it waits, or was refused.
#[derive(Clone, Debug)]
pub struct UnknownLink {
    /// The patient in the federation.
    pub patient: PatientRef,
    /// Why and when the index refused it; none if it waits.
    pub refused: Option<(Code, Timestamp)>,
}

cbor_map! {
    /// When something happened that is limited.
    #[derive(Default)]
    struct TimesRow {
        /// Each time.
        1 => times: Vec<Timestamp>,
    }
}

/// Keeps a code that was just given out. One that is out already stays out no longer than before.
pub(crate) async fn keep(store: &Store, code: &str, now: Timestamp) -> Result<(), ExchangeError> {
    let (keys, code) = (store.keys(), code.to_owned());
    store
        .write(move |txn| -> Result<(), ExchangeError> {
            let own_key = keys.space(CODES).hashed(&code).build();
            if txn.get(&own_key)?.is_some() {
                return Ok(());
            }
            let row = CodeRow { code: code.clone(), since: now, extensions: Extensions::default() };
            let mut still_out = 0;
            for (key, value) in txn.scan(&keys.space(CODES).build(), None, CODES_MAX)? {
                let other: CodeRow = rows::read(&value)?;
                if now.since_ms(other.since) > LINK_CODE_LASTS_MS {
                    txn.remove(&key)?;
                } else {
                    still_out += 1;
                }
            }
            if still_out >= CODES_MAX {
                return Err(Code::Busy.into());
            }
            Ok(rows::put(txn, &own_key, &row)?)
        })
        .await
}

/// Takes back every code that is out.
pub(crate) fn remove_codes(txn: &mut dyn Txn, keys: &KeyMaker) -> Result<(), StoreError> {
    let out = txn.scan(&keys.space(CODES).build(), None, CODES_MAX)?;
    out.iter().try_for_each(|(key, _)| txn.remove(key))
}

/// The code that a link proves. A wrong proof counts, for the hospital and for the patient reference: codes are
/// short, and a proof is compared with every code that is out.
///
/// # Errors
/// [`Code::Busy`] while there are too many wrong ones, [`Code::LinkCodeWrong`].
pub(crate) async fn find(store: &Store, link: &PatientLink, now: Timestamp) -> Result<String, ExchangeError> {
    let (keys, link) = (store.keys(), link.clone());
    let found = store.write(move |txn| -> Result<_, StoreError> { find_in(txn, &keys, &link, now) }).await?;
    Ok(found?)
}

/// [`find`] inside a transaction, which is kept whatever the outcome is.
fn find_in(
    txn: &mut dyn Txn,
    keys: &KeyMaker,
    link: &PatientLink,
    now: Timestamp,
) -> Result<Result<String, Code>, StoreError> {
    let minute_key = keys.space(WRONG_MINUTE).build();
    let mut minute: TimesRow = rows::get(txn, &minute_key)?.unwrap_or_default();
    minute.times.retain(|time| (0..MINUTE_MS).contains(&now.since_ms(*time)));
    if minute.times.len() >= WRONG_PER_MINUTE {
        return Ok(Err(Code::Busy));
    }
    let day = u64::try_from(now.as_millis().div_euclid(DAY_MS)).unwrap_or_default();
    let today = keys.space(WRONG_DAY).u64(day);
    let patient_key = today.clone().hashed(link.patient.as_bytes()).build();
    let mut patient: TimesRow = rows::get(txn, &patient_key)?.unwrap_or_default();
    if patient.times.len() >= WRONG_PER_PATIENT_DAY {
        return Ok(Err(Code::LinkCodeWrong));
    }
    for (_, value) in txn.scan(&keys.space(CODES).build(), None, CODES_MAX)? {
        let row: CodeRow = rows::read(&value)?;
        if now.since_ms(row.since) <= LINK_CODE_LASTS_MS && rules::link_code(link, &row.code) {
            return Ok(Ok(row.code));
        }
    }
    minute.times.push(now);
    patient.times.push(now);
    rows::put(txn, &minute_key, &minute)?;
    rows::put(txn, &patient_key, &patient)?;
    // Days gone by lie in front.
    let today = today.build();
    for (key, _) in txn.scan(&keys.space(WRONG_DAY).build(), None, WRONG_SWEEP)? {
        if key < today {
            txn.remove(&key)?;
        }
    }
    Ok(Err(Code::LinkCodeWrong))
}

/// Counts one of what may happen `most` times in any minute; says whether it still may.
///
/// # Errors
/// The store's.
pub(crate) fn count(txn: &mut dyn Txn, key: &[u8], most: usize, now: Timestamp) -> Result<bool, StoreError> {
    let mut minute: TimesRow = rows::get(txn, key)?.unwrap_or_default();
    minute.times.retain(|time| (0..MINUTE_MS).contains(&now.since_ms(*time)));
    if minute.times.len() >= most {
        return Ok(false);
    }
    minute.times.push(now);
    rows::put(txn, key, &minute)?;
    Ok(true)
}

/// The link as it was signed before, if it was.
pub(crate) async fn signed(
    store: &Store,
    link: &Verified<PatientLink>,
) -> Result<Option<Vec<u8>>, ExchangeError> {
    let (keys, hash) = (store.keys(), link.hash());
    Ok(store
        .read(move |txn| -> Result<_, StoreError> {
            txn.get(&keys.space(SIGNED).hashed(hash.as_bytes()).build())
        })
        .await?)
}

/// Keeps the signed link, uses up its code, and owes it to the index.
pub(crate) async fn finish(
    store: &Store,
    link: &Verified<PatientLink>,
    code: &str,
    signed: &[u8],
) -> Result<(), ExchangeError> {
    let (keys, link, code, signed) = (store.keys(), link.clone(), code.to_owned(), signed.to_vec());
    Ok(store
        .write(move |txn| -> Result<(), StoreError> {
            txn.remove(&keys.space(CODES).hashed(&code).build())?;
            finish_in(txn, &keys, &link, &signed)
        })
        .await?)
}

/// Keeps the signed link and owes it to the index.
pub(crate) fn finish_in(
    txn: &mut dyn Txn,
    keys: &KeyMaker,
    link: &Verified<PatientLink>,
    signed: &[u8],
) -> Result<(), StoreError> {
    let hash = link.hash();
    txn.put(&keys.space(SIGNED).hashed(hash.as_bytes()).build(), signed.to_vec())?;
    txn.put(&keys.space(TO_INDEX).hashed(hash.as_bytes()).build(), signed.to_vec())
}

/// Owes the index all links that were ever signed: it has lost some.
pub(crate) async fn owe_all(store: &Store) -> Result<(), ExchangeError> {
    let mut after = None;
    loop {
        let (keys, from) = (store.keys(), after.take());
        let owed = store.write(move |txn| -> Result<_, StoreError> {
            let page = txn.scan(&keys.space(SIGNED).build(), from.as_deref(), PAGE)?;
            for (_, link) in &page {
                txn.put(&keys.space(TO_INDEX).hashed(link).build(), link.clone())?;
            }
            Ok(page.into_iter().nth(PAGE - 1).map(|(key, _)| key))
        });
        after = owed.await?;
        if after.is_none() {
            return Ok(());
        }
    }
}

/// Links that the index does not know yet, behind `after`.
pub(crate) async fn owed(
    store: &Store,
    after: Option<Vec<u8>>,
    limit: usize,
) -> Result<Vec<(Vec<u8>, Vec<u8>)>, ExchangeError> {
    let keys = store.keys();
    Ok(store
        .read(move |txn| -> Result<_, StoreError> {
            txn.scan(&keys.space(TO_INDEX).build(), after.as_deref(), limit)
        })
        .await?)
}

/// The index refuses it for good: it is set aside, so that others go on.
pub(crate) async fn refused(
    store: &Store,
    key: Vec<u8>,
    link: Vec<u8>,
    code: Code,
    now: Timestamp,
) -> Result<(), ExchangeError> {
    let keys = store.keys();
    let row = RefusedRow { link: link.into(), code, since: now, extensions: Extensions::default() };
    Ok(store
        .write(move |txn| -> Result<(), StoreError> {
            rows::put(txn, &keys.space(REFUSED).hashed(row.link.as_ref()).build(), &row)?;
            txn.remove(&key)
        })
        .await?)
}

/// The links that the index does not know, those that it refused first.
pub(crate) async fn unknown_to_index(store: &Store) -> Result<Vec<UnknownLink>, ExchangeError> {
    let mut found = Vec::new();
    for space in [REFUSED, TO_INDEX] {
        let mut after = None;
        loop {
            let (keys, from) = (store.keys(), after.take());
            let page: Vec<(Vec<u8>, Vec<u8>)> =
                store.read(move |txn| txn.scan(&keys.space(space).build(), from.as_deref(), PAGE)).await?;
            after = page.last().map(|(key, _)| key.clone()).filter(|_| page.len() == PAGE);
            for (_, value) in page {
                let (link, refused) = if space == REFUSED {
                    let row: RefusedRow = rows::read(&value)?;
                    (row.link.0, Some((row.code, row.since)))
                } else {
                    (value, None)
                };
                let link = Countersigned::<PatientLink>::read(&link).map_err(|fault| fault.code())?;
                found.push(UnknownLink { patient: link.claim().patient, refused });
            }
            if after.is_none() {
                break;
            }
        }
    }
    Ok(found)
}

/// Owes the index again what it refused; says how many.
pub(crate) async fn revive(store: &Store) -> Result<usize, ExchangeError> {
    let mut count = 0_usize;
    loop {
        let keys = store.keys();
        let revived = store
            .write(move |txn| -> Result<usize, StoreError> {
                let page = txn.scan(&keys.space(REFUSED).build(), None, PAGE)?;
                for (key, value) in &page {
                    let row: RefusedRow = rows::read(value)?;
                    txn.put(&keys.space(TO_INDEX).hashed(row.link.as_ref()).build(), row.link.0)?;
                    txn.remove(key)?;
                }
                Ok(page.len())
            })
            .await?;
        count = count.saturating_add(revived);
        if revived < PAGE {
            return Ok(count);
        }
    }
}

/// The index knows it.
pub(crate) async fn told(store: &Store, key: Vec<u8>) -> Result<(), ExchangeError> {
    Ok(store.write(move |txn| -> Result<(), StoreError> { txn.remove(&key) }).await?)
}

#[cfg(test)]
mod tests {
    use handover_core::HospitalId;
    use handover_core::artefact::patient::link_code_proof;
    use handover_seal::{OsRandom, SigningKey};
    use handover_store::CellKey;

    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);

    fn store() -> Store {
        Store::memory(&CellKey::from_bytes([1; 32]))
    }

    fn link(patient: u8, code: &str) -> PatientLink {
        let hospital: HospitalId = "lakeside".parse().unwrap();
        let patient = PatientRef::from_bytes([patient; 32]);
        PatientLink {
            code_proof: link_code_proof(code, &patient, &hospital),
            patient,
            hospital,
            key_records: Vec::new(),
            issued: NOW,
            extensions: Extensions::default(),
        }
    }

    async fn tried(store: &Store, link: &PatientLink, now: Timestamp) -> Result<String, Code> {
        find(store, link, now).await.map_err(|fault| fault.code())
    }

    #[tokio::test]
    async fn codes_of_yesterday_make_room() {
        let store = store();
        let keys = store.keys();
        let filled = store.write(move |txn| -> Result<(), StoreError> {
            for number in 0..CODES_MAX {
                let row = CodeRow { code: number.to_string(), since: NOW, extensions: Extensions::default() };
                rows::put(txn, &keys.space(CODES).hashed(&row.code).build(), &row)?;
            }
            Ok(())
        });
        filled.await.unwrap();
        assert_eq!(keep(&store, "AAAA-AAAA", NOW).await.unwrap_err().code(), Code::Busy);
        let later = NOW.plus_ms(LINK_CODE_LASTS_MS + 1);
        keep(&store, "AAAA-AAAA", later).await.unwrap();
        assert_eq!(tried(&store, &link(1, "AAAA-AAAA"), later).await.unwrap(), "AAAA-AAAA");
    }

    #[tokio::test]
    async fn a_code_given_again_stays_out_no_longer() {
        let store = store();
        keep(&store, "AAAA-AAAA", NOW).await.unwrap();
        keep(&store, "AAAA-AAAA", NOW.plus_ms(LINK_CODE_LASTS_MS)).await.unwrap();
        let later = NOW.plus_ms(LINK_CODE_LASTS_MS + 1);
        assert_eq!(tried(&store, &link(1, "AAAA-AAAA"), later).await, Err(Code::LinkCodeWrong));
    }

    #[tokio::test]
    async fn links_that_the_index_refused_are_told_and_owed_again() {
        let (store, patient) = (store(), SigningKey::generate(&mut OsRandom));
        let claim = Verified::sign(link(1, "AAAA-AAAA"), &patient);
        let signed = Countersigned::sign(&claim, &SigningKey::generate(&mut OsRandom));
        finish(&store, &claim, "AAAA-AAAA", &signed).await.unwrap();
        let owes = owed(&store, None, 10).await.unwrap();
        let told = unknown_to_index(&store).await.unwrap();
        assert_eq!((owes.len(), told.len(), told[0].refused), (1, 1, None));
        let (key, content) = owes[0].clone();
        refused(&store, key, content, Code::Conflict, NOW).await.unwrap();
        assert!(owed(&store, None, 10).await.unwrap().is_empty());
        let told = unknown_to_index(&store).await.unwrap();
        assert_eq!((told.len(), told[0].refused), (1, Some((Code::Conflict, NOW))));
        assert_eq!(told[0].patient, PatientRef::from_bytes([1; 32]));
        assert_eq!(revive(&store).await.unwrap(), 1);
        assert_eq!(owed(&store, None, 10).await.unwrap()[0].1, signed);
        assert_eq!(revive(&store).await.unwrap(), 0);
    }

    #[tokio::test]
    async fn a_patient_has_few_wrong_proofs_in_a_day() {
        let store = store();
        keep(&store, "AAAA-AAAA", NOW).await.unwrap();
        for _ in 0..WRONG_PER_PATIENT_DAY {
            assert_eq!(tried(&store, &link(1, "wrong"), NOW).await, Err(Code::LinkCodeWrong));
        }
        assert_eq!(tried(&store, &link(1, "AAAA-AAAA"), NOW).await, Err(Code::LinkCodeWrong));
        assert!(tried(&store, &link(2, "AAAA-AAAA"), NOW).await.is_ok());
        // The next day begins anew.
        let tomorrow = NOW.plus_ms(DAY_MS);
        keep(&store, "BBBB-BBBB", tomorrow).await.unwrap();
        assert!(tried(&store, &link(1, "BBBB-BBBB"), tomorrow).await.is_ok());
    }

    #[tokio::test]
    async fn a_hospital_has_few_wrong_proofs_in_a_minute() {
        let store = store();
        keep(&store, "AAAA-AAAA", NOW).await.unwrap();
        for patient in (0..).take(WRONG_PER_MINUTE) {
            assert_eq!(tried(&store, &link(patient, "wrong"), NOW).await, Err(Code::LinkCodeWrong));
        }
        assert_eq!(tried(&store, &link(99, "AAAA-AAAA"), NOW).await, Err(Code::Busy));
        assert!(tried(&store, &link(99, "AAAA-AAAA"), NOW.plus_ms(MINUTE_MS)).await.is_ok());
    }
}
