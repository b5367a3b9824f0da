//! Dishonest directories and connections: nothing stands that does not lead up to the root.

#![expect(clippy::indexing_slicing, reason = "a helper that fails is a failed test")]

use handover_core::artefact::Verified;
use handover_core::artefact::federation::{
    Authority, DIRECTORY_LIFE_MS, FeeSchedule, Status, StatusOrder, WholeDirectory,
};
use handover_core::codec::Extensions;
use handover_core::id::SigningPublic;
use handover_core::time::DAY_MS;
use handover_core::trust::{Federation, Hello, TrustError, admit, authority, two_operators};
use handover_core::{Code, Party, Timestamp};
use handover_seal::{Ed25519, SigningKey};
use handover_tests::fixture::{Draft, Hospital, Story, T0, World, altered, by_two};

fn verify(whole: &WholeDirectory, now: Timestamp) -> Result<Federation, TrustError> {
    Federation::verify(whole, &World::shared().root.public(), now, &Ed25519)
}

/// What comes of a directory with something changed, signed by the index.
fn changed(change: impl FnOnce(&mut Draft)) -> Option<Code> {
    let world = World::shared();
    let mut directory = world.directory(1, T0);
    change(&mut directory);
    verify(&world.published(&directory), T0).err().map(|fault| fault.code())
}

/// The place of Lakeside in the fixture's directory.
const LAKESIDE: usize = 1;

fn status(order: StatusOrder, first: &SigningKey, second: &SigningKey) -> Option<Code> {
    changed(|it| it.hospitals[LAKESIDE].status = by_two(order, first, second).into())
}

#[test]
fn an_honest_directory_verifies() {
    let world = World::shared();
    let federation = verify(&world.published(&world.directory(7, T0)), T0).unwrap();
    assert_eq!(federation.directory().version, 7);
    assert_eq!(federation.members().count(), 3);
    assert_eq!(federation.operators().len(), 2);
    assert_eq!(federation.schedule("US", T0).map(|it| it.rate_bps), Some(500));
    assert!(federation.schedule("US", T0.plus_ms(-1)).is_none(), "not in force yet");
    for hospital in world.hospitals() {
        assert!(federation.active(&hospital.id, T0).is_ok());
    }
    assert_eq!(federation.active(&"nowhere".parse().unwrap(), T0).err(), Some(Code::UnknownHospital));
}

#[test]
fn every_part_is_signed_by_who_may() {
    let world = World::shared();
    let honest = World::order(&world.lakeside, Status::Active, 1);
    let [ada, grace] = &world.operators;
    let (ada, grace) = (&ada.key, &grace.key);
    assert_eq!(status(honest.clone(), ada, grace), None);
    assert_eq!(status(honest.clone(), grace, ada), None, "in either order");
    assert_eq!(status(honest.clone(), ada, ada), Some(Code::WrongSigner), "one operator twice");
    assert_eq!(status(honest.clone(), ada, &world.stranger), Some(Code::WrongSigner));
    assert_eq!(status(honest.clone(), &world.stranger, grace), Some(Code::WrongSigner));
    assert_eq!(
        status(honest.clone(), &world.index, ada),
        Some(Code::WrongSigner),
        "the index is no operator"
    );
    assert_eq!(status(honest.clone(), &world.root, ada), Some(Code::WrongSigner));
    let other_key = StatusOrder { key: world.hillcrest.signing.public().thumbprint(), ..honest.clone() };
    assert_eq!(status(other_key, ada, grace), Some(Code::WrongSigner), "an order for another key");
    let other = World::order(&world.hillcrest, Status::Active, 1);
    assert_eq!(status(other, ada, grace), Some(Code::WrongSigner), "an order for another hospital");
    let alone = Verified::sign(honest, ada).envelope().to_vec();
    assert_eq!(
        changed(|it| it.hospitals[LAKESIDE].status = alone.into()),
        Some(Code::Malformed),
        "one signature"
    );

    let schedule =
        |first, second| by_two(FeeSchedule { rate_bps: 9_000, ..FeeSchedule::percentage(T0) }, first, second);
    assert_eq!(changed(|it| it.schedules = vec![schedule(ada, ada).into()]), Some(Code::WrongSigner));
    assert_eq!(
        changed(|it| it.schedules = vec![schedule(&world.index, ada).into()]),
        Some(Code::WrongSigner)
    );
}

#[test]
fn an_index_cannot_invent_a_hospital_or_an_operator() {
    let world = World::shared();
    let lakeside = &world.lakeside;
    let invented = Story::signed_by(&lakeside.certificate, &world.index);
    assert_eq!(changed(|it| it.hospitals[LAKESIDE].certificate = invented.into()), Some(Code::WrongSigner));
    let operator = Story::signed_by(&world.operators[0].certificate, &world.index);
    assert_eq!(changed(|it| it.operators[0] = operator.into()), Some(Code::WrongSigner));
    let office = world.index_certificate.envelope().to_vec();
    assert_eq!(
        changed(|it| it.operators[0] = office.into()),
        Some(Code::WrongSigner),
        "the index as an operator"
    );
    let profile = Story::signed_by(&lakeside.profile, &world.hillcrest.signing);
    assert_eq!(changed(|it| it.hospitals[LAKESIDE].profile = profile.into()), Some(Code::WrongSigner));
    // Hillcrest's RSA key under Lakeside's name would open Lakeside's shares.
    let profile =
        altered(&world.hillcrest.profile, &world.hillcrest.signing, |it| it.hospital = lakeside.id.clone());
    assert_eq!(changed(|it| it.hospitals[LAKESIDE].profile = profile.into()), Some(Code::WrongSigner));
    let profile =
        altered(&lakeside.profile, &lakeside.signing, |it| it.hospital = world.hillcrest.id.clone());
    assert_eq!(changed(|it| it.hospitals[LAKESIDE].profile = profile.into()), Some(Code::WrongSigner));
    assert_eq!(
        changed(|it| it.hospitals[0] = it.hospitals[LAKESIDE].clone()),
        Some(Code::WrongSigner),
        "twice"
    );
    assert_eq!(changed(|it| it.hospitals[LAKESIDE].profile = vec![1, 2].into()), Some(Code::Malformed));
}

#[test]
fn only_a_certified_index_signs_directories() {
    let world = World::shared();
    let directory = world.directory(1, T0);
    let by = |key: &SigningKey| verify(&directory.signed_by(key), T0).err().map(|fault| fault.code());
    assert_eq!(by(&world.stranger), Some(Code::WrongSigner));
    assert_eq!(by(&world.root), Some(Code::WrongSigner));
    assert_eq!(by(&world.operators[0].key), Some(Code::WrongSigner));
    let mut damaged = world.published(&directory);
    *damaged.head.0.last_mut().unwrap() ^= 1;
    assert_eq!(verify(&damaged, T0).err().map(|fault| fault.code()), Some(Code::BadSignature));
    let root = world.stranger.public();
    let other_root = Federation::verify(&world.published(&directory), &root, T0, &Ed25519);
    assert_eq!(other_root.err().map(|fault| fault.code()), Some(Code::WrongSigner), "another federation's");
    let certificate = world.operators[0].certificate.envelope();
    let wrong_office = authority(certificate, Authority::Index, &world.root.public(), T0, &Ed25519);
    assert_eq!(wrong_office.err().map(|fault| fault.code()), Some(Code::WrongSigner));
}

#[test]
fn times_are_kept() {
    let world = World::shared();
    let envelope = world.published(&world.directory(1, T0));
    let federation = verify(&envelope, T0).unwrap();
    let end = T0.plus_ms(DIRECTORY_LIFE_MS);
    assert_eq!(federation.check_fresh(end.plus_ms(-1)), Ok(()));
    assert_eq!(federation.check_fresh(end), Err(Code::DirectoryExpired));
    // Expired, it still tells who is who.
    assert!(verify(&envelope, end.plus_ms(DAY_MS)).is_ok());
    for (off, fault, code) in [
        // Nothing may be wrong but a clock: it is tried again.
        (T0.plus_ms(-300_001), TrustError::NotYet, Code::ClockOff),
        (T0.plus_ms(366 * DAY_MS), TrustError::Expired, Code::CertificateExpired),
    ] {
        assert_eq!(verify(&envelope, off).err(), Some(fault), "certificates at {off}");
        assert_eq!(federation.active(&world.lakeside.id, off).err(), Some(code));
    }
    let clock_a_little_off = T0.plus_ms(-300_000);
    assert!(verify(&envelope, clock_a_little_off).is_ok());
}

#[test]
fn orders_are_judged_by_the_operators_terms_when_they_were_issued() {
    let world = World::shared();
    let [ada, grace] = &world.operators;
    let at = |issued| StatusOrder { issued, ..World::order(&world.lakeside, Status::Active, 1) };
    let after = T0.plus_ms(366 * DAY_MS);
    assert_eq!(status(at(after), &ada.key, &grace.key), Some(Code::CertificateExpired), "out of office");
    assert_eq!(
        status(at(T0.plus_ms(-DAY_MS)), &ada.key, &grace.key),
        Some(Code::CertificateExpired),
        "not yet"
    );
    // An order of her second term stands, whichever of her certificates comes first.
    let renewed = altered(&ada.certificate, &world.root, |it| {
        (it.not_before, it.not_after) = (it.not_after, it.not_after.plus_ms(365 * DAY_MS));
    });
    let also = altered(&grace.certificate, &world.root, |it| it.not_after = after.plus_ms(DAY_MS));
    for first in [true, false] {
        let refused = changed(|it| {
            it.hospitals[LAKESIDE].status = by_two(at(after), &ada.key, &grace.key).into();
            it.operators.insert(if first { 0 } else { 2 }, renewed.clone().into());
            it.operators.push(also.clone().into());
        });
        assert_eq!(refused, None);
    }
}

#[test]
fn suspended_and_revoked_hospitals_take_no_part() {
    let world = World::shared();
    for (status, code) in
        [(Status::Suspended, Code::HospitalSuspended), (Status::Revoked, Code::HospitalRevoked)]
    {
        let federation = world.verified(&world.with_status(&world.lakeside, status));
        assert_eq!(federation.active(&world.lakeside.id, T0).err(), Some(code));
        assert!(federation.active(&world.riverside.id, T0).is_ok());
        assert!(federation.member(&world.lakeside.id).is_ok(), "what it signed stays evidence");
        assert_eq!(enter(&World::hello(&world.lakeside), &world.lakeside, Some(&federation)), Err(code));
    }
    let orders = [Status::Active, Status::Revoked].map(|status| {
        let order = World::order(&world.lakeside, status, 3);
        two_operators::<StatusOrder>(&world.ordered(order), world_operators().operators(), &Ed25519).unwrap()
    });
    assert_ne!(orders[0].hash(), orders[1].hash());
}

fn world_operators() -> &'static Federation {
    World::context().federation
}

fn enter(hello: &Hello, process: &Hospital, federation: Option<&Federation>) -> Result<Party, Code> {
    let root = World::shared().root.public();
    admit(&World::encoded(hello), &process.endpoint_key.public(), &root, federation, T0, &Ed25519)
}

#[test]
fn connections_are_admitted_by_their_endpoint_certificate() {
    let world = World::shared();
    let (lakeside, hillcrest) = (&world.lakeside, &world.hillcrest);
    let federation = Some(World::context().federation);
    let honest = World::hello(lakeside);
    assert_eq!(enter(&honest, lakeside, federation), Ok(Party::Hospital(lakeside.id.clone())));
    assert_eq!(enter(&honest, lakeside, None), Err(Code::UnknownHospital), "without a directory");
    assert_eq!(
        enter(&honest, hillcrest, federation),
        Err(Code::NotAdmitted),
        "shown on another's connection"
    );
    let with = |endpoint: Vec<u8>| Hello { endpoint: endpoint.into(), ..honest.clone() };
    let own = |by: &SigningKey| {
        with(altered(&hillcrest.endpoint, by, |it| it.party = Party::Hospital(lakeside.id.clone())))
    };
    assert_eq!(
        enter(&own(&hillcrest.signing), hillcrest, federation),
        Err(Code::NotAdmitted),
        "in another's name"
    );
    assert_eq!(enter(&own(&world.stranger), hillcrest, federation), Err(Code::NotAdmitted));
    let expired = altered(&lakeside.endpoint, &lakeside.signing, |it| it.not_after = T0);
    assert_eq!(enter(&with(expired), lakeside, federation), Err(Code::CertificateExpired));
    let unknown = altered(&lakeside.endpoint, &world.stranger, |it| {
        it.party = Party::Hospital("nowhere".parse().unwrap());
    });
    assert_eq!(enter(&with(unknown), lakeside, federation), Err(Code::UnknownHospital));
    let as_index = altered(&hillcrest.endpoint, &hillcrest.signing, |it| it.party = Party::Index);
    assert_eq!(
        enter(&with(as_index.clone()), hillcrest, federation),
        Err(Code::NotAdmitted),
        "a hospital as the index"
    );
    let borrowed = Hello {
        endpoint: as_index.into(),
        authority: Some(world.index_certificate.envelope().to_vec().into()),
        extensions: Extensions::default(),
    };
    assert_eq!(
        enter(&borrowed, hillcrest, federation),
        Err(Code::NotAdmitted),
        "with the index's certificate"
    );
}

#[test]
fn an_index_proves_itself_under_the_root() {
    let world = World::shared();
    let (hello, process) = world.index_hello();
    let (root, other_root) = (world.root.public(), world.stranger.public());
    let enter = |hello: &Hello, root: &SigningPublic| {
        admit(&World::encoded(hello), &process.public(), root, None, T0, &Ed25519)
    };
    assert_eq!(enter(&hello, &root), Ok(Party::Index));
    assert_eq!(enter(&hello, &other_root), Err(Code::WrongSigner), "another federation's index");
    let operator =
        Hello { authority: Some(world.operators[0].certificate.envelope().to_vec().into()), ..hello.clone() };
    assert_eq!(enter(&operator, &root), Err(Code::WrongSigner), "an operator is no index");
    let self_made = altered(&world.index_certificate, &world.stranger, |it| it.key = world.stranger.public());
    let self_made = Hello { authority: Some(self_made.into()), ..hello };
    assert_eq!(enter(&self_made, &root), Err(Code::WrongSigner));
    for junk in [&b""[..], b"\xa0", b"\xa2\x01\x40\x02\x40"] {
        let admitted = admit(junk, &process.public(), &root, None, T0, &Ed25519);
        assert_eq!(admitted, Err(Code::NotAdmitted));
    }
}
