//! What recalls do to the books, on a running index: a part of the fee is given back once, whenever the fee is posted.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "tests and their helpers"
)]

mod common;

use common::transfer::{Patient, Story, dollars};
use common::{LIMIT, Node, Realm, now};
use handover_core::artefact::books::{HoldOrder, Settled};
use handover_core::artefact::recall::Recall;
use handover_core::artefact::transfer::PackageHeader;
use handover_core::artefact::{Signed, Verified};
use handover_core::codec::{Bytes, Extensions};
use handover_core::time::DAY_MS;
use handover_core::{Code, Digest};
use handover_seal::Ed25519;
use serde_json::{Value, json};

fn recall(story: &Story, by: &Node, source: &Node, number: u32, back_minor: i64) -> Verified<Recall> {
    let header = Signed::<PackageHeader>::read(&story.header).unwrap();
    let recall = Recall {
        transfer: story.transfer,
        number,
        header: header.verify(&source.signing.public(), &Ed25519).unwrap().hash(),
        commitment: Digest::sha256(&[b"details"]),
        fee_back: dollars(back_minor),
        sealed: Bytes(vec![1; 600]),
        issued: now(),
        extensions: Extensions::default(),
    };
    Verified::sign(recall, &by.signing)
}

/// Kind, amount and recall of a transfer's entries, as soon as there are so many.
async fn entries(realm: &Realm, story: &Story, count: usize) -> Vec<Value> {
    let wait = async {
        loop {
            let page = realm.op(json!({"op": "ledger-entries", "after": null})).await.unwrap();
            let all = page["entries"].as_array().unwrap().iter();
            let of_this: Vec<Value> =
                all.filter(|it| it["transfer"] == story.transfer.to_string()).cloned().collect();
            if of_this.len() >= count {
                break of_this;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(LIMIT, wait).await.unwrap()
}

fn told(entry: &Value) -> (&str, &str, &str) {
    let [kind, amount] = ["kind", "amount"].map(|key| entry[key].as_str().unwrap());
    (kind, amount, entry["recall"].as_str().unwrap_or_default())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recall_gives_back_its_part_of_the_fee_once() {
    let realm = Realm::new().await;
    let source = realm.hospital("source", 1).await;
    let mut destination = realm.hospital("destination", 2).await;
    let patient = Patient::new();
    let [filed, reserved, silent] = [(); 3].map(|()| Story::new(&patient, &source, &destination, 500, 500));
    for story in [&filed, &reserved, &silent] {
        for content in story.handover() {
            source.send(&realm, None, content).await.unwrap();
        }
        // The two releases.
        destination.letter().await;
        destination.letter().await;
    }
    destination.send(&realm, None, &filed.receipt).await.unwrap();

    let of = |story: &Story, number, back_minor| recall(story, &source, &source, number, back_minor);
    let (first, none, rest) = (of(&filed, 1, 200), of(&filed, 2, 0), of(&filed, 3, 300));
    let name = destination.id.clone();
    let to = Some(&name);
    let forged = recall(&filed, &destination, &source, 1, 500);
    assert_eq!(destination.send(&realm, None, forged.envelope()).await, Err(Code::WrongSigner));
    assert_eq!(source.send(&realm, to, of(&filed, 1, 501).envelope()).await, Err(Code::RecallFee));
    assert_eq!(source.send(&realm, to, none.envelope()).await, Err(Code::EvidenceMissing), "a gap");
    for recall in [&first, &none, &rest] {
        source.send(&realm, to, recall.envelope()).await.unwrap();
        source.send(&realm, to, recall.envelope()).await.unwrap();
        // It is passed on, once.
        assert_eq!(destination.letter().await, recall.envelope());
    }
    assert_eq!(source.send(&realm, to, of(&filed, 4, 1).envelope()).await, Err(Code::RecallFee));
    let booked = entries(&realm, &filed, 4).await;
    let hashes = [&first, &rest].map(|recall| recall.hash().to_string());
    assert_eq!(
        booked.iter().map(told).collect::<Vec<_>>(),
        [
            ("reserve", "5.00", ""),
            ("post", "5.00", ""),
            ("reverse", "2.00", hashes[0].as_str()),
            ("reverse", "3.00", hashes[1].as_str()),
        ]
    );
    let posted = &booked[1]["id"];
    assert!(booked[2..].iter().all(|it| it["about"] == *posted && it["reason"] == "recalled"));

    // Of a fee that is only reserved nothing is reversed before it is posted: by a receipt, or by silence.
    for story in [&reserved, &silent] {
        source.send(&realm, to, of(story, 1, 500).envelope()).await.unwrap();
        assert_eq!(entries(&realm, story, 1).await.len(), 1);
    }
    destination.send(&realm, None, &reserved.receipt).await.unwrap();
    realm.pass(7 * DAY_MS);
    for story in [&reserved, &silent] {
        let booked = entries(&realm, story, 3).await;
        let kinds: Vec<_> = booked.iter().map(|it| it["kind"].as_str().unwrap()).collect();
        assert_eq!(kinds, ["reserve", "post", "reverse"]);
    }
    let balances = realm.op(json!({"op": "ledger-balances"})).await.unwrap();
    assert_eq!(balances["balanced"], true, "{balances}");
    let check = realm.op(json!({"op": "check"})).await.unwrap();
    assert_eq!(check["sound"], true, "{check}");
}

/// What two operators have settled for the payer no hospital alone makes due again: neither the source by a recall, nor
/// the destination by a receipt that comes after all, nor silence.
#[tokio::test(flavor = "multi_thread")]
async fn a_fee_that_was_settled_for_its_payer_stays_settled() {
    let realm = Realm::new().await;
    let source = realm.hospital("source", 1).await;
    let destination = realm.hospital("destination", 2).await;
    let patient = Patient::new();
    let [reserved, posted] =
        [500, 700].map(|stated| Story::new(&patient, &source, &destination, 500, stated));
    for story in [&reserved, &posted] {
        for content in story.handover() {
            source.send(&realm, None, content).await.unwrap();
        }
    }
    destination.send(&realm, None, &reserved.refusal).await.unwrap();
    realm.pass(7 * DAY_MS);
    assert_eq!(entries(&realm, &posted, 2).await[1]["proof"], "silence");
    destination.send(&realm, None, &posted.receipt).await.unwrap();
    for (story, count) in [(&reserved, 2), (&posted, 3)] {
        let hold = &entries(&realm, story, count).await[count - 1];
        let order = HoldOrder {
            transfer: story.transfer,
            hold: hold["id"].as_str().unwrap().parse().unwrap(),
            settled: Settled::ForPayer,
            reason: "the package was empty".to_owned(),
            issued: now(),
            extensions: Extensions::default(),
        };
        realm.settle(&order, 0).await.unwrap();
        assert_eq!(realm.settle(&order, 1).await.unwrap()["outcome"], "effective");
    }
    let name = destination.id.clone();
    for story in [&reserved, &posted] {
        let recall = recall(story, &source, &source, 1, 200);
        source.send(&realm, Some(&name), recall.envelope()).await.unwrap();
    }
    // It is taken and kept, as evidence.
    for _ in 0..2 {
        destination.send(&realm, None, &reserved.receipt).await.unwrap();
        source.send(&realm, None, &reserved.receipt).await.unwrap();
    }
    realm.pass(100 * DAY_MS);
    let told = |entries: Vec<Value>| -> Vec<String> {
        entries.iter().map(|it| it["kind"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(told(entries(&realm, &reserved, 4).await), ["reserve", "hold", "void", "release"]);
    assert_eq!(told(entries(&realm, &posted, 5).await), ["reserve", "post", "hold", "reverse", "release"]);
    let check = realm.op(json!({"op": "check"})).await.unwrap();
    assert_eq!((&check["sound"], &check["open_holds"]), (&json!(true), &json!(0)), "{check}");
}
