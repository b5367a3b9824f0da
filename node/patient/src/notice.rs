//! What a patient is told of break-glasses: who, of which hospital, when, how much, and how it was reviewed. Every
//! signature is verified; which part was given out and why as a code is the word of the hospital that tells it.

use handover_core::artefact::break_glass::{
    BreakGlass, ClinicianCertificate, EmergencyPurpose, EmergencyScope, ReviewVerdict,
};
use handover_core::artefact::{Countersigned, peek_kid};
use handover_core::message::{BreakGlassNotice, Inbox};
use handover_core::rules::{self, Context};
use handover_core::trust::Federation;
use handover_core::{BreakGlassId, Code, HospitalId, Timestamp};
use handover_seal::Remembered;

use crate::WalletError;

/// A break-glass under which records of this patient were opened.
#[derive(Clone, Debug)]
pub struct Noticed {
    /// Which.
    pub id: BreakGlassId,
    /// The hospital that opened them.
    pub requesting: HospitalId,
    /// The hospital that they are of.
    pub source: HospitalId,
    /// Who broke the glass.
    pub clinician: ClinicianCertificate,
    /// The second person, if everything was asked for.
    pub second: Option<ClinicianCertificate>,
    /// Why.
    pub purpose: EmergencyPurpose,
    /// How much was given out; absent: nothing yet.
    pub scope: Option<EmergencyScope>,
    /// When.
    pub issued: Timestamp,
    /// Until when it could be read.
    pub until: Timestamp,
    /// How it was reviewed, and when.
    pub review: Option<(ReviewVerdict, Timestamp)>,
}

/// The break-glasses that an inbox tells of, each verified by itself.
#[must_use]
pub fn notices(inbox: &Inbox, federation: &Federation) -> Vec<Result<Noticed, WalletError>> {
    inbox.broken.iter().map(|notice| verify(notice, federation)).collect()
}

fn verify(notice: &BreakGlassNotice, federation: &Federation) -> Result<Noticed, WalletError> {
    let wrong = |code| WalletError::Rule { what: "a break-glass", code };
    let context = Context { federation, verifier: &Remembered };
    let claimed = Countersigned::<BreakGlass>::read(notice.request.as_ref())?;
    let member = federation.member(&claimed.claim().requesting).map_err(wrong)?;
    let key = member.key(claimed.kids().1);
    let broken = rules::break_glass(notice.request.as_ref(), &key, true, &Remembered).map_err(wrong)?;
    let request = &broken.request;
    if request.source.as_ref() != Some(&notice.source) {
        return Err(wrong(Code::BreakGlassMismatch));
    }
    let second = notice.more.as_ref().map(|more| {
        let key = member.key(&peek_kid(more.as_ref()).map_err(|fault| fault.code())?);
        rules::break_glass_more(more.as_ref(), &broken, &key, true, &Remembered).map(|(_, second)| second)
    });
    let review =
        notice.review.as_ref().map(|review| rules::break_glass_review(review.as_ref(), request, context));
    let review = review.transpose().map_err(wrong)?;
    Ok(Noticed {
        id: request.id,
        requesting: request.requesting.clone(),
        source: notice.source.clone(),
        second: second.transpose().map_err(wrong)?,
        purpose: notice.purpose,
        scope: notice.given,
        issued: request.issued,
        until: request.until,
        review: review.map(|review| (review.verdict, review.issued)),
        clinician: broken.clinician,
    })
}
