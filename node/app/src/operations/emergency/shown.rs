//! Clinicians and break-glasses, as commands answer them.

use handover_core::Timestamp;
use handover_core::artefact::break_glass::Demographics;
use handover_core::id::HospitalId;
use handover_exchange::{Clinician, GlassView, Told};
use handover_records::AuditEntry;
use serde::{Deserialize, Serialize};

/// A clinician's certificate.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct ClinicianShown {
    pub(crate) number: u64,
    pub(crate) name: String,
    pub(crate) role: String,
    pub(crate) public_key: String,
    pub(crate) not_before: String,
    pub(crate) not_after: String,
    /// `in-force`, `withdrawn` or `expired`.
    pub(crate) state: String,
    pub(crate) withdrawn: Option<String>,
}

/// Every certificate.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct CliniciansListed {
    pub(crate) clinicians: Vec<ClinicianShown>,
}

/// What a clinician's program needs before it signs. Bytes are hexadecimal digits.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Prepared {
    pub(crate) hospital: HospitalId,
    pub(crate) certificate: String,
    /// This hospital's.
    pub(crate) rsa_key: String,
    /// Who can be asked.
    pub(crate) recipients: Vec<RecipientShown>,
    /// Who cannot.
    pub(crate) not_asked: Vec<NotAsked>,
    /// Of the break-glass that was named.
    pub(crate) hash: Option<String>,
    /// The node's clock.
    pub(crate) now_ms: i64,
}

/// A hospital that takes no part now.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct NotAsked {
    pub(crate) hospital: HospitalId,
    /// Why.
    pub(crate) code: String,
}

/// A hospital that can be asked. Bytes are hexadecimal digits.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct RecipientShown {
    pub(crate) hospital: HospitalId,
    pub(crate) rsa_key: String,
}

/// Who holds a patient's records.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Located {
    pub(crate) hospitals: Vec<HospitalId>,
}

/// Who was looked for.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct PersonShown {
    pub(crate) family: String,
    pub(crate) given: String,
    pub(crate) birth_date: String,
    pub(crate) sex: Option<String>,
    pub(crate) record_number: Option<String>,
}

/// Somebody who signed.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct SignerShown {
    pub(crate) name: String,
    pub(crate) role: String,
}

/// A review.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct ReviewShown {
    pub(crate) verdict: String,
    pub(crate) at: String,
    pub(crate) by: Option<String>,
    pub(crate) note: Option<String>,
}

/// An audit line that names a break-glass.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct LineShown {
    pub(crate) number: u64,
    pub(crate) at: String,
    pub(crate) subject: String,
    pub(crate) action: String,
    pub(crate) purpose: String,
    pub(crate) granted: bool,
}

/// A break-glass.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct GlassShown {
    pub(crate) break_glass: String,
    /// `asking` or `asked`.
    pub(crate) role: String,
    /// The other hospital.
    pub(crate) hospital: Option<String>,
    /// `waiting`, `given`, `refused`, `over`, or `located` where only the index was asked.
    pub(crate) state: String,
    /// Why it is refused or waits.
    pub(crate) code: Option<String>,
    /// `subset` or `everything`.
    pub(crate) scope: Option<String>,
    pub(crate) patient: Option<String>,
    pub(crate) local_patient: Option<String>,
    pub(crate) person: Option<PersonShown>,
    pub(crate) clinician: SignerShown,
    pub(crate) second: Option<SignerShown>,
    pub(crate) purpose: String,
    /// Absent, as who was asked for: the patient was forgotten.
    pub(crate) reason: Option<String>,
    pub(crate) issued: String,
    pub(crate) until: String,
    pub(crate) reads: u32,
    pub(crate) review: Option<ReviewShown>,
    pub(crate) review_due: Option<String>,
    pub(crate) review_overdue: bool,
    /// Reviews of this hospital that the other one names as overdue.
    pub(crate) overdue_there: Vec<String>,
    /// `wallet`, `letter-due` or `letter`, where this hospital tells the patient.
    pub(crate) told: Option<String>,
    /// The audit lines that name it, where they are shown.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) audit: Vec<LineShown>,
    /// The file that anybody can verify, as hexadecimal digits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) file: Option<String>,
}

/// Break-glasses.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct GlassesListed {
    pub(crate) break_glasses: Vec<GlassShown>,
}

/// What one command asked of whom.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct GlassesOpened {
    pub(crate) break_glasses: Vec<GlassShown>,
    pub(crate) not_asked: Vec<NotAsked>,
}

/// What was read; the content came as events.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct GlassRead {
    pub(crate) break_glass: String,
    pub(crate) scope: String,
    pub(crate) hospital: String,
}

impl ClinicianShown {
    pub(super) fn of(clinician: &Clinician, now: Timestamp) -> Self {
        let certificate = &clinician.certificate;
        let state = match clinician.withdrawn {
            Some(_) => "withdrawn",
            None if clinician.is_in_force(now) => "in-force",
            None if clinician.is_replaced => "key-replaced",
            None => "expired",
        };
        Self {
            number: certificate.number,
            name: certificate.name.clone(),
            role: certificate.role.clone(),
            public_key: certificate.key.to_string(),
            not_before: certificate.not_before.to_string(),
            not_after: certificate.not_after.to_string(),
            state: state.to_owned(),
            withdrawn: clinician.withdrawn.map(|at| at.to_string()),
        }
    }
}

impl GlassShown {
    pub(super) fn of(view: GlassView, now: Timestamp) -> Self {
        let is_over = now >= view.until;
        let state = match (view.refused, view.given) {
            (Some(_), _) => "refused",
            (None, _) if view.other.is_none() => "located",
            (None, _) if is_over => "over",
            (None, Some(_)) => "given",
            (None, None) => "waiting",
        };
        let signer = |(name, role)| SignerShown { name, role };
        let person = |who: Demographics| PersonShown {
            family: who.family,
            given: who.given,
            birth_date: who.birth_date,
            sex: who.sex.map(|sex| sex.to_string()),
            record_number: who.record_number,
        };
        let told = |told| match told {
            Told::Wallet => "wallet".to_owned(),
            Told::LetterDue => "letter-due".to_owned(),
            Told::Letter(_) => "letter".to_owned(),
        };
        let (by, note) = view.reviewed_by.clone().unzip();
        Self {
            review_overdue: view.is_overdue(now),
            break_glass: view.id.to_string(),
            role: if view.is_asking { "asking" } else { "asked" }.to_owned(),
            hospital: view.other.map(|other| other.to_string()),
            state: state.to_owned(),
            code: view.refused.or(view.waits).map(|code| code.to_string()),
            scope: view.given.map(|scope| scope.to_string()),
            patient: view.patient.map(|patient| patient.to_string()),
            local_patient: view.local.map(|patient| patient.to_string()),
            person: view.details.demographics.map(person),
            clinician: signer(view.clinician),
            second: view.second.map(signer),
            purpose: view.details.purpose.to_string(),
            reason: (!view.is_forgotten).then_some(view.details.reason),
            issued: view.issued.to_string(),
            until: view.until.to_string(),
            reads: view.reads,
            review: view.review.map(|(verdict, at)| ReviewShown {
                verdict: verdict.to_string(),
                at: at.to_string(),
                by,
                note: note.flatten(),
            }),
            review_due: view.review_due.map(|due| due.to_string()),
            overdue_there: view.overdue_there.iter().map(ToString::to_string).collect(),
            told: view.told.map(told),
            audit: Vec::new(),
            file: None,
        }
    }
}

pub(super) fn line(entry: &AuditEntry) -> LineShown {
    LineShown {
        number: entry.number,
        at: entry.at.to_string(),
        subject: format!("{} {}", entry.subject_kind, entry.subject),
        action: entry.action.to_string(),
        purpose: entry.purpose.to_string(),
        granted: entry.granted,
    }
}
