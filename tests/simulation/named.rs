//! Stories that have a name: each shows what a seed meets too seldom.

use std::time::Duration;

use handover_core::artefact::Payload as _;
use handover_core::artefact::federation::Directory;
use handover_core::artefact::patient::ShareRelease;
use handover_core::artefact::recall::Recall;
use handover_core::artefact::transfer::{KeyRelease, Receipt, TransferRequest};
use handover_core::transfer::Phase;

use crate::corrections::Correction;
use crate::emergency::Emergency;
use crate::people::{Decision, Move};
use crate::plot::{Fault, INDEX, Plot, Weather};

/// What a story is called, and what happens.
type Named = (&'static str, fn() -> Plot);

pub(crate) const NAMED: [Named; 19] = [
    ("a_move_in_calm_weather", calm),
    ("the_index_is_away_from_the_consent_on", index_away),
    ("the_destination_dies_at_a_write_every_twenty_seconds", destination_dies),
    ("a_consent_is_taken_back_while_its_release_is_under_way", taken_back_before_the_release),
    ("a_consent_is_taken_back_before_the_patients_share_is_there", taken_back_before_the_share),
    (
        "a_continuous_consent_is_taken_back_while_a_delivery_is_released",
        taken_back_while_a_delivery_is_released,
    ),
    ("a_no_after_the_consent_meets_the_release_under_way", no_meets_the_release),
    ("the_index_lost_the_last_seconds_of_which_nobody_had_seen_a_page", index_lost_seconds),
    ("the_source_lost_a_receipt_that_it_had_taken", source_lost_a_receipt),
    ("the_destination_lost_a_receipt_that_the_index_alone_had", destination_lost_a_receipt),
    (
        "the_index_hears_of_a_transfer_by_its_source_after_the_destination_replaced_its_keys",
        told_of_former_keys,
    ),
    ("the_source_lost_its_quote_before_the_index_had_it", quote_lost_before_the_index_had_it),
    ("the_destination_lost_a_transfer_and_has_other_keys_since", lost_under_former_keys),
    ("the_source_lost_a_delivery_and_has_other_keys_since", lost_delivery_under_former_keys),
    ("the_source_is_asked_under_keys_of_which_it_was_not_told", not_told_of_next_keys),
    ("an_emergency_while_the_index_is_away", emergency_without_the_index),
    ("a_report_is_retracted_while_it_is_on_its_way", retracted_on_its_way),
    ("a_recall_reaches_a_destination_that_lost_the_records", recalled_from_who_lost_it),
    ("a_source_lost_what_its_recall_was_about", recalled_and_lost),
];

/// Patient 1 moves from the second hospital to the third.
fn a_move() -> Move {
    Move {
        person: 1,
        source: 1,
        destination: 2,
        decision: Decision::Yes,
        departments: None,
        begins_after: Duration::from_secs(5),
        pause: Duration::from_secs(10),
        speaks_to_source: false,
        is_referred: false,
        is_continuous: false,
        correction: None,
        forgets: None,
    }
}

fn told(moves: Vec<Move>, faults: Vec<(u64, Fault)>) -> Plot {
    let faults = faults.into_iter().map(|(at, fault)| (Duration::from_secs(at), fault)).collect();
    let (emergencies, weather) = (Vec::new(), Weather::default());
    Plot { seed: 0, moves, emergencies, faults, weather, last_ends: Some(Phase::Filed) }
}

fn calm() -> Plot {
    told(vec![a_move()], Vec::new())
}

fn index_away() -> Plot {
    let away = Fault::Kill { whom: INDEX, writes: 0, is_kept: false, away: Duration::from_secs(600) };
    told(vec![a_move()], vec![(15, away)])
}

fn destination_dies() -> Plot {
    let dies =
        |writes| Fault::Kill { whom: 2, writes, is_kept: writes % 2 == 0, away: Duration::from_secs(5) };
    told(vec![a_move()], (0..12).map(|number| (5 + 20 * number, dies(number))).collect())
}

/// The source has released when the destination, which does not know it, takes the patient's no in.
fn taken_back_before_the_release() -> Plot {
    taken_back(KeyRelease::TYPE, false)
}

/// The source has released, and its release is there, but not the patient's.
fn taken_back_before_the_share() -> Plot {
    taken_back(ShareRelease::TYPE, true)
}

/// As the first of them, with the first transfer filed and a delivery under its consent.
fn taken_back_while_a_delivery_is_released() -> Plot {
    let pause = Duration::from_secs(60);
    let plan = Move { decision: Decision::TakenBack, is_continuous: true, pause, ..a_move() };
    let late =
        Fault::Withhold { artefact: KeyRelease::TYPE, to: plan.destination, lasts: Duration::from_secs(130) };
    revoked(plan, (110, late))
}

/// It comes too late, for the release, of which the destination does not know, is out: nothing ends at one side alone.
fn no_meets_the_release() -> Plot {
    let after = Duration::from_secs(60);
    let plan = Move { decision: Decision::YesAndNo(after), speaks_to_source: true, ..a_move() };
    let (artefact, lasts) = (KeyRelease::TYPE, Duration::from_secs(200));
    let late = Fault::Withhold { artefact, to: plan.destination, lasts };
    told(vec![plan], vec![(0, late)])
}

/// Hospitals were told that their artefacts are there, and send them no more.
fn index_lost_seconds() -> Plot {
    let (age, away) = (Duration::from_secs(40), Duration::from_secs(10));
    told(vec![a_move()], vec![(10, Fault::Restore { whom: INDEX, age, away })])
}

/// Nothing that it signed itself is lost with it.
fn source_lost_a_receipt() -> Plot {
    let plan = a_move();
    lost_with_a_receipt(95, (plan.source, 90), 100)
}

/// It does not send it any more, and its source has to know.
fn destination_lost_a_receipt() -> Plot {
    let plan = a_move();
    lost_with_a_receipt(10, (plan.destination, 80), 150)
}

/// What was signed with the former keys the index takes from the destination alone, which is away.
fn told_of_former_keys() -> Plot {
    let plan = a_move();
    let (whom, lasts, away) = (plan.destination, Duration::from_secs(150), Duration::from_secs(60));
    let late = Fault::Withhold { artefact: TransferRequest::TYPE, to: INDEX, lasts };
    let dies = Fault::Kill { whom, writes: 0, is_kept: true, away };
    told(vec![plan], vec![(0, late), (90, Fault::Renew { whom }), (130, dies)])
}

/// It knows of nobody whom it could ask, and hears of it by the consent, which the index cannot take without the
/// quote; what it quoted is lost, which it says.
fn quote_lost_before_the_index_had_it() -> Plot {
    let plan = Move { pause: Duration::from_secs(30), ..a_move() };
    let [age, lasts, away] = [20, 25, 10].map(Duration::from_secs);
    let dies = Fault::Kill { whom: INDEX, writes: 0, is_kept: false, away: lasts };
    let faults = vec![(1, Fault::Restore { whom: plan.source, age, away }), (2, dies)];
    Plot { last_ends: Some(Phase::Refused), ..told(vec![plan], faults) }
}

/// Its own receipt, which comes back from others, is signed with a key that is not its own any more.
fn lost_under_former_keys() -> Plot {
    let plan = Move { is_continuous: true, ..a_move() };
    let (whom, age, away) = (plan.destination, Duration::from_secs(150), Duration::from_secs(5));
    told(vec![plan], vec![(1, Fault::Restore { whom, age, away }), (100, Fault::Renew { whom })])
}

/// The index shows it what it signed with its former keys; that the consent was taken back afterwards ends nothing.
fn lost_delivery_under_former_keys() -> Plot {
    let pause = Duration::from_secs(60);
    let plan = Move { decision: Decision::TakenBack, is_continuous: true, pause, ..a_move() };
    let (whom, age, away) = (plan.source, Duration::from_secs(250), Duration::from_secs(5));
    told(vec![plan], vec![(1, Fault::Restore { whom, age, away }), (200, Fault::Renew { whom })])
}

/// It has the index tell it of them before it refuses for good.
fn not_told_of_next_keys() -> Plot {
    let plan = Move { begins_after: Duration::from_secs(25), ..a_move() };
    let (whom, source) = (plan.destination, plan.source);
    let untold = Fault::Withhold { artefact: Directory::TYPE, to: source, lasts: Duration::from_secs(200) };
    told(vec![plan], vec![(0, untold), (1, Fault::Renew { whom })])
}

/// Everything is given out and read; the index hears of it when it is back.
fn emergency_without_the_index() -> Plot {
    let away = Fault::Kill { whom: INDEX, writes: 0, is_kept: false, away: Duration::from_secs(300) };
    let emergency =
        Emergency { person: 1, at: 2, begins_after: Duration::from_secs(20), is_everything: true };
    Plot { emergencies: vec![emergency], ..told(Vec::new(), vec![(0, away)]) }
}

/// It is sent as it was consented to, and recalled once it is filed, which waits for the patient's share.
fn retracted_on_its_way() -> Plot {
    retracted(Vec::new())
}

/// It recalls it once more, for it knows from its backup that it has to, and gives back nothing more.
fn recalled_and_lost() -> Plot {
    let (age, away) = (Duration::from_secs(110), Duration::from_secs(5));
    retracted(vec![(100, Fault::Restore { whom: a_move().source, age, away })])
}

fn retracted(more: Vec<(u64, Fault)>) -> Plot {
    let plan = Move { correction: Some(Correction::Retracted), speaks_to_source: true, ..a_move() };
    let (artefact, lasts) = (ShareRelease::TYPE, Duration::from_secs(150));
    let late = Fault::Withhold { artefact, to: plan.destination, lasts };
    told(vec![plan], [vec![(0, late)], more].concat())
}

/// There is nothing left to mark; but it is heard, and the fee goes back.
fn recalled_from_who_lost_it() -> Plot {
    let plan = Move { correction: Some(Correction::Misfiled), ..a_move() };
    let whom = plan.destination;
    let late = Fault::Withhold { artefact: Recall::TYPE, to: whom, lasts: Duration::from_secs(250) };
    let (age, away) = (Duration::from_secs(140), Duration::from_secs(5));
    told(vec![plan], vec![(0, late), (10, Fault::Restore { whom, age, away })])
}

/// The source has no receipt for so many seconds; from a second on, somebody's backup is made, and it is started on it when
/// it is so many seconds old.
fn lost_with_a_receipt(from: u64, (whom, age): (usize, u64), comes_after: u64) -> Plot {
    let plan = a_move();
    let [age, lasts, away] = [age, comes_after, 5].map(Duration::from_secs);
    let late = Fault::Withhold { artefact: Receipt::TYPE, to: plan.source, lasts };
    told(vec![plan], vec![(0, late), (from, Fault::Restore { whom, age, away })])
}

fn taken_back(artefact: &'static str, speaks_to_source: bool) -> Plot {
    let plan = Move { decision: Decision::TakenBack, speaks_to_source, ..a_move() };
    let late = Fault::Withhold { artefact, to: plan.destination, lasts: Duration::from_secs(200) };
    revoked(plan, (0, late))
}

fn revoked(plan: Move, late: (u64, Fault)) -> Plot {
    Plot { last_ends: Some(Phase::Revoked), ..told(vec![plan], vec![late]) }
}
