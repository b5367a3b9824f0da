use std::fs;
use std::path::Path;

use handover_seal::{OsRandom, Secret32};

use super::*;
use crate::{CellKey, Faults, Store, Unflushed};

const NOW: Timestamp = Timestamp::from_millis(1_760_000_000_000);
const KIND: &str = "patient";
/// More than one page.
const MANY: u64 = 2 * PAGE as u64 + 7;

fn hospital() -> Secret32 {
    Secret32::from_bytes([9; 32])
}

fn secret(number: u64) -> Secret32 {
    let mut bytes = [5; 32];
    bytes[..8].copy_from_slice(&number.to_be_bytes());
    Secret32::from_bytes(bytes)
}

fn store() -> (Store, Faults) {
    Store::memory_with_faults(&CellKey::from_bytes([1; 32]))
}

async fn open(store: &Store, folder: &Path) -> Result<Keyring, StoreError> {
    Keyring::open(store.clone(), folder, &hospital(), NOW).await
}

impl Keyring {
    async fn fill(&self, count: u64) {
        let ring = self.clone();
        let write = self.0.store.write(move |txn| {
            (0..count).try_for_each(|number| ring.put(txn, KIND, &number.to_be_bytes(), &secret(number)))
        });
        let written: Result<(), StoreError> = write.await;
        written.unwrap();
    }

    async fn found(&self, number: u64) -> Result<Option<[u8; 32]>, StoreError> {
        let ring = self.clone();
        let read = self.0.store.read(move |txn| ring.get(txn, KIND, &number.to_be_bytes()));
        Ok(read.await?.map(|secret| *secret.expose()))
    }

    async fn forget(&self, number: u64) -> bool {
        let ring = self.clone();
        let write = self.0.store.write(move |txn| ring.remove(txn, KIND, &number.to_be_bytes()));
        let removed: Result<bool, StoreError> = write.await;
        removed.unwrap()
    }
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[tokio::test]
async fn secrets_are_made_kept_and_forgotten() {
    let (folder, (store, _)) = (tempfile::tempdir().unwrap(), store());
    let ring = open(&store, folder.path()).await.unwrap();
    let (maker, place) = (ring.clone(), b"a");
    let made = store.write(move |txn| maker.get_or_make(txn, KIND, place, &mut OsRandom));
    let made: Result<Secret32, StoreError> = made.await;
    let (maker, made) = (open(&store, folder.path()).await.unwrap(), made.unwrap());
    let again = store.write(move |txn| {
        // The same identifier of another kind is another secret.
        assert!(maker.get(txn, "aside", place)?.is_none());
        maker.get_or_make(txn, KIND, place, &mut OsRandom)
    });
    let again: Result<Secret32, StoreError> = again.await;
    assert_eq!(again.unwrap().expose(), made.expose());
    ring.fill(2).await;
    assert_eq!(ring.found(1).await.unwrap(), Some(*secret(1).expose()));
    assert!(!ring.report().await.unwrap().is_rotation_due());
    assert!(ring.forget(1).await);
    assert!(!ring.forget(1).await);
    assert_eq!(ring.found(1).await.unwrap(), None);
    let report = ring.report().await.unwrap();
    assert!(report.is_rotation_due());
    assert_eq!((report.epochs[0].secrets, report.forgotten[KIND], report.damaged), (2, 1, 0));
}

#[tokio::test]
async fn a_rotation_leaves_one_key_and_nothing_of_what_was_forgotten() {
    let (folder, (store, _)) = (tempfile::tempdir().unwrap(), store());
    let ring = open(&store, folder.path()).await.unwrap();
    ring.fill(MANY).await;
    let inside = ring.clone();
    let old = store.read(move |txn| txn.scan(&inside.secrets_prefix(), None, PAGE));
    let old: Vec<crate::Cell> = {
        let old: Result<_, StoreError> = old.await;
        old.unwrap()
    };
    ring.forget(3).await;
    let mut told = Vec::new();
    let rotated = ring.rotate(NOW.plus_ms(1), DamagedSecrets::Keep, |moved| told.push(moved)).await.unwrap();
    assert_eq!(rotated, Rotated { epoch: 2, moved: MANY - 1, destroyed: vec![1], given_up: 0 });
    assert_eq!(told.first(), Some(&(PAGE as u64)));
    assert_eq!(names(folder.path()), ["epoch-000002.key"]);
    let report = ring.report().await.unwrap();
    assert!(!report.is_rotation_due());
    assert_eq!(report.epochs, [crate::Epoch { number: 2, since: NOW.plus_ms(1), secrets: MANY - 1 }]);
    for ring in [ring, open(&store, folder.path()).await.unwrap()] {
        assert_eq!(ring.found(4).await.unwrap(), Some(*secret(4).expose()));
        assert_eq!(ring.found(3).await.unwrap(), None);
        // What a copy from before still says does not open under any key that there is, not even claimed anew.
        for (place, bytes) in &old {
            let row: SecretRow = rows::read(bytes).unwrap();
            assert!(ring.open_row(place, &row).is_err());
            assert!(ring.open_row(place, &SecretRow { epoch: 2, ..row }).is_err());
        }
    }
}

#[tokio::test]
async fn damaged_secrets_hold_a_rotation_up_until_they_are_given_up() {
    let (folder, (store, _)) = (tempfile::tempdir().unwrap(), store());
    let ring = open(&store, folder.path()).await.unwrap();
    ring.fill(3).await;
    let (inside, cut) = (ring.clone(), 1_u64.to_be_bytes());
    let damage = store.write(move |txn| {
        let place = inside.place(KIND, &cut);
        let mut row: SecretRow = rows::get(txn, &place)?.unwrap();
        row.wrapped = vec![0; row.wrapped.0.len()].into();
        rows::put(txn, &place, &row)
    });
    let damage: Result<(), StoreError> = damage.await;
    damage.unwrap();
    for _ in 0..2 {
        let refused = ring.rotate(NOW, DamagedSecrets::Keep, |_| {}).await.unwrap_err();
        assert!(matches!(refused, StoreError::Damaged { .. }), "{refused}");
        assert_eq!(names(folder.path()), ["epoch-000001.key"], "nothing is begun");
    }
    let rotated = ring.rotate(NOW, DamagedSecrets::GiveUp, |_| {}).await.unwrap();
    assert_eq!(rotated, Rotated { epoch: 2, moved: 2, destroyed: vec![1], given_up: 1 });
    assert_eq!(ring.found(2).await.unwrap(), Some(*secret(2).expose()));
    // It stays given up: nothing takes its place, and it holds up no further rotation.
    assert!(ring.found(1).await.is_err());
    let report = ring.report().await.unwrap();
    assert_eq!((report.damaged, report.given_up), (0, 1));
    let rotated = ring.rotate(NOW, DamagedSecrets::Keep, |_| {}).await.unwrap();
    assert_eq!((rotated.moved, rotated.given_up), (2, 0));
    assert!(ring.found(1).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_written_during_a_rotation_opens_after_it() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::sled(&folder.path().join("store"), &CellKey::from_bytes([1; 32])).unwrap();
    let ring = open(&store, &folder.path().join("epochs")).await.unwrap();
    ring.fill(MANY).await;
    let (writer, (stop, mut stopped)) = (ring.clone(), tokio::sync::oneshot::channel::<()>());
    let writing = tokio::spawn(async move {
        let mut next = MANY;
        while stopped.try_recv().is_err() {
            let ring = writer.clone();
            let write = writer.0.store.write(move |txn| {
                ring.put(txn, KIND, &next.to_be_bytes(), &secret(next))?;
                ring.remove(txn, KIND, &(next - MANY).to_be_bytes())
            });
            let written: Result<bool, StoreError> = write.await;
            assert!(written.unwrap());
            next += 1;
        }
        next
    });
    for epoch in 2..5 {
        assert_eq!(ring.rotate(NOW, DamagedSecrets::Keep, |_| {}).await.unwrap().epoch, epoch);
    }
    stop.send(()).unwrap();
    let next = writing.await.unwrap();
    let report = ring.report().await.unwrap();
    assert_eq!((report.epochs.len(), report.damaged, report.secrets[KIND]), (1, 0, MANY));
    for number in next - MANY..next {
        assert_eq!(ring.found(number).await.unwrap(), Some(*secret(number).expose()));
    }
}

#[tokio::test]
async fn a_rotation_killed_anywhere_goes_on() {
    for killed_after in 0.. {
        for unflushed in [Unflushed::Lost, Unflushed::Kept] {
            let (folder, (store, faults)) = (tempfile::tempdir().unwrap(), store());
            let ring = open(&store, folder.path()).await.unwrap();
            ring.fill(MANY).await;
            ring.forget(3).await;
            faults.fail_flush_after(killed_after, unflushed);
            let is_done = ring.rotate(NOW, DamagedSecrets::Keep, |_| {}).await.is_ok();
            drop(ring);
            faults.restart();
            let ring = open(&store, folder.path()).await.unwrap();
            assert_eq!(ring.found(4).await.unwrap(), Some(*secret(4).expose()), "{killed_after}");
            // What is written meanwhile stays too.
            ring.fill(1).await;
            if is_done {
                assert!(killed_after > 4, "{killed_after}");
                return;
            }
            ring.complete(|_| {}).await.unwrap();
            let report = ring.report().await.unwrap();
            assert_eq!((report.epochs.len(), report.damaged), (1, 0), "{killed_after}");
            let again = ring.rotate(NOW, DamagedSecrets::Keep, |_| {}).await.unwrap();
            assert_eq!(again.moved, MANY - 1);
            assert_eq!(names(folder.path()), [format!("epoch-{:06}.key", again.epoch)]);
            assert_eq!(ring.found(MANY - 1).await.unwrap(), Some(*secret(MANY - 1).expose()));
            assert!(!ring.report().await.unwrap().is_rotation_due());
        }
    }
}

#[tokio::test]
async fn what_a_killed_destruction_left_goes_when_it_is_opened() {
    let (folder, (store, _)) = (tempfile::tempdir().unwrap(), store());
    let ring = open(&store, folder.path()).await.unwrap();
    ring.rotate(NOW, DamagedSecrets::Keep, |_| {}).await.unwrap();
    // Overwritten, not yet removed.
    fs::write(folder.path().join("epoch-000001.key"), [0; 61]).unwrap();
    drop(open(&store, folder.path()).await.unwrap());
    assert_eq!(names(folder.path()), ["epoch-000002.key"]);
}

#[tokio::test]
async fn a_store_never_opens_without_its_epochs() {
    let (folder, (store, _)) = (tempfile::tempdir().unwrap(), store());
    open(&store, folder.path()).await.unwrap().fill(1).await;
    let fault = |fault: Result<Keyring, StoreError>| match fault.err().unwrap() {
        StoreError::EpochKey { file, reason } => (
            file.file_name().unwrap().to_str().unwrap().to_owned(),
            reason.split(';').next().unwrap().to_owned(),
        ),
        other => panic!("{other}"),
    };
    let own = "epoch-000001.key".to_owned();
    let elsewhere = tempfile::tempdir().unwrap();
    assert_eq!(fault(open(&store, elsewhere.path()).await), (own.clone(), "is missing".to_owned()));
    assert!(names(elsewhere.path()).is_empty(), "no epoch is made over rows that are there");
    // Another store's of the same hospital, and another hospital's.
    let (other, _) = self::store();
    open(&other, elsewhere.path()).await.unwrap();
    assert_eq!(fault(open(&store, elsewhere.path()).await), (own.clone(), "is of another store".to_owned()));
    let strange = Keyring::open(store.clone(), folder.path(), &Secret32::from_bytes([8; 32]), NOW).await;
    assert!(fault(strange).1.contains("another hospital's"));
    fs::write(folder.path().join(&own), b"\x01").unwrap();
    assert!(fault(open(&store, folder.path()).await).1.contains("damaged"));
    // A new store does not take over a folder that was rotated.
    open(&other, elsewhere.path()).await.unwrap().rotate(NOW, DamagedSecrets::Keep, |_| {}).await.unwrap();
    let (new, _) = self::store();
    assert!(fault(open(&new, elsewhere.path()).await).1.contains("another store"));
    assert_eq!(names(elsewhere.path()), ["epoch-000002.key"]);
}

#[tokio::test]
async fn a_first_epoch_that_was_killed_is_taken_up() {
    let (folder, (store, faults)) = (tempfile::tempdir().unwrap(), store());
    faults.fail_flush_after(0, Unflushed::Lost);
    assert!(open(&store, folder.path()).await.is_err());
    faults.restart();
    let ring = open(&store, folder.path()).await.unwrap();
    ring.fill(1).await;
    assert_eq!(ring.found(0).await.unwrap(), Some(*secret(0).expose()));
}
