//! Patients' new keys at a hospital: what a patient brings is kept, whatever it comes with, and owed to the index,
//! which passes it on to the hospitals that know the patient.
//!
//! Owed is who has new keys, not which: what is told is what is the newest when it is told.

use std::sync::Arc;

use handover_core::codec::{self, Bytes, Extensions, MAX_MESSAGE_BYTES};
use handover_core::message::{Answer, KeyRecords, Request, Verb};
use handover_core::{Code, Digest, KeyChain, PatientRef, Timestamp, cbor_map};
use handover_dossier::{DossierError, key_records};
use handover_net::{Net, Route};
use handover_seal::Remembered;
use handover_store::{KeyMaker, StoreError, Txn, rows};

use crate::context::Inner;
use crate::{Exchange, ExchangeError};

const TO_INDEX: &str = "keys-to-index";
/// Patients whose keys are told in one page.
const PAGE: usize = 100;

/// Reads key records that prove themselves.
pub(crate) fn read(content: &[u8]) -> Result<KeyChain, Code> {
    let records: KeyRecords = codec::decode(content, MAX_MESSAGE_BYTES).map_err(|_| Code::Malformed)?;
    KeyChain::verify(&records.records, &Remembered)
}

cbor_map! {
    /// A patient whose keys the index is to be told.
    struct OwedRow {
        /// Whose.
        1 => patient: PatientRef,
        /// The newest when it was owed: a later one is owed anew.
        2 => newest: Digest,
    }
}

fn owe(txn: &mut dyn Txn, keys: &KeyMaker, chain: &KeyChain) -> Result<(), StoreError> {
    let patient = chain.patient();
    let row = OwedRow { patient, newest: chain.hash(), extensions: Extensions::default() };
    rows::put(txn, &keys.space(TO_INDEX).hashed(patient.as_bytes()).build(), &row)
}

/// Refuses what is signed under these keys if others are the newest known here; better ones are kept and owed. Says
/// whether they are.
pub(crate) fn admit(
    txn: &mut dyn Txn,
    keys: &KeyMaker,
    chain: &KeyChain,
    now: Timestamp,
) -> Result<bool, DossierError> {
    let is_better = key_records::admit(txn, keys, chain, &Remembered, now)?;
    if is_better {
        owe(txn, keys, chain)?;
    }
    Ok(is_better)
}

/// As [`admit`], for a patient who is linked here from now on. The index may know better ones, and then says so.
pub(crate) fn begin(
    txn: &mut dyn Txn,
    keys: &KeyMaker,
    chain: &KeyChain,
    now: Timestamp,
) -> Result<(), DossierError> {
    if key_records::begin(txn, keys, chain, &Remembered, now)? {
        owe(txn, keys, chain)?;
    }
    Ok(())
}

impl Exchange {
    /// [`admit`] by itself, for questions; most come under the keys that are held.
    pub(crate) async fn admit_keys(&self, chain: KeyChain) -> Result<(), ExchangeError> {
        let (keys, patient, newest) = (self.0.keys(), chain.patient(), chain.hash());
        let held = self.0.parts.store.read(move |txn| key_records::held(txn, &keys, &patient)).await?;
        if held.is_none_or(|held| held.newest == newest) {
            return Ok(());
        }
        let (keys, now) = (self.0.keys(), self.0.now());
        if self.0.parts.store.write(move |txn| admit(txn, &keys, &chain, now)).await? {
            self.0.links.notify_one();
        }
        Ok(())
    }

    /// Takes a patient's new keys: stored here durably, and on their way to the index, when this returns. The same
    /// again changes nothing.
    ///
    /// # Errors
    /// [`Code::NotLinked`] for a patient who is not linked here; [`Code::KeyRecordOutdated`],
    /// [`Code::KeyRecordForked`].
    pub(crate) async fn take_keys(&self, chain: KeyChain) -> Result<(), ExchangeError> {
        let (keys, patient) = (self.0.keys(), chain.patient());
        let held = self.0.parts.store.read(move |txn| key_records::held(txn, &keys, &patient)).await?;
        held.ok_or(Code::NotLinked)?;
        self.admit_keys(chain).await
    }
}

/// Keeps what the index passes on, if it is better than what is held.
pub(crate) async fn learn(inner: &Arc<Inner>, content: &[u8]) -> Result<(), ExchangeError> {
    let (chain, keys, now) = (read(content)?, inner.keys(), inner.now());
    let standing =
        inner.parts.store.write(move |txn| key_records::offer(txn, &keys, &chain, &Remembered, now)).await?;
    tracing::info!(?standing, "the index told of a patient's keys");
    Ok(())
}

/// Of how many patients the index is still to be told.
pub(crate) async fn count_owed(inner: &Arc<Inner>) -> Result<u64, ExchangeError> {
    let (mut count, mut after) = (0_u64, None);
    loop {
        let page = owed(inner, after).await?;
        count = count.saturating_add(page.len() as u64);
        after = page.last().map(|(key, ..)| key.clone()).filter(|_| page.len() == PAGE);
        if after.is_none() {
            return Ok(count);
        }
    }
}

/// Owes all patients' keys to the index, which may have been told better ones that are not here any more.
pub(crate) async fn owe_all(inner: &Arc<Inner>) -> Result<(), ExchangeError> {
    let mut after = None;
    loop {
        let (keys, from) = (inner.keys(), after);
        let owed = inner.parts.store.write(move |txn| -> Result<_, ExchangeError> {
            let page = key_records::page(txn, &keys, from.as_deref(), PAGE)?;
            for (_, row) in &page {
                owe(txn, &keys, &KeyChain::verify(&row.records, &Remembered)?)?;
            }
            Ok(page.into_iter().nth(PAGE - 1).map(|(key, _)| key))
        });
        after = owed.await?;
        if after.is_none() {
            return Ok(());
        }
    }
}

/// Tells the index of the keys that are owed to it; it answers with better ones if it has them.
pub(crate) async fn tell(inner: &Arc<Inner>, net: &Net, route: &Route) -> Result<(), ExchangeError> {
    let mut after = None;
    loop {
        let page = owed(inner, after).await?;
        after = page.last().map(|(key, ..)| key.clone()).filter(|_| page.len() == PAGE);
        for (key, value, records) in page {
            let message = KeyRecords { records, extensions: Extensions::default() };
            let body = Request::encode(Verb::Keys, vec![codec::encode(&message)]);
            match Answer::decode(&net.request(route, body).await?) {
                Ok(answer) => {
                    if let Some(better) = answer.first() {
                        learn(inner, better).await?;
                    }
                }
                // It hears of the link first, and that may have to wait.
                Err(code) if code.is_transient() || code == Code::NotLinked => {
                    tracing::debug!(%code, "a patient's keys have to wait");
                    continue;
                }
                Err(code) if !is_about_the_records(code) => return Err(code.into()),
                Err(code) => tracing::error!(%code, "the index refuses a patient's keys"),
            }
            let told = move |txn: &mut dyn Txn| -> Result<(), StoreError> {
                if txn.get(&key)?.as_ref() == Some(&value) { txn.remove(&key) } else { Ok(()) }
            };
            inner.parts.store.write(told).await?;
        }
        if after.is_none() {
            return Ok(());
        }
    }
}

/// Whether these records will never be taken; every other refusal is about this hospital or this moment.
const fn is_about_the_records(code: Code) -> bool {
    matches!(
        code,
        Code::Malformed | Code::TooLarge | Code::BadSignature | Code::WrongSigner | Code::AskMismatch
    )
}

/// What is owed, behind `after`: key and value of its row, and the newest records.
type Owed = (Vec<u8>, Vec<u8>, Vec<Bytes>);

async fn owed(inner: &Arc<Inner>, after: Option<Vec<u8>>) -> Result<Vec<Owed>, ExchangeError> {
    let keys = inner.keys();
    let read = inner.parts.store.read(move |txn| -> Result<_, StoreError> {
        let mut page = Vec::new();
        for (key, value) in txn.scan(&keys.space(TO_INDEX).build(), after.as_deref(), PAGE)? {
            let row: OwedRow = rows::read(&value)?;
            let held = key_records::held(txn, &keys, &row.patient)?;
            page.push((key, value, held.map(|held| held.records).unwrap_or_default()));
        }
        Ok(page)
    });
    Ok(read.await?)
}
