//! A mark on a record version: whoever sent it, or this hospital of its own, has said that it is wrong.
//!
//! Pure data. What is marked stays as it was filed; the mark is shown with it, and the gravest word stands.

use handover_core::artefact::recall::RecallReason;
use handover_core::{HospitalId, Timestamp};

/// What is said of a version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark {
    /// Why it is wrong.
    pub reason: RecallReason,
    /// Who says so.
    pub by: HospitalId,
    /// Since when it is marked here.
    pub since: Timestamp,
    /// When the newer version was recorded, if there is one.
    pub replaced: Option<Timestamp>,
}

impl Mark {
    /// Whether this says more than what stands already.
    pub(crate) fn is_graver_than(&self, standing: Option<&Self>) -> bool {
        standing.is_none_or(|standing| self.reason > standing.reason)
    }
}
