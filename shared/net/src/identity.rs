//! Keys, peer ids and routes. A libp2p peer id of an Ed25519 key holds the key itself (identity multihash of the
//! protobuf-encoded public key), so both directions are possible without asking anyone.

use handover_core::Party;
use handover_core::id::SigningPublic;
use libp2p::identity::{PublicKey, ed25519};
use libp2p::multiaddr::Protocol;
use libp2p::{Multiaddr, PeerId};

use crate::NetError;

/// Addresses of one route that are looked at; a directory entry holds far fewer.
const MAX_ROUTE_ADDRESSES: usize = 16;
/// The multihash code of the identity function, under which a peer id holds the key itself.
const IDENTITY_MULTIHASH: u64 = 0;

/// Where a party can be met.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// Who must be there.
    pub party: Party,
    /// Multiaddresses that end in `/p2p/<peer id>`. May be empty: then only a live connection is used. At most 16
    /// are looked at; what is no such address is passed over.
    pub addresses: Vec<String>,
}

/// The peer id, as it stands behind `/p2p/` in a multiaddress, of a process with this libp2p key.
///
/// # Errors
///
/// [`NetError::InvalidKey`].
pub fn peer_id(key: &SigningPublic) -> Result<String, NetError> {
    let key = ed25519::PublicKey::try_from_bytes(key.as_bytes()).map_err(|_| NetError::InvalidKey)?;
    Ok(PublicKey::from(key).to_peer_id().to_base58())
}

/// The Ed25519 key inside a peer id; none if the peer uses another kind of key.
pub(crate) fn signing_public(peer: &PeerId) -> Option<SigningPublic> {
    let multihash = peer.as_ref();
    if multihash.code() != IDENTITY_MULTIHASH {
        return None;
    }
    let key = PublicKey::try_decode_protobuf(multihash.digest()).ok()?.try_into_ed25519().ok()?;
    Some(SigningPublic::from_bytes(key.to_bytes()))
}

/// A peer that may be the wanted party, with its addresses in the order of dialling.
#[derive(Debug)]
pub(crate) struct Candidate {
    pub(crate) peer: PeerId,
    /// Tried first: better for bulk, and one connection serves both protocols.
    pub(crate) tcp: Vec<Multiaddr>,
    /// Tried when no TCP address led to the peer.
    pub(crate) quic: Vec<Multiaddr>,
    /// Through relays: tried when nothing direct led to the peer.
    pub(crate) relayed: Vec<Multiaddr>,
}

impl Candidate {
    /// What is dialled at once, and what then, if none of it leads to the peer: one relay after another, at last.
    pub(crate) fn stages(self) -> Vec<Vec<Multiaddr>> {
        let mut stages = vec![self.tcp, self.quic];
        for address in self.relayed {
            let same = stages.iter_mut().find(|stage| stage.first().and_then(relay_of) == relay_of(&address));
            match same {
                Some(stage) if !stage.is_empty() => stage.push(address),
                Some(_) | None => stages.push(vec![address]),
            }
        }
        stages.into_iter().filter(|stage| !stage.is_empty()).collect()
    }
}

/// The relay through which an address leads, if it does.
pub(crate) fn relay_of(address: &Multiaddr) -> Option<PeerId> {
    relay_address(address)?.iter().find_map(|part| match part {
        Protocol::P2p(peer) => Some(peer),
        _ => None,
    })
}

/// Where that relay is dialled.
pub(crate) fn relay_address(address: &Multiaddr) -> Option<Multiaddr> {
    let at = address.iter().position(|part| part == Protocol::P2pCircuit)?;
    Some(address.iter().take(at).collect())
}

/// Whether an address leads through a relay.
pub(crate) fn is_relayed(address: &Multiaddr) -> bool {
    address.iter().any(|part| part == Protocol::P2pCircuit)
}

/// A route's addresses by peer.
pub(crate) fn candidates(route: &Route) -> Vec<Candidate> {
    let mut found: Vec<Candidate> = Vec::new();
    for text in route.addresses.iter().take(MAX_ROUTE_ADDRESSES) {
        let Ok(address) = text.parse::<Multiaddr>() else { continue };
        let Some(Protocol::P2p(peer)) = address.iter().last() else { continue };
        let at = found.iter().position(|candidate| candidate.peer == peer).unwrap_or_else(|| {
            found.push(Candidate { peer, tcp: Vec::new(), quic: Vec::new(), relayed: Vec::new() });
            found.len() - 1
        });
        let Some(candidate) = found.get_mut(at) else { continue };
        if is_relayed(&address) {
            candidate.relayed.push(address);
        } else if address.iter().any(|part| matches!(part, Protocol::Tcp(_))) {
            candidate.tcp.push(address);
        } else {
            candidate.quic.push(address);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(seed: u8) -> PeerId {
        let key = libp2p::identity::Keypair::ed25519_from_bytes([seed; 32]).unwrap();
        key.public().to_peer_id()
    }

    #[test]
    fn a_peer_id_holds_its_key() {
        let peer = id(7);
        let key = signing_public(&peer).unwrap();
        assert_eq!(peer_id(&key).unwrap(), peer.to_base58());
    }

    #[test]
    fn addresses_are_grouped_by_peer_and_tried_directly_first() {
        let (one, two) = (id(1), id(2));
        let addresses = vec![
            format!("/ip4/127.0.0.1/tcp/5/p2p/{two}/p2p-circuit/p2p/{one}"),
            format!("/ip4/127.0.0.1/tcp/6/p2p/{}/p2p-circuit/p2p/{one}", id(3)),
            format!("/ip4/127.0.0.1/udp/5/quic-v1/p2p/{two}/p2p-circuit/p2p/{one}"),
            format!("/ip4/127.0.0.1/udp/1/quic-v1/p2p/{one}"),
            format!("/ip4/127.0.0.1/tcp/2/p2p/{two}"),
            format!("/dns4/node.example/tcp/3/p2p/{one}"),
            "/ip4/127.0.0.1/tcp/4".to_owned(),
            "nonsense".to_owned(),
        ];
        let mut found = candidates(&Route { party: Party::Index, addresses });
        assert_eq!(found.len(), 2);
        assert_eq!((found[0].peer, found[0].tcp.len(), found[0].quic.len()), (one, 1, 1));
        assert_eq!((found[1].peer, found[1].tcp.len(), found[1].quic.len()), (two, 1, 0));
        let stages = found.remove(0).stages();
        assert_eq!(stages.iter().map(Vec::len).collect::<Vec<_>>(), [1, 1, 2, 1]);
        let relays: Vec<_> = stages.iter().map(|stage| relay_of(&stage[0])).collect();
        assert_eq!(relays, [None, None, Some(two), Some(id(3))]);
        let dialled = relay_address(&stages[2][0]).unwrap();
        assert_eq!(dialled.to_string(), format!("/ip4/127.0.0.1/tcp/5/p2p/{two}"));
    }
}
