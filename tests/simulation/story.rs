//! A story: patients move while processes are killed and lines are cut; then it gets calm, and everything has to come
//! to its end.

use std::cell::RefCell;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use futures::future::join_all;
use handover_core::Party;
use handover_core::message::Answer;
use handover_core::transfer::Phase;
use handover_net::Route;
use handover_patient::Wallet;
use handover_store::Unflushed;
use handover_tests::dice::Dice;
use tokio::time::{Instant, sleep};

use crate::clock::Virtual;
use crate::ground::{DEPARTMENTS, Ground, HOSPITALS, PATIENTS, home};
use crate::model::{Due, Played, Seen, books_agree};
use crate::network::{Fabric, Weather};
use crate::people::{Decision, Move, Mover};
use crate::places::{Hospital, IndexSeat};

/// While faults fall.
const STORM: Duration = Duration::from_secs(240);
/// For everything to come to its end in the calm after it.
const CALM: Duration = Duration::from_secs(3_600);
/// How long a process that is to die at a write may wait for one.
const DIES_WITHIN: Duration = Duration::from_secs(20);

/// What others bear with is a little more.
const AHEAD_MAX: Duration = Duration::from_secs(240);

/// What befalls whom.
#[derive(Clone, Debug)]
pub(crate) enum Fault {
    /// A process ends after so many more writes, of which the last is kept or lost; and is away for a time.
    Kill { whom: usize, writes: u64, is_kept: bool, away: Duration },
    /// Nothing gets from one to the other for a time.
    Cut { from: usize, to: usize, both_ways: bool, lasts: Duration },
    /// No artefact of a type gets to one of them for a time.
    Withhold { artefact: &'static str, from: usize, lasts: Duration },
    /// A process's clock is ahead for a time, and is set right again.
    Clock { whom: usize, ahead: Duration, lasts: Duration },
    /// A hospital says something again that somebody said.
    Replay { by: usize, to: usize, is_bent: bool },
}

/// Who the index is among the processes.
pub(crate) const INDEX: usize = HOSPITALS.len();

/// Everything that is decided before a story begins.
#[derive(Clone, Debug)]
pub(crate) struct Plot {
    pub(crate) seed: u64,
    pub(crate) moves: Vec<Move>,
    /// Each at its time.
    pub(crate) faults: Vec<(Duration, Fault)>,
    pub(crate) breaks: u64,
    pub(crate) cuts: u64,
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
            use Decision::{No, Nothing, TakenBack, Yes};
            let is_referred = dice.happens(250);
            moves.push(Move {
                person,
                source,
                destination: (source + other) % HOSPITALS.len(),
                decision: dice.one_of(&[Yes, Yes, Yes, TakenBack, TakenBack, No, Nothing]),
                departments: only,
                begins_after: seconds(&mut dice, 60),
                pause: seconds(&mut dice, 20),
                speaks_to_source: dice.happens(300),
                is_referred,
                // A delivery is paid by the patient.
                is_continuous: !is_referred && dice.happens(400),
            });
        }
        let processes = HOSPITALS.len() as u64 + 1;
        let mut faults = Vec::new();
        for _ in 0..dice.below(8) {
            let whom = usize::try_from(dice.below(processes)).unwrap_or(0);
            let other = (whom + usize::try_from(1 + dice.below(processes - 1)).unwrap_or(1)) % (INDEX + 1);
            let fault = match dice.below(5) {
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
                3 => Fault::Clock {
                    whom,
                    ahead: seconds(&mut dice, AHEAD_MAX.as_secs()),
                    lasts: seconds(&mut dice, 90),
                },
                _ => Fault::Replay { by: whom % HOSPITALS.len(), to: other, is_bent: dice.happens(300) },
            };
            faults.push((seconds(&mut dice, STORM.as_secs()), fault));
        }
        let (breaks, cuts) = (dice.one_of(&[0, 0, 20, 100]), dice.one_of(&[0, 0, 300]));
        Self { seed, moves, faults, breaks, cuts, last_ends: None }
    }
}

/// What a story came to.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) moves: usize,
    pub(crate) filed: usize,
    pub(crate) faults: usize,
    pub(crate) carried: u64,
    pub(crate) passed: Duration,
}

impl Outcome {
    pub(crate) fn add(&mut self, other: &Self) {
        self.moves += other.moves;
        self.filed += other.filed;
        self.faults += other.faults;
        self.carried += other.carried;
        self.passed += other.passed;
    }

    pub(crate) fn said(&self) -> String {
        format!(
            "{} moves, {} of them filed, {} faults, {} requests, {} hours",
            self.moves,
            self.filed,
            self.faults,
            self.carried,
            self.passed.as_secs() / 3_600
        )
    }
}

/// The stage of one story.
struct Stage {
    fabric: Fabric,
    index: IndexSeat,
    hospitals: Vec<Hospital>,
    index_addresses: Vec<String>,
    seen: Seen,
}

impl Stage {
    fn party(&self, number: usize) -> Party {
        self.hospitals.get(number).map_or(Party::Index, Hospital::party)
    }

    async fn start(&self, number: usize) -> Result<()> {
        match self.hospitals.get(number) {
            Some(hospital) if hospital.node().is_none() => {
                hospital.start(&self.fabric, &self.index_addresses).await
            }
            None if self.index.running().is_none() => self.index.start(&self.fabric).await,
            _ => Ok(()),
        }
    }

    async fn kill(&self, number: usize) -> Result<()> {
        match self.hospitals.get(number) {
            Some(hospital) => hospital.kill(&self.fabric).await,
            None => self.index.kill(&self.fabric).await,
        }
    }

    fn cells(&self, number: usize) -> handover_store::Faults {
        let disk = self.hospitals.get(number).map_or(&self.index.disk, |hospital| &hospital.disk);
        disk.cells.borrow().clone()
    }

    async fn befall(&self, at: Duration, fault: &Fault) -> Result<()> {
        sleep(at).await;
        match fault {
            Fault::Kill { whom, writes, is_kept, away } => {
                let cells = self.cells(*whom);
                let unflushed = if *is_kept { Unflushed::Kept } else { Unflushed::Lost };
                cells.fail_flush_after(*writes, unflushed);
                let begun = Instant::now();
                while cells.is_serving() && begun.elapsed() < DIES_WITHIN {
                    sleep(Duration::from_millis(5)).await;
                }
                self.kill(*whom).await?;
                sleep(*away).await;
                self.start(*whom).await?;
            }
            Fault::Cut { from, to, both_ways, lasts } => {
                let (from, to) = (self.party(*from), self.party(*to));
                self.fabric.cut(&from, &to);
                if *both_ways {
                    self.fabric.cut(&to, &from);
                }
                sleep(*lasts).await;
                self.fabric.join(&from, &to);
            }
            Fault::Withhold { artefact, from, lasts } => {
                let from = self.party(*from);
                self.fabric.withhold(artefact, &from);
                sleep(*lasts).await;
                self.fabric.let_through(artefact, &from);
            }
            Fault::Clock { whom, ahead, lasts } => {
                let clock = self.hospitals.get(*whom).map_or(&self.index.clock, |hospital| &hospital.clock);
                clock.set_ahead(*ahead);
                sleep(*lasts).await;
                clock.set_ahead(Duration::ZERO);
            }
            Fault::Replay { by, to, is_bent } => self.replay(*by, *to, *is_bent).await,
        }
        self.seen.look(&self.hospitals).await
    }

    /// A member of the federation that says what it should not: it gets an answer, or none, and nothing follows.
    async fn replay(&self, by: usize, to: usize, is_bent: bool) {
        let (Some(mut body), Some(node)) =
            (self.fabric.overheard(), self.hospitals.get(by).and_then(Hospital::node))
        else {
            return;
        };
        if is_bent {
            let at = body.len() / 2;
            if let Some(byte) = body.get_mut(at) {
                *byte ^= 0x40;
            }
        }
        let addresses = match self.hospitals.get(to) {
            None => self.index_addresses.clone(),
            Some(other) => other.node().map(|node| node.net.addresses()).unwrap_or_default(),
        };
        let route = Route { party: self.party(to), addresses };
        if let Ok(answer) = node.net.request(&route, body).await {
            // Whatever it says, it is an answer.
            let _ = Answer::decode(&answer);
        }
    }
}

/// Plays a story to its end.
pub(crate) async fn play(ground: &Ground, plot: &Plot) -> Result<Outcome> {
    let begun = Instant::now();
    let fabric = Fabric::new(plot.seed);
    let mut hospitals = Vec::new();
    for (name, disk) in HOSPITALS.iter().zip(&ground.hospitals) {
        hospitals.push(Hospital::new(name, disk.copied()?, Virtual::at(ground.at))?);
    }
    let index = IndexSeat::new(ground.index.copied()?, Virtual::at(ground.at));
    let index_addresses = ground.index_addresses.clone();
    let stage = Stage { fabric, index, hospitals, index_addresses, seen: Seen::default() };
    for number in 0..=INDEX {
        stage.start(number).await?;
    }
    stage.fabric.set_weather(Weather { breaks: plot.breaks, cuts: plot.cuts });
    let movers: Vec<Mover<'_>> = plot
        .moves
        .iter()
        .enumerate()
        .map(|(number, plan)| {
            let person = ground.people.get(plan.person).context("a patient")?;
            Ok(Mover {
                plan,
                hospitals: &stage.hospitals,
                wallet: RefCell::new(Wallet::from_bytes(&person.wallet).context("a wallet")?),
                told: RefCell::default(),
                dice: RefCell::new(Dice::new(plot.seed.wrapping_mul(31).wrapping_add(number as u64))),
                until: begun + STORM + CALM,
            })
        })
        .collect::<Result<_>>()?;
    let storm = async {
        let all = join_all(plot.faults.iter().map(|(at, fault)| stage.befall(*at, fault))).await;
        all.into_iter().collect::<Result<()>>()?;
        // Calm: everybody is there, and hears everybody.
        stage.fabric.heal();
        stage.fabric.set_weather(Weather::default());
        for number in 0..=INDEX {
            stage.start(number).await?;
        }
        anyhow::Ok(())
    };
    let moving = join_all(movers.iter().map(Mover::play));
    let (storm, moved) = tokio::join!(storm, moving);
    storm.context("the storm")?;
    let mut played = Vec::new();
    for (mover, moved) in movers.into_iter().zip(moved) {
        let person = ground.people.get(mover.plan.person).context("a patient")?;
        let played_one = Played { plan: mover.plan, person, told: mover.told.into_inner() };
        if let Err(fault) = moved {
            bail!("{fault:#}\n{}", played_one.stands(&stage.hospitals).await);
        }
        played.push(played_one);
    }
    let due = match settle(&stage, &played, begun + STORM + CALM).await {
        Ok(due) => due,
        Err(fault) => {
            let said = join_all(played.iter().map(|one| one.stands(&stage.hospitals))).await;
            return Err(fault.context(said.join("\n")));
        }
    };
    if let Some(wanted) = plot.last_ends {
        for one in &played {
            one.has_ended_as(&stage.hospitals, wanted).await?;
        }
    }
    let outcome = Outcome {
        moves: played.len(),
        filed: due.iter().filter(|due| due.fee_minor.is_some()).count(),
        faults: plot.faults.len(),
        carried: stage.fabric.carried(),
        passed: begun.elapsed(),
    };
    for number in 0..=INDEX {
        stage.kill(number).await?;
    }
    Ok(outcome)
}

/// Waits for every move to end, and looks at what is there then; what has to stand in the books.
async fn settle(stage: &Stage, played: &[Played<'_>], until: Instant) -> Result<Vec<Due>> {
    for one in played {
        while !one.is_over(&stage.hospitals).await? {
            ensure!(Instant::now() < until, "it does not end");
            sleep(Duration::from_secs(1)).await;
        }
    }
    stage.seen.look(&stage.hospitals).await?;
    let mut due = Vec::new();
    for one in played {
        due.extend(one.has_its_records(&stage.hospitals).await?);
    }
    // The last of the evidence gets to the index by itself.
    loop {
        let agreed = books_agree(&stage.index, &due).await;
        if agreed.is_ok() || Instant::now() >= until {
            return agreed.map(|()| due);
        }
        sleep(Duration::from_secs(5)).await;
    }
}
