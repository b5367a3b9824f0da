//! The rules of a break-glass on artefacts alone: what belongs to what, at which time, and its file.

use handover_core::artefact::break_glass::{BreakGlassAnswer, BreakGlassMore};
use handover_core::artefact::federation::Status;
use handover_core::artefact::{Countersigned, Verified};
use handover_core::rules::{self, EMERGENCY_AFTER_EXPIRY_MS, emergency_member};
use handover_core::time::DAY_MS;
use handover_core::verify::{TransferFile, is_break_glass, verify_break_glass};
use handover_core::{Code, Digest, codec};
use handover_seal::Ed25519;
use handover_tests::fixture::{Glass, T0, World, altered, clinician};

#[test]
fn emergencies_outlast_the_directory_by_a_week_and_never_a_suspension() {
    let world = World::shared();
    let (lakeside, directory) = (&world.lakeside.id, world.directory(1, T0));
    let federation = world.verified(&directory);
    let ends = directory.expires.plus_ms(EMERGENCY_AFTER_EXPIRY_MS);
    assert_eq!(ends, T0.plus_ms(10 * DAY_MS));
    for (now, expected) in
        [(directory.expires, None), (ends.plus_ms(-1), None), (ends, Some(Code::DirectoryExpired))]
    {
        assert_eq!(emergency_member(&federation, lakeside, now).err(), expected);
    }
    // Whoever forks the directory shuts no emergency off.
    assert!(emergency_member(&federation.forked(), lakeside, T0).is_ok());
    for (status, code) in
        [(Status::Suspended, Code::HospitalSuspended), (Status::Revoked, Code::HospitalRevoked)]
    {
        let federation = world.verified(&world.with_status(&world.lakeside, status));
        for now in [T0, directory.expires] {
            assert_eq!(emergency_member(&federation, lakeside, now).err(), Some(code));
        }
    }
}

#[test]
fn answers_and_second_signatures_belong_to_theirs() {
    let (glass, world) = (Glass::broken(), World::shared());
    let key = world.riverside.signing.public();
    let broken = rules::break_glass(&glass.countersigned(), &key, true, &Ed25519).unwrap();
    assert_eq!(broken.clinician.name, "Dr. Mira Vale");
    let hash = glass.request.hash();
    let answer = |change: &dyn Fn(&mut BreakGlassAnswer)| {
        let envelope = altered(&glass.answer, &world.lakeside.signing, change);
        rules::break_glass_answer(&envelope, &glass.request, &hash, World::context()).err()
    };
    assert_eq!(answer(&|_| {}), None);
    let mismatch = Some(Code::BreakGlassMismatch);
    assert_eq!(answer(&|it| it.asked = Digest::from_bytes([1; 32])), mismatch);
    assert_eq!(answer(&|it| it.reason = Some(Code::Busy)), mismatch);
    assert_eq!(answer(&|it| it.given = None), mismatch);
    assert_eq!(answer(&|it| it.given.iter_mut().for_each(|it| it.pieces.clear())), mismatch);
    let by_another = altered(&glass.answer, &world.riverside.signing, |_| {});
    let refused = rules::break_glass_answer(&by_another, &glass.request, &hash, World::context());
    assert_eq!(refused.err(), Some(Code::WrongSigner));

    let more = |change: &dyn Fn(&mut BreakGlassMore)| {
        let mut more = (*glass.more).clone();
        change(&mut more);
        let signed = Countersigned::sign(&Verified::sign(more, &glass.second), &world.riverside.signing);
        rules::break_glass_more(&signed, &broken, &key, true, &Ed25519).err()
    };
    assert_eq!(more(&|_| {}), None);
    assert_eq!(more(&|it| it.issued = glass.request.until), mismatch);
    assert_eq!(more(&|it| it.break_glass = Digest::from_bytes([1; 32])), mismatch);
    let first = glass.first_certificate.envelope().to_vec();
    assert_eq!(more(&|it| it.certificate = first.clone().into()), Some(Code::WrongSigner));
    // What is not seen in a name makes no other name of it.
    for unseen in ["Dr. Noor\u{200b} Hale", "Dr. \u{202e}Noor Hale"] {
        let (other, certificate) = clinician(3, unseen);
        let mut hidden = (*glass.more).clone();
        hidden.certificate = certificate.envelope().to_vec().into();
        let hidden = Countersigned::sign(&Verified::sign(hidden, &other), &world.riverside.signing);
        let refused = rules::break_glass_more(&hidden, &broken, &key, true, &Ed25519);
        assert_eq!(refused.err(), Some(Code::Malformed));
    }
    // Two keys of one name are one person.
    let (other, certificate) = clinician(3, "dr. mira  vale");
    let mut again = (*glass.more).clone();
    again.certificate = certificate.envelope().to_vec().into();
    let again = Countersigned::sign(&Verified::sign(again, &other), &world.riverside.signing);
    let refused = rules::break_glass_more(&again, &broken, &key, true, &Ed25519);
    assert_eq!(refused.err(), Some(Code::SamePerson));
}

#[test]
fn a_file_verifies_whole_and_not_with_what_belongs_elsewhere() {
    let (glass, world) = (Glass::broken(), World::shared());
    let file = |artefacts: Vec<Vec<u8>>| {
        codec::encode(&TransferFile {
            directory: world.published(&world.directory(1, T0)),
            artefacts: artefacts.into_iter().map(Into::into).collect(),
            extensions: handover_core::codec::Extensions::default(),
        })
    };
    let whole = || {
        vec![
            glass.countersigned(),
            glass.answer.envelope().to_vec(),
            glass.more_countersigned(),
            glass.review.envelope().to_vec(),
        ]
    };
    let verify = |artefacts| verify_break_glass(&file(artefacts), &world.root.public(), &Ed25519);
    assert!(is_break_glass(&file(whole())) && !is_break_glass(b"no file"));
    let report = verify(whole()).unwrap();
    assert_eq!((report.steps.len(), report.second.as_deref()), (4, Some("Dr. Noor Hale")));
    let twice = [whole(), vec![glass.countersigned()]].concat();
    let foreign = [whole(), vec![glass.note.envelope().to_vec()]].concat();
    let other = altered(&glass.answer, &world.lakeside.signing, |it| it.asked = Digest::from_bytes([1; 32]));
    for wrong in [twice, foreign, [whole(), vec![other]].concat()] {
        assert_eq!(verify(wrong).err().map(|fault| fault.code), Some(Code::EvidenceMissing));
    }
}
