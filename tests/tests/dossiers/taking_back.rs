//! What a hospital that was restored from a backup takes back from others: whoever holds it, in whatever order, it ends
//! where it was.

use std::sync::LazyLock;

use handover_core::artefact::federation::Status;
use handover_core::artefact::patient::KeyAuthority;
use handover_core::artefact::transfer::{RevocationEffect, Step};
use handover_core::rules::Context;
use handover_core::time::DAY_MS;
use handover_core::transfer::{Phase, Role, State};
use handover_core::{Amount, Code, Timestamp, TransferId};
use handover_dossier::{Dossier, DossierError, Kind, Place, Taken, key_records, transfer_of};
use handover_seal::Ed25519;
use handover_tests::fixture::{Delivery, Plan, Story, T0, World, altered};
use proptest::prelude::*;

use crate::{Desk, false_ones, late};

/// When it is taken back: asks, consents and directories of the stories have ended.
fn later() -> Timestamp {
    T0.plus_ms(400 * DAY_MS)
}

impl Desk {
    pub(crate) fn take_back(&self, content: &[u8]) -> Result<Taken, Code> {
        let (keys, content, role) = (self.store.keys(), content.to_vec(), self.role);
        let id = transfer_of(&content)?;
        let taken = self.store.write(move |txn| {
            Dossier::of(txn, &keys, id).take_back(role, &content, World::context(), later())
        });
        self.runtime.block_on(taken).map_err(|fault: DossierError| fault.code())
    }

    fn state(&self, id: TransferId) -> Option<State> {
        self.row(id).map(|row| row.state)
    }

    /// What is kept. What came before its consent is known by the consent, and is not handed back beside it.
    fn known(&self, id: TransferId) -> Vec<(Place, Vec<u8>)> {
        let mut known = self.kept(id);
        let has_consent = known.iter().any(|(place, _)| place.kind == Kind::Consent);
        known.retain(|(place, _)| !has_consent || place.kind != Kind::EarlyRevocation);
        known
    }
}

/// A way that transfers went.
struct Went {
    how: String,
    transfers: Vec<TransferId>,
    contents: Vec<Vec<u8>>,
}

/// Both have said what a revocation came to.
pub(crate) fn confirmed(story: &Story, effect: RevocationEffect) -> Vec<Vec<u8>> {
    let world = World::shared();
    let by = [&world.lakeside.signing, &world.riverside.signing];
    let confirmed = story.confirmations.iter().zip(by);
    confirmed.map(|(it, by)| altered(it, by, |it| it.effect = effect)).collect()
}

fn whole<T: handover_core::artefact::Payload>(it: &handover_core::artefact::Verified<T>) -> Vec<u8> {
    it.envelope().to_vec()
}

/// How transfers can go, as far as all three see the same.
fn ways() -> &'static [Went] {
    static WAYS: LazyLock<Vec<Went>> = LazyLock::new(|| {
        let mut all = alone();
        all.extend(delivered());
        all
    });
    &WAYS
}

/// How one can go that is not continued.
fn alone() -> Vec<Went> {
    let story = Story::tell(Plan::opaque(1));
    let (way, second, third) = (story.to_receipt(), story.attempt(2), story.attempt(3));
    let half_back = story.recall(1, Amount::from_minor(600, story.header.fee.currency()));
    let rest_back = story.recall(2, Amount::from_minor(650, story.header.fee.currency()));
    let revocation = vec![story.revocation_bytes()];
    let mut all = Vec::new();
    let mut went = |how: &str, parts: &[&[Vec<u8>]]| {
        all.push(Went { how: how.to_owned(), transfers: vec![story.id], contents: parts.concat() });
    };
    for until in 1..=way.len() {
        went(&format!("the first {until} steps"), &[&way[..until]]);
    }
    went("refused by the source", &[&way[..3], &[whole(&story.refusal)]]);
    went("refused by the patient", &[&way[..2], &[whole(&story.patient_refusal)]]);
    went("not to be filed", &[&way[..7], &[whole(&story.failure)]]);
    for until in 3..=5 {
        let confirmed = confirmed(&story, RevocationEffect::InTime);
        went(&format!("revoked after {until} steps"), &[&way[..until], &revocation, &confirmed]);
    }
    for until in 7..=8 {
        let confirmed = confirmed(&story, RevocationEffect::TooLate);
        went(&format!("revoked too late, after {until}"), &[&way[..until], &revocation, &confirmed]);
    }
    let unopened = [confirmed(&story, RevocationEffect::InTime), vec![late::unopened(&story)]].concat();
    went("released, and not opened", &[&way[..6], &revocation, &unopened]);
    went("taken back before its consent came", &[&way[..2], &revocation, &way[2..3]]);
    went("what may be a revocation", &[&way[..2], &revocation]);
    for until in 4..=7 {
        went(&format!("again after {until}"), &[&way[..until], &second.to_receipt()]);
    }
    let by_itself = [way[6].clone(), whole(&second.header), whole(&second.next_attempt)];
    went("sealed again by the source itself", &[&way[..4], &by_itself]);
    went("twice again", &[&way[..7], &second.to_receipt()[..4], &third.to_receipt()]);
    let late = confirmed(&story, RevocationEffect::TooLate);
    went("revoked in the second attempt", &[&way[..7], &second.to_receipt()[..1], &revocation, &late]);
    went("asked for again after it was revoked", &[&way[..7], &revocation, &late, &second.to_receipt()[..1]]);
    let recalled = [
        whole(&half_back),
        whole(&story.recall_confirmed(&half_back)),
        whole(&rest_back),
        whole(&story.recall_confirmed(&rest_back)),
    ];
    went("recalled", &[&way, &recalled]);
    went("recalled, not yet confirmed", &[&way, &recalled[..1], &recalled[2..3]]);
    for (how, plan) in [("narrowed", Plan::opaque(2).narrowed()), ("referred", Plan::opaque(3).referred())] {
        let story = Story::tell(plan);
        all.push(Went { how: how.to_owned(), transfers: vec![story.id], contents: story.to_receipt() });
    }
    all
}

/// Deliveries under a continuous consent.
fn delivered() -> Vec<Went> {
    let story = Story::tell(Plan::opaque(4).continuous());
    let [first, second, third] = [(1, 400), (2, 700), (3, 350)].map(|(at, fee)| story.delivery(at, fee));
    let went = |how: &str, deliveries: &[&Delivery], parts: &[&[Vec<u8>]]| {
        let transfers = std::iter::once(story.id).chain(deliveries.iter().map(|it| it.id)).collect();
        Went { how: how.to_owned(), transfers, contents: parts.concat() }
    };
    let (way, filed) = (story.to_receipt(), first.to_receipt());
    let mut revoked = vec![story.revocation_bytes()];
    revoked.extend(confirmed(&story, RevocationEffect::Ended));
    vec![
        went("delivered", &[&first, &third], &[&way, &filed, &third.to_receipt()]),
        // Its fee is let go, so that the third is within the cap.
        went(
            "one refused",
            &[&first, &second, &third],
            &[&way, &filed, &second.to_receipt()[..1], &[whole(&second.refusal)], &third.to_receipt()],
        ),
        went(
            "taken back after one, while another is sealed",
            &[&first, &third],
            &[&way, &filed, &third.to_receipt()[..2], &revoked],
        ),
        went(
            "taken back, then one that was begun before",
            &[&first, &third],
            &[&way, &filed, &revoked, &third.to_receipt()[..1]],
        ),
    ]
}

/// Another that holds the same, and as whom it is asked.
fn holders(role: Role) -> [Role; 2] {
    match role {
        Role::Source => [Role::Destination, Role::Index],
        Role::Destination => [Role::Source, Role::Index],
        Role::Index => [Role::Source, Role::Destination],
    }
}

fn desk(role: Role, went: &Went) -> Desk {
    let desk = Desk::new(role);
    desk.take_all(&went.contents);
    desk
}

/// Every transfer is where it was, with everything that was there.
fn same(went: &Went, back: &Desk, lost: &Desk) {
    for id in &went.transfers {
        let (row, was) = (back.row(*id).unwrap(), lost.row(*id).unwrap());
        let what = format!("{} of {}", back.role, went.how);
        assert_eq!(row.state, was.state, "{what}");
        assert_eq!((row.patient, row.origin, row.role), (was.patient, was.origin, was.role), "{what}");
        assert_eq!(back.known(*id), lost.known(*id), "{what}");
    }
    assert_eq!(back.pages(), lost.pages(), "{} of {}", back.role, went.how);
}

#[test]
fn whatever_was_lost_is_handed_back_whole_and_leads_to_the_same() {
    for went in ways() {
        for role in Role::ALL {
            let lost = desk(*role, went);
            for holder in holders(*role) {
                let handed = desk(holder, went).hands_back_all(*role);
                let back = Desk::new(*role);
                for content in &handed {
                    let taken = back.take_back(content).unwrap();
                    assert!(taken.is_new, "{role} of {}: {}", went.how, taken.kind());
                }
                same(went, &back, &lost);
                for content in &handed {
                    assert!(!back.take_back(content).unwrap().is_new, "{role} of {}", went.how);
                }
                same(went, &back, &lost);
            }
        }
    }
}

/// A backup has a part of it.
#[test]
fn what_a_backup_has_stays_and_the_rest_follows() {
    for went in ways() {
        for role in Role::ALL {
            let lost = desk(*role, went);
            let handed = desk(holders(*role)[1], went).hands_back_all(*role);
            let count = went.contents.len();
            for kept in [1, count / 2, count - 1] {
                let back = Desk::new(*role);
                back.take_all(&went.contents[..kept]);
                for content in &handed {
                    back.take_back(content).unwrap();
                }
                same(went, &back, &lost);
            }
        }
    }
}

/// One by one from several, as far as each has it, again and again.
fn take_back_until_settled(back: &Desk, contents: &[Vec<u8>], order: &[usize]) {
    loop {
        let mut is_new = false;
        for content in order.iter().filter_map(|at| contents.get(*at)) {
            match back.take_back(content) {
                Ok(taken) => is_new |= taken.is_new,
                Err(code) => assert!([Code::EvidenceMissing, Code::FeeNotAccepted].contains(&code), "{code}"),
            }
        }
        if !is_new {
            return;
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_order_in_which_it_comes_back_says_nothing(
        way in any::<prop::sample::Index>(),
        role in prop::sample::select(Role::ALL),
        order in Just((0..24_usize).collect::<Vec<_>>()).prop_shuffle(),
        kept in 0..6_usize,
    ) {
        let went = &ways()[way.index(ways().len())];
        prop_assert!(went.contents.len() <= order.len());
        let (lost, back) = (desk(role, went), Desk::new(role));
        back.take_all(&went.contents[..kept.min(went.contents.len())]);
        take_back_until_settled(&back, &went.contents, &order);
        same(went, &back, &lost);
    }
}

/// The index heard of the revocation and not of the release, which went straight to the destination. What a hospital
/// signed itself shows that the patient's no was too late.
#[test]
fn no_state_stays_behind_what_this_hospital_signed() {
    let story = Story::tell(Plan::opaque(1));
    let way = story.to_receipt();
    let back = |role| {
        let desk = Desk::new(role);
        for content in way[..4].iter().chain([&story.revocation_bytes()]) {
            desk.take_back(content).unwrap();
        }
        assert_eq!(desk.phase(&story), Some(Phase::Revoked), "{role}");
        desk
    };
    let source = back(Role::Source);
    for (content, phase) in [
        (&way[4], Phase::Revoked),
        (&way[5], Phase::Released),
        (&way[6], Phase::Released),
        (&way[7], Phase::Filed),
    ] {
        assert_eq!(source.take_back(content).unwrap().row.state, stands(phase));
    }
    assert_eq!(source.pages(), (0, 1));
    // Whose release it is not goes by what it has filed.
    let destination = back(Role::Destination);
    for (content, phase) in [
        (&way[4], Phase::Revoked),
        (&way[5], Phase::Revoked),
        (&way[6], Phase::Revoked),
        (&way[7], Phase::Filed),
    ] {
        assert_eq!(destination.take_back(content).unwrap().row.state, stands(phase));
    }
    // A receipt alone shows the source that it has released.
    let source = back(Role::Source);
    assert_eq!(source.take_back(&way[7]).unwrap().row.state, State::of(Phase::Filed));
}

/// Where it stands, as it is revoked here if it is.
fn stands(phase: Phase) -> State {
    if phase == Phase::Revoked { State::exit(phase, Code::ConsentRevoked) } else { State::of(phase) }
}

/// Nobody knows any more whether the release or the no came first: then nothing is filed.
#[test]
fn in_doubt_a_no_stands_at_the_destination() {
    let (story, world) = (Story::tell(Plan::opaque(1)), World::shared());
    let way = story.to_receipt();
    let own = altered(&story.failure, &world.riverside.signing, |it| it.step = Step::Delivery);
    let refused = |code| State::exit(Phase::Refused, code);
    for (no, state) in [
        (story.revocation_bytes(), stands(Phase::Revoked)),
        (whole(&story.patient_refusal), refused(Code::PatientRefused)),
        (own, refused(Code::PackageDamaged)),
    ] {
        for first in [&way[5], &no] {
            let back = Desk::new(Role::Destination);
            for content in way[..5].iter().chain([first, &way[5], &no, &way[6]]) {
                back.take_back(content).unwrap();
            }
            assert_eq!(back.state(story.id), Some(state.clone()));
        }
        // The source released it, and knows that it did.
        let back = Desk::new(Role::Source);
        for content in way[..6].iter().chain([&no]) {
            back.take_back(content).unwrap();
        }
        assert_eq!(back.state(story.id), Some(State::of(Phase::Released)));
    }
}

/// A process that was started before it knew what it had lost may have let it run out.
#[test]
fn what_ran_out_meanwhile_goes_on_only_for_what_this_hospital_signed() {
    let story = Story::tell(Plan::opaque(1));
    let way = story.to_receipt();
    let expired = State::exit(Phase::Expired, Code::QuoteExpired);
    for (role, phases) in [
        (Role::Source, [None, Some(Phase::Sealed), Some(Phase::Delivered), Some(Phase::Released)]),
        (Role::Destination, [None, None, Some(Phase::Delivered), Some(Phase::Released)]),
    ] {
        let desk = Desk::new(role);
        desk.take_all(&way[..2]);
        let (keys, id) = (desk.store.keys(), story.id);
        let ended = desk.store.write(move |txn| {
            Dossier::of(txn, &keys, id).end(role, Phase::Expired, Code::QuoteExpired, T0).map(drop)
        });
        desk.runtime.block_on(ended).unwrap();
        for (content, phase) in way[2..6].iter().zip(phases) {
            let taken = desk.take_back(content).unwrap();
            let state = phase.map_or_else(|| expired.clone(), State::of);
            assert!(taken.is_new);
            assert_eq!(taken.row.state, state, "{role} {}", taken.kind());
        }
    }
}

/// It was signed in its time; new work is another thing.
#[test]
fn it_is_taken_back_whatever_has_become_of_keys_directory_and_hospitals() {
    let (world, story) = (World::shared(), Story::tell(Plan::opaque(1)));
    let next = story.patient.with_device("next device", KeyAuthority::Device, T0.plus_ms(1));
    let revoked = world.verified(&world.with_status(&world.riverside, Status::Revoked));
    let revoked: &'static _ = Box::leak(Box::new(revoked));
    for role in Role::ALL {
        let desk = Desk::new(*role);
        let (keys, chain) = (desk.store.keys(), next.chain());
        let begun = desk.store.write(move |txn| key_records::begin(txn, &keys, &chain, &Ed25519, T0));
        assert!(desk.runtime.block_on(begun).unwrap());
        assert_eq!(desk.take(story.request.envelope()).err(), Some(Code::KeyRecordOutdated));
        for content in story.to_receipt() {
            let (keys, id, role) = (desk.store.keys(), story.id, *role);
            let taken = desk.store.write(move |txn| {
                let context = Context { federation: revoked, verifier: &Ed25519 };
                Dossier::of(txn, &keys, id).take_back(role, &content, context, later())
            });
            let taken: Taken = desk.runtime.block_on(taken).unwrap();
            assert!(taken.is_new && taken.row.updated == later());
        }
        assert_eq!(desk.phase(&story), Some(Phase::Filed));
    }
}

#[test]
fn what_does_not_verify_is_not_taken_back_and_nothing_is_replaced() {
    let (story, other) = (Story::tell(Plan::opaque(1)), Story::tell(Plan::opaque(2)));
    let (contents, bad) = (story.to_receipt(), false_ones(&story, &other));
    let lakeside = &World::shared().lakeside.signing;
    for role in Role::ALL {
        let desk = Desk::new(*role);
        for content in &contents {
            for content in &bad {
                assert!(desk.take_back(content).is_err(), "{role}");
            }
            desk.take_back(content).unwrap();
        }
        let kept = desk.kept(story.id);
        assert_eq!(kept.len(), contents.len());
        for content in &bad {
            assert!(desk.take_back(content).is_err(), "{role} at the end");
        }
        let second = altered(&story.key_release, lakeside, |it| it.issued = later());
        assert_eq!(desk.take_back(&second).err(), Some(Code::Conflict), "{role}");
        assert_eq!(desk.kept(story.id), kept);
    }
}

/// A patient's no that somebody has to be asked about first is kept, and ends nothing.
#[test]
fn a_no_that_is_held_ends_nothing_when_it_is_taken_back() {
    let story = Story::tell(Plan::opaque(1));
    let desk = Desk::new(Role::Source);
    desk.take_all(&story.to_receipt()[..4]);
    for no in [story.revocation_bytes(), whole(&story.patient_refusal)] {
        let (keys, id) = (desk.store.keys(), story.id);
        let taken = desk.store.write(move |txn| {
            let mut dossier = Dossier::of(txn, &keys, id);
            dossier.hold_no(true);
            dossier.take_back(Role::Source, &no, World::context(), later())
        });
        let taken: Taken = desk.runtime.block_on(taken).unwrap();
        assert!(taken.is_new);
        assert_eq!(taken.row.state, State::of(Phase::Sealed));
    }
}

/// What the destination said of a release that nobody knew of here ends the transfer as soon as the release is back, while
/// what is left of it is still to come.
#[test]
fn what_was_said_of_a_release_ends_it_when_that_is_back() {
    let story = Story::tell(Plan::opaque(1));
    let way = story.to_receipt();
    for (said, end) in [
        (vec![story.revocation_bytes(), late::unopened(&story)], stands(Phase::Revoked)),
        (vec![whole(&story.failure)], State::exit(Phase::Failed, Code::PackageDamaged)),
    ] {
        let desk = Desk::new(Role::Source);
        for content in way[..5].iter().chain(&said).chain([&way[5]]) {
            let (keys, id, content) = (desk.store.keys(), story.id, content.clone());
            let taken = desk.store.write(move |txn| {
                let mut dossier = Dossier::of(txn, &keys, id);
                dossier.hold_no(true);
                dossier.take_back(Role::Source, &content, World::context(), later())
            });
            assert!(desk.runtime.block_on(taken).map_err(|fault: DossierError| fault.code()).unwrap().is_new);
        }
        assert_eq!(desk.state(story.id), Some(end));
    }
}

/// A delivery above the cap is nobody's to take back but its own source's, who signed it when it was within.
#[test]
fn fees_above_the_cap_are_taken_back_by_who_signed_them() {
    for role in Role::ALL {
        let story = Story::tell(Plan::opaque(4).continuous());
        let (first, second) = (story.delivery(1, 700), story.delivery(2, 700));
        let desk = Desk::new(*role);
        let way = [story.to_receipt(), first.to_receipt()[..2].to_vec(), second.to_receipt()].concat();
        for content in &way[..way.len() - 4] {
            desk.take_back(content).unwrap();
        }
        let taken = desk.take_back(second.header.envelope()).map(|it| it.row.state.phase);
        let expected = if *role == Role::Source { Ok(Phase::Sealed) } else { Err(Code::EvidenceMissing) };
        assert_eq!(taken, expected, "{role}");
        // Once it is known that the first came to nothing, there is room.
        desk.take_back(first.refusal.envelope()).unwrap();
        for content in second.to_receipt() {
            desk.take_back(&content).unwrap();
        }
        assert_eq!(desk.state(second.id), Some(State::of(Phase::Filed)));
    }
}
