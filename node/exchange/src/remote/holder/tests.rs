//! What a code is good for.

use handover_core::Random as _;
use handover_core::artefact::patient::{PatientKeyRecord, link_code_proof};
use handover_core::artefact::remote::REMOTE_LINK_LIFE_MS;
use handover_core::{Digest, id::SealingPublic};
use handover_seal::SigningKey;
use handover_store::{CellKey, Store};

use super::*;

const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);
const CODE: &str = "K7QF-29XM";

/// A patient and a row that was confirmed for them.
fn confirmed(own: By<'_>) -> (PatientRef, RemoteLinkId, InRow) {
    let (patient, riverside) = (SigningKey::generate(&mut OsRandom), "riverside".parse().unwrap());
    let record = PatientKeyRecord {
        number: 1,
        previous: None,
        signing_key: patient.public(),
        sealing_key: SealingPublic::from_bytes([1; 32]),
        recovery_key: Some(SigningKey::generate(&mut OsRandom).public()),
        issued: NOW,
        authorized_by: None,
        extensions: Extensions::default(),
    };
    let record = Verified::sign(record, &patient);
    let request = RemoteLinkRequest {
        id: RemoteLinkId::new(NOW, OsRandom.array()),
        patient: PatientRef::from_bytes(*record.hash().as_bytes()),
        key_records: vec![record.envelope().to_vec().into()],
        hospital: own.0.clone(),
        vouching: riverside,
        details: Digest::from_bytes([0; 32]),
        sealed_to_hospital: Vec::new().into(),
        sealed_to_vouching: Vec::new().into(),
        issued: NOW,
        expires: NOW.plus_ms(REMOTE_LINK_LIFE_MS),
        extensions: Extensions::default(),
    };
    let request = Verified::sign(request, &patient);
    let mut held = InRow {
        request: Countersigned::sign(&request, &SigningKey::generate(&mut OsRandom)).into(),
        state: State::Asked,
        reason: None,
        patient: Some("P-1".to_owned()),
        code: Some(CODE.to_owned()),
        code_expires: Some(NOW.plus_ms(CODE_LASTS_MS)),
        wrong: 0,
        answer: None,
        extensions: Extensions::default(),
    };
    held.answer(own, State::Confirmed, None, NOW).unwrap();
    (request.patient, request.id, held)
}

fn link(patient: PatientRef, code: &str) -> PatientLink {
    let hospital: HospitalId = "lakeside".parse().unwrap();
    PatientLink {
        code_proof: link_code_proof(code, &patient, &hospital),
        patient,
        hospital,
        key_records: Vec::new(),
        issued: NOW,
        extensions: Extensions::default(),
    }
}

#[tokio::test]
async fn a_code_is_good_for_its_patient_and_way_and_time_and_five_wrong_ones_end_it() {
    let store = Store::memory(&CellKey::from_bytes([1; 32]));
    let tested = store.write({
        let keys = store.keys();
        move |txn| -> Result<(), StoreError> {
            let (own, signing) = ("lakeside".parse().unwrap(), SigningKey::generate(&mut OsRandom));
            let own = (&own, &signing);
            let (riverside, other) = ("riverside".parse().unwrap(), "northside".parse().unwrap());
            let (patient, id, held) = confirmed(own);
            let (stranger, ..) = confirmed(own);
            let key = place(&keys, IN, &id);
            rows::put(txn, &key, &held)?;
            let found = Some((id, "P-1".parse().unwrap()));
            let late = NOW.plus_ms(CODE_LASTS_MS);
            for (what, by, whose, code, now, expected) in [
                ("another reference", &riverside, stranger, CODE, NOW, None),
                ("by another hospital", &other, patient, CODE, NOW, None),
                ("too late", &riverside, patient, CODE, late, None),
                ("the code", &riverside, patient, CODE, late.plus_ms(-1), found.clone()),
                ("and again", &riverside, patient, CODE, NOW, found),
            ] {
                let proven = prove_in(txn, &keys, own, by, &link(whose, code), now)?;
                assert_eq!(proven, expected, "{what}");
            }
            for tries in 0..TRIES {
                let held: InRow = rows::get(txn, &key)?.unwrap();
                assert_eq!((held.wrong, held.state), (tries, State::Confirmed));
                assert_eq!(prove_in(txn, &keys, own, &riverside, &link(patient, "wrong"), NOW)?, None);
            }
            assert_eq!(prove_in(txn, &keys, own, &riverside, &link(patient, CODE), NOW)?, None);
            let held: InRow = rows::get(txn, &key)?.unwrap();
            assert_eq!(
                (held.state, held.reason, held.code.as_deref()),
                (State::Refused, Some(Code::LinkCodeWrong), None)
            );
            assert_eq!(left(txn, &keys, late)?.len(), 1);
            forget(txn, &keys, &[stranger], Some(&"P-2".parse().unwrap()))?;
            assert!(txn.get(&key)?.is_some());
            forget(txn, &keys, &[], Some(&"P-1".parse().unwrap()))?;
            assert!(txn.get(&key)?.is_none());
            rows::put(txn, &key, &held)?;
            assert!(left(txn, &keys, NOW.plus_ms(REMOTE_LINK_LIFE_MS + CODE_LASTS_MS))?.is_empty());
            assert!(txn.get(&key)?.is_none());
            Ok(())
        }
    });
    tested.await.unwrap();
}
