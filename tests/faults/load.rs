//! The patients and the desks: each move goes on whatever happens, because people give a command again that failed.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use handover_core::TransferId;
use handover_core::time::Clock as _;
use handover_scenarios::world::World;
use handover_seal::SystemClock;
use handover_tests::moves::{DESTINATION, Move, SOURCE, text};

/// How long one step may take, with all that falls on it.
const STEP_LIMIT: Duration = Duration::from_secs(180);

/// Moves to be made and made, by several threads.
#[derive(Default)]
pub(crate) struct Load {
    left: Mutex<Vec<Move>>,
    done: Mutex<Vec<Move>>,
    asked: AtomicU8,
    steps: AtomicU64,
    repeated: AtomicU64,
    /// Why a step was last repeated, for people.
    last_fault: Mutex<String>,
}

impl Load {
    pub(crate) fn of(moves: Vec<Move>) -> Self {
        Self { left: Mutex::new(moves), ..Self::default() }
    }

    pub(crate) fn done(self) -> Vec<Move> {
        self.done.into_inner().unwrap_or_else(PoisonError::into_inner)
    }

    /// Steps that were made so far.
    pub(crate) fn steps(&self) -> u64 {
        self.steps.load(Ordering::Relaxed)
    }

    pub(crate) fn repeated(&self) -> u64 {
        self.repeated.load(Ordering::Relaxed)
    }

    pub(crate) fn last_fault(&self) -> String {
        self.last_fault.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn is_done(&self) -> bool {
        self.left.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    /// Makes moves until none is left.
    pub(crate) fn work(&self, world: &RwLock<World>, is_over: &AtomicBool) -> Result<()> {
        loop {
            let next = self.left.lock().unwrap_or_else(PoisonError::into_inner).pop();
            let Some(mut it) = next else { return Ok(()) };
            self.make(world, &mut it, is_over)?;
            self.done.lock().unwrap_or_else(PoisonError::into_inner).push(it);
        }
    }

    fn make(&self, world: &RwLock<World>, it: &mut Move, is_over: &AtomicBool) -> Result<()> {
        // With its identifier, an ask that is given again is the same ask.
        let random = SystemClock.now().as_millis().to_be_bytes();
        let number = self.asked.fetch_add(1, Ordering::Relaxed);
        let id = TransferId::new(
            SystemClock.now(),
            std::array::from_fn(|at| random.get(at).copied().unwrap_or(number)),
        );
        let id = id.to_string();
        self.step(world, is_over, |world| it.ask_as(world, &["--transfer-id", &id]))?;
        let it = &*it;
        self.step(world, is_over, |world| it.request(world).map(drop))?;
        self.step(world, is_over, |world| {
            let inbox = it.wallet(world, "inbox", &[])?.json()?;
            let is_quoted = inbox.pointer("/transfers/0/quote").is_some_and(|quote| quote.is_object());
            ensure!(is_quoted, "no quote yet");
            Ok(())
        })?;
        self.step(world, is_over, |world| it.wallet(world, "consent", &[])?.done())?;
        for at in [DESTINATION, SOURCE] {
            self.step(world, is_over, |world| {
                let shown = it.show(world, at)?;
                ensure!(text(&shown, "state") == "filed", "not filed at {at} yet: {shown}");
                Ok(())
            })?;
        }
        Ok(())
    }

    /// Gives a command until it is done.
    fn step(
        &self,
        world: &RwLock<World>,
        is_over: &AtomicBool,
        mut command: impl FnMut(&World) -> Result<()>,
    ) -> Result<()> {
        let begun = Instant::now();
        loop {
            let given = command(&world.read().unwrap_or_else(PoisonError::into_inner));
            let Err(fault) = given else {
                self.steps.fetch_add(1, Ordering::Relaxed);
                return Ok(());
            };
            self.repeated.fetch_add(1, Ordering::Relaxed);
            *self.last_fault.lock().unwrap_or_else(PoisonError::into_inner) = format!("{fault:#}");
            if is_over.load(Ordering::Relaxed) {
                bail!("given up: a process cannot be started again");
            }
            if begun.elapsed() > STEP_LIMIT {
                return Err(fault.context(format!("not done within {} s", STEP_LIMIT.as_secs())));
            }
            // Lets who starts a process again have the world.
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}
