use handover_core::Code;
use handover_seal::OsRandom;

use super::*;

async fn with_code() -> (House, LocalPatient, String) {
    let house = house().await;
    let anna = patient("anna");
    let permit = house.records.leave(staff(), Action::Link, Purpose::Administration, Some(&anna)).await;
    let early = house.records.new_link_code(&permit, NOW, &anna, &mut OsRandom).await.unwrap_err();
    assert_eq!(early.code(), Code::UnknownPatient);
    house.records.register(&permit, NOW, &anna).await.unwrap();
    let code = house.records.new_link_code(&permit, NOW, &anna, &mut OsRandom).await.unwrap();
    assert_eq!(code.len(), 9);
    (house, anna, code)
}

/// The same code with another last character.
fn wrong(code: &str) -> String {
    format!("{}{}", &code[..8], if code.ends_with('7') { '8' } else { '7' })
}

#[tokio::test]
async fn a_code_is_used_once_and_by_one() {
    let (house, anna, code) = with_code().await;
    let records = &house.records;
    for _ in 1..LINK_CODE_TRIES {
        assert!(records.redeem(&wrong(&code), a_ref(1), NOW).await.is_err());
    }
    assert_eq!(records.redeem(&code.to_lowercase(), a_ref(1), NOW).await.unwrap(), anna);
    assert_eq!(records.redeem(&code, a_ref(1), NOW).await.unwrap(), anna);
    let refused = records.redeem(&code, a_ref(2), NOW).await.unwrap_err();
    assert_eq!(refused.code(), Code::LinkCodeWrong);
}

#[tokio::test]
async fn five_wrong_tries_kill_a_code() {
    let (house, _, code) = with_code().await;
    for _ in 0..LINK_CODE_TRIES {
        assert!(house.records.redeem(&wrong(&code), a_ref(1), NOW).await.is_err());
    }
    assert!(house.records.redeem(&code, a_ref(1), NOW).await.is_err());
}

#[tokio::test]
async fn a_code_expires() {
    let (house, anna, code) = with_code().await;
    let expiry = NOW.plus_ms(LINK_CODE_LASTS_MS);
    assert!(house.records.redeem(&code, a_ref(1), expiry).await.is_err());
    assert_eq!(house.records.redeem(&code, a_ref(1), expiry.plus_ms(-1)).await.unwrap(), anna);
}

#[tokio::test]
async fn a_request_has_one_code_for_one_patient_until_it_is_over() {
    let (house, anna, code) = with_code().await;
    let records = &house.records;
    let permit = records.leave(staff(), Action::Link, Purpose::Administration, Some(&anna)).await;
    let ask = |request: &str, now| {
        let (request, permit, anna) = (request.parse().unwrap(), permit.clone(), anna.clone());
        async move { records.register_with_code(&permit, now, &anna, &request).await }
    };
    let first = ask("visit", NOW).await.unwrap();
    assert_ne!(first.code, code);
    assert!(!first.is_used);
    assert_eq!(ask("visit", NOW.plus_ms(1)).await.unwrap(), first);
    assert_ne!(ask("visit 2", NOW).await.unwrap().code, first.code);
    let bert = patient("bert");
    let other = records.leave(staff(), Action::Link, Purpose::Administration, Some(&bert)).await;
    let refused = records.register_with_code(&other, NOW, &bert, &"visit".parse().unwrap()).await;
    assert_eq!(refused.unwrap_err().code(), Code::Conflict);
    let unknown = records.new_link_code(&other, NOW, &bert, &mut OsRandom).await.unwrap_err();
    assert_eq!(unknown.code(), Code::UnknownPatient);

    // Used, it is the same patient's still; wrong tries or a day end it.
    assert_eq!(records.redeem(&first.code, a_ref(1), NOW).await.unwrap(), anna);
    let used = ask("visit", NOW).await.unwrap();
    assert_eq!((&used.code, used.is_used), (&first.code, true));
    let second = ask("visit 2", NOW).await.unwrap();
    for _ in 0..LINK_CODE_TRIES {
        assert!(records.redeem(&wrong(&second.code), a_ref(2), NOW).await.is_err());
    }
    assert_eq!(ask("visit 2", NOW).await.unwrap_err().code(), Code::LinkCodeWrong);
    let permit =
        records.audit().permit(permit_request(&anna), NOW.plus_ms(LINK_CODE_LASTS_MS)).await.unwrap();
    let late = records
        .register_with_code(&permit, NOW.plus_ms(LINK_CODE_LASTS_MS), &anna, &"visit".parse().unwrap())
        .await;
    assert!(late.unwrap_err().to_string().contains("another request identifier"));
}

fn permit_request(patient: &LocalPatient) -> GrantRequest {
    GrantRequest::new(staff(), Action::Link, Purpose::Administration, Some(patient.clone()))
}

#[tokio::test]
async fn links_hold() {
    let (house, anna, _) = with_code().await;
    let records = &house.records;
    let permit = records.leave(staff(), Action::Link, Purpose::Administration, Some(&anna)).await;
    records.link(&permit, NOW, a_ref(1), &anna).await.unwrap();
    records.link(&permit, NOW.plus_ms(1), a_ref(1), &anna).await.unwrap();
    let linked = records.by_ref(a_ref(1)).await.unwrap().unwrap();
    assert_eq!((&linked.patient, linked.since), (&anna, NOW));
    assert_eq!(records.refs_of(&anna).await.unwrap(), [linked]);
    assert!(records.by_ref(a_ref(2)).await.unwrap().is_none());

    let bert = patient("bert");
    let permit = records.leave(staff(), Action::Link, Purpose::Administration, Some(&bert)).await;
    records.register(&permit, NOW, &bert).await.unwrap();
    let refused = records.link(&permit, NOW, a_ref(1), &bert).await.unwrap_err();
    assert_eq!(refused.code(), Code::LinkedOtherwise);
    assert!(records.refs_of(&bert).await.unwrap().is_empty());

    // A clerk takes the older link away, and only that one; then the second number can be linked.
    let unlink = |whose: &LocalPatient| {
        let (records, whose) = (records.clone(), whose.clone());
        async move {
            let permit = records.leave(staff(), Action::Unlink, Purpose::Administration, Some(&whose)).await;
            let write = records.store.clone();
            write.write(move |txn| records.unlink_in(txn, &permit, NOW, a_ref(1))).await
        }
    };
    assert_eq!(unlink(&bert).await.unwrap_err().code(), Code::LinkedOtherwise);
    assert!(unlink(&anna).await.unwrap());
    assert!(!unlink(&anna).await.unwrap());
    assert!(records.refs_of(&anna).await.unwrap().is_empty());
    records.link(&permit, NOW, a_ref(1), &bert).await.unwrap();
    assert_eq!(records.by_ref(a_ref(1)).await.unwrap().unwrap().patient, bert);
}
