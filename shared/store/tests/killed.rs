//! A process that is killed in the middle of writing leaves everything that it was answered for.
//!
//! The test starts its own binary again as the writer, reads what it acknowledges, and kills it.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test says so by failing")]

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Command, Stdio};

use handover_cluster::Cluster;
use handover_store::{CellKey, Database, Schema, Store, StoreError};

/// A folder, or a database's URL.
const PLACE: &str = "HANDOVER_STORE_KILLED_PLACE";
const ROUNDS: usize = 4;
/// Acknowledged writes per round before the kill.
const ACKNOWLEDGED: usize = 150;
const WRITERS: u64 = 8;

fn cell_key() -> CellKey {
    CellKey::from_bytes([5; 32])
}

fn open(place: &str) -> Store {
    if place.starts_with("postgresql:") {
        let database = Database::from_url(place, None, &Schema::default()).unwrap();
        return Store::postgres(&database, &cell_key()).unwrap();
    }
    Store::sled(place.as_ref(), &cell_key()).unwrap()
}

/// Each writer counts up in its own space; the counter and the entry are written together.
async fn write_until_killed(place: &str) {
    let store = open(place);
    let tasks = (0..WRITERS).map(|writer| {
        let store = store.clone();
        tokio::spawn(async move {
            loop {
                let entry = store
                    .write::<_, StoreError, _>(move |txn| {
                        let counter = [&b"c"[..], &writer.to_be_bytes()].concat();
                        let next =
                            1 + txn.get(&counter)?.map_or(0, |v| u64::from_be_bytes(v.try_into().unwrap()));
                        txn.put(&counter, next.to_be_bytes().to_vec())?;
                        txn.put(&key(writer, next), vec![1; 600])?;
                        Ok(next)
                    })
                    .await
                    .unwrap();
                // Written past the test harness, which would hold it back.
                let mut out = std::io::stdout().lock();
                writeln!(out, "ack {writer} {entry}").unwrap();
                out.flush().unwrap();
            }
        })
    });
    futures::future::join_all(tasks).await;
}

fn key(writer: u64, entry: u64) -> Vec<u8> {
    [&b"e"[..], &writer.to_be_bytes(), &entry.to_be_bytes()].concat()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "the other process of the test below"]
async fn writer_process() {
    if let Ok(place) = std::env::var(PLACE) {
        write_until_killed(&place).await;
    }
}

#[tokio::test]
async fn everything_acknowledged_is_there_after_a_kill() {
    let folder = tempfile::tempdir().unwrap();
    kill_and_look(folder.path().to_str().unwrap()).await;
}

#[tokio::test]
async fn everything_acknowledged_is_in_the_database_after_a_kill() {
    let cluster = Cluster::start().unwrap();
    kill_and_look(&cluster.url()).await;
}

async fn kill_and_look(place: &str) {
    let mut acknowledged = Vec::new();
    for round in 0..ROUNDS {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "writer_process", "--ignored", "--nocapture"])
            .env(PLACE, place)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let wanted = acknowledged.len() + ACKNOWLEDGED;
        for line in lines.by_ref() {
            acknowledged.extend(parse(&line.unwrap()));
            if acknowledged.len() == wanted {
                child.kill().unwrap();
            }
        }
        child.wait().unwrap();
        assert!(acknowledged.len() >= wanted, "round {round}: the writer ended by itself");

        let store = open(place);
        let expected = acknowledged.clone();
        let lost = store
            .read::<_, StoreError, _>(move |txn| {
                let mut lost = Vec::new();
                for &(writer, entry) in &expected {
                    if txn.get(&key(writer, entry))?.is_none() {
                        lost.push((writer, entry));
                    }
                }
                Ok(lost)
            })
            .await
            .unwrap();
        assert!(lost.is_empty(), "round {round}: {lost:?}");
        let report = store.check(|_| {}).await.unwrap();
        assert_eq!(report.counts.damaged, 0, "round {round}");
        store.close().await;
    }
}

/// The last line may be cut off by the kill.
fn parse(line: &str) -> Option<(u64, u64)> {
    // The harness begins its own line before the first acknowledgement.
    let (_, numbers) = line.split_once("ack ")?;
    let (writer, entry) = numbers.split_once(' ')?;
    Some((writer.parse().ok()?, entry.parse().ok()?))
}
