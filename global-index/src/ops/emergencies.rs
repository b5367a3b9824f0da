//! Break-glasses that hospitals told of, for operators.

use handover_core::HospitalId;
use serde::{Deserialize, Serialize};

use super::{Operations, OpsError};
use crate::emergency;

/// What hospitals told.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct EmergenciesView {
    /// The oldest first.
    pub(crate) notes: Vec<NoteView>,
}

/// What one hospital told of one break-glass.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct NoteView {
    pub(crate) break_glass: String,
    pub(crate) hash: String,
    pub(crate) requesting: HospitalId,
    /// Absent: it asked who holds the patient's records.
    pub(crate) source: Option<HospitalId>,
    pub(crate) patient: Option<String>,
    pub(crate) issued: String,
    pub(crate) told_by: HospitalId,
    pub(crate) told: String,
}

impl Operations {
    pub(super) async fn emergencies(&self) -> Result<EmergenciesView, OpsError> {
        let notes = emergency::newest(&self.desk.store, &self.desk.keys).await?;
        let view = |noted: emergency::Noted| NoteView {
            break_glass: noted.note.id.to_string(),
            hash: noted.note.break_glass.to_string(),
            requesting: noted.note.requesting,
            source: noted.note.source,
            patient: noted.note.patient.map(|patient| patient.to_string()),
            issued: noted.note.issued.to_string(),
            told_by: noted.teller,
            told: noted.since.to_string(),
        };
        Ok(EmergenciesView { notes: notes.into_iter().map(view).collect() })
    }
}
