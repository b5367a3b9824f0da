//! Enrolment: the hospital asks to take part and proves that its signing key and its RSA key are in one hand; the
//! root and two operators do the rest. The same verbs tell the index of a changed profile.

use std::sync::Arc;
use std::time::Duration;

use handover_core::artefact::Verified;
use handover_core::artefact::federation::{CertificateRequest, EnrolmentProof, EnrolmentRequest};
use handover_core::codec::Extensions;
use handover_core::id::SigningPublic;
use handover_core::message::{Answer, Request, Verb};
use handover_core::trust::Federation;
use handover_core::{Code, Digest, Party, Timestamp};
use handover_net::Route;
use handover_seal::SigningKey;
use handover_web::CancellationToken;
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep};

use crate::Node;
use crate::config::Hospital;
use crate::error::NodeError;
use crate::keys::Keys;
use crate::profile;

/// How often the index is asked for the directory while an enrolment waits.
const ASK_EVERY: Duration = Duration::from_millis(500);
/// Until a profile that could not be sent is tried again.
const RETRY_EVERY: Duration = Duration::from_secs(15);

/// Where an enrolment stands.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Enrolled {
    /// The hospital.
    pub hospital: String,
    /// Thumbprint of its signing key, to be compared by another way before the root signs.
    pub key: String,
    /// The profile's number.
    pub profile: u64,
    /// `pending`, `active`, `suspended` or `revoked`.
    pub status: String,
}

/// Sends the enrolment of the newest keys; with `wait_ms`, waits until the directory has this hospital as active under
/// them.
///
/// # Errors
/// [`NodeError::NotRunning`], the index's refusal, [`Code::HospitalPending`] after the wait.
pub(crate) async fn enrol(node: &Node, wait_ms: Option<u64>) -> Result<Enrolled, NodeError> {
    let keys = node.newest()?;
    let number = send(node, keys).await?;
    let Some(wait_ms) = wait_ms else { return Ok(enrolled(node, keys, number)) };
    let end = Instant::now() + Duration::from_millis(wait_ms);
    loop {
        let standing = node
            .directories
            .held()
            .map_or(Err(Code::HospitalPending), |held| active_under(&held, node, &keys.signing().public()));
        match standing {
            Ok(()) => return Ok(enrolled(node, keys, number)),
            Err(code @ (Code::HospitalRevoked | Code::HospitalSuspended)) => return Err(code.into()),
            Err(_) if Instant::now() >= end => return Err(Code::HospitalPending.into()),
            Err(_) => {}
        }
        if let Err(error) = refresh(node).await {
            tracing::debug!(code = %error.code(), "the directory could not be asked for");
        }
        let mut changes = node.directories.changes();
        changes.mark_unchanged();
        tokio::select! {
            _ = changes.changed() => {}
            () = sleep(ASK_EVERY) => {}
            () = node.stopping.cancelled() => return Err(NodeError::Stopping),
        }
    }
}

/// Whether the hospital is active and a key speaks for it. Whatever became of the key before says nothing of this one.
fn active_under(held: &Federation, node: &Node, key: &SigningPublic) -> Result<(), Code> {
    if held.member(node.hospital())?.certificate.key != *key {
        return Err(Code::HospitalPending);
    }
    held.active(node.hospital(), node.now()).map(drop)
}

fn enrolled(node: &Node, keys: Keys<'_>, profile: u64) -> Enrolled {
    let (held, key) = (node.directories.held(), keys.signing().public());
    let member = held.as_ref().ok().and_then(|held| held.member(node.hospital()).ok());
    let member = member.filter(|member| member.certificate.key == key);
    Enrolled {
        hospital: node.hospital().to_string(),
        key: key.to_string(),
        profile,
        status: member.map_or("pending", |member| member.order.status.as_str()).to_owned(),
    }
}

/// Sends the profile that holds now, with proof of both keys; gives its number.
async fn send(node: &Node, keys: Keys<'_>) -> Result<u64, NodeError> {
    let profile = profile::signed(node, keys).await?;
    let signing = keys.signing();
    let (hospital, now) = (&node.config.hospital, node.now());
    let request = EnrolmentRequest {
        hospital: hospital.id.clone(),
        name: hospital.name.clone(),
        key: signing.public(),
        profile: profile.envelope().to_vec().into(),
        issued: now,
        extensions: Extensions::default(),
    };
    let request = Verified::sign(request, &signing);
    let certificate = certificate_request(hospital, &signing, now);
    let items = vec![request.envelope().to_vec(), certificate.envelope().to_vec()];
    let answer = ask(node, Verb::Enrol, items).await?;
    let [wrapped] = answer.as_slice() else { return Err(Code::Malformed.into()) };
    let challenge = keys.rsa()?.unwrap(wrapped)?;
    let proof = EnrolmentProof {
        hospital: hospital.id.clone(),
        request: request.hash(),
        answer: Digest::sha256(&[&challenge]),
        extensions: Extensions::default(),
    };
    ask(node, Verb::Prove, vec![Verified::sign(proof, &signing).envelope().to_vec()]).await?;
    tracing::info!(profile = profile.number, "profile sent to the index");
    Ok(profile.number)
}

/// What the root is asked to certify.
pub(crate) fn certificate_request(
    hospital: &Hospital,
    signing: &SigningKey,
    now: Timestamp,
) -> Verified<CertificateRequest> {
    let request = CertificateRequest {
        authority: None,
        hospital: Some(hospital.id.clone()),
        name: hospital.name.clone(),
        key: signing.public(),
        issued: now,
        extensions: Extensions::default(),
    };
    Verified::sign(request, signing)
}

/// Asks the index for a newer directory than the one held.
async fn refresh(node: &Node) -> Result<(), NodeError> {
    let version = node.directories.version().to_be_bytes().to_vec();
    for directory in ask(node, Verb::Directory, vec![version]).await? {
        let ask = |digests| async {
            let answer = self::ask(node, Verb::DirectoryPieces, digests).await;
            answer.map_err(|fault| fault.code().into())
        };
        node.directories.take(directory, ask).await?;
    }
    Ok(())
}

async fn ask(node: &Node, verb: Verb, items: Vec<Vec<u8>>) -> Result<Vec<Vec<u8>>, NodeError> {
    let mut addresses = node.config.index_addresses.clone();
    if let Ok(held) = node.directories.held() {
        addresses.extend(held.directory().addresses.iter().cloned());
    }
    let route = Route { party: Party::Index, addresses };
    let answer = node.live()?.net.request(&route, Request::encode(verb, items)).await?;
    Ok(Answer::decode(&answer)?)
}

/// While the node runs: an admitted hospital whose profile changed (new addresses, another URL) says so.
pub(crate) async fn keep_profile(node: Arc<Node>, shutdown: CancellationToken) {
    let mut changes = node.directories.changes();
    loop {
        let pause = if is_listed_otherwise(&node) {
            match send_own(&node).await {
                Ok(_) => None,
                Err(error) => {
                    tracing::warn!(code = %error.code(), "the changed profile could not be sent");
                    Some(RETRY_EVERY)
                }
            }
        } else {
            None
        };
        tokio::select! {
            () = shutdown.cancelled() => return,
            changed = changes.changed() => if changed.is_err() { return },
            () = sleep(pause.unwrap_or(Duration::MAX)) => {}
        }
    }
}

async fn send_own(node: &Node) -> Result<u64, NodeError> {
    send(node, node.own()?).await
}

/// Whether the directory says something else of the keys that speak.
fn is_listed_otherwise(node: &Node) -> bool {
    let (Ok(held), Ok(own)) = (node.directories.held(), node.own()) else { return false };
    let (Ok(member), Ok(wanted)) = (held.member(node.hospital()), profile::wanted(node, own)) else {
        return false;
    };
    member.certificate.key == own.signing().public() && !profile::says_the_same(&member.profile, &wanted)
}
