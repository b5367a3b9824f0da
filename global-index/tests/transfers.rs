//! Artefacts are verified, booked and carried; patients find their hospitals; a restart changes nothing.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "tests and their helpers"
)]

mod common;

use common::transfer::{Patient, Story, orders};
use common::{Node, Realm, now};
use handover_cluster::Cluster;
use handover_core::artefact::patient::{Ask, AskKind, Holders};
use handover_core::artefact::{Countersigned, Verified};
use handover_core::codec;
use handover_core::message::{HOLDERS_INFO, Verb};
use handover_core::{Code, Random as _};
use handover_seal::{OsRandom, SealingKey, hpke_open_padded};
use handover_store::{EngineName, Settings};
use serde_json::{Value, json};

async fn entries(realm: &Realm) -> Vec<(String, String)> {
    let page = realm.op(json!({"op": "ledger-entries", "after": null})).await.unwrap();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    page["entries"].as_array().unwrap().iter().map(|it| (text(&it["kind"]), text(&it["amount"]))).collect()
}

fn booked(kinds: &[(&str, &str)]) -> Vec<(String, String)> {
    kinds.iter().map(|(kind, amount)| ((*kind).to_owned(), (*amount).to_owned())).collect()
}

/// Sends everything in order; each artefact reaches the other hospital.
async fn tell(realm: &Realm, story: &Story, source: &mut Node, destination: &mut Node) {
    for (content, is_sources) in story.steps() {
        let (from, to) =
            if is_sources { (&mut *source, &mut *destination) } else { (&mut *destination, &mut *source) };
        from.send(realm, Some(&to.id), content).await.unwrap();
        assert_eq!(to.letter().await, *content);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transfer_is_carried_and_paid_once_whatever_is_repeated() {
    let mut realm = Realm::new().await;
    let mut source = realm.hospital("source", 1).await;
    let mut destination = realm.hospital("destination", 2).await;
    let patient = Patient::new();
    let story = Story::new(&patient, &source, &destination, 1_234, 1_234);
    tell(&realm, &story, &mut source, &mut destination).await;
    let paid = booked(&[("reserve", "12.34"), ("post", "12.34")]);
    assert_eq!(entries(&realm).await, paid);

    // Anything again, from either side, in any order: the first answer, no second letter, one fee.
    let all = [story.handover().as_slice(), &[&story.receipt]].concat();
    for _ in 0..60 {
        let [pick, side, ..] = OsRandom.array::<2>();
        let content = all[usize::from(pick) % all.len()];
        let (from, to) = if side % 2 == 0 { (&source, &destination) } else { (&destination, &source) };
        from.send(&realm, Some(&to.id), content).await.unwrap();
    }
    assert_eq!(entries(&realm).await, paid);
    let mail = realm.op(json!({"op": "mail-show"})).await.unwrap();
    assert_eq!(mail["waiting"], json!({"destination": 0, "source": 0}));
    assert!(source.mail.try_recv().is_err() && destination.mail.try_recv().is_err());
    // Too late to take it back: kept as evidence, the fee stands.
    destination.send(&realm, None, &story.revocation).await.unwrap();
    assert_eq!(entries(&realm).await, paid);

    let balances = realm.op(json!({"op": "ledger-balances"})).await.unwrap();
    assert_eq!(balances["balanced"], true);
    assert_eq!(balances["totals"][0]["posted_debits"], "12.34");
    assert_eq!(balances["totals"][0]["pending_credits"], "0.00");

    // A restart keeps books and directory.
    let version = realm.op(json!({"op": "directory-show"})).await.unwrap()["version"].as_u64().unwrap();
    realm.stop().await;
    realm.start().await;
    assert_eq!(entries(&realm).await, paid);
    let after = realm.op(json!({"op": "directory-show"})).await.unwrap();
    assert!(after["version"].as_u64().unwrap() >= version);
    let check = realm.op(json!({"op": "check"})).await.unwrap();
    assert_eq!(check["sound"], true, "{check}");
    assert_eq!(check["entries"], 2);
}

/// Where the books' tables say something else, the index goes by its own books, serves, and says so.
#[tokio::test(flavor = "multi_thread")]
async fn an_index_whose_tables_were_altered_serves_and_says_so() {
    let cluster = Cluster::start().unwrap();
    let url_file = Some(cluster.file("url", &cluster.url()).unwrap());
    let store = Settings { engine: EngineName::Postgres, url_file, ..Settings::default() };
    let mut realm = Realm::over(store, vec![]).await;
    let mut source = realm.hospital("source", 1).await;
    let mut destination = realm.hospital("destination", 2).await;
    let story = |fee| Story::new(&Patient::new(), &source, &destination, fee, fee);
    let (first, second) = (story(1_234), story(5));
    tell(&realm, &first, &mut source, &mut destination).await;
    realm.stop().await;
    let altered = "SET session_replication_role = replica; UPDATE handover.ledger_entry SET amount_minor = 1";
    cluster.sql(altered).unwrap();
    realm.start().await;
    let check = realm.op(json!({"op": "check"})).await.unwrap();
    assert_eq!(check["sound"], false, "{check}");
    assert!(check["faults"].to_string().contains("the tables of the database say something else"), "{check}");
    assert_eq!(entries(&realm).await, booked(&[("reserve", "12.34"), ("post", "12.34")]));
    for content in second.handover().into_iter().chain([&second.receipt]) {
        destination.send(&realm, Some(&source.id), content).await.unwrap();
    }
    assert_eq!(entries(&realm).await.len(), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn letters_wait_and_one_that_is_put_off_holds_up_no_other_transfer() {
    let mut realm = Realm::new().await;
    let mut source = realm.hospital("source", 1).await;
    let destination = realm.hospital("destination", 2).await;
    let patient = Patient::new();
    let first = Story::new(&patient, &source, &destination, 0, 0);
    let second = Story::new(&patient, &source, &destination, 0, 0);
    source.script.lock().unwrap().extend([Some(Code::EvidenceMissing), None, None, Some(Code::Conflict)]);
    destination.send(&realm, Some(&source.id), &first.request).await.unwrap();
    assert_eq!(source.letter().await, first.request);
    destination.send(&realm, Some(&source.id), &second.request).await.unwrap();
    // The second transfer's goes past while the first one waits.
    let mut both = [source.letter().await, source.letter().await];
    both.sort();
    let mut expected = [first.request.clone(), second.request.clone()];
    expected.sort();
    assert_eq!(both, expected);

    // What is refused for good is buried, and a person sees it.
    let third = Story::new(&patient, &source, &destination, 0, 0);
    destination.send(&realm, Some(&source.id), &third.request).await.unwrap();
    source.letter().await;
    let dead = loop {
        let mail = realm.op(json!({"op": "mail-show"})).await.unwrap();
        if let Some(dead) = mail["dead"].get(0) {
            break dead.clone();
        }
        tokio::task::yield_now().await;
    };
    assert_eq!((&dead["code"], &dead["kind"]), (&json!("conflict"), &json!("request")));

    // Away: the letter outlives a restart of the index and comes when the hospital is back.
    source.net.clone().shutdown().await;
    let fourth = Story::new(&patient, &source, &destination, 0, 0);
    destination.send(&realm, Some(&source.id), &fourth.request).await.unwrap();
    realm.stop().await;
    realm.start().await;
    let mut back = Node::start("source", 1, &realm).await;
    back.net.connect(&realm.route()).await.unwrap();
    assert_eq!(back.letter().await, fourth.request);
}

#[tokio::test(flavor = "multi_thread")]
async fn letters_behind_a_page_of_held_ones_are_carried() {
    const HELD: usize = 105;
    let realm = Realm::new().await;
    let mut source = realm.hospital("source", 1).await;
    let destination = realm.hospital("destination", 2).await;
    source.net.clone().shutdown().await;
    let patient = Patient::new();
    let mut sent = std::collections::BTreeSet::new();
    for _ in 0..=HELD {
        let story = Story::new(&patient, &source, &destination, 0, 0);
        destination.send(&realm, Some(&source.id), &story.request).await.unwrap();
        sent.insert(story.request);
    }
    // Back, and not ready for any of the first: the one behind them comes before any of them comes again.
    source = Node::start("source", 1, &realm).await;
    source.script.lock().unwrap().extend(vec![Some(Code::EvidenceMissing); HELD]);
    source.net.connect(&realm.route()).await.unwrap();
    let mut came = std::collections::BTreeSet::new();
    for _ in 0..=HELD {
        came.insert(source.letter().await);
    }
    assert_eq!(came, sent);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_so_is_refused_by_name() {
    let realm = Realm::new().await;
    let mut source = realm.hospital("source", 1).await;
    let mut destination = realm.hospital("destination", 2).await;
    let third = realm.hospital("third", 3).await;
    let patient = Patient::new();
    let story = Story::new(&patient, &source, &destination, 500, 700);

    assert_eq!(destination.send(&realm, None, &story.quote).await, Err(Code::EvidenceMissing));
    assert_eq!(third.send(&realm, None, &story.request).await, Err(Code::AccessDenied));
    let to_stranger = destination.send(&realm, Some(&third.id), &story.request).await;
    assert_eq!(to_stranger, Err(Code::AccessDenied));
    let mut forged = story.request.clone();
    *forged.last_mut().unwrap() ^= 1;
    assert_eq!(destination.send(&realm, None, &forged).await, Err(Code::BadSignature));
    let unknown = Node { id: "nowhere".parse().unwrap(), ..Node::start("nowhere", 4, &realm).await };
    let strange = Story::new(&patient, &source, &unknown, 0, 0);
    assert_eq!(source.send(&realm, None, &strange.request).await, Err(Code::UnknownHospital));
    // Above what the patient signed for.
    let dear = Story::new(&patient, &source, &destination, 10_001, 10_001);
    for content in [&dear.request, &dear.quote, &dear.consent] {
        destination.send(&realm, None, content).await.unwrap();
    }
    assert_eq!(source.send(&realm, None, &dear.header).await, Err(Code::CapExceeded));
    // Another patient's consent in its place.
    let other = Story::new(&Patient::new(), &source, &destination, 0, 0);
    destination.send(&realm, None, &story.request).await.unwrap();
    source.send(&realm, None, &story.quote).await.unwrap();
    assert_eq!(destination.send(&realm, None, &other.consent).await, Err(Code::EvidenceMissing));

    // A receipt that states another fee: nothing is posted, and the books say why.
    tell(&realm, &story, &mut source, &mut destination).await;
    let page = realm.op(json!({"op": "ledger-entries", "after": null})).await.unwrap();
    assert_eq!(entries(&realm).await, booked(&[("reserve", "5.00"), ("hold", "5.00")]));
    assert_eq!(page["entries"][0]["hold"], "the receipt states 7.00 USD, reserved is 5.00 USD");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consent_taken_back_lets_the_fee_go() {
    let realm = Realm::new().await;
    let source = realm.hospital("source", 1).await;
    let mut destination = realm.hospital("destination", 2).await;
    let story = Story::new(&Patient::new(), &source, &destination, 500, 500);
    for content in [&story.request, &story.quote, &story.consent, &story.header] {
        source.send(&realm, None, content).await.unwrap();
    }
    source.send(&realm, Some(&destination.id), &story.revocation).await.unwrap();
    assert_eq!(destination.letter().await, story.revocation);
    assert_eq!(entries(&realm).await, booked(&[("reserve", "5.00"), ("void", "5.00")]));
    // What was on its way is kept, and what the destination received in spite of it is paid: once.
    for content in [&story.delivered, &story.key_release, &story.receipt, &story.receipt] {
        destination.send(&realm, None, content).await.unwrap();
    }
    let paid = booked(&[("reserve", "5.00"), ("void", "5.00"), ("post-direct", "5.00")]);
    assert_eq!(entries(&realm).await, paid);
    let check = realm.op(json!({"op": "check"})).await.unwrap();
    assert_eq!(check["sound"], true, "{check}");
}

/// One share is out, the patient's is not, and the destination signs that nothing will be opened: whatever it says
/// first, nobody owes anything.
#[tokio::test(flavor = "multi_thread")]
async fn a_consent_taken_back_between_the_two_shares_lets_the_fee_go() {
    for order in orders(3) {
        let realm = Realm::new().await;
        let source = realm.hospital("source", 1).await;
        let destination = realm.hospital("destination", 2).await;
        let story = Story::new(&Patient::new(), &source, &destination, 500, 500);
        for content in &story.handover()[..6] {
            source.send(&realm, None, content).await.unwrap();
        }
        let copies = [&story.revocation, &story.refusal, &story.taken_back];
        for (number, copy) in order.iter().enumerate() {
            destination.send(&realm, None, copies[*copy]).await.unwrap();
            let is_taken_back = [0, 2].iter().all(|needed| order[..=number].contains(needed));
            let stands = if is_taken_back { 2 } else { 1 };
            let moved = moved(&realm).await;
            assert_eq!(moved.len(), stands, "its own word alone frees it of nothing: {order:?}");
        }
        assert_eq!(moved(&realm).await, booked(&[("reserve", "5.00"), ("void", "5.00")]));
        assert_eq!(held(&realm).await, Value::Null);
    }
}

/// The entries that move something.
async fn moved(realm: &Realm) -> Vec<(String, String)> {
    entries(realm).await.into_iter().filter(|(kind, _)| kind != "hold").collect()
}

async fn held(realm: &Realm) -> Value {
    realm.op(json!({"op": "ledger-entries", "after": null})).await.unwrap()["entries"][0]["hold"].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_destination_does_not_free_itself_of_the_fee_for_what_it_has() {
    let refused = "the destination refused after delivery, reserved is 5.00 USD";
    let reserved = booked(&[("reserve", "5.00")]);
    // The refusal after the delivery, before the header, and between the two.
    for (order, expected) in [
        ([0, 1, 2], reserved.clone()),
        ([2, 0, 1], reserved.clone()),
        ([0, 2, 1], booked(&[("reserve", "5.00"), ("void", "5.00")])),
    ] {
        let realm = Realm::new().await;
        let source = realm.hospital("source", 1).await;
        let destination = realm.hospital("destination", 2).await;
        let story = Story::new(&Patient::new(), &source, &destination, 500, 500);
        for content in [&story.request, &story.quote, &story.consent] {
            source.send(&realm, None, content).await.unwrap();
        }
        let copies = [&story.header, &story.delivered, &story.refusal];
        for copy in order {
            source.send(&realm, None, copies[copy]).await.unwrap();
        }
        assert_eq!(moved(&realm).await, expected);
        assert_eq!(held(&realm).await, refused);
        // Its receipt after all settles it.
        source.send(&realm, None, &story.receipt).await.unwrap();
        assert_eq!(standing(&realm, &story).await, 1);
        assert_eq!(held(&realm).await, Value::Null);
    }
}

/// Fees of a transfer that stand.
async fn standing(realm: &Realm, story: &Story) -> usize {
    let (mut after, mut found) = (Value::Null, 0);
    loop {
        let page = realm.op(json!({"op": "ledger-entries", "after": after})).await.unwrap();
        let is_fee = |it: &&Value| {
            it["transfer"] == story.transfer.to_string()
                && (it["kind"] == "post" || it["kind"] == "post-direct")
        };
        found += page["entries"].as_array().unwrap().iter().filter(is_fee).count();
        after = page["next"].clone();
        if after.is_null() {
            return found;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_the_order_of_the_copies_a_receipt_leaves_one_fee() {
    let realm = Realm::new().await;
    let source = realm.hospital("source", 1).await;
    let destination = realm.hospital("destination", 2).await;
    let patient = Patient::new();
    for (number, order) in orders(5).into_iter().enumerate() {
        // Three ways to end a transfer, five places in an order: every way meets every place.
        let end = ["revocation", "refusal", "source's refusal"][number % 3];
        let story = Story::new(&patient, &source, &destination, 500, 500);
        let end_copy = [&story.revocation, &story.refusal, &story.source_refusal][number % 3];
        for content in [&story.request, &story.quote, &story.consent] {
            source.send(&realm, None, content).await.unwrap();
        }
        let copies = [&story.header, &story.delivered, &story.key_release, &story.receipt, end_copy];
        let mut waiting = order.clone();
        // Who lacks evidence is told to come again, as the hospitals' outboxes do.
        while !waiting.is_empty() {
            let mut again = Vec::new();
            for copy in waiting {
                match source.send(&realm, None, copies[copy]).await {
                    Ok(()) => {}
                    Err(Code::EvidenceMissing) => again.push(copy),
                    Err(code) => panic!("{end} {order:?}: {copy} is refused with {code}"),
                }
            }
            waiting = again;
        }
        assert_eq!(standing(&realm, &story).await, 1, "{end} {order:?}");
    }
    let check = realm.op(json!({"op": "check"})).await.unwrap();
    assert_eq!((&check["sound"], &check["open_reservations"]), (&json!(true), &json!(0)), "{check}");
}

#[tokio::test(flavor = "multi_thread")]
async fn patients_find_their_hospitals_and_nobody_else_does() {
    let realm = Realm::new().await;
    let lakeside = realm.hospital("lakeside", 1).await;
    let hilltop = realm.hospital("hilltop", 2).await;
    let (patient, other) = (Patient::new(), Patient::new());
    let link = Countersigned::sign(&patient.link(&lakeside.id), &lakeside.signing);
    assert_eq!(hilltop.ask(&realm, Verb::Link, vec![link.clone()]).await, Err(Code::WrongSigner));
    let by_patient_alone = patient.link(&lakeside.id).envelope().to_vec();
    assert_eq!(lakeside.ask(&realm, Verb::Link, vec![by_patient_alone]).await, Err(Code::Malformed));
    for _ in 0..2 {
        assert_eq!(lakeside.ask(&realm, Verb::Link, vec![link.clone()]).await, Ok(vec![]));
    }

    let ask = patient.sign_ask(patient.ask(AskKind::Locate));
    let locate =
        async |ask: &Verified<Ask>| hilltop.ask(&realm, Verb::Locate, vec![ask.envelope().to_vec()]).await;
    let answer = locate(&ask).await.unwrap();
    let open = |key: &SealingKey| hpke_open_padded(key, HOLDERS_INFO, ask.hash().as_bytes(), &answer[0]);
    let holders: Holders = codec::decode(&open(&patient.sealing).unwrap(), 1 << 20).unwrap();
    assert_eq!(holders.hospitals.len(), 1);
    assert_eq!(holders.hospitals[0].hospital, lakeside.id);
    assert!(open(&other.sealing).is_err());
    // The first answer again for the same question; another one under its nonce is none.
    assert_eq!(locate(&ask).await.unwrap(), answer);
    let again = Ask { issued: now().plus_ms(1), ..(*ask).clone() };
    assert_eq!(locate(&patient.sign_ask(again)).await, Err(Code::Conflict));

    let old = Ask {
        issued: now().plus_ms(-700_000),
        expires: now().plus_ms(-100_000),
        ..patient.ask(AskKind::Locate)
    };
    assert_eq!(locate(&patient.sign_ask(old)).await, Err(Code::AskExpired));
    let inbox = patient.sign_ask(patient.ask(AskKind::Inbox));
    assert_eq!(locate(&inbox).await, Err(Code::AskMismatch));
    let forged = other.sign_ask(patient.ask(AskKind::Locate));
    assert_eq!(locate(&forged).await, Err(Code::WrongSigner));
}
