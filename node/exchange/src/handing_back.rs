//! What this hospital holds of its transfers with another one, for that one to see whether it has lost something, as
//! after a restored backup, and to take back what it has. The index is told of all of them, and shown what it signed itself.
//!
//! Invariant: a hospital is told of transfers between the two alone; everything that it is given it has signed itself, or
//! was to get. So is the index.

use std::sync::Arc;

use handover_core::Party;
use handover_core::codec;
use handover_core::message::{EvidenceQuestion, Tally};
use handover_dossier::{Between, tally};

use crate::context::Inner;
use crate::{ExchangeError, books, key_records, links};

/// The most bytes of a question.
const QUESTION_MAX_BYTES: usize = 1024;

/// The newest that the asker signed, of what is held here.
pub(crate) async fn newest(inner: &Arc<Inner>, party: &Party) -> Result<Vec<Vec<u8>>, ExchangeError> {
    let keys = inner.keys();
    let Party::Hospital(asker) = party.clone() else {
        let page = inner.parts.store.read(move |txn| books::newest_page(txn, &keys)).await?;
        let directory = inner.federation()?.directory().envelope().to_vec();
        return Ok([directory].into_iter().chain(page.map(|page| page.0)).collect());
    };
    let newest =
        inner.parts.store.read(move |txn| handover_dossier::newest_signed(txn, &keys, &asker)).await?;
    Ok(newest.into_iter().collect())
}

/// How much was taken here of a party's, as it is told.
pub(crate) async fn taken_of(inner: &Arc<Inner>, party: &Party) -> Result<Tally, ExchangeError> {
    let (keys, of) = (inner.keys(), party.clone());
    Ok(inner.parts.store.read(move |txn| tally::taken(txn, &keys, &of)).await?)
}

/// How much the asker has said to have taken of this hospital's.
pub(crate) async fn told_by(inner: &Arc<Inner>, party: &Party) -> Result<Vec<Vec<u8>>, ExchangeError> {
    let (keys, by) = (inner.keys(), party.clone());
    let kept = inner.parts.store.read(move |txn| tally::kept(txn, &keys, &by)).await?;
    Ok(kept.iter().map(codec::encode).collect())
}

/// A part of what is held here of the transfers between the two.
pub(crate) async fn evidence(
    inner: &Arc<Inner>,
    party: &Party,
    question: &[u8],
) -> Result<Vec<Vec<u8>>, ExchangeError> {
    let (party, own, keys) = (party.clone(), inner.own().clone(), inner.keys());
    let question: EvidenceQuestion = codec::decode(question, QUESTION_MAX_BYTES)?;
    if party == Party::Index && question.after.is_none() {
        let work = Arc::clone(inner);
        tokio::spawn(async move { tell_again(&work).await });
    }
    let answer = inner
        .parts
        .store
        .read(move |txn| {
            let between = match &party {
                Party::Index => Between::all_of(&own),
                Party::Hospital(asker) => Between::two(asker, &own),
            };
            handover_dossier::evidence(txn, &keys, between, &question)
        })
        .await?;
    Ok(vec![codec::encode(&answer)])
}

/// An index that asks has lost what it was told of patients, too.
async fn tell_again(inner: &Arc<Inner>) {
    // Asked for once more while it goes on, it is told once.
    let Ok(_alone) = inner.telling_again.try_lock() else { return };
    let owed = async {
        links::owe_all(&inner.parts.store).await?;
        key_records::owe_all(inner).await
    };
    if let Err(fault) = owed.await {
        tracing::error!(code = %fault.code(), "patients' links cannot be told to the index again");
    }
    inner.links.notify_one();
}
