//! Folders: who may leave a package, when its release goes out, and when it is gone.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests and their helpers"
)]

mod common;

use std::path::Path;

use common::attempt::altered;
use common::transfer::{Patient, Story};
use common::{Node, Realm};
use handover_core::artefact::federation::Status;
use handover_core::artefact::transfer::{
    ContentRef, Delivered, KeyRelease, PackageHeader, PartList, Receipt,
};
use handover_core::codec::Extensions;
use handover_core::message::Verb;
use handover_core::time::{DAY_MS, HOUR_MS};
use handover_core::{Code, Random as _, TransferId};
use handover_parcel::wire::Offer;
use handover_parcel::{ParcelError, Sent};
use handover_seal::{OsRandom, tree};
use handover_store::Blobs;
use serde_json::{Value, json};

const LIMIT: std::time::Duration = std::time::Duration::from_secs(60);
/// Bytes of a package's manifest.
const BYTES: usize = 300_000;

/// A package that its source can leave, and what follows.
struct Package {
    transfer: TransferId,
    offer: Offer,
    story: Story,
    delivered: Vec<u8>,
    key_release: Vec<u8>,
    receipt: Vec<u8>,
    blobs: Blobs,
    _folder: tempfile::TempDir,
}

impl Package {
    async fn new(patient: &Patient, source: &Node, destination: &Node) -> Self {
        let story = Story::new(patient, source, destination, 100, 100);
        let folder = tempfile::tempdir().unwrap();
        let blobs = Blobs::open(folder.path()).unwrap();
        let manifest = put(&blobs, vec![OsRandom.array::<1>()[0]; BYTES]).await;
        let parts = PartList {
            salt: OsRandom.array(),
            manifest,
            contents: Vec::new(),
            extensions: Extensions::default(),
        };
        let header = altered(&story.header, &source.signing, |it: &mut PackageHeader| {
            it.parts = parts.commitment();
        });
        let hash = header.hash();
        let delivered =
            altered(&story.delivered, &destination.signing, |it: &mut Delivered| it.header = hash);
        let release = altered(&story.key_release, &source.signing, |it: &mut KeyRelease| it.header = hash);
        let receipt = altered(&story.receipt, &destination.signing, |it: &mut Receipt| it.header = hash);
        let offer = Offer {
            quote: story.quote.clone().into(),
            consent: story.consent.clone().into(),
            final_quote: None,
            header: header.envelope().to_vec().into(),
            parts,
            release: Some(release.envelope().to_vec().into()),
            extensions: Extensions::default(),
        };
        Self {
            transfer: story.transfer,
            offer,
            story,
            delivered: delivered.envelope().to_vec(),
            key_release: release.envelope().to_vec(),
            receipt: receipt.envelope().to_vec(),
            blobs,
            _folder: folder,
        }
    }

    /// Leaves it as `change` makes the offer.
    async fn left(&self, realm: &Realm, by: &Node, change: impl FnOnce(&mut Offer)) -> Result<(), Code> {
        let mut offer = self.offer.clone();
        change(&mut offer);
        let mut stream = by.net.open_package(&realm.route()).await.unwrap();
        match handover_parcel::send(&mut stream, &self.blobs, &offer).await {
            Ok(Sent::Done(done)) => {
                assert!(done.kept_until.is_some() && done.delivered.is_none());
                Ok(())
            }
            Ok(Sent::Damaged { .. }) => panic!("nothing is damaged"),
            Err(ParcelError::Refused(code)) => Err(code),
            Err(fault) => panic!("{fault}"),
        }
    }

    async fn withdrawn(&self, realm: &Realm, by: &Node) -> Result<Vec<Vec<u8>>, Code> {
        let items = vec![self.transfer.as_bytes().to_vec(), 1_u32.to_be_bytes().to_vec()];
        by.ask(realm, Verb::Withdraw, items).await
    }
}

async fn put(blobs: &Blobs, content: Vec<u8>) -> ContentRef {
    use std::io::Write as _;
    let (root, length) = tree::root(content.as_slice()).unwrap();
    let mut spool = blobs.spool().unwrap();
    spool.file().write_all(&content).unwrap();
    blobs.put(spool, root).await.unwrap();
    ContentRef { root, length, extensions: Extensions::default() }
}

/// Two hospitals, and a package of which the index has the request.
async fn waiting() -> (Realm, Node, Node, Package) {
    let realm = Realm::new().await;
    let source = realm.hospital("source", 1).await;
    let destination = realm.hospital("destination", 2).await;
    let package = Package::new(&Patient::new(), &source, &destination).await;
    destination.send(&realm, None, &package.story.request).await.unwrap();
    (realm, source, destination, package)
}

async fn folders(realm: &Realm) -> Value {
    realm.op(json!({"op": "folder-list"})).await.unwrap()["folders"].clone()
}

/// Waits until the folder is empty, and the disk.
async fn emptied(realm: &Realm) {
    let blobs = realm.config.data.join("blobs/content");
    let empty = async {
        while folders(realm).await != json!([]) || files(&blobs) > 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(LIMIT, empty).await.expect("an empty folder in time");
}

fn files(folder: &Path) -> usize {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|it| if it.path().is_dir() { files(&it.path()) } else { 1 }).sum()
}

/// Whether a content is among the letters that have come; the next ones are waited for until `last` comes.
async fn letters_until(node: &mut Node, last: &[u8]) -> Vec<Vec<u8>> {
    let mut letters = Vec::new();
    while letters.last().is_none_or(|it: &Vec<u8>| it != last) {
        letters.push(node.letter().await);
    }
    letters
}

#[tokio::test(flavor = "multi_thread")]
async fn only_its_own_source_leaves_a_package_that_verifies() {
    let (realm, source, destination, package) = waiting().await;
    let other = realm.hospital("other", 3).await;
    let foreign = Package::new(&Patient::new(), &source, &destination).await;
    for (what, by, code, change) in [
        ("no release", &source, Code::EvidenceMissing, (|it| it.release = None) as fn(&mut Offer)),
        ("a header instead of it", &source, Code::Malformed, |it| it.release = Some(it.header.clone())),
        ("other parts", &source, Code::PackageMismatch, |it| it.parts.manifest.length += 1),
        ("no parts", &source, Code::PackageMismatch, |it| it.parts.salt = [0; 16]),
        ("another hospital", &other, Code::AccessDenied, |_| {}),
        ("its destination", &destination, Code::WrongSigner, |_| {}),
    ] {
        assert_eq!(package.left(&realm, by, change).await, Err(code), "{what}");
    }
    let release = foreign.offer.release.clone();
    let mixed = package.left(&realm, &source, move |it| it.release = release).await;
    assert_eq!(mixed, Err(Code::SharesMismatch), "another package's release");
    let unknown = foreign.left(&realm, &source, |_| {}).await;
    assert_eq!(unknown, Err(Code::EvidenceMissing), "a transfer that nobody asked for");
    assert_eq!(folders(&realm).await, json!([]));

    for _ in 0..2 {
        package.left(&realm, &source, |_| {}).await.unwrap();
    }
    let listed = folders(&realm).await;
    assert_eq!((&listed[0]["hospital"], &listed[0]["packages"]), (&json!("destination"), &json!(1)));
    assert_eq!((&listed[0]["bytes"], &listed[0]["arriving"]), (&json!(BYTES), &json!(0)));
    let again = altered(&package.key_release, &source.signing, |it: &mut KeyRelease| {
        it.issued = it.issued.plus_ms(1);
    });
    let again = again.envelope().to_vec().into();
    let second = package.left(&realm, &source, |it| it.release = Some(again)).await;
    assert_eq!(second, Err(Code::Conflict), "a second release of one attempt");
    assert_eq!(package.withdrawn(&realm, &other).await, Err(Code::AccessDenied));
    assert_eq!(folders(&realm).await, listed);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_release_goes_out_against_delivery_and_goes_on_to_both() {
    let (mut realm, mut source, mut destination, package) = waiting().await;
    package.left(&realm, &source, |_| {}).await.unwrap();
    // Whatever else comes, and over a restart: nothing goes out.
    destination.send(&realm, Some(&source.id), &package.story.share_release).await.unwrap();
    realm.stop().await;
    realm.start().await;
    for node in [&source, &destination] {
        node.net.renew_hello().await;
        node.net.connect(&realm.route()).await.unwrap();
    }
    assert_eq!(folders(&realm).await[0]["packages"], 1);
    assert_eq!(source.letter().await, package.story.share_release);
    destination.send(&realm, None, &package.delivered).await.unwrap();
    let got = letters_until(&mut destination, &package.key_release).await;
    assert!(!got.contains(&package.delivered));
    let got = letters_until(&mut source, &package.key_release).await;
    assert!(got.contains(&package.delivered), "the source learns what it was handed out against");
    let told = [package.delivered.clone(), package.key_release.clone()];
    assert_eq!(package.withdrawn(&realm, &source).await.unwrap(), told, "too late");
    assert_eq!(folders(&realm).await[0]["packages"], 1, "kept until the receipt");
    destination.send(&realm, None, &package.receipt).await.unwrap();
    emptied(&realm).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_taken_back_or_withdrawn_never_goes_out() {
    let (realm, source, mut destination, package) = waiting().await;
    package.left(&realm, &source, |_| {}).await.unwrap();
    source.send(&realm, Some(&destination.id), &package.story.revocation).await.unwrap();
    destination.send(&realm, None, &package.delivered).await.unwrap();
    emptied(&realm).await;
    assert_eq!(package.withdrawn(&realm, &source).await.unwrap(), Vec::<Vec<u8>>::new());
    assert_eq!(package.left(&realm, &source, |_| {}).await, Err(Code::ConsentRevoked));
    assert_eq!(destination.letter().await, package.story.revocation);

    let other = Package::new(&Patient::new(), &source, &destination).await;
    destination.send(&realm, None, &other.story.request).await.unwrap();
    other.left(&realm, &source, |_| {}).await.unwrap();
    assert_eq!(other.withdrawn(&realm, &source).await.unwrap(), Vec::<Vec<u8>>::new());
    emptied(&realm).await;
    destination.send(&realm, None, &other.delivered).await.unwrap();
    assert!(other.left(&realm, &source, |_| {}).await.is_err(), "left again after it was withdrawn");
    // A letter of later shows that none came before it.
    source.send(&realm, Some(&destination.id), &other.story.source_refusal).await.unwrap();
    assert_eq!(destination.letter().await, other.story.source_refusal);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_goes_out_of_or_to_a_hospital_that_is_shut_out() {
    let (realm, source, mut destination, package) = waiting().await;
    package.left(&realm, &source, |_| {}).await.unwrap();
    realm.order(&source, Status::Suspended, 2).await.unwrap();
    destination.send(&realm, None, &package.delivered).await.unwrap();
    // Directory and letters come in their order: nothing of the package is among them.
    destination.directory_where(&realm, |it| it.active(&source.id, common::now()).is_err()).await;
    assert_eq!(folders(&realm).await[0]["packages"], 1, "it waits");
    assert!(destination.mail.try_recv().is_err());
    realm.order(&source, Status::Active, 3).await.unwrap();
    // The next thing of the folder makes it look again.
    destination.send(&realm, None, &package.story.share_release).await.unwrap();
    letters_until(&mut destination, &package.key_release).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_package_goes_when_its_consent_has_run_out() {
    let (realm, source, destination, package) = waiting().await;
    package.left(&realm, &source, |_| {}).await.unwrap();
    realm.pass(DAY_MS - HOUR_MS);
    destination.send(&realm, None, &package.story.share_release).await.unwrap();
    assert_eq!(folders(&realm).await[0]["packages"], 1);
    realm.pass(2 * HOUR_MS);
    // Something new for that hospital makes the index look.
    let other = Package::new(&Patient::new(), &source, &destination).await;
    let _ = destination.send(&realm, None, &other.story.request).await;
    emptied(&realm).await;
    assert!(package.left(&realm, &source, |_| {}).await.is_err());
}
