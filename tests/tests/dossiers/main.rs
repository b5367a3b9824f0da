//! Dossiers: what source, destination and index each make of the artefacts of a transfer, honest or not, in order
//! or not, once or many times.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a helper that fails is a failed test")]

mod attempts;
mod deliveries;
mod denied;
mod handing_back;
mod late;
mod newest;
mod taking_back;
mod tallies;

use handover_core::artefact::federation::{DIRECTORY_LIFE_MS, Status};
use handover_core::artefact::patient::TRANSFER_ASK_LIFE_MS;
use handover_core::artefact::transfer::RevocationEffect;
use handover_core::rules::Context;
use handover_core::transfer::{Phase, Role, State};
use handover_core::trust::Federation;
use handover_core::{Code, Timestamp, TransferId};
use handover_dossier::{Dossier, DossierError, Kind, Place, Row, Taken, active, list, transfer_of};
use handover_seal::{Ed25519, SigningKey};
use handover_store::{CellKey, Store};
use handover_tests::fixture::{Plan, Story, T0, World, altered};
use proptest::prelude::*;
use tokio::runtime::Runtime;

fn federation() -> &'static Federation {
    World::context().federation
}

/// One process's dossiers, in memory.
struct Desk {
    role: Role,
    store: Store,
    runtime: Runtime,
}

impl Desk {
    fn new(role: Role) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        Self { role, store: Store::memory(&CellKey::from_bytes([7; 32])), runtime }
    }

    fn take_with(
        &self,
        id: TransferId,
        content: &[u8],
        federation: &'static Federation,
        now: Timestamp,
    ) -> Result<Taken, Code> {
        let (keys, content, role) = (self.store.keys(), content.to_vec(), self.role);
        let taken = self.store.write(move |txn| {
            let context = Context { federation, verifier: &Ed25519 };
            Dossier::of(txn, &keys, id).take_in(role, &content, context, now)
        });
        self.runtime.block_on(taken).map_err(|fault: DossierError| fault.code())
    }

    fn take(&self, content: &[u8]) -> Result<Taken, Code> {
        self.take_with(transfer_of(content)?, content, federation(), T0)
    }

    fn row(&self, id: TransferId) -> Option<Row> {
        let keys = self.store.keys();
        self.runtime.block_on(self.store.read(move |txn| Dossier::of(txn, &keys, id).row())).unwrap()
    }

    fn phase(&self, story: &Story) -> Option<Phase> {
        self.row(story.id).map(|row| row.state.phase)
    }

    fn kept(&self, id: TransferId) -> Vec<(Place, Vec<u8>)> {
        let keys = self.store.keys();
        let kept = self.store.read(move |txn| Ok::<_, DossierError>(Dossier::of(txn, &keys, id).all()?));
        self.runtime.block_on(kept).unwrap()
    }

    fn pages(&self) -> (usize, usize) {
        let keys = self.store.keys();
        let pages = self.store.read(move |txn| {
            Ok::<_, DossierError>((active(txn, &keys, None, 100)?.len(), list(txn, &keys, None, 100)?.len()))
        });
        self.runtime.block_on(pages).unwrap()
    }

    /// Takes these in, one after another; none may be refused.
    fn take_all(&self, contents: &[Vec<u8>]) {
        for content in contents {
            self.take(content).unwrap();
        }
    }
}

/// The state after each honest artefact.
const PHASES: [Phase; 8] = [
    Phase::Requested,
    Phase::Quoted,
    Phase::Consented,
    Phase::Sealed,
    Phase::Delivered,
    Phase::Released,
    Phase::Released,
    Phase::Filed,
];

#[test]
fn every_role_follows_the_honest_story() {
    for role in Role::ALL {
        for (number, plan) in [(1, Plan::opaque(1)), (2, Plan::real(2).narrowed())] {
            let (desk, story) = (Desk::new(*role), Story::tell(plan));
            let contents = story.to_receipt();
            let mut phases = PHASES.to_vec();
            if plan.narrows {
                phases.insert(3, Phase::Consented);
            }
            for (content, phase) in contents.iter().zip(phases) {
                let taken = desk.take(content).unwrap();
                assert!(taken.is_new, "{role} {:?}", taken.kind());
                assert_eq!(taken.row.state, State::of(phase), "{role} {:?}", taken.kind());
                assert_eq!(desk.row(story.id), Some(taken.row), "{role}");
                let again = desk.take(content).unwrap();
                assert!(!again.is_new && again.row.state.phase == phase, "{role} {:?} again", again.kind());
                assert_eq!(desk.pages(), (usize::from(phase != Phase::Filed), 1), "transfer {number}");
            }
            assert_eq!(desk.kept(story.id).len(), contents.len());
            for content in &contents {
                assert!(!desk.take(content).unwrap().is_new, "{role}: everything once more");
            }
        }
    }
}

/// The hospitals take no step before the one that it follows.
#[test]
fn hospitals_take_no_step_out_of_order() {
    for role in [Role::Source, Role::Destination] {
        let story = Story::tell(Plan::opaque(1));
        let contents = story.to_receipt();
        for (skipped, code) in [
            (0, Code::EvidenceMissing),
            (1, Code::EvidenceMissing),
            (2, Code::EvidenceMissing),
            (3, Code::EvidenceMissing),
            (4, Code::OutOfOrder),
            (5, Code::OutOfOrder),
        ] {
            let desk = Desk::new(role);
            desk.take_all(&contents[..skipped]);
            let before = desk.row(story.id);
            let next = if skipped == 5 { &contents[7] } else { &contents[skipped + 1] };
            assert_eq!(desk.take(next).err(), Some(code), "{role}: without {skipped}");
            assert_eq!(desk.row(story.id), before);
            assert_eq!(desk.kept(story.id).len(), skipped, "nothing is kept of what was refused");
        }
    }
}

/// An honest source's header that names a final quote can overtake it: it is not here yet, and not wrong.
#[test]
fn a_header_waits_for_its_final_quote() {
    let (desk, story) = (Desk::new(Role::Index), Story::tell(Plan::opaque(1).narrowed()));
    let contents = story.to_receipt();
    desk.take_all(&contents[..3]);
    assert_eq!(desk.take(&contents[4]).err(), Some(Code::EvidenceMissing));
    desk.take_all(&contents[3..]);
    assert_eq!(desk.phase(&story), Some(Phase::Filed));
}

/// What was sealed under one quote cannot be given another afterwards.
#[test]
fn no_final_quote_follows_the_header() {
    let (desk, story) = (Desk::new(Role::Index), Story::tell(Plan::opaque(1)));
    desk.take_all(&story.to_receipt()[..4]);
    let hash = story.quote.hash();
    let later = altered(&story.quote, &World::shared().lakeside.signing, |it| it.narrows = Some(hash));
    assert_eq!(desk.take(&later).err(), Some(Code::QuoteMismatch));
}

#[test]
fn another_artefact_in_the_same_place_is_a_conflict() {
    let world = World::shared();
    let (lakeside, riverside) = (&world.lakeside.signing, &world.riverside.signing);
    for role in Role::ALL {
        let (desk, story) = (Desk::new(*role), Story::tell(Plan::opaque(1)));
        desk.take_all(&story.to_receipt());
        let kept = desk.kept(story.id);
        let second = T0.plus_ms(999);
        for other in [
            altered(&story.request, riverside, |it| it.issued = second),
            altered(&story.quote, lakeside, |it| (it.issued, it.priced) = (second, second)),
            altered(&story.consent, &story.patient.signing, |it| it.issued = second),
            altered(&story.header, lakeside, |it| it.issued = second),
            altered(&story.delivered, riverside, |it| it.issued = second),
            altered(&story.key_release, lakeside, |it| it.issued = second),
            altered(&story.share_release, &story.patient.signing, |it| it.issued = second),
            altered(&story.receipt, riverside, |it| it.issued = second),
        ] {
            assert_eq!(desk.take(&other).err(), Some(Code::Conflict), "{role}");
        }
        assert_eq!(desk.kept(story.id), kept, "what is kept is never replaced");
    }
    let (desk, story, other) =
        (Desk::new(Role::Source), Story::tell(Plan::opaque(1)), Story::tell(Plan::opaque(2)));
    desk.take_all(&story.to_receipt()[..1]);
    let misplaced = desk.take_with(story.id, other.request.envelope(), federation(), T0);
    assert_eq!(misplaced.err(), Some(Code::Conflict), "another transfer's artefact");
}

#[test]
fn what_belongs_to_no_transfer_is_not_taken_in() {
    let story = Story::tell(Plan::opaque(1));
    for content in
        [&b""[..], b"\xa0", b"junk", story.ask.envelope(), &story.link, story.patient.record.envelope()]
    {
        assert_eq!(transfer_of(content), Err(Code::Malformed));
    }
}

#[test]
fn new_work_needs_a_fresh_directory_with_both_hospitals_active() {
    let world = World::shared();
    let story = Story::tell(Plan::opaque(1));
    let contents = story.to_receipt();
    let late = T0.plus_ms(DIRECTORY_LIFE_MS);
    let changed = |hospital, status| -> &'static Federation {
        Box::leak(Box::new(world.verified(&world.with_status(hospital, status))))
    };
    for (hospital, status, code) in [
        (&world.lakeside, Status::Suspended, Code::HospitalSuspended),
        (&world.riverside, Status::Suspended, Code::HospitalSuspended),
        (&world.lakeside, Status::Revoked, Code::HospitalRevoked),
        (&world.riverside, Status::Revoked, Code::HospitalRevoked),
    ] {
        let changed = changed(hospital, status);
        for begun in 0..4 {
            let desk = Desk::new(Role::Source);
            desk.take_all(&contents[..begun]);
            let refused = desk.take_with(story.id, &contents[begun], changed, T0);
            assert_eq!(refused.err(), Some(code), "{status} at step {begun}");
            let expired = desk.take_with(story.id, &contents[begun], federation(), late);
            assert_eq!(expired.err(), Some(Code::DirectoryExpired), "step {begun}");
        }
        // What was sealed before may end: the evidence of the past stays evidence.
        let desk = Desk::new(Role::Source);
        desk.take_all(&contents[..4]);
        for content in &contents[4..] {
            desk.take_with(story.id, content, changed, late).unwrap();
        }
        assert_eq!(desk.phase(&story), Some(Phase::Filed));
    }
    let old = Desk::new(Role::Source).take_with(
        story.id,
        &contents[0],
        federation(),
        T0.plus_ms(TRANSFER_ASK_LIFE_MS),
    );
    assert_eq!(old.err(), Some(Code::AskExpired), "an old ask begins nothing");
}

#[test]
fn ends_are_ends() {
    let story = Story::tell(Plan::opaque(1));
    let (contents, world) = (story.to_receipt(), World::shared());
    let end = |begun: usize, ending: &[u8]| {
        let desk = Desk::new(Role::Source);
        desk.take_all(&contents[..begun]);
        let state = desk.take(ending).map(|taken| taken.row.state);
        let after = contents.get(begun).map(|next| desk.take(next).err());
        (state, after.flatten(), desk)
    };
    let exit = |phase, code| Ok(State::exit(phase, code));
    let (state, after, desk) = end(2, story.patient_refusal.envelope());
    assert_eq!((state, after), (exit(Phase::Refused, Code::PatientRefused), Some(Code::PatientRefused)));
    assert_eq!(desk.pages(), (0, 1), "over, but still listed");
    let (state, after, _) = end(3, story.refusal.envelope());
    assert_eq!((state, after), (exit(Phase::Refused, Code::NothingInScope), Some(Code::NothingInScope)));
    for begun in [3, 4, 5] {
        let (state, after, desk) = end(begun, &story.revocation_bytes());
        assert_eq!((state, after), (exit(Phase::Revoked, Code::ConsentRevoked), Some(Code::ConsentRevoked)));
        for (confirmation, by) in story.confirmations.iter().zip([&world.lakeside, &world.riverside]) {
            assert!(desk.take(confirmation.envelope()).unwrap().is_new);
            // Whose store has lost it says it once more, and nothing else.
            let again = |effect| {
                desk.take(&altered(confirmation, &by.signing, |it| {
                    (it.since, it.effect) = (it.since.plus_ms(1), effect);
                }))
            };
            assert!(!again(confirmation.effect).unwrap().is_new);
            assert_eq!(again(RevocationEffect::TooLate).err(), Some(Code::Conflict));
        }
    }
    let (state, ..) = end(6, &story.revocation_bytes());
    assert_eq!(state, Ok(State::of(Phase::Released)), "too late; kept all the same");
    let (state, after, _) = end(6, story.failure.envelope());
    assert_eq!(
        (state, after),
        (exit(Phase::Failed, Code::PackageDamaged), None),
        "the patient's release is still kept"
    );
    let (state, ..) = end(8, story.failure.envelope());
    assert_eq!(state, Err(Code::OutOfOrder), "what is filed has not failed");
    let (state, ..) = end(6, story.refusal.envelope());
    assert_eq!(state, Err(Code::OutOfOrder), "released is too late for a no");
}

fn false_revocation(story: &Story, byte: u8) -> Vec<u8> {
    let mut revocation = story.revocation.clone();
    revocation.preimage = [byte; 32];
    handover_core::codec::encode(&revocation)
}

#[test]
fn a_revocation_that_comes_before_its_consent_counts_when_the_consent_comes() {
    let story = Story::tell(Plan::opaque(1));
    let contents = story.to_receipt();
    for role in Role::ALL {
        let desk = Desk::new(*role);
        desk.take_all(&contents[..2]);
        let early = desk.take(&story.revocation_bytes()).unwrap();
        assert_eq!((early.kind(), early.is_new), (Kind::EarlyRevocation, true));
        assert_eq!(early.row.state, State::of(Phase::Quoted), "not known to be one yet");
        let taken = desk.take(&contents[2]).unwrap();
        assert_eq!((taken.kind(), taken.is_new), (Kind::Consent, true));
        assert_eq!(taken.row.state, State::exit(Phase::Revoked, Code::ConsentRevoked), "{role}");
        assert!(desk.kept(story.id).contains(&(Kind::Revocation.into(), story.revocation_bytes())));
        assert!(!desk.take(&story.revocation_bytes()).unwrap().is_new);
    }
}

#[test]
fn a_false_revocation_takes_nothing_back() {
    let story = Story::tell(Plan::opaque(1));
    let contents = story.to_receipt();
    for role in Role::ALL {
        let desk = Desk::new(*role);
        desk.take_all(&contents[..2]);
        assert!(desk.take(&false_revocation(&story, 1)).unwrap().is_new);
        // One place for what cannot be told apart yet: the true one is put off, not lost.
        for other in [false_revocation(&story, 2), story.revocation_bytes()] {
            assert_eq!(desk.take(&other).err(), Some(Code::EvidenceMissing));
        }
        desk.take(&contents[2]).unwrap();
        assert_eq!(desk.phase(&story), Some(Phase::Consented), "{role}");
        assert_eq!(desk.take(&false_revocation(&story, 1)).err(), Some(Code::RevocationMismatch));
        assert!(desk.take(&story.revocation_bytes()).unwrap().is_new);
        assert_eq!(desk.phase(&story), Some(Phase::Revoked), "{role}");
    }
}

/// Artefacts of every length around the cells' come back whole.
#[test]
fn large_artefacts_lie_in_several_cells() {
    let with = |share_bytes| Story::tell(Plan { share_bytes, ..Plan::opaque(1) });
    for target in [65_535, 65_536, 65_537, 131_071, 131_072, 131_073, 400_000] {
        let mut share_bytes: usize = target - 300;
        for _ in 0..4 {
            share_bytes = share_bytes + target - with(share_bytes).key_release.envelope().len();
        }
        let story = with(share_bytes);
        assert_eq!(story.key_release.envelope().len(), target);
        let desk = Desk::new(Role::Destination);
        desk.take_all(&story.to_receipt());
        assert!(
            desk.kept(story.id).contains(&(Kind::KeyRelease.of(1), story.key_release.envelope().to_vec()))
        );
        assert!(!desk.take(story.key_release.envelope()).unwrap().is_new);
    }
}

/// One false artefact of every kind; each is false whatever is known already.
fn false_ones(story: &Story, other: &Story) -> Vec<Vec<u8>> {
    let world = World::shared();
    let (lakeside, riverside, patient) =
        (&world.lakeside.signing, &world.riverside.signing, &story.patient.signing);
    let by: &SigningKey = &world.hillcrest.signing;
    let hillcrest = &world.hillcrest.id;
    vec![
        Story::signed_by(&story.request, by),
        altered(&story.request, by, |it| it.destination = hillcrest.clone()),
        altered(&story.request, riverside, |it| it.ask = other.ask.envelope().to_vec().into()),
        Story::signed_by(&story.quote, riverside),
        altered(&story.quote, lakeside, |it| it.request = other.request.hash()),
        Story::signed_by(&story.consent, by),
        altered(&story.consent, patient, |it| it.destination = hillcrest.clone()),
        altered(&story.consent, patient, |it| it.quote = other.quote.hash()),
        Story::signed_by(&story.header, riverside),
        altered(&story.header, lakeside, |it| {
            it.fee = handover_core::Amount::from_minor(9_999, it.fee.currency())
        }),
        Story::signed_by(&story.delivered, lakeside),
        altered(&story.delivered, riverside, |it| it.header = other.header.hash()),
        Story::signed_by(&story.key_release, riverside),
        altered(&story.key_release, lakeside, |it| it.shares = vec![9; 48].into()),
        Story::signed_by(&story.share_release, riverside),
        altered(&story.share_release, patient, |it| it.destination = hillcrest.clone()),
        Story::signed_by(&story.receipt, lakeside),
        altered(&story.receipt, riverside, |it| it.record_root = other.consent.hash()),
        Story::signed_by(&story.refusal, by),
        Story::signed_by(&story.patient_refusal, lakeside),
        Story::signed_by(&story.confirmations[0], by),
    ]
}

/// Gives the index these until nothing changes any more, as senders do that try again; checks that only what can
/// still come is put off.
fn deliver_until_settled(desk: &Desk, story: &Story, order: &[Vec<u8>], bad: &[Vec<u8>]) -> usize {
    let mut new = 0;
    loop {
        let before = new;
        for content in order {
            match desk.take(content) {
                Ok(taken) => new += usize::from(taken.is_new),
                Err(code) => assert_eq!(code, Code::EvidenceMissing),
            }
        }
        for content in bad {
            let kept = desk.kept(story.id);
            assert!(desk.take(content).is_err());
            assert_eq!(desk.kept(story.id), kept);
        }
        if new == before {
            return new;
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_index_ends_the_same_whatever_the_order(
        narrows in any::<bool>(),
        order in Just((0..9_usize).collect::<Vec<_>>()).prop_shuffle(),
        repeated in proptest::collection::vec(0..9_usize, 0..6),
        bad in proptest::collection::vec(any::<prop::sample::Index>(), 0..5),
    ) {
        let plan = if narrows { Plan::opaque(1).narrowed() } else { Plan::opaque(1) };
        let (story, other) = (Story::tell(plan), Story::tell(Plan::opaque(2)));
        let contents = story.to_receipt();
        let order: Vec<Vec<u8>> =
            order.into_iter().chain(repeated).filter_map(|at| contents.get(at).cloned()).collect();
        let all_bad = false_ones(&story, &other);
        let bad: Vec<Vec<u8>> = bad.into_iter().map(|at| all_bad[at.index(all_bad.len())].clone()).collect();

        let desk = Desk::new(Role::Index);
        let new = deliver_until_settled(&desk, &story, &order, &bad);
        prop_assert_eq!(new, contents.len(), "each is new exactly once");
        let in_order = Desk::new(Role::Index);
        in_order.take_all(&contents);
        prop_assert_eq!(desk.row(story.id), in_order.row(story.id));
        prop_assert_eq!(desk.kept(story.id), in_order.kept(story.id));
    }

    #[test]
    fn the_index_ends_revoked_whatever_the_order(order in Just((0..6_usize).collect::<Vec<_>>()).prop_shuffle()) {
        let story = Story::tell(Plan::opaque(1));
        let mut contents = story.to_receipt()[..3].to_vec();
        contents.push(story.revocation_bytes());
        contents.extend(story.confirmations.iter().map(|it| it.envelope().to_vec()));
        let order: Vec<Vec<u8>> = order.into_iter().map(|at| contents[at].clone()).collect();
        let desk = Desk::new(Role::Index);
        prop_assert_eq!(deliver_until_settled(&desk, &story, &order, &[]), contents.len());
        prop_assert_eq!(desk.phase(&story), Some(Phase::Revoked));
    }
}

/// No false artefact is taken in by anyone, whatever is there already.
#[test]
fn no_false_artefact_is_ever_taken_in() {
    let (story, other) = (Story::tell(Plan::opaque(1)), Story::tell(Plan::opaque(2)));
    let bad = false_ones(&story, &other);
    for role in Role::ALL {
        let desk = Desk::new(*role);
        for content in story.to_receipt() {
            for content in &bad {
                assert!(desk.take(content).is_err(), "{role}");
            }
            desk.take(&content).unwrap();
        }
        for content in &bad {
            assert!(desk.take(content).is_err(), "{role} at the end");
        }
        assert_eq!(desk.kept(story.id).len(), story.to_receipt().len());
    }
}
