//! A database whose standby is away: it can be reached, and does not commit.

use std::time::{Duration, Instant};

use handover_cluster::Cluster;
use handover_store::{Health, Store, StoreError};

use crate::{count, count_up, open};

async fn until(what: &str, is_so: impl Fn() -> bool) {
    let end = Instant::now() + Duration::from_secs(40);
    while !is_so() {
        assert!(Instant::now() < end, "{what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn refused(store: &Store) {
    let written = count_up(store).await.map(drop);
    let read = store.read::<_, StoreError, _>(|txn| txn.get(b"count")).await.map(drop);
    for refused in [written, read] {
        assert!(matches!(refused, Err(StoreError::Unavailable { .. })), "{refused:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_that_waits_for_a_standby_is_told_of_and_holds_up_nobody() {
    let cluster = Cluster::start().unwrap();
    let store = open(&cluster.url()).unwrap();
    count_up(&store).await.unwrap();
    cluster.require_standby("nobody").unwrap();
    let waiting = |store: &Store| {
        let store = store.clone();
        tokio::spawn(async move { count_up(&store).await })
    };
    let counted = waiting(&store);
    let hangs = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'";
    until("the commit waits", || cluster.sql(hangs).unwrap() == "1").await;
    // Whoever ends that backend makes visible what no standby has. Nobody may read it.
    let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE wait_event = 'SyncRep'";
    cluster.sql(end).unwrap();
    until("it is visible", || cluster.sql("SELECT last_group FROM handover.owner").unwrap() == "2").await;
    let read = store.read::<_, StoreError, _>(|txn| txn.get(b"count")).await;
    assert!(matches!(read, Err(StoreError::Unavailable { .. })), "{read:?}");
    until("it is away", || store.health() == Health::Away).await;
    refused(&store).await;
    assert!(!counted.is_finished(), "nobody knows yet");
    // The standby is back.
    cluster.require_standby("").unwrap();
    assert_eq!(counted.await.unwrap().unwrap(), 2);
    assert_eq!(store.health(), Health::Serving);
    assert_eq!(count(&store).await, 2);
    // Who stops meanwhile is not held up either.
    cluster.require_standby("nobody").unwrap();
    let counted = waiting(&store);
    until("it is away", || store.health() == Health::Away).await;
    let drained = tokio::time::timeout(Duration::from_secs(40), store.drain(counted)).await.unwrap();
    assert!(matches!(drained.unwrap(), Err(StoreError::Failed)));
    store.close().await;
    cluster.require_standby("").unwrap();
    assert_eq!(
        count(&open(&cluster.url()).unwrap()).await,
        3,
        "it was committed, which nobody had been told"
    );
}
