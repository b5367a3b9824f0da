//! Addresses as a person configures them, judged before anything is bound or dialled.

use libp2p::Multiaddr;
use libp2p::multiaddr::Protocol;

/// What an address is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// To be listened on: an IP address, without `/p2p/`.
    Listen,
    /// To be told to others, who add `/p2p/` and the peer id if it is not there.
    Advertise,
    /// To be dialled: `/p2p/` and the peer id at its end say who has to be there.
    Dial,
}

/// Whether an address can serve a purpose.
///
/// # Errors
/// What it needs to look like.
pub fn check_address(text: &str, purpose: Purpose) -> Result<(), &'static str> {
    let shape = match purpose {
        Purpose::Listen => {
            "needs an IP address to listen on, such as /ip4/0.0.0.0/tcp/4601 or /ip4/0.0.0.0/udp/4601/quic-v1"
        }
        Purpose::Advertise => {
            "needs an address such as /dns4/host.example/tcp/4601 or /ip4/192.0.2.1/udp/4601/quic-v1"
        }
        Purpose::Dial => {
            "needs an address that ends in /p2p/ and the peer id, such as /dns4/host.example/tcp/4601/p2p/12D3KooW…"
        }
    };
    let address: Multiaddr = text.parse().map_err(|_| shape)?;
    let parts: Vec<Protocol<'_>> = address.iter().collect();
    let [host, rest @ ..] = parts.as_slice() else { return Err(shape) };
    let is_host = match host {
        Protocol::Ip4(_) | Protocol::Ip6(_) => true,
        Protocol::Dns(name) | Protocol::Dns4(name) | Protocol::Dns6(name) => {
            purpose != Purpose::Listen && !name.is_empty() && !name.contains(char::is_whitespace)
        }
        _ => false,
    };
    let peer = match rest {
        [Protocol::Tcp(_), peer @ ..] | [Protocol::Udp(_), Protocol::QuicV1, peer @ ..] => peer,
        _ => return Err(shape),
    };
    let is_peer = match purpose {
        Purpose::Listen => peer.is_empty(),
        Purpose::Advertise => matches!(peer, [] | [Protocol::P2p(_)]),
        Purpose::Dial => matches!(peer, [Protocol::P2p(_)]),
    };
    if is_host && is_peer { Ok(()) } else { Err(shape) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PEER: &str = "/p2p/12D3KooWGC6TvWhfapngX6wvJHMYvKpDMXPb3ZnCZ6dMoaMtimQ5";

    #[test]
    fn each_purpose_has_its_shape() {
        use Purpose::{Advertise, Dial, Listen};
        let peer = |address: &str| format!("{address}{PEER}");
        for (text, fits) in [
            ("/ip4/0.0.0.0/tcp/4601".to_owned(), vec![Listen, Advertise]),
            ("/ip6/::/udp/0/quic-v1".to_owned(), vec![Listen, Advertise]),
            ("/dns4/index.example/tcp/4601".to_owned(), vec![Advertise]),
            (peer("/dns4/index.example/tcp/4601"), vec![Advertise, Dial]),
            (peer("/ip4/192.0.2.1/udp/4601/quic-v1"), vec![Advertise, Dial]),
            ("/ip4/300.0.0.0/tcp/1".to_owned(), vec![]),
            ("/ip4/127.0.0.1/tcp/99999".to_owned(), vec![]),
            ("/ip4/127.0.0.1/udp/1".to_owned(), vec![]),
            ("/ip4/127.0.0.1/tcp/1/ws".to_owned(), vec![]),
            ("/ip4/127.0.0.1/tcp/1/p2p/nobody".to_owned(), vec![]),
            (PEER.to_owned(), vec![]),
            ("/nonsense".to_owned(), vec![]),
            ("nonsense".to_owned(), vec![]),
            (String::new(), vec![]),
        ] {
            for purpose in [Listen, Advertise, Dial] {
                assert_eq!(
                    check_address(&text, purpose).is_ok(),
                    fits.contains(&purpose),
                    "{text} {purpose:?}"
                );
            }
        }
    }
}
