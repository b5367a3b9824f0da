use handover_core::artefact::Countersigned;
use handover_core::artefact::federation::{HospitalCertificate, StatusOrder};
use handover_core::time::DAY_MS;
use handover_seal::SigningKey;
use handover_store::{CellKey, Store};

use super::tests::{NOW, certified, claim, key, numbered, other_rsa, proof, rsa};
use super::*;

const MEMBER: &str = "member";

fn id() -> HospitalId {
    MEMBER.parse().unwrap()
}

/// The two operators, in office.
fn operators() -> Vec<AuthorityCertificate> {
    let operator = |seed: u8| AuthorityCertificate {
        authority: Authority::Operator,
        name: format!("operator {seed}"),
        key: key(seed).public(),
        not_before: NOW,
        not_after: NOW.plus_ms(30 * DAY_MS),
        extensions: Extensions::default(),
    };
    vec![operator(7), operator(8)]
}

fn order(about: &SigningKey, (status, number): (Status, u64)) -> Verified<StatusOrder> {
    let order = StatusOrder {
        hospital: id(),
        key: about.public().thumbprint(),
        status,
        number,
        reason: "a test".to_owned(),
        issued: NOW,
        extensions: Extensions::default(),
    };
    Verified::sign(order, &key(7))
}

/// The first operator proposes that a key succeeds.
fn propose(txn: &mut dyn Txn, keys: &KeyMaker, next: &SigningKey, number: u64) -> Result<(), RegistryError> {
    let proposed = order(next, (Status::Active, number));
    submit_order(txn, keys, proposed.envelope(), &operators(), NOW).map(drop)
}

/// Both operators order a status of the hospital under a key.
fn ordered(
    txn: &mut dyn Txn,
    keys: &KeyMaker,
    about: &SigningKey,
    what: (Status, u64),
) -> Result<(Outcome, Changed), RegistryError> {
    let first = order(about, what);
    let pending = submit_order(txn, keys, first.envelope(), &operators(), NOW)?;
    assert_eq!(pending, (Outcome::Pending, Changed::Nothing));
    submit_order(txn, keys, &Countersigned::sign(&first, &key(8)), &operators(), NOW)
}

fn code<T: std::fmt::Debug>(outcome: Result<T, RegistryError>) -> Code {
    outcome.unwrap_err().code()
}

/// A key enrols for the hospital, with a profile of that number.
fn asks(
    txn: &mut dyn Txn,
    keys: &KeyMaker,
    next: &SigningKey,
    number: u64,
) -> Result<Changed, RegistryError> {
    let claim = numbered(MEMBER, next, NOW, number, other_rsa());
    enrol(txn, keys, &claim, &[5; 32], b"five", NOW)?;
    let proof = proof(MEMBER, next, &claim, &[5; 32]);
    let proved = prove(txn, keys, &proof, NOW)?;
    assert_eq!(prove(txn, keys, &proof, NOW)?, Changed::Nothing, "the same answer again");
    Ok(proved)
}

fn certificate(of: &SigningKey) -> Vec<u8> {
    let certificate = HospitalCertificate {
        hospital: id(),
        name: "A hospital".to_owned(),
        key: of.public(),
        not_before: NOW,
        not_after: NOW.plus_ms(30 * DAY_MS),
        extensions: Extensions::default(),
    };
    Verified::sign(certificate, &key(9)).envelope().to_vec()
}

/// Runs a scene on a hospital that is active under the key of seed 1.
async fn on_a_member(
    scene: impl Fn(&mut dyn Txn, &KeyMaker) -> Result<(), RegistryError> + Send + Sync + Clone + 'static,
) {
    let store = Store::memory(&CellKey::from_bytes([1; 32]));
    let keys = store.keys();
    let played = store.write::<_, RegistryError, _>(move |txn| {
        certified(txn, &keys, MEMBER, 1)?;
        ordered(txn, &keys, &key(1), (Status::Active, 1))?;
        scene(txn, &keys)
    });
    played.await.unwrap();
}

#[tokio::test]
async fn root_and_operators_let_a_key_succeed_and_nobody_else_does() {
    on_a_member(|txn, keys| {
        let (first, next, root) = (key(1), key(2), key(9).public());
        // Each key numbers its profiles for itself.
        let used_up = numbered(MEMBER, &first, NOW, u64::MAX, rsa());
        enrol(txn, keys, &used_up, &[4; 32], b"four", NOW)?;
        assert_eq!(asks(txn, keys, &next, 2)?, Changed::Nothing);
        assert_eq!(code(ordered(txn, keys, &next, (Status::Active, 2))), Code::HospitalPending);
        assert_eq!(certify(txn, keys, &certificate(&next), &root, NOW)?.1, Changed::Nothing);
        assert_eq!(code(ordered(txn, keys, &next, (Status::Suspended, 2))), Code::OutOfOrder);
        assert_eq!(code(ordered(txn, keys, &next, (Status::Active, 1))), Code::Conflict);
        assert_eq!(code(ordered(txn, keys, &key(3), (Status::Active, 2))), Code::WrongSigner);
        let entries = directory_entries(txn, keys)?;
        assert_eq!(entries[0].1.former, None, "until two operators have signed, the key before speaks");
        assert_eq!(known_hospital(txn, keys, &id())?.key, first.public());

        assert_eq!(ordered(txn, keys, &next, (Status::Active, 2))?, (Outcome::Effective, Changed::Directory));
        let row = known_hospital(txn, keys, &id())?;
        assert_eq!((row.key, row.number, row.status), (next.public(), 2, Some(Status::Active)));
        assert_eq!(row.former, Some(vec![Bytes(certificate(&first))]));
        assert_eq!(directory_entries(txn, keys)?[0].1.former, row.former);
        assert!(successors(txn, keys, &id())?.is_empty());
        assert_eq!(code(asks(txn, keys, &first, 3)), Code::KeyReplaced, "a key comes back");
        let again = numbered(MEMBER, &next, NOW, 3, other_rsa());
        assert_eq!(enrol(txn, keys, &again, &[6; 32], b"six", NOW)?.1, Changed::Directory, "its own profile");
        Ok(())
    })
    .await;
}

#[tokio::test]
async fn a_revoked_key_is_succeeded_and_stays_revoked() {
    on_a_member(|txn, keys| {
        let next = key(2);
        asks(txn, keys, &next, 2)?;
        certify(txn, keys, &certificate(&next), &key(9).public(), NOW)?;
        let kid = next.public().thumbprint();
        let waits = known_successor(txn, keys, &id(), &kid)?;
        assert_eq!((waits.number, &waits.pending), (1, &None));
        // One operator approves it, and both revoke the key before first.
        propose(txn, keys, &next, 2)?;
        assert!(known_successor(txn, keys, &id(), &kid)?.pending.is_some());
        ordered(txn, keys, &key(1), (Status::Revoked, 2))?;
        let waits = known_successor(txn, keys, &id(), &kid)?;
        assert_eq!((waits.number, &waits.pending), (2, &None), "what was proposed is overtaken");
        assert_eq!(code(ordered(txn, keys, &key(1), (Status::Active, 3))), Code::HospitalRevoked);
        ordered(txn, keys, &next, (Status::Active, 3))?;
        assert_eq!(known_hospital(txn, keys, &id())?.status, Some(Status::Active));
        Ok(())
    })
    .await;
}

#[tokio::test]
async fn who_only_asks_displaces_nobody_and_can_be_dropped() {
    on_a_member(|txn, keys| {
        asks(txn, keys, &key(2), 2)?;
        certify(txn, keys, &certificate(&key(2)), &key(9).public(), NOW)?;
        for stranger in 100..115 {
            asks(txn, keys, &key(stranger), 2)?;
        }
        assert_eq!(code(asks(txn, keys, &key(120), 2)), Code::Busy);
        // What the root certifies has a place all the same.
        let root = key(9).public();
        assert_eq!(certify(txn, keys, &certificate(&key(121)), &root, NOW)?.1, Changed::Nothing);
        asks(txn, keys, &key(121), 2)?;
        let expected = known_successor(txn, keys, &id(), &key(121).public().thumbprint())?;
        assert_eq!(expected.certificate, Some(Bytes(certificate(&key(121)))));
        // Who waits already renews its profile, and keeps what the root said.
        asks(txn, keys, &key(2), 3)?;
        let waits = known_successor(txn, keys, &id(), &key(2).public().thumbprint())?;
        assert!(waits.certificate.is_some() && waits.profile_number == 3);
        let kid = key(100).public().thumbprint();
        drop_successor(txn, keys, &id(), &kid)?;
        drop_successor(txn, keys, &id(), &key(101).public().thumbprint())?;
        assert_eq!(code(drop_successor(txn, keys, &id(), &kid)), Code::UnknownHospital);
        asks(txn, keys, &key(120), 2)?;
        // The hospital itself goes on meanwhile.
        let own = numbered(MEMBER, &key(1), NOW, 2, rsa());
        assert_eq!(enrol(txn, keys, &own, &[6; 32], b"six", NOW)?.1, Changed::Directory);
        let waiting = ordered(txn, keys, &key(120), (Status::Active, 2));
        assert_eq!(code(waiting), Code::HospitalPending);
        // Who was never certified is nobody to be succeeded: the identifier is the first one's for some days.
        enrol(txn, keys, &claim("other", &key(1), NOW), &[1; 32], b"one", NOW)?;
        Ok(())
    })
    .await;
}
