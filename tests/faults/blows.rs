//! What falls on the processes, in which order, and what is looked at after each.

use std::collections::BTreeMap;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use handover_tests::moves::Victim;

use crate::checks::Checks;
use crate::load::Load;
use crate::replay::Replayer;
use crate::stage::Stage;
use crate::{clocks, cuts, damage, disks, processes};
use handover_tests::dice::Dice;

/// The longest pause between two blows, in milliseconds.
const PAUSE_MS: u64 = 300;
/// How often, at least, everything that a hospital has stored is read.
const THOROUGH: u64 = 6;
/// Moves that may begin before their turn.
const AHEAD: usize = 3;
/// How long a blow waits for work that it can fall on: those who were refused wait up to a minute.
const WORK_LIMIT: Duration = Duration::from_secs(300);

/// A kind of blow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Blow {
    /// `kill -9`, and started again after a while.
    Kill,
    /// All of them at once, started again in some order.
    KillAll,
    /// Stopped by a signal for a while: it answers nobody, and its connections stay.
    Freeze,
    /// Killed, and of what it did not flush any part is gone.
    PowerLoss,
    DiskFull,
    /// Full, while the system says that there is room.
    DiskFullUnsaid,
    DiskSlow,
    Cut,
    CutOneWay,
    Reset,
    WireSlow,
    /// Clocks jump, forwards or back, by less than is between honest ones.
    ClockMinutes,
    /// One clock jumps by hours, and back.
    ClockHours,
    DamagedStore,
    DamagedBlob,
    DamagedArrival,
    /// A member brings what others signed, in any order, twice, to whom it is not for.
    Replay,
}

/// Each kind, and how often it falls in a long run, of about a hundred times.
const KINDS: [(Blow, u64); 17] = [
    (Blow::Kill, 34),
    (Blow::KillAll, 28),
    (Blow::Freeze, 2),
    (Blow::PowerLoss, 12),
    (Blow::DiskFull, 3),
    (Blow::DiskFullUnsaid, 3),
    (Blow::DiskSlow, 3),
    (Blow::Cut, 3),
    (Blow::CutOneWay, 3),
    (Blow::Reset, 3),
    (Blow::WireSlow, 2),
    (Blow::ClockMinutes, 2),
    (Blow::ClockHours, 2),
    (Blow::DamagedStore, 3),
    (Blow::DamagedBlob, 2),
    (Blow::DamagedArrival, 2),
    (Blow::Replay, 2),
];

impl Blow {
    const fn words(self) -> &'static str {
        match self {
            Self::Kill => "a process killed (`kill -9`)",
            Self::KillAll => "all three killed at once, started in any order",
            Self::Freeze => "a process frozen for up to 3 s",
            Self::PowerLoss => "power lost: killed, and any part of what was not flushed gone",
            Self::DiskFull => "a disk full",
            Self::DiskFullUnsaid => "a disk full that says it has room",
            Self::DiskSlow => "a disk slow: up to 60 ms for each write and flush",
            Self::Cut => "wires cut, both ways",
            Self::CutOneWay => "wires cut, one way",
            Self::Reset => "connections reset",
            Self::WireSlow => "wires slow: up to 300 ms for each piece",
            Self::ClockMinutes => "clocks jumped by up to 4 minutes, forwards or back",
            Self::ClockHours => "a clock jumped ahead by up to 12 hours, and back",
            Self::DamagedStore => "files of a store damaged",
            Self::DamagedBlob => "a stored content damaged",
            Self::DamagedArrival => "a package damaged on its way in",
            Self::Replay => {
                "signed artefacts brought by a dishonest member, out of order, twice, to the wrong ones"
            }
        }
    }
}

/// How often something has happened, by its words.
pub(crate) type Counts = BTreeMap<&'static str, u64>;

/// What a blow works with.
pub(crate) struct Hand<'s> {
    pub(crate) stage: &'s Stage,
    pub(crate) load: &'s Load,
    pub(crate) dice: &'s mut Dice,
    pub(crate) counts: &'s mut Counts,
    /// Whether there is time for what takes long.
    pub(crate) is_long: bool,
}

impl Hand<'_> {
    pub(crate) fn up_to(&mut self, ms: u64) -> Duration {
        Duration::from_millis(self.dice.below(ms))
    }

    pub(crate) fn victim(&mut self) -> Victim {
        self.dice.one_of(&Victim::ALL)
    }

    pub(crate) fn hospital(&mut self) -> Victim {
        self.dice.one_of(&[Victim::Source, Victim::Destination])
    }

    pub(crate) fn count(&mut self, words: &'static str, more: u64) {
        *self.counts.entry(words).or_default() += more;
    }

    pub(crate) fn kill(&mut self, victim: Victim) -> Result<()> {
        self.stage.kill(victim)?;
        self.count(KILLED, 1);
        Ok(())
    }
}

/// Processes that were killed, whatever else fell.
pub(crate) const KILLED: &str = "processes killed in all";

pub(crate) struct Blows<'s> {
    stage: &'s Stage,
    load: &'s Load,
    dice: Dice,
    replayer: Replayer,
    pub(crate) checks: Checks,
    fallen: BTreeMap<Blow, u64>,
    counts: Counts,
    /// Of those, how many while patients were still on their way.
    under_load: u64,
}

impl<'s> Blows<'s> {
    pub(crate) fn new(stage: &'s Stage, load: &'s Load, replayer: Replayer, dice: Dice) -> Self {
        let (checks, fallen, counts) = (Checks::default(), BTreeMap::new(), Counts::new());
        Self { stage, load, dice, replayer, checks, fallen, counts, under_load: 0 }
    }

    /// Lets so many blows fall, each after somebody has come a step further since the last; looks after each.
    pub(crate) fn fall(&mut self, count: u64, only: Option<&str>) -> Result<()> {
        let is_long = count > 2 * KINDS.len() as u64;
        let order = order(&mut self.dice, count, only)?;
        for (number, blow) in (1..).zip(order) {
            self.load.open(AHEAD + usize::try_from(number * self.load.count() as u64 / count)?);
            self.wait_for_work()?;
            let begun = Instant::now();
            let (stage, load) = (self.stage, self.load);
            let hand = &mut Hand { stage, load, dice: &mut self.dice, counts: &mut self.counts, is_long };
            sleep(hand.up_to(PAUSE_MS));
            self.under_load += u64::from(!load.is_idle());
            let named = || format!("fault {number}, {blow:?}");
            strike(hand, &self.replayer, blow).with_context(named)?;
            let struck = begun.elapsed();
            let is_thorough = number % (count / THOROUGH).max(THOROUGH) == 0;
            self.checks
                .look(stage, load, &mut self.dice, is_thorough)
                .with_context(|| format!("after {}", named()))?;
            eprintln!(
                "{number}/{count} {blow:?} in {} ms, looked at in {} ms; {} of {} moves done",
                struck.as_millis(),
                begun.elapsed().saturating_sub(struck).as_millis(),
                load.done_count(),
                load.count(),
            );
            *self.fallen.entry(blow).or_default() += 1;
        }
        Ok(())
    }

    fn wait_for_work(&self) -> Result<()> {
        let (before, begun) = (self.load.steps(), Instant::now());
        while self.load.steps() == before && !self.load.is_idle() {
            ensure!(begun.elapsed() < WORK_LIMIT, "nobody comes further: {}", self.load.last_fault());
            sleep(Duration::from_millis(10));
        }
        Ok(())
    }

    /// Rows of the certificate.
    pub(crate) fn rows(&self) -> Vec<(String, String)> {
        let fallen = self.fallen.iter().map(|(blow, count)| (blow.words().to_owned(), count.to_string()));
        let mut rows: Vec<_> = fallen.collect();
        rows.push(("faults in all".to_owned(), self.fallen.values().sum::<u64>().to_string()));
        rows.push(("of these, while patients were on their way".to_owned(), self.under_load.to_string()));
        rows.extend(self.counts.iter().map(|(words, count)| ((*words).to_owned(), count.to_string())));
        let starts = self.stage.starts();
        let ms = |at: usize| starts.get(at).map_or(0, Duration::as_millis).to_string();
        let (half, last) = (ms(starts.len() / 2), ms(starts.len().saturating_sub(1)));
        rows.push((
            "starts; ready in ms: half of them, the slowest".to_owned(),
            format!("{}; {half}, {last}", starts.len()),
        ));
        rows
    }
}

/// Each kind once, in some order, then by weight; of fewer than there are kinds, some. Or one kind only.
fn order(dice: &mut Dice, count: u64, only: Option<&str>) -> Result<Vec<Blow>> {
    let is_meant = |(blow, _): &&(Blow, u64)| only.is_none_or(|only| format!("{blow:?}") == only);
    let kinds: Vec<_> = KINDS.iter().filter(is_meant).collect();
    ensure!(!kinds.is_empty(), "no such kind of fault; there are {:?}", KINDS.map(|(blow, _)| blow));
    let mut left: Vec<Blow> = kinds.iter().map(|(blow, _)| *blow).collect();
    let all: u64 = kinds.iter().map(|(_, weight)| weight).sum();
    let mut next = || {
        if !left.is_empty() {
            return left.swap_remove(dice.below(left.len() as u64) as usize);
        }
        let mut at = dice.below(all);
        let found = kinds.iter().find(|(_, weight)| {
            let is_it = at < *weight;
            at = at.saturating_sub(*weight);
            is_it
        });
        found.map_or(Blow::Kill, |(blow, _)| *blow)
    };
    Ok((0..count).map(|_| next()).collect())
}

fn strike(hand: &mut Hand<'_>, replayer: &Replayer, blow: Blow) -> Result<()> {
    match blow {
        Blow::Kill => processes::kill(hand),
        Blow::KillAll => processes::kill_all(hand),
        Blow::Freeze => processes::freeze(hand),
        Blow::PowerLoss => disks::power_loss(hand),
        Blow::DiskFull => disks::full(hand),
        Blow::DiskFullUnsaid => disks::full_unsaid(hand),
        Blow::DiskSlow => disks::slow(hand),
        Blow::Cut => cuts::both_ways(hand),
        Blow::CutOneWay => cuts::one_way(hand),
        Blow::Reset => cuts::reset(hand),
        Blow::WireSlow => cuts::slow(hand),
        Blow::ClockMinutes => clocks::minutes(hand),
        Blow::ClockHours => clocks::hours(hand),
        Blow::DamagedStore => damage::store(hand),
        Blow::DamagedBlob => damage::blob(hand),
        Blow::DamagedArrival => damage::arrival(hand),
        Blow::Replay => replayer.replay(hand),
    }
}
