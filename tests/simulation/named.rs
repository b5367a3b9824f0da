//! Stories that have a name: each shows what a seed meets too seldom.

use std::time::Duration;

use handover_core::artefact::Payload as _;
use handover_core::artefact::patient::ShareRelease;
use handover_core::artefact::transfer::KeyRelease;
use handover_core::transfer::Phase;

use crate::people::{Decision, Move};
use crate::story::{Fault, INDEX, Plot};

/// What a story is called, and what happens.
type Named = (&'static str, fn() -> Plot);

pub(crate) const NAMED: [Named; 6] = [
    ("a_move_in_calm_weather", calm),
    ("the_index_is_away_from_the_consent_on", index_away),
    ("the_destination_dies_at_each_of_its_first_writes", destination_dies),
    ("a_consent_is_taken_back_while_its_release_is_under_way", taken_back_before_the_release),
    ("a_consent_is_taken_back_before_the_patients_share_is_there", taken_back_before_the_share),
    (
        "a_continuous_consent_is_taken_back_while_a_delivery_is_released",
        taken_back_while_a_delivery_is_released,
    ),
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
    }
}

fn told(moves: Vec<Move>, faults: Vec<(u64, Fault)>) -> Plot {
    let faults = faults.into_iter().map(|(at, fault)| (Duration::from_secs(at), fault)).collect();
    Plot { seed: 0, moves, faults, breaks: 0, cuts: 0, last_ends: Some(Phase::Filed) }
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
    let late = Fault::Withhold {
        artefact: KeyRelease::TYPE,
        from: plan.destination,
        lasts: Duration::from_secs(130),
    };
    revoked(plan, (110, late))
}

fn taken_back(artefact: &'static str, speaks_to_source: bool) -> Plot {
    let plan = Move { decision: Decision::TakenBack, speaks_to_source, ..a_move() };
    let late = Fault::Withhold { artefact, from: plan.destination, lasts: Duration::from_secs(200) };
    revoked(plan, (0, late))
}

fn revoked(plan: Move, late: (u64, Fault)) -> Plot {
    Plot { last_ends: Some(Phase::Revoked), ..told(vec![plan], vec![late]) }
}
