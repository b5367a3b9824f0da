//! The books over every engine: one suite that each passes, what a kill leaves, and the tables beside a database.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test says so by failing")]

mod killed;
mod steps;
mod suite;
mod tables;

use handover_cluster::Cluster;
use handover_index::ledger::{Ledger, TABLES};
use handover_store::{CellKey, Database, Store};

fn cell_key() -> CellKey {
    CellKey::from_bytes([3; 32])
}

/// The books in a schema of a database, with their tables.
async fn in_database(url: &str, schema: &str) -> (Store, Ledger) {
    let database = Database::from_url(url, None, &schema.parse().unwrap()).unwrap();
    let store = Store::postgres(&database.with_tables(&TABLES), &cell_key()).unwrap();
    let ledger = Ledger::new(store.clone());
    ledger.fill_tables().await.unwrap();
    (store, ledger)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory_conforms() {
    suite::run(async |_| Store::memory(&cell_key())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sled_conforms() {
    let folder = tempfile::tempdir().unwrap();
    suite::run(async |name| Store::sled(&folder.path().join(name), &cell_key()).unwrap()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres_conforms() {
    let cluster = Cluster::start().unwrap();
    suite::run(async |name| in_database(&cluster.url(), name).await.0).await;
}
