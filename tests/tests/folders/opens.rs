//! The index opens nothing: with every key of its, every row in the clear, every file, its log, the package, the
//! `KeyRelease` that was left and the patient's `ShareRelease` that it passed on. The rogue is the destination and the
//! patient is the test's, so that the same procedure can be given what only they have: then it opens.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read as _;

use anyhow::{Context as _, Result, ensure};
use handover_core::artefact::patient::ShareRelease;
use handover_core::artefact::transfer::{KeyRelease, PackageHeader, PartList, Quote, TransferRequest};
use handover_core::artefact::{Signed, Verified};
use handover_core::codec::{self, Bytes, MAX_MESSAGE_BYTES};
use handover_core::id::SealingPublic;
use handover_core::{Digest, HospitalId, Timestamp, TransferId, cbor_map, rules as core_rules};
use handover_dossier::{Dossier, Kind};
use handover_scenarios::programs::Programs;
use handover_scenarios::world::{Options, World};
use handover_seal::shares::{Binding, SealedShares, Shares, open_grant_key};
use handover_seal::stream::OpenReader;
use handover_seal::{KeyRing, OsRandom, SealingKey, Secret32};
use handover_store::{Store, StoreError, rows};
use handover_tests::fixture;
use handover_tests::index_data::{everything, files_below, folder, keys_of, store_of};
use handover_tests::rogue::Rogue;
use handover_tests::rogue::person::Person;

use crate::moves::{DESTINATION, SOURCE, within};

/// What stands in Ada's record.
const VALUE: &str = "what only Ada and her hospitals know";
/// Bytes of every key and share.
const KEY: usize = 32;

cbor_map! {
    /// A package's row as the index has it, written down a second time.
    struct Row {
        1 => transfer: TransferId,
        2 => attempt: u32,
        3 => source: HospitalId,
        4 => destination: HospitalId,
        5 => header: Digest,
        6 => bytes: u64,
        7 => begun: Timestamp,
        8 => left: Option<Timestamp>,
        9 => expires: Timestamp,
        10 => release: Bytes,
    }
}

/// Everything of a package that lies at the index.
struct Package {
    header: PackageHeader,
    binding: Binding,
    shares: SealedShares,
    share: ShareRelease,
    grant: SealingPublic,
    /// The sealed manifest.
    manifest: Vec<u8>,
}

/// Every 32 bytes in a row: each could be a secret. And by the public key of which each would be the secret one.
struct Words {
    all: BTreeSet<[u8; KEY]>,
    by_public: BTreeMap<SealingPublic, [u8; KEY]>,
}

impl Words {
    fn of(all: BTreeSet<[u8; KEY]>) -> Self {
        let public = |word: &[u8; KEY]| (SealingKey::from_bytes(secret(word)).public(), *word);
        Self { by_public: all.iter().map(public).collect(), all }
    }
}

/// What somebody has who wants to open a package.
struct Bag<'k> {
    /// What the index has.
    words: &'k Words,
    /// A secret that somebody adds.
    added: &'k Words,
    /// A hospital's RSA keys. The index has none: there is nothing to try.
    ring: Option<&'k KeyRing>,
}

fn secret(word: &[u8; KEY]) -> Secret32 {
    Secret32::from_bytes(*word)
}

impl Bag<'_> {
    /// The secret key to a public one.
    fn secret_of(&self, public: &SealingPublic) -> Option<SealingKey> {
        let word = self.added.by_public.get(public).or_else(|| self.words.by_public.get(public))?;
        Some(SealingKey::from_bytes(secret(word)))
    }

    /// The manifest, if any way leads to it.
    fn opens(&self, package: &Package) -> Option<Vec<u8>> {
        let asked_with = self.secret_of(&package.share.request_key);
        let sealed = package.share.sealed.as_ref();
        let given = asked_with
            .and_then(|key| open_grant_key(&key, &package.binding.consent, &package.grant, sealed).ok());
        let grant = given.or_else(|| self.secret_of(&package.grant));
        if let (Some(grant), Some(ring)) = (&grant, self.ring)
            && let Ok(shares) = package.shares.open(&package.binding, ring, grant)
        {
            return package.open_with(&shares);
        }
        // Or the content's key itself.
        self.added.all.iter().chain(&self.words.all).find_map(|word| package.open(&secret(word)))
    }
}

impl Package {
    fn open_with(&self, shares: &Shares) -> Option<Vec<u8>> {
        let secrets = shares.content_secrets(&self.binding).ok()?;
        secrets.check(self.header.commitment.as_bytes()).ok()?;
        self.open(&secrets.cek)
    }

    fn open(&self, key: &Secret32) -> Option<Vec<u8>> {
        let mut plain = Vec::new();
        OpenReader::new(self.manifest.as_slice(), key).read_to_end(&mut plain).ok()?;
        Some(plain)
    }
}

pub(crate) fn nothing() -> Result<()> {
    let programs = Programs::shared()?;
    let options =
        Options { index_log: Some("handover=trace".to_owned()), ..Options::of(&[SOURCE, DESTINATION]) };
    let mut world = World::start(programs, &options)?;
    let keys = &fixture::World::shared().hillcrest;
    let index = serde_json::from_value(world.index_ready()["net"].clone())?;
    let rogue = Rogue::start(keys, world.root().parse()?, index)?;
    rogue.refresh()?;
    rogue.join(&world, programs)?;
    let ada = records_of_ada(&world)?;
    let (transfer, request_key) = agreed(&mut world, rogue, &ada)?;
    within("the package is left in the folder", || {
        let shown = world.node(SOURCE, &["transfer", "show", &transfer.to_string()])?.json()?;
        Ok(shown["folder"]["until"].is_string())
    })?;

    let store = store_of(&world)?;
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    let (cells, all) = runtime.block_on(everything(&store))?;
    let package = runtime.block_on(package(&world, &store, transfer))?;
    let has = haystack(&world, all)?;
    let words: BTreeSet<[u8; KEY]> = has.windows(KEY).filter_map(|it| it.try_into().ok()).collect();
    ensure!(cells > 30 && words.len() > 15_000, "{cells} cells, {} words", words.len());

    let words = Words::of(words);
    let (nothing, own) = (Words::of(BTreeSet::new()), Words::of([*request_key.secret().expose()].into()));
    let bag = |added, ring| Bag { words: &words, added, ring };
    ensure!(bag(&nothing, None).opens(&package).is_none(), "the index opens it");
    ensure!(
        bag(&nothing, Some(&keys.ring)).opens(&package).is_none(),
        "the index and the hospital's key open it"
    );
    ensure!(bag(&own, None).opens(&package).is_none(), "the index and the patient's share open it");
    let opened = bag(&own, Some(&keys.ring)).opens(&package).context("both shares do not open it")?;
    ensure!(contains(&opened, VALUE.as_bytes()), "another thing was opened");
    ensure!(!contains(&has, VALUE.as_bytes()), "the record stands at the index");

    // And none of the secrets on that way lies at the index.
    let grant = open_grant_key(
        &request_key,
        &package.binding.consent,
        &package.grant,
        package.share.sealed.as_ref(),
    )?;
    let shares = package.shares.open(&package.binding, &keys.ring, &grant)?;
    let secrets = shares.content_secrets(&package.binding)?;
    let on_the_way = [&shares.hospital, &shares.patient, &secrets.cek, grant.secret(), request_key.secret()];
    for (number, secret) in on_the_way.into_iter().enumerate() {
        ensure!(!words.all.contains(secret.expose()), "secret {number} lies at the index");
    }
    // What does lie there is found by the same search.
    ensure!(words.all.contains(package.header.commitment.as_bytes()), "the header's commitment is not found");
    Ok(())
}

/// One patient with one record, so that a whole package is short and every key can be tried on it.
pub(crate) fn records_of_ada(world: &World) -> Result<Person> {
    let ada = "ada-7";
    let path = world.records_folder().join("ada.json");
    let bundle = serde_json::json!({ "resourceType": "Bundle", "type": "collection", "entry": [
        { "resource": { "resourceType": "Patient", "id": ada, "name": [{ "family": "Byron" }] } },
        { "resource": { "resourceType": "Observation", "id": "o-1", "status": "final",
            "subject": { "reference": format!("Patient/{ada}") }, "code": { "text": "Glucose" },
            "effectiveDateTime": "2024-05-01T10:00:00Z", "valueString": VALUE } },
    ] });
    std::fs::write(&path, serde_json::to_vec(&bundle)?)?;
    world.node(SOURCE, &["import", path.to_str().context("UTF-8")?])?.done()?;
    let ada = Person::new(501, ada);
    ada.link(world, SOURCE)?;
    Ok(ada)
}

/// The rogue asks with a key that the test keeps, Ada says yes and releases, and the rogue is gone before the source has
/// her consent.
pub(crate) fn agreed(world: &mut World, mut rogue: Rogue, ada: &Person) -> Result<(TransferId, SealingKey)> {
    let source: HospitalId = SOURCE.parse()?;
    let request_key = SealingKey::generate(&mut OsRandom);
    let ask = ada.signed(ada.asking(&source, rogue.id()));
    let request = TransferRequest { request_key: request_key.public(), ..rogue.request(&ask)? };
    let request = Verified::sign(request, &rogue.keys.signing);
    let transfer = request.transfer;
    let code = |what: &'static str| move |code| anyhow::anyhow!("{what}: {code}");
    rogue.post(&source, request.envelope()).map_err(code("the request"))?;
    let quote = rogue.letter::<Quote>(|it| it.transfer == transfer)?;
    let on = rogue.judge(|context| core_rules::request(request.envelope(), context))?;
    let quote = rogue.judge(|context| core_rules::quote(quote.envelope(), &on, context))?;
    let body = ada.read(&quote)?;
    let yes = ada.consent(&quote, &body, &*rogue.federation()?, |_, _| {})?;
    // The quote's copy of the key is not needed: Ada seals to the one that was asked with.
    let release = ada.release(&yes, &quote)?;
    world.stop(SOURCE)?;
    rogue.post(&source, yes.consent.envelope()).map_err(code("the consent"))?;
    rogue.post(&source, release.envelope()).map_err(code("the release"))?;
    drop(rogue);
    world.restart(SOURCE)?;
    Ok((transfer, request_key))
}

/// The package with everything that belongs to it, as it lies at the index.
async fn package(world: &World, store: &Store, transfer: TransferId) -> Result<Package> {
    let keys = store.keys();
    let read = store.read(move |txn| -> Result<_, StoreError> {
        let rows = txn.scan(&keys.space("folder").build(), None, 10)?;
        let parts = keys.space("folder-parts").raw(transfer.as_bytes()).u64(1);
        let parts: Option<PartList> = rows::get_large(txn, &parts, MAX_MESSAGE_BYTES)?;
        let mut dossier = Dossier::of(txn, &keys, transfer);
        let mut get = |place| dossier.get(place);
        Ok((
            rows,
            parts,
            get(Kind::Consent.into())?,
            get(Kind::Header.of(1))?,
            get(Kind::ShareRelease.of(1))?,
        ))
    });
    let (rows, parts, consent, header, share) = read.await?;
    let (_, row) = rows.first().context("no package in the folder")?;
    let row: Row = codec::decode(row.get(1..).unwrap_or_default(), MAX_MESSAGE_BYTES)?;
    ensure!(row.transfer == transfer && row.left.is_some(), "another package");
    let consent = Signed::<handover_core::artefact::patient::Consent>::read(&consent.context("consent")?)?;
    let header = Signed::<PackageHeader>::read(&header.context("header")?)?.claim().clone();
    let share = Signed::<ShareRelease>::read(&share.context("the patient's release")?)?.claim().clone();
    let release = Signed::<KeyRelease>::read(row.release.as_ref())?.claim().clone();
    let manifest = parts.context("the package's parts")?.manifest.root.to_string();
    let blobs = folder(world).join("blobs/content");
    let manifest = std::fs::read(blobs.join(manifest.get(..2).unwrap_or_default()).join(&manifest))?;
    Ok(Package {
        binding: Binding {
            source: header.source.clone(),
            destination: header.destination.clone(),
            consent: header.consent,
            transfer,
            attempt: 1,
        },
        header,
        shares: codec::decode(release.shares.as_ref(), MAX_MESSAGE_BYTES)?,
        share,
        grant: consent.claim().grant_key,
        manifest,
    })
}

fn contains(whole: &[u8], part: &[u8]) -> bool {
    whole.windows(part.len()).any(|window| window == part)
}

/// All that the index has but the package's own bytes: rows, keys, files and log.
fn haystack(world: &World, mut all: Vec<u8>) -> Result<Vec<u8>> {
    let keys = keys_of(world)?;
    all.extend(keys.signing.seed().expose());
    all.extend(keys.net.expose());
    all.extend(std::fs::read(world.folder().join("secrets/index"))?);
    files_below(&folder(world), &mut |path| {
        let is_read_above =
            path.components().any(|it| ["store", "blobs"].map(AsRef::as_ref).contains(&it.as_os_str()));
        // Sockets and the like are no files.
        if !is_read_above && path.is_file() {
            all.extend(std::fs::read(path)?);
        }
        Ok(())
    })?;
    all.extend(std::fs::read(world.logs().join("index.log"))?);
    Ok(all)
}
