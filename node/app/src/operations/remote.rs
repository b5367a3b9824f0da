//! Remote links at the desk, and the wallets that are linked to a patient.

use handover_core::{Code, PatientRef, RemoteLinkId};
use handover_exchange::{Confirmed, ExchangeError, RemoteLink};
use handover_records::{Action, Filter, LocalPatient, PAGE_MAX, Purpose};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::patients::local;
use super::{Event, Events};
use crate::Node;
use crate::error::NodeError;

/// Why a clerk says no.
const REASONS: [Code; 3] = [Code::IdentityUnproven, Code::UnknownPatient, Code::LinkedOtherwise];
/// The most bytes of a FHIR Patient that is read for its name.
const PATIENT_MAX_BYTES: u64 = 1024 * 1024;

/// A request for a remote link.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct RemoteLinkShown {
    /// What it is called.
    pub id: String,
    /// `to-vouch`: this hospital says who the patient is; `to-link`: it is the one with the records.
    pub role: String,
    /// Who holds the records.
    pub old_hospital: String,
    /// Who vouches.
    pub new_hospital: String,
    /// How far it is.
    pub state: String,
    /// Why not, if somebody said no.
    pub reason: Option<String>,
    /// The patient in the federation.
    pub wallet: String,
    /// The old hospital's number for the patient, as they claim.
    pub record_number: String,
    /// Their name, as they claim.
    pub name: String,
    /// When they were born, as they claim.
    pub birth_date: String,
    /// The patient here: whom the wallet is linked to, or whom a clerk confirmed.
    pub patient: Option<String>,
    /// Until when it can be vouched for and confirmed (RFC 3339).
    pub expires: String,
    /// What the records here hold under the claimed number, if that was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub here: Option<Here>,
    /// What goes to the contact on file, once confirmed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub link_code: Option<String>,
    /// Until when that is good (RFC 3339).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code_expires: Option<String>,
}

/// What the records here hold under a number.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Here {
    /// How many records; counted up to 500.
    pub records: usize,
    /// The names in their FHIR Patients.
    pub names: Vec<String>,
    /// The dates of birth in them.
    pub birth_dates: Vec<String>,
    /// The telephone numbers and addresses in them: where a code can go.
    pub contacts: Vec<String>,
}

/// The requests that are not over.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct RemoteLinksListed {
    /// The oldest first.
    pub requests: Vec<RemoteLinkShown>,
}

/// The wallets that are linked to a patient.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct WalletsListed {
    /// The hospital's own identifier.
    pub patient: String,
    /// In no order that says anything.
    pub wallets: Vec<WalletLine>,
}

/// A wallet that is linked to a patient.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct WalletLine {
    /// The patient in the federation.
    pub wallet: String,
    /// Since when (RFC 3339).
    pub since: String,
}

/// A wallet's link was taken away.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Unlinked {
    /// The hospital's own identifier.
    pub patient: String,
    /// The patient in the federation.
    pub wallet: String,
    /// Whether there was a link.
    pub was_linked: bool,
}

impl RemoteLinkShown {
    fn of(node: &Node, request: RemoteLink) -> Self {
        let (own, other) = (node.hospital().to_string(), request.other.to_string());
        let (role, old_hospital, new_hospital) =
            if request.is_vouching { ("to-vouch", other, own) } else { ("to-link", own, other) };
        Self {
            id: request.id.to_string(),
            role: role.to_owned(),
            old_hospital,
            new_hospital,
            state: request.state.to_string(),
            reason: request.reason.map(|code| code.to_string()),
            wallet: request.patient.to_string(),
            record_number: request.details.record_number,
            name: request.details.name,
            birth_date: request.details.birth_date,
            patient: request.local.map(|patient| patient.to_string()),
            expires: request.expires.to_string(),
            here: None,
            link_code: None,
            code_expires: None,
        }
    }
}

pub(super) async fn list(node: &Node, staff: &str) -> Result<RemoteLinksListed, NodeError> {
    let requests = node.exchange.remote_links(staff).await?;
    Ok(RemoteLinksListed { requests: requests.into_iter().map(|it| RemoteLinkShown::of(node, it)).collect() })
}

/// A request, beside what the records here hold under its number.
pub(super) async fn show(node: &Node, staff: &str, id: RemoteLinkId) -> Result<RemoteLinkShown, NodeError> {
    let mut all = node.exchange.remote_links(staff).await?.into_iter();
    let request = all.find(|it| it.id == id).ok_or(Code::UnknownRemoteLink)?;
    // Whose number it is at the other hospital says nothing here.
    let number = if request.is_vouching { None } else { request.details.record_number.parse().ok() };
    let whom = request.local.clone().or(number);
    let mut shown = RemoteLinkShown::of(node, request);
    if let Some(patient) = whom {
        shown.here = Some(here(node, staff, &patient).await?);
    }
    Ok(shown)
}

async fn here(node: &Node, staff: &str, patient: &LocalPatient) -> Result<Here, NodeError> {
    let permit = node.permit(staff, Action::Read, Purpose::Treatment, Some(patient)).await?;
    let all = Filter::default();
    let found = node.records.list(&permit, node.now(), patient, &all, None, PAGE_MAX).await?;
    let mut here = Here { records: found.len(), ..Here::default() };
    for record in found.iter().filter(|it| it.resource_type == "Patient" && it.bytes <= PATIENT_MAX_BYTES) {
        let (_, content) = node.records.read(&permit, node.now(), record.reference).await?;
        let bytes = content.bytes(PATIENT_MAX_BYTES).await?;
        let Ok(resource) = serde_json::from_slice::<Value>(&bytes) else { continue };
        here.names.extend(items(&resource, "name").map(name));
        here.birth_dates.extend(text(&resource, "birthDate"));
        here.contacts.extend(items(&resource, "telecom").filter_map(|it| text(it, "value")));
        here.contacts.extend(items(&resource, "address").map(address));
    }
    Ok(here)
}

fn items<'v>(value: &'v Value, key: &'v str) -> impl Iterator<Item = &'v Value> {
    value.get(key).and_then(Value::as_array).into_iter().flatten()
}

fn text(value: &Value, key: &str) -> Option<String> {
    value.get(key).and_then(Value::as_str).map(str::to_owned)
}

fn texts<'v>(value: &'v Value, key: &'v str) -> impl Iterator<Item = String> {
    items(value, key).filter_map(Value::as_str).map(str::to_owned)
}

/// A FHIR HumanName in one line.
fn name(name: &Value) -> String {
    let parts = || texts(name, "given").chain(text(name, "family")).collect::<Vec<_>>().join(" ");
    text(name, "text").unwrap_or_else(parts)
}

/// A FHIR Address in one line.
fn address(address: &Value) -> String {
    let rest = ["city", "postalCode", "state", "country"].into_iter().filter_map(|key| text(address, key));
    let parts = || texts(address, "line").chain(rest).collect::<Vec<_>>().join(", ");
    text(address, "text").unwrap_or_else(parts)
}

pub(super) async fn vouch(node: &Node, staff: &str, id: RemoteLinkId) -> Result<RemoteLinkShown, NodeError> {
    let vouched = node.exchange.vouch_remote_link(staff, id).await.map_err(over)?;
    Ok(RemoteLinkShown::of(node, vouched))
}

pub(super) async fn confirm(
    node: &Node,
    staff: &str,
    id: RemoteLinkId,
    patient: &str,
    events: &Events,
) -> Result<RemoteLinkShown, NodeError> {
    let confirmed = node.exchange.confirm_remote_link(staff, id, &local(patient)?).await.map_err(over)?;
    let Confirmed { request, code, code_expires, others } = confirmed;
    if others > 0 {
        let text = format!(
            "{patient} is linked to {others} other wallet(s). One that is lost: patient wallets, then patient unlink."
        );
        events.tell(Event::Note { text }).await;
    }
    Ok(RemoteLinkShown {
        link_code: Some(code),
        code_expires: Some(code_expires.to_string()),
        ..RemoteLinkShown::of(node, request)
    })
}

pub(super) async fn refuse(
    node: &Node,
    staff: &str,
    id: RemoteLinkId,
    reason: &str,
) -> Result<RemoteLinkShown, NodeError> {
    let reason = reason.parse().ok().filter(|code| REASONS.contains(code)).ok_or_else(|| {
        let words: Vec<_> = REASONS.iter().map(|code| code.as_str()).collect();
        NodeError::refused(Code::UsageInvalid, format!("--reason is one of {}", words.join(", ")))
    })?;
    let refused = node.exchange.refuse_remote_link(staff, id, reason).await.map_err(over)?;
    Ok(RemoteLinkShown::of(node, refused))
}

/// Says of a request what the code says of transfers.
fn over(fault: ExchangeError) -> NodeError {
    match fault.code() {
        code @ Code::OutOfOrder => {
            NodeError::refused(code, "the request is past that: link-remote show says how it stands")
        }
        code @ Code::Conflict => NodeError::refused(
            code,
            "it was confirmed for another patient: refuse it, and have the patient ask anew",
        ),
        _ => fault.into(),
    }
}

pub(super) async fn wallets(node: &Node, staff: &str, patient: &str) -> Result<WalletsListed, NodeError> {
    let linked = node.exchange.wallets(staff, &local(patient)?).await?;
    let line = |linked: handover_records::Linked| WalletLine {
        wallet: linked.patient_ref.to_string(),
        since: linked.since.to_string(),
    };
    Ok(WalletsListed { patient: patient.to_owned(), wallets: linked.into_iter().map(line).collect() })
}

pub(super) async fn unlink(
    node: &Node,
    staff: &str,
    patient: &str,
    wallet: PatientRef,
) -> Result<Unlinked, NodeError> {
    let was_linked = node.exchange.unlink(staff, &local(patient)?, wallet).await?;
    Ok(Unlinked { patient: patient.to_owned(), wallet: wallet.to_string(), was_linked })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{address, name};

    #[test]
    fn names_and_addresses_are_one_line() {
        assert_eq!(name(&json!({"given": ["Ada", "May"], "family": "Reed"})), "Ada May Reed");
        assert_eq!(name(&json!({"text": "Ada Reed", "family": "Reed"})), "Ada Reed");
        assert_eq!(name(&json!({})), "");
        let home = json!({"line": ["1 Mill Lane"], "city": "Northfield", "postalCode": "61848"});
        assert_eq!(address(&home), "1 Mill Lane, Northfield, 61848");
    }
}
