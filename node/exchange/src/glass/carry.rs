//! What follows from break-glasses by itself: sources that could not be asked are asked again, reviews go to them, the
//! index hears that there was one, and what came goes when its window ends.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use handover_core::artefact::Countersigned;
use handover_core::artefact::break_glass::{BreakGlass, BreakGlassAnswer};
use handover_core::message::Verb;
use handover_core::rules;
use handover_core::{BreakGlassId, Code, Digest};
use handover_store::{SCAN_MAX_CELLS, StoreError, rows};
use tokio_util::sync::CancellationToken;

use super::asking::{ask, change, note, row};
use super::fetching::go_on;
use super::rows::{InRow, OutRow, kept};
use super::{IN, IN_PIECE, OUT, OUT_PIECE, WORK, broken, place, read_id, remove_pieces, route};
use crate::ExchangeError;
use crate::context::Inner;

/// How often is looked at all of it while something has to wait.
const LOOK: Duration = Duration::from_secs(5);

/// Looks until shut down. What has to go goes beside the rest, which may wait for a network.
pub(crate) async fn carry(inner: Arc<Inner>, shutdown: CancellationToken) {
    let sweeps = async {
        loop {
            logged(sweep(&inner).await);
            tokio::select! {
                () = shutdown.cancelled() => break,
                () = tokio::time::sleep(LOOK) => {}
            }
        }
    };
    let rounds = async {
        loop {
            logged(round(&inner).await);
            tokio::select! {
                () = shutdown.cancelled() => break,
                () = inner.glass.notified() => {}
                () = tokio::time::sleep(LOOK) => {}
            }
        }
    };
    tokio::join!(sweeps, rounds);
}

fn logged(done: Result<(), ExchangeError>) {
    if let Err(fault) = done {
        tracing::error!(code = %fault.code(), "break-glasses cannot be read");
    }
}

async fn open(inner: &Inner, side: &'static str) -> Result<Vec<BreakGlassId>, ExchangeError> {
    let keys = inner.keys();
    let read = inner.parts.store.read(move |txn| -> Result<Vec<BreakGlassId>, StoreError> {
        let page = txn.scan(&keys.space(WORK).raw(side).build(), None, SCAN_MAX_CELLS)?;
        page.iter().map(|(_, id)| read_id(id)).collect()
    });
    Ok(read.await?)
}

/// What came, and what was given out, goes when its window ends.
async fn sweep(inner: &Inner) -> Result<(), ExchangeError> {
    for side in [OUT, IN] {
        for id in open(inner, side).await? {
            let done = if side == OUT { sweep_out(inner, id).await } else { sweep_in(inner, id).await };
            if let Err(fault) = done {
                tracing::error!(break_glass = %id, code = %fault.code(), "it is not swept yet");
            }
        }
    }
    Ok(())
}

async fn round(inner: &Arc<Inner>) -> Result<(), ExchangeError> {
    for side in [OUT, IN] {
        for id in open(inner, side).await? {
            let done = if side == OUT { work_out(inner, id).await } else { work_in(inner, id).await };
            match done {
                Ok(true) => finish(inner, side, id).await?,
                Ok(false) => {}
                Err(fault) => {
                    tracing::debug!(break_glass = %id, code = %fault.code(), "it is looked at again");
                }
            }
        }
    }
    Ok(())
}

/// Nothing is left to be done, unless something came in between: that owes it anew.
async fn finish(inner: &Inner, side: &'static str, id: BreakGlassId) -> Result<(), ExchangeError> {
    let keys = inner.keys();
    let write = inner.parts.store.write(move |txn| -> Result<(), ExchangeError> {
        let at = place(&keys, side, &id);
        let is_done = if side == OUT {
            rows::get::<OutRow>(txn, &at)?.is_none_or(|held| {
                held.is_noted && held.is_swept && (held.review.is_none() || held.is_review_told)
            })
        } else {
            rows::get::<InRow>(txn, &at)?.is_none_or(|held| held.is_noted && held.is_swept)
        };
        if is_done {
            txn.remove(&keys.space(WORK).raw(side).raw(id.as_bytes()).build())?;
        }
        Ok(())
    });
    write.await
}

/// One that this hospital asks with; whether nothing is left to be done.
async fn work_out(inner: &Arc<Inner>, id: BreakGlassId) -> Result<bool, ExchangeError> {
    let held = row(inner, id).await?;
    let asked = broken(inner, held.request.as_ref(), inner.own())?;
    let mut is_done = true;
    let is_over = rules::break_glass_in_time(&asked.request, inner.now()) == Err(Code::BreakGlassOver);
    if !is_over {
        is_done = false;
        let is_awaited = inner.asking.lock().unwrap_or_else(PoisonError::into_inner).contains(&id);
        if held.is_asking()? && !is_awaited {
            // Why it has to wait stands in the row.
            drop(go_on(inner, id).await);
        }
    }
    if !held.is_noted {
        match tell(inner, note(inner, &asked.request)).await {
            Ok(()) => change(inner, id, |held| held.is_noted = true).await?,
            Err(_) => is_done = false,
        }
    }
    if let (Some(review), false) = (&held.review, held.is_review_told) {
        let source = asked.request.source.as_ref().ok_or(Code::BreakGlassMismatch)?;
        let told =
            async { ask(inner, &route(inner, source)?, Verb::BreakGlass, vec![review.0.clone()]).await };
        match told.await {
            Ok(_) => change(inner, id, |held| held.is_review_told = true).await?,
            // Never asked, it has nothing that waits for a review.
            Err(fault) if is_over && fault.code() == Code::UnknownBreakGlass => {
                change(inner, id, |held| held.is_review_told = true).await?;
            }
            Err(fault) => {
                tracing::info!(break_glass = %id, code = %fault.code(), "a review has to wait");
                is_done = false;
            }
        }
    }
    Ok(is_done)
}

/// One that another hospital asks with; whether nothing is left to be done.
async fn work_in(inner: &Inner, id: BreakGlassId) -> Result<bool, ExchangeError> {
    let held = row_in(inner, id).await?;
    if !held.is_noted {
        let requesting = super::list::requesting(held.request.as_ref())?;
        let asked = broken(inner, held.request.as_ref(), &requesting)?;
        if tell(inner, note(inner, &asked.request)).await.is_err() {
            return Ok(false);
        }
        let keys = inner.keys();
        let write = inner.parts.store.write(move |txn| -> Result<(), ExchangeError> {
            let key = place(&keys, IN, &id);
            let mut held: InRow = rows::get(txn, &key)?.ok_or(Code::UnknownBreakGlass)?;
            held.is_noted = true;
            Ok(rows::put(txn, &key, &held)?)
        });
        write.await?;
    }
    Ok(held.is_swept)
}

async fn row_in(inner: &Inner, id: BreakGlassId) -> Result<InRow, ExchangeError> {
    let key = place(&inner.keys(), IN, &id);
    let held: Option<InRow> = inner.parts.store.read(move |txn| rows::get(txn, &key)).await?;
    Ok(held.ok_or(Code::UnknownBreakGlass)?)
}

async fn sweep_in(inner: &Inner, id: BreakGlassId) -> Result<(), ExchangeError> {
    let held = row_in(inner, id).await?;
    if held.is_swept || !is_over(inner, held.request.as_ref())? {
        return Ok(());
    }
    let (keys, keyring) = (inner.keys(), inner.parts.keyring.clone());
    let write = inner.parts.store.write(move |txn| -> Result<(), ExchangeError> {
        let key = place(&keys, IN, &id);
        let mut held: InRow = rows::get(txn, &key)?.ok_or(Code::UnknownBreakGlass)?;
        for asked in asked_in(&held)? {
            remove_pieces(txn, (&keys, &keyring), IN_PIECE, &asked)?;
        }
        held.is_swept = true;
        Ok(rows::put(txn, &key, &held)?)
    });
    write.await
}

/// Whether the window of a kept one is over.
fn is_over(inner: &Inner, request: &[u8]) -> Result<bool, Code> {
    let request = Countersigned::<BreakGlass>::read(request).map_err(|_| Code::StoreDamaged)?;
    Ok(rules::break_glass_in_time(request.claim(), inner.now()) == Err(Code::BreakGlassOver))
}

/// What this hospital's answers were asked with.
pub(super) fn asked_in(held: &InRow) -> Result<Vec<Digest>, StoreError> {
    let answers = [held.answer.as_ref(), held.more_answer.as_ref()].into_iter().flatten();
    answers.map(|answer| Ok(kept::<BreakGlassAnswer>(answer)?.asked)).collect()
}

/// What came is gone for good.
async fn sweep_out(inner: &Inner, id: BreakGlassId) -> Result<(), ExchangeError> {
    let held = row(inner, id).await?;
    if held.is_swept || !is_over(inner, held.request.as_ref())? {
        return Ok(());
    }
    let first = broken(inner, held.request.as_ref(), inner.own())?.request.hash();
    let (keys, keyring) = (inner.keys(), inner.parts.keyring.clone());
    let write = inner.parts.store.write(move |txn| -> Result<(), ExchangeError> {
        let key = place(&keys, OUT, &id);
        let mut held: OutRow = rows::get(txn, &key)?.ok_or(Code::UnknownBreakGlass)?;
        let more = held.more_answer.as_ref().map(kept::<BreakGlassAnswer>).transpose()?;
        for asked in std::iter::once(first).chain(more.map(|more| more.asked)) {
            remove_pieces(txn, (&keys, &keyring), OUT_PIECE, &asked)?;
        }
        held.is_swept = true;
        Ok(rows::put(txn, &key, &held)?)
    });
    write.await?;
    tracing::info!(break_glass = %id, "the window is over: what came is gone");
    Ok(())
}

async fn tell(inner: &Inner, note: Vec<u8>) -> Result<(), ExchangeError> {
    ask(inner, &inner.route_to_index(), Verb::BreakGlass, vec![note]).await.map(drop)
}
