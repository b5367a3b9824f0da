//! A process that is killed in the middle of writing leaves everything that it was answered for.
//!
//! The test starts its own binary again as the writer, reads what it acknowledges, and kills it.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test says so by failing")]

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};

use handover_store::{CellKey, Store, StoreError};

const FOLDER: &str = "HANDOVER_STORE_KILLED_FOLDER";
const ROUNDS: usize = 4;
/// Acknowledged writes per round before the kill.
const ACKNOWLEDGED: usize = 150;
const WRITERS: u64 = 8;

fn cell_key() -> CellKey {
    CellKey::from_bytes([5; 32])
}

/// Each writer counts up in its own space; the counter and the entry are written together.
async fn write_until_killed(folder: &Path) {
    let store = Store::sled(folder, &cell_key()).unwrap();
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
    if let Some(folder) = std::env::var_os(FOLDER) {
        write_until_killed(Path::new(&folder)).await;
    }
}

#[tokio::test]
async fn everything_acknowledged_is_there_after_a_kill() {
    let folder = tempfile::tempdir().unwrap();
    let mut acknowledged = Vec::new();
    for round in 0..ROUNDS {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "writer_process", "--ignored", "--nocapture"])
            .env(FOLDER, folder.path())
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

        let store = Store::sled(folder.path(), &cell_key()).unwrap();
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
