//! Questions that a patient signs, and the sealed answers to them.

use handover_core::artefact::patient::{Ask, AskKind, Holders, PatientLink, link_code_proof};
use handover_core::artefact::{Signed, Verified};
use handover_core::codec::{self, Extensions};
use handover_core::message::{HOLDERS_INFO, INBOX_INFO, Inbox};
use handover_core::{HospitalId, Random, Timestamp, TransferId};
use handover_seal::{Remembered, hpke_open_padded};

use crate::node::MAX_ANSWER_BYTES;
use crate::{PatientKeys, WalletError};

/// What a patient asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Question {
    /// Who holds my records?
    Locate,
    /// What is there for me at this hospital?
    Inbox(HospitalId),
    /// May this hospital ask that one for a quote?
    Transfer {
        /// Chosen by the patient.
        transfer: TransferId,
        /// Who holds the records.
        source: HospitalId,
        /// Who shall get them.
        destination: HospitalId,
    },
}

/// Signs a question with a fresh nonce.
#[must_use]
pub fn make_ask(
    keys: &PatientKeys,
    question: Question,
    now: Timestamp,
    random: &mut dyn Random,
) -> Verified<Ask> {
    let mut nonce = [0; 16];
    random.fill(&mut nonce);
    let (kind, transfer, source, destination) = match question {
        Question::Locate => (AskKind::Locate, None, None, None),
        Question::Inbox(hospital) => (AskKind::Inbox, None, None, Some(hospital)),
        Question::Transfer { transfer, source, destination } => {
            (AskKind::Transfer, Some(transfer), Some(source), Some(destination))
        }
    };
    let life_ms = kind.life_ms();
    let ask = Ask {
        kind,
        patient: keys.patient(),
        key_records: keys.records().to_vec(),
        nonce,
        transfer,
        source,
        destination,
        issued: now,
        expires: now.plus_ms(life_ms),
        extensions: Extensions::default(),
    };
    Verified::sign(ask, &keys.signing)
}

/// A question that this wallet signed, from its envelope.
///
/// # Errors
/// [`WalletError::Artefact`] if it is none, or somebody else's.
pub fn own_ask(keys: &PatientKeys, envelope: &[u8]) -> Result<Verified<Ask>, WalletError> {
    Ok(Signed::<Ask>::read(envelope)?.verify(&keys.signing_public(), &Remembered)?)
}

/// Signs that this reference is a patient of the hospital, proving the desk's code without carrying it.
#[must_use]
pub fn make_link(
    keys: &PatientKeys,
    hospital: &HospitalId,
    code: &str,
    now: Timestamp,
) -> Verified<PatientLink> {
    let link = PatientLink {
        patient: keys.patient(),
        hospital: hospital.clone(),
        key_records: keys.records().to_vec(),
        code_proof: link_code_proof(code, &keys.patient(), hospital),
        issued: now,
        extensions: Extensions::default(),
    };
    Verified::sign(link, &keys.signing)
}

/// Opens the index's answer to a locate question.
///
/// # Errors
/// [`WalletError::Seal`] if it was sealed for another key or question; [`WalletError::Decode`].
pub fn open_holders(keys: &PatientKeys, ask: &Verified<Ask>, sealed: &[u8]) -> Result<Holders, WalletError> {
    let plain = hpke_open_padded(&keys.sealing, HOLDERS_INFO, ask.hash().as_bytes(), sealed)?;
    Ok(codec::decode(&plain, MAX_ANSWER_BYTES)?)
}

/// Opens a hospital's answer to an inbox question. What is in it is not verified yet.
///
/// # Errors
/// As [`open_holders`].
pub fn open_inbox(keys: &PatientKeys, ask: &Verified<Ask>, sealed: &[u8]) -> Result<Inbox, WalletError> {
    let plain = hpke_open_padded(&keys.sealing, INBOX_INFO, ask.hash().as_bytes(), sealed)?;
    Ok(codec::decode(&plain, MAX_ANSWER_BYTES)?)
}
