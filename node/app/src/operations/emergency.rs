//! Clinicians and break-glasses. What a clinician signs comes as an envelope: no private key of theirs is ever here.

mod shown;

use handover_core::Code;
use handover_core::artefact::break_glass::{EmergencyScope, ReviewVerdict};
use handover_core::id::{BreakGlassId, HospitalId, SigningPublic};
use handover_core::time::DAY_MS;
use handover_exchange::ExchangeError;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use shown::line;
pub(crate) use shown::{
    ClinicianShown, CliniciansListed, GlassRead, GlassShown, GlassesListed, GlassesOpened, Located, NotAsked,
    Prepared, RecipientShown,
};

use super::{Event, Events, answer};
use crate::Node;
use crate::error::NodeError;

/// Bytes of one piece of shown content.
const PIECE_BYTES: usize = 256 * 1024;

/// Everything that can be commanded in an emergency. Artefacts are carried as hexadecimal digits.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "wish", rename_all = "kebab-case")]
pub enum EmergencyWish {
    /// Certifies a clinician's key.
    Certify {
        /// The key.
        key: SigningPublic,
        /// Who they are.
        name: String,
        /// What they are.
        role: String,
        /// How long it counts.
        days: u32,
    },
    /// Lists certificates.
    Clinicians,
    /// Withdraws one.
    Withdraw {
        /// Its number.
        number: u64,
    },
    /// What a clinician's program needs before it signs.
    Prepare {
        /// The clinician's key.
        key: SigningPublic,
        /// Whom it is to be sealed to.
        sources: Vec<HospitalId>,
        /// The break-glass that is gone on with.
        id: Option<BreakGlassId>,
    },
    /// Asks the index who holds a patient's records.
    Locate {
        /// A signed break-glass without a source.
        content: String,
    },
    /// Breaks the glass.
    Open {
        /// A signed break-glass.
        content: String,
    },
    /// Asks for everything.
    More {
        /// What the second clinician signed.
        content: String,
    },
    /// Reads what came, as [`Event::Content`].
    Read {
        /// A signed wish to read.
        content: String,
    },
    /// Lists break-glasses.
    List {
        /// Only those that wait for a review of this hospital.
        to_review: bool,
    },
    /// Shows one with its audit lines.
    Show {
        /// Which.
        id: BreakGlassId,
        /// With the file that anybody can verify offline.
        file: bool,
    },
    /// Says whether there was an emergency.
    Review {
        /// Which.
        id: BreakGlassId,
        /// `justified` or `not-justified`.
        verdict: String,
        /// What is said with it.
        note: Option<String>,
    },
    /// Notes that a letter told the patient.
    Told {
        /// Which.
        id: BreakGlassId,
    },
}

/// Carries one out.
pub(super) async fn perform(
    node: &Node,
    staff: &str,
    wish: EmergencyWish,
    events: &Events,
) -> Result<Value, NodeError> {
    match wish {
        EmergencyWish::Certify { key, name, role, days } => {
            answer(&certify(node, staff, key, (&name, &role), days).await?)
        }
        EmergencyWish::Clinicians => answer(&clinicians(node).await?),
        EmergencyWish::Withdraw { number } => answer(&withdraw(node, staff, number).await?),
        EmergencyWish::Prepare { key, sources, id } => answer(&prepare(node, key, &sources, id).await?),
        EmergencyWish::Locate { content } => answer(&locate(node, &content).await?),
        EmergencyWish::Open { content } => answer(&open(node, &content).await?),
        EmergencyWish::More { content } => answer(&more(node, &content).await?),
        EmergencyWish::Read { content } => answer(&read(node, &content, events).await?),
        EmergencyWish::List { to_review } => answer(&list(node, staff, to_review).await?),
        EmergencyWish::Show { id, file } => answer(&show(node, staff, id, file).await?),
        EmergencyWish::Review { id, verdict, note } => {
            answer(&review(node, staff, id, &verdict, note.as_deref()).await?)
        }
        EmergencyWish::Told { id } => answer(&told(node, staff, id).await?),
    }
}

async fn certify(
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

async fn clinicians(node: &Node) -> Result<CliniciansListed, NodeError> {
    let all = node.exchange.clinicians().await?;
    let clinicians = all.iter().map(|it| ClinicianShown::of(it, node.now())).collect();
    Ok(CliniciansListed { clinicians })
}

async fn withdraw(node: &Node, staff: &str, number: u64) -> Result<ClinicianShown, NodeError> {
    let gone = node.exchange.withdraw_clinician(staff, number).await;
    let gone = gone.map_err(|fault| match fault.code() {
        code @ Code::ClinicianUnknown => {
            NodeError::refused(code, format!("there is no certificate {number}: clinician list names them"))
        }
        _ => fault.into(),
    })?;
    Ok(ClinicianShown::of(&gone, node.now()))
}

async fn prepare(
    node: &Node,
    key: SigningPublic,
    sources: &[HospitalId],
    id: Option<BreakGlassId>,
) -> Result<Prepared, NodeError> {
    let clinician = node.exchange.clinician(&key).await?;
    let own = node.exchange.emergency_recipient(node.hospital())?;
    let (mut recipients, mut left_out) = (Vec::new(), Vec::new());
    for source in sources {
        if source == node.hospital() {
            let detail = "--at names other hospitals: what is here is read with records";
            return Err(NodeError::refused(Code::UsageInvalid, detail));
        }
        match node.exchange.emergency_recipient(source) {
            Ok(recipient) => recipients.push(RecipientShown {
                hospital: recipient.hospital,
                rsa_key: hex::encode(recipient.rsa_key),
            }),
            Err(fault) => left_out.push((source.clone(), fault.code())),
        }
    }
    if let (true, Some((source, code))) = (recipients.is_empty(), left_out.first()) {
        return Err(NodeError::refused(*code, source.to_string()));
    }
    // One that takes no part keeps nobody from asking the others.
    let not_asked = left_out.into_iter();
    let not_asked = not_asked.map(|(hospital, code)| NotAsked { hospital, code: code.to_string() });
    let hash = match id {
        Some(id) => Some(node.exchange.break_glass_hash(id).await?.to_string()),
        None => None,
    };
    Ok(Prepared {
        hospital: node.hospital().clone(),
        certificate: hex::encode(clinician.envelope),
        rsa_key: hex::encode(own.rsa_key),
        recipients,
        not_asked: not_asked.collect(),
        hash,
        now_ms: node.now().as_millis(),
    })
}

fn envelope(digits: &str) -> Result<Vec<u8>, NodeError> {
    hex::decode(digits).map_err(|_| NodeError::refused(Code::Malformed, "the envelope was cut"))
}

async fn locate(node: &Node, content: &str) -> Result<Located, NodeError> {
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

async fn open(node: &Node, content: &str) -> Result<GlassShown, NodeError> {
    node.live()?;
    let view = node.exchange.break_glass(envelope(content)?).await?;
    Ok(GlassShown::of(view, node.now()))
}

async fn more(node: &Node, content: &str) -> Result<GlassShown, NodeError> {
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

async fn read(node: &Node, content: &str, events: &Events) -> Result<GlassRead, NodeError> {
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

async fn list(node: &Node, staff: &str, to_review: bool) -> Result<GlassesListed, NodeError> {
    let all = node.exchange.break_glasses(staff).await?.into_iter();
    let wanted = all.filter(|it| !to_review || (it.is_asking && it.review_due.is_some()));
    let now = node.now();
    Ok(GlassesListed { break_glasses: wanted.map(|it| GlassShown::of(it, now)).collect() })
}

async fn show(node: &Node, staff: &str, id: BreakGlassId, file: bool) -> Result<GlassShown, NodeError> {
    let (view, lines) = node.exchange.break_glass_details(staff, id).await?;
    let mut shown = GlassShown::of(view, node.now());
    shown.audit = lines.iter().map(line).collect();
    if file {
        shown.file = Some(hex::encode(node.exchange.break_glass_file(id).await?));
    }
    Ok(shown)
}

async fn review(
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

async fn told(node: &Node, staff: &str, id: BreakGlassId) -> Result<GlassShown, NodeError> {
    let view = node.exchange.told_of_break_glass(staff, id).await.map_err(early)?;
    Ok(GlassShown::of(view, node.now()))
}

/// Everything was given out, not the subset alone.
pub(crate) fn is_everything(scope: &str) -> bool {
    scope == EmergencyScope::Everything.as_str()
}
