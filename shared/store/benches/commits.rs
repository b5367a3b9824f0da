//! What a durable write costs, and what the start-up check costs: `cargo bench --package handover-store --bench commits`.
//! The baseline is the disk alone: an append of as many bytes and `fdatasync`, one after another.
#![allow(clippy::unwrap_used, clippy::print_stdout, missing_docs, reason = "a bench says so by failing")]

use std::fs::File;
use std::io::Write as _;
use std::time::{Duration, Instant};

use handover_store::{CellKey, Store, StoreError};

const VALUE_BYTES: usize = 600;
const RUN: Duration = Duration::from_secs(3);
/// Cells of the store that is opened.
const CELLS: u64 = 200_000;

fn key(writer: u64, number: u64) -> Vec<u8> {
    [&b"\x05bench"[..], &writer.to_be_bytes(), &number.to_be_bytes()].concat()
}

/// Durable writes a second, by so many at once; every second one is over an older value.
async fn writes(store: &Store, writers: u64) -> f64 {
    let begun = Instant::now();
    let tasks = (0..writers).map(|writer| {
        let store = store.clone();
        tokio::spawn(async move {
            let mut done = 0_u64;
            while begun.elapsed() < RUN {
                let number = if done.is_multiple_of(2) { done } else { done / 2 };
                let put = store.write::<_, StoreError, _>(move |txn| {
                    txn.put(&key(writer, number), vec![7; VALUE_BYTES])
                });
                put.await.unwrap();
                done += 1;
            }
            done
        })
    });
    let done: u64 = futures::future::join_all(tasks).await.into_iter().map(Result::unwrap).sum();
    done as f64 / begun.elapsed().as_secs_f64()
}

fn baseline(file: &mut File) -> f64 {
    let (begun, mut done) = (Instant::now(), 0_u64);
    while begun.elapsed() < RUN {
        file.write_all(&[7; VALUE_BYTES]).unwrap();
        file.sync_data().unwrap();
        done += 1;
    }
    done as f64 / begun.elapsed().as_secs_f64()
}

#[tokio::main]
async fn main() {
    let folder = tempfile::tempdir().unwrap();
    let cell_key = CellKey::from_bytes([5; 32]);
    let mut file = File::create(folder.path().join("baseline")).unwrap();
    println!("baseline, one append and fdatasync: {:.0}/s", baseline(&mut file));
    let store = Store::sled(&folder.path().join("writes"), &cell_key).unwrap();
    for writers in [1, 8, 64] {
        println!("{writers} at once: {:.0} durable writes/s", writes(&store, writers).await);
    }
    println!("baseline, one append and fdatasync: {:.0}/s", baseline(&mut file));
    store.close().await;

    let place = folder.path().join("large");
    let store = Store::sled(&place, &cell_key).unwrap();
    let begun = Instant::now();
    for start in (0..CELLS).step_by(1_000) {
        let fill = store.write::<_, StoreError, _>(move |txn| {
            (start..start + 1_000).try_for_each(|n| txn.put(&key(0, n), vec![7; VALUE_BYTES]))
        });
        fill.await.unwrap();
    }
    let mb = (CELLS * VALUE_BYTES as u64) as f64 / 1e6;
    println!("{CELLS} values in groups of 1,000: {:.0}/s", CELLS as f64 / begun.elapsed().as_secs_f64());
    store.close().await;
    let log = std::fs::metadata(place.join("db")).unwrap().len() as f64 / 1e6;
    // The first keeps what was written since the last opening, which is all.
    for _ in 0..2 {
        let begun = Instant::now();
        std::hint::black_box(std::fs::read(place.join("db")).unwrap());
        println!("baseline, the log read: {:.2} s", begun.elapsed().as_secs_f64());
        let begun = Instant::now();
        let store = Store::sled(&place, &cell_key).unwrap();
        println!(
            "opened with {mb:.0} MB of values, a log of {log:.0} MB: {:.2} s",
            begun.elapsed().as_secs_f64()
        );
        store.close().await;
    }
}
