//! What a hospital is handed back of its transfers: only its own, all of it, in answers that fit a message.

use handover_core::codec::{self, Extensions, MAX_MESSAGE_BYTES};
use handover_core::message::{Answer, EvidenceAnswer, EvidencePlace, EvidenceQuestion};
use handover_core::time::MINUTE_MS;
use handover_core::transfer::{Phase, Role, State};
use handover_core::{Amount, HospitalId, Timestamp, TransferId};
use handover_dossier::{Between, Place, Row, evidence, transfer_of};
use handover_store::{SCAN_MAX_CELLS, StoreError, rows};
use handover_tests::fixture::{Plan, Story, T0, World, altered};

use crate::{Desk, federation};

/// From the beginning on.
const EVER: Timestamp = Timestamp::from_millis(0);

/// Whose desk it is, in the stories.
fn hospital(role: Role) -> Option<&'static HospitalId> {
    let world = World::shared();
    match role {
        Role::Source => Some(&world.lakeside.id),
        Role::Destination => Some(&world.riverside.id),
        Role::Index => None,
    }
}

impl Desk {
    fn hands_back(
        &self,
        asker: &HospitalId,
        since: Timestamp,
        after: Option<EvidencePlace>,
    ) -> EvidenceAnswer {
        let (keys, asker, own) = (self.store.keys(), asker.clone(), hospital(self.role));
        let question = EvidenceQuestion { since, after, extensions: Extensions::default() };
        let read = self.store.read(move |txn| {
            let between = own.map_or(Between::all_of(&asker), |own| Between::two(&asker, own));
            evidence(txn, &keys, between, &question)
        });
        self.runtime.block_on(read).unwrap()
    }

    /// Answer by answer, until there is no more. Each fits a message.
    fn answers(&self, asker: &HospitalId, since: Timestamp) -> Vec<Vec<Vec<u8>>> {
        let (mut answers, mut after) = (Vec::new(), None);
        loop {
            let answer = self.hands_back(asker, since, after);
            let message = Answer::encode(Ok(vec![codec::encode(&answer)]));
            assert!(message.len() <= MAX_MESSAGE_BYTES, "{} bytes", message.len());
            answers.push(answer.contents.into_iter().map(|it| it.0).collect());
            match answer.next {
                Some(next) => after = Some(next),
                None => return answers,
            }
        }
    }

    /// All that is held here for one of this role; for an index, as the other hospital of the two has it.
    pub(crate) fn hands_back_all(&self, role: Role) -> Vec<Vec<u8>> {
        let world = World::shared();
        let other = if self.role == Role::Source { &world.riverside.id } else { &world.lakeside.id };
        self.answers(hospital(role).unwrap_or(other), EVER).concat()
    }
}

fn ids(contents: &[Vec<u8>]) -> Vec<TransferId> {
    let mut ids: Vec<TransferId> = contents.iter().map(|it| transfer_of(it).unwrap()).collect();
    ids.dedup();
    ids
}

#[test]
fn nobody_is_handed_what_is_not_theirs() {
    let (world, story) = (World::shared(), Story::tell(Plan::opaque(1)));
    for role in Role::ALL {
        let desk = Desk::new(*role);
        desk.take_all(&story.to_receipt());
        let place = |given| EvidencePlace { transfer: story.id, given, extensions: Extensions::default() };
        let before = EvidencePlace {
            transfer: TransferId::new(EVER, [0; 10]),
            given: Some(0),
            extensions: Extensions::default(),
        };
        for hospital in [&world.lakeside.id, &world.riverside.id, &world.hillcrest.id] {
            // A hospital has what is between the two, so nothing with itself.
            let takes_part =
                *hospital != world.hillcrest.id && crate::handing_back::hospital(*role) != Some(hospital);
            let expected = if takes_part { story.to_receipt().len() } else { 0 };
            for after in [None, Some(place(Some(0))), Some(before.clone())] {
                let answer = desk.hands_back(hospital, EVER, after);
                assert_eq!((answer.contents.len(), answer.next), (expected, None), "{role} to {hospital}");
            }
            let behind = desk.hands_back(hospital, EVER, Some(place(None)));
            assert_eq!((behind.contents.len(), behind.next), (0, None), "{role} to {hospital}");
        }
    }
}

/// Every place has its turn once, each after those that it stands on.
#[test]
fn each_comes_after_those_that_it_stands_on() {
    let mut order: Vec<Place> = Place::in_recovery_order().collect();
    let story = Story::tell(Plan::opaque(1).referred());
    let desk = Desk::new(Role::Index);
    desk.take_all(&[story.to_receipt()[..6].to_vec(), story.attempt(2).to_receipt()].concat());
    let handed = desk.hands_back_all(Role::Source);
    let kept = desk.kept(story.id);
    let place = |content: &Vec<u8>| kept.iter().find(|(_, it)| it == content).unwrap().0;
    let at: Vec<usize> =
        handed.iter().map(|content| order.iter().position(|it| *it == place(content)).unwrap()).collect();
    assert!(at.is_sorted() && handed.len() == kept.len());
    let count = order.len();
    order.sort();
    order.dedup();
    assert_eq!(order.len(), count, "no place twice");
}

#[test]
fn only_transfers_of_which_something_came_since_are_handed_back() {
    let world = World::shared();
    let [first, second] = [1, 2].map(|number| Story::tell(Plan::opaque(number)));
    let desk = Desk::new(Role::Index);
    desk.take_all(&first.to_receipt()[..7]);
    let take = |content: &[u8], minutes| {
        let now = T0.plus_ms(minutes * MINUTE_MS);
        desk.take_with(transfer_of(content).unwrap(), content, federation(), now).unwrap();
    };
    for content in second.to_receipt() {
        take(&content, 10);
    }
    let since = |minutes| ids(&desk.answers(&world.lakeside.id, T0.plus_ms(minutes * MINUTE_MS)).concat());
    let mut both = vec![first.id, second.id];
    both.sort();
    assert_eq!(since(0), both);
    assert_eq!(since(1), [second.id]);
    assert_eq!(since(10), [second.id]);
    assert_eq!(since(11), []);
    // What changes no state has come, too: all of its transfer is handed back.
    take(first.receipt.envelope(), 12);
    take(&first.revocation_bytes(), 20);
    assert_eq!(since(11), [first.id]);
    assert_eq!(desk.answers(&world.lakeside.id, T0.plus_ms(11 * MINUTE_MS)).concat().len(), 9);
    let late = desk.take_with(first.id, first.failure.envelope(), federation(), T0.plus_ms(30 * MINUTE_MS));
    assert!(late.unwrap().is_new);
    assert_eq!(since(30), [first.id]);
}

/// What is late for the state of a hospital is something that came, too.
#[test]
fn what_is_only_kept_counts_as_something_that_came() {
    let (world, story) = (World::shared(), Story::tell(Plan::opaque(1)));
    let desk = Desk::new(Role::Destination);
    desk.take_all(&story.to_receipt()[..4]);
    desk.take_all(&story.attempt(2).to_receipt()[..2]);
    let now = T0.plus_ms(MINUTE_MS);
    let late = desk.take_with(story.id, story.delivered.envelope(), federation(), now).unwrap();
    assert!(!late.is_new);
    assert_eq!(late.row.state, State::at(2, Phase::Sealed));
    assert_eq!(desk.answers(&world.lakeside.id, now).concat().len(), 7);
}

#[test]
fn an_answer_holds_whole_transfers_up_to_its_bounds() {
    let lakeside = &World::shared().lakeside.id;
    let desk = Desk::new(Role::Index);
    for number in 0..70 {
        desk.take(Story::tell(Plan::opaque(number)).request.envelope()).unwrap();
    }
    let answers = desk.answers(lakeside, EVER);
    assert_eq!(answers.iter().map(Vec::len).collect::<Vec<_>>(), [64, 6]);
    assert!(ids(&answers.concat()).is_sorted());

    let desk = Desk::new(Role::Index);
    for number in 0..5 {
        let story = Story::tell(Plan { share_bytes: 200_000, ..Plan::opaque(number) });
        desk.take_all(&story.to_receipt());
    }
    let answers = desk.answers(lakeside, EVER);
    assert_eq!(answers.iter().map(Vec::len).collect::<Vec<_>>(), [16, 16, 8], "two of 200 kB each");
}

/// Recalls of one transfer, each as large as one can be: more than a message holds.
#[test]
fn a_transfer_that_is_too_large_for_an_answer_comes_in_parts() {
    let world = World::shared();
    let (first, story) = (Story::tell(Plan::opaque(1)), Story::tell(Plan::opaque(2)));
    let nothing = Amount::from_minor(0, story.header.fee.currency());
    let recalls: Vec<Vec<u8>> = (1..=7)
        .map(|number| {
            let recall = story.recall(number, nothing);
            altered(&recall, &world.lakeside.signing, |it| it.sealed = vec![1; 400_000].into())
        })
        .collect();
    for role in [Role::Source, Role::Destination] {
        let desk = Desk::new(role);
        desk.take_all(&first.to_receipt());
        desk.take_all(&[story.to_receipt(), recalls.clone()].concat());
        let asker = [&world.riverside.id, &world.lakeside.id][usize::from(role == Role::Destination)];
        let answers = desk.answers(asker, EVER);
        assert!(answers.len() >= 4, "{} answers", answers.len());
        let handed = answers.concat();
        assert_eq!(handed.len(), 2 * first.to_receipt().len() + recalls.len(), "each once");
        let back = Desk::new(Role::Source);
        for content in &handed {
            assert!(back.take_back(content).unwrap().is_new);
        }
        assert_eq!(back.kept(story.id), desk.kept(story.id));
    }
}

/// Transfers of others are looked at a page at a time, and say nothing.
#[test]
fn an_answer_looks_at_a_page_of_transfers() {
    let (world, story) = (World::shared(), Story::tell(Plan::opaque(1)));
    let desk = Desk::new(Role::Index);
    let keys = desk.store.keys();
    let row = |number: usize| Row {
        transfer: TransferId::new(EVER.plus_ms(i64::try_from(number).unwrap()), [1; 10]),
        role: Role::Index,
        state: State::of(Phase::Requested),
        patient: story.patient.reference(),
        source: world.hillcrest.id.clone(),
        destination: world.riverside.id.clone(),
        created: T0,
        updated: T0,
        origin: None,
        extensions: Extensions::default(),
    };
    let others: Vec<Row> = (0..SCAN_MAX_CELLS + 10).map(row).collect();
    let written = desk.store.write(move |txn| -> Result<(), StoreError> {
        for row in &others {
            let key = keys.space("transfer").raw(row.transfer.as_bytes()).build();
            rows::put(txn, &key, row)?;
        }
        Ok(())
    });
    desk.runtime.block_on(written).unwrap();
    desk.take_all(&story.to_receipt());
    let answers = desk.answers(&world.lakeside.id, EVER);
    assert_eq!(answers.iter().map(Vec::len).collect::<Vec<_>>(), [0, 8]);
}

/// One that no answer has room for is left out, so that the others come.
#[test]
fn what_fits_no_answer_is_not_in_the_way() {
    let story = Story::tell(Plan { share_bytes: MAX_MESSAGE_BYTES - 8_000, ..Plan::opaque(1) });
    let desk = Desk::new(Role::Source);
    desk.take_all(&story.to_receipt());
    let handed = desk.hands_back_all(Role::Destination);
    assert_eq!(handed.len(), story.to_receipt().len() - 1);
    assert!(!handed.contains(&story.key_release.envelope().to_vec()));
}
