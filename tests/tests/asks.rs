//! Dishonest patients, desks and destinations before anything is quoted: asks, links and requests. Each is refused,
//! and with the code that names the cause.

#![expect(clippy::unwrap_used, reason = "a helper that fails is a failed test")]

use handover_core::artefact::patient::{Ask, AskKind, LOCATE_LIFE_MS, PatientLink, TRANSFER_ASK_LIFE_MS};
use handover_core::artefact::{Countersigned, Verified};
use handover_core::rules;
use handover_core::{Code, TransferId};
use handover_seal::{Ed25519, SigningKey};
use handover_tests::fixture::{Patient, Plan, Story, T0, World, altered, by_two};
use handover_tests::table::all_refused;

fn story() -> Story {
    Story::tell(Plan::opaque(1))
}

fn other_id() -> TransferId {
    TransferId::new(T0, [7; 10])
}

fn broken(mut envelope: Vec<u8>) -> Vec<u8> {
    *envelope.last_mut().unwrap() ^= 1;
    envelope
}

#[test]
fn dishonest_asks() {
    let (story, other) = (story(), Patient::new(2));
    let check = |envelope: &[u8]| rules::ask(envelope, AskKind::Transfer, &Ed25519).map(|_| ());
    let ask = |change: fn(&mut Ask)| check(&altered(&story.ask, &story.patient.signing, change));
    let taken_over = altered(&story.ask, &other.signing, |it| {
        it.key_records = other.records.clone();
    });
    let second = altered(&story.patient.record, &story.patient.signing, |it| it.number = 2);
    let second =
        altered(&story.ask, &story.patient.signing, |it| it.key_records = vec![second.clone().into()]);
    let locate = altered(&story.ask, &story.patient.signing, |it| {
        it.kind = AskKind::Locate;
        it.expires = it.issued.plus_ms(LOCATE_LIFE_MS + 1);
    });
    let foreign_record = altered(&story.patient.record, &other.signing, |_| {});
    let foreign_record = altered(&story.ask, &story.patient.signing, |it| {
        it.key_records = vec![foreign_record.clone().into()]
    });
    all_refused(vec![
        ("another key's signature", check(&Story::signed_by(&story.ask, &other.signing)), Code::WrongSigner),
        ("another patient's key record", check(&taken_over), Code::AskMismatch),
        ("a second key record as the first", check(&second), Code::Malformed),
        ("a key record that another signed", check(&foreign_record), Code::WrongSigner),
        ("a damaged signature", check(&broken(story.ask.envelope().to_vec())), Code::BadSignature),
        ("another artefact", check(story.consent.envelope()), Code::Malformed),
        ("another purpose", ask(|it| it.kind = AskKind::Inbox), Code::AskMismatch),
        (
            "good for too long",
            ask(|it| it.expires = it.issued.plus_ms(TRANSFER_ASK_LIFE_MS + 1)),
            Code::AskExpired,
        ),
        (
            "a locate for too long",
            rules::ask(&locate, AskKind::Locate, &Ed25519).map(|_| ()),
            Code::AskExpired,
        ),
        ("expired", rules::ask_in_time(&story.ask, story.ask.expires), Code::AskExpired),
        ("of the future", rules::ask_in_time(&story.ask, T0.plus_ms(-300_001)), Code::ClockOff),
    ]);
}

#[test]
fn dishonest_links() {
    let (story, world, other) = (story(), World::shared(), Patient::new(2));
    let honest = (*rules::link(&story.link, World::context()).unwrap()).clone();
    let signed = |link: PatientLink, first: &SigningKey, second: &SigningKey| {
        rules::link(&by_two(link, first, second), World::context()).map(|_| ())
    };
    let elsewhere = PatientLink { hospital: world.riverside.id.clone(), ..honest.clone() };
    let unknown = PatientLink { hospital: "nowhere".parse().unwrap(), ..honest.clone() };
    let foreign = PatientLink { patient: other.reference(), ..honest.clone() };
    let (patient, lakeside) = (&story.patient.signing, &world.lakeside.signing);
    let alone = Verified::sign(honest.clone(), patient);
    let claim = |link: &PatientLink| {
        let envelope = Verified::sign(link.clone(), patient);
        rules::link_claim(envelope.envelope(), &world.lakeside.id, &Ed25519).map(|_| ())
    };
    all_refused(vec![
        ("another patient signed", signed(honest.clone(), &other.signing, lakeside), Code::WrongSigner),
        (
            "another hospital confirmed",
            signed(honest.clone(), patient, &world.hillcrest.signing),
            Code::WrongSigner,
        ),
        ("the patient confirmed it", signed(honest.clone(), patient, patient), Code::WrongSigner),
        ("the hospital signed for the patient", signed(honest, lakeside, lakeside), Code::WrongSigner),
        ("for another hospital", signed(elsewhere.clone(), patient, lakeside), Code::WrongSigner),
        ("for a hospital that is none", signed(unknown, patient, lakeside), Code::UnknownHospital),
        ("for another patient", signed(foreign, patient, lakeside), Code::AskMismatch),
        ("unconfirmed", rules::link(alone.envelope(), World::context()).map(|_| ()), Code::Malformed),
        ("a claim for another desk", claim(&elsewhere), Code::AskMismatch),
    ]);
}

#[test]
fn dishonest_requests() {
    let (story, world) = (story(), World::shared());
    let (lakeside, riverside, hillcrest) = (&world.lakeside, &world.riverside, &world.hillcrest);
    let check = |envelope: &[u8]| rules::request(envelope, World::context()).map(|_| ());
    // A hospital that is not the patient's destination uses the patient's ask.
    let hijacked = altered(&story.request, &hillcrest.signing, |it| it.destination = hillcrest.id.clone());
    let to_itself = altered(&story.request, &lakeside.signing, |it| it.destination = lakeside.id.clone());
    let elsewhere = altered(&story.request, &riverside.signing, |it| it.source = hillcrest.id.clone());
    let unknown =
        altered(&story.request, &riverside.signing, |it| it.destination = "nowhere".parse().unwrap());
    let other = altered(&story.request, &riverside.signing, |it| it.transfer = other_id());
    let locate = altered(&story.ask, &story.patient.signing, |it| it.kind = AskKind::Inbox);
    let no_transfer = altered(&story.request, &riverside.signing, |it| it.ask = locate.clone().into());
    let forged = altered(&story.ask, &riverside.signing, |_| {});
    let forged = altered(&story.request, &riverside.signing, |it| it.ask = forged.clone().into());
    all_refused(vec![
        (
            "signed by another hospital",
            check(&Story::signed_by(&story.request, &hillcrest.signing)),
            Code::WrongSigner,
        ),
        (
            "signed by nobody known",
            check(&Story::signed_by(&story.request, &world.stranger)),
            Code::WrongSigner,
        ),
        ("another's ask", check(&hijacked), Code::AskMismatch),
        ("the source asks itself", check(&to_itself), Code::AskMismatch),
        ("to another source", check(&elsewhere), Code::AskMismatch),
        ("a destination that is no member", check(&unknown), Code::UnknownHospital),
        ("for another transfer", check(&other), Code::AskMismatch),
        ("with an ask of another kind", check(&no_transfer), Code::AskMismatch),
        ("with an ask that the hospital signed", check(&forged), Code::WrongSigner),
    ]);
}

/// An envelope that two signed is none that one signed, and the other way round.
#[test]
fn one_signature_is_not_two() {
    let story = story();
    assert!(Countersigned::<Ask>::read(story.ask.envelope()).is_err());
    let twice = Countersigned::sign(&story.ask, &World::shared().lakeside.signing);
    assert!(rules::ask(&twice, AskKind::Transfer, &Ed25519).is_err());
}
