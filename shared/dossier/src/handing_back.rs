//! What a hospital that has lost its own is handed back: the artefacts of its transfers that are held here.
//!
//! Invariants: nobody is given anything of a transfer that they take no part in; an answer fits a message, however much
//! there is, and whatever does not fit it is left out rather than in the way; what an answer costs is bounded.

use handover_core::codec::{Bytes, Extensions, MAX_MESSAGE_BYTES};
use handover_core::message::{EvidenceAnswer, EvidencePlace, EvidenceQuestion};
use handover_core::{HospitalId, TransferId};
use handover_store::{KeyMaker, SCAN_MAX_CELLS, Txn};

use crate::{Dossier, DossierError, Kind, Place, Row, list};

/// The most transfers in an answer.
const TRANSFERS_MAX: usize = 64;
/// Bytes of several transfers in an answer.
const ANSWER_BYTES: usize = 512 * 1024;
/// Bytes of one transfer in an answer: leaves room for the message around it, and around each artefact.
const TRANSFER_BYTES: usize = MAX_MESSAGE_BYTES - 16 * 1024;

/// A transfer's artefacts, or a part of them.
#[derive(Default)]
struct Part {
    contents: Vec<Bytes>,
    bytes: usize,
    /// Where the next part begins, if this is not all.
    rest: Option<u32>,
}

/// Whose transfers: those of one hospital, or those that it has with another one.
#[derive(Clone, Copy, Debug)]
pub struct Between<'a> {
    one: &'a HospitalId,
    other: Option<&'a HospitalId>,
}

impl<'a> Between<'a> {
    /// A hospital's, with whomever.
    #[must_use]
    pub const fn all_of(one: &'a HospitalId) -> Self {
        Self { one, other: None }
    }

    /// Those that two hospitals have with each other.
    #[must_use]
    pub const fn two(one: &'a HospitalId, other: &'a HospitalId) -> Self {
        Self { one, other: Some(other) }
    }

    fn holds(self, row: &Row) -> bool {
        let other = if row.source == *self.one {
            &row.destination
        } else if row.destination == *self.one {
            &row.source
        } else {
            return false;
        };
        self.other.is_none_or(|wanted| wanted == other)
    }
}

/// What is held here of these transfers.
///
/// # Errors
/// [`DossierError::Store`].
pub fn evidence(
    txn: &mut dyn Txn,
    keys: &KeyMaker,
    between: Between<'_>,
    question: &EvidenceQuestion,
) -> Result<EvidenceAnswer, DossierError> {
    let mut page = Page::default();
    if let Some(EvidencePlace { transfer, given, .. }) = question.after {
        page.reached = Some(transfer);
        let row = Dossier::of(txn, keys, transfer).row()?.filter(|row| between.holds(row));
        if let (Some(from), Some(_)) = (given, row) {
            page.add(txn, keys, transfer, from)?;
        }
    }
    let rows = list(txn, keys, page.reached, SCAN_MAX_CELLS)?;
    let is_last = rows.len() < SCAN_MAX_CELLS;
    for row in rows {
        let is_wanted = row.updated >= question.since && between.holds(&row);
        if page.is_full || (is_wanted && !page.add(txn, keys, row.transfer, 0)?) {
            return Ok(page.ends(true));
        }
        page.reached = Some(row.transfer);
    }
    let is_full = page.is_full;
    Ok(page.ends(is_full || !is_last))
}

/// An answer that is being made.
#[derive(Default)]
struct Page {
    contents: Vec<Bytes>,
    bytes: usize,
    transfers: usize,
    /// The last transfer that was looked at.
    reached: Option<TransferId>,
    /// Where the next part of that begins.
    rest: Option<u32>,
    is_full: bool,
}

impl Page {
    /// Adds a transfer's artefacts, unless there is no room for them; whether it did.
    fn add(
        &mut self,
        txn: &mut dyn Txn,
        keys: &KeyMaker,
        transfer: TransferId,
        from: u32,
    ) -> Result<bool, DossierError> {
        if self.transfers == TRANSFERS_MAX {
            return Ok(false);
        }
        let part = Dossier::of(txn, keys, transfer).part(from)?;
        let bytes = self.bytes.saturating_add(part.bytes);
        if self.transfers > 0 && bytes > ANSWER_BYTES {
            return Ok(false);
        }
        self.contents.extend(part.contents);
        (self.bytes, self.rest, self.reached) = (bytes, part.rest, Some(transfer));
        self.transfers = self.transfers.saturating_add(1);
        self.is_full = part.rest.is_some();
        Ok(true)
    }

    fn ends(self, has_more: bool) -> EvidenceAnswer {
        let Self { contents, reached, rest, .. } = self;
        let place = |transfer| EvidencePlace { transfer, given: rest, extensions: Extensions::default() };
        let next = reached.filter(|_| has_more).map(place);
        EvidenceAnswer { contents, next, extensions: Extensions::default() }
    }
}

impl Dossier<'_> {
    /// What is kept from a place on, as they are counted in recovery order, as much as goes into one answer.
    fn part(&mut self, from: u32) -> Result<Part, DossierError> {
        let mut part = Part::default();
        let has_consent = self.get_own(Kind::Consent.into())?.is_some();
        let mut was_last_recall = false;
        for (number, place) in (0..).zip(Place::in_recovery_order()).skip_while(|(number, _)| *number < from)
        {
            // With the consent it is known whether it is one.
            let is_settled = place.kind == Kind::EarlyRevocation && has_consent;
            if is_settled || (place.kind.is_numbered() && was_last_recall) {
                continue;
            }
            let Some(content) = self.get_own(place)? else {
                was_last_recall |= place.kind == Kind::Recall;
                continue;
            };
            if content.len() > TRANSFER_BYTES {
                continue;
            }
            let bytes = part.bytes.saturating_add(content.len());
            if bytes > TRANSFER_BYTES {
                part.rest = Some(number);
                break;
            }
            part.contents.push(Bytes(content));
            part.bytes = bytes;
        }
        Ok(part)
    }
}
