//! Clinicians and break-glasses. What a clinician signs comes as an envelope: no private key of theirs is ever here.

use handover_core::artefact::break_glass::{Demographics, EmergencyScope, ReviewVerdict};
use handover_core::id::{BreakGlassId, HospitalId, SigningPublic};
use handover_core::time::DAY_MS;
use handover_core::{Code, Timestamp};
use handover_exchange::{Clinician, ExchangeError, GlassView, Told};
use handover_records::AuditEntry;
use serde::{Deserialize, Serialize};

use super::{Event, Events};
use crate::Node;
use crate::error::NodeError;

/// Bytes of one piece of shown content.
const PIECE_BYTES: usize = 256 * 1024;

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
    /// This hospital's, then those of the sources in order.
    pub(crate) rsa_keys: Vec<String>,
    /// Of the break-glass that was named.
    pub(crate) hash: Option<String>,
    /// The node's clock.
    pub(crate) now_ms: i64,
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
    pub(crate) reason: String,
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

/// What was read; the content came as events.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct GlassRead {
    pub(crate) break_glass: String,
    pub(crate) scope: String,
    pub(crate) hospital: String,
}

impl ClinicianShown {
    fn of(clinician: &Clinician, now: Timestamp) -> Self {
        let certificate = &clinician.certificate;
        let state = match clinician.withdrawn {
            Some(_) => "withdrawn",
            None if clinician.is_in_force(now) => "in-force",
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
    fn of(view: GlassView, now: Timestamp) -> Self {
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
            reason: view.details.reason,
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

fn line(entry: &AuditEntry) -> LineShown {
    LineShown {
        number: entry.number,
        at: entry.at.to_string(),
        subject: format!("{} {}", entry.subject_kind, entry.subject),
        action: entry.action.to_string(),
        purpose: entry.purpose.to_string(),
        granted: entry.granted,
    }
}

pub(super) async fn certify(
    node: &Node,
    staff: &str,
    key: SigningPublic,
    (name, role): (&str, &str),
    days: u32,
) -> Result<ClinicianShown, NodeError> {
    let lasts_ms = i64::from(days).saturating_mul(DAY_MS);
    let certified = node.exchange.certify_clinician(staff, key, (name, role), lasts_ms).await;
    let certified = certified.map_err(|fault| match fault.code() {
        code @ Code::UsageInvalid => NodeError::refused(
            code,
            "a name and a role of up to 200 printable characters, and a usable Ed25519 key, are needed",
        ),
        code @ Code::Conflict => NodeError::refused(
            code,
            "this key is certified for another name or role: clinician withdraw that one first",
        ),
        _ => fault.into(),
    })?;
    Ok(ClinicianShown::of(&certified, node.now()))
}

pub(super) async fn clinicians(node: &Node) -> Result<CliniciansListed, NodeError> {
    let all = node.exchange.clinicians().await?;
    let clinicians = all.iter().map(|it| ClinicianShown::of(it, node.now())).collect();
    Ok(CliniciansListed { clinicians })
}

pub(super) async fn withdraw(node: &Node, staff: &str, number: u64) -> Result<ClinicianShown, NodeError> {
    let gone = node.exchange.withdraw_clinician(staff, number).await;
    let gone = gone.map_err(|fault| match fault.code() {
        code @ Code::ClinicianUnknown => {
            NodeError::refused(code, format!("there is no certificate {number}: clinician list names them"))
        }
        _ => fault.into(),
    })?;
    Ok(ClinicianShown::of(&gone, node.now()))
}

pub(super) async fn prepare(
    node: &Node,
    key: SigningPublic,
    sources: &[HospitalId],
    id: Option<BreakGlassId>,
) -> Result<Prepared, NodeError> {
    let clinician = node.exchange.clinician(&key).await?;
    let recipients = node.exchange.emergency_recipients(sources).map_err(|fault| match fault.code() {
        code @ Code::UsageInvalid => {
            NodeError::refused(code, "--at names other hospitals: what is here is read with records")
        }
        _ => fault.into(),
    })?;
    let hash = match id {
        Some(id) => Some(node.exchange.break_glass_hash(id).await?.to_string()),
        None => None,
    };
    Ok(Prepared {
        hospital: node.hospital().clone(),
        certificate: hex::encode(clinician.envelope),
        rsa_keys: recipients.into_iter().map(|it| hex::encode(it.rsa_key)).collect(),
        hash,
        now_ms: node.now().as_millis(),
    })
}

fn envelope(digits: &str) -> Result<Vec<u8>, NodeError> {
    hex::decode(digits).map_err(|_| NodeError::refused(Code::Malformed, "the envelope was cut"))
}

pub(super) async fn locate(node: &Node, content: &str) -> Result<Located, NodeError> {
    node.live()?;
    let found = node.exchange.locate_in_emergency(envelope(content)?).await;
    let away = |fault: ExchangeError| match fault.code() {
        code @ (Code::Unreachable | Code::TimedOut) => NodeError::refused(
            code,
            "the index is away, so nobody says who holds the records: name hospitals with --at and give it again",
        ),
        _ => fault.into(),
    };
    Ok(Located { hospitals: found.map_err(away)? })
}

pub(super) async fn open(node: &Node, content: &str) -> Result<GlassShown, NodeError> {
    node.live()?;
    let view = node.exchange.break_glass(envelope(content)?).await?;
    Ok(GlassShown::of(view, node.now()))
}

pub(super) async fn more(node: &Node, content: &str) -> Result<GlassShown, NodeError> {
    node.live()?;
    let view = node.exchange.break_glass_more(envelope(content)?).await.map_err(early)?;
    Ok(GlassShown::of(view, node.now()))
}

/// Says of a break-glass what the code says of transfers.
fn early(fault: ExchangeError) -> NodeError {
    match fault.code() {
        code @ Code::OutOfOrder => {
            NodeError::refused(code, "nothing was given out under it: break-glass show says how it stands")
        }
        code @ Code::Conflict => {
            NodeError::refused(code, "somebody else has signed or reviewed it: break-glass show says who")
        }
        _ => fault.into(),
    }
}

pub(super) async fn read(node: &Node, content: &str, events: &Events) -> Result<GlassRead, NodeError> {
    let signed = envelope(content)?;
    let (id, opened) = node.exchange.read_emergency(&signed).await.map_err(early)?;
    let text = std::str::from_utf8(&opened.bundle).map_err(|_| NodeError::from(Code::CannotOpen))?;
    let mut rest = text;
    while !rest.is_empty() {
        let (piece, after) = rest.split_at(rest.floor_char_boundary(PIECE_BYTES));
        events.tell(Event::Content { text: piece.to_owned() }).await;
        rest = after;
    }
    Ok(GlassRead {
        break_glass: id.to_string(),
        scope: opened.scope.to_string(),
        hospital: opened.source.to_string(),
    })
}

pub(super) async fn list(node: &Node, staff: &str, to_review: bool) -> Result<GlassesListed, NodeError> {
    let all = node.exchange.break_glasses(staff).await?.into_iter();
    let wanted = all.filter(|it| !to_review || (it.is_asking && it.review_due.is_some()));
    let now = node.now();
    Ok(GlassesListed { break_glasses: wanted.map(|it| GlassShown::of(it, now)).collect() })
}

pub(super) async fn show(
    node: &Node,
    staff: &str,
    id: BreakGlassId,
    file: bool,
) -> Result<GlassShown, NodeError> {
    let (view, lines) = node.exchange.break_glass_details(staff, id).await?;
    let mut shown = GlassShown::of(view, node.now());
    shown.audit = lines.iter().map(line).collect();
    if file {
        shown.file = Some(hex::encode(node.exchange.break_glass_file(id).await?));
    }
    Ok(shown)
}

pub(super) async fn review(
    node: &Node,
    staff: &str,
    id: BreakGlassId,
    verdict: &str,
    note: Option<&str>,
) -> Result<GlassShown, NodeError> {
    let verdict: ReviewVerdict = verdict.parse().map_err(|_| Code::UsageInvalid)?;
    let reviewed = node.exchange.review_break_glass(staff, id, verdict, note).await;
    let reviewed = reviewed.map_err(|fault| match fault.code() {
        code @ Code::SamePerson => {
            NodeError::refused(code, "who broke the glass does not review it: another officer does")
        }
        _ => early(fault),
    })?;
    Ok(GlassShown::of(reviewed, node.now()))
}

pub(super) async fn told(node: &Node, staff: &str, id: BreakGlassId) -> Result<GlassShown, NodeError> {
    let view = node.exchange.told_of_break_glass(staff, id).await.map_err(early)?;
    Ok(GlassShown::of(view, node.now()))
}

/// Everything was given out, not the subset alone.
pub(crate) fn is_everything(scope: &str) -> bool {
    scope == EmergencyScope::Everything.as_str()
}
