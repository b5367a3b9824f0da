//! Which hospitals a patient linked themselves to, and with which keys: told only to a question that the patient
//! signed, and sealed to the key that it carries.
//!
//! Invariants: a link has both signatures, and only the hospital itself brings it; a repeated nonce gets the first
//! answer; links and questions under other keys than the newest known are refused, and better ones reach every
//! hospital that is linked. Patients stand in keys as keyed hashes. Nothing here knows transfers.

mod keys;
mod rows;

use handover_core::artefact::patient::{AskKind, Holder, Holders};
use handover_core::codec::{self, Bytes, Extensions};
use handover_core::message::HOLDERS_INFO;
use handover_core::rules::{self, Context};
use handover_core::trust::Federation;
use handover_core::{Code, HospitalId, KeyChain, PatientRef, Random, Timestamp};
use handover_dossier::{DossierError, key_records};
use handover_seal::{Remembered, SealError, hpke_seal_padded};
use handover_store::{KeyMaker, StoreError, Txn};

pub(crate) use self::keys::{keys_for, keys_told, pass_on, take_keys};
use self::rows::{Answered, Link};
use handover_store::rows as cells;

/// The most hospitals that one patient can be linked to.
const MAX_LINKS: usize = 500;
/// Remembered answers that are forgotten with each new one, once their question is no longer good.
const FORGET_PER_ANSWER: usize = 8;

/// Why a link or a question is not taken.
#[derive(Debug, thiserror::Error)]
pub enum LocatorError {
    /// A rule says no.
    #[error("{0}")]
    Refused(Code),
    /// The answer cannot be sealed to the patient's key.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// The patient's keys are not the newest.
    #[error(transparent)]
    Keys(#[from] DossierError),
    /// The store could not.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<Code> for LocatorError {
    fn from(code: Code) -> Self {
        Self::Refused(code)
    }
}

impl LocatorError {
    /// The stable code.
    #[must_use]
    pub fn code(&self) -> Code {
        match self {
            Self::Refused(code) => *code,
            Self::Keys(fault) => fault.code(),
            Self::Seal(fault) => fault.code(),
            Self::Store(fault) => fault.code(),
        }
    }
}

/// Checks the signatures of a link that `hospital` brings, its keys' too: [`link`] does it again within the one writer,
/// which remembers them.
///
/// # Errors
/// Why it does not verify; [`Code::WrongSigner`] for another hospital's.
pub fn check(envelope: &[u8], hospital: &HospitalId, federation: &Federation) -> Result<(), LocatorError> {
    let link = rules::link(envelope, Context { federation, verifier: &Remembered })?;
    if link.hospital != *hospital {
        return Err(Code::WrongSigner.into());
    }
    KeyChain::of(&link.key_records, &link.patient, &Remembered)?;
    Ok(())
}

/// Keeps a link that `hospital` brings. The first one stays. Gives the hospitals that are to be told of better keys.
///
/// # Errors
/// Why it does not verify; [`Code::WrongSigner`] for another hospital's; [`Code::Busy`] for a patient of too many;
/// keys that are not the newest; the store's.
pub fn link(
    txn: &mut dyn Txn,
    keys: &KeyMaker,
    envelope: &[u8],
    hospital: &HospitalId,
    federation: &Federation,
    now: Timestamp,
) -> Result<Vec<HospitalId>, LocatorError> {
    let link = rules::link(envelope, Context { federation, verifier: &Remembered })?;
    if link.hospital != *hospital {
        return Err(Code::WrongSigner.into());
    }
    let space = keys.space("link").hashed(link.patient.as_bytes());
    let key = space.clone().hashed(hospital.as_str()).build();
    if cells::get::<Link>(txn, &key)?.is_some_and(|held| held.envelope.as_ref() == envelope) {
        return Ok(Vec::new());
    }
    let chain = KeyChain::of(&link.key_records, &link.patient, &Remembered)?;
    key_records::begin(txn, keys, &chain, &Remembered, now)?;
    if txn.get(&key)?.is_some() {
        return Ok(pass_on(txn, keys, &link.patient, hospital)?);
    }
    if txn.scan(&space.build(), None, MAX_LINKS)?.len() >= MAX_LINKS {
        return Err(Code::Busy.into());
    }
    let row = Link {
        hospital: hospital.clone(),
        linked: link.issued,
        envelope: Bytes(envelope.to_vec()),
        extensions: Extensions::default(),
    };
    cells::put(txn, &key, &row)?;
    Ok(pass_on(txn, keys, &link.patient, hospital)?)
}

/// Answers a patient's question that `hospital` brings: `Holders`, sealed to them; and the hospitals that are to be
/// told of better keys.
pub(crate) fn locate(
    txn: &mut dyn Txn,
    keys: &KeyMaker,
    envelope: &[u8],
    hospital: &HospitalId,
    federation: &Federation,
    now: Timestamp,
    random: &mut dyn Random,
) -> Result<(Vec<u8>, Vec<HospitalId>), LocatorError> {
    let ask = rules::ask(envelope, AskKind::Locate, &Remembered)?;
    rules::ask_in_time(&ask, now)?;
    let chain = KeyChain::of(&ask.key_records, &ask.patient, &Remembered)?;
    key_records::admit(txn, keys, &chain, &Remembered, now)?;
    let told = pass_on(txn, keys, &ask.patient, hospital)?;
    let answered =
        keys.space("locate-answer").hashed([ask.patient.as_bytes().as_slice(), &ask.nonce].concat());
    let answered = answered.build();
    if let Some(first) = cells::get::<Answered>(txn, &answered)? {
        return if first.ask == ask.hash() { Ok((first.answer.0, told)) } else { Err(Code::Conflict.into()) };
    }
    forget(txn, keys, now)?;
    let holders = codec::encode(&holders(txn, keys, &ask.patient, federation)?);
    let newest = &chain.newest().sealing_key;
    let sealed = hpke_seal_padded(newest, HOLDERS_INFO, ask.hash().as_bytes(), &holders, random)?;
    let row = Answered { ask: ask.hash(), answer: Bytes(sealed.clone()), extensions: Extensions::default() };
    cells::put(txn, &answered, &row)?;
    let until = u64::try_from(ask.expires.as_millis()).unwrap_or(0);
    let expiry = keys.space("locate-expiry").u64(until).hashed(ask.hash().as_bytes()).build();
    txn.put(&expiry, answered)?;
    Ok((sealed, told))
}

fn links_of(txn: &mut dyn Txn, keys: &KeyMaker, patient: &PatientRef) -> Result<Vec<Link>, StoreError> {
    cells::all(txn, &keys.space("link").hashed(patient.as_bytes()).build())
}

/// The hospitals that a patient linked themselves to.
pub(crate) fn holders(
    txn: &mut dyn Txn,
    keys: &KeyMaker,
    patient: &PatientRef,
    federation: &Federation,
) -> Result<Holders, StoreError> {
    let mut hospitals: Vec<Holder> = links_of(txn, keys, patient)?
        .into_iter()
        .filter_map(|link| {
            let member = federation.member(&link.hospital).ok()?;
            Some(Holder {
                name: member.certificate.name.clone(),
                hospital: link.hospital,
                linked: link.linked,
                extensions: Extensions::default(),
            })
        })
        .collect();
    hospitals.sort_by(|one, other| one.hospital.cmp(&other.hospital));
    Ok(Holders { hospitals, extensions: Extensions::default() })
}

/// Forgets a few answers whose questions are refused by their time anyway.
fn forget(txn: &mut dyn Txn, keys: &KeyMaker, now: Timestamp) -> Result<(), StoreError> {
    let space = keys.space("locate-expiry");
    let end = space.clone().u64(u64::try_from(now.as_millis()).unwrap_or(0)).build();
    for (key, answered) in txn.scan(&space.build(), None, FORGET_PER_ANSWER)? {
        if key >= end {
            break;
        }
        txn.remove(&answered)?;
        txn.remove(&key)?;
    }
    Ok(())
}
