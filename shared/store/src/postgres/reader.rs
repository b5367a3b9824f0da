//! Readers: a few threads, each with a connection that is made when it is first needed.
//!
//! Invariant: a job sees everything that was answered before it was asked, or it is not answered. A server that was
//! left behind (a primary of before) is found out by the number of the last group.

use std::rc::Rc;
use std::sync::Mutex;
use std::sync::atomic::Ordering;
use std::time::Instant;

use tokio::runtime::Runtime;
use tokio::sync::mpsc;

use super::connection::{Connection, Fault};
use super::session::Session;
use super::{AWAY_LIMIT, Answer, CONFLICT_TRIES, Shared, lock, pause, runtime};
use crate::StoreError;
use crate::engine::{Health, Job, run as run_job};
use crate::txn::ReadOnly;

struct Reader<'a> {
    shared: &'a Shared,
    runtime: Rc<Runtime>,
    session: Option<Session>,
}

/// A reader's thread: ends when the last handle goes.
pub(super) fn run(shared: &Shared, jobs: &Mutex<mpsc::Receiver<(Job, Answer)>>) {
    let runtime = match runtime() {
        Ok(runtime) => Rc::new(runtime),
        Err(error) => {
            tracing::error!(%error, "a reader of the store cannot start");
            return;
        }
    };
    let mut reader = Reader { shared, runtime, session: None };
    loop {
        let next = lock(jobs).blocking_recv();
        let Some((mut job, answer)) = next else { return };
        if answer.is_closed() {
            continue;
        }
        let _ = answer.send(reader.carry_out(&mut job));
        reader.end();
    }
}

impl Reader<'_> {
    fn carry_out(&mut self, job: &mut Job) -> Result<(), StoreError> {
        let begun = Instant::now();
        let mut tries = 0;
        loop {
            self.shared.health().require_serving()?;
            match self.attempt(job) {
                Ok(outcome) => return outcome,
                Err(Fault::Fenced(why)) => {
                    self.session = None;
                    self.shared.fail(why);
                    return Err(StoreError::Failed);
                }
                Err(Fault::Conflict) if tries < CONFLICT_TRIES => self.session = None,
                // Known to be away: no second try.
                Err(Fault::Lost(_))
                    if begun.elapsed() < AWAY_LIMIT
                        && (tries < 2 || self.shared.health() != Health::Away) =>
                {
                    self.session = None;
                }
                Err(fault) => {
                    self.session = None;
                    return Err(fault.into_error("read"));
                }
            }
            self.runtime.block_on(async { tokio::time::sleep(pause(tries)).await });
            tries = tries.saturating_add(1);
        }
    }

    /// The outer error says that the job's result does not count.
    fn attempt(&mut self, job: &mut Job) -> Result<Result<(), StoreError>, Fault> {
        let confirmed = self.shared.confirmed.load(Ordering::Acquire);
        let session = match self.session.take() {
            Some(session) if !session.connection.is_closed() => session,
            _ => Connection::open(&self.runtime, &self.shared.database)
                .and_then(Session::prepare)
                .map_err(Fault::while_connecting)?,
        };
        let session = self.session.insert(session);
        session.begin_reading(&self.shared.token, confirmed);
        let outcome = run_job(job, &mut ReadOnly(session)).map(drop);
        session.check()?;
        Ok(outcome)
    }

    /// Ends the transaction, when its job was answered already. A connection on which that fails is of no use.
    fn end(&mut self) {
        if self.session.as_ref().is_some_and(|session| session.abandon().is_err()) {
            self.session = None;
        }
    }
}
