use std::sync::OnceLock;

use handover_core::Edition;
use handover_core::artefact::federation::{EnrolmentProof, EnrolmentRequest, HospitalProfile};
use handover_core::time::{DAY_MS, HOUR_MS};
use handover_seal::{OsRandom, RsaPrivateKey, Secret32, SigningKey};
use handover_store::{CellKey, Store};

use super::*;

pub(super) const NOW: Timestamp = Timestamp::from_millis(1_795_250_096_789);

pub(super) fn rsa() -> &'static RsaPrivateKey {
    static KEY: OnceLock<RsaPrivateKey> = OnceLock::new();
    KEY.get_or_init(|| RsaPrivateKey::generate(&mut OsRandom).unwrap())
}

pub(super) fn key(seed: u8) -> SigningKey {
    SigningKey::from_seed(&Secret32::from_bytes([seed; 32]))
}

pub(super) fn other_rsa() -> &'static RsaPrivateKey {
    static KEY: OnceLock<RsaPrivateKey> = OnceLock::new();
    KEY.get_or_init(|| RsaPrivateKey::generate(&mut OsRandom).unwrap())
}

pub(super) fn claim(hospital: &str, key: &SigningKey, issued: Timestamp) -> Claim {
    numbered(hospital, key, issued, 1, rsa())
}

pub(super) fn numbered(
    hospital: &str,
    key: &SigningKey,
    issued: Timestamp,
    number: u64,
    rsa: &RsaPrivateKey,
) -> Claim {
    let hospital: HospitalId = hospital.parse().unwrap();
    let profile = HospitalProfile {
        reads: Edition::FIRST,
        hospital: hospital.clone(),
        number,
        name: "A hospital".to_owned(),
        rsa_key: Bytes(rsa.public().spki_der().to_vec()),
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

pub(super) fn proof(hospital: &str, key: &SigningKey, claim: &Claim, secret: &[u8; 32]) -> Vec<u8> {
    let proof = EnrolmentProof {
        hospital: hospital.parse().unwrap(),
        request: claim.hash(),
        answer: Digest::sha256(&[secret]),
        extensions: Extensions::default(),
    };
    Verified::sign(proof, key).envelope().to_vec()
}

/// Enrols and certifies a hospital.
pub(super) fn certified(
    txn: &mut dyn Txn,
    keys: &KeyMaker,
    hospital: &str,
    seed: u8,
) -> Result<(), RegistryError> {
    let first = claim(hospital, &key(seed), NOW);
    enrol(txn, keys, &first, &[1; 32], b"one", NOW)?;
    prove(txn, keys, &proof(hospital, &key(seed), &first, &[1; 32]), NOW)?;
    let certificate = HospitalCertificate {
        hospital: hospital.parse().unwrap(),
        name: "A hospital".to_owned(),
        key: key(seed).public(),
        not_before: NOW,
        not_after: NOW.plus_ms(30 * DAY_MS),
        extensions: Extensions::default(),
    };
    let certificate = Verified::sign(certificate, &key(9));
    certify(txn, keys, certificate.envelope(), &key(9).public(), NOW)?;
    Ok(())
}

#[tokio::test]
async fn a_flood_of_challenges_is_bounded_and_stops_nobody() {
    let store = Store::memory(&CellKey::from_bytes([1; 32]));
    let keys = store.keys();
    store
        .write::<_, RegistryError, _>(move |txn| {
            certified(txn, &keys, "member", 3)?;
            let new_rsa = numbered("member", &key(3), NOW, 2, other_rsa());
            enrol(txn, &keys, &new_rsa, &[3; 32], b"three", NOW)?;
            let honest = claim("honest", &key(2), NOW);
            let flood = |number: i64| claim("flood", &key(1), NOW.plus_ms(-number));
            for number in 0..1_000 {
                enrol(txn, &keys, &flood(number), &[1; 32], b"wrapped", NOW)?;
            }
            // Somebody new: one of the flood gives way, and the flood goes on while the answer is on its way.
            enrol(txn, &keys, &honest, &[2; 32], b"two", NOW.plus_ms(1))?;
            for number in 1_000..1_100 {
                enrol(txn, &keys, &flood(number), &[1; 32], b"wrapped", NOW.plus_ms(2))?;
            }
            assert_eq!(txn.scan(&keys.space("challenge").build(), None, 1_000)?.len(), 1_000);
            prove(txn, &keys, &proof("honest", &key(2), &honest, &[2; 32]), NOW.plus_ms(3))?;
            assert!(hospital(txn, &keys, &"honest".parse().unwrap())?.is_some());
            // A certified hospital's new RSA key was asked for before all of them.
            prove(txn, &keys, &proof("member", &key(3), &new_rsa, &[3; 32]), NOW)?;
            let row = known_hospital(txn, &keys, &"member".parse().unwrap())?;
            assert_eq!((row.profile_number, row.rsa_key), (2, other_rsa().public().thumbprint()));
            // Its new addresses need no challenge at all.
            let renewed = numbered("member", &key(3), NOW, 3, other_rsa());
            assert_eq!(enrol(txn, &keys, &renewed, &[4; 32], b"four", NOW)?.0, b"four");
            prove(txn, &keys, &proof("member", &key(3), &renewed, &[4; 32]), NOW)?;
            assert_eq!(known_hospital(txn, &keys, &"member".parse().unwrap())?.profile_number, 3);
            Ok(())
        })
        .await
        .unwrap();
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
            // From now on another key can only ask to succeed it.
            let much_later = later.plus_ms(20 * DAY_MS);
            enrol(txn, &keys, &honest, &[2; 32], b"two", much_later)?;
            prove(txn, &keys, &proof("lakeside", &key(2), &honest, &[2; 32]), much_later)?;
            assert_eq!(known_hospital(txn, &keys, &id)?.key, key(1).public());
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
            let first = numbered("first", &key(1), NOW, 1, other_rsa());
            enrol(txn, &keys, &first, &[1; 32], b"one", NOW)?;
            prove(txn, &keys, &proof("first", &key(1), &first, &[1; 32]), NOW)?;
            let row = known_hospital(txn, &keys, &"first".parse().unwrap())?;
            let filled = |number: i64| Hospital {
                hospital: format!("flood-{number}").parse().unwrap(),
                since: NOW.plus_ms(number),
                rsa_key: rsa().public().thumbprint(),
                ..row.clone()
            };
            for number in 1..1_000 {
                put_hospital(txn, &keys, &filled(number))?;
            }
            let last = claim("last", &key(2), NOW);
            enrol(txn, &keys, &last, &[2; 32], b"two", NOW)?;
            prove(txn, &keys, &proof("last", &key(2), &last, &[2; 32]), NOW.plus_ms(HOUR_MS))?;
            assert_eq!(hospitals(txn, &keys)?.len(), 1_000);
            // Neither who waited before the flood nor who came after it: one of the flood has gone.
            assert!(hospital(txn, &keys, &"first".parse().unwrap())?.is_some());
            assert!(hospital(txn, &keys, &"last".parse().unwrap())?.is_some());
            assert!(hospital(txn, &keys, &"flood-999".parse().unwrap())?.is_none());
            // Under a key each they are not told apart from honest ones: nobody is pushed out, the next one waits
            // until those have had their time.
            for number in 1..999_u64 {
                let rsa_key = Digest::sha256(&[&number.to_be_bytes()]);
                put_hospital(txn, &keys, &Hospital { rsa_key, ..filled(i64::try_from(number).unwrap()) })?;
            }
            let next = claim("next", &key(4), NOW);
            enrol(txn, &keys, &next, &[4; 32], b"four", NOW)?;
            let answer = proof("next", &key(4), &next, &[4; 32]);
            let busy = prove(txn, &keys, &answer, NOW.plus_ms(HOUR_MS)).unwrap_err();
            assert_eq!(busy.code(), Code::Busy);
            enrol(txn, &keys, &next, &[4; 32], b"four", NOW)?;
            prove(txn, &keys, &answer, NOW.plus_ms(7 * DAY_MS + HOUR_MS))?;
            Ok(())
        })
        .await
        .unwrap();
}
