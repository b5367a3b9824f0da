//! QUIC, taken in at a pace. libp2p's QUIC answers a first packet before anybody is asked whether its sender may knock:
//! that costs a signature, and memory until the half-open connection is given up, while addresses can be made up. So
//! first packets beyond the pace wait in the endpoint's queue, which is bounded, and cost nothing yet.
//!
//! It must not know who knocks: that is the door's.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use libp2p::core::transport::{DialOpts, ListenerId, TransportError, TransportEvent};
use libp2p::identity::Keypair;
use libp2p::{Multiaddr, Transport, quic};
use tokio::time::{Interval, MissedTickBehavior, interval};

/// A peer that is silent for so long is gone. A killed TCP peer is told of at once by its system; a QUIC peer that had
/// dialled is not, and until then everything for it waits.
const IDLE_MS: u32 = 4_000;
/// Several signs of life within [`IDLE_MS`].
const KEEP_ALIVE: Duration = Duration::from_secs(1);
/// What a peer may have sent that nobody has read: on one stream, and on all of a connection.
const STREAM_BYTES: u32 = 2 * 1024 * 1024;
const CONNECTION_BYTES: u32 = 8 * 1024 * 1024;
/// First packets answered in each [`TURN`]: a half-open connection holds some 40 KiB for about four seconds.
const IN_ONE_TURN: u32 = 50;
const TURN: Duration = Duration::from_millis(100);

/// The QUIC transport.
pub(crate) struct Paced {
    inner: quic::tokio::Transport,
    turns: Interval,
    left: u32,
}

impl Paced {
    /// With this process's key, and so many streams on a connection.
    pub(crate) fn new(key: &Keypair, streams: u32) -> Self {
        let mut config = quic::Config::new(key);
        config.max_idle_timeout = IDLE_MS;
        config.keep_alive_interval = KEEP_ALIVE;
        config.max_concurrent_stream_limit = streams;
        config.max_stream_data = STREAM_BYTES;
        config.max_connection_data = CONNECTION_BYTES;
        let mut turns = interval(TURN);
        turns.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self { inner: quic::tokio::Transport::new(config), turns, left: IN_ONE_TURN }
    }
}

impl Transport for Paced {
    type Output = <quic::tokio::Transport as Transport>::Output;
    type Error = <quic::tokio::Transport as Transport>::Error;
    type ListenerUpgrade = <quic::tokio::Transport as Transport>::ListenerUpgrade;
    type Dial = <quic::tokio::Transport as Transport>::Dial;

    fn listen_on(&mut self, id: ListenerId, address: Multiaddr) -> Result<(), TransportError<Self::Error>> {
        self.inner.listen_on(id, address)
    }

    fn remove_listener(&mut self, id: ListenerId) -> bool {
        self.inner.remove_listener(id)
    }

    fn dial(
        &mut self,
        address: Multiaddr,
        options: DialOpts,
    ) -> Result<Self::Dial, TransportError<Self::Error>> {
        self.inner.dial(address, options)
    }

    fn poll(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<TransportEvent<Self::ListenerUpgrade, Self::Error>> {
        let this = self.get_mut();
        if this.left == 0 {
            if this.turns.poll_tick(cx).is_pending() {
                return Poll::Pending;
            }
            this.left = IN_ONE_TURN;
        }
        let polled = Pin::new(&mut this.inner).poll(cx);
        if matches!(&polled, Poll::Ready(event) if event.is_upgrade()) {
            this.left = this.left.saturating_sub(1);
        }
        polled
    }
}
