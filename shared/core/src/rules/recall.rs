//! What must hold of a recall: it is the source's, about what it sent under one header, and gives back no more than the
//! fee. What is recalled, and what that does to the fee, the destination checks from what it filed.

use std::collections::BTreeSet;

use super::{Context, ensure, read};
use crate::artefact::Verified;
use crate::artefact::recall::{
    RECALL_MAX_RECORDS, RECALLS_MAX, Recall, RecallConfirmed, RecallDetails, RecallReason,
};
use crate::artefact::transfer::PackageHeader;
use crate::{Amount, Code};

/// A source's recall of what it sent under a header. `before_minor` is what its earlier recalls gave back.
///
/// # Errors
/// [`Code`] naming the cause.
pub fn recall(
    envelope: &[u8],
    header: &Verified<PackageHeader>,
    before_minor: i64,
    context: Context<'_>,
) -> Result<Verified<Recall>, Code> {
    let recall =
        context.federation.verify_from(&header.source, read::<Recall>(envelope)?, context.verifier)?;
    let same = recall.transfer == header.transfer && recall.header == header.hash();
    ensure(same && recall.number > 0, Code::RecallMismatch)?;
    ensure(recall.number <= RECALLS_MAX, Code::RecallsExhausted)?;
    let back = recall.fee_back;
    let sum_minor = before_minor.checked_add(back.minor()).ok_or(Code::RecallFee)?;
    let within =
        back.currency() == header.fee.currency() && back.minor() >= 0 && sum_minor <= header.fee.minor();
    ensure(within, Code::RecallFee)?;
    Ok(recall)
}

/// Whether these are the details that a recall commits to, and such as can be acted on.
///
/// # Errors
/// [`Code::RecallMismatch`]; [`Code::TooLarge`]; [`Code::RecallFee`] for a fee that is given back although the tests
/// were done.
pub fn recall_details(details: &RecallDetails, recall: &Recall) -> Result<(), Code> {
    ensure(details.records.len() <= RECALL_MAX_RECORDS, Code::TooLarge)?;
    ensure(details.commitment() == recall.commitment, Code::RecallMismatch)?;
    let named: BTreeSet<_> =
        details.records.iter().map(|it| (&it.origin, &it.resource_type, &it.resource_id)).collect();
    let is_about_something = !named.is_empty() || details.other_tests.is_some();
    let each_once = is_about_something && named.len() == details.records.len();
    let others = details.other_tests.as_ref();
    let are_wrong = others.is_none_or(|others| others.tests > 0 && !details.reason.keeps_fee());
    let is_dated = details.reason != RecallReason::Amended
        || details.records.iter().all(|record| record.replaced.is_some());
    ensure(each_once && is_dated && are_wrong, Code::RecallMismatch)?;
    ensure(!details.reason.keeps_fee() || recall.fee_back.minor() == 0, Code::RecallFee)
}

/// What a recall gives back of a fee: what the fee comes to with the tests that were not recalled before it, less what
/// it comes to without its own. All recalls of a transfer together never give back more than its fee.
///
/// # Errors
/// [`Code::RecallFee`] if the two are no fees of one transfer.
pub fn fee_back(before: Amount, after: Amount) -> Result<Amount, Code> {
    let same = before.currency() == after.currency() && after.minor() >= 0;
    let back_minor = before.minor().checked_sub(after.minor()).filter(|minor| same && *minor >= 0);
    back_minor.map(|minor| Amount::from_minor(minor, before.currency())).ok_or(Code::RecallFee)
}

/// The destination's word that it has marked what was recalled.
///
/// # Errors
/// [`Code`] naming the cause.
pub fn recall_confirmed(
    envelope: &[u8],
    recall: &Verified<Recall>,
    header: &PackageHeader,
    context: Context<'_>,
) -> Result<Verified<RecallConfirmed>, Code> {
    let confirmed = context.federation.verify_from(
        &header.destination,
        read::<RecallConfirmed>(envelope)?,
        context.verifier,
    )?;
    let same = confirmed.transfer == recall.transfer
        && confirmed.number == recall.number
        && confirmed.recall == recall.hash();
    ensure(same, Code::RecallMismatch)?;
    Ok(confirmed)
}
