//! Break-glasses as both hospitals keep them, and clinicians as their own hospital does.

use handover_core::artefact::break_glass::{
    BreakGlassAnswer, BreakGlassMore, BreakGlassReview, EmergencyScope, REVIEW_WITHIN_MS,
};
use handover_core::artefact::{Countersigned, Payload, Signed};
use handover_core::codec::Bytes;
use handover_core::{Code, Timestamp, cbor_map};
use handover_store::{StoreError, rows};

cbor_map! {
    /// A break-glass that this hospital asks with.
    pub(super) struct OutRow {
        /// By clinician and hospital.
        1 => request: Bytes,
        /// `BreakGlassAnswer` that gives, or refuses for good.
        2 => answer: Option<Bytes>,
        /// Whether all that the answer lists is here.
        3 => is_here: bool,
        /// `BreakGlassMore`, by the second clinician and the hospital.
        4 => more: Option<Bytes>,
        /// The answer to that.
        5 => more_answer: Option<Bytes>,
        /// Whether all that it lists is here.
        6 => is_more_here: bool,
        /// Why it has to wait.
        7 => waits: Option<Code>,
        /// Identifiers that the source named as overdue, when it was asked last.
        8 => overdue_there: Vec<Bytes>,
        /// `BreakGlassReview`.
        9 => review: Option<Bytes>,
        /// Who reviewed.
        10 => reviewed_by: Option<String>,
        /// What they say.
        11 => review_note: Option<String>,
        /// Whether the source has the review.
        12 => is_review_told: bool,
        /// Whether the index knows.
        13 => is_noted: bool,
        /// How often it was read.
        14 => reads: u32,
        /// Whether the pieces are gone: the window is over.
        15 => is_swept: bool,
        /// The patient here, if linked.
        16 => patient: Option<String>,
        /// Whether the patient was forgotten.
        17 => is_forgotten: bool,
    }
}

cbor_map! {
    /// A break-glass that another hospital asks with.
    pub(super) struct InRow {
        /// By clinician and hospital.
        1 => request: Bytes,
        /// When it came.
        2 => since: Timestamp,
        /// The one patient here.
        3 => patient: Option<String>,
        /// `BreakGlassAnswer`.
        4 => answer: Option<Bytes>,
        /// `BreakGlassMore`, by the second clinician and the hospital.
        5 => more: Option<Bytes>,
        /// The answer to that.
        6 => more_answer: Option<Bytes>,
        /// `BreakGlassReview`.
        7 => review: Option<Bytes>,
        /// When a letter told the patient.
        8 => letter: Option<Timestamp>,
        /// Whether the index knows.
        9 => is_noted: bool,
        /// Whether the pieces are gone: the window is over.
        10 => is_swept: bool,
        /// Whether the patient was forgotten.
        11 => is_forgotten: bool,
    }
}

cbor_map! {
    /// A clinician whom this hospital certified.
    pub(super) struct ClinicianRow {
        /// `ClinicianCertificate`.
        1 => certificate: Bytes,
        /// Since when it does not count any more.
        2 => withdrawn: Option<Timestamp>,
    }
}

fn damaged() -> StoreError {
    rows::damaged("a break-glass")
}

/// An artefact that verified when it came.
pub(super) fn kept<T: Payload + Clone>(envelope: &Bytes) -> Result<T, StoreError> {
    Ok(Signed::<T>::read(envelope.as_ref()).map_err(|_| damaged())?.claim().clone())
}

fn given_in(answer: Option<&Bytes>) -> Result<Option<BreakGlassAnswer>, StoreError> {
    let answer = answer.map(kept::<BreakGlassAnswer>).transpose()?;
    Ok(answer.filter(|answer| answer.given.is_some()))
}

fn scope(answer: Option<&Bytes>, more: Option<&Bytes>) -> Result<Option<EmergencyScope>, StoreError> {
    let more = given_in(more)?;
    Ok(more.or(given_in(answer)?).map(|answer| answer.scope))
}

fn refused(answer: Option<&Bytes>) -> Result<Option<Code>, StoreError> {
    Ok(answer.map(kept::<BreakGlassAnswer>).transpose()?.and_then(|answer| answer.reason))
}

impl OutRow {
    /// A new one.
    pub(super) fn new(request: Vec<u8>, patient: Option<String>) -> Self {
        Self {
            request: request.into(),
            answer: None,
            is_here: false,
            more: None,
            more_answer: None,
            is_more_here: false,
            waits: None,
            overdue_there: Vec::new(),
            review: None,
            reviewed_by: None,
            review_note: None,
            is_review_told: false,
            is_noted: false,
            reads: 0,
            is_swept: false,
            patient,
            is_forgotten: false,
            extensions: super::none(),
        }
    }

    /// How much is here.
    pub(super) fn given(&self) -> Result<Option<EmergencyScope>, StoreError> {
        let answer = self.answer.as_ref().filter(|_| self.is_here);
        scope(answer, self.more_answer.as_ref().filter(|_| self.is_more_here))
    }

    /// Why nothing was given.
    pub(super) fn refused(&self) -> Result<Option<Code>, StoreError> {
        refused(self.answer.as_ref())
    }

    /// Why more was not.
    pub(super) fn more_refused(&self) -> Result<Option<Code>, StoreError> {
        refused(self.more_answer.as_ref())
    }

    /// Whether the source still has to be asked for something, in time.
    pub(super) fn is_asking(&self) -> Result<bool, StoreError> {
        let wants_first = !self.is_here && self.refused()?.is_none();
        let wants_more = self.more.is_some() && !self.is_more_here && self.more_refused()?.is_none();
        Ok(wants_first || (self.is_here && wants_more))
    }
}

impl InRow {
    /// How much was given out.
    pub(super) fn given(&self) -> Result<Option<EmergencyScope>, StoreError> {
        scope(self.answer.as_ref(), self.more_answer.as_ref())
    }

    /// Why nothing was.
    pub(super) fn refused(&self) -> Result<Option<Code>, StoreError> {
        refused(self.answer.as_ref())
    }

    /// Until when it is reviewed.
    pub(super) fn review_due(&self) -> Timestamp {
        self.since.plus_ms(REVIEW_WITHIN_MS)
    }
}

/// The review, if there is one.
pub(super) fn review(envelope: Option<&Bytes>) -> Result<Option<BreakGlassReview>, StoreError> {
    envelope.map(kept::<BreakGlassReview>).transpose()
}

/// Which break-glass a second person's envelope claims to be about.
pub(super) fn more_claim(envelope: &[u8]) -> Result<BreakGlassMore, Code> {
    let more = Countersigned::<BreakGlassMore>::read(envelope);
    Ok(more.map_err(|fault| fault.code())?.claim().clone())
}
