//! What an import did, counted.

use std::collections::{BTreeMap, BTreeSet};

use handover_records::{Filed, NewRecord};
use serde::{Deserialize, Serialize};

use super::HOSPITAL_WIDE;

/// Patients that are named; all are filed.
pub(super) const NAMED_PATIENTS: usize = 1_000;

/// What an import did.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Imported {
    /// Files that were read.
    pub files: u64,
    /// Records by what became of them.
    pub records: RecordCounts,
    /// Input that could not be read.
    pub kept_aside: u64,
    /// Records that were read, by department.
    pub departments: BTreeMap<String, u64>,
    /// Patients whose records were read, the first 1,000 in order.
    pub patients: BTreeSet<String>,
    /// Records that belong to no patient.
    pub hospital_wide: u64,
    /// Files of which nothing could be read.
    pub unreadable_files: Vec<String>,
    /// Patients that others have replaced, as the files say, the first 1,000. Nothing follows from it by itself.
    pub merged: Vec<Merged>,
    /// How many more such words of the files there are that are not named.
    pub merged_unnamed: u64,
}

/// A patient whom another has replaced (FHIR R4, `Patient.link`), and who was sent records under the old number.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Merged {
    /// Who was replaced.
    pub patient: String,
    /// By whom.
    pub replaced_by: String,
    /// What was sent of the one who was replaced.
    pub sent: Vec<SentBefore>,
    /// The command that recalls it, if the records are another person's; none if nothing was sent.
    pub recall: Option<String>,
    /// Why it could not be looked up what was sent; what is said of it is missing then. That command tells it later.
    pub not_looked_up: Option<String>,
}

/// What one transfer sent.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SentBefore {
    /// The transfer.
    pub transfer: String,
    /// To whom.
    pub hospital: String,
    /// How many records.
    pub records: usize,
}

/// Records by what became of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordCounts {
    /// Not here before.
    pub new: u64,
    /// Here already, as they are.
    pub unchanged: u64,
    /// Here with other content or in another department.
    pub new_versions: u64,
    /// Like an earlier version, which is the current one again.
    pub current_again: u64,
}

impl RecordCounts {
    /// All of them.
    #[must_use]
    pub const fn all(&self) -> u64 {
        self.new + self.unchanged + self.new_versions + self.current_again
    }
}

impl Imported {
    pub(super) fn count(&mut self, records: &[NewRecord]) {
        for record in records {
            let department = record.department.as_str();
            match self.departments.get_mut(department) {
                Some(count) => *count += 1,
                None => drop(self.departments.insert(department.to_owned(), 1)),
            }
            let patient = record.patient.as_str();
            if patient == HOSPITAL_WIDE {
                self.hospital_wide += 1;
            } else if self.patients.len() < NAMED_PATIENTS && !self.patients.contains(patient) {
                self.patients.insert(patient.to_owned());
            }
        }
    }

    pub(super) fn count_filed(&mut self, filed: &[Filed]) {
        for one in filed {
            match one {
                Filed::New => self.records.new += 1,
                Filed::Unchanged => self.records.unchanged += 1,
                Filed::NewVersion(_) => self.records.new_versions += 1,
                Filed::CurrentAgain(_) => self.records.current_again += 1,
            }
        }
    }
}
