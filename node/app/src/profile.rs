//! What the hospital says of itself in the directory, kept with its number, so that the same profile is sent as the
//! same artefact and a changed one counts up.

use handover_core::artefact::federation::HospitalProfile;
use handover_core::artefact::{Signed, Verified};
use handover_core::codec::Extensions;
use handover_core::id::SigningPublic;
use handover_core::trust::Federation;
use handover_core::{Code, Edition, HospitalId};
use handover_net::peer_id;
use handover_seal::Ed25519;
use handover_store::StoreError;

use crate::Node;
use crate::error::NodeError;
use crate::keys::Keys;

const SPACE: &str = "own-profile";
/// The most addresses of a profile.
const ADDRESSES_MAX: usize = 16;

/// Whether two profiles say the same, numbers and times apart.
pub(crate) fn says_the_same(one: &HospitalProfile, other: &HospitalProfile) -> bool {
    let plain = |profile: &HospitalProfile| HospitalProfile {
        number: 0,
        issued: handover_core::Timestamp::from_millis(0),
        ..profile.clone()
    };
    plain(one) == plain(other)
}

/// What holds now, or will once these keys speak: needs the running node's addresses.
pub(crate) fn wanted(node: &Node, keys: Keys<'_>) -> Result<HospitalProfile, NodeError> {
    let live = node.live()?;
    let mut addresses = node.config.net_advertise.clone();
    let relays = &node.config.relays;
    // Nobody reaches what a node behind address translation listens on.
    if addresses.is_empty() && relays.is_empty() {
        addresses = live.net.addresses();
    }
    let (own, next) = (peer_id(&live.net.peer_key())?, peer_id(&keys.net().public())?);
    for address in &mut addresses {
        if !address.contains("/p2p/") {
            address.push_str("/p2p/");
            address.push_str(&own);
        }
        *address = address.replace(&own, &next);
    }
    addresses.extend(relays.iter().map(|relay| format!("{relay}/p2p-circuit/p2p/{next}")));
    addresses.sort();
    // A host with many interfaces has more than others look at.
    addresses.truncate(ADDRESSES_MAX);
    let hospital = &node.config.hospital;
    Ok(HospitalProfile {
        hospital: hospital.id.clone(),
        number: 0,
        name: hospital.name.clone(),
        rsa_key: keys.rsa()?.public().spki_der().to_vec().into(),
        addresses,
        patient_url: live.patient_url.clone(),
        currency: hospital.currency,
        jurisdiction: hospital.jurisdiction.clone(),
        issued: node.now(),
        reads: Edition::last(),
        extensions: Extensions::default(),
    })
}

/// The signed profile that holds now: the one that was sent last if it still says the same, else a new one with a
/// higher number than any before. Durable before it is given.
pub(crate) async fn signed(node: &Node, keys: Keys<'_>) -> Result<Verified<HospitalProfile>, NodeError> {
    let (profile, signing) = (wanted(node, keys)?, keys.signing());
    let key = node.store.keys().space(SPACE).raw(signing.public().thumbprint().as_bytes()).build();
    let probe = key.clone();
    let kept = node.store.read(move |txn| txn.get(&probe));
    let kept: Result<Option<Vec<u8>>, StoreError> = kept.await;
    let last = kept?.map(|envelope| read_own(&signing.public(), &envelope)).transpose()?;
    let listed =
        node.directories.held().ok().and_then(|held| numbered_by(&held, node.hospital(), &signing.public()));
    let sent = last.as_ref().map_or(0, |last| last.number);
    if let Some(last) =
        last.filter(|last| says_the_same(last, &profile) && listed.is_none_or(|listed| listed <= last.number))
    {
        return Ok(last);
    }
    let number = sent.max(listed.unwrap_or(0)).saturating_add(1);
    let signed = Verified::sign(HospitalProfile { number, ..profile }, &signing);
    let envelope = signed.envelope().to_vec();
    let write = node.store.write(move |txn| txn.put(&key, envelope.clone()));
    let written: Result<(), StoreError> = write.await;
    written?;
    Ok(signed)
}

/// The number of the profile that the directory has, if this key signed it: each numbers its own.
fn numbered_by(held: &Federation, hospital: &HospitalId, key: &SigningPublic) -> Option<u64> {
    let member = held.member(hospital).ok()?;
    (member.certificate.key == *key).then_some(member.profile.number)
}

fn read_own(key: &SigningPublic, envelope: &[u8]) -> Result<Verified<HospitalProfile>, NodeError> {
    let damaged = |_| NodeError::from(Code::StoreDamaged);
    Signed::<HospitalProfile>::read(envelope).and_then(|signed| signed.verify(key, &Ed25519)).map_err(damaged)
}
