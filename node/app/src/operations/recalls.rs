//! Recalls: what this hospital sent and takes back, and what it was sent and is marked here.

use std::collections::BTreeSet;

use handover_core::artefact::recall::RecallReason;
use handover_core::{Code, TransferId};
use handover_exchange::{Planned, RecallWish, Recalled, RecalledName};
use handover_records::{Action, Purpose, RecordId};
use serde::{Deserialize, Serialize};

use super::patients::local;
use crate::Node;
use crate::error::NodeError;

/// A record as a package named it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RecordNamed {
    /// The hospital that made it.
    pub origin: String,
    /// FHIR resource type.
    #[serde(rename = "type")]
    pub resource_type: String,
    /// The resource's id.
    pub id: String,
}

/// A recall.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RecallShown {
    /// Its hash, by which the ledger names it.
    pub recall: String,
    /// The transfer.
    pub transfer: String,
    /// Its number in the transfer.
    pub number: u32,
    /// `sent` or `received`.
    pub direction: String,
    /// The other hospital.
    pub hospital: String,
    /// The hospital's own identifier of the patient; null once they are forgotten.
    pub patient: Option<String>,
    /// `amended`, `retracted` or `wrong-patient`; null once the patient is forgotten.
    pub reason: Option<String>,
    /// Which records.
    pub records: Vec<RecordNamed>,
    /// How many tests that were not sent, and that the fee was made of.
    pub other_tests: u32,
    /// What is given back of the fee.
    pub fee_back: String,
    /// ISO 4217.
    pub currency: String,
    /// What the destination computes from the lines, if that is another amount.
    pub fee_differs: Option<String>,
    /// When it was made (RFC 3339).
    pub issued: String,
    /// Since when it is marked at the destination; null until that has said so.
    pub marked: Option<String>,
}

/// All recalls.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RecallsListed {
    /// By transfer, oldest first.
    pub recalls: Vec<RecallShown>,
}

/// What a hospital was sent of what is recalled.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RecalledFrom {
    /// The transfer.
    pub transfer: String,
    /// The hospital.
    pub hospital: String,
    /// Which of the records.
    pub records: Vec<RecordNamed>,
    /// How many tests that were not sent, and that the fee was made of.
    pub other_tests: u32,
    /// What the recalls of them give back of the fee; without one, what it will be.
    pub fee_back: String,
    /// ISO 4217.
    pub currency: String,
    /// The recalls of them. Until the records have been released there is none; then it follows by itself.
    pub recalls: Vec<RecallShown>,
}

/// What recalling comes to.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RecallMade {
    /// The hospital's own identifier of the patient.
    pub patient: String,
    /// `retracted` or `wrong-patient`.
    pub reason: String,
    /// Whether nothing was done.
    pub preview: bool,
    /// Every hospital that was sent the records.
    pub hospitals: Vec<RecalledFrom>,
}

impl RecordNamed {
    fn of(name: RecalledName) -> Self {
        Self { origin: name.origin.to_string(), resource_type: name.resource_type, id: name.resource_id }
    }
}

impl RecallShown {
    fn of(recalled: Recalled) -> Self {
        let differs = recalled.fee_computed.filter(|computed| *computed != recalled.fee_back);
        Self {
            recall: recalled.hash.to_string(),
            transfer: recalled.transfer.to_string(),
            number: recalled.number,
            direction: if recalled.is_sent { "sent" } else { "received" }.to_owned(),
            hospital: recalled.other.to_string(),
            patient: recalled.patient.map(|patient| patient.to_string()),
            reason: recalled.reason.map(|reason| reason.to_string()),
            records: recalled.records.into_iter().map(RecordNamed::of).collect(),
            other_tests: recalled.other_tests,
            fee_back: recalled.fee_back.to_decimal_string(),
            currency: recalled.fee_back.currency().to_string(),
            fee_differs: differs.map(|computed| computed.to_decimal_string()),
            issued: recalled.issued.to_string(),
            marked: recalled.marked.map(|marked| marked.to_string()),
        }
    }
}

impl RecalledFrom {
    fn of(planned: Planned) -> Self {
        Self {
            transfer: planned.transfer.to_string(),
            hospital: planned.destination.to_string(),
            records: planned.records.into_iter().map(RecordNamed::of).collect(),
            other_tests: planned.other_tests,
            fee_back: planned.fee_back.to_decimal_string(),
            currency: planned.fee_back.currency().to_string(),
            recalls: planned.recalls.into_iter().map(RecallShown::of).collect(),
        }
    }
}

pub(super) async fn make(
    node: &Node,
    staff: &str,
    (patient, records): (&str, &[String]),
    (reason, transfer): (&str, Option<TransferId>),
    preview: bool,
) -> Result<RecallMade, NodeError> {
    let usage =
        |fault: handover_core::id::InvalidId| NodeError::refused(Code::UsageInvalid, fault.to_string());
    let records: BTreeSet<RecordId> =
        records.iter().map(|record| record.parse()).collect::<Result<_, _>>().map_err(usage)?;
    let reason: RecallReason = reason.parse().map_err(usage)?;
    let wish = RecallWish { patient: local(patient)?, records, reason, transfer };
    let planned = node.exchange.recall(staff, wish, preview).await?;
    Ok(RecallMade {
        patient: patient.to_owned(),
        reason: reason.to_string(),
        preview,
        hospitals: planned.into_iter().map(RecalledFrom::of).collect(),
    })
}

pub(super) async fn list(node: &Node, staff: &str) -> Result<RecallsListed, NodeError> {
    // Names of everybody's records: on a permit, as every list of patients, so with an audit line.
    node.permit(staff, Action::ListPatients, Purpose::Administration, None).await?;
    let recalls = node.exchange.recalls().await?;
    Ok(RecallsListed { recalls: recalls.into_iter().map(RecallShown::of).collect() })
}
