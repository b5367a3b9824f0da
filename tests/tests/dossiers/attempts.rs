//! Dossiers of several attempts: what each makes of the artefacts of a package that is asked for, sealed and released
//! anew.

use handover_core::artefact::transfer::NextAttempt;
use handover_core::id::SealingPublic;
use handover_core::time::DAY_MS;
use handover_core::transfer::{Phase, Role, State};
use handover_core::{Amount, Code, Digest};
use handover_tests::fixture::{Plan, Story, World, altered};
use proptest::prelude::*;

use crate::{Desk, deliver_until_settled};

/// A package that is lost after an attempt's first steps is asked for, sealed and released anew; filed once.
#[test]
fn every_role_follows_a_further_attempt() {
    for role in Role::ALL {
        // How many of the first attempt's artefacts are there: a header, a delivery, a release, and the patient's.
        for begun in 4..=7 {
            let (desk, story) = (Desk::new(*role), Story::tell(Plan::opaque(1)));
            let (contents, second) = (story.to_receipt(), story.attempt(2));
            desk.take_all(&contents[..begun]);
            let phases = [3, 4, 5, 6, 6, 7].map(|number| Phase::ALL[number - 1]);
            for (content, phase) in second.to_receipt().iter().zip(phases) {
                let taken = desk.take(content).unwrap();
                assert!(taken.is_new, "{role} {:?}", taken.kind());
                assert_eq!(taken.row.state, State::at(2, phase), "{role} {:?}", taken.kind());
                assert!(!desk.take(content).unwrap().is_new);
            }
            assert_eq!(desk.kept(story.id).len(), begun + 6);
            // What was on its way of the first changes nothing.
            for content in &contents[begun..7] {
                desk.take(content).unwrap();
                assert_eq!(desk.row(story.id).unwrap().state, State::at(2, Phase::Filed));
            }
        }
    }
}

/// The source, whose own spool is gone, seals anew by itself; what the patient released holds on.
#[test]
fn a_source_seals_the_next_attempt_by_itself_until_it_has_released() {
    let story = Story::tell(Plan::opaque(1));
    let (contents, second) = (story.to_receipt(), story.attempt(2));
    for role in Role::ALL {
        let desk = Desk::new(*role);
        desk.take_all(&contents[..4]);
        desk.take_all(&[contents[6].clone(), second.header.envelope().to_vec()]);
        assert_eq!(desk.row(story.id).unwrap().state, State::at(2, Phase::Sealed), "{role}");
        // The destination had asked at the same time.
        desk.take(second.next_attempt.envelope()).unwrap();
        desk.take(second.share_release.envelope()).unwrap();
        assert_eq!(desk.row(story.id).unwrap().state, State::at(2, Phase::Sealed), "{role}");
        desk.take_all(&second.to_receipt()[2..]);
        assert_eq!(desk.phase(&story), Some(Phase::Filed), "{role}");
    }
    let desk = Desk::new(Role::Destination);
    desk.take_all(&contents[..6]);
    assert_eq!(desk.take(second.header.envelope()).err(), Some(Code::OutOfOrder), "released");
}

#[test]
fn no_attempt_is_begun_that_nobody_may_begin() {
    let (world, story) = (World::shared(), Story::tell(Plan::opaque(1)));
    let contents = story.to_receipt();
    let (lakeside, riverside) = (&world.lakeside.signing, &world.riverside.signing);
    let (second, third) = (story.attempt(2), story.attempt(3));
    let asked = |change: fn(&mut NextAttempt)| altered(&second.next_attempt, riverside, change);
    let false_ones = [
        ("by a third", Story::signed_by(&second.next_attempt, &world.hillcrest.signing), Code::WrongSigner),
        ("by the source", Story::signed_by(&second.next_attempt, lakeside), Code::WrongSigner),
        ("the first", asked(|it| it.attempt = 1), Code::AttemptMismatch),
        ("none", asked(|it| it.attempt = 0), Code::AttemptMismatch),
        ("the sixth", asked(|it| it.attempt = 6), Code::AttemptsExhausted),
        ("another consent's", asked(|it| it.consent = Digest::from_bytes([1; 32])), Code::AttemptMismatch),
        ("after the consent", asked(|it| it.issued = it.issued.plus_ms(31 * DAY_MS)), Code::ConsentExpired),
        (
            "for another fee",
            altered(&second.header, lakeside, |it| {
                it.fee = Amount::from_minor(1_251, it.fee.currency());
            }),
            Code::QuoteMismatch,
        ),
        (
            "a release to a key that nobody asked with",
            altered(&story.share_release, &story.patient.signing, |it| {
                it.request_key = SealingPublic::from_bytes([1; 32]);
            }),
            Code::EvidenceMissing,
        ),
    ];
    for role in Role::ALL {
        let desk = Desk::new(*role);
        desk.take_all(&contents[..6]);
        let (row, kept) = (desk.row(story.id), desk.kept(story.id));
        for (what, content, code) in &false_ones {
            assert_eq!(desk.take(content).err(), Some(*code), "{role}: {what}");
        }
        assert_eq!((desk.row(story.id), desk.kept(story.id)), (row, kept), "{role}");
    }
    for role in [Role::Source, Role::Destination] {
        let desk = Desk::new(role);
        desk.take_all(&contents[..3]);
        let early = desk.take(second.next_attempt.envelope());
        assert_eq!(early.err(), Some(Code::OutOfOrder), "{role}: nothing is sealed");
        desk.take_all(&contents[3..6]);
        let skipped = desk.take(third.next_attempt.envelope());
        assert_eq!(skipped.err(), Some(Code::OutOfOrder), "{role}: one is skipped");
        desk.take_all(&contents[6..]);
        let late = desk.take(second.next_attempt.envelope());
        assert_eq!(late.err(), Some(Code::OutOfOrder), "{role}: it is filed");
        assert_eq!(desk.row(story.id).unwrap().state, State::of(Phase::Filed));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_index_ends_the_same_whatever_the_order_of_two_attempts(
        order in Just((0..13_usize).collect::<Vec<_>>()).prop_shuffle(),
    ) {
        let story = Story::tell(Plan::opaque(1));
        let mut contents = story.to_receipt()[..7].to_vec();
        contents.extend(story.attempt(2).to_receipt());
        let order: Vec<Vec<u8>> = order.into_iter().map(|at| contents[at].clone()).collect();
        let desk = Desk::new(Role::Index);
        prop_assert_eq!(deliver_until_settled(&desk, &story, &order, &[]), contents.len());
        prop_assert_eq!(desk.row(story.id).unwrap().state, State::at(2, Phase::Filed));
        let in_order = Desk::new(Role::Index);
        in_order.take_all(&contents);
        prop_assert_eq!(desk.kept(story.id), in_order.kept(story.id));
    }
}
