//! Stories that have a name: each shows what a seed meets too seldom.

use std::time::Duration;

use crate::people::{Decision, Move};
use crate::story::{Fault, INDEX, Plot};

/// What a story is called, and what happens.
type Named = (&'static str, fn() -> Plot);

pub(crate) const NAMED: [Named; 3] = [
    ("a_move_in_calm_weather", calm),
    ("the_index_is_away_from_the_consent_on", index_away),
    ("the_destination_dies_at_each_of_its_first_writes", destination_dies),
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
    }
}

fn told(moves: Vec<Move>, faults: Vec<(u64, Fault)>) -> Plot {
    let faults = faults.into_iter().map(|(at, fault)| (Duration::from_secs(at), fault)).collect();
    Plot { seed: 0, moves, faults, breaks: 0, cuts: 0 }
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
