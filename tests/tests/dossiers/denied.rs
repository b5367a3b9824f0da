//! What a destination says against its own word: no to what it has the key to, and two words where one counts.

use handover_core::artefact::transfer::{Refusal, Step};
use handover_core::rules::Context;
use handover_core::transfer::{Phase, Role, State};
use handover_core::{Amount, Code, HospitalId};
use handover_dossier::{Dossier, DossierError, Kind, Taken, transfer_of};
use handover_seal::Ed25519;
use handover_tests::fixture::{Plan, Story, T0, World, altered};

use crate::{Desk, federation};

impl Desk {
    fn take_by(
        &self,
        content: &[u8],
        take: impl Fn(&mut Dossier<'_>, &[u8], Context<'_>) -> Result<Taken, DossierError> + Send + 'static,
    ) -> Result<Taken, Code> {
        let (keys, id, content) = (self.store.keys(), transfer_of(content)?, content.to_vec());
        let taken = self.store.write(move |txn| {
            let context = Context { federation: federation(), verifier: &Ed25519 };
            take(&mut Dossier::of(txn, &keys, id), &content, context)
        });
        self.runtime.block_on(taken).map_err(|fault: DossierError| fault.code())
    }

    fn take_instead(&self, by: &HospitalId, content: &[u8]) -> Result<Taken, Code> {
        let by = by.clone();
        self.take_by(content, move |dossier, content, context| {
            dossier.take_instead(&by, content, context, T0)
        })
    }

    pub(crate) fn take_held(&self, content: &[u8]) -> Result<Taken, Code> {
        self.take_by(content, |dossier, content, context| {
            dossier.hold_no(true);
            dossier.take_in(Role::Source, content, context, T0)
        })
    }
}

/// Riverside's no, as if it had got nothing.
fn no(story: &Story) -> Vec<u8> {
    altered(&story.failure, &World::shared().riverside.signing, |it: &mut Refusal| {
        (it.step, it.code) = (Step::Quote, Code::FeeDenied);
    })
}

/// After the release a destination's no ends nothing, and is kept for whoever judges the fee; the source's own cannot be.
#[test]
fn a_destinations_no_after_the_release_is_kept_and_ends_nothing() {
    let story = Story::tell(Plan::opaque(1).referred());
    let contents = story.to_receipt();
    for (begun, phase) in [(7, Phase::Released), (9, Phase::Filed)] {
        let desk = Desk::new(Role::Source);
        desk.take_all(&contents[..begun]);
        assert_eq!(desk.take(story.refusal.envelope()).err(), Some(Code::OutOfOrder), "its own");
        let taken = desk.take(&no(&story)).unwrap();
        assert_eq!((taken.kind(), taken.is_new, taken.row.state), (Kind::Refusal, true, State::of(phase)));
        assert!(!desk.take(&no(&story)).unwrap().is_new);
        assert!(desk.kept(story.id).contains(&(Kind::Refusal.into(), no(&story))));
        assert_eq!(desk.take(story.failure.envelope()).err(), Some(Code::Conflict), "another one");
    }
    let desk = Desk::new(Role::Destination);
    desk.take_all(&contents[..7]);
    assert_eq!(desk.take(&no(&story)).err(), Some(Code::OutOfOrder), "its own desk says no such thing");
}

/// While nobody at the source knows whether there is a release, a destination's no is kept; whichever it was.
#[test]
fn a_destinations_no_is_held_while_a_release_may_be_out() {
    let story = Story::tell(Plan::opaque(1));
    let contents = story.to_receipt();
    for (no, end) in [(no(&story), Phase::Released), (story.failure.envelope().to_vec(), Phase::Failed)] {
        let desk = Desk::new(Role::Source);
        desk.take_all(&contents[..4]);
        let taken = desk.take_held(&no).unwrap();
        assert_eq!((taken.kind(), taken.is_new), (Kind::Refusal, true));
        assert_eq!(desk.phase(&story), Some(Phase::Sealed));
        desk.take_all(&contents[4..6]);
        assert_eq!(desk.phase(&story), Some(end), "it was");
    }
    let desk = Desk::new(Role::Source);
    desk.take_all(&contents[..4]);
    desk.take_held(story.refusal.envelope()).unwrap();
    assert_eq!(desk.phase(&story), Some(Phase::Refused), "its own is said after it has asked");
}

/// What a destination signs twice counts at the index as its source has it, until something follows from it.
#[test]
fn of_two_words_of_a_destination_that_counts_on_which_its_source_acts() {
    let (world, story) = (World::shared(), Story::tell(Plan::opaque(1).referred()));
    let (contents, second) = (story.to_receipt(), story.attempt(2));
    let (source, own) = (&world.lakeside.id, &world.riverside.signing);
    let acceptance = story.acceptance.as_ref().unwrap();
    let less = altered(acceptance, own, |it| it.cap = Amount::from_minor(1, it.cap.currency()));
    let desk = Desk::new(Role::Index);
    desk.take_all(&[contents[0].clone(), contents[1].clone(), less.clone(), contents[3].clone()]);
    // The source's header is above what is here.
    assert_eq!(desk.take(&contents[4]).err(), Some(Code::CapExceeded));
    assert_eq!(desk.take(acceptance.envelope()).err(), Some(Code::Conflict));
    for other in [&world.riverside.id, &world.hillcrest.id] {
        assert_eq!(desk.take_instead(other, acceptance.envelope()).err(), Some(Code::Conflict), "{other}");
    }
    let forged = Story::signed_by(acceptance, &world.lakeside.signing);
    assert_eq!(desk.take_instead(source, &forged).err(), Some(Code::WrongSigner));
    let consent = altered(&story.consent, &story.patient.signing, |it| it.issued = T0.plus_ms(999));
    assert_eq!(desk.take_instead(source, &consent).err(), Some(Code::Conflict), "only a destination's");
    assert!(desk.take_instead(source, acceptance.envelope()).unwrap().is_new);
    desk.take(&contents[4]).unwrap();
    assert_eq!(desk.take_instead(source, &less).err(), Some(Code::Conflict), "the header stands on it");

    let asked = altered(&second.next_attempt, own, |it| it.request_key = story.grant_key.public());
    desk.take(&asked).unwrap();
    let release = second.share_release.envelope();
    assert_eq!(desk.take(release).err(), Some(Code::EvidenceMissing), "to a key that nobody has asked with");
    desk.take_instead(source, second.next_attempt.envelope()).unwrap();
    desk.take_all(&second.to_receipt());
    assert_eq!(desk.row(story.id).unwrap().state, State::at(2, Phase::Filed));
    assert_eq!(desk.take_instead(source, &asked).err(), Some(Code::Conflict), "sealed");
}
