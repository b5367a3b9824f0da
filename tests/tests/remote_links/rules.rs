//! Dishonest requests, vouchings and answers, each refused with its own code.

use handover_core::artefact::Verified;
use handover_core::artefact::patient::CLOCK_SKEW_MS;
use handover_core::artefact::remote::{
    REMOTE_LINK_LIFE_MS, RemoteLinkAnswer, RemoteLinkRequest, RemoteLinkState,
};
use handover_core::{Code, Digest, codec, rules};
use handover_seal::{Ed25519, SigningKey};
use handover_tests::fixture::{Patient, RemoteLink, T0, World, altered, by_two};
use handover_tests::table::all_refused;

#[test]
fn nobody_is_vouched_for_or_answered_by_another() {
    let (world, link, context) = (World::shared(), RemoteLink::confirmed(1), World::context());
    let (riverside, lakeside, patient) =
        (&world.riverside.signing, &world.lakeside.signing, &link.patient.signing);
    let vouched = |by: &SigningKey, change: &dyn Fn(&mut RemoteLinkRequest)| {
        let mut request = (*link.request).clone();
        change(&mut request);
        rules::remote_link(&by_two(request, patient, by), context).map(|_| ())
    };
    assert_eq!(vouched(riverside, &|_| {}), Ok(()));
    let mut broken = by_two((*link.request).clone(), patient, riverside);
    *broken.last_mut().unwrap() ^= 1;
    let claim =
        |envelope: &[u8]| rules::remote_link_claim(envelope, &world.riverside.id, &Ed25519).map(|_| ());
    all_refused(vec![
        ("vouched for by another hospital", vouched(lakeside, &|_| {}), Code::WrongSigner),
        ("altered", rules::remote_link(&broken, context).map(|_| ()), Code::BadSignature),
        ("nobody vouches", rules::remote_link(link.request.envelope(), context).map(|_| ()), Code::Malformed),
        (
            "vouched for by the hospital that is to link",
            vouched(lakeside, &|it| it.vouching = world.lakeside.id.clone()),
            Code::AskMismatch,
        ),
        (
            "for longer than two weeks",
            vouched(riverside, &|it| it.expires = it.issued.plus_ms(REMOTE_LINK_LIFE_MS + 1)),
            Code::AskExpired,
        ),
        (
            "another patient's reference",
            vouched(riverside, &|it| it.patient = Patient::new(2).reference()),
            Code::AskMismatch,
        ),
        (
            "signed by another patient",
            claim(Verified::sign((*link.request).clone(), &Patient::new(2).signing).envelope()),
            Code::WrongSigner,
        ),
        (
            "for another hospital to vouch",
            rules::remote_link_claim(link.request.envelope(), &world.hillcrest.id, &Ed25519).map(|_| ()),
            Code::AskMismatch,
        ),
    ]);
    let in_time = |now| rules::remote_link_in_time(&link.request, now);
    assert_eq!(in_time(T0), Ok(()));
    assert_eq!(in_time(link.request.expires), Err(Code::AskExpired));
    assert_eq!(in_time(T0.plus_ms(-CLOCK_SKEW_MS - 1)), Err(Code::AskExpired));

    let plain = codec::encode(&link.details);
    assert_eq!(rules::remote_link_details(&plain, &link.request).as_ref(), Ok(&link.details));
    let other = RemoteLink::confirmed(1).details;
    let other = codec::encode(&handover_core::artefact::remote::RemoteLinkDetails { salt: [4; 16], ..other });
    assert_eq!(rules::remote_link_details(&other, &link.request), Err(Code::AskMismatch));

    let answered = |change: &dyn Fn(&mut RemoteLinkAnswer)| {
        let answer = altered(&link.answer, lakeside, change);
        rules::remote_link_answer(&answer, &link.request, context).map(|_| ())
    };
    assert_eq!(answered(&|_| {}), Ok(()));
    all_refused(vec![
        (
            "answered by who vouches",
            rules::remote_link_answer(
                Verified::sign((*link.answer).clone(), riverside).envelope(),
                &link.request,
                context,
            )
            .map(|_| ()),
            Code::WrongSigner,
        ),
        ("to another request", answered(&|it| it.request = Digest::from_bytes([0; 32])), Code::AskMismatch),
        ("no answer", answered(&|it| it.state = RemoteLinkState::Asked), Code::AskMismatch),
        ("a no without a reason", answered(&|it| it.state = RemoteLinkState::Refused), Code::AskMismatch),
    ]);
}

#[test]
fn a_desk_is_shown_nothing_that_it_cannot_read() {
    let details = RemoteLink::confirmed(1).details;
    assert!(details.is_readable());
    for (number, name, birth_date) in [
        ("", "Ada", "1980-02-29"),
        ("P\u{1b}[2J", "Ada", "1980-02-29"),
        ("P-1", "", "1980-02-29"),
        ("P-1", "Ada", "29.02.1980"),
        ("P-1", "Ada", "1980-02-2x"),
    ] {
        let (record_number, name, birth_date) = (number.to_owned(), name.to_owned(), birth_date.to_owned());
        let details = handover_core::artefact::remote::RemoteLinkDetails {
            record_number,
            name,
            birth_date,
            ..details.clone()
        };
        assert!(!details.is_readable(), "{details:?}");
    }
}
