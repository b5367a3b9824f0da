//! What is decided before a story begins: who moves, and what befalls whom and when.

use std::time::Duration;

use handover_core::transfer::Phase;
use handover_tests::dice::Dice;

use crate::corrections::Correction;
use crate::emergency::Emergency;
use crate::ground::{DEPARTMENTS, HOSPITALS, PATIENTS, home};
use crate::lies::Lie;
use crate::people::{Decision, Move};

/// While faults fall.
pub(crate) const STORM: Duration = Duration::from_secs(240);
/// What others bear with is a little more.
const AHEAD_MAX: Duration = Duration::from_secs(240);

/// What befalls whom.
#[derive(Clone, Debug)]
pub(crate) enum Fault {
    /// A process ends after so many more writes, of which the last is kept or lost; and is away for a time.
    Kill { whom: usize, writes: u64, is_kept: bool, away: Duration },
    /// A process ends, and is started after a time on a backup that is so old.
    Restore { whom: usize, age: Duration, away: Duration },
    /// Nothing gets from one to the other for a time.
    Cut { from: usize, to: usize, both_ways: bool, lasts: Duration },
    /// No artefact of a type gets to one of them for a time.
    Withhold { artefact: &'static str, to: usize, lasts: Duration },
    /// A process's clock is ahead for a time, and is set right again.
    Clock { whom: usize, ahead: Duration, lasts: Duration },
    /// A hospital's keys are replaced.
    Renew { whom: usize },
    /// Somebody says what somebody said.
    Lie { by: usize, to: usize, how: Lie },
}

/// Who the index is among the processes.
pub(crate) const INDEX: usize = HOSPITALS.len();

/// How bad the network is, in events per thousand.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Weather {
    /// Requests whose line breaks before they arrive, or before their answer does.
    pub(crate) breaks: u64,
    /// Package streams that are cut somewhere in their first part.
    pub(crate) cuts: u64,
}

/// Everything that is decided before a story begins.
#[derive(Clone, Debug)]
pub(crate) struct Plot {
    pub(crate) seed: u64,
    pub(crate) moves: Vec<Move>,
    pub(crate) emergencies: Vec<Emergency>,
    /// Each at its time.
    pub(crate) faults: Vec<(Duration, Fault)>,
    pub(crate) weather: Weather,
    /// How the last transfer of each move has to end, where the plot leaves no doubt.
    pub(crate) last_ends: Option<Phase>,
}

impl Plot {
    /// The story of a seed.
    pub(crate) fn of(seed: u64) -> Self {
        let mut dice = Dice::new(seed);
        let seconds = |dice: &mut Dice, most: u64| Duration::from_millis(dice.below(most * 1_000));
        let count = usize::try_from(1 + dice.below(3)).unwrap_or(1);
        let first = dice.below(PATIENTS as u64);
        let mut moves = Vec::new();
        for number in 0..count {
            // Each patient once.
            let person = (usize::try_from(first).unwrap_or(0) + number) % PATIENTS;
            let source = home(person);
            let other = usize::try_from(1 + dice.below(2)).unwrap_or(1);
            let only = dice.one_of(&[None, None, Some(vec![DEPARTMENTS[0]]), Some(vec![DEPARTMENTS[1]])]);
            use Decision::{No, Nothing, TakenBack, Yes, YesAndNo};
            let is_referred = dice.happens(250);
            let torn = YesAndNo(seconds(&mut dice, 15));
            moves.push(Move {
                person,
                source,
                destination: (source + other) % HOSPITALS.len(),
                decision: dice.one_of(&[Yes, Yes, Yes, TakenBack, TakenBack, No, Nothing, torn]),
                departments: only,
                begins_after: seconds(&mut dice, 60),
                pause: seconds(&mut dice, 20),
                speaks_to_source: dice.happens(300),
                is_referred,
                // A delivery is paid by the patient.
                is_continuous: !is_referred && dice.happens(400),
                correction: None,
                forgets: None,
            });
        }
        let processes = HOSPITALS.len() as u64 + 1;
        let mut faults = Vec::new();
        for _ in 0..dice.below(8) {
            let whom = usize::try_from(dice.below(processes)).unwrap_or(0);
            let other = (whom + usize::try_from(1 + dice.below(processes - 1)).unwrap_or(1)) % (INDEX + 1);
            let fault = match dice.below(7) {
                0 | 1 => Fault::Kill {
                    whom,
                    writes: dice.below(12),
                    is_kept: dice.happens(500),
                    away: seconds(&mut dice, 90),
                },
                2 => Fault::Cut {
                    from: whom,
                    to: other,
                    both_ways: dice.happens(500),
                    lasts: seconds(&mut dice, 120),
                },
                3 => Fault::Restore { whom, age: seconds(&mut dice, 90), away: seconds(&mut dice, 60) },
                4 => Fault::Clock {
                    whom,
                    ahead: seconds(&mut dice, AHEAD_MAX.as_secs()),
                    lasts: seconds(&mut dice, 90),
                },
                5 => Fault::Renew { whom: whom % HOSPITALS.len() },
                _ => Fault::Lie {
                    by: whom,
                    to: other,
                    how: dice.one_of(&[Lie::Repeated, Lie::Bent, Lie::Forged, Lie::Forged]),
                },
            };
            faults.push((seconds(&mut dice, STORM.as_secs()), fault));
        }
        let weather = Weather { breaks: dice.one_of(&[0, 0, 20, 100]), cuts: dice.one_of(&[0, 0, 300]) };
        let mut emergencies = Vec::new();
        if dice.happens(300) {
            let person = usize::try_from(dice.below(PATIENTS as u64)).unwrap_or(0);
            let other = usize::try_from(1 + dice.below(2)).unwrap_or(1);
            emergencies.push(Emergency {
                person,
                at: (home(person) + other) % HOSPITALS.len(),
                begins_after: seconds(&mut dice, 120),
                is_everything: dice.happens(500),
            });
        }
        for plan in moves.iter_mut().filter(|it| it.decision.begins_with_yes()) {
            use Correction::{Amended, Misfiled, Retracted};
            plan.correction = dice.one_of(&[None, None, Some(Amended), Some(Retracted), Some(Misfiled)]);
            let is_awaited = emergencies.iter().any(|emergency| emergency.person == plan.person);
            if !plan.is_continuous && !is_awaited && dice.happens(250) {
                plan.forgets = Some(dice.one_of(&[plan.source, plan.destination]));
            }
        }
        Self { seed, moves, emergencies, faults, weather, last_ends: None }
    }
}
