//! What a process sets before its network starts.

use std::time::Duration;

use zeroize::Zeroizing;

/// The network's configuration.
pub struct NetConfig {
    /// The 32-byte seed (RFC 8032, section 5.1.5) of the process's libp2p Ed25519 key.
    pub key_seed: Zeroizing<[u8; 32]>,
    /// Multiaddresses to listen on, such as `/ip4/127.0.0.1/tcp/0` and `/ip4/127.0.0.1/udp/0/quic-v1`. May be
    /// empty: such a process can dial only.
    pub listen: Vec<String>,
    /// Where this process asks for a place, so that it is reached although nobody can dial it: addresses of relays, each
    /// ending in `/p2p/<peer id>`. Usually empty.
    pub relays: Vec<String>,
    /// What it carries as a relay for others; nothing, if absent.
    pub relay: Option<RelayLimits>,
    /// Times and bounds.
    pub limits: Limits,
}

impl std::fmt::Debug for NetConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NetConfig")
            .field("listen", &self.listen)
            .field("relays", &self.relays)
            .field("relay", &self.relay)
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}

/// Times in milliseconds and bounds on what is held at once.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Until a route must have led to an admitted peer: dialling and both hellos. One address gets a third of it, so
    /// that QUIC is still tried when TCP is silently dropped, and a relay when QUIC is. All processes of a federation use
    /// the same: each takes the other's dials for over by it.
    pub dial_ms: u64,
    /// Until a sent request must be answered.
    pub request_ms: u64,
    /// Until a package stream must be accepted, all attempts together.
    pub package_open_ms: u64,
    /// A connection without any stream closes after this; parties given to [`crate::Net::connect`] are kept.
    pub idle_ms: u64,
    /// Connections in all.
    pub connections: u32,
    /// Connections with one peer.
    pub connections_per_peer: u32,
    /// Events that wait for the application. Requests beyond are answered as busy, packages are not accepted.
    pub inbound_queue: usize,
    /// Requests under way with one peer, in each direction. All processes of a federation use the same.
    pub requests_per_peer: usize,
    /// Requests under way from one peer that was not admitted.
    pub requests_unadmitted: usize,
    /// Requests under way from all peers together that were not admitted: a part of the queue, so that nobody who is
    /// admitted waits behind them.
    pub requests_of_strangers: usize,
    /// Requests that wait for their turn, for each peer. Beyond, callers get [`crate::NetError::Busy`].
    pub waiting_per_peer: usize,
    /// Routes being resolved at once. Beyond, callers get [`crate::NetError::Busy`].
    pub routes_waiting: usize,
    /// Inbound package streams that the application holds at once.
    pub packages_inbound: usize,
    /// How many of those one party may have, so that one that falls silent on its streams leaves room for others.
    pub packages_per_party: usize,
}

/// One address gets this part of the time for a route: TCP, QUIC and a relay are tried one after another.
const ADDRESS_SHARES: u64 = 3;

impl Limits {
    /// How long one address is dialled.
    pub(crate) const fn address_limit(&self) -> Duration {
        Duration::from_millis(self.dial_ms / ADDRESS_SHARES)
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            dial_ms: 15_000,
            request_ms: 30_000,
            package_open_ms: 15_000,
            idle_ms: 120_000,
            connections: 1024,
            connections_per_peer: 4,
            inbound_queue: 64,
            requests_per_peer: 32,
            requests_unadmitted: 8,
            requests_of_strangers: 16,
            waiting_per_peer: 256,
            routes_waiting: 256,
            packages_inbound: 64,
            packages_per_party: 8,
        }
    }
}

/// What a relay carries. Far beyond libp2p's own limits (128 KiB in two minutes): it carries packages.
#[derive(Clone, Debug)]
pub struct RelayLimits {
    /// Peers that have a place.
    pub reservations: usize,
    /// Of these, peers of one party.
    pub reservations_per_party: usize,
    /// Circuits in all.
    pub circuits: usize,
    /// Circuits that one party dials.
    pub circuits_per_source: usize,
    /// Circuits to one party.
    pub circuits_per_destination: usize,
    /// Bytes on one circuit, both directions together; it ends there, and what it carried is resumed on another.
    pub circuit_bytes: u64,
    /// How long one circuit lasts at most.
    pub circuit_ms: u64,
    /// A circuit on which nothing moves in one direction for so long ends.
    pub silence_ms: u64,
}

impl Default for RelayLimits {
    fn default() -> Self {
        Self {
            reservations: 512,
            reservations_per_party: 8,
            circuits: 256,
            circuits_per_source: 16,
            circuits_per_destination: 64,
            circuit_bytes: 1 << 40,
            circuit_ms: 24 * 60 * 60 * 1_000,
            silence_ms: 60_000,
        }
    }
}
