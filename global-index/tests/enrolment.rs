//! Hospitals come, are admitted by root and operators, and are shut out again.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "tests and their helpers"
)]

mod common;

use common::{Node, Realm, key, rsa};
use handover_core::artefact::federation::Status;
use handover_core::artefact::{Countersigned, Verified};
use handover_core::message::Verb;
use handover_core::{Code, Digest};
use handover_seal::SigningKey;
use serde_json::json;

#[tokio::test(flavor = "multi_thread")]
async fn a_hospital_is_admitted_by_root_and_two_operators() {
    let realm = Realm::new().await;
    let mut node = Node::start("lakeside", 1, &realm).await;

    // The same request gets the same challenge; only its answer proves.
    let (items, request) = node.enrolment(node.profile(1));
    let challenge = node.ask(&realm, Verb::Enrol, items.clone()).await.unwrap();
    assert_eq!(node.ask(&realm, Verb::Enrol, items).await.unwrap(), challenge);
    let wrong = node.proof(request, Digest::sha256(&[b"guess"]));
    assert_eq!(node.ask(&realm, Verb::Prove, vec![wrong]).await, Err(Code::BadSignature));
    let proof = node.proof(request, Digest::sha256(&[&rsa().unwrap(&challenge[0]).unwrap()]));
    for _ in 0..2 {
        assert_eq!(node.ask(&realm, Verb::Prove, vec![proof.clone()]).await, Ok(vec![]));
    }

    // The identifier is taken now.
    let thief = Node::start("lakeside", 2, &realm).await;
    assert_eq!(thief.enrol(&realm).await, Err(Code::Conflict));

    // First the root, then two different operators.
    let order = realm.status_order(&node, Status::Active, 1);
    let first = Verified::sign(order.clone(), &realm.operators[0]);
    assert_eq!(realm.submit(first.envelope()).await, Err(Code::HospitalPending));
    let listed = realm.op(json!({"op": "hospital-list"})).await.unwrap();
    assert_eq!(listed["hospitals"][0]["status"], "pending-certificate");
    realm.certify(&node).await.unwrap();
    assert_eq!(realm.submit(first.envelope()).await.unwrap()["outcome"], "pending");
    let alone = Countersigned::sign(&first, &realm.operators[0]);
    assert_eq!(realm.submit(&alone).await, Err(Code::WrongSigner));
    let stranger = Countersigned::sign(&first, &SigningKey::generate(&mut handover_seal::OsRandom));
    assert_eq!(realm.submit(&stranger).await, Err(Code::WrongSigner));
    let both = Countersigned::sign(&first, &realm.operators[1]);
    assert_eq!(realm.submit(&both).await.unwrap()["outcome"], "effective");
    assert_eq!(realm.submit(&both).await.unwrap()["outcome"], "effective");

    // The connection that was there all the time is admitted, and gets the directory.
    let federation = node.directory_where(&realm, |it| it.member(&"lakeside".parse().unwrap()).is_ok()).await;
    assert!(federation.active(&node.id, common::now()).is_ok());

    // A newer profile counts at once; an older one never again.
    let (items, _) = node.enrolment(handover_core::artefact::federation::HospitalProfile {
        name: "Lakeside".to_owned(),
        ..node.profile(2)
    });
    node.ask(&realm, Verb::Enrol, items).await.unwrap();
    let id = node.id.clone();
    node.directory_where(&realm, |it| it.member(&id).unwrap().profile.name == "Lakeside").await;
    let (items, _) = node.enrolment(node.profile(1));
    node.ask(&realm, Verb::Enrol, items).await.unwrap();
    let shown = realm.op(json!({"op": "hospital-show", "hospital": node.id})).await.unwrap();
    assert_eq!(shown["hospital"]["profile_number"], 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_suspension_reaches_everyone_and_numbers_never_fall() {
    let realm = Realm::new().await;
    let mut near = realm.hospital("near", 1).await;
    let far = realm.hospital("far", 2).await;
    let version = near.directory_where(&realm, |it| it.member(&far.id).is_ok()).await.directory().version;

    realm.order(&far, Status::Suspended, 2).await.unwrap();
    // The suspended hospital is refused as soon as the order is in force, the others know within seconds.
    assert_eq!(far.send(&realm, None, b"x").await, Err(Code::NotAdmitted));
    let suspended = near.directory_where(&realm, |it| it.member(&far.id).unwrap().order.number == 2).await;
    assert_eq!(suspended.active(&far.id, common::now()).unwrap_err(), Code::HospitalSuspended);
    assert!(suspended.directory().version > version);

    // What was in force before cannot come back, and numbers are not skipped.
    assert_eq!(realm.order(&far, Status::Active, 1).await, Err(Code::Conflict));
    assert_eq!(realm.order(&far, Status::Active, 4).await, Err(Code::OutOfOrder));
    realm.order(&far, Status::Active, 3).await.unwrap();
    // Admitted again, and now refused for what it sends.
    assert_eq!(far.send(&realm, None, b"x").await, Err(Code::Malformed));
    realm.order(&far, Status::Revoked, 4).await.unwrap();
    assert_eq!(realm.order(&far, Status::Active, 5).await, Err(Code::HospitalRevoked));
    assert_eq!(far.enrol(&realm).await, Err(Code::HospitalRevoked));
    near.directory_where(&realm, |it| it.member(&far.id).unwrap().order.status == Status::Revoked).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_frees_an_identifier_that_a_stranger_took() {
    let realm = Realm::new().await;
    let stranger = Node::start("lakeside", 1, &realm).await;
    stranger.enrol(&realm).await.unwrap();
    let honest = Node::start("lakeside", 2, &realm).await;
    assert_eq!(honest.enrol(&realm).await, Err(Code::Conflict));
    let drop = json!({"op": "hospital-drop", "hospital": "lakeside"});
    let dropped = realm.op(drop.clone()).await.unwrap();
    assert_eq!(dropped["key"], stranger.signing.public().to_string());
    honest.enrol(&realm).await.unwrap();
    realm.certify(&honest).await.unwrap();
    assert_eq!(realm.op(drop).await, Err(Code::Conflict));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_enrolment_is_refused() {
    let realm = Realm::new().await;
    let node = Node::start("lakeside", 1, &realm).await;
    let (items, _) = node.enrolment(node.profile(1));
    assert_eq!(node.ask(&realm, Verb::Enrol, items[..1].to_vec()).await, Err(Code::Malformed));
    let mut forged = items.clone();
    *forged[0].last_mut().unwrap() ^= 1;
    assert_eq!(node.ask(&realm, Verb::Enrol, forged).await, Err(Code::BadSignature));
    let other = Node { signing: key(9), ..Node::start("lakeside", 3, &realm).await };
    let mixed = vec![items[0].clone(), other.enrolment(other.profile(1)).0[1].clone()];
    assert_eq!(node.ask(&realm, Verb::Enrol, mixed).await, Err(Code::Malformed));
    let mut weak = node.profile(1);
    weak.rsa_key = handover_core::codec::Bytes(vec![1, 2, 3]);
    assert_eq!(node.ask(&realm, Verb::Enrol, node.enrolment(weak).0).await, Err(Code::Malformed));
    let index = Node::start("index", 4, &realm).await;
    assert_eq!(index.enrol(&realm).await, Err(Code::Conflict));
    assert_eq!(node.ask(&realm, Verb::Prove, vec![items[0].clone()]).await, Err(Code::Malformed));
    // Nothing but enrolment and the directory is for those who are not admitted.
    for verb in [Verb::Deliver, Verb::Locate, Verb::Link] {
        assert_eq!(node.ask(&realm, verb, vec![vec![]]).await, Err(Code::NotAdmitted));
    }
    let directory = node.ask(&realm, Verb::Directory, vec![0_u64.to_be_bytes().to_vec()]).await.unwrap();
    let version = realm.verify(&directory[0]).directory().version;
    let newest = node.ask(&realm, Verb::Directory, vec![version.to_be_bytes().to_vec()]).await;
    assert_eq!(newest, Ok(vec![]));
}
