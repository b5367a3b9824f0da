//! A break-glass, checked offline from its file: every signature up to the root, and that each belongs to the first.

use super::{StepReport, TRANSFER_FILE_MAX_BYTES, TransferFile, VerifyError, fault, opened};
use crate::artefact::break_glass::{
    BreakGlass, BreakGlassAnswer, BreakGlassMore, BreakGlassReview, EmergencyScope, ReviewVerdict,
};
use crate::artefact::{Countersigned, Payload, SignatureVerifier, Signed, peek_kid, peek_type};
use crate::codec;
use crate::id::{BreakGlassId, Digest, HospitalId, PatientRef, SigningPublic};
use crate::rules::{self, Broken, Context};
use crate::trust::Federation;
use crate::{Code, Timestamp};

/// What a verified file says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GlassReport {
    /// Which.
    pub id: BreakGlassId,
    /// Who asked.
    pub requesting: HospitalId,
    /// Who was asked.
    pub source: Option<HospitalId>,
    /// Whom, where the reference was known.
    pub patient: Option<PatientRef>,
    /// Who broke the glass.
    pub clinician: String,
    /// The second person.
    pub second: Option<String>,
    /// Until when it could be read.
    pub until: Timestamp,
    /// How much was given out.
    pub given: Option<EmergencyScope>,
    /// What the review came to.
    pub verdict: Option<ReviewVerdict>,
    /// The steps, in the order of the protocol.
    pub steps: Vec<StepReport>,
}

/// Whether a file is a break-glass's, as far as can be seen without believing anything in it.
#[must_use]
pub fn is_break_glass(file: &[u8]) -> bool {
    let file = codec::decode::<TransferFile>(file, TRANSFER_FILE_MAX_BYTES);
    file.is_ok_and(|file| envelopes(&file, BreakGlass::TYPE).next().is_some())
}

/// Verifies a break-glass's file under the root's public key.
///
/// # Errors
/// [`VerifyError`] naming the first artefact that does not hold.
pub fn verify_break_glass(
    file: &[u8],
    root: &SigningPublic,
    verifier: &dyn SignatureVerifier,
) -> Result<GlassReport, VerifyError> {
    let (file, federation) = opened(file, root, verifier)?;
    let context = Context { federation: &federation, verifier };
    let (broken, envelope) = asked(&file, context)?;
    let (id, hash) = (broken.request.id, broken.request.hash());
    let mut report = GlassReport {
        id,
        requesting: broken.request.requesting.clone(),
        source: broken.request.source.clone(),
        patient: broken.request.patient,
        clinician: broken.clinician.name.clone(),
        second: None,
        until: broken.request.until,
        given: None,
        verdict: None,
        steps: vec![step((BreakGlass::TYPE, envelope), hash, broken.request.issued, &federation)],
    };
    answers(&file, &broken, &hash, EmergencyScope::Subset, context, &mut report)?;
    for envelope in envelopes(&file, BreakGlassMore::TYPE) {
        let kid = peek_kid(envelope).map_err(|found| fault(BreakGlassMore::TYPE, found.code()))?;
        let member = federation.member(&broken.request.requesting);
        let key = member.map_err(|code| fault(BreakGlassMore::TYPE, code))?.key(&kid);
        let more = rules::break_glass_more(envelope, &broken, &key, true, verifier);
        let (more, second) = more.map_err(|code| fault(BreakGlassMore::TYPE, code))?;
        report.steps.push(step((BreakGlassMore::TYPE, envelope), more.hash(), more.issued, &federation));
        report.second = Some(second.name);
        answers(&file, &broken, &more.hash(), EmergencyScope::Everything, context, &mut report)?;
    }
    for envelope in envelopes(&file, BreakGlassReview::TYPE) {
        let review = rules::break_glass_review(envelope, &broken.request, context);
        let review = review.map_err(|code| fault(BreakGlassReview::TYPE, code))?;
        report.steps.push(step(
            (BreakGlassReview::TYPE, envelope),
            review.hash(),
            review.issued,
            &federation,
        ));
        report.verdict = Some(review.verdict);
    }
    // Whatever was not verified, because it belongs elsewhere or stands twice, refuses the whole.
    if report.steps.len() != file.artefacts.len() {
        return Err(fault("file", Code::EvidenceMissing));
    }
    Ok(report)
}

fn asked<'f>(file: &'f TransferFile, context: Context<'_>) -> Result<(Broken, &'f [u8]), VerifyError> {
    let asked_fault = |code| fault(BreakGlass::TYPE, code);
    let envelope =
        envelopes(file, BreakGlass::TYPE).next().ok_or_else(|| asked_fault(Code::EvidenceMissing))?;
    let claimed = Countersigned::<BreakGlass>::read(envelope).map_err(|found| asked_fault(found.code()))?;
    let member = context.federation.member(&claimed.claim().requesting).map_err(asked_fault)?;
    let key = member.key(claimed.kids().1);
    let broken = rules::break_glass(envelope, &key, true, context.verifier).map_err(asked_fault)?;
    Ok((broken, envelope))
}

/// The answer to what was asked with `asked`, if the file has it.
fn answers(
    file: &TransferFile,
    broken: &Broken,
    asked: &Digest,
    scope: EmergencyScope,
    context: Context<'_>,
    report: &mut GlassReport,
) -> Result<(), VerifyError> {
    let answer_fault = |code| fault(BreakGlassAnswer::TYPE, code);
    for envelope in envelopes(file, BreakGlassAnswer::TYPE) {
        let claim = Signed::<BreakGlassAnswer>::read(envelope).map_err(|found| answer_fault(found.code()))?;
        if claim.claim().asked != *asked {
            continue;
        }
        let answer =
            rules::break_glass_answer(envelope, &broken.request, asked, context).map_err(answer_fault)?;
        if answer.given.is_some() {
            if answer.scope != scope {
                return Err(answer_fault(Code::BreakGlassMismatch));
            }
            report.given = Some(scope);
        }
        report.steps.push(step(
            (BreakGlassAnswer::TYPE, envelope),
            answer.hash(),
            answer.issued,
            context.federation,
        ));
    }
    Ok(())
}

fn step(
    (artefact, envelope): (&str, &[u8]),
    hash: Digest,
    issued: Timestamp,
    federation: &Federation,
) -> StepReport {
    let is_replaced = peek_kid(envelope).is_ok_and(|kid| federation.is_former(&kid));
    StepReport { artefact: artefact.to_owned(), hash, issued: Some(issued), attempt: None, is_replaced }
}

/// Envelopes of a type, with one signature or two.
fn envelopes<'f>(file: &'f TransferFile, label: &'static str) -> impl Iterator<Item = &'f [u8]> {
    file.artefacts
        .iter()
        .map(AsRef::as_ref)
        .filter(move |content| peek_type(content).is_ok_and(|found| found.split('+').next() == Some(label)))
}
