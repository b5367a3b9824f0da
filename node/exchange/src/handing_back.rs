//! What this hospital holds of its transfers with another one, for that one to see whether it has lost something, as
//! after a restored backup, and to take back what it has.
//!
//! Invariant: a hospital is told of transfers between the two alone; everything that it is given it has signed itself, or
//! was to get.

use std::sync::Arc;

use handover_core::codec::{self, Bytes};
use handover_core::message::EvidenceQuestion;
use handover_core::{Code, HospitalId, Party};

use crate::ExchangeError;
use crate::context::Inner;

/// The most bytes of a question.
const QUESTION_MAX_BYTES: usize = 1024;

/// The index has its own copies, and asks nothing.
fn hospital(party: &Party) -> Result<HospitalId, Code> {
    match party {
        Party::Hospital(hospital) => Ok(hospital.clone()),
        Party::Index => Err(Code::AccessDenied),
    }
}

/// The newest artefact that the asker signed, of those that are held here.
pub(crate) async fn newest(
    inner: &Arc<Inner>,
    party: &Party,
    items: &[Bytes],
) -> Result<Vec<Vec<u8>>, ExchangeError> {
    let (asker, keys) = (hospital(party)?, inner.keys());
    if !items.is_empty() {
        return Err(Code::Malformed.into());
    }
    let newest =
        inner.parts.store.read(move |txn| handover_dossier::newest_signed(txn, &keys, &asker)).await?;
    Ok(newest.into_iter().collect())
}

/// A part of what is held here of the transfers between the two.
pub(crate) async fn evidence(
    inner: &Arc<Inner>,
    party: &Party,
    question: &[u8],
) -> Result<Vec<Vec<u8>>, ExchangeError> {
    let (asker, own, keys) = (hospital(party)?, inner.own().clone(), inner.keys());
    let question: EvidenceQuestion = codec::decode(question, QUESTION_MAX_BYTES)?;
    let answer = inner
        .parts
        .store
        .read(move |txn| handover_dossier::evidence(txn, &keys, &asker, Some(&own), &question))
        .await?;
    Ok(vec![codec::encode(&answer)])
}
