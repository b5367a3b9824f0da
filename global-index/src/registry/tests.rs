use std::sync::OnceLock;

use handover_core::artefact::federation::{EnrolmentProof, EnrolmentRequest, HospitalProfile};
use handover_core::time::{DAY_MS, HOUR_MS};
use handover_seal::{OsRandom, RsaPrivateKey, Secret32, SigningKey};
use handover_store::{CellKey, Store};

use super::*;

const NOW: Timestamp = Timestamp::from_millis(1_795_250_096_789);

fn rsa() -> &'static RsaPrivateKey {
    static KEY: OnceLock<RsaPrivateKey> = OnceLock::new();
    KEY.get_or_init(|| RsaPrivateKey::generate(&mut OsRandom).unwrap())
}

fn key(seed: u8) -> SigningKey {
    SigningKey::from_seed(&Secret32::from_bytes([seed; 32]))
}

fn claim(hospital: &str, key: &SigningKey, issued: Timestamp) -> Claim {
    let hospital: HospitalId = hospital.parse().unwrap();
    let profile = HospitalProfile {
        hospital: hospital.clone(),
        number: 1,
        name: "A hospital".to_owned(),
        rsa_key: Bytes(rsa().public().spki_der().to_vec()),
        addresses: vec![],
        patient_url: "https://localhost".to_owned(),
        currency: "USD".parse().unwrap(),
        jurisdiction: "US".to_owned(),
        issued,
        extensions: Extensions::default(),
    };
    let request = EnrolmentRequest {
        hospital: hospital.clone(),
        name: "A hospital".to_owned(),
        key: key.public(),
        profile: Bytes(Verified::sign(profile, key).envelope().to_vec()),
        issued,
        extensions: Extensions::default(),
    };
    let certificate = CertificateRequest {
        authority: None,
        hospital: Some(hospital),
        name: "A hospital".to_owned(),
        key: key.public(),
        issued,
        extensions: Extensions::default(),
    };
    let items = [
        Verified::sign(request, key).envelope().to_vec(),
        Verified::sign(certificate, key).envelope().to_vec(),
    ];
    Claim::read(&items.map(Bytes), NOW).unwrap()
}

fn proof(hospital: &str, key: &SigningKey, claim: &Claim, secret: &[u8; 32]) -> Vec<u8> {
    let proof = EnrolmentProof {
        hospital: hospital.parse().unwrap(),
        request: claim.hash(),
        answer: Digest::sha256(&[secret]),
        extensions: Extensions::default(),
    };
    Verified::sign(proof, key).envelope().to_vec()
}

#[tokio::test]
async fn challenges_are_bounded_and_old_ones_make_room() {
    let store = Store::memory(&CellKey::from_bytes([1; 32]));
    let keys = store.keys();
    let outcome = store
        .write::<_, RegistryError, _>(move |txn| {
            for number in 0..1_000 {
                let claim = claim("flood", &key(1), NOW.plus_ms(-number));
                enrol(txn, &keys, &claim, &[1; 32], b"wrapped", NOW)?;
            }
            let late = claim("late", &key(2), NOW);
            let full = enrol(txn, &keys, &late, &[1; 32], b"wrapped", NOW).unwrap_err();
            let then = NOW.plus_ms(HOUR_MS + 1);
            Ok((full.code(), enrol(txn, &keys, &late, &[1; 32], b"wrapped", then)?.0))
        })
        .await;
    assert_eq!(outcome.unwrap(), (Code::Busy, b"wrapped".to_vec()));
}

#[tokio::test]
async fn asking_for_an_identifier_pushes_nobody_aside() {
    let store = Store::memory(&CellKey::from_bytes([1; 32]));
    let keys = store.keys();
    store
        .write::<_, RegistryError, _>(move |txn| {
            let (honest, thief) = (claim("lakeside", &key(1), NOW), claim("lakeside", &key(2), NOW));
            enrol(txn, &keys, &honest, &[1; 32], b"one", NOW)?;
            enrol(txn, &keys, &thief, &[2; 32], b"two", NOW)?;
            prove(txn, &keys, &proof("lakeside", &key(1), &honest, &[1; 32]), NOW)?;
            let late = prove(txn, &keys, &proof("lakeside", &key(2), &thief, &[2; 32]), NOW);
            assert_eq!(late.unwrap_err().code(), Code::Conflict);
            let stranger = prove(txn, &keys, &proof("lakeside", &key(2), &honest, &[1; 32]), NOW);
            assert_eq!(stranger.unwrap_err().code(), Code::WrongSigner);
            assert_eq!(known_hospital(txn, &keys, &"lakeside".parse().unwrap())?.key, key(1).public());
            Ok(())
        })
        .await
        .unwrap();
}

#[tokio::test]
async fn an_operator_whose_term_is_over_stops_nobody_and_can_be_renewed() {
    let store = Store::memory(&CellKey::from_bytes([1; 32]));
    let keys = store.keys();
    let term = |seed: u8, days: i64| {
        let certificate = AuthorityCertificate {
            authority: Authority::Operator,
            name: "operator".to_owned(),
            key: key(seed).public(),
            not_before: NOW,
            not_after: NOW.plus_ms(days * DAY_MS),
            extensions: Extensions::default(),
        };
        Verified::sign(certificate, &key(9)).envelope().to_vec()
    };
    store
        .write::<_, RegistryError, _>(move |txn| {
            let root = key(9).public();
            for certificate in [term(1, 1), term(2, 30)] {
                assert_eq!(add_operator(txn, &keys, &certificate, &root, NOW)?.1, Changed::Directory);
            }
            assert_eq!(operators(txn, &keys, &root, NOW)?.len(), 2);
            let later = NOW.plus_ms(2 * DAY_MS);
            let in_office = operators(txn, &keys, &root, later)?;
            assert_eq!(in_office.iter().map(|it| it.key).collect::<Vec<_>>(), [key(2).public()]);
            add_operator(txn, &keys, &term(1, 60), &root, later)?;
            assert_eq!(operators(txn, &keys, &root, later)?.len(), 2);
            // The term that is over still vouches for what was signed in it.
            assert_eq!(operator_certificates(txn, &keys)?.len(), 3);
            assert_eq!(add_operator(txn, &keys, &term(1, 60), &root, later)?.1, Changed::Nothing);
            Ok(())
        })
        .await
        .unwrap();
}

#[tokio::test]
async fn what_nobody_certifies_holds_an_identifier_for_some_days_only() {
    let store = Store::memory(&CellKey::from_bytes([1; 32]));
    let keys = store.keys();
    store
        .write::<_, RegistryError, _>(move |txn| {
            let id: HospitalId = "lakeside".parse().unwrap();
            let (squatter, honest) = (claim("lakeside", &key(1), NOW), claim("lakeside", &key(2), NOW));
            enrol(txn, &keys, &squatter, &[1; 32], b"one", NOW)?;
            prove(txn, &keys, &proof("lakeside", &key(1), &squatter, &[1; 32]), NOW)?;
            let taken = enrol(txn, &keys, &honest, &[2; 32], b"two", NOW.plus_ms(7 * DAY_MS));
            assert_eq!(taken.unwrap_err().code(), Code::Conflict);
            // Its own key goes on; then the days are over for another one.
            let later = NOW.plus_ms(7 * DAY_MS + 1);
            enrol(txn, &keys, &squatter, &[1; 32], b"one", later)?;
            enrol(txn, &keys, &honest, &[2; 32], b"two", later)?;
            prove(txn, &keys, &proof("lakeside", &key(2), &honest, &[2; 32]), later)?;
            assert_eq!(known_hospital(txn, &keys, &id)?.key, key(2).public());
            let late = prove(txn, &keys, &proof("lakeside", &key(1), &squatter, &[1; 32]), later);
            assert_eq!(late.unwrap_err().code(), Code::Conflict);

            // An operator need not wait; what is certified is not dropped.
            drop_enrolment(txn, &keys, &id)?;
            assert_eq!(drop_enrolment(txn, &keys, &id).unwrap_err().code(), Code::UnknownHospital);
            enrol(txn, &keys, &squatter, &[1; 32], b"one", later)?;
            prove(txn, &keys, &proof("lakeside", &key(1), &squatter, &[1; 32]), later)?;
            let certificate = HospitalCertificate {
                hospital: id.clone(),
                name: "A hospital".to_owned(),
                key: key(1).public(),
                not_before: NOW,
                not_after: NOW.plus_ms(30 * DAY_MS),
                extensions: Extensions::default(),
            };
            let certificate = Verified::sign(certificate, &key(9));
            certify(txn, &keys, certificate.envelope(), &key(9).public(), later)?;
            assert_eq!(drop_enrolment(txn, &keys, &id).unwrap_err().code(), Code::Conflict);
            let much_later = enrol(txn, &keys, &honest, &[2; 32], b"two", later.plus_ms(20 * DAY_MS));
            assert_eq!(much_later.unwrap_err().code(), Code::Conflict);
            Ok(())
        })
        .await
        .unwrap();
}

#[tokio::test]
async fn a_flood_of_enrolments_is_bounded_and_stops_nobody() {
    let store = Store::memory(&CellKey::from_bytes([1; 32]));
    let keys = store.keys();
    store
        .write::<_, RegistryError, _>(move |txn| {
            let first = claim("first", &key(1), NOW);
            enrol(txn, &keys, &first, &[1; 32], b"one", NOW)?;
            prove(txn, &keys, &proof("first", &key(1), &first, &[1; 32]), NOW)?;
            let row = known_hospital(txn, &keys, &"first".parse().unwrap())?;
            for number in 1..1_000 {
                let hospital = format!("flood-{number}").parse().unwrap();
                put_hospital(txn, &keys, &Hospital { hospital, since: NOW.plus_ms(number), ..row.clone() })?;
            }
            let last = claim("last", &key(2), NOW);
            enrol(txn, &keys, &last, &[2; 32], b"two", NOW)?;
            prove(txn, &keys, &proof("last", &key(2), &last, &[2; 32]), NOW.plus_ms(HOUR_MS))?;
            assert_eq!(hospitals(txn, &keys)?.len(), 1_000);
            assert!(hospital(txn, &keys, &"first".parse().unwrap())?.is_none());
            assert!(hospital(txn, &keys, &"last".parse().unwrap())?.is_some());
            Ok(())
        })
        .await
        .unwrap();
}
