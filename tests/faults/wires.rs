//! The wires between the processes, and between patients and hospitals: a door in front of each process, which the
//! others dial, carries bytes on, or holds them back, or breaks off.
//!
//! Who dialled is read from the system, so that a wire between two can be cut and all others stay. Bytes that are held
//! back arrive when the cut has healed, unless somebody gave the connection up: as with TCP.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use anyhow::{Context as _, Result};
use handover_scenarios::world::{Door, World};
use handover_tests::moves::Victim;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

const PIECE_BYTES: usize = 64 * 1024;

/// Where all processes are. Nobody else is there, so a port that is free stays so.
pub(crate) const HOST: Ipv4Addr = Ipv4Addr::new(127, 1, 1, 1);

/// An end of a wire: a process, or (none) the patients.
pub(crate) type End = Option<Victim>;

/// What becomes of bytes from one end to the other.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Way {
    Held,
    Slow(Duration),
}

/// All wires.
pub(crate) struct Wires {
    runtime: Runtime,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changes: watch::Sender<u64>,
}

#[derive(Default)]
struct State {
    /// The processes as they run now.
    pids: BTreeMap<u32, Victim>,
    ways: BTreeMap<(End, End), Way>,
    connections: Vec<Weak<Connection>>,
}

/// One connection through a door.
struct Connection {
    /// The socket that dialled.
    socket: Option<u64>,
    dialler: Mutex<End>,
    owner: Victim,
    broken: CancellationToken,
}

impl Wires {
    pub(crate) fn new() -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        Ok(Self { runtime, shared: Arc::default() })
    }

    /// A door in front of a process that is to be started.
    pub(crate) fn door(&self, owner: Victim) -> Result<Door> {
        let any = (HOST, 0);
        // Free until the process takes it: the system gives the same port out again late.
        let listens = std::net::TcpListener::bind(any)?.local_addr()?.port();
        let listener = self.runtime.block_on(TcpListener::bind(any))?;
        let told = listener.local_addr()?.port();
        let (shared, target) = (Arc::clone(&self.shared), SocketAddr::from((HOST, listens)));
        self.runtime.spawn(async move {
            while let Ok((inner, from)) = listener.accept().await {
                let connection = Arc::new(Connection {
                    socket: socket_of(from, told),
                    dialler: Mutex::new(None),
                    owner,
                    broken: CancellationToken::new(),
                });
                shared.state().connections.push(Arc::downgrade(&connection));
                tokio::spawn(carry(Arc::clone(&shared), connection, inner, target));
            }
        });
        Ok(Door { listens, told })
    }

    /// Takes note of who runs now.
    pub(crate) fn look(&self, world: &World) {
        let pids = Victim::ALL.iter().filter_map(|victim| Some((victim.pid(world).ok()?, *victim)));
        self.shared.state().pids = pids.collect();
    }

    pub(crate) fn set(&self, ways: impl IntoIterator<Item = ((End, End), Way)>) {
        self.shared.state().ways = ways.into_iter().collect();
        self.shared.changes.send_modify(|count| *count += 1);
    }

    /// Everything is carried again.
    pub(crate) fn heal(&self) {
        self.set([]);
    }

    /// Breaks off every connection with this end, or all; how many there were.
    pub(crate) fn reset(&self, end: Option<Victim>) -> usize {
        let mut state = self.shared.state();
        state.connections.retain(|it| it.strong_count() > 0);
        let open: Vec<Arc<Connection>> = state.connections.iter().filter_map(Weak::upgrade).collect();
        let pids = state.pids.clone();
        drop(state);
        let ends = |it: &Connection| [Some(it.owner), it.dialler(&pids)];
        let hit = open.iter().filter(|it| end.is_none() || ends(it).contains(&end));
        let broken: BTreeSet<_> = hit.map(|it| (Arc::as_ptr(it), it.broken.cancel())).collect();
        broken.len()
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn way(&self, connection: &Connection, is_inward: bool) -> Option<Way> {
        let state = self.state();
        if state.ways.is_empty() {
            return None;
        }
        let (dialler, owner) = (connection.dialler(&state.pids), Some(connection.owner));
        state.ways.get(&if is_inward { (dialler, owner) } else { (owner, dialler) }).copied()
    }

    /// Returns when a piece may pass.
    async fn pass(&self, connection: &Connection, is_inward: bool) {
        let mut changes = self.changes.subscribe();
        loop {
            changes.mark_unchanged();
            match self.way(connection, is_inward) {
                None => return,
                Some(Way::Slow(delay)) => return tokio::time::sleep(delay).await,
                Some(Way::Held) => {
                    if changes.changed().await.is_err() {
                        return;
                    }
                }
            }
        }
    }
}

impl Connection {
    /// Who dialled. Looked up when somebody wants to know, and remembered once it is known.
    fn dialler(&self, pids: &BTreeMap<u32, Victim>) -> End {
        let mut known = self.dialler.lock().unwrap_or_else(PoisonError::into_inner);
        if known.is_none() {
            *known = self
                .socket
                .and_then(|socket| pids.iter().find(|(pid, _)| has(**pid, socket)).map(|it| *it.1));
        }
        *known
    }
}

async fn carry(shared: Arc<Shared>, connection: Arc<Connection>, mut inner: TcpStream, target: SocketAddr) {
    // Nobody there: who dialled sees it at once.
    let Ok(mut outer) = TcpStream::connect(target).await else {
        let _ = inner.set_zero_linger();
        return;
    };
    let _ = (inner.set_nodelay(true), outer.set_nodelay(true));
    {
        let ((from, back), (outwards, to)) = (inner.split(), outer.split());
        let inward = pump(&shared, &connection, true, from, to);
        let outward = pump(&shared, &connection, false, outwards, back);
        tokio::select! {
            _ = async { tokio::try_join!(inward, outward) } => {}
            () = connection.broken.cancelled() => {}
        }
    }
    if connection.broken.is_cancelled() {
        let _ = (inner.set_zero_linger(), outer.set_zero_linger());
    }
}

async fn pump(
    shared: &Shared,
    connection: &Connection,
    is_inward: bool,
    mut from: ReadHalf<'_>,
    mut to: WriteHalf<'_>,
) -> std::io::Result<()> {
    let mut piece = vec![0; PIECE_BYTES];
    loop {
        let read = from.read(&mut piece).await?;
        shared.pass(connection, is_inward).await;
        if read == 0 {
            return to.shutdown().await;
        }
        to.write_all(piece.get(..read).unwrap_or_default()).await?;
    }
}

/// The inode of the socket at `from` that dialled a port here, as the system lists it.
fn socket_of(from: SocketAddr, port: u16) -> Option<u64> {
    let at = |address: SocketAddr| match address.ip() {
        IpAddr::V4(host) => format!("{:08X}:{:04X}", u32::from_ne_bytes(host.octets()), address.port()),
        IpAddr::V6(_) => String::new(),
    };
    let table = fs::read_to_string("/proc/net/tcp").ok()?;
    let (local, remote) = (at(from), at(SocketAddr::from((HOST, port))));
    let line = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let found =
        line.into_iter().find(|words| words.get(1..3) == Some(&[local.as_str(), remote.as_str()][..]))?;
    found.get(9)?.parse().ok()
}

fn has(pid: u32, socket: u64) -> bool {
    let wanted = format!("socket:[{socket}]");
    let open = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    open.into_iter().any(|it| fs::read_link(it.path()).is_ok_and(|to| to.as_os_str() == wanted.as_str()))
}

/// Fails unless who dials is known here: without it no wire between two can be cut.
pub(crate) fn check() -> Result<()> {
    fs::metadata("/proc/net/tcp").map(drop).context("connections cannot be told apart without /proc/net/tcp")
}
