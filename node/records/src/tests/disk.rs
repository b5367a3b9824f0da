use std::path::Path;

use handover_core::Code;

use super::*;

const MARKERS: &[&str] =
    &["patient-4711", "psychiatry", "CarePlan", "plan-0815", "depressive", "meyer", "a-file-name", "why-not"];

fn search(folder: &Path, found: &mut Vec<String>, files: &mut usize) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            search(&path, found, files);
            continue;
        }
        *files += 1;
        let mut haystack = std::fs::read(&path).unwrap();
        haystack.extend(path.to_string_lossy().as_bytes());
        haystack.make_ascii_lowercase();
        for marker in MARKERS {
            let marker = marker.to_lowercase();
            if haystack.windows(marker.len()).any(|window| window == marker.as_bytes()) {
                found.push(format!("{marker} in {}", path.display()));
            }
        }
    }
}

#[tokio::test]
async fn a_copied_disk_tells_nothing_and_opens_again() {
    let folder = tempfile::tempdir().unwrap();
    let (cell_key, hospital_key) = (CellKey::from_bytes([1; 32]), Secret32::from_bytes([2; 32]));
    let store_folder = folder.path().join("store");
    let anna = patient("patient-4711");
    let care_plan = |id: &str, content: Vec<u8>| {
        let mut record = record(&anna, id, "psychiatry", &content);
        record.resource_type = "CarePlan".into();
        record
    };
    let scan = b"depressive ".repeat(100_000);
    {
        let store = Store::sled(&store_folder, &cell_key).unwrap();
        let records = opened(&store, folder.path(), &hospital_key).await.unwrap();
        let permit = records.to_import().await;
        let small = br#"{"resourceType":"CarePlan","id":"plan-0815","title":"depressive"}"#.to_vec();
        let batch = vec![care_plan("plan-0815", small.clone()), care_plan("scan", scan.clone())];
        assert_eq!(records.import(&permit, NOW, batch).await.unwrap(), [Filed::New; 2]);
        records.quarantine(&permit, NOW, "a-file-name", "1", "why-not", small).await.unwrap();
        let link = records.leave(staff(), Action::Link, Purpose::Administration, Some(&anna)).await;
        records.link(&link, NOW, a_ref(1), &anna).await.unwrap();
        drop(records);
        store.close().await;
    }
    let (mut found, mut files) = (Vec::new(), 0);
    search(folder.path(), &mut found, &mut files);
    assert!(files >= 3, "{files} files");
    assert!(found.is_empty(), "{found:?}");

    let store = Store::sled(&store_folder, &cell_key).unwrap();
    let strange = opened(&store, folder.path(), &Secret32::from_bytes([3; 32])).await;
    assert_eq!(strange.err().unwrap().code(), Code::EpochKeyUnavailable);
    let keyring =
        Keyring::open(store.clone(), &folder.path().join("epochs"), &hospital_key, NOW).await.unwrap();
    let blobs = Blobs::open(&folder.path().join("blobs")).unwrap();
    let strange = Records::open(store.clone(), blobs, keyring, Secret32::from_bytes([3; 32])).await;
    assert_eq!(strange.err().unwrap().code(), Code::KeyUnavailable);
    let records = opened(&store, folder.path(), &hospital_key).await.unwrap();
    let permit = records.to_read(&anna).await;
    let all = records.everything(&anna).await;
    let large = all.iter().find(|record| record.resource_id == "scan").unwrap();
    assert_eq!(records.bytes_of(&permit, large.reference).await, scan);
    let report = records.is_whole().await;
    assert_eq!((report.records, report.blobs, report.quarantined), (2, 1, 1));
    let list = records.leave(staff(), Action::ListPatients, Purpose::Treatment, None).await;
    assert_eq!(records.patients(&list, NOW, None, 10).await.unwrap(), std::slice::from_ref(&anna));
    assert!(records.patients(&list, NOW, Some(&anna), 10).await.unwrap().is_empty());
    drop(records);
    store.close().await;
}
