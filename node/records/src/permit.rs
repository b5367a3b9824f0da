//! Permits: the token that every method which shows, files or exports something demands.
//!
//! Invariant: a permit exists only after its audit line is durable; only [`crate::Audit::permit`] makes one.

use handover_core::{BreakGlassId, Department, Timestamp, TransferId};

use crate::access::{AccessDenied, Action, Departments, Grant, Purpose, Subject};
use crate::model::{Filter, LocalPatient};

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GrantRequest {
    /// Who acts.
    pub subject: Subject,
    /// What is done.
    pub action: Action,
    /// What for.
    pub purpose: Purpose,
    /// On whom; absent: not on one patient.
    pub patient: Option<LocalPatient>,
    /// In which departments.
    pub departments: Departments,
    /// In which transfer, if in one.
    pub transfer: Option<TransferId>,
    /// In which break-glass, if in one.
    pub break_glass: Option<BreakGlassId>,
}

impl GrantRequest {
    /// In all departments, outside of transfers and break-glasses.
    #[must_use]
    pub const fn new(
        subject: Subject,
        action: Action,
        purpose: Purpose,
        patient: Option<LocalPatient>,
    ) -> Self {
        let departments = Departments::All;
        Self { subject, action, purpose, patient, departments, transfer: None, break_glass: None }
    }
}

/// Leave to do one action for one purpose, in some departments, on one patient (or not on one), until it expires.
#[derive(Clone, Debug)]
pub struct Permit {
    grant: Grant,
    patient: Option<LocalPatient>,
    line: u64,
    expires: Timestamp,
}

impl Permit {
    pub(crate) fn new(grant: Grant, patient: Option<LocalPatient>, line: u64, now: Timestamp) -> Self {
        let expires = now.plus_ms(grant.lasts_ms);
        Self { grant, patient, line, expires }
    }

    /// The number of its audit line.
    #[must_use]
    pub const fn audit_line(&self) -> u64 {
        self.line
    }

    /// Until when it is valid (exclusive).
    #[must_use]
    pub const fn expires(&self) -> Timestamp {
        self.expires
    }

    /// The purpose.
    #[must_use]
    pub const fn purpose(&self) -> Purpose {
        self.grant.purpose
    }

    /// The departments.
    #[must_use]
    pub const fn departments(&self) -> &Departments {
        &self.grant.departments
    }

    /// The patient, if it is on one.
    #[must_use]
    pub const fn patient(&self) -> Option<&LocalPatient> {
        self.patient.as_ref()
    }

    /// Valid now, for one of these actions.
    pub(crate) fn check(&self, now: Timestamp, actions: &[Action]) -> Result<(), AccessDenied> {
        if now >= self.expires {
            return Err(AccessDenied::Expired);
        }
        if !actions.contains(&self.grant.action) {
            return Err(AccessDenied::WrongAction);
        }
        Ok(())
    }

    /// On this patient, or not bound to one.
    pub(crate) fn check_patient(&self, patient: &LocalPatient) -> Result<(), AccessDenied> {
        match &self.patient {
            Some(own) if own != patient => Err(AccessDenied::WrongPatient),
            _ => Ok(()),
        }
    }

    /// The one patient that it must be on.
    pub(crate) fn one_patient(&self) -> Result<&LocalPatient, AccessDenied> {
        self.patient.as_ref().ok_or(AccessDenied::NoPatient)
    }

    /// In this department.
    pub(crate) fn check_department(&self, department: &Department) -> Result<(), AccessDenied> {
        if self.grant.departments.contains(department) { Ok(()) } else { Err(AccessDenied::WrongDepartment) }
    }

    /// A filter must not name a department outside the permit.
    pub(crate) fn check_filter(&self, filter: &Filter) -> Result<(), AccessDenied> {
        filter.departments.iter().flatten().try_for_each(|department| self.check_department(department))
    }
}
