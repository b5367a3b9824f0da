use std::collections::BTreeSet;

use handover_core::Code;
use handover_seal::stream::sealed_len;
use proptest::prelude::*;

use super::*;

#[tokio::test]
async fn importing_again_changes_nothing_and_history_is_kept() {
    let house = house().await;
    let (records, anna) = (&house.records, patient("anna"));
    let permit = records.to_import().await;
    let import = |batch| records.import(&permit, NOW, batch);
    let one = record(&anna, "1", "laboratory", b"{\"v\":1}");
    let two = record(&anna, "2", "cardiology", b"{\"v\":2}");
    let batch = || vec![one.clone(), two.clone(), one.clone()];
    assert_eq!(import(batch()).await.unwrap(), [Filed::New, Filed::New, Filed::Unchanged]);
    let before = records.everything(&anna).await;
    assert_eq!(import(batch()).await.unwrap(), [Filed::Unchanged; 3]);
    assert_eq!(records.everything(&anna).await, before);

    let changed = record(&anna, "1", "laboratory", b"{\"v\":9}");
    assert_eq!(import(vec![changed.clone()]).await.unwrap(), [Filed::NewVersion(2)]);
    let moved = record(&anna, "1", "cardiology", b"{\"v\":9}");
    assert_eq!(import(vec![moved.clone()]).await.unwrap(), [Filed::NewVersion(3)]);
    assert_eq!(import(vec![one.clone()]).await.unwrap(), [Filed::CurrentAgain(1)]);
    assert_eq!(import(vec![moved]).await.unwrap(), [Filed::CurrentAgain(3)]);

    let all = records.everything(&anna).await;
    assert_eq!(all.len(), 4);
    let permit = records.to_read(&anna).await;
    let id = all.iter().find(|record| record.resource_id == "1").unwrap().reference.record;
    for (version, content) in [(1, b"{\"v\":1}"), (2, b"{\"v\":9}"), (3, b"{\"v\":9}")] {
        assert_eq!(records.bytes_of(&permit, RecordRef { record: id, version }).await, content);
    }
    let current = records.list(&permit, NOW, &anna, &Filter::default(), None, 10).await.unwrap();
    let current: BTreeSet<_> = current.iter().map(|record| record.reference.version).collect();
    assert_eq!(current, BTreeSet::from([1, 3]));
    assert_eq!(records.departments(&permit, NOW, &anna).await.unwrap(), counts(&[("cardiology", 2)]));
    let report = records.is_whole().await;
    assert_eq!((report.patients, report.records, report.versions, report.blobs), (1, 2, 4, 0));
}

#[tokio::test]
async fn an_empty_record_and_the_longest_one_in_a_row_are_kept() {
    let house = house().await;
    let (records, anna) = (&house.records, patient("anna"));
    let longest = vec![b'x'; INLINE_MAX_BYTES];
    let batch = vec![record(&anna, "0", "laboratory", b""), record(&anna, "1", "laboratory", &longest)];
    records.import(&records.to_import().await, NOW, batch).await.unwrap();
    let permit = records.to_read(&anna).await;
    for summary in records.everything(&anna).await {
        assert_eq!(records.bytes_of(&permit, summary.reference).await.len() as u64, summary.bytes);
    }
    assert_eq!(records.is_whole().await.blobs, 0);
}

#[tokio::test]
async fn large_content_is_a_blob_that_another_hospital_can_adopt() {
    let (source, destination) = (house().await, house().await);
    let anna = patient("anna");
    let scan: Vec<u8> = (0..5_000_000_u32).map(|number| (number % 251) as u8).collect();
    let permit = source.records.to_import().await;
    source.records.import(&permit, NOW, vec![record(&anna, "s", "radiology", &scan)]).await.unwrap();
    let at = source.records.everything(&anna).await[0].reference;
    assert_eq!(source.records.bytes_of(&source.records.to_read(&anna).await, at).await, scan);
    assert_eq!(source.records.is_whole().await.blobs, 1);
    // The same again makes no second blob.
    source.records.import(&permit, NOW, vec![record(&anna, "s", "radiology", &scan)]).await.unwrap();
    assert_eq!(blobs_of(&source).await, 1);

    let export = source.records.to_export(&anna).await;
    let (summary, SealedContent::Blob(blob)) = source.records.sealed_content(&export, NOW, at).await.unwrap()
    else {
        panic!("a scan is a blob");
    };
    assert_eq!(blob.length, sealed_len(summary.bytes));
    let mut arrived = received(record(&anna, "s", "radiology", b""));
    arrived.content_hash = summary.content_hash;
    arrived.content = NewContent::Sealed { blob: blob.clone(), plain_bytes: summary.bytes };
    let there = &destination.records;
    let file = there.leave(system(), Action::File, Purpose::Transfer, Some(&anna)).await;
    let missing = there.file_received(&file, NOW, vec![arrived.clone()]).await.unwrap_err();
    assert_eq!(missing.code(), Code::PackageMismatch);
    let mut spool = there.blobs.spool().unwrap();
    std::io::copy(&mut source.records.blobs.reader(blob.root).await.unwrap(), spool.file()).unwrap();
    there.blobs.put(spool, blob.root).await.unwrap();
    assert_eq!(there.file_received(&file, NOW, vec![arrived.clone()]).await.unwrap(), [Filed::New]);
    assert_eq!(there.file_received(&file, NOW, vec![arrived]).await.unwrap(), [Filed::Unchanged]);
    let at = there.everything(&anna).await[0].reference;
    assert_eq!(there.bytes_of(&there.to_read(&anna).await, at).await, scan);
    there.is_whole().await;

    // Damage is found.
    let path = there.blobs.local_path(blob.root);
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[70_000] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let check = there.leave(staff(), Action::Check, Purpose::Administration, None).await;
    let report = there.check(&check, NOW, |_| {}).await.unwrap();
    assert_eq!(report.faults, [(at, Code::StoreDamaged)]);
    assert!(there.read(&there.to_read(&anna).await, NOW, at).await.unwrap().1.bytes(MAX).await.is_err());
}

async fn blobs_of(house: &House) -> usize {
    use futures::StreamExt as _;
    house.records.blobs.list().count().await
}

#[tokio::test]
async fn what_is_received_stands_beside_what_is_local() {
    let house = house().await;
    let (records, anna) = (&house.records, patient("anna"));
    let import = records.to_import().await;
    let local = record(&anna, "1", "laboratory", b"local");
    let other = received(record(&anna, "1", "laboratory", b"other"));
    records.import(&import, NOW, vec![local.clone()]).await.unwrap();
    let file = records.leave(system(), Action::File, Purpose::Transfer, Some(&anna)).await;
    assert_eq!(records.file_received(&file, NOW, vec![other.clone()]).await.unwrap(), [Filed::New]);
    let all = records.everything(&anna).await;
    assert_eq!(all.len(), 2);
    assert!(all.iter().all(|record| record.reference.version == 1));
    assert!(all.iter().any(|record| record.origin == other.origin));
    // Each door takes its own kind only.
    assert!(records.import(&import, NOW, vec![other]).await.is_err());
    assert!(records.file_received(&file, NOW, vec![local]).await.is_err());
}

#[tokio::test]
async fn received_records_are_filed_in_the_transaction_of_another() {
    let house = house().await;
    let (records, anna) = (&house.records, patient("anna"));
    let file = records.leave(system(), Action::File, Purpose::Transfer, Some(&anna)).await;
    let batch = vec![received(record(&anna, "1", "laboratory", b"one"))];
    let prepared = records.prepare_received(&file, NOW, batch.clone()).await.unwrap();
    let key = house.store.keys().space("test.receipt").build();
    let run = |prepared: Prepared, key: Vec<u8>| {
        house.store.write(move |txn| {
            txn.put(&key, b"receipt".to_vec())?;
            prepared.file_in(txn)
        })
    };
    assert_eq!(run(prepared.clone(), key.clone()).await.unwrap(), [Filed::New]);
    // What was prepared on an older state is refused and writes nothing.
    let other = house.store.keys().space("test.other").build();
    let refused = run(prepared, other.clone()).await.unwrap_err();
    assert!(matches!(refused, RecordsError::Changed));
    assert!(house.store.read::<_, RecordsError, _>(move |txn| Ok(txn.get(&other)?)).await.unwrap().is_none());
    let again = records.prepare_received(&file, NOW, batch).await.unwrap();
    assert_eq!(run(again, key).await.unwrap(), [Filed::Unchanged]);
}

#[tokio::test]
async fn imports_side_by_side_agree() {
    let house = house().await;
    let (records, anna) = (&house.records, patient("anna"));
    let permit = records.to_import().await;
    let run = |content: &'static [u8]| {
        let batch = (0..20).map(|id| record(&anna, &id.to_string(), "laboratory", content)).collect();
        records.import(&permit, NOW, batch)
    };
    let (one, two, three) = tokio::join!(run(b"one"), run(b"one"), run(b"two"));
    let new = [one.unwrap(), two.unwrap(), three.unwrap()].concat();
    assert_eq!(new.iter().filter(|filed| **filed == Filed::New).count(), 20);
    assert_eq!(records.everything(&anna).await.len(), 40);
    records.is_whole().await;
}

#[tokio::test]
async fn periods_and_departments_narrow_and_pages_follow() {
    let house = house().await;
    let (records, anna) = (&house.records, patient("anna"));
    let batch: Vec<_> = (0..60_i64)
        .map(|id| {
            let department = if id % 2 == 0 { "laboratory" } else { "cardiology" };
            let mut record = record(&anna, &id.to_string(), department, b"x");
            record.date = (id != 0).then(|| Timestamp::from_millis(id * 1000));
            record
        })
        .collect();
    records.import(&records.to_import().await, NOW, batch).await.unwrap();
    let permit = records.to_read(&anna).await;
    let filter = Filter {
        departments: Some(vec![department("laboratory")]),
        from: Some(Timestamp::from_millis(10_000)),
        until: Some(Timestamp::from_millis(20_000)),
        include_history: false,
    };
    let found = records.list(&permit, NOW, &anna, &filter, None, 1_000).await.unwrap();
    let mut found: Vec<_> = found.iter().map(|record| record.resource_id.as_str()).collect();
    found.sort_unstable();
    assert_eq!(found, ["0", "10", "12", "14", "16", "18"]);
    for include_history in [false, true] {
        let filter = Filter { include_history, ..Filter::default() };
        let (mut seen, mut after) = (BTreeSet::new(), None);
        loop {
            let page = records.list(&permit, NOW, &anna, &filter, after, 7).await.unwrap();
            seen.extend(page.iter().map(|record| record.reference));
            after = page.last().map(|record| record.reference);
            if page.len() < 7 {
                break;
            }
        }
        assert_eq!(seen.len(), 60);
    }
}

#[tokio::test]
async fn input_kept_aside_comes_back_as_it_was() {
    let house = house().await;
    let records = &house.records;
    let import = records.to_import().await;
    let permit = records.leave(staff(), Action::Quarantine, Purpose::Import, None).await;
    let big = vec![9; 200_000];
    let keep = |entry: &'static str, bytes: Vec<u8>| {
        records.quarantine(&import, NOW, "a.ndjson", entry, "why", bytes)
    };
    let small = keep("line 3", b"{oops".to_vec()).await.unwrap();
    assert_eq!(keep("line 3", b"{oops".to_vec()).await.unwrap(), small);
    let large = keep("line 4", big.clone()).await.unwrap();
    let listed = records.quarantined(&permit, NOW, None, 10).await.unwrap();
    assert_eq!(listed.len(), 2);
    assert!(listed.iter().all(|kept| kept.file == "a.ndjson" && kept.reason == "why"));
    let content = records.quarantined_content(&permit, NOW, large).await.unwrap();
    assert_eq!(*content.bytes(MAX).await.unwrap(), big);
    let content = records.quarantined_content(&permit, NOW, small).await.unwrap();
    assert_eq!(*content.bytes(MAX).await.unwrap(), b"{oops");
    assert_eq!(records.is_whole().await.quarantined, 2);
    records.release(&permit, NOW, large).await.unwrap();
    records.release(&permit, NOW, large).await.unwrap();
    assert_eq!(blobs_of(&house).await, 0);
    assert!(records.quarantined_content(&permit, NOW, large).await.is_err());
    assert!(records.quarantined(&import, NOW, None, 10).await.is_err());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    /// Any order, repetition and batching of the same imports ends in the same versions.
    #[test]
    fn order_and_repetition_do_not_matter(
        imports in prop::collection::vec((0_u8..4, 0_u8..3, any::<bool>()), 1..25),
        order in prop::collection::vec(any::<prop::sample::Index>(), 0..40),
        batch in 1_usize..8,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let again = order.iter().map(|index| imports[index.index(imports.len())]);
            let other: Vec<_> = again.chain(imports.iter().rev().copied()).collect();
            let (straight, shuffled) = (after(&imports, 25).await, after(&other, batch).await);
            assert_eq!(straight, shuffled);
        });
    }
}

async fn after(imports: &[(u8, u8, bool)], batch: usize) -> BTreeSet<(String, Digest, Department)> {
    let house = house().await;
    let (records, anna) = (&house.records, patient("anna"));
    let permit = records.to_import().await;
    for chunk in imports.chunks(batch) {
        let chunk = chunk.iter().map(|(id, content, is_laboratory)| {
            let department = if *is_laboratory { "laboratory" } else { "cardiology" };
            record(&anna, &id.to_string(), department, &[*content])
        });
        records.import(&permit, NOW, chunk.collect()).await.unwrap();
    }
    records.is_whole().await;
    let all = records.everything(&anna).await;
    let set: BTreeSet<_> = all
        .iter()
        .map(|record| (record.resource_id.clone(), record.content_hash, record.department.clone()))
        .collect();
    // Nothing is stored twice.
    assert_eq!(set.len(), all.len());
    set
}
