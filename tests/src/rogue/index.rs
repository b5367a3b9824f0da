//! An index that was broken into: it has the real one's keys, its address and its certificate, and says whatever it
//! is told to. It says yes to everything that it is asked, and keeps nothing.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context as _, Result, ensure};
use handover_core::artefact::Verified;
use handover_core::artefact::federation::{Directory, EndpointCertificate};
use handover_core::codec;
use handover_core::id::SigningPublic;
use handover_core::message::{Answer, Request, Verb};
use handover_core::time::DAY_MS;
use handover_core::trust::{Federation, Hello};
use handover_core::{Code, HospitalId, Party};
use handover_index::keys::{CERTIFICATE_FILE, IndexKeys};
use handover_net::{Inbound, Limits, Net, NetConfig, Route};
use handover_scenarios::json;
use handover_scenarios::world::World;
use handover_seal::SigningKey;
use tokio::runtime::Runtime;
use tokio::sync::mpsc;

use super::stream::Stream;
use super::{Gate, Held, LIMIT, none, now, parcel, within};

/// What it was asked: the verb and the items.
type Asked = Arc<Mutex<Vec<Request>>>;

/// The broken index.
pub struct FalseIndex {
    /// Signs its directories, as the real one's do.
    pub signing: SigningKey,
    runtime: Runtime,
    net: Net,
    federation: Arc<Federation>,
    asked: Asked,
}

impl FalseIndex {
    /// Takes the place of a world's index, which must not run: the nodes come to it by themselves.
    ///
    /// # Errors
    /// Its keys cannot be read, its address is not free, or a hospital does not come.
    pub fn start(world: &World, federation: &Arc<Federation>, hospitals: &[&HospitalId]) -> Result<Self> {
        let folder = world.folder().join("federation").join("index");
        let keys = IndexKeys::open(&folder, &passphrase(&world.folder().join("secrets").join("index"))?)?;
        let certificate = std::fs::read(folder.join(CERTIFICATE_FILE))?;
        let root: SigningPublic = world.root().parse()?;
        let held: Held = Arc::new(Mutex::new(Some(Arc::clone(federation))));
        let endpoint = EndpointCertificate {
            party: Party::Index,
            key: SigningKey::from_seed(&keys.net).public(),
            not_before: now().plus_ms(-DAY_MS),
            not_after: now().plus_ms(DAY_MS),
            extensions: none(),
        };
        let endpoint = Verified::sign(endpoint, &keys.signing).envelope().to_vec().into();
        let hello = Hello { endpoint, authority: Some(certificate.into()), extensions: none() };
        let gate = Arc::new(Gate { hello: codec::encode(&hello), root, held });
        let config = NetConfig {
            key_seed: (*keys.net.expose()).into(),
            listen: listened(world)?,
            limits: Limits { dial_ms: 3_000, ..Limits::default() },
        };
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        let (net, inbound) = runtime.block_on(handover_net::start(config, gate))?;
        let asked = Asked::default();
        runtime.spawn(listen(inbound, Arc::clone(&asked)));
        let index = Self { signing: keys.signing, runtime, net, federation: Arc::clone(federation), asked };
        for hospital in hospitals {
            let party = Party::Hospital((*hospital).clone());
            // A dial to who has just gone may have to run out first: over QUIC nobody says no.
            within(LIMIT, &format!("{hospital} comes to the false index"), || {
                index.net.connected().contains(&party)
            })?;
        }
        Ok(index)
    }

    /// The directory that was in force with something changed, under the index's signature.
    #[must_use]
    pub fn forged(&self, change: impl FnOnce(&mut Directory)) -> Vec<u8> {
        let mut directory = (**self.federation.directory()).clone();
        change(&mut directory);
        Verified::sign(directory, &self.signing).envelope().to_vec()
    }

    /// Shows a hospital a directory.
    ///
    /// # Errors
    /// Why it is refused.
    pub fn shows(&self, to: &HospitalId, envelope: &[u8]) -> Result<(), Code> {
        self.ask(to, Verb::Directory, envelope.to_vec())
    }

    /// Delivers an artefact to a hospital, as if somebody had sent it.
    ///
    /// # Errors
    /// Why it is refused.
    pub fn delivers(&self, to: &HospitalId, content: &[u8]) -> Result<(), Code> {
        self.ask(to, Verb::Deliver, parcel(None, content))
    }

    fn ask(&self, to: &HospitalId, verb: Verb, item: Vec<u8>) -> Result<(), Code> {
        // It waits at its address, as the real one does: nobody is dialled.
        let route = Route { party: Party::Hospital(to.clone()), addresses: Vec::new() };
        let answer = self.runtime.block_on(self.net.request(&route, Request::encode(verb, vec![item])));
        Answer::decode(&answer.map_err(|fault| fault.code())?).map(drop)
    }

    /// Opens a package stream to a hospital.
    ///
    /// # Errors
    /// Why it was not accepted.
    pub fn open(&self, to: &HospitalId) -> Result<Stream, Code> {
        let route = Route { party: Party::Hospital(to.clone()), addresses: Vec::new() };
        let opened = self.runtime.block_on(self.net.open_package(&route));
        Ok(Stream::new(opened.map_err(|fault| fault.code())?, self.runtime.handle()))
    }

    /// Whether it was sent something of this kind, and said yes to it.
    #[must_use]
    pub fn was_asked(&self, verb: Verb, holds: impl Fn(&[u8]) -> bool) -> bool {
        let asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        asked.iter().any(|it| it.verb == verb && it.items.iter().any(|item| holds(item.as_ref())))
    }

    /// Ends it; its address is free again.
    pub fn end(self) {
        self.runtime.block_on(self.net.shutdown());
    }
}

async fn listen(mut inbound: mpsc::Receiver<Inbound>, asked: Asked) {
    while let Some(event) = inbound.recv().await {
        if let Inbound::Request { body, reply, .. } = event {
            if let Ok(request) = Request::decode(&body) {
                asked.lock().unwrap_or_else(PoisonError::into_inner).push(request);
            }
            reply.send(Answer::encode(Ok(Vec::new())));
        }
    }
}

/// Where the real one listens over TCP.
fn listened(world: &World) -> Result<Vec<String>> {
    let told = json::list(world.index_ready(), "net").filter_map(|it| it.as_str());
    let bare = told.filter_map(|address| address.split_once("/p2p/")).map(|(address, _)| address.to_owned());
    let tcp: Vec<String> = bare.filter(|address| address.contains("/tcp/")).collect();
    ensure!(!tcp.is_empty(), "the index listens nowhere");
    Ok(tcp)
}

fn passphrase(path: &Path) -> Result<String> {
    let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
    Ok(text.lines().next().unwrap_or_default().to_owned())
}
