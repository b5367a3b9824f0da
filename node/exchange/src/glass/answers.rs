//! What a source signs: what it gives out, or why it gives nothing, and whose reviews are overdue.

use handover_core::artefact::Verified;
use handover_core::artefact::break_glass::{BreakGlass, BreakGlassAnswer, EmergencyScope, GivenOut};
use handover_core::rules::Broken;
use handover_core::{BreakGlassId, Code, Digest, HospitalId};

use super::{IN, due_before, none, throttle};
use crate::ExchangeError;
use crate::context::Inner;

/// Overdue reviews that an answer names.
const OVERDUE_NAMED: usize = 20;

pub(super) fn answer_of(
    inner: &Inner,
    request: &BreakGlass,
    asked: Digest,
    overdue: Vec<BreakGlassId>,
) -> BreakGlassAnswer {
    BreakGlassAnswer {
        id: request.id,
        asked,
        source: inner.own().clone(),
        scope: EmergencyScope::Subset,
        given: None,
        reason: None,
        overdue,
        issued: inner.now(),
        extensions: none(),
    }
}

pub(super) fn answer(
    inner: &Inner,
    request: &Verified<BreakGlass>,
    given: Option<GivenOut>,
    reason: Option<Code>,
    overdue: Vec<BreakGlassId>,
) -> Vec<u8> {
    let answer = answer_of(inner, request, request.hash(), overdue);
    let answer = BreakGlassAnswer { given, reason, ..answer };
    Verified::sign(answer, &inner.parts.identity.signing).envelope().to_vec()
}

/// Says that it is too much for now, and which reviews are overdue; anything else is this side's fault.
pub(super) async fn refuse(
    inner: &Inner,
    request: &Verified<BreakGlass>,
    fault: ExchangeError,
) -> Result<Vec<u8>, ExchangeError> {
    if fault.code() != Code::BreakGlassThrottled {
        return Err(fault);
    }
    let overdue = overdue(inner, &request.requesting).await?;
    tracing::warn!(
        break_glass = %request.id, hospital = %request.requesting, overdue = overdue.len(),
        "a break-glass was throttled"
    );
    Ok(answer(inner, request, None, Some(fault.code()), overdue))
}

pub(super) async fn throttled(inner: &Inner, asked: &Broken) -> Result<(), ExchangeError> {
    let (keys, now, by) = (inner.keys(), inner.now(), asked.request.requesting.clone());
    let clinician = asked.clinician.key.thumbprint();
    let read = inner.parts.store.read(move |txn| -> Result<(), ExchangeError> {
        let overdue = due_before(txn, &keys, (IN, &by), now, 1)?;
        throttle::check(txn, &keys, (&by, &clinician), !overdue.is_empty(), now)
    });
    read.await
}

/// A hospital's break-glasses whose reviews are overdue here.
pub(super) async fn overdue(inner: &Inner, by: &HospitalId) -> Result<Vec<BreakGlassId>, ExchangeError> {
    let (keys, now, by) = (inner.keys(), inner.now(), by.clone());
    Ok(inner.parts.store.read(move |txn| due_before(txn, &keys, (IN, &by), now, OVERDUE_NAMED)).await?)
}
