//! What the index holds of a hospital's own is there for it, should it have lost that; and for nobody else.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "tests and their helpers"
)]

mod common;

use common::transfer::{Patient, Story};
use common::{Node, Realm};
use handover_core::codec::{self, Extensions, MAX_MESSAGE_BYTES};
use handover_core::message::{EvidenceAnswer, EvidencePlace, EvidenceQuestion, Verb};
use handover_core::{Code, Timestamp};
use handover_dossier::transfer_of;

fn question(after: Option<EvidencePlace>) -> Vec<u8> {
    let since = Timestamp::from_millis(0);
    codec::encode(&EvidenceQuestion { since, after, extensions: Extensions::default() })
}

/// Everything that a hospital is handed, sorted.
async fn handed(realm: &Realm, hospital: &Node) -> Vec<Vec<u8>> {
    let (mut all, mut after) = (Vec::new(), None);
    loop {
        let answer = hospital.ask(realm, Verb::Evidence, vec![question(after)]).await.unwrap();
        let answer: EvidenceAnswer = codec::decode(&answer[0], MAX_MESSAGE_BYTES).unwrap();
        all.extend(answer.contents.into_iter().map(|it| it.0));
        match answer.next {
            Some(next) => after = Some(next),
            None => break,
        }
    }
    all.sort();
    all
}

async fn newest(realm: &Realm, hospital: &Node) -> Vec<Vec<u8>> {
    hospital.ask(realm, Verb::Newest, vec![]).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hospital_is_handed_its_own_and_nobody_elses() {
    let mut realm = Realm::new().await;
    let source = realm.hospital("source", 1).await;
    let destination = realm.hospital("destination", 2).await;
    let other = realm.hospital("other", 3).await;
    let patient = Patient::new();
    for hospital in [&source, &destination, &other] {
        assert_eq!(newest(&realm, hospital).await, [] as [Vec<u8>; 0]);
        assert_eq!(handed(&realm, hospital).await, [] as [Vec<u8>; 0]);
    }
    let (between, elsewhere) = (
        Story::new(&patient, &source, &destination, 500, 500),
        Story::new(&patient, &other, &destination, 0, 0),
    );
    for content in between.handover() {
        source.send(&realm, None, content).await.unwrap();
    }
    destination.send(&realm, None, &between.receipt).await.unwrap();
    for content in &elsewhere.handover()[..3] {
        other.send(&realm, None, content).await.unwrap();
    }
    for _ in 0..2 {
        assert_eq!(newest(&realm, &source).await, [between.key_release.as_slice()]);
        assert_eq!(newest(&realm, &other).await, [elsewhere.quote.as_slice()]);
        let mut whole: Vec<Vec<u8>> = between.handover().map(Clone::clone).to_vec();
        whole.push(between.receipt.clone());
        let begun: Vec<Vec<u8>> = elsewhere.handover()[..3].iter().map(|it| (*it).clone()).collect();
        let mut both = [whole.clone(), begun.clone()].concat();
        for (hospital, expected) in
            [(&source, &mut whole), (&other, &mut begun.clone()), (&destination, &mut both)]
        {
            expected.sort();
            assert_eq!(handed(&realm, hospital).await, *expected, "{}", hospital.id);
        }
        // Nobody goes on within a transfer of others.
        let within =
            EvidencePlace { transfer: between.transfer, given: Some(0), extensions: Extensions::default() };
        let answer = other.ask(&realm, Verb::Evidence, vec![question(Some(within))]).await.unwrap();
        let answer: EvidenceAnswer = codec::decode(&answer[0], MAX_MESSAGE_BYTES).unwrap();
        assert!(answer.contents.iter().all(|it| transfer_of(it.as_ref()) == Ok(elsewhere.transfer)));
        // It is durable.
        realm.stop().await;
        realm.start().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_question_is_refused() {
    let realm = Realm::new().await;
    let hospital = realm.hospital("hospital", 1).await;
    for (verb, items) in [
        (Verb::Newest, vec![vec![]]),
        (Verb::Evidence, vec![]),
        (Verb::Evidence, vec![question(None), question(None)]),
        (Verb::Evidence, vec![vec![0; 8]]),
        (Verb::Evidence, vec![[question(None), vec![0]].concat()]),
        (Verb::Evidence, vec![vec![0; 2_000]]),
    ] {
        assert_eq!(hospital.ask(&realm, verb, items).await, Err(Code::Malformed), "{verb}");
    }
    let stranger = Node::start("stranger", 9, &realm).await;
    for (verb, items) in [(Verb::Newest, vec![]), (Verb::Evidence, vec![question(None)])] {
        assert_eq!(stranger.ask(&realm, verb, items).await, Err(Code::NotAdmitted), "{verb}");
    }
}
