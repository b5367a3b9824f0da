//! Processes on loopback sockets that call themselves what they like.
#![allow(dead_code, unreachable_pub, reason = "not every test needs everything")]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use handover_core::id::SigningPublic;
use handover_core::{Code, Party};
use handover_net::{Admission, Inbound, Limits, Net, NetConfig, Route, start};
use tokio::sync::mpsc;
use tokio::time::timeout;

pub const TCP: &str = "/ip4/127.0.0.1/tcp/0";
pub const QUIC: &str = "/ip4/127.0.0.1/udp/0/quic-v1";
pub const LIMIT: Duration = Duration::from_secs(20);

/// A process without relays.
pub fn config(seed: u8, listen: &[&str], limits: Limits) -> NetConfig {
    NetConfig {
        key_seed: [seed; 32].into(),
        listen: listen.iter().map(ToString::to_string).collect(),
        relays: Vec::new(),
        relay: None,
        limits,
    }
}

/// Presents a party's name and admits whoever presents one.
pub struct Names {
    pub own: Mutex<String>,
    pub suspended: Mutex<Vec<Party>>,
}

impl Names {
    pub fn says(&self, name: &str) {
        *self.own.lock().unwrap() = name.to_owned();
    }
}

impl Admission for Names {
    fn hello(&self) -> Vec<u8> {
        self.own.lock().unwrap().clone().into_bytes()
    }

    fn admit(&self, _: &SigningPublic, hello: &[u8]) -> Result<Party, Code> {
        let text = std::str::from_utf8(hello).map_err(|_| Code::Malformed)?;
        let party: Party = text.parse().map_err(|_| Code::NotAdmitted)?;
        if self.suspended.lock().unwrap().contains(&party) {
            return Err(Code::HospitalSuspended);
        }
        Ok(party)
    }
}

pub struct Process {
    pub net: Net,
    pub inbound: mpsc::Receiver<Inbound>,
    pub names: Arc<Names>,
}

impl Process {
    pub async fn start(name: &str, seed: u8, listen: &[&str], limits: Limits) -> Self {
        Self::start_with(name, config(seed, listen, limits)).await
    }

    pub async fn start_with(name: &str, config: NetConfig) -> Self {
        let names = Arc::new(Names { own: Mutex::new(name.to_owned()), suspended: Mutex::default() });
        let (net, inbound) = start(config, names.clone()).await.unwrap();
        Self { net, inbound, names }
    }

    pub fn route(&self, party: &str) -> Route {
        Route { party: party.parse().unwrap(), addresses: self.net.addresses() }
    }

    pub async fn next(&mut self) -> Inbound {
        timeout(LIMIT, self.inbound.recv()).await.expect("an event in time").expect("a running network")
    }

    /// The next event of a wanted kind; others are passed over.
    pub async fn wait<T>(&mut self, wanted: impl Fn(Inbound) -> Option<T>) -> T {
        loop {
            if let Some(found) = wanted(self.next().await) {
                return found;
            }
        }
    }

    pub async fn gone(&mut self, party: &str) {
        let party: Party = party.parse().unwrap();
        self.wait(|event| matches!(event, Inbound::Disconnected(gone) if gone == party).then_some(())).await;
    }

    /// Answers every request with the party's name and the body.
    pub fn echo(self) -> (Net, Arc<Names>) {
        let Self { net, mut inbound, names } = self;
        tokio::spawn(async move {
            while let Some(event) = inbound.recv().await {
                if let Inbound::Request { party, body, reply, .. } = event {
                    reply.send(echoed(party.as_ref(), &body));
                }
            }
        });
        (net, names)
    }
}

pub fn echoed(party: Option<&Party>, body: &[u8]) -> Vec<u8> {
    let name = party.map_or("nobody".to_owned(), ToString::to_string);
    [name.as_bytes(), b":", body].concat()
}

pub fn live_only(party: &str) -> Route {
    Route { party: party.parse().unwrap(), addresses: vec![] }
}
