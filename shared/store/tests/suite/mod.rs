//! What every engine promises. Each step gets a fresh store.

use handover_core::Code;
use handover_store::{KEY_MAX_BYTES, SCAN_MAX_CELLS, Store, StoreError, Txn, VALUE_MAX_BYTES};

pub(crate) async fn run(mut open: impl FnMut() -> Store) {
    a_failed_closure_contributes_nothing(open()).await;
    keys_come_in_order_and_in_pages(open()).await;
    what_was_answered_is_read(open()).await;
    no_update_is_lost(open()).await;
    crossing_updates_are_as_if_one_after_another(open()).await;
    readers_see_whole_transactions(open()).await;
    limits_are_named(open()).await;
    a_panic_ends_one_transaction(open()).await;
    large_values_come_back(open()).await;
}

/// A caller's own error.
enum Fault {
    Mine,
    Store,
}

impl From<StoreError> for Fault {
    fn from(_: StoreError) -> Self {
        Self::Store
    }
}

fn number(value: Option<Vec<u8>>) -> u64 {
    value.map_or(0, |bytes| u64::from_be_bytes(bytes.try_into().unwrap()))
}

async fn all(store: &Store, prefix: &'static [u8]) -> Vec<(Vec<u8>, Vec<u8>)> {
    store.read::<_, StoreError, _>(move |txn| txn.scan(prefix, None, SCAN_MAX_CELLS)).await.unwrap()
}

async fn a_failed_closure_contributes_nothing(store: Store) {
    let good = |n: u8| store.write::<_, Fault, _>(move |txn| Ok(txn.put(&[1, n], vec![n])?));
    let bad = |n: u8| {
        store.write::<(), Fault, _>(move |txn| {
            txn.put(&[1, n], vec![n])?;
            txn.remove(&[1, 0])?;
            assert_eq!(txn.get(&[1, n])?, Some(vec![n]));
            Err(Fault::Mine)
        })
    };
    // Together, so that an engine that groups has them in one group.
    let (a, b, c, d) = tokio::join!(good(0), bad(1), good(2), bad(3));
    assert!(a.is_ok() && c.is_ok());
    assert!(matches!(b, Err(Fault::Mine)) && matches!(d, Err(Fault::Mine)));
    let cells = all(&store, &[1]).await;
    assert_eq!(cells, [(vec![1, 0], vec![0]), (vec![1, 2], vec![2])]);
}

async fn keys_come_in_order_and_in_pages(store: Store) {
    store
        .write::<_, StoreError, _>(|txn| {
            for n in (0..250_u16).rev() {
                txn.put(&[&[7], &n.to_be_bytes()[..]].concat(), n.to_be_bytes().to_vec())?;
            }
            txn.put(&[6, 255], vec![])?;
            txn.put(&[8], vec![])
        })
        .await
        .unwrap();
    let seen = store
        .write::<_, StoreError, _>(|txn| {
            // A transaction's own writes stand in its scans, among what is stored.
            txn.remove(&[7, 0, 5])?;
            txn.put(&[7, 0, 5, 1], vec![1])?;
            let mut seen = Vec::new();
            let mut after: Option<Vec<u8>> = None;
            loop {
                let page = txn.scan(&[7], after.as_deref(), 40)?;
                let is_last = page.len() < 40;
                after = page.last().map(|(key, _)| key.clone());
                seen.extend(page.into_iter().map(|(key, _)| key));
                if is_last {
                    return Ok(seen);
                }
            }
        })
        .await
        .unwrap();
    assert_eq!(seen.len(), 250);
    assert!(seen.is_sorted() && seen.iter().all(|key| key[0] == 7));
    assert!(seen.contains(&vec![7, 0, 5, 1]) && !seen.contains(&vec![7, 0, 5]));
    let every = all(&store, &[]).await;
    assert_eq!(every.len(), 252, "an empty prefix is every key, without the store's own");
    let none = store.read::<_, StoreError, _>(|txn| txn.scan(&[7], Some(&[7, 255]), 40)).await.unwrap();
    assert!(none.is_empty());
}

async fn what_was_answered_is_read(store: Store) {
    for n in 0..20_u8 {
        store.write::<_, StoreError, _>(move |txn| txn.put(b"k", vec![n])).await.unwrap();
        let read = store.read::<_, StoreError, _>(|txn| txn.get(b"k")).await.unwrap();
        assert_eq!(read, Some(vec![n]));
    }
    store.write::<_, StoreError, _>(|txn| txn.remove(b"k")).await.unwrap();
    assert_eq!(store.read::<_, StoreError, _>(|txn| txn.get(b"k")).await.unwrap(), None);
    let written = store.read::<_, StoreError, _>(|txn| txn.put(b"k", vec![])).await;
    assert!(matches!(written, Err(StoreError::ReadOnly)));
}

async fn no_update_is_lost(store: Store) {
    let tasks = (0..16).map(|_| {
        let store = store.clone();
        tokio::spawn(async move {
            for _ in 0..25 {
                store
                    .write::<_, StoreError, _>(|txn| {
                        let next = number(txn.get(b"count")?) + 1;
                        txn.put(b"count", next.to_be_bytes().to_vec())
                    })
                    .await
                    .unwrap();
            }
        })
    });
    for task in tasks.collect::<Vec<_>>() {
        task.await.unwrap();
    }
    let count = store.read::<_, StoreError, _>(|txn| txn.get(b"count")).await.unwrap();
    assert_eq!(number(count), 400);
}

/// Each transaction reads what the other writes. One after another, exactly one of a pair finds nothing; side by side,
/// both would.
async fn crossing_updates_are_as_if_one_after_another(store: Store) {
    let look_and_put = |look: [u8; 2], put: [u8; 2]| {
        let store = store.clone();
        tokio::spawn(async move {
            store
                .write::<_, StoreError, _>(move |txn| {
                    let found = txn.get(&look)?.is_some();
                    txn.put(&put, vec![1])?;
                    Ok(found)
                })
                .await
                .unwrap()
        })
    };
    for round in 0..50_u8 {
        let (one, other) = ([1, round], [2, round]);
        let (first, second) = tokio::join!(look_and_put(one, other), look_and_put(other, one));
        assert_ne!(first.unwrap(), second.unwrap(), "round {round}");
    }
}

/// Two values are always moved together; a reader that gets them one after the other finds them equal.
async fn readers_see_whole_transactions(store: Store) {
    let writer = store.clone();
    let writing = tokio::spawn(async move {
        for n in 0..200_u64 {
            writer
                .write::<_, StoreError, _>(move |txn| {
                    txn.put(b"left", n.to_be_bytes().to_vec())?;
                    txn.put(b"right", n.to_be_bytes().to_vec())
                })
                .await
                .unwrap();
        }
    });
    while !writing.is_finished() {
        let pair =
            store.read::<_, StoreError, _>(|txn| Ok((txn.get(b"left")?, txn.get(b"right")?))).await.unwrap();
        assert_eq!(pair.0, pair.1);
    }
    writing.await.unwrap();
}

async fn limits_are_named(store: Store) {
    async fn refused(store: &Store, f: fn(&mut dyn Txn) -> Result<(), StoreError>) -> StoreError {
        store.write::<_, StoreError, _>(f).await.unwrap_err()
    }
    let long = refused(&store, |txn| txn.put(&[1; KEY_MAX_BYTES + 1], vec![])).await;
    assert!(matches!(long, StoreError::KeyTooLong { bytes: 513 }));
    let large = refused(&store, |txn| txn.put(b"k", vec![0; VALUE_MAX_BYTES + 1])).await;
    assert!(matches!(large, StoreError::ValueTooLarge { bytes: 131_073 }));
    assert_eq!(large.code(), Code::TooLarge);
    let wide = refused(&store, |txn| txn.scan(b"k", None, SCAN_MAX_CELLS + 1).map(|_| ())).await;
    assert!(matches!(wide, StoreError::ScanTooWide { .. }));
    for own in [&b""[..], b"\0", b"\0handover-store"] {
        let reserved = store.write::<_, StoreError, _>(move |txn| txn.put(own, vec![])).await;
        assert!(matches!(reserved, Err(StoreError::KeyReserved)));
    }
    let endless = refused(&store, |txn| {
        (0..u16::MAX)
            .try_for_each(|n| txn.put(&[1, n.to_be_bytes()[0], n.to_be_bytes()[1]], vec![0; 100_000]))
    })
    .await;
    assert!(matches!(endless, StoreError::TransactionTooLarge));
    assert!(all(&store, &[]).await.is_empty());
}

async fn a_panic_ends_one_transaction(store: Store) {
    let panicked = store
        .write::<(), StoreError, _>(|txn| {
            txn.put(b"k", vec![1])?;
            panic!("on purpose")
        })
        .await;
    assert!(matches!(panicked, Err(StoreError::Panicked)));
    store.write::<_, StoreError, _>(|txn| txn.put(b"l", vec![2])).await.unwrap();
    assert_eq!(all(&store, &[]).await, [(b"l".to_vec(), vec![2])]);
}

async fn large_values_come_back(store: Store) {
    for n in 0..40_u8 {
        store.write::<_, StoreError, _>(move |txn| txn.put(&[1, n], vec![n; VALUE_MAX_BYTES])).await.unwrap();
    }
    let cells = all(&store, &[1]).await;
    assert!(cells.len() == 40 && cells.iter().all(|(key, value)| value == &vec![key[1]; VALUE_MAX_BYTES]));
    let report = store.check(|_| {}).await.unwrap();
    assert_eq!((report.counts.cells, report.counts.damaged), (40, 0));
}
