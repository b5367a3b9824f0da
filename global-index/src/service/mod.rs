//! The running index: network, mailboxes, HTTPS, control socket and the chores between them, wired together.
//!
//! [`Index::start`] is what the program and the tests call, with port 0 where they like. Stopping drains: nothing new
//! is taken, what is under way is answered.

mod answer;
mod gate;
mod instruments;
mod rooms;
mod rounds;

use std::path::PathBuf;
use std::sync::Arc;

use handover_cli::tell_standing;
use handover_core::artefact::federation::Authority;
use handover_core::{Code, trust};
use handover_net::{Limits, Net, NetConfig, NetError, RelayLimits};
use handover_seal::Ed25519;
use handover_store::{EngineName, Standing, Store, StoreError};
use handover_web::control::{ControlError, stands_by};
use handover_web::{CancellationToken, ServeConfig, Serving, TlsIdentity, WebError, control};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::config::{Config, STORE_FOLDER};
use crate::desk::{Changed, Desk, Edge, Seat};
use crate::directory::{self, DirectoryError};
use crate::folders;
use crate::keys::{CERTIFICATE_FILE, IndexKeys};

pub use rooms::{Rooms, Served};

/// The control socket in the data folder.
pub(crate) const CONTROL_SOCKET: &str = "control.sock";
/// Requests that are answered at one time.
const MAX_REQUESTS: usize = 256;

/// Why the index cannot start.
#[derive(Debug, thiserror::Error)]
pub enum IndexError {
    /// The root has not certified this index yet, or its certificate is not usable.
    #[error("the index's certificate {}: {why}", path.display())]
    Certificate {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
        /// The code.
        code: Code,
    },
    /// The store or the directory in it.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    /// The store cannot be opened.
    #[error(transparent)]
    Store(#[from] handover_store::StoreError),
    /// The network cannot start.
    #[error(transparent)]
    Net(#[from] NetError),
    /// HTTPS cannot start.
    #[error(transparent)]
    Web(#[from] WebError),
    /// The control socket cannot be served.
    #[error(transparent)]
    Control(#[from] ControlError),
}

impl IndexError {
    /// The stable code.
    #[must_use]
    pub fn code(&self) -> Code {
        match self {
            Self::Certificate { code, .. } => *code,
            Self::Directory(fault) => fault.code(),
            Self::Store(fault) => fault.code(),
            Self::Net(fault) => fault.code(),
            Self::Web(fault) => fault.code(),
            Self::Control(fault) => fault.code(),
        }
    }
}

/// Where a running index really is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ready {
    /// libp2p addresses with `/p2p/…`.
    pub net: Vec<String>,
    /// `https://…`.
    pub web: String,
    /// The control socket.
    pub control: PathBuf,
}

/// A running index.
pub struct Index {
    ready: Ready,
    net: Net,
    desk: Desk,
    web: Serving,
    socket: JoinHandle<()>,
    served: Served,
    /// Nothing new is taken.
    stop: CancellationToken,
}

impl std::fmt::Debug for Index {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Index").field("ready", &self.ready).finish_non_exhaustive()
    }
}

/// The index's seat: its key with the root's certificate, checked.
pub(crate) fn seat(
    config_data: &std::path::Path,
    root: handover_core::id::SigningPublic,
    keys: &IndexKeys,
    edge: &Edge,
) -> Result<Seat, IndexError> {
    let path = config_data.join(CERTIFICATE_FILE);
    let fault = |code: Code, why: String| IndexError::Certificate { path: path.clone(), why, code };
    let certificate = std::fs::read(&path).map_err(|error| {
        let next = "let the root sign the request, then `init --certificate FILE`";
        fault(Code::ConfigInvalid, format!("{error}; {next}"))
    })?;
    let authority = trust::authority(&certificate, Authority::Index, &root, edge.clock.now(), &Ed25519)
        .map_err(|error| fault(error.code(), error.to_string()))?;
    if authority.key != keys.signing.public() {
        return Err(fault(
            Code::WrongSigner,
            "is for another key than the one in the data folder".to_owned(),
        ));
    }
    let signer = Arc::new(handover_seal::SigningKey::from_seed(&keys.signing.seed()));
    Ok(Seat { root, signer, certificate, authority, keepsakes: keys.keepsakes() })
}

/// Opens the store where the configuration says.
pub(crate) async fn open_store(config: &Config, keys: &IndexKeys) -> Result<Store, StoreError> {
    let engine = config.store.engine;
    if engine == EngineName::Sled {
        let folder = config.data.join(STORE_FOLDER);
        Store::check_there(&folder, &config.shared.join(folders::BLOBS_FOLDER))?;
    }
    Store::open(&config.store_place(engine)?, &keys.cell_key()).await
}

/// The same for who serves: stands by while another process has a store in a database, and says so. Whether it did.
pub(crate) async fn open_or_stand_by(config: &Config, keys: &IndexKeys) -> Result<(Store, bool), IndexError> {
    if config.store.engine == EngineName::Sled {
        return Ok((open_store(config, keys).await?, false));
    }
    let place = config.store_place(config.store.engine)?;
    let (told, standing) = mpsc::unbounded_channel();
    let say = |it: Standing| tell_standing("index", &it.store, it.serving.as_deref());
    let cell_key = keys.cell_key();
    let opening = Store::open_or_stand_by(&place, &cell_key, told);
    let (opened, stood_by) = stands_by(config.data.join(CONTROL_SOCKET), standing, say, opening).await?;
    Ok((opened?, stood_by))
}

impl Index {
    /// Starts everything; returns when all ports are bound.
    ///
    /// # Errors
    /// [`IndexError`]; nothing runs then.
    pub async fn start(config: Config, keys: IndexKeys, edge: Edge) -> Result<Self, IndexError> {
        let store = open_store(&config, &keys).await?;
        Self::start_on((store, false), config, keys, edge).await
    }

    /// The same on a store that is open, maybe after another process.
    ///
    /// # Errors
    /// [`IndexError`]; nothing runs then.
    pub(crate) async fn start_on(
        (store, stood_by): (Store, bool),
        config: Config,
        keys: IndexKeys,
        edge: Edge,
    ) -> Result<Self, IndexError> {
        let rooms = Rooms::open(store, config.clone(), &keys, edge).await?;
        let desk = rooms.desk.clone();
        let (net, inbound) = handover_net::start(
            NetConfig {
                key_seed: (*keys.net.expose()).into(),
                listen: config.listen.clone(),
                relays: Vec::new(),
                relay: config.is_relay.then(RelayLimits::default),
                limits: Limits {
                    inbound_queue: MAX_REQUESTS,
                    requests_of_strangers: MAX_REQUESTS / 4,
                    ..Limits::default()
                },
            },
            rooms.admission(),
        )
        .await?;
        let stop = CancellationToken::new();
        let tls = TlsIdentity::load_or_create(&config.data, &config.web_names, desk.now())?;
        let web = handover_web::serve(
            ServeConfig { listen: config.web_listen, tls, limits: handover_web::Limits::default() },
            crate::http::routes(desk.clone(), rooms.log.clone(), &rooms.health, &rooms.metrics),
            stop.child_token(),
        )
        .await?;
        let control = config.data.join(CONTROL_SOCKET);
        // Told to others, who may have another working folder.
        let control = std::path::absolute(&control).unwrap_or(control);
        let operations = Arc::new(rooms.operations(&net));
        let socket = control::serve(control.clone(), operations, stop.child_token()).await?;
        let served =
            rooms.serve((net.clone(), inbound), Arc::clone(&web.turned_away), stood_by, &stop).await?;
        let ready = Ready { net: net.addresses(), web: format!("https://{}", web.address), control };
        Ok(Self { ready, net, desk, web, socket, served, stop })
    }

    /// Where it really is.
    #[must_use]
    pub const fn ready(&self) -> &Ready {
        &self.ready
    }

    /// Waits until its store refuses everything for good; why. Nothing is served after that.
    pub async fn failed(&self) -> StoreError {
        let failure = self.desk.store.failed().await;
        self.stop.cancel();
        failure
    }

    /// Takes nothing new, answers what is under way, then lets go of everything.
    pub async fn stop(self) {
        let Self { net, desk, web, socket, served, stop, .. } = self;
        stop.cancel();
        let drained = async {
            served.ended().await;
            [web.join.await, socket.await]
        };
        for ended in desk.store.drain(drained).await {
            if let Err(fault) = ended {
                tracing::error!(%fault, "a part of the index ended badly");
            }
        }
        net.shutdown().await;
        desk.store.close().await;
    }
}

/// The directory tells where the index is now; with other addresses, or an old directory, it is made anew.
async fn tell_addresses(desk: &Desk, addresses: &[String]) -> Result<(), DirectoryError> {
    let is_stale = desk.current().is_stale(desk.now())
        || desk.current().federation().directory().indexes
            != [handover_core::codec::Bytes(desk.seat.certificate.clone())];
    let (maker, addresses) = (desk.keys.clone(), addresses.to_vec());
    desk.change::<(), DirectoryError, _>(move |txn| {
        let moved = directory::set_addresses(txn, &maker, &addresses)?;
        Ok(((), if moved || is_stale { Changed::Directory } else { Changed::Nothing }))
    })
    .await
}
