//! The network room: one libp2p swarm per process, owned by one loop. Callers hold a [`Net`] handle; the loop
//! takes commands and gives [`Inbound`] events. What carries stands behind [`Network`], so that rooms above can be
//! simulated.
//!
//! Two protocols, both only over connections whose keys the transport has proved:
//!
//! - `/handover/control/1`: one request, one answer, each at most [`MAX_BODY_BYTES`];
//! - `/handover/package/1`: raw byte streams, opened one after another and confirmed by an accept byte.
//!
//! Invariants: who a peer is, only [`Admission`] says, by the hello that the peer presented on the connection. A
//! peer that was not admitted can send a few requests (they arrive without a party) and nothing else. A party that
//! was expelled has no connection and gets none. A connection through a relay is one like any other: the two ends' own
//! handshake proves their keys. Strangers, however many, have a share of connections and requests, one
//! address a part of that, and nobody who is admitted waits behind them. Every queue has a bound and every wait a limit.
//!
//! Must not know: artefacts, certificates, the directory, what a body or a stream holds. libp2p is named in this
//! package only.

mod address;
mod behaviour;
mod client;
mod config;
mod door;
mod error;
mod frame;
mod handle;
mod identity;
mod incoming;
mod muxer;
mod package;
mod peers;
mod quic;
mod relay;
mod relays;
mod routes;
mod start;
mod swarm_loop;
mod tls;
mod until;

pub use address::{Purpose as AddressPurpose, check_address};
pub use config::{Limits, NetConfig, RelayLimits};
pub use error::NetError;
pub use frame::{MAX_BODY_BYTES, MAX_HELLO_BYTES};
pub use handle::{Inbound, Net, Network, Presented, Reply};
pub use identity::{Route, peer_id};
pub use package::PackageStream;
pub use relay::Carried;
pub use relays::AtRelay;
pub use start::start;

use handover_core::id::SigningPublic;
use handover_core::{Code, Party};

/// What the process shows of itself and whom it lets in. Called from the swarm's loop for every hello, so both
/// methods must answer at once: no file, no lock held elsewhere for long.
pub trait Admission: Send + Sync + 'static {
    /// What this process presents on a new connection, at most [`MAX_HELLO_BYTES`]: an endpoint certificate, or
    /// nothing before enrolment.
    fn hello(&self) -> Vec<u8>;

    /// Who the peer with this libp2p Ed25519 key is, by the hello it presented. The transport has proved the key.
    ///
    /// # Errors
    ///
    /// The reason of the refusal; the peer is told.
    fn admit(&self, peer: &SigningPublic, hello: &[u8]) -> Result<Party, Code>;
}
