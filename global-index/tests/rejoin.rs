//! An index that was restored from a backup takes back what hospitals hold, and nothing else; whoever keeps it waiting, and
//! whoever comes late.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "tests and their helpers"
)]

mod common;

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::path::Path;
use std::time::Duration;

use common::transfer::{Patient, Story};
use common::{LIMIT, Node, Realm, now};
use handover_core::artefact::books::{HoldOrder, LedgerPage, Settled};
use handover_core::artefact::federation::Status;
use handover_core::artefact::patient::Consent;
use handover_core::artefact::{Signed, Verified};
use handover_core::codec::{self, Extensions, MAX_MESSAGE_BYTES};
use handover_core::ledger::merkle;
use handover_core::message::{BooksAnswer, BooksQuestion, OpenedEntry, Verb};
use handover_core::{Code, Digest, HospitalId};
use serde_json::{Value, json};

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().map(Result::unwrap) {
        let target = to.join(entry.file_name());
        match entry.file_type().unwrap() {
            kind if kind.is_dir() => copy(&entry.path(), &target),
            kind if kind.is_file() => drop(std::fs::copy(entry.path(), target).unwrap()),
            _ => {}
        }
    }
}

/// Waits until what the index says of its store is so.
async fn says(realm: &Realm, is_so: impl Fn(&Value) -> bool) -> Value {
    let end = tokio::time::Instant::now() + LIMIT;
    loop {
        let said = realm.op(json!({"op": "rejoin-show"})).await.unwrap();
        if is_so(&said) {
            return said;
        }
        assert!(tokio::time::Instant::now() < end, "it says: {said}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn has_caught_up(said: &Value) -> bool {
    said["done"].is_string() && said["speaks"] == true
}

async fn rejoin(realm: &Realm, without: &[&HospitalId]) {
    realm.op(json!({"op": "rejoin", "without": without})).await.unwrap();
}

/// Whether the index serves a hospital, once it may speak.
async fn serves(realm: &Realm, hospital: &Node) -> Result<(), Code> {
    hospital.ask(realm, Verb::Newest, vec![]).await.map(drop)
}

/// What a hospital is given of the books.
async fn copies(realm: &Realm, hospital: &Node) -> BooksAnswer {
    let question = BooksQuestion { from: 0, seen: 0, extensions: Extensions::default() };
    let answer = hospital.ask(realm, Verb::Books, vec![codec::encode(&question)]).await.unwrap();
    codec::decode(&answer[0], MAX_MESSAGE_BYTES).unwrap()
}

/// Puts a copy of the index's data in its place; it does not run then.
async fn put_back(realm: &mut Realm, backup: &Path) {
    realm.stop().await;
    std::fs::remove_dir_all(&realm.config.data).unwrap();
    copy(backup, &realm.config.data);
}

/// A copy of the index's data, which it goes on with.
async fn back_up(realm: &mut Realm) -> tempfile::TempDir {
    let backup = tempfile::tempdir().unwrap();
    realm.stop().await;
    copy(&realm.config.data, backup.path());
    realm.start().await;
    backup
}

/// Three hospitals, of which the last one was suspended since the backup that the index is put back to. Only the first
/// one answers; the second has the directory that says so.
async fn restored() -> (Realm, Node, Node, Node, u64) {
    let mut realm = Realm::new().await;
    let near = realm.hospital("near", 1).await;
    let mut far = realm.hospital("far", 2).await;
    let out = realm.hospital("out", 3).await;
    let backup = back_up(&mut realm).await;
    far.net.connect(&realm.route()).await.unwrap();
    realm.order(&out, Status::Suspended, 2).await.unwrap();
    let is_out = |of: &handover_core::trust::Federation| of.member(&out.id).unwrap().order.number == 2;
    let later = far.directory_where(&realm, is_out).await;
    let version = later.directory().version;
    put_back(&mut realm, backup.path()).await;
    {
        let mut held = far.held.lock().unwrap();
        held.newest = vec![later.directory().envelope().to_vec()];
        held.pieces = later.whole().pieces;
    }
    for hospital in [&far, &out] {
        hospital.held.lock().unwrap().refuses = vec![Verb::Newest];
    }
    realm.start().await;
    near.net.connect(&realm.route()).await.unwrap();
    (realm, near, far, out, version)
}

/// The second hospital is there again: the index has its order back, makes a directory with it, and goes on for good.
async fn comes_back(realm: &Realm, [near, far, out]: [&mut Node; 3], version: u64) {
    let before = says(realm, |_| true).await["found"].clone();
    for hospital in [&far, &out] {
        hospital.held.lock().unwrap().refuses.clear();
    }
    assert_eq!(serves(realm, far).await, Err(Code::CatchingUp));
    let said = says(realm, |said| has_caught_up(said) && said["found"] != before).await;
    let is_whole = |of: &handover_core::trust::Federation| {
        of.directory().version > version && of.member(&out.id).unwrap().order.number == 2
    };
    near.directory_where(realm, is_whole).await;
    far.directory_where(realm, is_whole).await;
    for _ in 0..3 {
        assert_eq!((serves(realm, near).await, serves(realm, far).await), (Ok(()), Ok(())));
    }
    assert_eq!(says(realm, |_| true).await["found"], said["found"], "it catches up again");
    // Numbers go on where they were.
    assert_eq!(realm.order(out, Status::Active, 2).await, Err(Code::Conflict));
    realm.order(out, Status::Active, 3).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_comes_back_that_the_first_who_answered_had_not_heard_of() {
    let (realm, mut near, mut far, mut out, version) = restored().await;
    let is_newer = |of: &handover_core::trust::Federation| of.directory().version > version;
    let opened = near.directory_where(&realm, is_newer).await;
    assert_eq!(opened.member(&out.id).unwrap().order.number, 1, "nobody has told of the order");
    assert!(says(&realm, |said| said["speaks"] == true).await["found"].is_null());
    comes_back(&realm, [&mut near, &mut far, &mut out], version).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_was_left_out_is_asked_when_it_is_back_and_once() {
    let (realm, mut near, mut far, mut out, version) = restored().await;
    says(&realm, |said| said["speaks"] == true).await;
    let refused = realm.op(json!({"op": "rejoin", "without": [&far.id, "fra"]})).await.unwrap_err();
    assert_eq!(refused, Code::UnknownHospital);
    assert!(says(&realm, |_| true).await["found"].is_null(), "nothing was done");
    rejoin(&realm, &[&far.id, &out.id]).await;
    says(&realm, has_caught_up).await;
    assert_eq!(serves(&realm, &near).await, Ok(()));
    comes_back(&realm, [&mut near, &mut far, &mut out], version).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_answers_for_ever_keeps_nobody_else_from_being_asked_again() {
    let realm = Realm::new().await;
    let endless = realm.hospital("endless", 1).await;
    let late = realm.hospital("late", 2).await;
    endless.held.lock().unwrap().is_endless = true;
    late.held.lock().unwrap().refuses = vec![Verb::Evidence];
    rejoin(&realm, &[]).await;
    says(&realm, |_| endless.held.lock().unwrap().asked > 2).await;
    let both = json!([endless.id, late.id]);
    says(&realm, |said| said["waits_for"] == both).await;
    late.held.lock().unwrap().refuses.clear();
    let said = says(&realm, |said| said["waits_for"] == json!([endless.id])).await;
    assert_eq!(said["speaks"], false);
    rejoin(&realm, &[&endless.id]).await;
    says(&realm, has_caught_up).await;
    assert_eq!(serves(&realm, &late).await, Ok(()));
}

/// A thief has the former key of a destination, and a source helps: nothing of that counts as lost. From the destination
/// itself it does, and then what stands on it does from anybody.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_former_key_signed_comes_back_from_its_hospital_alone() {
    let realm = Realm::new().await;
    let source = realm.hospital("source", 1).await;
    let before = realm.hospital("destination", 2).await;
    let story = Story::new(&Patient::new(), &source, &before, 500, 500);
    let next = Node::start("destination", 4, &realm).await;
    next.enrol(&realm).await.unwrap();
    realm.certify_as(&next, Some(next.signing.public())).await.unwrap();
    realm.order(&next, Status::Active, 2).await.unwrap();
    next.net.renew_hello().await;
    next.net.connect(&realm.route()).await.unwrap();

    let all: Vec<Vec<u8>> = story.handover().into_iter().chain([&story.receipt]).cloned().collect();
    source.held.lock().unwrap().evidence = all.clone();
    rejoin(&realm, &[]).await;
    let said = says(&realm, has_caught_up).await;
    assert_eq!(said["artefacts"], 0);
    let booked = realm.op(json!({"op": "ledger-entries"})).await.unwrap();
    assert_eq!(booked["entries"], json!([]));

    next.held.lock().unwrap().evidence = vec![story.request, story.delivered, story.receipt];
    rejoin(&realm, &[]).await;
    let said = says(&realm, has_caught_up).await;
    assert_eq!(said["artefacts"], all.len());
}

/// The log comes back although a hospital mixes a false entry into it; and of two consents the one that the log names, though
/// the other one comes first.
#[tokio::test(flavor = "multi_thread")]
async fn the_log_comes_back_and_the_consent_that_it_names() {
    let mut realm = Realm::new().await;
    let source = realm.hospital("source", 1).await;
    let destination = realm.hospital("destination", 2).await;
    let backup = back_up(&mut realm).await;
    let patient = Patient::new();
    let story = Story::new(&patient, &source, &destination, 500, 500);
    for content in story.handover() {
        source.send(&realm, None, content).await.unwrap();
    }
    destination.send(&realm, None, &story.receipt).await.unwrap();
    let before = realm.op(json!({"op": "ledger-entries"})).await.unwrap();
    let answer = copies(&realm, &source).await;
    put_back(&mut realm, backup.path()).await;

    let consent = Signed::<Consent>::read(&story.consent).unwrap().claim().clone();
    let other = Consent { details: Digest::sha256(&[b"other"]), ..consent };
    let other = Verified::sign(other, &patient.signing).envelope().to_vec();
    let mut all: Vec<Vec<u8>> = story.handover().into_iter().chain([&story.receipt]).cloned().collect();
    let count = all.len();
    all.insert(2, other);
    let falsified = OpenedEntry { mark: None, ..answer.opened[0].clone() };
    let whole = answer.opened.len();
    {
        let mut held = source.held.lock().unwrap();
        held.newest = vec![answer.page.0];
        held.books = [vec![falsified], answer.opened].concat();
        held.evidence = all;
    }
    realm.start().await;
    let said = says(&realm, |said| has_caught_up(said) && said["found"].is_string()).await;
    assert_eq!(said["forked"], json!(null));
    assert_eq!((said["entries"].clone(), said["artefacts"].clone()), (json!(whole), json!(count)));
    assert_eq!(realm.op(json!({"op": "ledger-entries"})).await.unwrap(), before);
    drop(destination);
}

/// A backup from before an earlier one was put back has entries that nobody was told of, and others were told of others
/// since: those make room, and what they stood on is booked behind.
#[tokio::test(flavor = "multi_thread")]
async fn what_only_a_backup_has_makes_room_for_what_others_were_told_of() {
    let mut realm = Realm::new().await;
    let source = realm.hospital("source", 1).await;
    let destination = realm.hospital("destination", 2).await;
    let empty = back_up(&mut realm).await;
    let [first, second] = [500, 700].map(|fee| Story::new(&Patient::new(), &source, &destination, fee, fee));
    for story in [&second, &first] {
        for content in story.handover() {
            source.send(&realm, None, content).await.unwrap();
        }
    }
    let with_a_tail = back_up(&mut realm).await;
    put_back(&mut realm, empty.path()).await;
    realm.start().await;
    for content in first.handover() {
        source.send(&realm, None, content).await.unwrap();
    }
    destination.send(&realm, None, &first.receipt).await.unwrap();
    let told = realm.op(json!({"op": "ledger-entries"})).await.unwrap();
    let answer = copies(&realm, &source).await;

    put_back(&mut realm, with_a_tail.path()).await;
    {
        let mut held = source.held.lock().unwrap();
        held.newest = vec![answer.page.0];
        held.books = answer.opened;
    }
    realm.start().await;
    let said = says(&realm, |said| has_caught_up(said) && said["found"].is_string()).await;
    assert_eq!(said["forked"], json!(null));
    let booked = realm.op(json!({"op": "ledger-entries"})).await.unwrap();
    let (booked, told) = (booked["entries"].as_array().unwrap(), told["entries"].as_array().unwrap());
    assert_eq!(booked[..told.len()], told[..]);
    let behind: Vec<_> = booked[told.len()..].iter().map(|it| (&it["kind"], &it["transfer"])).collect();
    let transfer = json!(second.transfer);
    assert_eq!(behind, [(&json!("reserve"), &transfer)]);
    let check = realm.op(json!({"op": "check"})).await.unwrap();
    assert_eq!(check["faults"], json!([]), "{check}");
}

/// The root over the first entries of what a hospital was given.
fn root_of(entries: &[OpenedEntry]) -> Digest {
    let mut nodes = BTreeMap::new();
    for (size, it) in (0..).zip(entries) {
        let leaf = merkle::leaf_hash(merkle::commitment(&it.salt, it.entry.as_ref()).as_bytes());
        let more = merkle::append::<Infallible>(size, leaf, &mut |at| Ok(nodes[&at]));
        nodes.extend(more.unwrap());
    }
    merkle::root::<Infallible>(entries.len() as u64, &mut |at| Ok(nodes[&at])).unwrap()
}

/// The log comes back up to between what an order booked, or not at all, but the order does: nobody has to give it again,
/// and no receipt comes before it.
#[tokio::test(flavor = "multi_thread")]
async fn an_order_that_came_back_books_what_is_missing() {
    let mut realm = Realm::new().await;
    let source = realm.hospital("source", 1).await;
    let destination = realm.hospital("destination", 2).await;
    let backup = back_up(&mut realm).await;
    let story = Story::new(&Patient::new(), &source, &destination, 500, 500);
    for content in story.handover().into_iter().chain([&story.refusal]) {
        let by = if content == &story.refusal { &destination } else { &source };
        by.send(&realm, None, content).await.unwrap();
    }
    let held = realm.op(json!({"op": "ledger-entries"})).await.unwrap()["entries"][1].clone();
    assert_eq!(held["kind"], "hold");
    let order = HoldOrder {
        transfer: story.transfer,
        hold: held["id"].as_str().unwrap().parse().unwrap(),
        settled: Settled::ForPayer,
        reason: "the package was empty".to_owned(),
        issued: now(),
        extensions: Extensions::default(),
    };
    realm.settle(&order, 0).await.unwrap();
    assert_eq!(realm.settle(&order, 1).await.unwrap()["outcome"], "effective");
    let answer = copies(&realm, &source).await;
    let whole = Signed::<LedgerPage>::read(&answer.page.0).unwrap().claim().clone();
    assert_eq!(root_of(&answer.opened), whole.root);

    for (count, given) in [(3, 0..3), (4, 3..4)] {
        put_back(&mut realm, backup.path()).await;
        let root = root_of(&answer.opened[..count]);
        let page = LedgerPage { size: count as u64, root, ..whole.clone() };
        {
            let mut held = source.held.lock().unwrap();
            held.newest = vec![Verified::sign(page, &Realm::keys().signing).envelope().to_vec()];
            held.books = answer.opened[given].to_vec();
            held.evidence = story.handover().into_iter().chain([&story.refusal]).cloned().collect();
        }
        realm.start().await;
        says(&realm, |said| has_caught_up(said) && said["found"].is_string()).await;
        let told = || async {
            let booked = realm.op(json!({"op": "ledger-entries"})).await.unwrap();
            let booked = booked["entries"].as_array().unwrap().clone();
            booked.iter().map(|it| it["kind"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
        };
        let settled = ["reserve", "hold", "void", "release"];
        assert_eq!(told().await, settled, "{count}");
        // It is given again, in vain; another one is refused; and a receipt makes nothing due again.
        assert_eq!(realm.settle(&order, 1).await.unwrap()["outcome"], "effective");
        let other = HoldOrder { settled: Settled::ForSource, ..order.clone() };
        assert_eq!(realm.settle(&other, 1).await.map(drop), Err(Code::NotHeld));
        source.net.connect(&realm.route()).await.unwrap();
        source.send(&realm, None, &story.receipt).await.unwrap();
        assert_eq!(told().await, settled, "{count}");
        let check = realm.op(json!({"op": "check"})).await.unwrap();
        assert_eq!((&check["sound"], &check["open_holds"]), (&json!(true), &json!(0)), "{check}");
    }
    drop(destination);
}

/// A log of which nobody has an entry is given up, and not asked for at every start.
#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_was_given_up_is_not_missed_again() {
    let mut realm = Realm::new().await;
    let source = realm.hospital("source", 1).await;
    let destination = realm.hospital("destination", 2).await;
    let backup = back_up(&mut realm).await;
    let story = Story::new(&Patient::new(), &source, &destination, 500, 500);
    for content in story.handover() {
        source.send(&realm, None, content).await.unwrap();
    }
    let answer = copies(&realm, &source).await;
    put_back(&mut realm, backup.path()).await;
    source.held.lock().unwrap().newest = vec![answer.page.0];
    realm.start().await;
    let said = says(&realm, |said| has_caught_up(said) && said["forked"].is_u64()).await;
    for _ in 0..2 {
        assert_eq!(serves(&realm, &source).await, Ok(()));
        assert_eq!(says(&realm, |said| said["speaks"] == true).await["found"], said["found"]);
        realm.stop().await;
        realm.start().await;
        source.net.connect(&realm.route()).await.unwrap();
    }
}
