//! An index that was broken into: it has the real one's keys, its address and its certificate, and says whatever it
//! is told to. It says yes to everything that it is asked, and keeps nothing; who asks for holders of records is told
//! whom it was told to name.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context as _, Result, ensure};
use handover_core::artefact::Verified;
use handover_core::artefact::federation::EndpointCertificate;
use handover_core::artefact::patient::{AskKind, Holder, Holders};
use handover_core::codec::{self, Bytes};
use handover_core::id::SigningPublic;
use handover_core::message::{Answer, BooksQuestion, HOLDERS_INFO, Request, Verb};
use handover_core::time::DAY_MS;
use handover_core::trust::{Federation, Hello};
use handover_core::{Code, Digest, HospitalId, KeyChain, Party, rules};
use handover_index::keys::{CERTIFICATE_FILE, IndexKeys};
use handover_net::{Inbound, Limits, Net, NetConfig, Route};
use handover_scenarios::json;
use handover_scenarios::world::World;
use handover_seal::{Ed25519, OsRandom, SigningKey, hpke_seal_padded};
use tokio::runtime::Runtime;
use tokio::sync::mpsc;

use crate::fixture::Draft;

use super::books::FalseBooks;
use super::stream::Stream;
use super::{Gate, Held, LIMIT, none, now, parcel, within};

/// What it was asked: the verb and the items.
type Asked = Arc<Mutex<Vec<Request>>>;
/// Whom it names to everybody who asks for holders.
type Named = Arc<Mutex<Vec<Holder>>>;
/// Pieces of the directories that it shows, by digest.
type Pieces = Arc<Mutex<BTreeMap<Digest, Bytes>>>;
/// What it says of its books; nothing at first.
type Shown = Arc<Mutex<Option<FalseBooks>>>;

/// The broken index.
pub struct FalseIndex {
    /// Signs its directories, as the real one's do.
    pub signing: SigningKey,
    runtime: Runtime,
    net: Net,
    federation: Arc<Federation>,
    asked: Asked,
    named: Named,
    books: Shown,
    pieces: Pieces,
}

impl FalseIndex {
    /// Takes the place of a world's index, which must not run: the nodes come to it by themselves. Of its
    /// books it says nothing.
    ///
    /// # Errors
    /// Its keys cannot be read, its address is not free, or a hospital does not come.
    pub fn start(world: &World, federation: &Arc<Federation>, hospitals: &[&HospitalId]) -> Result<Self> {
        Self::start_with(world, federation, hospitals, None)
    }

    /// The same; from the first moment on it says this of its books.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn start_saying(
        world: &World,
        federation: &Arc<Federation>,
        hospitals: &[&HospitalId],
        books: FalseBooks,
    ) -> Result<Self> {
        Self::start_with(world, federation, hospitals, Some(books))
    }

    fn start_with(
        world: &World,
        federation: &Arc<Federation>,
        hospitals: &[&HospitalId],
        books: Option<FalseBooks>,
    ) -> Result<Self> {
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
            relays: Vec::new(),
            relay: None,
            limits: Limits { dial_ms: 3_000, ..Limits::default() },
        };
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        let (net, inbound) = runtime.block_on(handover_net::start(config, gate))?;
        let (asked, named, books) = (Asked::default(), Named::default(), Arc::new(Mutex::new(books)));
        let signing = SigningKey::from_seed(&keys.signing.seed());
        let pieces: Pieces = Arc::new(Mutex::new(by_digest(federation.whole().pieces)));
        let said = Said {
            named: Arc::clone(&named),
            books: Arc::clone(&books),
            pieces: Arc::clone(&pieces),
            signing,
        };
        runtime.spawn(listen(inbound, Arc::clone(&asked), said));
        let federation = Arc::clone(federation);
        let index = Self { signing: keys.signing, runtime, net, federation, asked, named, books, pieces };
        for hospital in hospitals {
            let party = Party::Hospital((*hospital).clone());
            // A dial to who has just gone may have to run out first: over QUIC nobody says no.
            within(LIMIT, &format!("{hospital} comes to the false index"), || {
                index.net.connected().contains(&party)
            })?;
        }
        Ok(index)
    }

    /// The directory that was in force with something changed, under the index's signature: its head. Whoever asks is given
    /// its pieces.
    #[must_use]
    pub fn forged(&self, change: impl FnOnce(&mut Draft)) -> Vec<u8> {
        let forged = Draft::of(&self.federation).with(change).signed_by(&self.signing);
        self.pieces.lock().unwrap_or_else(PoisonError::into_inner).extend(by_digest(forged.pieces));
        forged.head.0
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

    /// From now on it says this of its books.
    ///
    /// Nobody is told: whoever asks sees it.
    pub fn says(&self, books: FalseBooks) {
        *self.books.lock().unwrap_or_else(PoisonError::into_inner) = Some(books);
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

    /// Names these and nobody else to whoever asks for holders of their records.
    pub fn names(&self, hospitals: &[&HospitalId]) {
        let holder = |hospital: &&HospitalId| Holder {
            hospital: (*hospital).clone(),
            name: "A hospital that it names".to_owned(),
            linked: now(),
            extensions: none(),
        };
        *self.named.lock().unwrap_or_else(PoisonError::into_inner) = hospitals.iter().map(holder).collect();
    }

    /// Ends it; its address is free again.
    pub fn end(self) {
        self.runtime.block_on(self.net.shutdown());
    }
}

/// What it says, and its key.
struct Said {
    named: Named,
    books: Shown,
    pieces: Pieces,
    signing: SigningKey,
}

async fn listen(mut inbound: mpsc::Receiver<Inbound>, asked: Asked, said: Said) {
    while let Some(event) = inbound.recv().await {
        if let Inbound::Request { party, body, reply, .. } = event {
            let mut items = Vec::new();
            if let Ok(request) = Request::decode(&body) {
                let item = request.items.first();
                match (request.verb, party) {
                    (Verb::Locate, _) => {
                        let named = said.named.lock().unwrap_or_else(PoisonError::into_inner).clone();
                        items.extend(item.and_then(|ask| holders(ask.as_ref(), named)));
                    }
                    (Verb::DirectoryPieces, _) => {
                        let wanted = request.digests().unwrap_or_default();
                        let pieces = said.pieces.lock().unwrap_or_else(PoisonError::into_inner);
                        items.extend(wanted.iter().filter_map(|it| pieces.get(it)).map(|it| it.0.clone()));
                    }
                    (Verb::Books, Some(Party::Hospital(hospital))) => {
                        let question: Option<BooksQuestion> =
                            item.and_then(|it| codec::decode(it.as_ref(), codec::MAX_MESSAGE_BYTES).ok());
                        let books = said.books.lock().unwrap_or_else(PoisonError::into_inner);
                        let shown = books.as_ref().zip(question);
                        items.extend(shown.map(|(it, asked)| it.answer(&asked, &hospital, &said.signing)));
                    }
                    _ => {}
                }
                asked.lock().unwrap_or_else(PoisonError::into_inner).push(request);
            }
            reply.send(Answer::encode(Ok(items)));
        }
    }
}

fn by_digest(pieces: Vec<Bytes>) -> BTreeMap<Digest, Bytes> {
    pieces.into_iter().map(|piece| (Digest::sha256(&[piece.as_ref()]), piece)).collect()
}

/// An answer as the real one gives it: sealed to the patient, for this question.
fn holders(ask: &[u8], hospitals: Vec<Holder>) -> Option<Vec<u8>> {
    let ask = rules::ask(ask, AskKind::Locate, &Ed25519).ok()?;
    let keys = KeyChain::of(&ask.key_records, &ask.patient, &Ed25519).ok()?;
    let plain = codec::encode(&Holders { hospitals, extensions: none() });
    let binding = ask.hash();
    hpke_seal_padded(&keys.newest().sealing_key, HOLDERS_INFO, binding.as_bytes(), &plain, &mut OsRandom).ok()
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
