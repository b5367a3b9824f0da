use handover_core::Code;
use handover_core::time::HOUR_MS;
use handover_store::Unflushed;

use super::*;
use crate::access::LOOK_PERMIT_MS;
use crate::rows::{self, AuditRow};

async fn with_two_departments() -> (House, LocalPatient) {
    let house = house().await;
    let anna = patient("anna");
    let batch = vec![record(&anna, "1", "laboratory", b"one"), record(&anna, "2", "psychiatry", b"two")];
    house.records.import(&house.records.to_import().await, NOW, batch).await.unwrap();
    (house, anna)
}

#[tokio::test]
async fn a_permit_opens_its_own_departments_patient_action_and_time_only() {
    let (house, anna) = with_two_departments().await;
    let records = &house.records;
    let mut request = request(staff(), Action::Read, Purpose::Treatment, Some(&anna));
    request.departments = [department("laboratory")].into_iter().collect();
    let permit = records.audit().permit(request, NOW).await.unwrap();
    let all = records.everything(&anna).await;
    let at = |department: &str| {
        all.iter().find(|record| record.department.as_str() == department).unwrap().reference
    };
    assert_eq!(records.bytes_of(&permit, at("laboratory")).await, b"one");
    let denied = |error: RecordsError| match error {
        RecordsError::Denied(denied) => denied,
        other => panic!("{other}"),
    };
    let refused = records.read(&permit, NOW, at("psychiatry")).await.err().unwrap();
    assert_eq!(denied(refused), AccessDenied::WrongDepartment);
    // A listing does not even tell that the other department knows the patient.
    assert_eq!(records.departments(&permit, NOW, &anna).await.unwrap(), counts(&[("laboratory", 1)]));
    let filter = Filter { departments: Some(vec![department("psychiatry")]), ..Filter::default() };
    let refused = records.list(&permit, NOW, &anna, &filter, None, 9).await.unwrap_err();
    assert_eq!(denied(refused), AccessDenied::WrongDepartment);
    let refused = records.list(&permit, NOW, &patient("bert"), &Filter::default(), None, 9).await;
    assert_eq!(denied(refused.unwrap_err()), AccessDenied::WrongPatient);
    let later = NOW.plus_ms(LOOK_PERMIT_MS);
    let refused = records.read(&permit, later, at("laboratory")).await.err().unwrap();
    assert_eq!(denied(refused), AccessDenied::Expired);
    let refused = records.import(&permit, NOW, Vec::new()).await.unwrap_err();
    assert_eq!(denied(refused), AccessDenied::WrongAction);
    assert!(records.snapshot(&permit, NOW, &anna, &Filter::default()).await.is_err());
    assert!(records.patients(&permit, NOW, None, 10).await.is_err());
    // Another patient's record is not there, whatever its reference.
    let other = records.to_read(&patient("bert")).await;
    let refused = records.read(&other, NOW, at("laboratory")).await.err().unwrap();
    assert_eq!(refused.code(), Code::UnknownRecord);
}

#[tokio::test]
async fn patients_see_what_is_linked_to_them_only() {
    let (house, anna) = with_two_departments().await;
    let records = &house.records;
    let own = || request(Subject::Patient(a_ref(1)), Action::Read, Purpose::PatientAccess, Some(&anna));
    let refused = records.audit().permit(own(), NOW).await.unwrap_err();
    assert!(matches!(refused, RecordsError::Denied(AccessDenied::NotLinked)));
    let link = records.leave(staff(), Action::Link, Purpose::Administration, Some(&anna)).await;
    records.link(&link, NOW, a_ref(1), &anna).await.unwrap();
    assert!(records.audit().permit(own(), NOW).await.is_ok());
    let mut strange = own();
    strange.patient = Some(patient("bert"));
    assert!(records.audit().permit(strange, NOW).await.is_err());
}

#[tokio::test]
async fn without_an_audit_line_nothing_is_shown() {
    let (house, anna) = with_two_departments().await;
    house.faults.fail_flush_after(0, Unflushed::Lost);
    let asked = request(staff(), Action::Read, Purpose::Treatment, Some(&anna));
    let refused = house.records.audit().permit(asked, NOW).await.unwrap_err();
    assert_eq!(refused.code(), Code::AuditUnavailable);
    house.faults.restart();
    house.records.is_whole().await;
}

#[tokio::test]
async fn a_failed_import_files_nothing_and_can_be_repeated() {
    let (house, anna) = with_two_departments().await;
    let records = &house.records;
    let permit = records.to_import().await;
    let batch =
        || vec![record(&anna, "3", "laboratory", b"three"), record(&anna, "4", "laboratory", &[1; 100_000])];
    house.faults.fail_flush_after(0, Unflushed::Lost);
    assert!(records.import(&permit, NOW, batch()).await.is_err());
    house.faults.restart();
    assert_eq!(records.everything(&anna).await.len(), 2);
    house.faults.fail_flush_after(0, Unflushed::Kept);
    assert!(records.import(&permit, NOW, batch()).await.is_err());
    house.faults.restart();
    // It turned out to be durable: its blob is there.
    assert_eq!(records.import(&permit, NOW, batch()).await.unwrap(), [Filed::Unchanged; 2]);
    records.is_whole().await;
}

#[tokio::test]
async fn every_grant_and_refusal_leaves_a_line_in_an_unbroken_chain() {
    let (house, anna) = with_two_departments().await;
    let records = &house.records;
    records.to_read(&anna).await;
    let refused = request(staff(), Action::Export, Purpose::Transfer, Some(&anna));
    assert!(records.audit().permit(refused, NOW).await.is_err());
    let permit = records.leave(staff(), Action::Audit, Purpose::Administration, None).await;
    let lines = records.audit().entries(&permit, NOW, 0, 100).await.unwrap();
    assert_eq!(lines.iter().map(|line| line.number).collect::<Vec<_>>(), [1, 2, 3, 4]);
    assert_eq!(lines[1].patient, Some(records.audit().patient_mark(&anna)));
    assert_eq!((lines[1].subject.as_str(), lines[1].granted), ("meyer", true));
    assert!(!lines[2].granted);
    assert!(lines.windows(2).all(|pair| pair[1].previous == pair[0].hash));
    assert_eq!(records.audit().entries(&permit, NOW, 3, 100).await.unwrap(), lines[3..]);
    assert!(records.audit().entries(&permit, NOW.plus_ms(HOUR_MS), 0, 1).await.is_err());
    let whole = AuditReport { lines: 4, broken_at: None };
    assert_eq!(records.audit().check().await.unwrap(), whole);

    for (number, broken_at) in [(2, Some(3)), (4, Some(5))] {
        let key = records.places.audit_line(number);
        let original = alter(&house, key.clone(), |row| row.subject = "nobody".into()).await;
        assert_eq!(records.audit().check().await.unwrap().broken_at, broken_at);
        let put_back = move |txn: &mut dyn handover_store::Txn| txn.put(&key, original.clone());
        house.store.write(put_back).await.unwrap();
        assert_eq!(records.audit().check().await.unwrap(), whole);
    }
    let last = records.places.audit_line(4);
    house.store.write(move |txn| txn.remove(&last)).await.unwrap();
    assert_eq!(records.audit().check().await.unwrap(), AuditReport { lines: 3, broken_at: Some(4) });
}

async fn alter(house: &House, key: Vec<u8>, change: fn(&mut AuditRow)) -> Vec<u8> {
    let write = house.store.write(move |txn| {
        let bytes = txn.get(&key)?.unwrap();
        let mut row: AuditRow = rows::from_bytes(&bytes, "audit line")?;
        change(&mut row);
        rows::put(txn, &key, &row)?;
        Ok::<_, RecordsError>(bytes)
    });
    write.await.unwrap()
}
