//! What the engine over a database promises beyond the suite: one owner, and nothing lost or done twice whatever becomes
//! of connections and servers.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test says so by failing")]

#[path = "postgres/owner.rs"]
mod owner;
#[path = "postgres/proxy.rs"]
mod proxy;
#[path = "postgres/standby.rs"]
mod standby;
#[path = "postgres/takeover.rs"]
mod takeover;
#[path = "postgres/tls.rs"]
mod tls;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use handover_cluster::Cluster;
use handover_store::{CellKey, Database, Health, Schema, Store, StoreError};
use proxy::{Cut, Proxy};
use tokio::sync::Notify;

fn cell_key() -> CellKey {
    CellKey::from_bytes([6; 32])
}

fn database(url: &str) -> Database {
    Database::from_url(url, None, &Schema::default()).unwrap()
}

fn open(url: &str) -> Result<Store, StoreError> {
    Store::postgres(&database(url), &cell_key())
}

fn number(value: Option<Vec<u8>>) -> u64 {
    value.map_or(0, |bytes| u64::from_be_bytes(bytes.try_into().unwrap()))
}

/// A database that was away is found again in a moment; until then reads are refused.
async fn count(store: &Store) -> u64 {
    let end = Instant::now() + Duration::from_secs(40);
    loop {
        match store.read::<_, StoreError, _>(|txn| txn.get(b"count")).await {
            Err(StoreError::Unavailable { .. }) if Instant::now() < end => {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            read => return number(read.unwrap()),
        }
    }
}

async fn count_up(store: &Store) -> Result<u64, StoreError> {
    store
        .write(|txn| {
            let next = number(txn.get(b"count")?) + 1;
            txn.put(b"count", next.to_be_bytes().to_vec())?;
            Ok(next)
        })
        .await
}

/// Tasks that count up until they are told to stop. What they were refused, they try again.
struct Load {
    done: Arc<AtomicU64>,
    more: Arc<Notify>,
    is_over: Arc<AtomicBool>,
    tasks: Vec<tokio::task::JoinHandle<Vec<u64>>>,
}

impl Load {
    fn start(store: &Store) -> Self {
        let (done, more, is_over) = (Arc::default(), Arc::<Notify>::default(), Arc::default());
        let task = || {
            let (store, done, more, is_over): (_, Arc<AtomicU64>, _, Arc<AtomicBool>) =
                (store.clone(), Arc::clone(&done), Arc::clone(&more), Arc::clone(&is_over));
            tokio::spawn(async move {
                let mut seen = Vec::new();
                while !is_over.load(Ordering::SeqCst) {
                    match count_up(&store).await {
                        Ok(count) => seen.push(count),
                        Err(StoreError::Unavailable { .. } | StoreError::Busy) => continue,
                        Err(other) => panic!("{other}"),
                    }
                    done.fetch_add(1, Ordering::SeqCst);
                    more.notify_one();
                }
                seen
            })
        };
        let tasks = (0..8).map(|_| task()).collect();
        Self { done, more, is_over, tasks }
    }

    /// Waits until so many more were answered.
    async fn pass(&self, more: u64) {
        let wanted = self.done.load(Ordering::SeqCst) + more;
        while self.done.load(Ordering::SeqCst) < wanted {
            self.more.notified().await;
        }
    }

    /// Stops, and sees that each answer was given once and all of them stand.
    async fn verify(self, store: &Store) {
        self.is_over.store(true, Ordering::SeqCst);
        let mut all = Vec::new();
        for task in self.tasks {
            all.extend(task.await.unwrap());
        }
        all.sort_unstable();
        assert_eq!(all, (1..=all.len() as u64).collect::<Vec<_>>(), "each count is answered once");
        assert_eq!(count(store).await, all.len() as u64);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_killed_and_comes_back_has_everything_once() {
    let mut cluster = Cluster::start().unwrap();
    let store = open(&cluster.url()).unwrap();
    let load = Load::start(&store);
    for _ in 0..3 {
        load.pass(60).await;
        cluster.kill().unwrap();
        cluster.start_again().unwrap();
    }
    load.pass(60).await;
    load.verify(&store).await;
    // In order, it ends sessions by itself.
    let load = count(&store).await;
    cluster.stop().unwrap();
    cluster.start_again().unwrap();
    assert_eq!(count_up(&store).await.unwrap(), load + 1);
    assert_eq!(store.health(), Health::Serving);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_that_are_ended_under_load_cost_nothing() {
    let cluster = Cluster::start().unwrap();
    let store = open(&cluster.url()).unwrap();
    let load = Load::start(&store);
    for _ in 0..10 {
        load.pass(20).await;
        let all = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name = 'handover'";
        cluster.sql(all).unwrap();
    }
    load.pass(20).await;
    load.verify(&store).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_whose_answer_was_lost_counts_once() {
    let cluster = Cluster::start().unwrap();
    let proxy = Proxy::start(cluster.port());
    let store = open(&cluster.url_at(&format!("127.0.0.1:{}", proxy.port()))).unwrap();
    for (cut, runs) in [(Cut::Answer, 1), (Cut::Question, 2)] {
        let before = count(&store).await;
        proxy.cut_next_commit(cut);
        let ran = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&ran);
        let answer = store.write::<_, StoreError, _>(move |txn| {
            counted.fetch_add(1, Ordering::SeqCst);
            let next = number(txn.get(b"count")?) + 1;
            txn.put(b"count", next.to_be_bytes().to_vec())?;
            Ok(next)
        });
        assert_eq!(answer.await.unwrap(), before + 1, "{cut:?}");
        assert_eq!(ran.load(Ordering::SeqCst), runs, "{cut:?}: run again only if it was not carried out");
        assert_eq!(count(&store).await, before + 1, "{cut:?}");
        assert!(proxy.has_cut());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_could_not_begin_writes_nothing() {
    let cluster = Cluster::start().unwrap();
    let proxy = Proxy::start(cluster.port());
    let store = open(&cluster.url_at(&format!("127.0.0.1:{}", proxy.port()))).unwrap();
    count_up(&store).await.unwrap();
    proxy.garble_next_begin();
    // It reads nothing, so its writes are the first that is sent.
    let written = store.write::<_, StoreError, _>(|txn| txn.put(b"unasked", vec![1])).await;
    assert!(matches!(written, Err(StoreError::Unavailable { .. })), "{written:?}");
    assert_eq!(store.read::<_, StoreError, _>(|txn| txn.get(b"unasked")).await.unwrap(), None);
    assert_eq!(count_up(&store).await.unwrap(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_runs_again_when_somebody_else_was_in_the_way() {
    let cluster = Arc::new(Cluster::start().unwrap());
    let store = open(&cluster.url()).unwrap();
    count_up(&store).await.unwrap();
    let (other, runs) = (Arc::clone(&cluster), Arc::new(AtomicU64::new(0)));
    let ran = Arc::clone(&runs);
    let counted = store.write::<_, StoreError, _>(move |txn| {
        // What was never asked begins the transaction.
        txn.get(b"never asked")?;
        let next = number(txn.get(b"count")?) + 1;
        if ran.fetch_add(1, Ordering::SeqCst) == 0 {
            other.sql("UPDATE handover.owner SET holder = holder").unwrap();
        }
        txn.put(b"count", next.to_be_bytes().to_vec())?;
        Ok(next)
    });
    assert_eq!(counted.await.unwrap(), 2);
    assert_eq!(runs.load(Ordering::SeqCst), 2);
    // Whoever is always in the way is told of, in the end.
    let other = Arc::clone(&cluster);
    let busy = store.write::<_, StoreError, _>(move |txn| {
        txn.get(b"never asked, too")?;
        let next = number(txn.get(b"count")?) + 1;
        other.sql("UPDATE handover.owner SET holder = holder").unwrap();
        txn.put(b"count", next.to_be_bytes().to_vec())
    });
    assert!(matches!(busy.await, Err(StoreError::Busy)));
    assert_eq!(count_up(&store).await.unwrap(), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transaction_as_large_as_may_be_is_kept() {
    let cluster = Cluster::start().unwrap();
    let store = open(&cluster.url()).unwrap();
    let large = |txn: &mut dyn handover_store::Txn| {
        (0..250_u8).try_for_each(|n| txn.put(&[1, n], vec![n; 120_000]))?;
        txn.remove(&[1, 7])
    };
    store.write::<_, StoreError, _>(large).await.unwrap();
    let report = store.check(|_| {}).await.unwrap();
    assert_eq!((report.counts.cells, report.counts.damaged), (249, 0));
    let last = store.read::<_, StoreError, _>(|txn| txn.get(&[1, 249])).await.unwrap();
    assert_eq!(last, Some(vec![249; 120_000]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_is_away_is_named_and_taken_up_again() {
    let mut cluster = Cluster::start().unwrap();
    // One host refuses, one takes the connection and says nothing; the third it is.
    let mute = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let hosts =
        [1, mute.local_addr().unwrap().port(), cluster.port()].map(|port| format!("127.0.0.1:{port}"));
    let url = cluster.url_at(&hosts.join(","));
    let store = open(&url).unwrap();
    count_up(&store).await.unwrap();
    cluster.stop().unwrap();
    let (written, read) =
        tokio::join!(count_up(&store), store.read::<_, StoreError, _>(|txn| txn.get(b"count")));
    for refused in [written.unwrap_err(), read.unwrap_err()] {
        let said = refused.to_string();
        assert!(matches!(refused, StoreError::Unavailable { doing: "reach the database", .. }), "{said}");
        assert!(!said.contains(cluster.password()), "{said}");
    }
    assert_eq!(store.health(), Health::Away);
    cluster.start_again().unwrap();
    let end = std::time::Instant::now() + Duration::from_secs(30);
    while store.health() == Health::Away && std::time::Instant::now() < end {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(store.health(), Health::Serving, "by itself, without being asked");
    assert_eq!(count_up(&store).await.unwrap(), 2);
}
