//! Forgetting: here at once, in every copy after a rotation, whatever was interrupted.

use std::collections::BTreeSet;
use std::fs;

use handover_core::Code;
use handover_store::{DamagedSecrets, Unflushed};

use super::*;

const LARGE: usize = 100_000;

impl Records {
    async fn forget(&self, patient: &LocalPatient) -> Result<BeingForgotten, RecordsError> {
        let permit = self.leave(staff(), Action::Forget, Purpose::Administration, Some(patient)).await;
        let records = self.clone();
        self.store.write(move |txn| records.forget_in(txn, &permit, NOW)).await
    }

    async fn bring(&self, batch: Vec<NewRecord>) -> Vec<Filed> {
        self.import(&self.to_import().await, NOW, batch).await.unwrap()
    }

    async fn patient_names(&self) -> Vec<String> {
        let list = self.leave(staff(), Action::ListPatients, Purpose::Treatment, None).await;
        let patients = self.patients(&list, NOW, None, 10).await.unwrap();
        patients.iter().map(ToString::to_string).collect()
    }
}

fn batch(patient: &LocalPatient) -> Vec<NewRecord> {
    vec![
        record(patient, "1", "laboratory", b"one"),
        record(patient, "1", "laboratory", b"one, corrected"),
        record(patient, "2", "psychiatry", &vec![7; LARGE]),
    ]
}

fn copy_tree(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() { copy_tree(&path, &target) } else { drop(fs::copy(&path, &target).map(|_| ())) }
    }
}

fn files(folder: &Path) -> usize {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.map(|path| if path.is_dir() { files(&path) } else { 1 }).sum()
}

#[tokio::test]
async fn a_forgotten_patient_is_gone_and_may_come_anew() {
    let house = house().await;
    let records = &house.records;
    let (anna, bert) = (patient("anna"), patient("bert"));
    records.bring(batch(&anna)).await;
    records.bring(batch(&bert)).await;
    let link = records.leave(staff(), Action::Link, Purpose::Administration, Some(&anna)).await;
    records.link(&link, NOW, a_ref(1), &anna).await.unwrap();
    let code = records.new_link_code(&link, NOW, &anna, &mut handover_seal::OsRandom).await.unwrap();
    let before = records.everything(&anna).await;

    let gone = records.forget(&anna).await.unwrap();
    assert_eq!(gone, BeingForgotten { patient: anna.clone() });
    // Before anything is swept nothing is shown or opens, and nothing new is filed.
    assert_eq!(records.being_forgotten().await.unwrap(), std::slice::from_ref(&gone));
    assert_eq!(records.forget(&anna).await.unwrap(), gone, "again changes nothing");
    assert!(records.everything(&anna).await.is_empty());
    let read = records.to_read(&anna).await;
    for at in &before {
        let refused = records.read(&read, NOW, at.reference).await.err().unwrap();
        assert_eq!(refused.code(), Code::UnknownRecord);
    }
    let permit = records.to_import().await;
    let refused = records.import(&permit, NOW, batch(&anna)).await.unwrap_err();
    assert!(matches!(refused, RecordsError::BeingForgotten), "{refused}");
    assert!(matches!(records.register(&link, NOW, &anna).await, Err(RecordsError::BeingForgotten)));
    assert_eq!(records.is_whole().await.being_forgotten, 1);

    let swept = records.sweep(&anna, &BTreeSet::new()).await.unwrap();
    assert_eq!(swept, Swept { records: 2, versions: 3, blobs: 1 });
    assert_eq!(records.sweep(&anna, &BTreeSet::new()).await.unwrap(), Swept::default());
    let report = records.is_whole().await;
    assert_eq!((report.patients, report.records, report.versions, report.blobs), (1, 2, 3, 1));
    assert_eq!((report.secrets, report.being_forgotten), (1, 0));
    assert_eq!(files(&house.folder.path().join("blobs")), 1);
    assert_eq!(records.patient_names().await, ["bert"]);
    assert!(records.by_ref(a_ref(1)).await.unwrap().is_none());
    assert!(matches!(records.redeem(&code, a_ref(2), NOW).await, Err(RecordsError::LinkCodeWrong)));
    assert!(matches!(records.forget(&anna).await, Err(RecordsError::UnknownPatient)));

    // As if they had never been here, and under a key of their own again.
    assert_eq!(records.bring(batch(&anna)).await, [Filed::New, Filed::NewVersion(2), Filed::New]);
    assert_eq!(records.is_whole().await.secrets, 2);
    let at = records.everything(&anna).await[0].reference;
    assert!(!records.bytes_of(&records.to_read(&anna).await, at).await.is_empty());
}

#[tokio::test]
async fn leave_is_needed_to_forget() {
    let house = house().await;
    let (anna, bert) = (patient("anna"), patient("bert"));
    house.records.bring(batch(&anna)).await;
    for permit in [house.records.to_read(&anna).await, house.records.to_import().await] {
        let records = house.records.clone();
        let refused = house.store.write(move |txn| records.forget_in(txn, &permit, NOW)).await;
        assert_eq!(refused.unwrap_err().code(), Code::AccessDenied);
    }
    assert!(matches!(house.records.forget(&bert).await, Err(RecordsError::UnknownPatient)));
    assert_eq!(house.records.is_whole().await.records, 2);
}

#[tokio::test]
async fn a_blob_that_another_patient_has_too_stays() {
    let house = house().await;
    let records = &house.records;
    let (anna, bert) = (patient("anna"), patient("bert"));
    records.bring(vec![record(&anna, "1", "laboratory", &vec![7; LARGE])]).await;
    let at = records.everything(&anna).await[0].reference;
    let (_, content) = records.sealed_content(&records.to_export(&anna).await, NOW, at).await.unwrap();
    let SealedContent::Blob(blob) = content else { panic!("not a blob") };
    let mut adopted = received(record(&bert, "1", "laboratory", b""));
    adopted.content = NewContent::Sealed { blob, plain_bytes: LARGE as u64 };
    let permit = records.leave(system(), Action::File, Purpose::Transfer, Some(&bert)).await;
    records.file_received(&permit, NOW, vec![adopted]).await.unwrap();

    records.forget(&anna).await.unwrap();
    assert_eq!(records.sweep(&anna, &BTreeSet::new()).await.unwrap().blobs, 0);
    let at = records.everything(&bert).await[0].reference;
    assert_eq!(records.bytes_of(&records.to_read(&bert).await, at).await, vec![7; LARGE]);
    records.forget(&bert).await.unwrap();
    assert_eq!(records.sweep(&bert, &BTreeSet::new()).await.unwrap().blobs, 1);
    assert_eq!(files(&house.folder.path().join("blobs")), 0);
}

#[tokio::test]
async fn a_blob_that_a_transfer_under_way_names_stays() {
    let house = house().await;
    let (records, anna) = (&house.records, patient("anna"));
    records.bring(vec![record(&anna, "1", "laboratory", &vec![7; LARGE])]).await;
    let at = records.everything(&anna).await[0].reference;
    let (_, content) = records.sealed_content(&records.to_export(&anna).await, NOW, at).await.unwrap();
    let SealedContent::Blob(blob) = content else { panic!("not a blob") };
    records.forget(&anna).await.unwrap();
    assert_eq!(records.sweep(&anna, &BTreeSet::from([blob.root])).await.unwrap().blobs, 0);
    assert_eq!(files(&house.folder.path().join("blobs")), 1);
}

#[tokio::test]
async fn a_batch_that_was_prepared_before_the_forgetting_is_not_filed() {
    let house = house().await;
    let records = &house.records;
    let anna = patient("anna");
    let batch = |id: &str| vec![received(record(&anna, id, "laboratory", b"x"))];
    let permit = records.leave(system(), Action::File, Purpose::Transfer, Some(&anna)).await;
    records.file_received(&permit, NOW, batch("1")).await.unwrap();
    let prepared = records.prepare_received(&permit, NOW, batch("2")).await.unwrap();
    records.forget(&anna).await.unwrap();
    let late = prepared.clone();
    let refused = house.store.write(move |txn| late.file_in(txn)).await.unwrap_err();
    assert!(matches!(refused, RecordsError::BeingForgotten), "{refused}");
    records.sweep(&anna, &BTreeSet::new()).await.unwrap();
    // They may come again, but not under the key that was forgotten.
    let refused = house.store.write(move |txn| prepared.file_in(txn)).await.unwrap_err();
    assert!(matches!(refused, RecordsError::Changed), "{refused}");
    records.is_whole().await;
    assert!(records.patient_names().await.is_empty());
}

#[tokio::test]
async fn a_sweep_killed_anywhere_goes_on() {
    for killed_after in 0.. {
        let house = house().await;
        let records = &house.records;
        let (anna, bert) = (patient("anna"), patient("bert"));
        for number in 0..2 {
            let mut more = batch(&anna);
            more.extend((0..60).map(|id| record(&anna, &format!("{number}/{id}"), "surgery", b"x")));
            records.bring(more).await;
        }
        records.bring(batch(&bert)).await;
        records.forget(&anna).await.unwrap();
        house.faults.fail_flush_after(killed_after, Unflushed::Lost);
        let is_done = records.sweep(&anna, &BTreeSet::new()).await.is_ok();
        house.faults.restart();
        assert!(records.everything(&anna).await.is_empty());
        records.is_whole().await;
        for left in records.being_forgotten().await.unwrap() {
            records.sweep(&left.patient, &BTreeSet::new()).await.unwrap();
        }
        let report = records.is_whole().await;
        assert_eq!((report.versions, report.secrets, report.being_forgotten), (3, 1, 0), "{killed_after}");
        assert_eq!(files(&house.folder.path().join("blobs")), 1);
        if is_done {
            assert!(killed_after > 3, "{killed_after}");
            return;
        }
    }
}

#[tokio::test]
async fn input_kept_aside_is_forgotten_with_its_release() {
    let house = house().await;
    let records = &house.records;
    let permit = records.leave(staff(), Action::Quarantine, Purpose::Import, None).await;
    let id = records.quarantine(&permit, NOW, "file", "1", "why", b"half".to_vec()).await.unwrap();
    let content = records.quarantined_content(&permit, NOW, id).await.unwrap();
    assert_eq!(content.bytes(MAX).await.unwrap().as_slice(), b"half");
    assert_eq!(records.is_whole().await.secrets, 1);
    records.release(&permit, NOW, id).await.unwrap();
    assert_eq!(records.is_whole().await.secrets, 0);
}

#[tokio::test]
async fn a_copy_from_before_opens_with_no_key_that_is_left() {
    let folder = tempfile::tempdir().unwrap();
    let copy = tempfile::tempdir().unwrap();
    let (cell_key, hospital_key) = (CellKey::from_bytes([1; 32]), Secret32::from_bytes([2; 32]));
    let (anna, bert) = (patient("anna"), patient("bert"));
    let open_store = |below: &Path| Store::sled(&below.join("store"), &cell_key).unwrap();
    {
        let store = open_store(folder.path());
        let records = opened(&store, folder.path(), &hospital_key).await.unwrap();
        records.bring(batch(&anna)).await;
        records.bring(batch(&bert)).await;
        drop(records);
        store.close().await;
    }
    for part in ["store", "blobs"] {
        copy_tree(&folder.path().join(part), &copy.path().join(part));
    }
    // The copy without the folder of epochs, as a backup has it, yields nothing.
    {
        let store = open_store(copy.path());
        let refused = opened(&store, copy.path(), &hospital_key).await.err().unwrap();
        assert_eq!(refused.code(), Code::EpochKeyUnavailable);
        assert!(refused.to_string().contains("epoch-000001.key"), "{refused}");
        store.close().await;
    }
    let store = open_store(folder.path());
    let records = opened(&store, folder.path(), &hospital_key).await.unwrap();
    records.forget(&anna).await.unwrap();
    records.sweep(&anna, &BTreeSet::new()).await.unwrap();
    let rotated = records.keyring.rotate(NOW, DamagedSecrets::Keep, |_| {}).await.unwrap();
    assert_eq!((rotated.epoch, rotated.moved, rotated.destroyed), (2, 1, vec![1]));
    let all = records.everything(&bert).await;
    assert_eq!(all.len(), 3);
    let permit = records.to_read(&bert).await;
    for record in &all {
        assert_eq!(records.bytes_of(&permit, record.reference).await.len() as u64, record.bytes);
    }
    records.is_whole().await;

    // With every key that is left: cell key, hospital key, the epochs' folder.
    copy_tree(&folder.path().join("epochs"), &copy.path().join("epochs"));
    let old = open_store(copy.path());
    let refused = opened(&old, copy.path(), &hospital_key).await.err().unwrap();
    assert!(refused.to_string().contains("was destroyed by a rotation"), "{refused}");
    // And if whoever has the copy makes the program take the key that is left for the one that is gone: the secrets
    // themselves do not open. Their cells do, so this is not the store's doing.
    let strange = records.keyring.clone();
    let (places, keyring) = (records.places.clone(), strange);
    let opened = old.read(move |txn| {
        assert!(txn.get(&places.patient(&patient("anna")))?.is_some());
        for rows in [places.heads(&patient("anna")), places.versions(&patient("anna"))] {
            let cells = txn.scan(&rows, None, 10)?;
            assert!(!cells.is_empty());
            for (_, row) in cells {
                for told in ["laboratory", "psychiatry", "Observation", "one"] {
                    assert!(!row.windows(told.len()).any(|bytes| bytes == told.as_bytes()), "{told}");
                }
            }
        }
        let secrets =
            ["anna", "bert"].map(|name| keyring.get(txn, crate::keys::PATIENT_KEY, name.as_bytes()));
        Ok::<_, handover_store::StoreError>(secrets.map(|secret| secret.map(|found| found.is_some())))
    });
    for secret in opened.await.unwrap() {
        assert!(secret.is_err(), "{secret:?}");
    }
    old.close().await;
    drop(records);
    store.close().await;
}
