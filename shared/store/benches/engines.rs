//! Durable transactions on each engine, and one 4 KiB write with `fdatasync` as the baseline, in the same run: by one
//! caller, and by 64 at once, whose transactions are committed in groups. Each reads two values and writes two.

#![expect(clippy::unwrap_used, reason = "a benchmark may stop at the first fault")]

use std::fs::File;
use std::io::Write as _;
use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use handover_cluster::Cluster;
use handover_store::{CellKey, Database, Schema, Store, StoreError};
use tokio::runtime::Runtime;

/// Callers at once.
const MANY: u64 = 64;
/// Bytes of what each writes besides its counter.
const VALUE_BYTES: usize = 600;

async fn once(store: Store, caller: u64) {
    let written = store.write::<_, StoreError, _>(move |txn| {
        let counter = [&b"counter"[..], &caller.to_be_bytes()].concat();
        let next = txn
            .get(&counter)?
            .and_then(|bytes| bytes.try_into().ok())
            .map_or(1, |bytes| u64::from_be_bytes(bytes).wrapping_add(1));
        let entry = [&b"entry"[..], &caller.to_be_bytes(), &next.to_be_bytes()].concat();
        txn.get(&entry)?;
        txn.put(&counter, next.to_be_bytes().to_vec())?;
        txn.put(&entry, vec![1; VALUE_BYTES])
    });
    written.await.unwrap();
}

/// So many rounds of `callers` transactions at once.
fn rounds(runtime: &Runtime, store: &Store, callers: u64, rounds: u64) -> Duration {
    let begun = Instant::now();
    for _ in 0..rounds {
        runtime.block_on(async {
            let all: Vec<_> = (0..callers).map(|caller| tokio::spawn(once(store.clone(), caller))).collect();
            for one in all {
                one.await.unwrap();
            }
        });
    }
    begun.elapsed()
}

fn engines(criterion: &mut Criterion) {
    let (folder, cluster) = (tempfile::tempdir().unwrap(), Cluster::start().unwrap());
    let (runtime, key) = (Runtime::new().unwrap(), CellKey::from_bytes([1; 32]));
    let database = Database::from_url(&cluster.url(), None, &Schema::default()).unwrap();
    let stores = [
        ("sled", Store::sled(&folder.path().join("store"), &key).unwrap()),
        ("postgres", Store::postgres(&database, &key).unwrap()),
    ];
    let mut group = criterion.benchmark_group("engines");
    let mut file = File::create(folder.path().join("baseline")).unwrap();
    group.bench_function("baseline: 4 KiB and fdatasync", |bencher| {
        bencher.iter(|| file.write_all(&[1; 4096]).and_then(|()| file.sync_data()).unwrap());
    });
    for (name, store) in &stores {
        for callers in [1, MANY] {
            group.throughput(Throughput::Elements(callers));
            group.bench_function(format!("{name}: {callers} at once"), |bencher| {
                bencher.iter_custom(|count| rounds(&runtime, store, callers, count));
            });
        }
    }
}

criterion_group!(benches, engines);
criterion_main!(benches);
