//! The desk: registering patients, and taking in what they carry on files instead of sending it.

use handover_core::Code;
use handover_core::artefact::patient::{Ask, AskKind, PatientLink};
use handover_core::artefact::remote::RemoteLinkRequest;
use handover_core::artefact::{Payload as _, Signed, peek_type};
use handover_core::codec::{self, MAX_MESSAGE_BYTES};
use handover_core::message::KeyRecords;
use handover_core::short_code;
use handover_exchange::UnknownLink;
use handover_records::{Action, Filter, LocalPatient, Purpose, RequestId};
use serde::{Deserialize, Serialize};

use crate::Node;
use crate::error::NodeError;
use crate::operations::{Event, Events};

/// A patient was registered.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PatientRegistered {
    /// The hospital's own identifier.
    pub patient: String,
    /// What the patient links themselves with.
    pub link_code: String,
    /// The code of this hospital's key, for the patient to compare on their own screen.
    pub hospital_code: String,
}

/// Links that the index does not know.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct LinksListed {
    /// How many that it had refused are told to it again.
    pub resent: usize,
    /// Those that it refused first.
    pub links: Vec<LinkLine>,
}

/// A link that the index does not know: it waits, or was refused.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct LinkLine {
    /// The patient in the federation.
    pub patient: String,
    /// `waiting` or `refused`.
    pub state: String,
    /// Why the index refused it.
    pub code: Option<String>,
    /// When it did (RFC 3339).
    pub since: Option<String>,
}

/// What became of what a patient carried.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Carried {
    /// The artefact's type, for example `handover/consent/1`.
    pub kind: String,
    /// The transfer that an ask is for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub transfer: Option<String>,
    /// What the patient takes back, as hexadecimal digits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub answer: Option<String>,
}

/// The hospital's own identifier of a patient.
pub(super) fn local(patient: &str) -> Result<LocalPatient, NodeError> {
    patient.parse().map_err(|_| {
        NodeError::refused(Code::UsageInvalid, "a patient identifier has 1 to 128 printable characters")
    })
}

pub(super) async fn register(
    node: &Node,
    staff: &str,
    patient: &str,
    request: Option<&str>,
    events: &Events,
) -> Result<PatientRegistered, NodeError> {
    let request = request.map(str::parse::<RequestId>).transpose();
    let request =
        request.map_err(|fault| NodeError::refused(Code::UsageInvalid, format!("--request-id: {fault}")))?;
    let local = local(patient)?;
    let link_code = node.exchange.register_patient(staff, &local, request.as_ref()).await?;
    // A patient who moves here has none; one who moves away has, unless the identifier is mistyped.
    let permit = node.permit(staff, Action::List, Purpose::Administration, Some(&local)).await?;
    if node.records.list(&permit, node.now(), &local, &Filter::default(), None, 1).await?.is_empty() {
        let text =
            format!("There are no records of {patient} here. If there should be, check the identifier.");
        events.tell(Event::Note { text }).await;
    }
    let wallets = node.records.refs_of(&local).await?.len();
    if wallets > 0 {
        let text = format!("{patient} is linked to {wallets} wallet(s) already: patient wallets lists them.");
        events.tell(Event::Note { text }).await;
    }
    Ok(PatientRegistered {
        patient: patient.to_owned(),
        link_code,
        hospital_code: short_code(&node.exchange.signing_key().thumbprint()),
    })
}

pub(super) async fn links(node: &Node, resend: bool) -> Result<LinksListed, NodeError> {
    let resent = if resend { node.exchange.resend_links().await? } else { 0 };
    let line = |link: UnknownLink| {
        let state = if link.refused.is_some() { "refused" } else { "waiting" };
        let (code, since) = link.refused.unzip();
        LinkLine {
            patient: link.patient.to_string(),
            state: state.to_owned(),
            code: code.map(|code| code.to_string()),
            since: since.map(|since| since.to_string()),
        }
    };
    Ok(LinksListed { resent, links: node.exchange.unknown_links().await?.into_iter().map(line).collect() })
}

pub(super) async fn take(node: &Node, content: &str, only_link: bool) -> Result<Carried, NodeError> {
    let content = hex::decode(content)
        .map_err(|_| NodeError::refused(Code::Malformed, "the file's content was cut"))?;
    // What is no envelope is key records or a revocation, which the exchange reads itself.
    let kind = peek_type(&content).unwrap_or_else(|_| {
        let is_keys = codec::decode::<KeyRecords>(&content, MAX_MESSAGE_BYTES).is_ok();
        if is_keys { "handover/key-records/1" } else { "handover/revocation/1" }.to_owned()
    });
    let carried = |transfer: Option<String>, answer: Option<Vec<u8>>| Carried {
        kind: kind.clone(),
        transfer,
        answer: answer.map(hex::encode),
    };
    if kind == PatientLink::TYPE {
        return Ok(carried(None, Some(node.exchange.link(content).await?)));
    }
    if kind == RemoteLinkRequest::TYPE {
        return Ok(carried(None, Some(node.exchange.remote_link(content).await?)));
    }
    if only_link {
        return Err(NodeError::refused(Code::UsageInvalid, format!("the file holds a {kind}, not a link")));
    }
    if kind == Ask::TYPE {
        let claimed = Signed::<Ask>::read(&content).map_err(|fault| NodeError::from(fault.code()))?;
        return Ok(match claimed.claim().kind {
            AskKind::Locate => carried(None, Some(node.exchange.locate(content).await?)),
            AskKind::Inbox => carried(None, Some(node.exchange.inbox(content).await?)),
            AskKind::Transfer => carried(Some(node.exchange.take_ask(content).await?.to_string()), None),
        });
    }
    node.exchange.patient_artefact(content).await?;
    Ok(carried(None, None))
}

pub(super) fn info(node: &Node) -> Result<Carried, NodeError> {
    let info = node.exchange.hospital_info_file()?;
    Ok(Carried { kind: "hospital-info".to_owned(), transfer: None, answer: Some(hex::encode(info)) })
}
