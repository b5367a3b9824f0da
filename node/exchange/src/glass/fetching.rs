//! Fetching what a source gives out: its answer is kept, then each piece, once; where it stopped, it goes on.

use std::sync::Arc;

use handover_core::artefact::Verified;
use handover_core::artefact::break_glass::{BreakGlass, BreakGlassAnswer, PIECE_MAX_BYTES, REVIEW_WITHIN_MS};
use handover_core::codec::Bytes;
use handover_core::message::Verb;
use handover_core::rules::{self, Broken, Context};
use handover_core::{BreakGlassId, Code, Digest};
use handover_net::Route;
use handover_seal::Remembered;
use handover_store::{StoreError, rows};

use super::asking::{ask, change, row};
use super::rows::{OutRow, kept};
use super::{OUT, OUT_PIECE, broken, due_place, get_piece, pieces_of, place, put_piece, route, second};
use crate::ExchangeError;
use crate::context::Inner;

/// Asks the source for what is still wanted and fetches it. What it came to is kept.
pub(super) async fn go_on(inner: &Arc<Inner>, id: BreakGlassId) -> Result<(), ExchangeError> {
    let outcome = try_going_on(inner, id).await;
    let waits = outcome.as_ref().err().map(ExchangeError::code);
    if let Some(code) = waits {
        tracing::info!(break_glass = %id, code = %code, "a break-glass has to wait");
    }
    change(inner, id, move |held| held.waits = waits).await?;
    outcome
}

async fn try_going_on(inner: &Arc<Inner>, id: BreakGlassId) -> Result<(), ExchangeError> {
    let held = row(inner, id).await?;
    let asked = broken(inner, held.request.as_ref(), inner.own())?;
    rules::break_glass_in_time(&asked.request, inner.now())?;
    if !held.is_here && held.refused()?.is_none() {
        let hash = asked.request.hash();
        fetch(inner, &asked, held.request.as_ref(), hash, false).await?;
    }
    if let Some(more) = &held.more
        && held.more_refused()?.is_none()
        && !held.is_more_here
    {
        let (hash, _) = second(inner, more, &asked)?;
        fetch(inner, &asked, more.as_ref(), hash, true).await?;
    }
    Ok(())
}

/// Asks with `envelope`, whose hash is `hash`, and takes the pieces of the answer.
async fn fetch(
    inner: &Arc<Inner>,
    asked: &Broken,
    envelope: &[u8],
    hash: Digest,
    is_more: bool,
) -> Result<(), ExchangeError> {
    let request = &asked.request;
    let source = request.source.as_ref().ok_or(Code::BreakGlassMismatch)?;
    let route = route(inner, source)?;
    let items = ask(inner, &route, Verb::BreakGlass, vec![envelope.to_vec()]).await?;
    let answer = items.into_iter().next().ok_or(Code::Malformed)?;
    let federation = inner.federation()?;
    let context = Context { federation: &federation, verifier: &Remembered };
    let said = rules::break_glass_answer(&answer, request, &hash, context)?;
    let overdue: Vec<Bytes> = said.overdue.iter().map(|id| id.as_bytes().to_vec().into()).collect();
    change(inner, request.id, move |held| held.overdue_there.clone_from(&overdue)).await?;
    if let Some(code) = said.reason.filter(|code| code.is_transient()) {
        return Err(code.into());
    }
    keep_answer(inner, request, &said, is_more).await?;
    let Some(given) = &said.given else {
        return Err(said.reason.unwrap_or(Code::Malformed).into());
    };
    for (number, wanted) in (0_u32..).zip(&given.pieces) {
        take_piece(inner, &route, request, (&hash, number, wanted)).await?;
    }
    change(inner, request.id, move |held| {
        let is_here = if is_more { &mut held.is_more_here } else { &mut held.is_here };
        *is_here = true;
    })
    .await?;
    tracing::warn!(break_glass = %request.id, hospital = %source, "what was given out in an emergency is here");
    Ok(())
}

/// Keeps an answer; what it gives is to be reviewed.
async fn keep_answer(
    inner: &Inner,
    request: &BreakGlass,
    said: &Verified<BreakGlassAnswer>,
    is_more: bool,
) -> Result<(), ExchangeError> {
    let (keys, id, own, envelope) = (inner.keys(), request.id, inner.own().clone(), said.envelope().to_vec());
    let due = request.issued.plus_ms(REVIEW_WITHIN_MS);
    let is_given = said.given.is_some();
    let write = inner.parts.store.write(move |txn| -> Result<(), ExchangeError> {
        let key = place(&keys, OUT, &id);
        let mut held: OutRow = rows::get(txn, &key)?.ok_or(Code::UnknownBreakGlass)?;
        let place = if is_more { &mut held.more_answer } else { &mut held.answer };
        *place = Some(envelope.clone().into());
        if is_given && held.review.is_none() {
            txn.put(&due_place(&keys, OUT, &own, due, &id), id.as_bytes().to_vec())?;
        }
        rows::put(txn, &key, &held)?;
        Ok(())
    });
    write.await
}

/// Takes one piece, unless it is here: it has to be the one that the answer lists.
async fn take_piece(
    inner: &Arc<Inner>,
    route: &Route,
    request: &BreakGlass,
    (asked, number, wanted): (&Digest, u32, &Digest),
) -> Result<(), ExchangeError> {
    let first = pieces_of(&inner.keys(), OUT_PIECE, asked).u64(number.into()).u64(0).build();
    let is_here: Result<bool, StoreError> =
        inner.parts.store.read(move |txn| Ok(txn.get(&first)?.is_some())).await;
    if is_here? {
        return Ok(());
    }
    let items =
        vec![request.id.as_bytes().to_vec(), asked.as_bytes().to_vec(), number.to_be_bytes().to_vec()];
    let piece = ask(inner, route, Verb::BreakGlassPart, items).await?.into_iter().next();
    let piece = piece.ok_or(Code::Malformed)?;
    if piece.len() > PIECE_MAX_BYTES || Digest::sha256(&[&piece]) != *wanted {
        return Err(Code::PackageDamaged.into());
    }
    let (work, request, asked) = (Arc::clone(inner), request.clone(), *asked);
    let write = inner.parts.store.write(move |txn| -> Result<(), ExchangeError> {
        // What comes after the sweep would stay for good.
        let held: Option<OutRow> = rows::get(txn, &place(&work.keys(), OUT, &request.id))?;
        if held.is_none_or(|held| held.is_swept) {
            return Err(Code::BreakGlassOver.into());
        }
        rules::break_glass_in_time(&request, work.now())?;
        put_piece(txn, &work, OUT_PIECE, (&asked, number), &piece)
    });
    write.await
}

/// All pieces of what was asked with `asked`, in order, as the source sealed them.
pub(super) async fn take_pieces_of(
    inner: &Arc<Inner>,
    asked: Digest,
    count: usize,
) -> Result<Vec<u8>, ExchangeError> {
    let work = Arc::clone(inner);
    let read = inner.parts.store.read(move |txn| -> Result<Vec<u8>, ExchangeError> {
        let mut whole = Vec::new();
        for number in (0_u32..).take(count) {
            let piece = get_piece(txn, &work, OUT_PIECE, (&asked, number))?;
            whole.extend_from_slice(&piece.ok_or(Code::BreakGlassOver)?);
        }
        Ok(whole)
    });
    read.await
}

/// What the source gave out, if it is here: everything, or else the subset.
pub(super) fn given(held: &OutRow) -> Result<BreakGlassAnswer, ExchangeError> {
    let more = held.more_answer.as_ref().filter(|_| held.is_more_here);
    let answer = more.or(held.answer.as_ref().filter(|_| held.is_here)).ok_or(Code::OutOfOrder)?;
    Ok(kept::<BreakGlassAnswer>(answer)?)
}
