//! Strangers at the doors: packets that begin QUIC connections with which nobody goes on, connections that are held and
//! used for nothing, newcomers who want an answer meanwhile; and what a flood costs the process that is flooded.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use handover_core::id::SigningPublic;
use handover_core::{Code, HospitalId, Party};
use handover_net::{Admission, Inbound, Limits, Net, NetConfig, Presented, Route, peer_id};
use handover_patient::WalletError;
use handover_patient::node::NodeClient;
use handover_seal::{Secret32, SigningKey};
use serde_json::Value;
use tokio::runtime::Runtime;
use tokio::sync::mpsc::Receiver;

use super::within;

/// Connections that are begun at one time.
const AT_ONCE: usize = 100;
/// As many packets as a socket's buffer holds, and how soon the next ones follow.
const PACKETS_AT_ONCE: u32 = 50;
const PAUSE: Duration = Duration::from_millis(2);
/// Begins with this bit: a long header, as a first packet has.
const LONG_HEADER: u8 = 0x80;
/// Where its destination's connection identifier begins, after a byte of length.
const IDENTIFIER_AT: usize = 5;
/// How long a flooded process may take to be as it was: longer than any half-open connection lives.
const CALM: Duration = Duration::from_secs(60);

/// Says nothing, and takes whoever answers for the index.
struct Nobody;

impl Admission for Nobody {
    fn hello(&self) -> Vec<u8> {
        Vec::new()
    }

    fn admit(&self, _: &SigningPublic, _: &[u8]) -> Result<Party, Code> {
        Ok(Party::Index)
    }
}

/// Somebody whom nobody knows, with connections to nobody yet.
pub struct Stranger {
    runtime: Runtime,
    net: Net,
    _inbound: Receiver<Inbound>,
}

impl Stranger {
    /// With a key of its own.
    ///
    /// # Errors
    /// The system gives no room.
    pub fn new(seed: u8) -> Result<Self> {
        Self::with(seed, Limits::default())
    }

    fn with(seed: u8, limits: Limits) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let config = NetConfig {
            key_seed: [seed; 32].into(),
            listen: Vec::new(),
            relays: Vec::new(),
            relay: None,
            limits,
        };
        let (net, inbound) = runtime.block_on(handover_net::start(config, Arc::new(Nobody)))?;
        Ok(Self { runtime, net, _inbound: inbound })
    }

    /// Knocks, and is told that it is nobody.
    ///
    /// # Errors
    /// Nobody answers.
    pub fn is_answered(&self, addresses: &[String]) -> Result<()> {
        let to = Route { party: Party::Index, addresses: addresses.to_vec() };
        let presented = self.runtime.block_on(self.net.connect(&to));
        ensure!(matches!(presented, Ok(Presented::Refused(_))), "a newcomer is answered {presented:?}");
        Ok(())
    }
}

/// The addresses of one kind, `tcp` or `udp`, of those that a process said in its ready line.
///
/// # Errors
/// There are none.
pub fn addresses(ready: &Value, kind: &str) -> Result<Vec<String>> {
    let all = ready.get("net").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
    let of_kind = all.filter(|it| it.split('/').any(|part| part == kind)).map(str::to_owned);
    let found: Vec<String> = of_kind.collect();
    ensure!(!found.is_empty(), "no {kind} in {ready}");
    Ok(found)
}

/// Where that is: `/ip4/<address>/<transport>/<port>`.
///
/// # Errors
/// It is not that.
pub fn place(address: &str) -> Result<SocketAddr> {
    let mut words = address.split('/').skip(2);
    let host: Ipv4Addr = words.next().context("no address")?.parse()?;
    Ok(SocketAddr::from((host, words.nth(1).context("no port")?.parse()?)))
}

/// Somebody asks over HTTPS for what is not there, and is told so.
///
/// # Errors
/// Nobody answers.
pub fn is_served(ready: &Value, certificate: &Path) -> Result<()> {
    let url = ready.get("web").and_then(Value::as_str).context("no web address")?;
    let node = NodeClient::new(url, &std::fs::read_to_string(certificate)?)?;
    let answer = node.hospital();
    ensure!(matches!(answer, Err(WalletError::Answer { status: 404 })), "over HTTPS: {answer:?}");
    Ok(())
}

/// The first packets of so many QUIC connections. Whoever gets one has to answer, and nobody will hear it.
///
/// # Errors
/// They cannot be made.
pub fn openings(count: usize) -> Result<Vec<Vec<u8>>> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    socket.set_read_timeout(Some(Duration::from_millis(50)))?;
    let port = socket.local_addr()?.port();
    let Stranger { runtime, net, .. } = &Stranger::with(0x77, Limits { dial_ms: 300, ..Limits::default() })?;
    let mut found = BTreeMap::new();
    let mut number = 0_u32;
    let mut buffer = [0; 2_048];
    while found.len() < count {
        ensure!(number < 100_000, "no first packets come");
        for _ in 0..AT_ONCE {
            number += 1;
            let mut seed = [0; 32];
            seed[..4].copy_from_slice(&number.to_be_bytes());
            let peer =
                peer_id(&SigningKey::from_seed(&Secret32::from_bytes(seed)).public()).context("a peer")?;
            let to = Route {
                party: Party::Hospital(format!("nobody-{number}").parse::<HospitalId>()?),
                addresses: vec![format!("/ip4/127.0.0.1/udp/{port}/quic-v1/p2p/{peer}")],
            };
            let net = net.clone();
            runtime.spawn(async move { net.connect(&to).await.map(drop) });
        }
        while let Ok(length) = socket.recv(&mut buffer) {
            let packet = buffer.get(..length).unwrap_or_default();
            let identifier = packet.get(IDENTIFIER_AT).map(|of| usize::from(*of));
            let identifier = identifier.and_then(|of| packet.get(IDENTIFIER_AT + 1..IDENTIFIER_AT + 1 + of));
            if let Some(identifier) =
                identifier.filter(|_| packet.first().is_some_and(|first| first & LONG_HEADER != 0))
            {
                found.entry(identifier.to_vec()).or_insert_with(|| packet.to_vec());
            }
        }
    }
    Ok(found.into_values().take(count).collect())
}

/// Sends each packet from an address of its own: over UDP an address can be made up.
///
/// # Errors
/// The system takes none.
pub fn send_from_everywhere(packets: &[Vec<u8>], to: SocketAddr) -> Result<()> {
    for (packet, number) in packets.iter().zip(1_u32..) {
        let [_, second, third, fourth] = number.to_be_bytes();
        let from = Ipv4Addr::new(127, second.saturating_add(1), third, fourth);
        let socket = UdpSocket::bind((from, 0))?;
        socket.send_to(packet, to)?;
        if number % PACKETS_AT_ONCE == 0 {
            std::thread::sleep(PAUSE);
        }
    }
    Ok(())
}

/// What a process holds.
#[derive(Clone, Copy, Debug)]
pub struct Footprint {
    /// Resident memory.
    pub memory_bytes: u64,
    /// Open file descriptors.
    pub files: usize,
}

impl Footprint {
    /// Of a process, now.
    ///
    /// # Errors
    /// It does not run.
    pub fn of(pid: u32) -> Result<Self> {
        let folder = PathBuf::from(format!("/proc/{pid}"));
        let status = std::fs::read_to_string(folder.join("status"))?;
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).context("no VmRSS")?;
        let kib: u64 = line.split_whitespace().nth(1).context("no number")?.parse()?;
        Ok(Self { memory_bytes: kib * 1024, files: std::fs::read_dir(folder.join("fd"))?.count() })
    }

    /// Waits until a process holds no more than `self` and so much more.
    ///
    /// # Errors
    /// It goes on holding it.
    pub fn is_back(self, pid: u32, more_bytes: u64, more_files: usize) -> Result<()> {
        let is_back = || {
            Self::of(pid).is_ok_and(|now| {
                now.memory_bytes <= self.memory_bytes + more_bytes && now.files <= self.files + more_files
            })
        };
        within(CALM, "what a flood took is given back", is_back)
            .with_context(|| format!("it was {self:?}, and is {:?}", Self::of(pid)))
    }
}
