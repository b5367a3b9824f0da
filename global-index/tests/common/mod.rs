//! A federation in one process: a real index, and hospitals that are real nodes on the network but decide nothing.
#![allow(dead_code, unreachable_pub, reason = "each test file uses a part of it")]

pub mod attempt;
pub mod held;
pub mod many;
pub mod transfer;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use handover_core::artefact::books::HoldOrder;
use handover_core::artefact::federation::{
    Authority, AuthorityCertificate, CertificateRequest, EndpointCertificate, EnrolmentProof,
    EnrolmentRequest, FeeSchedule, HospitalCertificate, HospitalProfile, Status, StatusOrder,
};
use handover_core::artefact::{Countersigned, Signed, Verified};
use handover_core::codec::{self, Bytes, Extensions};
use handover_core::id::SigningPublic;
use handover_core::message::{Answer, Parcel, Request, Verb};
use handover_core::time::{Clock, DAY_MS};
use handover_core::trust::{Federation, Gathering, Head, Hello, admit};
use handover_core::{Code, Digest, Edition, HospitalId, Party, Random, Timestamp};
use handover_index::keys::{CERTIFICATE_FILE, IndexKeys};
use handover_index::{Config, Edge, Index};
use handover_net::{Admission, Inbound, Net, NetConfig, Route};
use handover_seal::{Ed25519, OsRandom, RsaPrivateKey, Secret32, SigningKey, SystemClock};
use serde_json::{Value, json};
use tokio::sync::{mpsc, watch};

pub use self::held::Held;

/// No test waits longer for an event.
pub const LIMIT: Duration = Duration::from_secs(30);

pub fn now() -> Timestamp {
    SystemClock.now()
}

/// One RSA key for every hospital of a test process: making one takes seconds.
pub fn rsa() -> &'static RsaPrivateKey {
    static KEY: OnceLock<RsaPrivateKey> = OnceLock::new();
    KEY.get_or_init(|| RsaPrivateKey::generate(&mut OsRandom).unwrap())
}

pub fn key(seed: u8) -> SigningKey {
    SigningKey::from_seed(&Secret32::from_bytes([seed; 32]))
}

/// The same bytes every time, so that an index finds its keys again.
struct Counting(u8);

impl Random for Counting {
    fn fill(&mut self, bytes: &mut [u8]) {
        self.0 += 1;
        bytes.fill(self.0);
    }
}

/// The clock of index and hospitals: the system's, moved ahead by the test.
#[derive(Default)]
pub struct Moved(AtomicI64);

impl Clock for Moved {
    fn now(&self) -> Timestamp {
        now().plus_ms(self.0.load(Ordering::SeqCst))
    }
}

/// Certificates outlive every journey of the clock.
const LIFE_MS: i64 = 1_000 * DAY_MS;

pub struct Realm {
    pub root: SigningKey,
    pub operators: [SigningKey; 2],
    pub config: Config,
    index: Option<Index>,
    clock: Arc<Moved>,
    _folder: tempfile::TempDir,
}

impl Realm {
    /// An index with two operators and the fee schedule for all.
    pub async fn new() -> Self {
        Self::under(vec![]).await
    }

    /// The same, with other schedules before that one.
    pub async fn under(schedules: Vec<FeeSchedule>) -> Self {
        Self::over(handover_store::Settings::default(), schedules).await
    }

    /// The same on an engine.
    pub async fn over(store: handover_store::Settings, schedules: Vec<FeeSchedule>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (root, config) = (key(200), Self::config(folder.path(), store));
        let operators = [key(201), key(202)];
        let mut realm = Self { operators, root, config, index: None, clock: Arc::default(), _folder: folder };
        let certificate = realm.authority(Authority::Index, Self::keys().signing.public());
        std::fs::write(realm.config.data.join(CERTIFICATE_FILE), certificate).unwrap();
        realm.start().await;
        for operator in &realm.operators {
            let certificate = realm.authority(Authority::Operator, operator.public());
            realm.op(json!({"op": "operator-add", "certificate": hex::encode(certificate)})).await.unwrap();
        }
        for schedule in schedules.into_iter().chain([FeeSchedule::percentage(now())]) {
            realm.schedule(schedule).await.unwrap();
        }
        realm
    }

    /// The configuration of every index here.
    pub fn config(data: &Path, store: handover_store::Settings) -> Config {
        Config {
            name: "index.test".to_owned(),
            data: data.to_owned(),
            shared: data.to_owned(),
            root: key(200).public(),
            listen: vec!["/ip4/127.0.0.1/tcp/0".to_owned(), "/ip4/127.0.0.1/udp/0/quic-v1".to_owned()],
            advertise: vec![],
            is_relay: true,
            web_listen: "127.0.0.1:0".parse().unwrap(),
            web_names: vec!["localhost".to_owned()],
            folders: handover_index::FolderRules::default(),
            store,
            blobs: handover_store::BlobSettings::default(),
        }
    }

    /// Where its store is.
    pub fn place(&self) -> handover_store::Place {
        self.config.store_place(self.config.store.engine).unwrap()
    }

    pub fn keys() -> IndexKeys {
        IndexKeys::generate(&mut Counting(10))
    }

    pub fn authority(&self, authority: Authority, key: SigningPublic) -> Vec<u8> {
        let certificate = AuthorityCertificate {
            authority,
            name: "test".to_owned(),
            key,
            not_before: now(),
            not_after: now().plus_ms(LIFE_MS),
            extensions: Extensions::default(),
        };
        Verified::sign(certificate, &self.root).envelope().to_vec()
    }

    pub async fn start(&mut self) {
        let edge = Edge { clock: self.clock.clone(), ..Edge::system() };
        self.index = Some(Index::start(self.config.clone(), Self::keys(), edge).await.unwrap());
    }

    /// Time passes.
    pub fn pass(&self, span_ms: i64) {
        self.clock.0.fetch_add(span_ms, Ordering::SeqCst);
    }

    pub async fn stop(&mut self) {
        self.index.take().unwrap().stop().await;
    }

    pub fn index(&self) -> &Index {
        self.index.as_ref().unwrap()
    }

    pub fn route(&self) -> Route {
        Route { party: Party::Index, addresses: self.index().ready().net.clone() }
    }

    /// An operation through the control socket.
    pub async fn op(&self, request: Value) -> Result<Value, Code> {
        let control: PathBuf = self.index().ready().control.clone();
        handover_web::control::call(&control, &request, |_| {}).await.map_err(|fault| fault.code())
    }

    pub async fn certify(&self, node: &Node) -> Result<Value, Code> {
        self.certify_as(node, None).await
    }

    /// The same for a key that waits to succeed the one that the hospital has.
    pub async fn certify_as(&self, node: &Node, successor: Option<SigningPublic>) -> Result<Value, Code> {
        let show = json!({"op": "hospital-show", "hospital": node.id, "successor": successor});
        let context = self.op(show).await?;
        let request = hex::decode(context["certificate_request"].as_str().unwrap()).unwrap();
        let request = Signed::<CertificateRequest>::read(&request).unwrap();
        let certificate = HospitalCertificate {
            hospital: request.claim().hospital.clone().unwrap(),
            name: "A hospital".to_owned(),
            key: request.claim().key,
            not_before: now(),
            not_after: now().plus_ms(LIFE_MS),
            extensions: Extensions::default(),
        };
        let certificate = Verified::sign(certificate, &self.root).envelope().to_vec();
        self.op(json!({"op": "hospital-certify", "certificate": hex::encode(certificate)})).await
    }

    pub fn status_order(&self, node: &Node, status: Status, number: u64) -> StatusOrder {
        StatusOrder {
            hospital: node.id.clone(),
            key: node.signing.public().thumbprint(),
            status,
            number,
            reason: "test".to_owned(),
            issued: now(),
            extensions: Extensions::default(),
        }
    }

    pub async fn submit(&self, envelope: &[u8]) -> Result<Value, Code> {
        self.op(json!({"op": "hospital-order", "envelope": hex::encode(envelope)})).await
    }

    /// Both operators sign a fee schedule.
    pub async fn schedule(&self, schedule: FeeSchedule) -> Result<Value, Code> {
        let submit = |envelope: &[u8]| json!({"op": "schedule-submit", "envelope": hex::encode(envelope)});
        let first = Verified::sign(schedule, &self.operators[0]);
        self.op(submit(first.envelope())).await?;
        self.op(submit(&Countersigned::sign(&first, &self.operators[1]))).await
    }

    /// What the first operator signs, or the second after the first.
    pub async fn settle(&self, order: &HoldOrder, operator: usize) -> Result<Value, Code> {
        let first = Verified::sign(order.clone(), &self.operators[0]);
        let envelope = match operator {
            0 => first.envelope().to_vec(),
            _ => Countersigned::sign(&first, &self.operators[operator]),
        };
        self.op(json!({"op": "hold-settle", "envelope": hex::encode(envelope)})).await
    }

    /// Both operators, one after the other.
    pub async fn order(&self, node: &Node, status: Status, number: u64) -> Result<Value, Code> {
        let first = Verified::sign(self.status_order(node, status, number), &self.operators[0]);
        self.submit(first.envelope()).await?;
        self.submit(&Countersigned::sign(&first, &self.operators[1])).await
    }

    /// A hospital that takes part.
    pub async fn hospital(&self, name: &str, seed: u8) -> Node {
        let node = Node::start(name, seed, self).await;
        node.enrol(self).await.unwrap();
        self.certify(&node).await.unwrap();
        self.order(&node, Status::Active, 1).await.unwrap();
        node.net.renew_hello().await;
        node.net.connect(&self.route()).await.unwrap();
        node
    }

    /// A directory's head.
    pub fn verify(&self, head: &[u8]) -> Head {
        Head::verify(head, &self.root.public(), now(), &Ed25519).unwrap()
    }
}

struct NodeGate {
    hello: Vec<u8>,
    root: SigningPublic,
    clock: Arc<Moved>,
}

impl Admission for NodeGate {
    fn hello(&self) -> Vec<u8> {
        self.hello.clone()
    }

    fn admit(&self, peer: &SigningPublic, hello: &[u8]) -> Result<Party, Code> {
        admit(hello, peer, &self.root, None, self.clock.now(), &Ed25519)
    }
}

/// How a node answers the next parcels; `None` is yes.
pub type Script = Arc<Mutex<Vec<Option<Code>>>>;

pub struct Node {
    pub id: HospitalId,
    pub signing: SigningKey,
    pub net: Net,
    /// The newest directory that was pushed.
    pub directory: watch::Receiver<Vec<u8>>,
    /// Parcels' contents and patients' keys as they come, taken or not.
    pub mail: mpsc::UnboundedReceiver<Vec<u8>>,
    pub script: Script,
    pub held: Arc<Mutex<Held>>,
}

impl Node {
    pub async fn start(name: &str, seed: u8, realm: &Realm) -> Self {
        Self::start_under(name, seed, realm.root.public(), Arc::clone(&realm.clock)).await
    }

    pub async fn start_under(name: &str, seed: u8, root: SigningPublic, clock: Arc<Moved>) -> Self {
        let (id, signing, net_key): (HospitalId, _, _) = (name.parse().unwrap(), key(seed), key(seed + 100));
        let endpoint = EndpointCertificate {
            party: Party::Hospital(id.clone()),
            key: net_key.public(),
            not_before: now(),
            not_after: now().plus_ms(LIFE_MS),
            extensions: Extensions::default(),
        };
        let endpoint = Verified::sign(endpoint, &signing);
        let hello = Hello {
            endpoint: Bytes(endpoint.envelope().to_vec()),
            authority: None,
            extensions: Extensions::default(),
        };
        let gate = NodeGate { hello: codec::encode(&hello), root, clock };
        let config = NetConfig {
            key_seed: (*net_key.seed().expose()).into(),
            listen: vec!["/ip4/127.0.0.1/tcp/0".to_owned()],
            relays: Vec::new(),
            relay: None,
            limits: handover_net::Limits::default(),
        };
        let (net, inbound) = handover_net::start(config, Arc::new(gate)).await.unwrap();
        let (directories, directory) = watch::channel(Vec::new());
        let (letters, mail) = mpsc::unbounded_channel();
        let (script, held) = (Script::default(), Arc::<Mutex<Held>>::default());
        tokio::spawn(listen(inbound, directories, letters, (Arc::clone(&script), Arc::clone(&held))));
        Self { id, signing, net, directory, mail, script, held }
    }

    pub fn profile(&self, number: u64) -> HospitalProfile {
        HospitalProfile {
            reads: Edition::FIRST,
            hospital: self.id.clone(),
            number,
            name: "A hospital".to_owned(),
            rsa_key: Bytes(rsa().public().spki_der().to_vec()),
            addresses: self.net.addresses(),
            patient_url: "https://localhost:1".to_owned(),
            currency: "USD".parse().unwrap(),
            jurisdiction: "US".to_owned(),
            issued: now(),
            extensions: Extensions::default(),
        }
    }

    /// `[EnrolmentRequest, CertificateRequest]`, and the request's hash.
    pub fn enrolment(&self, profile: HospitalProfile) -> (Vec<Vec<u8>>, Digest) {
        let request = EnrolmentRequest {
            hospital: self.id.clone(),
            name: "A hospital".to_owned(),
            key: self.signing.public(),
            profile: Bytes(Verified::sign(profile, &self.signing).envelope().to_vec()),
            issued: now(),
            extensions: Extensions::default(),
        };
        let certificate = CertificateRequest {
            authority: None,
            hospital: Some(self.id.clone()),
            name: "A hospital".to_owned(),
            key: self.signing.public(),
            issued: now(),
            extensions: Extensions::default(),
        };
        let request = Verified::sign(request, &self.signing);
        let certificate = Verified::sign(certificate, &self.signing);
        (vec![request.envelope().to_vec(), certificate.envelope().to_vec()], request.hash())
    }

    pub fn proof(&self, request: Digest, answer: Digest) -> Vec<u8> {
        let proof =
            EnrolmentProof { hospital: self.id.clone(), request, answer, extensions: Extensions::default() };
        Verified::sign(proof, &self.signing).envelope().to_vec()
    }

    pub async fn ask(&self, realm: &Realm, verb: Verb, items: Vec<Vec<u8>>) -> Result<Vec<Vec<u8>>, Code> {
        self.ask_at(&realm.route(), verb, items).await
    }

    pub async fn ask_at(&self, route: &Route, verb: Verb, items: Vec<Vec<u8>>) -> Result<Vec<Vec<u8>>, Code> {
        let answer = self.net.request(route, Request::encode(verb, items)).await.unwrap();
        Answer::decode(&answer)
    }

    pub async fn enrol(&self, realm: &Realm) -> Result<(), Code> {
        self.enrol_at(&realm.route()).await
    }

    pub async fn enrol_at(&self, route: &Route) -> Result<(), Code> {
        let (items, request) = self.enrolment(self.profile(1));
        let challenge = self.ask_at(route, Verb::Enrol, items).await?;
        let secret = rsa().unwrap(&challenge[0]).unwrap();
        let proof = self.proof(request, Digest::sha256(&[&secret]));
        self.ask_at(route, Verb::Prove, vec![proof]).await.map(drop)
    }

    pub async fn send(&self, realm: &Realm, to: Option<&HospitalId>, content: &[u8]) -> Result<(), Code> {
        let parcel =
            Parcel { to: to.cloned(), content: Bytes(content.to_vec()), extensions: Extensions::default() };
        self.ask(realm, Verb::Deliver, vec![codec::encode(&parcel)]).await.map(drop)
    }

    /// The next parcel's content.
    pub async fn letter(&mut self) -> Vec<u8> {
        tokio::time::timeout(LIMIT, self.mail.recv()).await.expect("a letter in time").unwrap()
    }

    /// The directory with this head, whose pieces the index gives that are not known; none, if it has another one already.
    pub async fn complete(
        &self,
        realm: &Realm,
        head: &[u8],
        known: Option<&Federation>,
    ) -> Option<Federation> {
        let head = realm.verify(head);
        let mut gathering = Gathering::of(&head, &known.map(Federation::digests).unwrap_or_default());
        while !gathering.missing().is_empty() {
            let digests = gathering.missing().iter().map(|digest| digest.as_bytes().to_vec()).collect();
            gathering.take(self.ask(realm, Verb::DirectoryPieces, digests).await.unwrap()).ok()?;
        }
        Some(head.complete(&gathering.pieces(), known, &Ed25519).unwrap())
    }

    /// The directory in force.
    pub async fn current(&self, realm: &Realm) -> Federation {
        let head = self.ask(realm, Verb::Directory, vec![vec![0; 8]]).await.unwrap();
        self.complete(realm, &head[0], None).await.unwrap()
    }

    /// Waits for a pushed directory in which something holds.
    pub async fn directory_where(
        &mut self,
        realm: &Realm,
        holds: impl Fn(&Federation) -> bool,
    ) -> Federation {
        let wait = async {
            loop {
                let head = self.directory.borrow_and_update().clone();
                if !head.is_empty()
                    && let Some(federation) = self.complete(realm, &head, None).await
                    && holds(&federation)
                {
                    return federation;
                }
                self.directory.changed().await.unwrap();
            }
        };
        tokio::time::timeout(LIMIT, wait).await.expect("a directory in time")
    }
}

async fn listen(
    mut inbound: mpsc::Receiver<Inbound>,
    directories: watch::Sender<Vec<u8>>,
    letters: mpsc::UnboundedSender<Vec<u8>>,
    (script, held): (Script, Arc<Mutex<Held>>),
) {
    while let Some(event) = inbound.recv().await {
        let Inbound::Request { party, body, reply, .. } = event else { continue };
        assert_eq!(party, Some(Party::Index));
        let request = Request::decode(&body).unwrap();
        let mut outcome = Ok(Vec::new());
        match request.verb {
            Verb::Directory => drop(directories.send(request.items[0].0.clone())),
            Verb::Keys => drop(letters.send(request.items[0].0.clone())),
            Verb::Deliver => {
                let parcel: Parcel = codec::decode(&request.items[0].0, 1 << 20).unwrap();
                assert_eq!(parcel.to, None);
                let mut script = script.lock().unwrap();
                if !script.is_empty()
                    && let Some(code) = script.remove(0)
                {
                    outcome = Err(code);
                }
                let _ = letters.send(parcel.content.0);
            }
            Verb::Newest | Verb::DirectoryPieces | Verb::Evidence | Verb::BooksBack => {
                outcome = held.lock().unwrap().answer(&request)
            }
            _ => outcome = Err(Code::Malformed),
        }
        reply.send(Answer::encode(outcome));
    }
}
