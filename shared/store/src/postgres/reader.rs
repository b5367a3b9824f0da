//! Readers: a few threads, each with a connection that is made when it is first needed.
//!
//! Invariant: a job sees everything that was answered before it was asked, or it is not answered. A server that was
//! left behind (a primary of before) is found out by the number of the last group. Nor does it see what is not
//! confirmed: what a standby lacks can be gone again.

use std::rc::Rc;
use std::sync::Mutex;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tokio::runtime::Runtime;
use tokio::sync::mpsc;

use super::connection::{Connection, Fault};
use super::session::Session;
use super::{AWAY_LIMIT, CONFLICT_TRIES, Question, Shared, lock, pause, runtime};
use crate::StoreError;
use crate::engine::{Health, Job, run as run_job};
use crate::txn::ReadOnly;

/// How long is waited between two looks whether what was read is confirmed.
const CONFIRM_PAUSE: Duration = Duration::from_millis(1);

struct Reader<'a> {
    shared: &'a Shared,
    runtime: Rc<Runtime>,
    session: Option<Session>,
}

/// A reader's thread: ends when the last handle goes.
pub(super) fn run(shared: &Shared, jobs: &Mutex<mpsc::Receiver<Question>>) {
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
        let Some((mut job, answer, since)) = next else { return };
        if answer.is_closed() {
            continue;
        }
        // A host that swallows everything holds each reader for a while: nobody waits for all who came before.
        if shared.health() == Health::Away || since.elapsed() > AWAY_LIMIT {
            let _ = answer.send(Err(Fault::Lost("it does not answer".to_owned()).into_error("read")));
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
            match self.attempt(job, begun).map_err(Fault::while_reading) {
                Ok(outcome) => return outcome,
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
    fn attempt(&mut self, job: &mut Job, begun: Instant) -> Result<Result<(), StoreError>, Fault> {
        let doubts = self.shared.doubts.load(Ordering::Acquire);
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
        // What is committed and not confirmed may be nowhere but at this server yet. Its answer is on its way most
        // likely; when it had to be asked, this reading may be of a server that was left behind.
        while session.seen() > self.shared.confirmed.load(Ordering::Acquire) {
            if begun.elapsed() > AWAY_LIMIT {
                return Err(Fault::Lost("what it shows is not confirmed".to_owned()));
            }
            self.shared.health().require_serving().map_err(Fault::Store)?;
            self.runtime.block_on(async { tokio::time::sleep(CONFIRM_PAUSE).await });
        }
        if self.shared.doubts.load(Ordering::Acquire) != doubts {
            return Err(Fault::Conflict);
        }
        Ok(outcome)
    }

    /// Ends the transaction, when its job was answered already. A connection on which that fails is of no use.
    fn end(&mut self) {
        if self.session.as_ref().is_some_and(|session| session.abandon().is_err()) {
            self.session = None;
        }
    }
}
