//! The audit log, and the only door to a permit: the line is durable before the permit exists.
//!
//! Lines are numbered from 1 and hash-chained; each holds the hash of the one before. Refusals leave a line too. A
//! patient stands in a line as a keyed hash ([`Audit::patient_mark`]). No line, no permit.

use handover_core::codec::{self, Extensions};
use handover_core::{BreakGlassId, Department, Digest, Timestamp, TransferId};
use handover_seal::Secret32;
use handover_seal::cell::{derive, keyed_hash};
use handover_store::{Store, StoreError, Txn};

use crate::RecordsError;
use crate::access::{AccessDenied, Action, Departments, Grant, Purpose, Subject, decide, needs_patient};
use crate::model::LocalPatient;
use crate::permit::{GrantRequest, Permit};
use crate::rows::{self, AuditHeadRow, AuditRow, LinkRow, Places};

const HASH_LABEL: &[u8] = b"handover/audit-line/1";
const NOTHING_BEFORE: Digest = Digest::from_bytes([0; 32]);
/// The most lines in one page.
const PAGE_MAX_LINES: usize = 1_000;

/// The audit log. A cheap handle.
#[derive(Clone)]
pub struct Audit {
    store: Store,
    places: Places,
    mark_key: Secret32,
}

/// A line as it is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditEntry {
    /// Counts from 1.
    pub number: u64,
    /// When.
    pub at: Timestamp,
    /// `staff`, `system`, `patient` or `hospital`.
    pub subject_kind: String,
    /// The account, component, patient reference or hospital.
    pub subject: String,
    /// What was to be done.
    pub action: Action,
    /// What for.
    pub purpose: Purpose,
    /// On whom: [`Audit::patient_mark`].
    pub patient: Option<Digest>,
    /// In which departments; absent: all.
    pub departments: Option<Vec<Department>>,
    /// In which transfer.
    pub transfer: Option<TransferId>,
    /// In which break-glass.
    pub break_glass: Option<BreakGlassId>,
    /// Whether it was allowed.
    pub granted: bool,
    /// Hash of the line before.
    pub previous: Digest,
    /// Hash of this line.
    pub hash: Digest,
}

/// What a check of the chain found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AuditReport {
    /// Lines that were read.
    pub lines: u64,
    /// The first line that is missing, damaged or does not follow from the one before.
    pub broken_at: Option<u64>,
}

impl Audit {
    pub(crate) fn new(store: Store, places: Places, hospital_key: &Secret32) -> Self {
        Self { store, places, mark_key: derive(hospital_key, "handover records v1 audit patient", b"") }
    }

    /// What stands for a patient in the lines.
    #[must_use]
    pub fn patient_mark(&self, patient: &LocalPatient) -> Digest {
        Digest::from_bytes(keyed_hash(&self.mark_key, &[patient.as_str().as_bytes()]))
    }

    /// Decides, writes the line durably, and only then gives the permit. A refusal leaves a line, too.
    ///
    /// # Errors
    /// [`RecordsError::Denied`]; [`RecordsError::Audit`] if the line could not be written.
    pub async fn permit(&self, request: GrantRequest, now: Timestamp) -> Result<Permit, RecordsError> {
        let audit = self.clone();
        let written = self.store.write(move |txn| audit.decide_in(txn, &request, now));
        match written.await {
            Ok(decided) => Ok(decided?),
            Err(RecordsError::Store(error)) => Err(RecordsError::Audit(error)),
            Err(error) => Err(error),
        }
    }

    /// As [`Audit::permit`], with the line in a transaction of the caller's: what the permit is for is done there, too,
    /// or neither is. What is refused ends the transaction, and with it leaves no line.
    ///
    /// # Errors
    /// [`RecordsError::Denied`]; those of the store.
    pub fn permit_in(
        &self,
        txn: &mut dyn Txn,
        request: &GrantRequest,
        now: Timestamp,
    ) -> Result<Permit, RecordsError> {
        Ok(self.decide_in(txn, request, now)??)
    }

    fn decide_in(
        &self,
        txn: &mut dyn Txn,
        request: &GrantRequest,
        now: Timestamp,
    ) -> Result<Result<Permit, AccessDenied>, RecordsError> {
        let mark = request.patient.as_ref().map(|patient| self.patient_mark(patient));
        let decided = judge(txn, &self.places, request)?;
        let number = append(txn, &self.places, line(request, mark, decided.is_ok(), now))?;
        Ok(decided.map(|grant| Permit::new(grant, request.patient.clone(), number, now)))
    }

    /// Lines after number `after`, in order; at most `limit` (up to 1,000).
    ///
    /// # Errors
    /// [`RecordsError::Denied`] without a permit for [`Action::Audit`]; those of the store.
    pub async fn entries(
        &self,
        permit: &Permit,
        now: Timestamp,
        after: u64,
        limit: usize,
    ) -> Result<Vec<AuditEntry>, RecordsError> {
        permit.check(now, &[Action::Audit])?;
        let rows = self.rows(after, limit.min(PAGE_MAX_LINES)).await?;
        rows.iter().map(|bytes| Ok(entry(rows::from_bytes(bytes, "audit line")?))).collect()
    }

    /// Follows the whole chain up to the newest line.
    ///
    /// # Errors
    /// Those of the store. A broken chain is no error but stands in the report.
    pub async fn check(&self) -> Result<AuditReport, RecordsError> {
        let head_key = self.places.audit_head();
        let head: Option<AuditHeadRow> =
            self.store.read(move |txn| rows::get(txn, &head_key, "audit head")).await?;
        let (mut number, mut previous) = (0, NOTHING_BEFORE);
        loop {
            // A cell that does not open names no line; the line after the last good one is then the broken one.
            let page = match self.rows(number, PAGE_MAX_LINES).await {
                Ok(page) => page,
                Err(RecordsError::Store(StoreError::Damaged { .. })) => {
                    return Ok(AuditReport { lines: number, broken_at: Some(number + 1) });
                }
                Err(error) => return Err(error),
            };
            let is_last = page.len() < PAGE_MAX_LINES;
            for bytes in page {
                match rows::from_bytes::<AuditRow>(&bytes, "audit line") {
                    Ok(row) if row.number == number + 1 && row.previous == previous => {
                        previous = hash(&row);
                        number = row.number;
                    }
                    _ => return Ok(AuditReport { lines: number, broken_at: Some(number + 1) }),
                }
            }
            if is_last {
                let (last, last_hash) = head.map_or((0, NOTHING_BEFORE), |head| (head.number, head.hash));
                // Lines may have been added since the head was read, but none may be gone.
                let is_cut = number < last || (number == last && previous != last_hash);
                return Ok(AuditReport { lines: number, broken_at: is_cut.then_some(number + 1) });
            }
        }
    }

    async fn rows(&self, after: u64, limit: usize) -> Result<Vec<Vec<u8>>, RecordsError> {
        let (prefix, after) = (self.places.audit_lines(), self.places.audit_line(after));
        let read = self.store.read(move |txn| txn.scan(&prefix, Some(&after), limit));
        let page: Result<_, StoreError> = read.await;
        Ok(page?.into_iter().map(|(_, row)| row).collect())
    }
}

/// The table's answer, and what it cannot know: whether a patient asks for what is linked to them.
fn judge(
    txn: &mut dyn Txn,
    places: &Places,
    request: &GrantRequest,
) -> Result<Result<Grant, AccessDenied>, RecordsError> {
    let decided = decide(&request.subject, request.action, &request.departments, request.purpose);
    if decided.is_err() {
        return Ok(decided);
    }
    let Some(patient) = &request.patient else {
        return Ok(if needs_patient(request.action) { Err(AccessDenied::NoPatient) } else { decided });
    };
    // Linking is how a patient comes to be linked: there the link code decides.
    if let (Subject::Patient(own), true) = (&request.subject, request.action != Action::Link) {
        let link: Option<LinkRow> = rows::get(txn, &places.link(own), "link")?;
        if link.is_none_or(|link| link.patient != patient.as_str()) {
            return Ok(Err(AccessDenied::NotLinked));
        }
    }
    Ok(decided)
}

fn line(request: &GrantRequest, patient: Option<Digest>, granted: bool, at: Timestamp) -> AuditRow {
    let (kind, subject) = match &request.subject {
        Subject::Staff { name } => ("staff", name.clone()),
        Subject::System(component) => ("system", component.clone()),
        Subject::Patient(patient) => ("patient", patient.to_string()),
        Subject::Hospital(hospital) => ("hospital", hospital.to_string()),
    };
    AuditRow {
        number: 0,
        at,
        subject_kind: kind.to_owned(),
        subject,
        action: request.action,
        purpose: request.purpose,
        patient,
        departments: match &request.departments {
            Departments::All => None,
            Departments::Only(departments) => Some(departments.iter().cloned().collect()),
        },
        transfer: request.transfer,
        break_glass: request.break_glass,
        granted,
        previous: NOTHING_BEFORE,
        extensions: Extensions::default(),
    }
}

/// Appends a line and gives its number.
fn append(txn: &mut dyn Txn, places: &Places, mut row: AuditRow) -> Result<u64, RecordsError> {
    let head: Option<AuditHeadRow> = rows::get(txn, &places.audit_head(), "audit head")?;
    let (last, previous) = head.map_or((0, NOTHING_BEFORE), |head| (head.number, head.hash));
    row.number = last.saturating_add(1);
    row.previous = previous;
    rows::put(txn, &places.audit_line(row.number), &row)?;
    let head = AuditHeadRow { number: row.number, hash: hash(&row), extensions: Extensions::default() };
    rows::put(txn, &places.audit_head(), &head)?;
    Ok(row.number)
}

fn hash(row: &AuditRow) -> Digest {
    Digest::sha256(&[HASH_LABEL, &codec::encode(row)])
}

fn entry(row: AuditRow) -> AuditEntry {
    let hash = hash(&row);
    AuditEntry {
        number: row.number,
        at: row.at,
        subject_kind: row.subject_kind,
        subject: row.subject,
        action: row.action,
        purpose: row.purpose,
        patient: row.patient,
        departments: row.departments,
        transfer: row.transfer,
        break_glass: row.break_glass,
        granted: row.granted,
        previous: row.previous,
        hash,
    }
}
