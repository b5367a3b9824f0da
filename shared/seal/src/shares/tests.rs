use proptest::prelude::*;

use super::*;
use crate::OsRandom;
use crate::testkit::{Fixed, hospital_one, hospital_two};

fn binding() -> Binding {
    Binding {
        source: "lakeside".parse().unwrap(),
        destination: "hillview".parse().unwrap(),
        consent: Digest::from_bytes([3; 32]),
        transfer: TransferId::new(handover_core::Timestamp::from_millis(1), [5; 10]),
        attempt: 1,
    }
}

fn other_bindings() -> Vec<Binding> {
    let same = binding();
    vec![
        Binding { source: "hillview".parse().unwrap(), ..same.clone() },
        Binding { destination: "lakeside".parse().unwrap(), ..same.clone() },
        Binding { consent: Digest::from_bytes([4; 32]), ..same.clone() },
        Binding {
            transfer: TransferId::new(handover_core::Timestamp::from_millis(2), [5; 10]),
            ..same.clone()
        },
        Binding { attempt: 2, ..same },
    ]
}

#[test]
fn both_owners_together_open() {
    let ring = KeyRing::new(hospital_one());
    let grant = SealingKey::generate(&mut OsRandom);
    let shares = Shares::generate(&mut OsRandom);
    let sealed =
        SealedShares::seal(&shares, &binding(), ring.current().public(), &grant.public(), &mut OsRandom)
            .unwrap();
    let sent = shares.content_secrets(&binding()).unwrap();

    let decoded: SealedShares = codec::decode(&codec::encode(&sealed), codec::MAX_MESSAGE_BYTES).unwrap();
    assert_eq!(decoded.hash(), sealed.hash());
    let opened = decoded.open(&binding(), &ring, &grant).unwrap().content_secrets(&binding()).unwrap();
    opened.check(&sent.commitment).unwrap();
    assert_eq!(opened.cek.expose(), sent.cek.expose());

    for other in other_bindings() {
        assert!(matches!(sealed.open(&other, &ring, &grant), Err(SealError::CannotOpen)), "{other:?}");
    }
    let stranger = SealingKey::generate(&mut OsRandom);
    assert!(matches!(sealed.open(&binding(), &ring, &stranger), Err(SealError::CannotOpen)));
    let other_hospital = KeyRing::new(hospital_two());
    assert!(matches!(sealed.open(&binding(), &other_hospital, &grant), Err(SealError::UnknownKey(_))));
    let claims_other =
        SealedShares { hospital_key: other_hospital.current().public().thumbprint(), ..sealed };
    assert!(matches!(claims_other.open(&binding(), &other_hospital, &grant), Err(SealError::CannotOpen)));
}

proptest! {
    #[test]
    fn another_share_or_context_gives_another_key(hospital: [u8; 32], patient: [u8; 32], at in 0..64_usize, bit in 0..8_u8) {
        let shares = Shares { hospital: Secret::from_bytes(hospital), patient: Secret::from_bytes(patient) };
        let secrets = shares.content_secrets(&binding()).unwrap();
        let (mut other_hospital, mut other_patient) = (hospital, patient);
        if at < 32 { other_hospital[at] ^= 1_u8 << bit } else { other_patient[at - 32] ^= 1_u8 << bit }
        let other = Shares { hospital: Secret::from_bytes(other_hospital), patient: Secret::from_bytes(other_patient) };
        let mut others = vec![other.content_secrets(&binding()).unwrap()];
        for binding in other_bindings() {
            others.push(shares.content_secrets(&binding).unwrap());
        }
        for other in others {
            prop_assert_ne!(other.cek.expose(), secrets.cek.expose());
            prop_assert!(matches!(other.check(&secrets.commitment), Err(SealError::Commitment)));
        }
    }
}

#[test]
fn names_cannot_slide_into_each_other() {
    let shares = Shares::generate(&mut OsRandom);
    let named = |source: &str, destination: &str| Binding {
        source: source.parse().unwrap(),
        destination: destination.parse().unwrap(),
        ..binding()
    };
    let one = shares.content_secrets(&named("ab", "cde")).unwrap();
    let two = shares.content_secrets(&named("abc", "de")).unwrap();
    assert_ne!(one.commitment, two.commitment);
}

#[test]
fn golden() {
    let shares = Shares { hospital: Secret::from_bytes([1; 32]), patient: Secret::from_bytes([2; 32]) };
    let secrets = shares.content_secrets(&binding()).unwrap();
    assert_eq!(
        hex::encode(secrets.cek.expose()),
        "7be7ce3c5f104283c2a316e68a60972c17afca92b2668f74a63775bc8b13bd32"
    );
    assert_eq!(
        hex::encode(secrets.commitment),
        "af8724ac9cd26167e113ef75d3342b7c2d00c44d7a1e10b2acb8a47b499f8a03"
    );
}

#[test]
fn the_grant_key_goes_to_one_request_for_one_consent() {
    let request = SealingKey::generate(&mut OsRandom);
    let grant = SealingKey::generate(&mut Fixed(vec![8, 9]));
    let (consent, other) = (Digest::from_bytes([1; 32]), Digest::from_bytes([2; 32]));
    let sealed = seal_grant_key(&grant, &request.public(), &consent, &mut OsRandom).unwrap();
    let opened = open_grant_key(&request, &consent, &grant.public(), &sealed).unwrap();
    assert_eq!(opened.secret().expose(), grant.secret().expose());
    assert!(open_grant_key(&request, &other, &grant.public(), &sealed).is_err());
    assert!(open_grant_key(&request, &consent, &request.public(), &sealed).is_err());
    assert!(open_grant_key(&grant, &consent, &grant.public(), &sealed).is_err());
}
