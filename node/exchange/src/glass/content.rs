//! What is given out: a FHIR Bundle of the emergency subset, or of everything that fits.
//!
//! What a security label restricts is in it: an interaction with a medicine that was left out kills. What was retracted
//! or is of another patient is not. What is left out for its size, and every file, is named in an OperationOutcome.

use handover_core::artefact::break_glass::{EmergencyPurpose, EmergencyScope};
use handover_core::artefact::recall::RecallReason;
use handover_core::{Timestamp, artefact};
use handover_ingest::person;
use handover_records::{Filter, LocalPatient, Permit, RecordSummary};
use handover_seal::Zeroizing;
use serde_json::json;

use crate::ExchangeError;
use crate::context::Inner;

/// Who the patient is, allergies, medication, problems; in this order.
const SUBSET: [&str; 7] = [
    person::TYPE,
    "AllergyIntolerance",
    "MedicationStatement",
    "MedicationRequest",
    "MedicationAdministration",
    "Medication",
    "Condition",
];
/// The most bytes of one record.
const RECORD_MAX_BYTES: u64 = 1024 * 1024;
/// The most bytes of all.
const ALL_MAX_BYTES: usize = 12 * 1024 * 1024;
/// Records that are named as left out.
const NAMED_MAX: usize = 1_000;
/// HL7 v3 ActReason, which holds PurposeOfUse.
const PURPOSE_SYSTEM: &str = "http://terminology.hl7.org/CodeSystem/v3-ActReason";

const _: () = assert!(
    ALL_MAX_BYTES + 1024 * 1024 < artefact::break_glass::PIECE_MAX_BYTES * artefact::break_glass::PIECES_MAX
);

/// The Bundle, as JSON; nothing, if there is nothing to put into it.
pub(super) async fn bundle(
    inner: &Inner,
    permit: &Permit,
    patient: &LocalPatient,
    (scope, purpose): (EmergencyScope, EmergencyPurpose),
    now: Timestamp,
) -> Result<Option<Zeroizing<Vec<u8>>>, ExchangeError> {
    let records = &inner.parts.records;
    let mut wanted = records.snapshot(permit, now, patient, &Filter::default()).await?;
    wanted.retain(|record| is_wanted(record, scope));
    // What matters most first, then the newest: what does not fit is the oldest of the rest.
    wanted.sort_by_key(|it| (rank(&it.resource_type), std::cmp::Reverse(it.date), it.reference));
    // Room for everything at once: a buffer that grows leaves copies behind.
    let room = wanted.iter().filter(|it| is_small(it)).fold(4_096, |sum, it| {
        usize::try_from(it.bytes).unwrap_or(usize::MAX).saturating_add(16).saturating_add(sum)
    });
    let mut out = Zeroizing::new(Vec::with_capacity(room.min(ALL_MAX_BYTES + 256 * 1024)));
    let head = json!({ "security": [{ "system": PURPOSE_SYSTEM, "code": purpose.as_str() }] });
    out.extend_from_slice(
        format!(
            r#"{{"resourceType":"Bundle","type":"collection","timestamp":"{now}","meta":{head},"entry":["#
        )
        .as_bytes(),
    );
    let (mut left_out, mut is_first) = (Vec::new(), true);
    for record in wanted {
        if !is_small(&record) {
            left_out.push(record);
            continue;
        }
        let (record, content) = records.read(permit, now, record.reference).await?;
        let json = content.bytes(RECORD_MAX_BYTES).await?;
        if out.len().saturating_add(json.len()) > ALL_MAX_BYTES {
            left_out.push(record);
            continue;
        }
        put(&mut out, &mut is_first, &json);
    }
    if !left_out.is_empty() {
        put(&mut out, &mut is_first, outcome(&left_out).as_bytes());
    }
    out.extend_from_slice(b"]}");
    Ok((!is_first).then_some(out))
}

fn put(out: &mut Vec<u8>, is_first: &mut bool, resource: &[u8]) {
    if !std::mem::take(is_first) {
        out.push(b',');
    }
    out.extend_from_slice(br#"{"resource":"#);
    out.extend_from_slice(resource);
    out.push(b'}');
}

/// The place of a type in the subset; everything else comes after it.
fn rank(resource_type: &str) -> usize {
    SUBSET.iter().position(|it| *it == resource_type).unwrap_or(SUBSET.len())
}

/// Whether it is said not to be so, or not to be of this patient.
pub(super) fn is_false(record: &RecordSummary) -> bool {
    let mark = record.mark.as_ref();
    mark.is_some_and(|mark| matches!(mark.reason, RecallReason::Retracted | RecallReason::WrongPatient))
}

fn is_wanted(record: &RecordSummary, scope: EmergencyScope) -> bool {
    !is_false(record)
        && (scope == EmergencyScope::Everything || SUBSET.contains(&record.resource_type.as_str()))
}

fn is_small(record: &RecordSummary) -> bool {
    record.file.is_none() && record.bytes <= RECORD_MAX_BYTES
}

/// Names what is left out, by type, name and size.
fn outcome(left_out: &[RecordSummary]) -> String {
    let issue = |record: &RecordSummary| {
        let name = record.file.as_ref().map_or(record.resource_id.as_str(), |file| file.name.as_str());
        let text = format!(
            "{} {name}, {} bytes, is not part of this: a transfer brings it",
            record.resource_type, record.bytes
        );
        json!({ "severity": "information", "code": "incomplete", "diagnostics": text })
    };
    let mut issues: Vec<_> = left_out.iter().take(NAMED_MAX).map(issue).collect();
    let more = left_out.len().saturating_sub(NAMED_MAX);
    if more > 0 {
        let text = format!("and {more} more");
        issues.push(json!({ "severity": "information", "code": "incomplete", "diagnostics": text }));
    }
    json!({ "resourceType": "OperationOutcome", "issue": issues }).to_string()
}
