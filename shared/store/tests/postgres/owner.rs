//! One process at a time, and only on a database that keeps what it confirmed.

use handover_cluster::Cluster;
use handover_store::{CellKey, Database, Health, Place, Schema, Store, StoreError, accept_loss};

use crate::{cell_key, count, count_up, open};

/// Ends the connections of every store, as if their processes' machines were cut off.
const CUT_OFF: &str =
    "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name = 'handover'";

async fn fails(store: &Store) {
    let end = std::time::Instant::now() + std::time::Duration::from_secs(30);
    while store.health() != Health::Failed && std::time::Instant::now() < end {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    assert_eq!(store.health(), Health::Failed);
    assert!(matches!(count_up(store).await, Err(StoreError::Failed)));
    let read = store.read::<_, StoreError, _>(|txn| txn.get(b"count")).await;
    assert!(matches!(read, Err(StoreError::Failed)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_one_is_told_and_opens_once_the_first_is_gone() {
    let cluster = Cluster::start().unwrap();
    let store = open(&cluster.url()).unwrap();
    count_up(&store).await.unwrap();
    let second = open(&cluster.url()).map(drop).unwrap_err();
    assert!(matches!(second, StoreError::InUse { .. }), "{second}");
    assert!(second.to_string().contains("schema handover of database postgres at 127.0.0.1"), "{second}");
    // Another schema is another store.
    let schema: Schema = "user".parse().unwrap();
    let other = Store::postgres(&Database::from_url(&cluster.url(), None, &schema).unwrap(), &cell_key());
    assert_eq!(count(&other.unwrap()).await, 0);
    let clone = store.clone();
    store.close().await;
    assert_eq!(clone.health(), Health::Closed);
    assert!(matches!(count_up(&clone).await, Err(StoreError::Closed)));
    for round in 2..5 {
        let store = open(&cluster.url()).unwrap();
        assert_eq!(count_up(&store).await.unwrap(), round);
    }
    let wrong = Database::from_url(&cluster.url(), None, &Schema::default()).unwrap();
    let wrong = Store::postgres(&wrong, &CellKey::from_bytes([7; 32])).map(drop);
    assert!(matches!(wrong, Err(StoreError::WrongKey)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_was_taken_over_stops_for_good() {
    let cluster = Cluster::start().unwrap();
    let first = open(&cluster.url()).unwrap();
    count_up(&first).await.unwrap();
    // The second one opens in the moment in which the first has no connection.
    let second = loop {
        cluster.sql(CUT_OFF).unwrap();
        match open(&cluster.url()) {
            Ok(store) => break store,
            Err(StoreError::InUse { .. }) => {}
            Err(other) => panic!("{other}"),
        }
    };
    fails(&first).await;
    assert_eq!(count_up(&second).await.unwrap(), 2);
    assert_eq!(second.health(), Health::Serving);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_lost_what_it_confirmed_is_found_out() {
    let cluster = Cluster::start().unwrap();
    let store = open(&cluster.url()).unwrap();
    for _ in 0..3 {
        count_up(&store).await.unwrap();
    }
    // As a standby has it that was behind when it took over.
    cluster.sql("UPDATE handover.owner SET last_group = last_group - 1").unwrap();
    cluster.sql(CUT_OFF).unwrap();
    fails(&store).await;
    drop(store);
    // Nor does the next one take it for whole, until somebody says that it has to do.
    let lost = open(&cluster.url()).map(drop).unwrap_err();
    assert!(matches!(lost, StoreError::Damaged { .. }), "{lost}");
    let database = Database::from_url(&cluster.url(), None, &Schema::default()).unwrap();
    let place = Place::Database { database: Box::new(database), beside: None };
    accept_loss(&place, &cell_key()).await.unwrap();
    assert_eq!(count(&open(&cluster.url()).unwrap()).await, 3);
    assert!(matches!(accept_loss(&place, &cell_key()).await, Err(StoreError::NotMoved { .. })));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn settings_that_lose_writes_are_overruled_or_refused() {
    let mut cluster = Cluster::start_with(&["synchronous_commit=off"]).unwrap();
    let store = open(&cluster.url()).unwrap();
    count_up(&store).await.unwrap();
    // Killed at once: what was answered is there, though the server's own setting would not have waited.
    cluster.kill().unwrap();
    cluster.start_again().unwrap();
    assert_eq!(count(&store).await, 1);
    drop(store);
    cluster.stop().unwrap();
    cluster.set("fsync=off");
    cluster.start_again().unwrap();
    let refused = open(&cluster.url()).map(drop).unwrap_err();
    assert!(matches!(refused, StoreError::Settings { .. }), "{refused}");
    assert!(refused.to_string().contains("fsync = off"), "{refused}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_newer_schema_is_left_alone() {
    let cluster = Cluster::start().unwrap();
    drop(open(&cluster.url()).unwrap());
    cluster.sql("UPDATE handover.version SET number = 2").unwrap();
    let newer = open(&cluster.url()).map(drop).unwrap_err();
    assert!(matches!(newer, StoreError::UnknownFormat { found: 2 }), "{newer}");
    cluster.sql("UPDATE handover.version SET number = 1").unwrap();
    open(&cluster.url()).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_readable_lies_in_the_database() {
    let cluster = Cluster::start().unwrap();
    let store = open(&cluster.url()).unwrap();
    let key = store.keys().space("patient").hashed("MRN-4711-Ada").build();
    store.write::<_, StoreError, _>(move |txn| txn.put(&key, b"Ada Lovelace".to_vec())).await.unwrap();
    let holds = |text: &str| {
        let found = format!(
            "SELECT count(*) FROM handover.cells WHERE position('{text}'::bytea in key || value) > 0"
        );
        cluster.sql(&found).unwrap() != "0"
    };
    assert!(!holds("MRN-4711") && !holds("Lovelace"));
    assert!(holds("patient"), "the search finds what is there");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_password_is_refused_and_not_repeated() {
    let cluster = Cluster::start().unwrap();
    let url = cluster.url().replace(cluster.password(), "not-the-password");
    let refused = open(&url).map(drop).unwrap_err().to_string();
    assert!(refused.contains("password authentication failed"), "{refused}");
    assert!(!refused.contains("not-the-password"), "{refused}");
}
