//! Deliveries under a continuous consent: each a transfer of its own, on the evidence of the one that it continues.

use handover_core::artefact::transfer::Quote;
use handover_core::time::DAY_MS;
use handover_core::transfer::{Phase, Role, State};
use handover_core::{Amount, Code};
use handover_dossier::{Dossier, DossierError, Kind};
use handover_tests::fixture::{Delivery, Plan, Story, World, altered};
use proptest::prelude::*;

use super::Desk;

/// The story's fee, and what its cap leaves for deliveries, in US cents.
const ROOM: i64 = 2_000 - 1_250;

fn continuous() -> Story {
    Story::tell(Plan::opaque(1).continuous())
}

/// A desk at which the first transfer under a continuous consent is filed.
fn filed(role: Role) -> (Desk, Story) {
    let (desk, story) = (Desk::new(role), continuous());
    desk.take_all(&story.to_receipt());
    (desk, story)
}

fn phase(desk: &Desk, delivery: &Delivery) -> Option<Phase> {
    desk.row(delivery.id).map(|row| row.state.phase)
}

fn fees(desk: &Desk, story: &Story) -> Vec<i64> {
    let (keys, id) = (desk.store.keys(), story.id);
    let read = desk.store.read(move |txn| -> Result<Vec<Amount>, DossierError> {
        Dossier::of(txn, &keys, id).other_fees(World::context())
    });
    let mut fees: Vec<i64> = desk.runtime.block_on(read).unwrap().iter().map(Amount::minor).collect();
    fees.sort_unstable();
    fees
}

#[test]
fn deliveries_begin_at_consented_and_follow_one_another() {
    for role in Role::ALL {
        let (desk, story) = filed(*role);
        for (number, delivery) in (1_u64..).zip([story.delivery(1, 400), story.delivery(2, 0)]) {
            let phases = [Phase::Consented, Phase::Sealed, Phase::Delivered, Phase::Released, Phase::Filed];
            for (content, phase) in delivery.to_receipt().iter().zip(phases) {
                let taken = desk.take(content).unwrap();
                assert!(taken.is_new, "{role} {:?}", taken.kind());
                assert_eq!(taken.row.state, State::of(phase), "{role} {:?}", taken.kind());
                assert_eq!(taken.row.origin, Some(story.id));
                assert!(!desk.take(content).unwrap().is_new, "{role} again");
            }
            let (keys, id) = (desk.store.keys(), story.id);
            let read = desk.store.read(move |txn| Dossier::of(txn, &keys, id).deliveries(1));
            let (newest, count) = desk.runtime.block_on(read).unwrap();
            assert_eq!((newest[0].transfer, count), (delivery.id, number));
            let kept: Vec<Kind> = desk.kept(delivery.id).into_iter().map(|(place, _)| place.kind).collect();
            for kind in [Kind::Request, Kind::OriginQuote, Kind::Consent, Kind::ShareRelease, Kind::Receipt] {
                assert!(kept.contains(&kind), "{role}: {kind}");
            }
        }
        assert_eq!(desk.row(story.id).unwrap().state, State::of(Phase::Filed));
        assert_eq!(desk.kept(story.id).len(), story.to_receipt().len(), "nothing was added to the first");
    }
}

#[test]
fn what_no_consent_allows_is_no_delivery() {
    let world = World::shared();
    let lakeside = &world.lakeside.signing;
    for role in Role::ALL {
        let (desk, story) = filed(*role);
        let delivery = story.delivery(1, 400);
        let other = Story::tell(Plan::opaque(2).continuous());
        let quote = |change: &dyn Fn(&mut Quote)| altered(&delivery.quote, lakeside, change);
        let continues =
            |it: &mut Quote, change: &dyn Fn(&mut handover_core::artefact::transfer::Continues)| {
                it.continues.iter_mut().for_each(change);
            };
        for (what, quote, code) in [
            (
                "by the destination",
                Story::signed_by(&delivery.quote, &world.riverside.signing),
                Code::WrongSigner,
            ),
            (
                "under another consent",
                quote(&|it| continues(it, &|it| it.consent = other.consent.hash())),
                Code::QuoteMismatch,
            ),
            (
                "of a transfer that nobody knows",
                quote(&|it| continues(it, &|it| it.origin = other.id)),
                Code::EvidenceMissing,
            ),
            ("of another patient", quote(&|it| it.patient = other.patient.reference()), Code::QuoteMismatch),
            (
                "to another hospital",
                quote(&|it| it.destination = world.hillcrest.id.clone()),
                Code::QuoteMismatch,
            ),
            ("on another request", quote(&|it| it.request = other.request.hash()), Code::QuoteMismatch),
            (
                "with another key",
                quote(&|it| it.request_key = other.request.request_key),
                Code::QuoteMismatch,
            ),
            (
                "charged to the hospital",
                quote(&|it| it.sealed_to_payer = Some(vec![1; 48].into())),
                Code::QuoteMismatch,
            ),
            (
                "when the consent has ended",
                quote(&|it| {
                    it.issued = story.consent.expires.plus_ms(DAY_MS);
                    it.priced = it.issued;
                }),
                Code::ConsentExpired,
            ),
            (
                "at the prices of another day",
                quote(&|it| it.priced = it.issued.plus_ms(-1)),
                Code::QuoteMismatch,
            ),
        ] {
            assert_eq!(desk.take(&quote).err(), Some(code), "{role}: {what}");
            assert!(desk.row(delivery.id).is_none());
        }
        let once = Story::tell(Plan::opaque(3));
        desk.take_all(&once.to_receipt());
        let refused = desk.take(once.delivery(1, 400).quote.envelope());
        assert_eq!(refused.err(), Some(Code::ConsentSpent), "{role}: a one-time consent");
        // Without its quote nothing of a delivery is taken.
        assert_eq!(desk.take(delivery.header.envelope()).err(), Some(Code::EvidenceMissing));
    }
}

#[test]
fn a_hospital_begins_one_after_the_other_when_the_first_is_filed() {
    let story = continuous();
    let contents = story.to_receipt();
    let (first, second) = (story.delivery(1, 400), story.delivery(2, 0));
    for role in Role::ALL {
        let desk = Desk::new(*role);
        desk.take_all(&contents[..6]);
        let early = desk.take(first.quote.envelope()).err();
        assert_eq!(early, Some(Code::EvidenceMissing), "{role}: before the share is out");
        desk.take(&contents[6]).unwrap();
        let early = desk.take(first.quote.envelope());
        if *role == Role::Index {
            // It sees copies in any order.
            assert!(early.unwrap().is_new);
            assert!(desk.take(second.quote.envelope()).unwrap().is_new);
            continue;
        }
        assert_eq!(early.err(), Some(Code::EvidenceMissing), "{role}: before it is filed");
        desk.take(&contents[7]).unwrap();
        desk.take(first.quote.envelope()).unwrap();
        assert_eq!(desk.take(second.quote.envelope()).err(), Some(Code::Busy), "{role}: two at once");
        desk.take(first.refusal.envelope()).unwrap();
        assert!(desk.take(second.quote.envelope()).unwrap().is_new);
    }
}

/// What is lost is sealed again, under what the patient released for the first transfer.
#[test]
fn a_delivery_has_further_attempts() {
    let world = World::shared();
    for role in Role::ALL {
        let (desk, story) = filed(*role);
        let (delivery, second) = (story.delivery(1, 400), story.attempt(2));
        desk.take_all(&delivery.to_receipt()[..4]);
        let next = altered(&second.next_attempt, &world.riverside.signing, |it| it.transfer = delivery.id);
        let asked = desk.take(&next).unwrap();
        assert_eq!(asked.row.state, State::at(2, Phase::Consented), "{role}");
        let header = altered(&delivery.header, &world.lakeside.signing, |it| it.attempt = 2);
        assert_eq!(desk.take(&header).unwrap().row.state, State::at(2, Phase::Sealed), "{role}");
        let dearer = altered(&delivery.header, &world.lakeside.signing, |it| {
            it.attempt = 3;
            it.fee = Amount::from_minor(401, it.fee.currency());
        });
        assert_eq!(desk.take(&dearer).err(), Some(Code::QuoteMismatch), "{role}");
        assert_eq!(fees(&desk, &story), [400], "one fee, whatever the attempt");
        let no = altered(&story.patient_refusal, &story.patient.signing, |it| it.transfer = delivery.id);
        assert_eq!(
            desk.take(&no).err(),
            Some(Code::AskMismatch),
            "{role}: it is taken back with the consent"
        );
    }
}

#[test]
fn all_fees_together_stay_within_the_cap() {
    for role in Role::ALL {
        let (desk, story) = filed(*role);
        let (first, second) = (story.delivery(1, 400), story.delivery(2, ROOM - 400));
        desk.take_all(&first.to_receipt());
        desk.take_all(&second.to_receipt());
        assert_eq!(fees(&desk, &story), [ROOM - 400, 400]);
        let third = story.delivery(3, 1);
        desk.take(third.quote.envelope()).unwrap();
        let above = if *role == Role::Source { Code::CapReached } else { Code::EvidenceMissing };
        assert_eq!(desk.take(third.header.envelope()).err(), Some(above), "{role}: a cent above");
        desk.take(third.refusal.envelope()).unwrap();
        assert_eq!(fees(&desk, &story), [ROOM - 400, 400]);
        desk.take_all(&story.delivery(4, 0).to_receipt());
    }
}

#[test]
fn a_fee_that_is_let_go_makes_room() {
    for role in Role::ALL {
        let (desk, story) = filed(*role);
        let (first, second) = (story.delivery(1, ROOM), story.delivery(2, ROOM));
        desk.take_all(&first.to_receipt()[..2]);
        assert_eq!(fees(&desk, &story), [ROOM]);
        desk.take(first.refusal.envelope()).unwrap();
        assert_eq!(fees(&desk, &story), [] as [i64; 0], "{role}");
        desk.take_all(&second.to_receipt());
        assert_eq!(fees(&desk, &story), [ROOM]);
    }
}

#[test]
fn a_revocation_ends_what_is_delivered_later() {
    for role in Role::ALL {
        for begun in 1..=4 {
            let (desk, story) = filed(*role);
            let delivery = story.delivery(1, 400);
            desk.take_all(&delivery.to_receipt()[..begun]);
            let taken = desk.take(&story.revocation_bytes()).unwrap();
            assert_eq!(taken.row.state, State::of(Phase::Filed), "the first stays as it was");
            let is_released = begun == 4;
            let ended: Vec<_> = taken.ended.iter().map(|row| row.transfer).collect();
            let expected = if is_released { Vec::new() } else { vec![delivery.id] };
            assert_eq!(ended, expected, "{role}: begun {begun}");
            let state = desk.row(delivery.id).unwrap().state;
            if is_released {
                assert_eq!(state, State::of(Phase::Released), "{role}: what is out cannot be taken back");
                desk.take(delivery.receipt.envelope()).unwrap();
                assert_eq!(phase(&desk, &delivery), Some(Phase::Filed));
            } else {
                assert_eq!(state, State::exit(Phase::Revoked, Code::ConsentRevoked), "{role}: begun {begun}");
            }
            // One that was begun before the revocation was heard of.
            let later = story.delivery(2, 0);
            let late = desk.take(later.quote.envelope()).unwrap();
            assert_eq!(late.row.state, State::exit(Phase::Revoked, Code::ConsentRevoked), "{role}");
            assert!(!desk.take(&story.revocation_bytes()).unwrap().is_new);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_index_takes_copies_of_deliveries_in_any_order(
        order in Just((0..18_usize).collect::<Vec<_>>()).prop_shuffle(),
    ) {
        let story = continuous();
        let (first, second) = (story.delivery(1, 400), story.delivery(2, ROOM - 400));
        let all = [story.to_receipt(), first.to_receipt(), second.to_receipt()].concat();
        prop_assert_eq!(all.len(), order.len());
        let desk = Desk::new(Role::Index);
        let mut new = 0;
        for _ in 0..all.len() {
            for at in &order {
                match desk.take(&all[*at]) {
                    Ok(taken) => new += usize::from(taken.is_new),
                    Err(code) => prop_assert_eq!(code, Code::EvidenceMissing),
                }
            }
        }
        prop_assert_eq!(new, all.len(), "each is new exactly once");
        for id in [story.id, first.id, second.id] {
            prop_assert_eq!(desk.row(id).map(|row| row.state), Some(State::of(Phase::Filed)));
        }
        prop_assert_eq!(fees(&desk, &story), vec![ROOM - 400, 400]);
    }
}
