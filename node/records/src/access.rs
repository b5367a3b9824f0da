//! Who may do what, and for what purpose: one small table.
//!
//! Pure: it knows no store and no clock. Whether a patient is the one whose records are asked for is checked where
//! the links are, when the audit line is written ([`crate::Audit::permit`]).

use std::collections::BTreeSet;

use handover_core::time::{HOUR_MS, MINUTE_MS};
use handover_core::{Department, HospitalId, PatientRef, cbor_enum};

/// How long a permit to look at something lasts.
pub const LOOK_PERMIT_MS: i64 = 5 * MINUTE_MS;
/// How long a permit for a run (an import, a transfer's sealing or filing, a check) lasts.
pub const RUN_PERMIT_MS: i64 = 6 * HOUR_MS;

/// Who acts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subject {
    /// A person who works here.
    Staff {
        /// The account's name.
        name: String,
    },
    /// A part of this node that acts by itself, for example `exchange`.
    System(String),
    /// A patient, known by their signature.
    Patient(PatientRef),
    /// Another hospital, known by its signature.
    Hospital(HospitalId),
}

impl Subject {
    /// A person who works here.
    #[must_use]
    pub fn staff(name: &str) -> Self {
        Self::Staff { name: name.to_owned() }
    }
}

cbor_enum! {
    /// What for.
    pub enum Purpose {
        /// Bringing the hospital's own records in.
        Import = 1, "import";
        /// Treating the patient.
        Treatment = 2, "treatment";
        /// A transfer between hospitals.
        Transfer = 3, "transfer";
        /// The patient looks at what is theirs.
        PatientAccess = 4, "patient-access";
        /// Running the place.
        Administration = 5, "administration";
        /// An emergency, without the patient.
        Emergency = 65, "emergency";
    }
}

cbor_enum! {
    /// What is done.
    pub enum Action {
        /// Filing the hospital's own records.
        Import = 1, "import";
        /// Filing received records.
        File = 2, "file";
        /// Listing patients.
        ListPatients = 3, "list-patients";
        /// Listing a patient's records, without their content.
        List = 4, "list";
        /// Reading a patient's records.
        Read = 5, "read";
        /// Reading a patient's records to quote or send them.
        Export = 6, "export";
        /// Registering and linking patients.
        Link = 7, "link";
        /// Looking after input that was kept aside.
        Quarantine = 8, "quarantine";
        /// Reading the audit log.
        Audit = 9, "audit";
        /// Checking that everything stored opens.
        Check = 10, "check";
        /// Forgetting a patient.
        Forget = 11, "forget";
        /// Rotating the epoch, which completes what was forgotten.
        Rotate = 12, "rotate";
        /// Referring a patient to another hospital, or withdrawing that.
        Refer = 13, "refer";
        /// Taking a patient's link away.
        Unlink = 50, "unlink";
        /// Catching up with what others hold, because the store was restored from a backup.
        Rejoin = 80, "rejoin";
        /// Marking records that were recalled, and recalling them from others.
        Recall = 45, "recall";
        /// Asking another hospital in an emergency, or being asked.
        BreakGlass = 65, "break-glass";
        /// Reading what came in an emergency.
        ReadEmergency = 66, "read-emergency";
        /// Looking after break-glasses: their reviews, and telling patients.
        ReviewEmergency = 67, "review-emergency";
        /// Certifying clinicians, and withdrawing that.
        Certify = 68, "certify";
        /// Repairing a damaged store.
        Repair = 70, "repair";
        /// Holding the index's books against this hospital's evidence.
        Reconcile = 75, "reconcile";
    }
}

/// A set of departments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Departments {
    /// Every one, also those that come later.
    All,
    /// These.
    Only(BTreeSet<Department>),
}

impl Departments {
    /// Whether `department` is in it.
    #[must_use]
    pub fn contains(&self, department: &Department) -> bool {
        match self {
            Self::All => true,
            Self::Only(departments) => departments.contains(department),
        }
    }
}

impl FromIterator<Department> for Departments {
    fn from_iter<I: IntoIterator<Item = Department>>(departments: I) -> Self {
        Self::Only(departments.into_iter().collect())
    }
}

/// Why something is not allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AccessDenied {
    /// No rule allows this subject the action for the purpose.
    #[error("not allowed with this role and purpose")]
    NotAllowed,
    /// No department was named.
    #[error("no department was named")]
    NoDepartment,
    /// The action is on one patient and none was named.
    #[error("no patient was named")]
    NoPatient,
    /// A patient asked for records that are not linked to them.
    #[error("not linked to these records")]
    NotLinked,
    /// The permit is not valid at this time.
    #[error("the permit has expired")]
    Expired,
    /// The permit is for another action.
    #[error("the permit is for another action")]
    WrongAction,
    /// The permit is for another patient.
    #[error("the permit is for another patient")]
    WrongPatient,
    /// The permit is for other departments.
    #[error("the permit is for other departments")]
    WrongDepartment,
}

/// What the table allows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// The action.
    pub action: Action,
    /// The purpose.
    pub purpose: Purpose,
    /// The departments.
    pub departments: Departments,
    /// How long a permit from it lasts, in milliseconds.
    pub lasts_ms: i64,
}

/// What a subject is, for the table.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Role {
    Staff,
    System,
    Patient,
    Hospital,
}

/// Everything that is allowed; what is not here is not.
const TABLE: &[(Role, Purpose, &[Action])] = {
    use Action as A;
    use Purpose as P;
    &[
        (Role::Staff, P::Import, &[A::Import, A::Quarantine]),
        (Role::Staff, P::Treatment, &[A::ListPatients, A::List, A::Read]),
        (
            Role::Staff,
            P::Administration,
            &[
                A::ListPatients,
                A::List,
                A::Link,
                A::Audit,
                A::Check,
                A::Repair,
                A::Forget,
                A::Rotate,
                A::Refer,
                A::Unlink,
                A::Recall,
                A::ReviewEmergency,
                A::Certify,
                A::Reconcile,
                A::Rejoin,
            ],
        ),
        (Role::Staff, P::Emergency, &[A::BreakGlass, A::ReadEmergency]),
        (Role::System, P::Import, &[A::Import, A::Quarantine]),
        (Role::System, P::Transfer, &[A::List, A::Export, A::File, A::Recall]),
        (Role::System, P::Administration, &[A::ListPatients, A::Check, A::Reconcile, A::Rejoin]),
        (Role::Patient, P::PatientAccess, &[A::List, A::Read, A::Link]),
        (Role::Hospital, P::Transfer, &[A::List, A::Export, A::File, A::Recall]),
        (Role::System, P::Emergency, &[A::Read]),
        (Role::Hospital, P::Emergency, &[A::BreakGlass, A::Export]),
    ]
};

/// Whether `subject` may do `action` for `purpose` in `departments`.
///
/// # Errors
/// [`AccessDenied::NotAllowed`], [`AccessDenied::NoDepartment`].
pub fn decide(
    subject: &Subject,
    action: Action,
    departments: &Departments,
    purpose: Purpose,
) -> Result<Grant, AccessDenied> {
    let role = match subject {
        Subject::Staff { .. } => Role::Staff,
        Subject::System(_) => Role::System,
        Subject::Patient(_) => Role::Patient,
        Subject::Hospital(_) => Role::Hospital,
    };
    let is_allowed = TABLE
        .iter()
        .any(|(who, what_for, actions)| *who == role && *what_for == purpose && actions.contains(&action));
    if !is_allowed {
        return Err(AccessDenied::NotAllowed);
    }
    if matches!(departments, Departments::Only(named) if named.is_empty()) {
        return Err(AccessDenied::NoDepartment);
    }
    let lasts_ms = match action {
        Action::ListPatients
        | Action::List
        | Action::Read
        | Action::Link
        | Action::Audit
        | Action::Refer
        | Action::Unlink
        | Action::BreakGlass
        | Action::ReadEmergency
        | Action::ReviewEmergency
        | Action::Certify
        | Action::Reconcile
        | Action::Rejoin => LOOK_PERMIT_MS,
        Action::Import
        | Action::File
        | Action::Export
        | Action::Quarantine
        | Action::Check
        | Action::Repair
        | Action::Forget
        | Action::Rotate
        | Action::Recall => RUN_PERMIT_MS,
    };
    Ok(Grant { action, purpose, departments: departments.clone(), lasts_ms })
}

/// Whether an action is on one patient, who must be named.
#[must_use]
pub const fn needs_patient(action: Action) -> bool {
    match action {
        Action::List
        | Action::Read
        | Action::Export
        | Action::File
        | Action::Link
        | Action::Forget
        | Action::Refer
        | Action::Unlink
        | Action::Recall => true,
        Action::Import
        | Action::ListPatients
        | Action::Quarantine
        | Action::Audit
        | Action::Check
        | Action::Repair
        | Action::Rotate
        | Action::BreakGlass
        | Action::ReadEmergency
        | Action::ReviewEmergency
        | Action::Certify
        | Action::Reconcile
        | Action::Rejoin => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_holds() {
        let staff = Subject::staff("meyer");
        let patient = Subject::Patient(PatientRef::from_bytes([1; 32]));
        let hospital = Subject::Hospital("lakeside".parse().unwrap());
        let system = Subject::System("exchange".into());
        let cases = [
            (&staff, Action::Read, Purpose::Treatment, true),
            (&staff, Action::Read, Purpose::Administration, false),
            (&staff, Action::Export, Purpose::Transfer, false),
            (&staff, Action::Read, Purpose::Import, false),
            (&staff, Action::Forget, Purpose::Administration, true),
            (&staff, Action::Forget, Purpose::Treatment, false),
            (&patient, Action::Forget, Purpose::PatientAccess, false),
            (&staff, Action::Refer, Purpose::Administration, true),
            (&staff, Action::Recall, Purpose::Administration, true),
            (&staff, Action::Recall, Purpose::Treatment, false),
            (&patient, Action::Recall, Purpose::PatientAccess, false),
            (&hospital, Action::Recall, Purpose::Transfer, true),
            (&patient, Action::Refer, Purpose::PatientAccess, false),
            (&staff, Action::Unlink, Purpose::Administration, true),
            (&patient, Action::Unlink, Purpose::PatientAccess, false),
            (&system, Action::Rotate, Purpose::Administration, false),
            (&patient, Action::Read, Purpose::PatientAccess, true),
            (&patient, Action::Read, Purpose::Treatment, false),
            (&patient, Action::ListPatients, Purpose::PatientAccess, false),
            (&hospital, Action::Export, Purpose::Transfer, true),
            (&hospital, Action::Read, Purpose::Transfer, false),
            (&hospital, Action::Import, Purpose::Import, false),
            (&system, Action::File, Purpose::Transfer, true),
            (&system, Action::Audit, Purpose::Administration, false),
            (&hospital, Action::Export, Purpose::Emergency, true),
            (&hospital, Action::Read, Purpose::Emergency, false),
            (&staff, Action::BreakGlass, Purpose::Emergency, true),
            (&staff, Action::BreakGlass, Purpose::Administration, false),
            (&staff, Action::ReadEmergency, Purpose::Treatment, false),
            (&staff, Action::ReviewEmergency, Purpose::Emergency, false),
            (&patient, Action::ReadEmergency, Purpose::Emergency, false),
            (&system, Action::Export, Purpose::Emergency, false),
        ];
        for (subject, action, purpose, is_allowed) in cases {
            let decided = decide(subject, action, &Departments::All, purpose);
            assert_eq!(decided.is_ok(), is_allowed, "{subject:?} {action} {purpose}");
        }
        assert_eq!(
            decide(&staff, Action::Read, &Departments::Only(BTreeSet::new()), Purpose::Treatment),
            Err(AccessDenied::NoDepartment)
        );
    }
}
