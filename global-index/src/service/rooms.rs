//! The index without its doors: every room over a store, and what serves hospitals over a network, whichever it is.
//!
//! The program adds HTTPS and the control socket ([`super::Index`]); the simulation brings its own network and time.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use handover_core::{Code, Party};
use handover_net::{Admission, Inbound, Net, NetError};
use handover_store::{Blobs, EngineName, Store};
use handover_web::{CancellationToken, Health, Metrics};
use serde_json::Value;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::{JoinHandle, JoinSet};

use super::answer::Desks;
use super::gate::Gate;
use super::instruments::{Doors, Holds, Instruments};
use super::{IndexError, MAX_REQUESTS, rounds, seat, tell_addresses};
use crate::config::Config;
use crate::desk::{Desk, Edge};
use crate::folders::{self, Folders};
use crate::keys::IndexKeys;
use crate::log::Log;
use crate::ops::Operations;
use crate::rejoin::{self, Rejoin};
use crate::routing::{Courier, push_to};

/// For requests under way to be answered after the stop, in milliseconds.
const DRAIN_MS: u64 = 10_000;

/// The rooms of one index.
pub struct Rooms {
    pub(super) desk: Desk,
    pub(super) log: Log,
    pub(super) health: Health,
    pub(super) metrics: Metrics,
    config: Config,
    blobs: Blobs,
    gate: Arc<Gate>,
}

impl std::fmt::Debug for Rooms {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Rooms").field("name", &self.config.name).finish_non_exhaustive()
    }
}

impl Rooms {
    /// Opens them over a store that is open; nothing is served yet.
    ///
    /// # Errors
    /// [`IndexError`]: no usable certificate in the data folder; the store or the blobs.
    pub async fn open(
        store: Store,
        config: Config,
        keys: &IndexKeys,
        edge: Edge,
    ) -> Result<Self, IndexError> {
        let seat = seat(&config.data, config.root, keys, &edge)?;
        if config.store.engine == EngineName::Postgres
            && config.blobs.needs_folder(&config.shared, &config.data)
        {
            store.check_folder(&config.shared, &config.data).await?;
        }
        let blobs = Blobs::open_of(&store, &config.blobs, &config.shared, &config.data).await?;
        let desk = Desk::open(store, seat, edge).await?;
        let gate = Arc::new(Gate::new(desk.clone(), keys));
        let log = Log::new(desk.clone(), config.name.clone());
        let (health, metrics) = (Health::new(), Metrics::new("handover_index"));
        Ok(Self { desk, log, health, metrics, config, blobs, gate })
    }

    /// Whom its network lets in, and what it presents.
    #[must_use]
    pub fn admission(&self) -> Arc<dyn Admission> {
        Arc::<Gate>::clone(&self.gate)
    }

    pub(super) fn operations(&self, net: &Net) -> Operations {
        Operations::beside(self.desk.clone(), net.clone(), self.config.folders)
    }

    /// Carries out one operation as the control socket would.
    ///
    /// # Errors
    /// The operation's code; [`Code::Malformed`] for none that there is.
    pub async fn perform(&self, net: &Net, operation: Value) -> Result<Value, Code> {
        let operation = serde_json::from_value(operation).map_err(|_| Code::Malformed)?;
        self.operations(net).perform(operation).await.map_err(|fault| fault.code())
    }

    /// Serves hospitals until `stop`. `turned_away`: how many the other doors turned away; `stood_by`: another process
    /// had the store before.
    ///
    /// # Errors
    /// [`IndexError`]; nothing is served then.
    pub async fn serve(
        &self,
        (net, inbound): (Net, mpsc::Receiver<Inbound>),
        turned_away: Arc<AtomicU64>,
        stood_by: bool,
        stop: &CancellationToken,
    ) -> Result<Served, IndexError> {
        let (desk, config) = (&self.desk, &self.config);
        let rejoin = Rejoin::new(desk.clone(), net.clone());
        let addresses = addresses(config, &net)?;
        if desk.voice.may_speak().is_ok() {
            tell_addresses(desk, &addresses).await?;
        }
        let (courier, carrying) = Courier::start(desk.clone(), net.clone(), stop.child_token());
        let telling = folders::Instruments::new(&self.metrics, &self.health);
        let (folders, calls) = Folders::open(
            desk.clone(),
            courier.clone(),
            config.folders,
            (&config.shared, self.blobs.clone()),
            telling,
        )?;
        let mut chores = JoinSet::new();
        chores.spawn(folders::run(folders.clone(), net.clone(), calls, stop.child_token()));
        if stood_by {
            chores.spawn(rounds::greet(desk.clone(), net.clone(), stop.child_token()));
        }
        chores.spawn(rounds::push(desk.clone(), net.clone(), rejoin.clone(), stop.child_token()));
        let spoken = rounds::Spoken {
            phases: desk.voice.watch(),
            desk: desk.clone(),
            net: net.clone(),
            rejoin: rejoin.clone(),
            addresses,
            folders: folders.clone(),
            courier: courier.clone(),
        };
        chores.spawn(spoken.run(stop.child_token()));
        chores.spawn(rejoin::run(rejoin.clone(), stop.child_token()));
        let doors = Doors::new(&self.metrics, net.clone(), turned_away);
        let told = (doors, Holds::new(&self.metrics), folders.clone());
        chores.spawn(rounds::refresh(
            desk.clone(),
            self.log.clone(),
            self.health.clone(),
            told,
            stop.child_token(),
        ));
        let (instruments, pages) = (Instruments::new(&self.metrics), Arc::default());
        let desks = Desks { desk: desk.clone(), courier, folders, net, instruments, pages, rejoin };
        chores.spawn(serve_net(desks, inbound, stop.child_token()));
        tracing::info!(version = desk.current().version(), "the index is ready");
        Ok(Served { chores, courier: carrying })
    }
}

/// What serves hospitals; it ends by the token that it was started with.
#[derive(Debug)]
pub struct Served {
    chores: JoinSet<()>,
    courier: JoinHandle<()>,
}

impl Served {
    /// Waits for all of it to have ended.
    pub async fn ended(mut self) {
        while self.chores.join_next().await.is_some() {}
        if let Err(fault) = self.courier.await {
            tracing::error!(%fault, "a part of the index ended badly");
        }
    }
}

/// Where the index is now, as the directory tells it.
fn addresses(config: &Config, net: &Net) -> Result<Vec<String>, NetError> {
    if config.advertise.is_empty() {
        return Ok(net.addresses());
    }
    let peer = handover_net::peer_id(&net.peer_key())?;
    Ok(config.advertise.iter().map(|address| format!("{address}/p2p/{peer}")).collect())
}

/// Takes what comes over the network, without pause; each request has a task of its own.
async fn serve_net(desks: Desks, mut inbound: mpsc::Receiver<Inbound>, stop: CancellationToken) {
    let places = Arc::new(Semaphore::new(MAX_REQUESTS));
    let mut tasks = JoinSet::new();
    loop {
        let event = tokio::select! {
            () = stop.cancelled() => break,
            _ = tasks.join_next(), if !tasks.is_empty() => continue,
            event = inbound.recv() => event,
        };
        match event {
            None => break,
            Some(Inbound::Request { party, body, reply, .. }) => {
                let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
                    reply.refuse(Code::Busy);
                    continue;
                };
                let desks = desks.clone();
                tasks.spawn(async move {
                    reply.send(desks.answer(party, &body).await);
                    drop(place);
                });
            }
            Some(Inbound::Connected(Party::Hospital(hospital))) => {
                tracing::debug!(%hospital, "connected");
                let desks = desks.clone();
                tasks.spawn(async move {
                    // Whoever holds what is not known here is asked first.
                    if desks.rejoin.may_serve(&hospital).await.is_ok() {
                        desks.courier.connected(hospital.clone()).await;
                        desks.folders.connected(hospital.clone());
                        push_to(&desks.desk, &desks.net, hospital).await;
                    }
                });
            }
            // For a hospital that is away; else packages go from hospital to hospital.
            Some(Inbound::Package { party: Party::Hospital(hospital), stream }) => {
                let (folders, rejoin) = (desks.folders.clone(), desks.rejoin.clone());
                tasks.spawn(async move {
                    let may_leave = rejoin.may_serve(&hospital).await;
                    folders.receive(hospital, stream, may_leave).await;
                });
            }
            Some(
                Inbound::Package { party: Party::Index, .. }
                | Inbound::Connected(Party::Index)
                | Inbound::Disconnected(_),
            ) => {}
        }
    }
    let drained = async { while tasks.join_next().await.is_some() {} };
    if tokio::time::timeout(Duration::from_millis(DRAIN_MS), drained).await.is_err() {
        tracing::warn!("requests did not end within the limit and were cut");
    }
}
