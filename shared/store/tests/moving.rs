//! A store moves from one engine to the other and back; whatever happens, at most one of the two opens.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test says so by failing")]

use std::path::Path;

use handover_cluster::Cluster;
use handover_store::{
    CellKey, Database, EngineName, Moved, Place, SCAN_MAX_CELLS, Schema, Settings, Step, Store, StoreError,
    copy, undo,
};

const CELLS: u64 = 2_300;

fn cell_key() -> CellKey {
    CellKey::from_bytes([8; 32])
}

fn folder(path: &Path) -> Place {
    Place::Folder(path.to_owned())
}

fn database(cluster: &Cluster) -> Place {
    database_in(cluster, &Schema::default())
}

fn database_in(cluster: &Cluster, schema: &Schema) -> Place {
    let database = Database::from_url(&cluster.url(), None, schema).unwrap();
    Place::Database { database: Box::new(database), beside: None }
}

async fn open(place: &Place) -> Result<Store, StoreError> {
    Store::open(place, &cell_key()).await
}

async fn fill(place: &Place) {
    let store = open(place).await.unwrap();
    store
        .write::<_, StoreError, _>(|txn| {
            (0..CELLS)
                .try_for_each(|n| txn.put(&[&[1], &n.to_be_bytes()[..]].concat(), vec![1; n as usize % 900]))
        })
        .await
        .unwrap();
    // More bytes than go into one transaction.
    for n in 0..90_u8 {
        store.write::<_, StoreError, _>(move |txn| txn.put(&[2, n], vec![n; 128 * 1024])).await.unwrap();
    }
    store.close().await;
}

/// Every value as it is read, by way of the engine.
async fn everything(place: &Place) -> Vec<(Vec<u8>, Vec<u8>)> {
    let store = open(place).await.unwrap();
    let (mut all, mut after) = (Vec::new(), None::<Vec<u8>>);
    loop {
        let from = after.take();
        let page = store.read::<_, StoreError, _>(move |txn| txn.scan(&[], from.as_deref(), SCAN_MAX_CELLS));
        let page = page.await.unwrap();
        let Some((last, _)) = page.last() else { break };
        after = Some(last.clone());
        all.extend(page);
    }
    store.close().await;
    all
}

/// Why a command did not fit.
fn not<T: std::fmt::Debug>(done: Result<T, StoreError>) -> String {
    match done {
        Err(StoreError::NotMoved { reason }) => reason,
        other => panic!("{other:?}"),
    }
}

async fn moved(from: &Place, to: &Place) -> Result<Moved, StoreError> {
    copy(from, to, &cell_key(), |_, _, _| {}).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_moves_to_a_database_and_back() {
    let (cluster, files) = (Cluster::start().unwrap(), tempfile::tempdir().unwrap());
    let (old, database, new) =
        (folder(&files.path().join("old")), database(&cluster), folder(&files.path().join("new")));
    fill(&old).await;
    let before = everything(&old).await;
    let mut steps = Vec::new();
    let there = copy(&old, &database, &cell_key(), |step, done, total| steps.push((step, done, total))).await;
    let there = there.unwrap();
    assert_eq!(there.cells, CELLS + 90);
    let last = |wanted: Step| steps.iter().rev().find(|(step, _, _)| *step == wanted).copied().unwrap();
    assert_eq!(last(Step::Copying), (Step::Copying, CELLS + 90, Some(CELLS + 90)));
    assert_eq!(last(Step::Verifying).1, CELLS + 90);
    // The one it came from says where it is.
    let gone = open(&old).await.map(drop).unwrap_err();
    assert!(matches!(&gone, StoreError::Moved { to } if *to == database.to_string()), "{gone}");
    assert!(matches!(moved(&old, &new).await, Err(StoreError::Moved { .. })));
    assert_eq!(everything(&database).await, before);
    // Back: the folder of before holds a store, another does not.
    assert!(matches!(moved(&database, &old).await, Err(StoreError::NotEmpty { .. })));
    assert_eq!(moved(&database, &new).await.unwrap(), there);
    assert!(matches!(open(&database).await.map(drop), Err(StoreError::Moved { .. })));
    assert_eq!(everything(&new).await, before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_that_was_cut_off_is_begun_anew() {
    let (cluster, files) = (Cluster::start().unwrap(), tempfile::tempdir().unwrap());
    let (old, database) = (folder(&files.path().join("old")), database(&cluster));
    fill(&old).await;
    let before = everything(&old).await;
    // Cut off in the middle, as by a kill: nothing is said any more.
    let (at_copying, copying) = tokio::sync::oneshot::channel();
    let mut at_copying = Some(at_copying);
    let key = cell_key();
    let cut_off = copy(&old, &database, &key, |step, _, _| {
        if step == Step::Copying
            && let Some(told) = at_copying.take()
        {
            told.send(()).unwrap();
        }
    });
    tokio::select! {
        biased;
        _ = copying => {}
        _ = cut_off => panic!("it was to be cut off"),
    }
    let unfinished = open(&database).await.map(drop).unwrap_err();
    assert!(matches!(unfinished, StoreError::Unfinished { .. }), "{unfinished}");
    // The source is still the store, and goes on.
    let store = open(&old).await.unwrap();
    store.write::<_, StoreError, _>(|txn| txn.remove(&[2, 0])).await.unwrap();
    store.close().await;
    assert_eq!(moved(&old, &database).await.unwrap().cells, CELLS + 89);
    assert_eq!(
        everything(&database).await,
        before.into_iter().filter(|(key, _)| *key != [2, 0]).collect::<Vec<_>>()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_move_is_taken_back_while_nothing_is_lost_by_it() {
    let (cluster, files) = (Cluster::start().unwrap(), tempfile::tempdir().unwrap());
    let (old, database) = (folder(&files.path().join("old")), database(&cluster));
    fill(&old).await;
    assert!(not(undo(&old, Some(&database), &cell_key()).await).contains("was not moved"));
    moved(&old, &database).await.unwrap();
    undo(&old, Some(&database), &cell_key()).await.unwrap();
    assert!(matches!(open(&database).await.map(drop), Err(StoreError::Moved { .. })));
    drop(open(&old).await.unwrap());
    // Again, and this time the copy is used.
    cluster.sql("DROP SCHEMA handover CASCADE").unwrap();
    moved(&old, &database).await.unwrap();
    let store = open(&database).await.unwrap();
    store.write::<_, StoreError, _>(|txn| txn.put(b"new", vec![1])).await.unwrap();
    store.close().await;
    assert!(not(undo(&old, Some(&database), &cell_key()).await).contains("written to since"));
    assert!(matches!(open(&old).await.map(drop), Err(StoreError::Moved { .. })));
    drop(open(&database).await.unwrap());
    // Unless there is no copy any more.
    undo(&old, None, &cell_key()).await.unwrap();
    assert_eq!(everything(&old).await.len() as u64, CELLS + 90);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_in_use_or_damaged_stays_where_it_is() {
    let (cluster, files) = (Cluster::start().unwrap(), tempfile::tempdir().unwrap());
    let (old, database) = (folder(&files.path().join("old")), database(&cluster));
    fill(&old).await;
    let running = open(&old).await.unwrap();
    assert!(matches!(moved(&old, &database).await, Err(StoreError::InUse { .. })));
    running.close().await;
    // Configured for the database before anything was moved there: no new store is begun beside the old one.
    let url = cluster.file("url", &cluster.url()).unwrap();
    let settings = Settings { engine: EngineName::Postgres, url_file: Some(url), ..Settings::default() };
    let beside = settings.place(EngineName::Postgres, &files.path().join("old")).unwrap();
    let refused = open(&beside).await.map(drop).unwrap_err();
    assert!(matches!(refused, StoreError::NotMoved { .. }), "{refused}");
    assert!(refused.to_string().contains("store copy"), "{refused}");
    // Nor the other way round.
    let fresh = files.path().join("fresh");
    let other: Schema = "fresh".parse().unwrap();
    let settings = Settings { schema: other, ..settings };
    drop(open(&settings.place(EngineName::Postgres, &fresh).unwrap()).await.unwrap());
    let refused = open(&folder(&fresh)).await.map(drop).unwrap_err();
    assert!(refused.to_string().contains("one in schema fresh"), "{refused}");
    assert!(!fresh.exists());
    let other = CellKey::from_bytes([9; 32]);
    assert!(matches!(copy(&old, &database, &other, |_, _, _| {}).await, Err(StoreError::WrongKey)));
    moved(&old, &database).await.unwrap();
    cluster.sql("UPDATE handover.cells SET value = '\\x01' WHERE key = '\\x0201'").unwrap();
    let new = folder(&files.path().join("new"));
    assert!(matches!(moved(&database, &new).await, Err(StoreError::Damaged { .. })));
    assert!(matches!(open(&new).await.map(drop), Err(StoreError::Unfinished { .. })));
    drop(open(&database).await.unwrap());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_refused_makes_no_store() {
    let (cluster, files) = (Cluster::start().unwrap(), tempfile::tempdir().unwrap());
    let (old, new) = (folder(&files.path().join("old")), files.path().join("new"));
    let there = database(&cluster);
    let elsewhere = |schema: &str| database_in(&cluster, &schema.parse::<Schema>().unwrap());
    let is_there = |schema: &str| {
        cluster.sql(&format!("SELECT to_regnamespace('{schema}') IS NOT NULL")).unwrap() == "t"
    };
    // From where no store is: a wrong schema, no folder, an empty one.
    assert!(not(moved(&elsewhere("typo"), &folder(&new)).await).contains("there is no store in schema typo"));
    std::fs::create_dir(files.path().join("empty")).unwrap();
    for path in ["none", "empty"] {
        let path = files.path().join(path);
        assert!(not(moved(&folder(&path), &there).await).contains("there is no store"));
        assert!(std::fs::read_dir(path).map_or(0, Iterator::count) == 0);
    }
    drop(open(&elsewhere("nothing")).await.unwrap());
    assert!(not(moved(&elsewhere("nothing"), &folder(&new)).await).contains("holds nothing"));
    assert!(!is_there("typo") && !is_there("handover") && !new.exists());
    // Once it was moved, to nowhere else.
    fill(&old).await;
    moved(&old, &there).await.unwrap();
    assert!(matches!(moved(&old, &elsewhere("second")).await, Err(StoreError::Moved { .. })));
    assert!(!is_there("second"));
    // Whose copy is gone, of that none is made.
    cluster.sql("DROP SCHEMA handover CASCADE").unwrap();
    assert!(not(undo(&old, Some(&there), &cell_key()).await).contains("--copy-is-lost"));
    assert!(not(moved(&old, &there).await).contains("--copy-is-lost"));
    assert!(!is_there("handover"));
    assert!(matches!(open(&old).await.map(drop), Err(StoreError::Moved { .. })));
}
