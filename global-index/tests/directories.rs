//! A directory of thousands: it comes back to an index that lost it, and of a change only the head and one piece travel.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "tests and their helpers"
)]

mod common;

use common::{LIMIT, Node, Realm, many};
use handover_core::artefact::federation::{PIECES_MAX, Status};
use handover_core::message::Verb;
use handover_core::trust::{Federation, Gathering};
use handover_core::{Code, Digest};
use serde_json::json;

const HOSPITALS: usize = 2_000;

/// The index takes back a directory with so many more, which a hospital of it holds; what the hospital is told then.
async fn grown(realm: &Realm, near: &mut Node, count: usize) -> Federation {
    let current = near.current(realm).await;
    let whole = many::with(realm, &current, count);
    {
        let mut held = near.held.lock().unwrap();
        held.newest = vec![whole.head.0];
        held.pieces = whole.pieces;
    }
    realm.op(json!({"op": "rejoin", "without": []})).await.unwrap();
    near.directory_where(realm, |it| it.members().count() > count).await
}

/// The next head that is pushed.
async fn next(realm: &Realm, near: &mut Node, after: u64) -> Vec<u8> {
    let is_next = |head: &Vec<u8>| !head.is_empty() && realm.verify(head).directory().version > after;
    let wait = near.directory.wait_for(is_next);
    tokio::time::timeout(LIMIT, wait).await.expect("a directory in time").unwrap().clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_change_among_thousands_the_head_and_one_piece_travel() {
    let mut realm = Realm::new().await;
    let mut near = realm.hospital("near", 1).await;
    let all = grown(&realm, &mut near, HOSPITALS).await;
    assert_eq!((all.members().count(), all.directory().pieces.len()), (HOSPITALS + 1, 128));
    for number in 0..HOSPITALS {
        assert_eq!(all.member(&many::hospital(number).0).unwrap().order.status, Status::Suspended);
    }

    // One hospital is let in.
    let (changed, order) = (many::hospital(1_234).0, many::order(&realm, 1_234, Status::Active, 2));
    realm.submit(&order).await.unwrap();
    let head = next(&realm, &mut near, all.directory().version).await;
    let missing = Gathering::of(&realm.verify(&head), &all.digests()).missing();
    assert_eq!(missing.len(), 1, "more than one piece is asked for");
    let now = near.complete(&realm, &head, Some(&all)).await.unwrap();
    let travelled = head.len() + now.piece(&missing[0]).unwrap().len();
    assert!(travelled < 64 * 1024, "{travelled} of {} bytes", now.bytes());
    for member in now.members() {
        let is_changed = member.certificate.hospital == changed;
        let before = all.member(&member.certificate.hospital).unwrap();
        assert_eq!(member != before, is_changed, "{}", member.certificate.hospital);
    }

    // A refresh is a head alone; the index finds everything again.
    realm.stop().await;
    realm.start().await;
    near.net.connect(&realm.route()).await.unwrap();
    let again = near.current(&realm).await;
    assert_eq!(again.directory().pieces, now.directory().pieces);
    let shown = realm.op(json!({"op": "directory-show"})).await.unwrap();
    assert_eq!(shown["hospitals"].as_array().unwrap().len(), HOSPITALS + 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn pieces_are_asked_for_within_bounds() {
    let realm = Realm::new().await;
    let near = realm.hospital("near", 1).await;
    let unknown = Digest::sha256(&[b"no piece"]).as_bytes().to_vec();
    assert_eq!(near.ask(&realm, Verb::DirectoryPieces, vec![unknown.clone()]).await, Ok(vec![]));
    assert_eq!(near.ask(&realm, Verb::DirectoryPieces, vec![vec![1; 31]]).await, Err(Code::Malformed));
    let many = vec![unknown; PIECES_MAX + 1];
    assert_eq!(near.ask(&realm, Verb::DirectoryPieces, many).await, Err(Code::TooLarge));
}
