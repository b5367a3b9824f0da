//! The patients and the desks: each move goes on whatever happens, because people give a command again that failed.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use handover_core::TransferId;
use handover_core::time::Clock as _;
use handover_scenarios::world::World;
use handover_seal::SystemClock;
use handover_tests::moves::{DESTINATION, Move, SOURCE, text};

use crate::stage::Stage;

/// How long one step may take, with all that falls on it.
const STEP_LIMIT: Duration = Duration::from_secs(300);

/// Moves to be made and made, by several threads.
#[derive(Default)]
pub(crate) struct Load {
    count: usize,
    left: Mutex<Vec<Move>>,
    done: Mutex<Vec<Arc<Move>>>,
    /// The fee of each transfer that was asked for.
    fees: Mutex<BTreeMap<String, String>>,
    number: AtomicU8,
    /// How many may have begun, so that there is work until the last fault.
    may_begin: AtomicUsize,
    begun: AtomicUsize,
    steps: AtomicU64,
    repeated: AtomicU64,
    /// Why a step was last repeated, for people.
    last_fault: Mutex<String>,
}

fn lock<T>(it: &Mutex<T>) -> MutexGuard<'_, T> {
    it.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Load {
    pub(crate) fn of(moves: Vec<Move>) -> Self {
        Self { count: moves.len(), left: Mutex::new(moves), ..Self::default() }
    }

    pub(crate) fn done(&self) -> Vec<Arc<Move>> {
        lock(&self.done).clone()
    }

    pub(crate) fn done_count(&self) -> usize {
        lock(&self.done).len()
    }

    /// Transfers that were asked for, with the fee that is agreed on for each.
    pub(crate) fn fees(&self) -> BTreeMap<String, String> {
        lock(&self.fees).clone()
    }

    pub(crate) fn asked(&self) -> Vec<String> {
        lock(&self.fees).keys().cloned().collect()
    }

    /// All moves.
    pub(crate) const fn count(&self) -> usize {
        self.count
    }

    /// Steps that were made so far.
    pub(crate) fn steps(&self) -> u64 {
        self.steps.load(Ordering::Relaxed)
    }

    pub(crate) fn repeated(&self) -> u64 {
        self.repeated.load(Ordering::Relaxed)
    }

    pub(crate) fn last_fault(&self) -> String {
        lock(&self.last_fault).clone()
    }

    /// So many may begin from now on.
    pub(crate) fn open(&self, count: usize) {
        self.may_begin.fetch_max(count, Ordering::Relaxed);
    }

    /// Whether nobody is under way and nobody may begin.
    pub(crate) fn is_idle(&self) -> bool {
        let begun = self.begun.load(Ordering::Relaxed);
        begun == self.done_count() && begun >= self.may_begin.load(Ordering::Relaxed).min(self.count)
    }

    /// Makes moves until none is left.
    pub(crate) fn work(&self, stage: &Stage, is_over: &AtomicBool) -> Result<()> {
        loop {
            let next = {
                let mut left = lock(&self.left);
                let may = self.begun.load(Ordering::Relaxed) < self.may_begin.load(Ordering::Relaxed);
                if left.is_empty() || is_over.load(Ordering::Relaxed) {
                    return Ok(());
                }
                let next = may.then(|| left.pop()).flatten();
                self.begun.fetch_add(usize::from(next.is_some()), Ordering::Relaxed);
                next
            };
            let Some(mut it) = next else {
                std::thread::sleep(Duration::from_millis(20));
                continue;
            };
            self.make(stage, &mut it, is_over)?;
            lock(&self.done).push(Arc::new(it));
        }
    }

    fn make(&self, stage: &Stage, it: &mut Move, is_over: &AtomicBool) -> Result<()> {
        // With its identifier, an ask that is given again is the same ask.
        let random = SystemClock.now().as_millis().to_be_bytes();
        let number = self.number.fetch_add(1, Ordering::Relaxed);
        let id = TransferId::new(
            SystemClock.now(),
            std::array::from_fn(|at| random.get(at).copied().unwrap_or(number)),
        );
        let id = id.to_string();
        lock(&self.fees).insert(id.clone(), it.expected.fee());
        self.step(stage, is_over, |world| it.ask_as(world, &["--transfer-id", &id]))?;
        let it = &*it;
        self.step(stage, is_over, |world| it.request(world).map(drop))?;
        self.step(stage, is_over, |world| {
            let inbox = it.wallet(world, "inbox", &[])?.json()?;
            let is_quoted = inbox.pointer("/transfers/0/quote").is_some_and(|quote| quote.is_object());
            ensure!(is_quoted, "no quote yet");
            Ok(())
        })?;
        self.step(stage, is_over, |world| it.wallet(world, "consent", &[])?.done())?;
        for at in [DESTINATION, SOURCE] {
            self.step(stage, is_over, |world| {
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
        stage: &Stage,
        is_over: &AtomicBool,
        mut command: impl FnMut(&World) -> Result<()>,
    ) -> Result<()> {
        let begun = Instant::now();
        loop {
            let given = command(&stage.world());
            let Err(fault) = given else {
                self.steps.fetch_add(1, Ordering::Relaxed);
                return Ok(());
            };
            self.repeated.fetch_add(1, Ordering::Relaxed);
            *lock(&self.last_fault) = format!("{fault:#}");
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
