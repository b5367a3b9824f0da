use std::collections::BTreeSet;

use handover_core::HospitalId;
use handover_core::artefact::recall::RecallReason;
use handover_store::StoreError;

use super::*;

fn mark(reason: RecallReason) -> Mark {
    Mark { reason, by: "lakeside".parse().unwrap(), since: NOW, replaced: None }
}

fn recalling(on: &LocalPatient) -> GrantRequest {
    let hospital: HospitalId = "lakeside".parse().unwrap();
    request(Subject::Hospital(hospital), Action::Recall, Purpose::Transfer, Some(on))
}

impl House {
    /// Marks a version, with its audit line, in one transaction.
    async fn mark(&self, on: &LocalPatient, at: RecordRef, said: Mark) -> Result<bool, RecordsError> {
        let (records, request) = (self.records.clone(), recalling(on));
        let write = self.store.write(move |txn| {
            let permit = records.audit().permit_in(txn, &request, NOW)?;
            records.mark_in(txn, &permit, NOW, at, &said)
        });
        write.await
    }

    async fn link(&self, on: &LocalPatient) {
        let permit = self.records.leave(staff(), Action::Link, Purpose::Administration, Some(on)).await;
        self.records.register(&permit, NOW, on).await.unwrap();
        self.records.link(&permit, NOW, PatientRef::from_bytes([5; 32]), on).await.unwrap();
    }

    async fn import(&self, on: &LocalPatient, contents: &[(&str, &[u8])]) {
        let permit = self.records.to_import().await;
        let new = contents.iter().map(|(id, content)| record(on, id, "laboratory", content)).collect();
        self.records.import(&permit, NOW, new).await.unwrap();
    }

    async fn changed(&self) -> Vec<Changed> {
        self.records.changed(100).await.unwrap()
    }

    async fn count(&self, space: &'static str) -> usize {
        let keys = self.store.keys();
        let scan = self.store.read(move |txn| txn.scan(&keys.space(space).build(), None, 100));
        let found: Result<Vec<_>, StoreError> = scan.await;
        found.unwrap().len()
    }
}

#[tokio::test]
async fn a_mark_is_shown_wherever_its_version_is_read_and_changes_nothing_of_it() {
    let (house, anna) = (house().await, patient("anna"));
    house.import(&anna, &[("1", b"first"), ("2", b"other")]).await;
    house.import(&anna, &[("1", b"second")]).await;
    let all = house.records.everything(&anna).await;
    let first = all.iter().find(|it| it.content_hash == Digest::sha256(&[b"first"])).unwrap().reference;
    assert!(house.mark(&anna, first, mark(RecallReason::Amended)).await.unwrap());
    assert!(!house.mark(&anna, first, mark(RecallReason::Amended)).await.unwrap(), "again");
    assert!(house.mark(&anna, first, mark(RecallReason::WrongPatient)).await.unwrap(), "a graver one");
    assert!(!house.mark(&anna, first, mark(RecallReason::Retracted)).await.unwrap(), "a lighter one");

    let marked = house.records.everything(&anna).await;
    assert_eq!(marked.len(), all.len());
    for (was, is) in all.iter().zip(&marked) {
        let said = (is.reference == first).then(|| mark(RecallReason::WrongPatient));
        assert_eq!(*is, RecordSummary { mark: said, ..was.clone() });
    }
    let permit = house.records.to_read(&anna).await;
    let (summary, content) = house.records.read(&permit, NOW, first).await.unwrap();
    assert_eq!(summary.mark, Some(mark(RecallReason::WrongPatient)));
    assert_eq!(content.bytes(MAX).await.unwrap().as_slice(), b"first");
    let current = house.records.list(&permit, NOW, &anna, &Filter::default(), None, 10).await.unwrap();
    assert!(current.iter().all(|it| it.mark.is_none()), "the newer version is not marked");
    // When the marked one is the current one again, it is seen.
    house.import(&anna, &[("1", b"first")]).await;
    let current = house.records.list(&permit, NOW, &anna, &Filter::default(), None, 10).await.unwrap();
    assert_eq!(current.iter().filter(|it| it.mark.is_some()).count(), 1);
    house.records.is_whole().await;
}

#[tokio::test]
async fn nothing_is_marked_without_its_audit_line_nor_the_line_without_the_mark() {
    let (house, anna, ben) = (house().await, patient("anna"), patient("ben"));
    house.import(&anna, &[("1", b"first")]).await;
    let at = house.records.everything(&anna).await[0].reference;
    let before = house.count("records.audit").await;
    let unknown = house.mark(&ben, at, mark(RecallReason::Amended)).await;
    assert!(matches!(unknown, Err(RecordsError::UnknownRecord)));
    assert_eq!((house.count("records.audit").await, house.count("records.mark").await), (before, 0));
    let permit = house.records.to_read(&anna).await;
    let records = house.records.clone();
    let wrong =
        house.store.write(move |txn| records.mark_in(txn, &permit, NOW, at, &mark(RecallReason::Amended)));
    assert!(matches!(wrong.await, Err(RecordsError::Denied(AccessDenied::WrongAction))));
    house.mark(&anna, at, mark(RecallReason::Amended)).await.unwrap();
    // That of the permit to read, and this one.
    assert_eq!((house.count("records.audit").await, house.count("records.mark").await), (before + 2, 1));
}

#[tokio::test]
async fn what_comes_with_a_mark_is_filed_with_it_also_if_it_is_here_already() {
    let (house, anna) = (house().await, patient("anna"));
    let permit = house.records.leave(system(), Action::File, Purpose::Transfer, Some(&anna)).await;
    let one = |said| NewRecord { mark: said, ..received(record(&anna, "1", "laboratory", b"sent")) };
    for (said, stands) in [
        (None, None),
        (Some(RecallReason::Amended), Some(RecallReason::Amended)),
        (None, Some(RecallReason::Amended)),
        (Some(RecallReason::Retracted), Some(RecallReason::Retracted)),
        (Some(RecallReason::Amended), Some(RecallReason::Retracted)),
    ] {
        house.records.file_received(&permit, NOW, vec![one(said.map(mark))]).await.unwrap();
        let all = house.records.everything(&anna).await;
        assert_eq!(all.len(), 1);
        assert_eq!(all[0].mark.as_ref().map(|it| it.reason), stands);
    }
    let at = house.records.everything(&anna).await[0].reference;
    let (records, asked) = (house.records.clone(), recalling(&anna));
    let found = house.store.write(move |txn| {
        let permit = records.audit().permit_in(txn, &asked, NOW)?;
        let origin = received(record(&patient("anna"), "1", "laboratory", b"sent")).origin;
        let mut look = |origin: &Origin, id: &str, content: &[u8]| {
            let name = (origin, "Observation", id);
            records.versions_in(txn, &permit, NOW, name, &Digest::sha256(&[content]))
        };
        Ok::<_, RecordsError>([
            look(&origin, "1", b"sent")?,
            look(&origin, "1", b"other")?,
            look(&origin, "2", b"sent")?,
            look(&Origin::Local, "1", b"sent")?,
        ])
    });
    assert_eq!(found.await.unwrap(), [vec![at], vec![], vec![], vec![]], "only what came from there");
}

#[tokio::test]
async fn records_of_linked_patients_that_change_are_noted_once() {
    let (house, anna, ben) = (house().await, patient("anna"), patient("ben"));
    house.link(&anna).await;
    for who in [&anna, &ben] {
        house.import(who, &[("1", b"first"), ("2", b"other")]).await;
    }
    assert!(house.changed().await.is_empty(), "what is new was never sent");
    for who in [&anna, &ben] {
        house.import(who, &[("1", b"second"), ("2", b"other")]).await;
    }
    let changed = house.changed().await;
    assert_eq!(changed.len(), 1, "not what is unchanged, nor of who is not linked");
    assert_eq!(changed[0].patient, anna);
    // It changes again while somebody looks at it.
    house.import(&anna, &[("1", b"third")]).await;
    let settle = |changed: Vec<Changed>| {
        let records = house.records.clone();
        house.store.write(move |txn| records.settle_in(txn, &changed))
    };
    settle(changed).await.unwrap();
    let changed = house.changed().await;
    assert_eq!(changed.len(), 1, "the second change is not lost");
    settle(changed).await.unwrap();
    assert!(house.changed().await.is_empty());
    let other = house.records.everything(&anna).await;
    let other = other.iter().find(|it| it.resource_id == "2").unwrap().reference;
    house.mark(&anna, other, mark(RecallReason::Retracted)).await.unwrap();
    house.mark(&anna, other, mark(RecallReason::Retracted)).await.unwrap();
    assert_eq!(house.changed().await.len(), 1, "a mark is a change, too");
}

#[tokio::test]
async fn marks_and_notes_are_forgotten_with_their_patient() {
    let (house, anna) = (house().await, patient("anna"));
    house.link(&anna).await;
    house.import(&anna, &[("1", b"first")]).await;
    let at = house.records.everything(&anna).await[0].reference;
    house.mark(&anna, at, mark(RecallReason::Amended)).await.unwrap();
    assert_eq!((house.count("records.mark").await, house.count("records.changed").await), (1, 1));
    let permit = house.records.leave(staff(), Action::Forget, Purpose::Administration, Some(&anna)).await;
    let records = house.records.clone();
    house.store.write(move |txn| records.forget_in(txn, &permit, NOW)).await.unwrap();
    house.records.sweep(&anna, &std::collections::BTreeSet::new()).await.unwrap();
    assert_eq!((house.count("records.mark").await, house.count("records.changed").await), (0, 0));
}

#[tokio::test]
async fn what_changed_between_reading_and_choosing_is_noted_though_somebody_looked_in_between() {
    let (house, anna) = (house().await, patient("anna"));
    house.link(&anna).await;
    house.import(&anna, &[("1", b"first"), ("2", b"other"), ("3", b"wrong")]).await;
    let seen = house.records.everything(&anna).await;
    house.import(&anna, &[("1", b"second")]).await;
    let wrong = seen.iter().find(|record| record.resource_id == "3").unwrap().reference;
    house.mark(&anna, wrong, mark(RecallReason::Retracted)).await.unwrap();
    let settle = |changed: Vec<Changed>| {
        let records = house.records.clone();
        house.store.write(move |txn| records.settle_in(txn, &changed))
    };
    settle(house.changed().await).await.unwrap();
    assert!(house.changed().await.is_empty());
    let choose = |seen: Vec<RecordVersionRef>| {
        let (records, anna) = (house.records.clone(), anna.clone());
        house.store.write(move |txn| {
            let asked = GrantRequest { action: Action::Export, ..recalling(&anna) };
            let permit = records.audit().permit_in(txn, &asked, NOW)?;
            records.note_changes_in(txn, &permit, NOW, &seen)
        })
    };
    choose(seen.clone()).await.unwrap();
    let noted: BTreeSet<RecordId> = house.changed().await.iter().map(|changed| changed.record).collect();
    let of = |id: &str| seen.iter().find(|record| record.resource_id == id).unwrap().reference.record;
    assert_eq!(noted, BTreeSet::from([of("1"), of("3")]));
    settle(house.changed().await).await.unwrap();
    let permit = house.records.to_export(&anna).await;
    let current = house.records.snapshot(&permit, NOW, &anna, &Filter::default()).await.unwrap();
    choose(current).await.unwrap();
    assert!(house.changed().await.is_empty(), "what is chosen as it stands needs no note");
}
