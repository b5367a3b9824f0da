//! Builds the swarm, binds the listen addresses and starts the loop.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use futures::StreamExt as _;
use libp2p::core::transport::TransportError;
use libp2p::swarm::SwarmEvent;
use libp2p::{Multiaddr, Swarm};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::behaviour::{Behaviour, build};
use crate::client::{Client, Visible};
use crate::handle::{Inbound, Net};
use crate::incoming::Incoming;
use crate::package::{Opener, PACKAGE, Places, accept};
use crate::relay::{HOP, Relay};
use crate::relays::Relays;
use crate::swarm_loop::{Ends, Event, Loop};
use crate::{Admission, NetConfig, NetError};

/// Commands that wait for the loop.
const COMMAND_QUEUE: usize = 256;
/// Until every listen address must be bound.
const LISTEN_MS: u64 = 10_000;

/// Starts the process's network on the current tokio runtime. Returns when all listen addresses are bound; the
/// application then takes the events out of the receiver, without pause: while it is full, requests are answered
/// as busy.
///
/// # Errors
///
/// [`NetError::InvalidListen`], [`NetError::Listen`], [`NetError::Setup`].
pub async fn start(
    config: NetConfig,
    admission: Arc<dyn Admission>,
) -> Result<(Net, mpsc::Receiver<Inbound>), NetError> {
    let turned_away = Arc::<AtomicU64>::default();
    let (packages, incoming) = Incoming::of(PACKAGE);
    let (asked, requests) = config.relay.is_some().then(|| Incoming::of(HOP)).unzip();
    let (mut swarm, key) = build(&config, &turned_away, (packages, asked))?;
    let early = listen(&mut swarm, &config.listen).await?;

    let relays = Relays::of(&config.relays);
    let limits = Arc::new(config.limits);
    let (commands, command_queue) = mpsc::channel(COMMAND_QUEUE);
    let (inbound, events) = mpsc::channel(limits.inbound_queue.max(1));
    let (visible, seen) = watch::channel(Visible::default());
    let control = swarm.behaviour().streams.new_control();
    let ended = CancellationToken::new();
    let places = Places::new(limits.packages_inbound, limits.packages_per_party);
    tokio::spawn(accept(incoming, seen.clone(), inbound.clone(), places, ended.clone()));
    let carried = Arc::default();
    if let Some((bounds, requests)) = config.relay.zip(requests) {
        let relay = Relay::new(control.clone(), seen.clone(), bounds, Arc::clone(&carried));
        tokio::spawn(relay.serve(requests, ended.clone()));
    }

    let ends = Ends { commands: command_queue, inbound, visible, _ended: ended.drop_guard() };
    tokio::spawn(Loop::new(swarm, admission, Arc::clone(&limits), relays, ends).run(early));
    let opener = Opener::new(control);
    let client = Client { key, limits, commands, visible: seen, opener, turned_away, carried };
    Ok((Net::over(client), events))
}

/// Binds all addresses. Gives back what else happened meanwhile: peers may connect to the first address before the
/// last one is bound.
async fn listen(swarm: &mut Swarm<Behaviour>, addresses: &[String]) -> Result<Vec<Event>, NetError> {
    let mut unbound = HashSet::new();
    for text in addresses {
        let address: Multiaddr = text.parse().map_err(|_| NetError::InvalidListen)?;
        let listener = swarm.listen_on(address).map_err(|error| match error {
            TransportError::MultiaddrNotSupported(_) => NetError::InvalidListen,
            TransportError::Other(error) => NetError::Listen(error),
        })?;
        unbound.insert(listener);
    }
    let mut early = Vec::new();
    let bound = async {
        while !unbound.is_empty() {
            match swarm.select_next_some().await {
                SwarmEvent::NewListenAddr { listener_id, .. } => {
                    unbound.remove(&listener_id);
                }
                SwarmEvent::ListenerClosed { reason: Err(error), .. }
                | SwarmEvent::ListenerError { error, .. } => return Err(NetError::Listen(error)),
                other => early.push(other),
            }
        }
        Ok(())
    };
    let late = || Err(NetError::Listen(std::io::ErrorKind::TimedOut.into()));
    tokio::time::timeout(Duration::from_millis(LISTEN_MS), bound).await.unwrap_or_else(|_| late())?;
    Ok(early)
}
