//! The FHIR Provenance that says where received records came from, and under which transfer.

use handover_core::{Department, Digest, TransferId};
use handover_dossier::Row;
use handover_records::{LocalPatient, NewContent, NewRecord, Origin, RecordSummary};

use crate::ExchangeError;
use crate::manifest::Head;
use handover_core::Code;

/// Where Provenance is filed.
const DEPARTMENT: &str = "administration";
const RESOURCE_TYPE: &str = "Provenance";

/// Whether a record is the Provenance that filing a transfer added here.
pub(crate) fn is_of_filing(record: &RecordSummary) -> bool {
    let is_of = |transfer: &TransferId| record.resource_id == transfer.to_string();
    record.resource_type == RESOURCE_TYPE
        && matches!(&record.origin, Origin::Received { transfer, .. } if is_of(transfer))
}

/// The Provenance of one transfer (FHIR R4, 6.3): its targets are the received resources, its agent is the source.
/// The same transfer always gives the same bytes, so filing again changes nothing.
pub(crate) fn record(
    row: &Row,
    patient: &LocalPatient,
    head: &Head,
    targets: &[String],
) -> Result<NewRecord, ExchangeError> {
    let recorded = row.created.to_string();
    let targets: Vec<_> = targets.iter().map(|target| serde_json::json!({ "reference": target })).collect();
    let json = serde_json::json!({
        "resourceType": RESOURCE_TYPE,
        "id": row.transfer.to_string(),
        "target": targets,
        "recorded": recorded,
        "activity": { "coding": [{
            "system": "http://terminology.hl7.org/CodeSystem/v3-DataOperation", "code": "CREATE"
        }]},
        "agent": [{
            "type": { "coding": [{
                "system": "http://terminology.hl7.org/CodeSystem/provenance-participant-type", "code": "custodian"
            }]},
            "who": { "identifier": { "system": "urn:handover:hospital", "value": row.source.as_str() } }
        }],
        "entity": [{
            "role": "source",
            "what": { "identifier": { "system": "urn:handover:consent", "value": head.consent.to_string() } }
        }]
    })
    .to_string();
    let department: Department = DEPARTMENT.parse().map_err(|_| Code::Internal)?;
    Ok(NewRecord {
        patient: patient.clone(),
        department,
        resource_type: RESOURCE_TYPE.to_owned(),
        resource_id: row.transfer.to_string(),
        content_hash: Digest::sha256(&[json.as_bytes()]),
        date: None,
        is_restricted: false,
        file: None,
        content: NewContent::Bytes(json.into_bytes()),
        origin: Origin::Received {
            source: row.source.clone(),
            origin: row.source.clone(),
            transfer: row.transfer,
        },
        mark: None,
        found_by: Vec::new(),
    })
}
