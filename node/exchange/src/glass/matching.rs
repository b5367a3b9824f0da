//! Finding the one patient who is asked for. Nobody and several are the same: neither says who is a patient here.

use handover_core::Code;
use handover_core::artefact::break_glass::{BreakGlass, BreakGlassDetails, Demographics};
use handover_ingest::person::{self, Wanted};
use handover_records::{Action, Filter, LocalPatient, Origin, PAGE_MAX, Purpose, RecordSummary, Subject};

use super::content::is_false;
use super::grant;
use crate::ExchangeError;
use crate::context::Inner;

/// Patients of one family name and birth date; more of them are nobody.
const CANDIDATES_MAX: usize = 20;
/// The most bytes of a Patient resource that is looked into.
const RESOURCE_MAX_BYTES: u64 = 1024 * 1024;
/// Who looks, for the audit log.
const COMPONENT: &str = "break-glass";

/// The one patient here who is asked for, if there is exactly one.
pub(super) async fn find(
    inner: &Inner,
    request: &BreakGlass,
    details: &BreakGlassDetails,
) -> Result<Option<LocalPatient>, ExchangeError> {
    let records = &inner.parts.records;
    if let Some(patient) = request.patient {
        return Ok(records.by_ref(patient).await?.map(|linked| linked.patient));
    }
    let who = details.demographics.as_ref().ok_or(Code::BreakGlassMismatch)?;
    let wanted = wanted(who);
    let candidates = records.found_by(&wanted.word(), CANDIDATES_MAX + 1).await?;
    if candidates.len() > CANDIDATES_MAX {
        return Ok(None);
    }
    let mut found = None;
    for patient in candidates {
        if fits(inner, request, &patient, &wanted).await? && found.replace(patient).is_some() {
            return Ok(None);
        }
    }
    Ok(found)
}

fn wanted(who: &Demographics) -> Wanted<'_> {
    Wanted {
        family: &who.family,
        given: &who.given,
        birth_date: &who.birth_date,
        sex: who.sex.map(|sex| sex.as_str()),
        record_number: who.record_number.as_deref(),
    }
}

/// Whether what the records say now of a patient fits; each look leaves its audit line.
async fn fits(
    inner: &Inner,
    request: &BreakGlass,
    patient: &LocalPatient,
    wanted: &Wanted<'_>,
) -> Result<bool, ExchangeError> {
    let (records, now) = (&inner.parts.records, inner.now());
    let subject = Subject::System(COMPONENT.to_owned());
    let look = (Action::Read, Purpose::Emergency);
    let permit = grant(subject, look, Some(patient.clone()), Some(request.id));
    let permit = records.audit().permit(permit, now).await?;
    let mut after = None;
    loop {
        let page = records.list(&permit, now, patient, &Filter::default(), after, PAGE_MAX).await?;
        for record in page.iter().filter(|record| is_person(record)) {
            let (_, content) = records.read(&permit, now, record.reference).await?;
            let json = content.bytes(RESOURCE_MAX_BYTES).await?;
            if person::fits(&json, patient.as_str(), wanted) {
                return Ok(true);
            }
        }
        after = page.last().map(|record| record.reference);
        if page.len() < PAGE_MAX {
            return Ok(false);
        }
    }
}

/// Whether a record says who the patient is. Only what this hospital made itself decides that, and only as long as it is
/// not said to be false.
fn is_person(record: &RecordSummary) -> bool {
    record.resource_type == person::TYPE
        && record.file.is_none()
        && record.bytes <= RESOURCE_MAX_BYTES
        && record.origin == Origin::Local
        && !is_false(record)
}
