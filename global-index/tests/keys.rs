//! A patient's newer keys reach every hospital that they are linked to; what is signed under older ones is refused.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "tests and their helpers"
)]

mod common;

use common::transfer::{Patient, Story};
use common::{Node, Realm};
use handover_core::Code;
use handover_core::artefact::Countersigned;
use handover_core::artefact::patient::{AskKind, KeyAuthority};
use handover_core::message::Verb;

async fn link(realm: &Realm, patient: &Patient, hospital: &Node) -> Result<(), Code> {
    let link = Countersigned::sign(&patient.link(&hospital.id), &hospital.signing);
    hospital.ask(realm, Verb::Link, vec![link]).await.map(drop)
}

async fn locate(realm: &Realm, patient: &Patient, by: &Node) -> Result<(), Code> {
    let ask = patient.sign_ask(patient.ask(AskKind::Locate));
    by.ask(realm, Verb::Locate, vec![ask.envelope().to_vec()]).await.map(drop)
}

#[tokio::test(flavor = "multi_thread")]
async fn newer_keys_reach_every_linked_hospital_and_older_ones_are_refused() {
    let mut realm = Realm::new().await;
    let mut lakeside = realm.hospital("lakeside", 1).await;
    let mut hilltop = realm.hospital("hilltop", 2).await;
    let brook = realm.hospital("brook", 3).await;
    let first = Patient::new();
    let tell = async |by: &Node, realm: &Realm, patient: &Patient| {
        by.ask(realm, Verb::Keys, vec![patient.keys()]).await
    };
    assert_eq!(tell(&lakeside, &realm, &first).await, Err(Code::NotLinked));
    link(&realm, &first, &lakeside).await.unwrap();
    link(&realm, &first, &hilltop).await.unwrap();
    assert_eq!(tell(&lakeside, &realm, &first).await, Ok(vec![]));

    // A thief lets a device follow; the patient recovers from the first record.
    let thief = first.with_device(KeyAuthority::Device, 1);
    let recovered = first.with_device(KeyAuthority::Recovery, 2);
    for _ in 0..2 {
        assert_eq!(tell(&lakeside, &realm, &thief).await, Ok(vec![]));
    }
    assert_eq!(hilltop.letter().await, thief.keys());
    assert_eq!(tell(&hilltop, &realm, &recovered).await, Ok(vec![]));
    assert_eq!(lakeside.letter().await, recovered.keys());
    // Whoever tells of others hears of the better ones.
    for other in [&first, &thief] {
        assert_eq!(tell(&brook, &realm, other).await, Ok(vec![recovered.keys()]));
    }

    for round in 0..2 {
        assert_eq!(locate(&realm, &first, &brook).await, Err(Code::KeyRecordOutdated));
        assert_eq!(locate(&realm, &thief, &brook).await, Err(Code::KeyRecordForked));
        assert_eq!(link(&realm, &thief, &brook).await, Err(Code::KeyRecordForked));
        locate(&realm, &recovered, &brook).await.unwrap();
        let stolen = Story::new(&thief, &lakeside, &hilltop, 100, 100);
        let passed = hilltop.send(&realm, Some(&lakeside.id), &stolen.request).await;
        assert_eq!(passed, Err(Code::KeyRecordForked));
        let own = Story::new(&recovered, &lakeside, &hilltop, 100, 100);
        hilltop.send(&realm, Some(&lakeside.id), &own.request).await.unwrap();
        // What was taken just before a stop may come again.
        while lakeside.letter().await != own.request {}
        if round == 0 {
            realm.stop().await;
            realm.start().await;
            for node in [&lakeside, &hilltop, &brook] {
                node.net.connect(&realm.route()).await.unwrap();
            }
        }
    }

    // A link that brings newer keys tells the others, too.
    let next = recovered.with_device(KeyAuthority::Device, 3);
    link(&realm, &next, &brook).await.unwrap();
    for node in [&mut lakeside, &mut hilltop] {
        while node.letter().await != next.keys() {}
    }
}
