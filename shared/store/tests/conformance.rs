//! One suite that every engine passes, and what each engine promises beyond it.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test says so by failing")]

mod suite;

use std::path::Path;

use handover_cluster::Cluster;
use handover_store::{CellKey, Database, Health, Store, StoreError, Unflushed};

fn cell_key() -> CellKey {
    CellKey::from_bytes([3; 32])
}

async fn put(store: &Store, key: &'static [u8], value: &'static [u8]) -> Result<(), StoreError> {
    store.write(move |txn| txn.put(key, value.to_vec())).await
}

async fn get(store: &Store, key: &'static [u8]) -> Result<Option<Vec<u8>>, StoreError> {
    store.read(move |txn| txn.get(key)).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory_conforms() {
    suite::run(|| Store::memory(&cell_key())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sled_conforms() {
    let folder = tempfile::tempdir().unwrap();
    let mut stores = 0;
    suite::run(|| {
        stores += 1;
        Store::sled(&folder.path().join(stores.to_string()), &cell_key()).unwrap()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres_conforms() {
    let cluster = Cluster::start().unwrap();
    let mut stores = 0;
    suite::run(|| {
        stores += 1;
        let schema = format!("store_{stores}").parse().unwrap();
        let database = Database::from_url(&cluster.url(), None, &schema).unwrap();
        Store::postgres(&database, &cell_key()).unwrap()
    })
    .await;
}

#[tokio::test]
async fn memory_fails_closed_on_a_fault_and_serves_after_a_restart() {
    for (unflushed, left) in [(Unflushed::Lost, None), (Unflushed::Kept, Some(b"2".to_vec()))] {
        let (store, faults) = Store::memory_with_faults(&cell_key());
        faults.fail_flush_after(1, unflushed);
        put(&store, b"a", b"1").await.unwrap();
        assert!(matches!(put(&store, b"b", b"2").await, Err(StoreError::Failed)));
        assert!(matches!(put(&store, b"c", b"3").await, Err(StoreError::Failed)));
        assert!(matches!(get(&store, b"a").await, Err(StoreError::Failed)));
        assert_eq!(store.health(), Health::Failed);
        faults.restart();
        assert_eq!(get(&store, b"a").await.unwrap(), Some(b"1".to_vec()));
        assert_eq!(get(&store, b"b").await.unwrap(), left);
        put(&store, b"c", b"3").await.unwrap();
    }
}

#[tokio::test]
async fn sled_opens_again_after_close_and_after_drop() {
    let folder = tempfile::tempdir().unwrap();
    for round in 0..4_u8 {
        let store = Store::sled(folder.path(), &cell_key()).unwrap();
        let count = store
            .write::<_, StoreError, _>(move |txn| {
                txn.put(&[1, round], vec![round])?;
                Ok(txn.scan(&[1], None, 10)?.len())
            })
            .await
            .unwrap();
        assert_eq!(count, usize::from(round) + 1);
        if round % 2 == 0 {
            let other = store.clone();
            store.close().await;
            assert_eq!(other.health(), Health::Closed);
            assert!(matches!(put(&other, b"a", b"1").await, Err(StoreError::Closed)));
            assert!(matches!(get(&other, b"a").await, Err(StoreError::Closed)));
        }
    }
}

#[tokio::test]
async fn sled_names_a_folder_in_use_and_a_wrong_key() {
    let folder = tempfile::tempdir().unwrap();
    let open = |key: CellKey| Store::sled(folder.path(), &key).map(|_| ());
    let store = Store::sled(folder.path(), &cell_key()).unwrap();
    put(&store, b"a", b"1").await.unwrap();
    assert!(matches!(open(cell_key()), Err(StoreError::InUse { .. })));
    store.close().await;
    assert!(matches!(open(CellKey::from_bytes([4; 32])), Err(StoreError::WrongKey)));
    open(cell_key()).unwrap();
}

#[tokio::test]
async fn sled_passes_by_an_unfinished_snapshot() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::sled(folder.path(), &cell_key()).unwrap();
    put(&store, b"a", b"1").await.unwrap();
    store.close().await;
    let piece = "snap.00000000FFFFFFFF.generating";
    std::fs::write(folder.path().join(piece), b"cut off").unwrap();
    let store = Store::sled(folder.path(), &cell_key()).unwrap();
    assert_eq!(get(&store, b"a").await.unwrap(), Some(b"1".to_vec()));
    assert!(folder.path().join("aside").join(piece).exists());
    store.close().await;
    // One that is damaged is passed by as well, once the log is seen to have everything.
    let altered = "snap.00000000FFFFFFFF";
    std::fs::write(folder.path().join(altered), b"altered").unwrap();
    let store = Store::sled(folder.path(), &cell_key()).unwrap();
    assert_eq!(get(&store, b"a").await.unwrap(), Some(b"1".to_vec()));
    assert!(folder.path().join("aside").join(altered).exists());
}

#[tokio::test]
async fn nothing_readable_lies_on_the_disk() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::sled(folder.path(), &cell_key()).unwrap();
    let key = store.keys().space("patient").hashed("MRN-4711-Ada").build();
    store.write::<_, StoreError, _>(move |txn| txn.put(&key, b"Ada Lovelace".to_vec())).await.unwrap();
    store.close().await;
    for plain in ["MRN-4711", "Lovelace"] {
        assert!(!contains(folder.path(), plain.as_bytes()), "{plain}");
    }
    assert!(contains(folder.path(), b"patient"), "the search finds what is there");
}

fn contains(folder: &Path, wanted: &[u8]) -> bool {
    std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).any(|path| {
        if path.is_dir() {
            return contains(&path, wanted);
        }
        std::fs::read(path).unwrap().windows(wanted.len()).any(|window| window == wanted)
    })
}
