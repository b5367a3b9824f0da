//! Two hospitals in this process, with a clock of the test's: days pass, the directory expires, a review is overdue.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use handover_core::artefact::Verified;
use handover_core::artefact::break_glass::{
    BreakGlass, BreakGlassDetails, BreakGlassReading, Demographics, EmergencyPurpose, EmergencyScope,
    ReviewVerdict, WINDOW_MAX_MS,
};
use handover_core::artefact::federation::WholeDirectory;
use handover_core::artefact::recall::RecallReason;
use handover_core::codec::{self, Bytes, Extensions};
use handover_core::message::break_glass_binding;
use handover_core::time::{Clock, DAY_MS, HOUR_MS};
use handover_core::{BreakGlassId, Code, Digest, Random as _, Timestamp, TransferId};
use handover_exchange::{Directories, Exchange, Gate, GlassView, Identity, NodeAdmission, Parts};
use handover_ingest::charges::{Catalogue, PriceList};
use handover_ingest::person;
use handover_net::{Inbound, Limits, Net, NetConfig};
use handover_records::{
    Action, Departments, GrantRequest, Mark, NewContent, NewRecord, Origin, Purpose, Records, Subject,
};
use handover_seal::part::seal_part;
use handover_seal::{KeyRing, OsRandom, RsaPrivateKey, Secret32, SigningKey};
use handover_store::{Blobs, CellKey, Keyring, Store, StoreError};
use handover_tests::fixture::{Hospital, T0, World, altered};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

const LIMIT: Duration = Duration::from_secs(30);
const ADA: &str =
    r#"{"resourceType":"Patient","birthDate":"1980-02-29","name":[{"family":"Reed","given":["Ada"]}]}"#;

#[derive(Default)]
struct At(AtomicI64);

impl Clock for At {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(self.0.load(Ordering::SeqCst))
    }
}

struct House {
    of: &'static Hospital,
    store: Store,
    records: Records,
    directories: Directories,
    exchange: Exchange,
    net: Net,
    inbound: Option<mpsc::Receiver<Inbound>>,
}

impl House {
    async fn build(of: &'static Hospital, clock: &Arc<At>, folder: &Path) -> Self {
        let clock: Arc<dyn Clock> = Arc::<At>::clone(clock);
        let (store, key) = (Store::memory(&CellKey::from_bytes([1; 32])), Secret32::from_bytes([2; 32]));
        let epochs = folder.join("epochs");
        let keyring = Keyring::open(store.clone(), &epochs, &key, clock.now()).await.unwrap();
        let blobs = Blobs::open(&folder.join("blobs")).unwrap();
        let records = Records::open(store.clone(), blobs.clone(), keyring.clone(), key).await.unwrap();
        let root = World::shared().root.public();
        let directories = Directories::open(root, store.clone(), Arc::clone(&clock)).await.unwrap();
        let gate = Gate::open(&store).await.unwrap();
        let rsa = RsaPrivateKey::from_pkcs8_der(of.ring.current().pkcs8_der()).unwrap();
        let exchange = Exchange::new(Parts {
            identity: Identity {
                hospital: of.id.clone(),
                signing: SigningKey::from_seed(&of.signing.seed()),
                ring: KeyRing::new(rsa),
            },
            store: store.clone(),
            keyring,
            records: records.clone(),
            blobs,
            directories: directories.clone(),
            catalogue: Catalogue::default(),
            prices: PriceList::empty("USD".parse().unwrap()),
            currency: "USD".parse().unwrap(),
            incoming: folder.join("incoming"),
            index_addresses: Vec::new(),
            index_patience: Duration::from_secs(30),
            accepts_up_to: None,
            leaves_packages: false,
            gate,
            clock,
        });
        let hello = World::encoded(&World::hello(of));
        let config = NetConfig {
            key_seed: (*of.endpoint_key.seed().expose()).into(),
            listen: vec!["/ip4/127.0.0.1/tcp/0".to_owned()],
            relays: Vec::new(),
            relay: None,
            limits: Limits::default(),
        };
        let admission = Arc::new(NodeAdmission::new(directories.clone(), hello));
        let (net, inbound) = handover_net::start(config, admission).await.unwrap();
        Self { of, store, records, directories, exchange, net, inbound: Some(inbound) }
    }

    /// A Patient resource of Ada's name.
    async fn fill(&self, now: Timestamp, (number, origin, mark): (&str, Origin, Option<Mark>)) {
        let (subject, action, purpose, patient, transfer) = match &origin {
            Origin::Local => (Subject::staff("clerk"), Action::Import, Purpose::Import, None, None),
            Origin::Received { transfer, .. } => {
                let subject = Subject::System("test".to_owned());
                let patient = Some(number.parse().unwrap());
                (subject, Action::File, Purpose::Transfer, patient, Some(*transfer))
            }
        };
        let departments = Departments::All;
        let request =
            GrantRequest { subject, action, purpose, patient, departments, transfer, break_glass: None };
        let permit = self.records.audit().permit(request, now).await.unwrap();
        let record = NewRecord {
            patient: number.parse().unwrap(),
            department: "ward".parse().unwrap(),
            resource_type: person::TYPE.to_owned(),
            resource_id: number.to_owned(),
            content_hash: Digest::sha256(&[ADA.as_bytes()]),
            date: None,
            is_restricted: false,
            file: None,
            content: NewContent::Bytes(ADA.as_bytes().to_vec()),
            origin,
            mark,
            found_by: person::found_by(person::TYPE, ADA.as_bytes()),
        };
        match record.origin {
            Origin::Local => drop(self.records.import(&permit, now, vec![record]).await.unwrap()),
            Origin::Received { .. } => {
                drop(self.records.file_received(&permit, now, vec![record]).await.unwrap());
            }
        }
    }

    /// How many pieces lie in a space.
    async fn pieces(&self, space: &'static str) -> usize {
        let keys = self.store.keys();
        let read = self.store.read(move |txn| txn.scan(&keys.space(space).build(), None, 100));
        let found: Result<Vec<_>, StoreError> = read.await;
        found.unwrap().len()
    }
}

/// The directory of [`T0`] with where they really listen.
fn directory(houses: [&House; 2]) -> WholeDirectory {
    let world = World::shared();
    let mut directory = world.directory(1, T0);
    for (entry, hospital) in directory.hospitals.iter_mut().zip(world.hospitals()) {
        for house in houses.iter().filter(|house| house.of.id == hospital.id) {
            let addresses = house.net.addresses();
            let profile = altered(&hospital.profile, &hospital.signing, |it| it.addresses = addresses);
            entry.profile = Bytes(profile);
        }
    }
    world.published(&directory)
}

/// What a clinician of Riverside asks Lakeside.
fn asked(key: &SigningKey, certificate: &[u8], now: Timestamp) -> Vec<u8> {
    let (riverside, lakeside) = (&World::shared().riverside, &World::shared().lakeside);
    let who = Demographics {
        family: "Reed".to_owned(),
        given: "Ada".to_owned(),
        birth_date: "1980-02-29".to_owned(),
        sex: None,
        record_number: None,
        extensions: Extensions::default(),
    };
    let details = BreakGlassDetails {
        purpose: EmergencyPurpose::EmergencyTreatment,
        reason: "an emergency".to_owned(),
        demographics: Some(who),
        salt: OsRandom.array(),
        extensions: Extensions::default(),
    };
    let (id, plain) = (BreakGlassId::new(now, OsRandom.array()), codec::encode(&details));
    let seal = |to: &Hospital| {
        seal_part(to.ring.current().public(), &break_glass_binding(&id), &plain, &mut OsRandom).unwrap()
    };
    let request = BreakGlass {
        id,
        requesting: riverside.id.clone(),
        source: Some(lakeside.id.clone()),
        patient: None,
        certificate: certificate.to_vec().into(),
        issued: now,
        until: now.plus_ms(WINDOW_MAX_MS),
        details: Digest::sha256(&[&plain]),
        sealed_to_source: Some(seal(lakeside).into()),
        sealed_to_requesting: seal(riverside).into(),
        extensions: Extensions::default(),
    };
    Verified::sign(request, key).envelope().to_vec()
}

/// Looks until one at a hospital is as it should be.
async fn within(house: &House, id: BreakGlassId, holds: impl Fn(&GlassView) -> bool) -> GlassView {
    let begun = Instant::now();
    loop {
        let (view, _) = house.exchange.break_glass_details("officer", id).await.unwrap();
        if holds(&view) {
            return view;
        }
        assert!(begun.elapsed() < LIMIT, "not within {LIMIT:?}: {view:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn overdue_reviews_throttle_and_emergencies_outlast_the_directory_by_a_week() {
    let (world, folder) = (World::shared(), tempfile::tempdir().unwrap());
    let clock = Arc::new(At::default());
    let set = |now: Timestamp| clock.0.store(now.as_millis(), Ordering::SeqCst);
    set(T0.plus_ms(1));
    let mut lakeside = House::build(&world.lakeside, &clock, &folder.path().join("lakeside")).await;
    let mut riverside = House::build(&world.riverside, &clock, &folder.path().join("riverside")).await;
    let (shutdown, published) = (CancellationToken::new(), directory([&lakeside, &riverside]));
    lakeside.fill(clock.now(), ("P-1", Origin::Local, None)).await;
    // Neither what another hospital says of somebody here nor what is of somebody else makes a second one of the name.
    let received = || Origin::Received {
        source: world.riverside.id.clone(),
        origin: world.riverside.id.clone(),
        transfer: TransferId::new(T0, [4; 10]),
    };
    let by = world.riverside.id.clone();
    let mark = Mark { reason: RecallReason::WrongPatient, by, since: clock.now(), replaced: None };
    lakeside.fill(clock.now(), ("P-2", received(), None)).await;
    lakeside.fill(clock.now(), ("P-3", Origin::Local, Some(mark))).await;
    for house in [&mut lakeside, &mut riverside] {
        let pieces = || published.pieces.iter().map(|piece| piece.0.clone()).collect();
        let taken = house.directories.take(published.head.0.clone(), |_| async { Ok(pieces()) });
        taken.await.unwrap();
        let inbound = house.inbound.take().unwrap();
        drop(house.exchange.start(house.net.clone(), inbound, shutdown.clone()));
    }
    let mira = SigningKey::generate(&mut OsRandom);
    let who = ("Dr. Mira", "physician");
    let certified = riverside.exchange.certify_clinician("officer", mira.public(), who, 30 * DAY_MS).await;
    let certificate = certified.unwrap().envelope;
    let open = || riverside.exchange.break_glass(asked(&mira, &certificate, clock.now()));
    let reading = |id| {
        let reading = BreakGlassReading {
            id,
            certificate: certificate.clone().into(),
            issued: clock.now(),
            extensions: Extensions::default(),
        };
        Verified::sign(reading, &mira).envelope().to_vec()
    };
    let first = open().await.unwrap();
    assert_eq!((first.given, first.waits), (Some(EmergencyScope::Subset), None));
    let (_, opened) = riverside.exchange.read_emergency(&reading(first.id)).await.unwrap();
    assert!(String::from_utf8_lossy(&opened.bundle).contains("Reed"));
    assert!(riverside.pieces("glass-out-piece").await > 0 && lakeside.pieces("glass-in-piece").await > 0);

    // Eight days on: the directory has expired five days ago, the first one was never reviewed.
    set(T0.plus_ms(8 * DAY_MS));
    assert_eq!(riverside.directories.check(clock.now()), Err(Code::DirectoryExpired));
    let over = riverside.exchange.read_emergency(&reading(first.id)).await.err().unwrap();
    assert_eq!(over.code(), Code::BreakGlassOver);
    let owed = riverside.exchange.reviews_owed().await.unwrap();
    assert_eq!((owed.due, owed.overdue), (1, 1));
    let second = open().await.unwrap();
    assert_eq!((second.given, second.overdue_there), (Some(EmergencyScope::Subset), vec![first.id]));
    let third = open().await.unwrap();
    assert_eq!((third.given, third.refused), (None, None), "it is dropped, or not throttled");
    assert_eq!((third.waits, third.overdue_there), (Some(Code::BreakGlassThrottled), vec![first.id]));
    // What came under the first is gone; what came under the second is not.
    let begun = Instant::now();
    while riverside.pieces("glass-out-piece").await != 1 || lakeside.pieces("glass-in-piece").await != 1 {
        assert!(begun.elapsed() < LIMIT, "what came is not swept");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }

    // Reviewed, the source hears of it, and the third is answered by itself.
    let verdict = ReviewVerdict::Justified;
    let early = riverside.exchange.review_break_glass("officer", third.id, verdict, None).await;
    assert!(early.unwrap().review.is_some(), "a lost answer would keep it unreviewed for good");
    riverside.exchange.review_break_glass("officer", first.id, verdict, None).await.unwrap();
    within(&lakeside, first.id, |it| it.review.is_some()).await;
    within(&riverside, third.id, |it| it.given.is_some()).await;
    within(&lakeside, third.id, |it| it.review.is_some()).await;

    // A week after the directory's end it is over, whatever is known.
    set(T0.plus_ms(10 * DAY_MS - HOUR_MS));
    assert!(open().await.unwrap().given.is_some(), "not served within the week");
    set(T0.plus_ms(10 * DAY_MS));
    assert_eq!(open().await.err().unwrap().code(), Code::DirectoryExpired);
    shutdown.cancel();
}
