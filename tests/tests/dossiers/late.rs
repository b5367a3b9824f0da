//! A consent that is taken back after its source released, and before its destination had what opens the package: the
//! patient is heard, and the transfer ends the same everywhere.

use handover_core::Code;
use handover_core::artefact::transfer::{Refusal, RevocationEffect, Step};
use handover_core::transfer::{Phase, Role, State};
use handover_dossier::Kind;
use handover_tests::fixture::{Plan, Story, World, altered};
use proptest::prelude::*;

use crate::Desk;
use crate::taking_back::confirmed;

/// The destination's word that it opens nothing.
pub(crate) fn unopened(story: &Story) -> Vec<u8> {
    altered(&story.failure, &World::shared().riverside.signing, |it: &mut Refusal| {
        it.code = Code::ConsentRevoked;
    })
}

fn revoked() -> State {
    State::exit(Phase::Revoked, Code::ConsentRevoked)
}

#[test]
fn it_ends_as_revoked_at_both_hospitals() {
    let story = Story::tell(Plan::opaque(1));
    let (way, no) = (story.to_receipt(), story.revocation_bytes());
    let source = Desk::new(Role::Source);
    source.take_all(&way[..7]);
    source.take(&no).unwrap();
    assert_eq!(source.phase(&story), Some(Phase::Released), "too late, as far as it knows");
    let ended = source.take(&unopened(&story)).unwrap();
    assert_eq!((ended.is_new, ended.row.state), (true, revoked()));
    let destination = Desk::new(Role::Destination);
    destination.take_all(&way[..5]);
    assert_eq!(destination.take(&no).unwrap().row.state, revoked());
    // Both know then what the other did.
    for (content, kind) in [(&way[5], Kind::KeyRelease), (&unopened(&story), Kind::Refusal)] {
        let taken = destination.take(content).unwrap();
        assert_eq!((taken.kind(), taken.is_new, taken.row.state), (kind, true, revoked()));
        assert!(!destination.take(content).unwrap().is_new);
    }
    assert_eq!(source.take(&way[7]).err(), Some(Code::ConsentRevoked), "a receipt after that");
}

#[test]
fn without_the_patients_word_it_is_nobodys_to_say() {
    let story = Story::tell(Plan::opaque(1));
    for role in Role::ALL {
        let desk = Desk::new(*role);
        desk.take_all(&story.to_receipt()[..6]);
        let kept = desk.kept(story.id);
        assert_eq!(desk.take(&unopened(&story)).err(), Some(Code::EvidenceMissing), "{role}");
        assert_eq!(desk.phase(&story), Some(Phase::Released));
        assert_eq!(desk.kept(story.id), kept);
        desk.take(&story.revocation_bytes()).unwrap();
        let by_source = Story::signed_by(&story.failure, &World::shared().lakeside.signing);
        assert_eq!(desk.take(&by_source).err(), Some(Code::WrongSigner), "nor for its source");
        assert_eq!(desk.take(&unopened(&story)).unwrap().row.state, revoked(), "{role}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, failure_persistence: None, ..ProptestConfig::default() })]

    /// At the index, which sees copies in any order, and at a source whose package lay in a folder.
    #[test]
    fn the_order_says_nothing(order in Just((0..6_usize).collect::<Vec<_>>()).prop_shuffle()) {
        let story = Story::tell(Plan::opaque(1));
        let way = story.to_receipt();
        let [_, by_destination] = confirmed(&story, RevocationEffect::InTime).try_into().unwrap();
        let no = [story.revocation_bytes(), by_destination, unopened(&story)];
        let late = [&way[4..7], &no].concat();
        let desk = Desk::new(Role::Index);
        desk.take_all(&way[..4]);
        for _ in 0..late.len() {
            for at in &order {
                let _ = desk.take(&late[*at]);
            }
        }
        prop_assert_eq!(desk.row(story.id).unwrap().state, revoked());
        prop_assert_eq!(desk.kept(story.id).len(), way[..4].len() + late.len());
    }
}

/// While nobody at the source knows whether the index has handed the release out, it is kept; then it ends the transfer.
#[test]
fn it_waits_for_the_release_that_lay_in_a_folder() {
    let story = Story::tell(Plan::opaque(1));
    let way = story.to_receipt();
    let desk = Desk::new(Role::Source);
    desk.take_all(&way[..4]);
    desk.take_held(&story.revocation_bytes()).unwrap();
    assert_eq!(desk.take_held(&unopened(&story)).unwrap().row.state, State::of(Phase::Sealed));
    desk.take(&way[4]).unwrap();
    assert_eq!(desk.take(&way[5]).unwrap().row.state, revoked());
}

/// A delivery is a transfer of its own; the revocation is of the consent that it continues.
#[test]
fn a_delivery_under_way_ends_alike() {
    let story = Story::tell(Plan::opaque(4).continuous());
    let delivery = story.delivery(1, 400);
    let (contents, world) = (delivery.to_receipt(), World::shared());
    let no = altered(&delivery.refusal, &world.riverside.signing, |it| {
        (it.step, it.code) = (Step::Filing, Code::ConsentRevoked);
    });
    for (role, until) in [(Role::Source, 4), (Role::Destination, 3)] {
        let desk = Desk::new(role);
        desk.take_all(&story.to_receipt());
        desk.take_all(&contents[..until]);
        desk.take(&story.revocation_bytes()).unwrap();
        for content in contents[until..4].iter().chain([&no]) {
            assert!(desk.take(content).unwrap().is_new, "{role}");
        }
        assert_eq!(desk.row(delivery.id).unwrap().state, revoked(), "{role}");
        assert_eq!(desk.phase(&story), Some(Phase::Filed), "what came before stays");
    }
}
