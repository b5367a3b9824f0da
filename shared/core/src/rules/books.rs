//! What must hold of a page of the index's books: the index signed it for this hospital, every line that is opened is
//! the one that was signed and a leaf of the log, and the log continues the one that was signed before.
//!
//! Invariant: [`Code::LedgerRewritten`] is found in what the index signed, and in nothing that somebody can put beside it
//! or in another order: no file can be made of an honest index's pages that comes to it.

use super::{Context, ensure, read};
use crate::artefact::Verified;
use crate::artefact::books::{HoldOrder, LedgerPage};
use crate::codec;
use crate::ledger::{Entry, MAX_ENTRY_BYTES, merkle};
use crate::message::BooksAnswer;
use crate::trust::two_operators;
use crate::{Code, HospitalId};

/// A page that holds, with the entries that are opened, each with its sequence number.
#[derive(Clone, Debug)]
pub struct OpenedPage {
    /// The page.
    pub page: Verified<LedgerPage>,
    /// Ascending.
    pub entries: Vec<(u64, Entry)>,
    /// The operators' orders that came with them and hold.
    pub orders: Vec<Verified<HoldOrder>>,
}

/// What the index says of its books to a hospital. Whether every line is opened, the caller compares.
///
/// # Errors
/// [`Code::LedgerRewritten`] if what the index signed is not in the log that it signed; [`Code::WrongSigner`],
/// [`Code::Malformed`] and others for what is no page of the index for this hospital.
pub fn ledger_page(
    answer: &BooksAnswer,
    hospital: &HospitalId,
    context: Context<'_>,
) -> Result<OpenedPage, Code> {
    let page = read::<LedgerPage>(answer.page.as_ref())?;
    let page = context.federation.verify_from_index(page, context.verifier)?;
    let in_range = |sequence: &u64| (page.from..page.until).contains(sequence);
    let numbers: Vec<u64> = page.lines.iter().map(|line| line.sequence).collect();
    let is_page = page.hospital == *hospital
        && page.until <= page.size
        && numbers.is_sorted_by(|one, next| one < next)
        && numbers.iter().all(in_range);
    ensure(is_page, Code::Malformed)?;
    let mut entries: Vec<(u64, Entry)> = Vec::with_capacity(answer.opened.len());
    let orders = answer.opened.iter().filter_map(|opened| opened.order.as_ref());
    // One that does not hold founds nothing.
    let orders = orders.filter_map(|order| hold_order(order.as_ref(), context).ok()).collect();
    for opened in &answer.opened {
        let line = page.lines.iter().find(|line| line.sequence == opened.sequence);
        let line = line.ok_or(Code::Malformed)?;
        let commitment = merkle::commitment(&opened.salt, opened.entry.as_ref());
        let is_signed = commitment == line.commitment && LedgerPage::hashes(&opened.path) == line.path;
        ensure(is_signed, Code::Malformed)?;
        merkle::verify_inclusion(&page.root, page.size, line.sequence, &commitment, &opened.path)
            .map_err(|_| Code::LedgerRewritten)?;
        let entry: Entry =
            codec::decode(opened.entry.as_ref(), MAX_ENTRY_BYTES).map_err(|_| Code::Malformed)?;
        let is_wanted = [&entry.source, &entry.destination].contains(&hospital);
        ensure(is_wanted && entries.last().is_none_or(|(last, _)| *last < line.sequence), Code::Malformed)?;
        entries.push((line.sequence, entry));
    }
    Ok(OpenedPage { page, entries, orders })
}

/// An order of two operators that settles a hold.
///
/// # Errors
/// [`Code`] naming the cause.
pub fn hold_order(envelope: &[u8], context: Context<'_>) -> Result<Verified<HoldOrder>, Code> {
    two_operators(envelope, context.federation.operators(), context.verifier).map_err(|fault| fault.code())
}

/// Whether the log of `page` continues that of `before`, by the proof that came with it.
///
/// # Errors
/// [`Code::LedgerRewritten`] if the two pages, as they were signed, cannot be of one log that only grows;
/// [`Code::Malformed`] and [`Code::ClockOff`] for what answers another question, or was signed earlier.
pub fn continues(before: &LedgerPage, page: &LedgerPage, answer: &BooksAnswer) -> Result<(), Code> {
    if page.size == before.size {
        ensure(page.root == before.root, Code::LedgerRewritten)?;
    } else if page.size < before.size {
        // Signed earlier, or for who had not seen so much, it is an honest page: more is stated to whom more is given.
        ensure(page.issued <= before.issued || page.seen != before.size, Code::LedgerRewritten)?;
        return Err(Code::ClockOff);
    }
    let is_answer = page.seen == before.size && LedgerPage::hashes(&answer.consistency) == page.consistency;
    ensure(is_answer, Code::Malformed)?;
    ensure(page.issued >= before.issued, Code::ClockOff)?;
    merkle::verify_consistency((&before.root, before.size), (&page.root, page.size), &answer.consistency)
        .map_err(|_| Code::LedgerRewritten)
}
