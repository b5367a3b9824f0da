//! What a directory of thousands costs: bytes of its head, of all pieces and of a change; time to verify it from nothing and
//! to take over a change; memory; a look-up; and a change at the index, until it is in force there.
//!
//! `cargo bench --package handover-index --bench directory`; `-- --hospitals N` for another number. Keys are of Ed25519, one
//! RSA key is shared. It measures and prints; it never judges.

#![expect(clippy::print_stdout, reason = "what it prints is what it is for")]
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a benchmark may stop at the first fault"
)]

#[path = "../tests/common/mod.rs"]
mod common;

use std::hint::black_box;
use std::time::{Duration, Instant};

use common::{Node, Realm, many, now};
use handover_core::Party;
use handover_core::artefact::federation::{Status, WholeDirectory};
use handover_core::trust::{Federation, Gathering, Head};
use handover_seal::Ed25519;
use serde_json::json;
use tokio::runtime::Runtime;

const HOSPITALS: [usize; 2] = [1_000, 10_000];
const LOOKUPS: usize = 100_000;
/// How often a change is made.
const CHANGES: usize = 10;
const LIMIT: Duration = Duration::from_secs(600);

fn main() {
    let mut arguments = std::env::args().skip_while(|argument| argument != "--hospitals").skip(1);
    let wanted = arguments.next().and_then(|it| it.parse().ok());
    let runtime = Runtime::new().unwrap();
    for hospitals in wanted.map_or(HOSPITALS.to_vec(), |it| vec![it]) {
        runtime.block_on(run(hospitals));
    }
}

async fn run(hospitals: usize) {
    let realm = Realm::new().await;
    let mut near = realm.hospital("near", 1).await;
    let current = near.current(&realm).await;
    let whole = many::with(&realm, &current, hospitals);
    println!("\n{hospitals} hospitals");
    let federation = on_its_own(&realm, &whole);
    at_an_index(&realm, &mut near, &federation, hospitals).await;
}

fn on_its_own(realm: &Realm, whole: &WholeDirectory) -> Federation {
    let bytes: usize = whole.pieces.iter().map(|piece| piece.0.len()).sum();
    let mean = bytes / whole.pieces.len();
    let largest = whole.pieces.iter().map(|piece| piece.0.len()).max().unwrap_or(0);
    println!(
        "head: {} bytes; {} pieces: {bytes} bytes, one {mean}, the largest {largest}",
        whole.head.0.len(),
        whole.pieces.len()
    );
    let root = realm.root.public();
    let (before, begun) = (resident(), Instant::now());
    let federation = Federation::verify(whole, &root, now(), &Ed25519).unwrap();
    let took = begun.elapsed();
    println!(
        "verified from nothing: {:.0} ms; held: {} KiB more",
        ms(took),
        resident().saturating_sub(before)
    );
    let (wanted, begun) = (many::hospital(7).0, Instant::now());
    for _ in 0..LOOKUPS {
        black_box(federation.member(black_box(&wanted)).unwrap());
    }
    println!("a look-up: {:.2} µs", ms(begun.elapsed()) * 1_000.0 / LOOKUPS as f64);
    let begun = Instant::now();
    for _ in 0..1_000 {
        black_box(federation.check_bringer(whole.head.as_ref(), &Party::Index)).unwrap();
    }
    println!("whether a key was replaced: {:.2} µs", ms(begun.elapsed()));
    federation
}

/// A change travels to a hospital and is taken over there.
async fn at_an_index(realm: &Realm, near: &mut Node, known: &Federation, hospitals: usize) {
    {
        let (mut held, whole) = (near.held.lock().unwrap(), known.whole());
        held.newest = vec![whole.head.0];
        held.pieces = whole.pieces;
    }
    let begun = Instant::now();
    realm.op(json!({"op": "rejoin", "without": []})).await.unwrap();
    let mut held = tokio::time::timeout(LIMIT, async {
        loop {
            let head = near.directory.borrow_and_update().clone();
            if realm.verify(&head).directory().version > known.directory().version {
                break near.complete(realm, &head, None).await.unwrap();
            }
            near.directory.changed().await.unwrap();
        }
    })
    .await
    .expect("a directory in time");
    println!("taken back by an index, and from it by a hospital: {:.0} ms", ms(begun.elapsed()));
    let (mut in_force, mut over, mut travelled) = (Vec::new(), Vec::new(), 0);
    for change in 0..CHANGES {
        let order = many::order(realm, change * hospitals / CHANGES, Status::Active, 2);
        let begun = Instant::now();
        realm.submit(&order).await.unwrap();
        in_force.push(ms(begun.elapsed()));
        let is_next = |head: &Vec<u8>| realm.verify(head).directory().version > held.directory().version;
        let head = near.directory.wait_for(is_next).await.unwrap().clone();
        let now_held = near.complete(realm, &head, Some(&held)).await.unwrap();
        let pieces: Vec<Vec<u8>> = {
            let missing = Gathering::of(&realm.verify(&head), &held.digests()).missing();
            missing.iter().map(|digest| now_held.piece(digest).unwrap().to_vec()).collect()
        };
        travelled += head.len() + pieces.iter().map(Vec::len).sum::<usize>();
        let begun = Instant::now();
        let read = Head::verify(&head, &realm.root.public(), now(), &Ed25519).unwrap();
        let taken = read.complete(&pieces, Some(&held), &Ed25519).unwrap();
        black_box(taken.succeeds(&held, now()).unwrap());
        over.push(ms(begun.elapsed()));
        held = now_held;
    }
    println!(
        "a change: {} bytes travel; in force at the index after {:.0} ms; taken over in {:.1} ms",
        travelled / CHANGES,
        median(in_force),
        median(over)
    );
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn ms(span: Duration) -> f64 {
    span.as_secs_f64() * 1_000.0
}

/// KiB of memory that this process has.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.split_whitespace().next().unwrap().parse().unwrap()
}
