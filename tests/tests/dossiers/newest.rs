//! The newest artefact that each hospital signed, as the others note it: by when it was signed, not by when it came.

use handover_core::artefact::transfer::{RevocationEffect, Step};
use handover_core::time::{DAY_MS, HOUR_MS, MINUTE_MS};
use handover_core::transfer::Role;
use handover_core::{Code, HospitalId, Timestamp};
use handover_dossier::{Dossier, DossierError, issued, newest_signed};
use handover_tests::fixture::{Plan, Story, T0, World, altered};
use proptest::prelude::*;

use crate::{Desk, federation};

/// When everything in the stories is past.
fn after() -> Timestamp {
    T0.plus_ms(HOUR_MS)
}

impl Desk {
    fn newest(&self, hospital: &HospitalId) -> Option<Vec<u8>> {
        let (keys, hospital) = (self.store.keys(), hospital.clone());
        let newest = self.store.read(move |txn| newest_signed(txn, &keys, &hospital));
        self.runtime.block_on(newest).unwrap()
    }

    /// Lakeside's, then Riverside's.
    fn newest_of_both(&self) -> [Option<Vec<u8>>; 2] {
        let world = World::shared();
        [self.newest(&world.lakeside.id), self.newest(&world.riverside.id)]
    }

    fn take_after(&self, id: handover_core::TransferId, content: &[u8]) -> Result<(), Code> {
        self.take_with(id, content, federation(), after()).map(drop)
    }

    fn keeps(&self, id: handover_core::TransferId, content: &[u8]) -> Result<bool, Code> {
        let (keys, content) = (self.store.keys(), content.to_vec());
        let keeps = self.store.read(move |txn| Dossier::of(txn, &keys, id).keeps(&content));
        self.runtime.block_on(keeps).map_err(|fault: DossierError| fault.code())
    }
}

/// What only the other hospital would miss is noted, and at the index what either would.
fn noted(role: Role, [source, destination]: [Option<Vec<u8>>; 2]) -> [Option<Vec<u8>>; 2] {
    match role {
        Role::Source => [None, destination],
        Role::Destination => [source, None],
        Role::Index => [source, destination],
    }
}

#[test]
fn each_notes_what_another_hospital_signed() {
    for role in Role::ALL {
        let (desk, story) = (Desk::new(*role), Story::tell(Plan::opaque(1).referred()));
        let (request, quote) = (story.request.envelope().to_vec(), story.quote.envelope().to_vec());
        let accepted = story.acceptance.as_ref().unwrap().envelope().to_vec();
        let header = story.header.envelope().to_vec();
        let (delivered, released) =
            (story.delivered.envelope().to_vec(), story.key_release.envelope().to_vec());
        let newest = [
            [None, Some(request.clone())],
            [Some(quote.clone()), Some(request)],
            [Some(quote.clone()), Some(accepted.clone())],
            // The consent and the release are the patient's.
            [Some(quote), Some(accepted.clone())],
            [Some(header.clone()), Some(accepted)],
            [Some(header), Some(delivered.clone())],
            [Some(released.clone()), Some(delivered.clone())],
            [Some(released.clone()), Some(delivered)],
            [Some(released), Some(story.receipt.envelope().to_vec())],
        ];
        assert_eq!(desk.newest_of_both(), [None, None]);
        for (content, newest) in story.to_receipt().iter().zip(newest) {
            assert_eq!(desk.keeps(story.id, content), Ok(false));
            desk.take_after(story.id, content).unwrap();
            assert_eq!(desk.newest_of_both(), noted(*role, newest), "{role}");
            assert_eq!(desk.keeps(story.id, content), Ok(true));
        }
        let other = altered(&story.receipt, &World::shared().riverside.signing, |it| it.issued = T0);
        assert_eq!(desk.keeps(story.id, &other), Ok(false), "another in its place");
        assert_eq!(desk.keeps(story.id, b"nothing"), Err(Code::Malformed));
    }
}

/// Confirmations are of either hospital: whose it is, they say. A refusal counts nothing: whoever refuses what it keeps
/// nothing of keeps only that.
#[test]
fn what_either_hospital_signs_is_noted_as_the_one_that_signed() {
    let world = World::shared();
    for role in Role::ALL {
        let story = Story::tell(Plan::opaque(1));
        let contents = story.to_receipt();
        let by_destination = altered(&story.refusal, &world.riverside.signing, |it| it.step = Step::Consent);
        for refusal in [story.refusal.envelope().to_vec(), by_destination] {
            let desk = Desk::new(*role);
            desk.take_all(&contents[..3]);
            desk.take_after(story.id, &refusal).unwrap();
            let newest = [&contents[1], &contents[0]].map(|it| Some(it.clone()));
            assert_eq!(desk.newest_of_both(), noted(*role, newest), "{role}");
        }
        let desk = Desk::new(*role);
        desk.take_all(&contents);
        desk.take_after(story.id, &story.revocation_bytes()).unwrap();
        let confirmed = story.confirmations.each_ref().map(|it| {
            let by = if it.by == world.lakeside.id { &world.lakeside } else { &world.riverside };
            altered(it, &by.signing, |it| {
                (it.effect, it.since) = (RevocationEffect::TooLate, T0.plus_ms(30 * MINUTE_MS));
            })
        });
        for content in &confirmed {
            desk.take_after(story.id, content).unwrap();
        }
        assert_eq!(desk.newest_of_both(), noted(*role, confirmed.map(Some)), "{role}");
    }
}

/// Recalls come long after what they are about; a copy for the index alone counts as any other.
#[test]
fn recalls_and_copies_are_noted() {
    let story = Story::tell(Plan::opaque(1));
    let recall = story.recall(1, story.header.fee);
    let confirmed = story.recall_confirmed(&recall);
    for role in Role::ALL {
        let desk = Desk::new(*role);
        desk.take_all(&story.to_receipt());
        for content in [recall.envelope(), confirmed.envelope()] {
            desk.take_after(story.id, content).unwrap();
        }
        let newest = [recall.envelope(), confirmed.envelope()].map(|it| Some(it.to_vec()));
        assert_eq!(desk.newest_of_both(), noted(*role, newest), "{role}");
    }
    let desk = Desk::new(Role::Index);
    let (keys, id, request) = (desk.store.keys(), story.id, story.request.envelope().to_vec());
    let copied = desk.store.write(move |txn| {
        Dossier::of(txn, &keys, id).take_copy(&request, World::context(), after()).map(drop)
    });
    desk.runtime.block_on(copied).unwrap();
    assert_eq!(desk.newest_of_both(), [None, Some(story.request.envelope().to_vec())]);
}

/// A clock that was off hides what is signed after it was set for as long as clocks may differ, and no longer.
#[test]
fn a_claim_from_the_future_counts_as_one_of_now() {
    let riverside = &World::shared().riverside.signing;
    let (first, second) = (Story::tell(Plan::opaque(1)), Story::tell(Plan::opaque(2)));
    let desk = Desk::new(Role::Source);
    desk.take_all(&first.to_receipt()[..4]);
    let ahead = altered(&first.delivered, riverside, |it| it.issued = T0.plus_ms(9_000 * DAY_MS));
    desk.take(&ahead).unwrap();
    let newest = || desk.newest(&World::shared().riverside.id);
    assert_eq!(newest(), Some(ahead.clone()));
    let soon = altered(&second.request, riverside, |it| it.issued = T0.plus_ms(4 * MINUTE_MS));
    desk.take_with(second.id, &soon, federation(), after()).unwrap();
    assert_eq!(newest(), Some(ahead));
    let later = altered(&first.receipt, riverside, |it| it.issued = T0.plus_ms(6 * MINUTE_MS));
    desk.take(first.key_release.envelope()).unwrap();
    // The header that is received was delivered under the clock that was off.
    desk.take_with(first.id, &later, federation(), after()).unwrap();
    assert_eq!(newest(), Some(later));
}

#[test]
fn artefacts_say_when_they_were_made() {
    let story = Story::tell(Plan::opaque(1));
    assert_eq!(issued(story.header.envelope()), Ok(Some(story.header.issued)));
    assert_eq!(issued(story.confirmations[0].envelope()), Ok(Some(story.confirmations[0].since)));
    assert_eq!(issued(&story.revocation_bytes()), Ok(None));
    assert_eq!(issued(b"nothing"), Err(Code::Malformed));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_index_notes_the_same_whatever_the_order(
        order in Just((0..13_usize).collect::<Vec<_>>()).prop_shuffle(),
    ) {
        let story = Story::tell(Plan::opaque(1));
        let second = story.attempt(2);
        let contents = [&story.to_receipt()[..7], &second.to_receipt()].concat();
        let desk = Desk::new(Role::Index);
        for _ in 0..contents.len() {
            for at in &order {
                match desk.take_after(story.id, &contents[*at]) {
                    Ok(()) => {}
                    Err(code) => prop_assert_eq!(code, Code::EvidenceMissing),
                }
            }
        }
        let newest = [second.key_release.envelope(), second.receipt.envelope()];
        prop_assert_eq!(desk.newest_of_both(), newest.map(|it| Some(it.to_vec())));
    }
}
