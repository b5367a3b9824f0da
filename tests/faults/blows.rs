//! What falls on the processes.

use std::collections::BTreeMap;
use std::process::Command;
use std::sync::{PoisonError, RwLock};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use handover_scenarios::world::World;
use handover_tests::moves::{Victim, kill};

use crate::dice::Dice;
use crate::load::Load;

/// The longest pause between two blows, and the longest that a killed process stays away, in milliseconds.
const PAUSE_MS: u64 = 400;
const AWAY_MS: u64 = 2_000;
/// The longest that a process is frozen, in milliseconds.
const FROZEN_MS: u64 = 3_000;
/// How far clocks jump, in seconds: what is signed may not be further from the future than five minutes.
const JUMP_SECONDS: u64 = 4 * 60;
/// How long a blow waits for work that it can fall on.
const WORK_LIMIT: Duration = Duration::from_secs(60);

/// A kind of blow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Blow {
    /// `kill -9`, and started again after a while.
    Kill,
    /// All of them at once, started again in some order.
    KillAll,
    /// Stopped by a signal for a while: it answers nobody, and its connections stay.
    Freeze,
    /// Everybody's clock jumps, forwards or back.
    Clock,
}

impl Blow {
    const fn words(self) -> &'static str {
        match self {
            Self::Kill => "processes killed (kill -9)",
            Self::KillAll => "times that all were killed at once",
            Self::Freeze => "processes frozen for up to 3 s",
            Self::Clock => "jumps of the clock by up to 4 minutes, forwards and back",
        }
    }
}

pub(crate) struct Blows {
    dice: Dice,
    fallen: BTreeMap<Blow, u64>,
    /// Of those, how many while patients were still on their way.
    under_load: u64,
    /// How long processes took from their start until they were ready.
    starts: Vec<Duration>,
}

impl Blows {
    pub(crate) fn new(dice: Dice) -> Self {
        Self { dice, fallen: BTreeMap::new(), under_load: 0, starts: Vec::new() }
    }

    /// Lets so many blows fall, each after somebody has come a step further since the last.
    pub(crate) fn fall(&mut self, world: &RwLock<World>, load: &Load, count: u64) -> Result<()> {
        for _ in 0..count {
            let (before, begun) = (load.steps(), Instant::now());
            while load.steps() == before && !load.is_done() {
                ensure!(begun.elapsed() < WORK_LIMIT, "nobody comes further: {}", load.last_fault());
                sleep(Duration::from_millis(10));
            }
            sleep(self.up_to(PAUSE_MS));
            self.under_load += u64::from(!load.is_done());
            let blow = match self.dice.below(10) {
                0..6 => Blow::Kill,
                6 => Blow::KillAll,
                7..9 => Blow::Freeze,
                _ => Blow::Clock,
            };
            self.strike(world, blow).with_context(|| format!("{blow:?}"))?;
            *self.fallen.entry(blow).or_default() += 1;
        }
        Ok(())
    }

    fn up_to(&mut self, ms: u64) -> Duration {
        Duration::from_millis(self.dice.below(ms))
    }

    fn victim(&mut self) -> Victim {
        match self.dice.below(3) {
            0 => Victim::Source,
            1 => Victim::Destination,
            _ => Victim::Index,
        }
    }

    fn strike(&mut self, world: &RwLock<World>, blow: Blow) -> Result<()> {
        let read = || world.read().unwrap_or_else(PoisonError::into_inner);
        match blow {
            Blow::Kill => {
                let victim = self.victim();
                kill(victim.pid(&read())?)?;
                sleep(self.up_to(AWAY_MS));
                self.start(world, victim)
            }
            Blow::KillAll => {
                for victim in Victim::ALL {
                    kill(victim.pid(&read())?)?;
                }
                let mut left = Victim::ALL.to_vec();
                while !left.is_empty() {
                    let next = left.swap_remove(self.dice.below(left.len() as u64) as usize);
                    self.start(world, next)?;
                }
                Ok(())
            }
            Blow::Freeze => {
                let pid = self.victim().pid(&read())?;
                signal("-STOP", pid)?;
                sleep(self.up_to(FROZEN_MS));
                signal("-CONT", pid)
            }
            Blow::Clock => {
                let seconds = i64::try_from(self.dice.below(JUMP_SECONDS))?;
                read().set_clock(seconds)
            }
        }
    }

    fn start(&mut self, world: &RwLock<World>, victim: Victim) -> Result<()> {
        let mut world = world.write().unwrap_or_else(PoisonError::into_inner);
        let begun = Instant::now();
        victim.restart(&mut world)?;
        self.starts.push(begun.elapsed());
        Ok(())
    }

    /// Rows of the table.
    pub(crate) fn report(&self) {
        for (blow, count) in &self.fallen {
            println!("| {} | {count} |", blow.words());
        }
        println!("| of these, while patients were on their way | {} |", self.under_load);
        let mut starts = self.starts.clone();
        starts.sort_unstable();
        let ms = |at: usize| starts.get(at).map_or(0, Duration::as_millis);
        let (half, last) = (starts.len() / 2, starts.len().saturating_sub(1));
        println!("| ready again after a kill, ms: half of them, the slowest | {}, {} |", ms(half), ms(last));
    }
}

fn signal(name: &str, pid: u32) -> Result<()> {
    let status = Command::new("kill").args([name, &pid.to_string()]).status()?;
    ensure!(status.success(), "{name} {pid} failed");
    Ok(())
}
