//! `check`: every cell, every version, every blob, every secret that can be forgotten and the audit chain. Forgetting
//! that was interrupted is completed first.

use handover_records::{Action, Purpose};
use serde::{Deserialize, Serialize};

use super::{Event, Events};
use crate::Node;
use crate::error::NodeError;

/// What a check found.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Checked {
    /// Whether nothing is wrong.
    pub whole: bool,
    /// Cells of the store.
    pub cells: u64,
    /// Cells that do not open.
    pub damaged_cells: u64,
    /// The first of them, by key, in hexadecimal digits.
    pub damaged_keys: Vec<String>,
    /// Patients.
    pub patients: u64,
    /// Records.
    pub records: u64,
    /// Versions of records.
    pub versions: u64,
    /// Blobs.
    pub blobs: u64,
    /// Bytes of all versions in plain.
    pub bytes: u64,
    /// Input kept aside.
    pub kept_aside: u64,
    /// Secrets that can be forgotten; each opens under its epoch's key.
    pub secrets: u64,
    /// Patients whose forgetting was interrupted and is complete now.
    pub forgetting_completed: u64,
    /// Patients who are being forgotten at this moment.
    pub being_forgotten: u64,
    /// Lines of the audit log.
    pub audit_lines: u64,
    /// The first line that does not follow.
    pub audit_broken_at: Option<u64>,
    /// Record versions, kept-aside input and secrets that do not open.
    pub faults: u64,
    /// The first of them with their codes.
    pub faulty: Vec<String>,
    /// Repairs that the store has been through, the oldest first: when, and what was known to be gone.
    pub repairs: Vec<String>,
}

/// Faulty versions that are named.
const NAMED_FAULTS: usize = 100;

pub(super) async fn check(node: &Node, staff: &str, events: &Events) -> Result<Checked, NodeError> {
    let permit = node.permit(staff, Action::Check, Purpose::Administration, None).await?;
    let forgetting_completed = super::forgetting::complete(node).await?.len() as u64;
    let tell = |done: u64| events.mention(Event::Progress { done, total: None });
    let store = node.store.check(|progress| tell(progress.cells)).await?;
    let repairs = node.store.repairs().await?;
    let cells = store.counts.cells;
    let report =
        node.records.check(&permit, node.now(), |report| tell(cells.saturating_add(report.versions))).await?;
    Ok(Checked {
        whole: store.counts.damaged == 0 && report.is_whole(),
        cells,
        damaged_cells: store.counts.damaged,
        damaged_keys: store.damaged_keys.iter().map(hex::encode).collect(),
        patients: report.patients,
        records: report.records,
        versions: report.versions,
        blobs: report.blobs,
        bytes: report.bytes,
        kept_aside: report.quarantined,
        secrets: report.secrets,
        forgetting_completed,
        being_forgotten: report.being_forgotten,
        audit_lines: report.audit_lines,
        audit_broken_at: report.audit_broken_at,
        faults: report.fault_count,
        faulty: report
            .faults
            .iter()
            .take(NAMED_FAULTS)
            .map(|(reference, code)| format!("{reference} {code}"))
            .collect(),
        repairs: repairs.iter().map(ToString::to_string).collect(),
    })
}
