//! The writer: one thread, one connection, groups of jobs.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tokio::runtime::Runtime;
use tokio::sync::{mpsc, oneshot};

use super::cache::{Cache, Cached};
use super::connection::{Connection, Fault};
use super::opening::{self, Opened, Opening};
use super::owner::OVERTAKEN;
use super::session::Session;
use super::{AWAY_LIMIT, Answer, CONFLICT_TRIES, LOSS_TRIES, Shared, owner, pause, pulse, thread};
use crate::StoreError;
use crate::confirmed::Noting;
use crate::engine::{Health, Job, Verdict, run as run_job};
use crate::tables::Appended;
use crate::txn::{Layer, Overlay, Writes};

/// Jobs that one group commits at most.
const GROUP_MAX_JOBS: usize = 100;
/// Pending bytes at which a group is committed without waiting for more jobs.
const GROUP_FULL_BYTES: usize = 8 * 1024 * 1024;
/// How often a writer without work looks after its connection.
const LOOK_PAUSE: Duration = Duration::from_secs(1);

pub(super) enum Command {
    Run(Job, Answer),
    Close(oneshot::Sender<()>),
}

/// A job of a group, and how it went when it was last run.
struct Entry {
    job: Job,
    answer: Answer,
    outcome: Result<(), StoreError>,
    /// Whether it appended rows to tables.
    has_rows: bool,
}

impl Entry {
    const fn new(job: Job, answer: Answer) -> Self {
        Self { job, answer, outcome: Ok(()), has_rows: false }
    }
}

#[derive(Default)]
struct Group {
    entries: Vec<Entry>,
    /// Who waits for the closing, if that was asked.
    closing: Option<oneshot::Sender<()>>,
    /// Whether no others join it.
    is_whole: bool,
}

impl Group {
    /// What its commit, or that there was none, means for each.
    fn settle(&mut self, committed: &Result<(), Fault>) {
        if let Err(fault) = committed {
            let refused = fault.clone().into_error("write");
            self.entries.iter_mut().for_each(|entry| entry.outcome = Err(refused.clone()));
        }
    }
}

struct Writer<'a> {
    shared: &'a Shared,
    runtime: Rc<Runtime>,
    jobs: mpsc::Receiver<Command>,
    session: Option<Session>,
    cache: Cache,
    /// The server's process of the last connection.
    backend: i32,
    /// The last group that was sent, whatever became of it.
    last_group: i64,
    /// Since when the database cannot be reached.
    away_since: Option<Instant>,
    noting: Option<Arc<Noting>>,
}

/// The writer's thread: opens the store, says how that went, serves until the last handle goes or on `Close`.
pub(super) fn run(
    shared: &Arc<Shared>,
    jobs: mpsc::Receiver<Command>,
    opening: &Opening,
    opened: &std::sync::mpsc::Sender<Result<(), StoreError>>,
) {
    let (runtime, Opened { session, last_group, noting }) = match opening::begin(shared, opening) {
        Ok(made) => made,
        Err(error) => {
            let _ = opened.send(Err(error));
            return;
        }
    };
    let noting = noting.map(Arc::new);
    let (for_pulse, pulsing) = (Arc::clone(shared), noting.clone());
    shared.confirmed.store(last_group, Ordering::Release);
    let pulse = thread("store-pulse", move || pulse::run(&for_pulse, pulsing.as_deref()));
    if let Err(error) = pulse {
        let _ = opened.send(Err(error));
        return;
    }
    let backend = session.connection.backend;
    let (session, cache, away_since) = (Some(session), Cache::default(), None);
    let mut writer =
        Writer { shared, runtime, jobs, session, cache, backend, last_group, away_since, noting };
    let _ = opened.send(Ok(()));
    let closing = writer.serve();
    writer.close();
    if let Some(answer) = closing {
        let _ = answer.send(());
    }
}

impl Writer<'_> {
    fn serve(&mut self) -> Option<oneshot::Sender<()>> {
        loop {
            let runtime = Rc::clone(&self.runtime);
            let next = async { tokio::time::timeout(LOOK_PAUSE, self.jobs.recv()).await };
            let closing = match runtime.block_on(next) {
                Ok(Some(Command::Run(job, answer))) => self.group(job, answer),
                Ok(Some(Command::Close(answer))) => Some(answer),
                Ok(None) => return None,
                // One that failed does not come back.
                Err(_) if self.shared.health().require_serving().is_err() => None,
                Err(_) => {
                    self.look();
                    None
                }
            };
            if closing.is_some() {
                return closing;
            }
        }
    }

    /// Runs one group. Returns who waits for the closing, if that was asked.
    fn group(&mut self, job: Job, answer: Answer) -> Option<oneshot::Sender<()>> {
        let mut group = Group::default();
        group.entries.push(Entry::new(job, answer));
        let committed = self.carry_out(&mut group);
        let is_refused = matches!(committed, Err(Fault::Contradicted(_) | Fault::Refused(_)));
        if is_refused && group.entries.len() > 1 && group.entries.iter().any(|entry| entry.has_rows) {
            self.carry_out_apart(&mut group);
        } else {
            group.settle(&committed);
        }
        for entry in group.entries {
            // A caller that went away has no one to tell; its transaction stands all the same.
            let _ = entry.answer.send(entry.outcome);
        }
        if self.away_since.is_some_and(|since| since.elapsed() > AWAY_LIMIT) {
            self.refuse_waiting(&mut group.closing);
        }
        group.closing
    }

    /// What appended rows is refused most likely: each of those jobs in a transaction of its own, behind all others.
    fn carry_out_apart(&mut self, group: &mut Group) {
        let (alone, others): (Vec<_>, Vec<_>) =
            std::mem::take(&mut group.entries).into_iter().partition(|entry| entry.has_rows);
        let parts = [others].into_iter().chain(alone.into_iter().map(|entry| vec![entry]));
        for entries in parts.filter(|part| !part.is_empty()) {
            let mut part = Group { entries, closing: group.closing.take(), is_whole: true };
            let committed = self.carry_out(&mut part);
            part.settle(&committed);
            group.closing = part.closing;
            group.entries.extend(part.entries);
        }
    }

    /// Tries until it is done, or is not going to be.
    fn carry_out(&mut self, group: &mut Group) -> Result<(), Fault> {
        let (mut conflicts, mut losses, mut tries) = (0, 0, 0_u32);
        loop {
            self.shared.health().require_serving().map_err(Fault::Store)?;
            // What fails takes no others with it.
            let attempted = self.attempt(group, conflicts == 0 && tries == 0 && !group.is_whole);
            let pauses = match attempted {
                Ok(()) => return Ok(()),
                Err(Fault::Conflict) if conflicts < CONFLICT_TRIES => {
                    conflicts += 1;
                    self.abandon();
                    conflicts
                }
                Err(Fault::Lost(reason)) => {
                    // One that comes back each time and is lost each time may be lost because of this group.
                    losses += u32::from(self.session.take().is_some());
                    let since = self.lost(&reason);
                    if since.elapsed() > AWAY_LIMIT || losses > LOSS_TRIES {
                        self.shared.is_away.store(since.elapsed() > AWAY_LIMIT, Ordering::Release);
                        return Err(Fault::Lost(reason));
                    }
                    tries += 1;
                    tries
                }
                Err(Fault::Fenced(why)) => {
                    self.fenced(why);
                    return Err(Fault::Fenced(why));
                }
                Err(fault) => {
                    self.abandon();
                    return Err(fault);
                }
            };
            self.sleep(pauses);
        }
    }

    /// Runs the group's jobs in one transaction, if it `may_grow` with those that came in the meantime, and commits it.
    fn attempt(&mut self, group: &mut Group, may_grow: bool) -> Result<(), Fault> {
        self.connected()?;
        self.is_back();
        let Some(session) = &self.session else { return Err(Fault::Lost("no connection".to_owned())) };
        session.begin();
        // Kept only if the transaction ends as it should.
        let cached = Cached { session, cache: RefCell::new(std::mem::take(&mut self.cache)) };
        let mut pending = Pending::default();
        let mut at = 0;
        while let Some(entry) = group.entries.get_mut(at) {
            entry.outcome = run_over(&cached, entry, &mut pending);
            session.check()?;
            at += 1;
            let has_room = may_grow
                && at < GROUP_MAX_JOBS
                && pending.bytes < GROUP_FULL_BYTES
                && group.closing.is_none();
            if at == group.entries.len() && has_room {
                match self.jobs.try_recv() {
                    Ok(Command::Run(job, answer)) => {
                        group.entries.push(Entry::new(job, answer));
                    }
                    Ok(Command::Close(answer)) => group.closing = Some(answer),
                    Err(_) => {}
                }
            }
        }
        if pending.writes.is_empty() && pending.appended.is_empty() {
            session.last_group(&self.shared.token)?;
            session.commit()?;
            self.cache = cached.cache.into_inner();
            return Ok(());
        }
        self.last_group += 1;
        session.write(&pending.writes, &pending.appended, &self.shared.token, self.last_group)?;
        let begun = Instant::now();
        let (committed, mut cache) = (session.commit(), cached.cache.into_inner());
        if let Err(Fault::Lost(reason)) = &committed {
            self.lost(reason);
            self.session = None;
            if !self.find_out(group, begun)? {
                return Err(Fault::Conflict);
            }
        } else {
            committed?;
            cache.apply(&pending.writes);
            self.cache = cache;
        }
        self.shared.confirmed.store(self.last_group, Ordering::Release);
        if let Some(noting) = &self.noting {
            noting.write(self.last_group);
        }
        Ok(())
    }

    /// Whether the last group was committed. Asks for as long as it takes, because nothing else can tell; whoever
    /// waits behind it is refused meanwhile. A database that can be reached, but does not commit (its standby is
    /// away), is away too.
    fn find_out(&mut self, group: &mut Group, begun: Instant) -> Result<bool, Fault> {
        self.shared.doubts.fetch_add(1, Ordering::AcqRel);
        let mut tries = 0;
        loop {
            let is_away = begun.elapsed() > AWAY_LIMIT;
            self.shared.is_away.fetch_or(is_away, Ordering::AcqRel);
            let asked = self.connected().and_then(|()| match &self.session {
                Some(session) => owner::was_committed(session, &self.shared.token, self.last_group),
                None => Err(Fault::Lost("no connection".to_owned())),
            });
            match asked {
                Ok(answer) => {
                    self.is_back();
                    return Ok(answer);
                }
                Err(fault @ Fault::Fenced(_)) => return Err(fault),
                Err(_) => self.session = None,
            }
            if is_away {
                self.refuse_waiting(&mut group.closing);
            }
            if group.closing.is_some() || self.jobs.is_closed() {
                return Err(Fault::Fenced("it was closed while a commit's outcome was not known"));
            }
            self.sleep(tries);
            tries = tries.saturating_add(1);
        }
    }

    /// Answers everything that waits: the database is not there.
    fn refuse_waiting(&mut self, closing: &mut Option<oneshot::Sender<()>>) {
        while closing.is_none()
            && let Ok(command) = self.jobs.try_recv()
        {
            match command {
                Command::Run(_, answer) => {
                    let reason = "it does not answer".to_owned();
                    let _ = answer.send(Err(Fault::Lost(reason).into_error("write")));
                }
                Command::Close(answer) => *closing = Some(answer),
            }
        }
    }

    /// A connection, with the lock on it, and the store still this process's.
    fn connected(&mut self) -> Result<(), Fault> {
        if self.session.as_ref().is_some_and(|session| !session.connection.is_closed()) {
            return Ok(());
        }
        self.session = None;
        let session = Connection::open(&self.runtime, &self.shared.database)
            .and_then(Session::prepare)
            .map_err(Fault::while_connecting)?;
        owner::resume(&session, &self.shared.token, self.backend, &self.shared.noted())?;
        self.backend = session.connection.backend;
        (self.session, self.cache) = (Some(session), Cache::default());
        Ok(())
    }

    /// Notes that the database does what it is asked.
    fn is_back(&mut self) {
        if self.away_since.take().is_some() {
            tracing::info!(store = %self.shared.database, "the database is back");
        }
        self.shared.is_away.store(false, Ordering::Release);
    }

    /// Notes since when the database is away; says so once.
    fn lost(&mut self, reason: &str) -> Instant {
        *self.away_since.get_or_insert_with(|| {
            tracing::warn!(store = %self.shared.database, reason, "the database was lost; trying again");
            Instant::now()
        })
    }

    /// Looks after the connection while there is nothing to do, so that the store is held, and its loss is known.
    fn look(&mut self) {
        let looked = self.connected().and_then(|()| match &self.session {
            Some(session) => session.last_group(&self.shared.token).map(drop),
            None => Ok(()),
        });
        match looked {
            Ok(()) => self.is_back(),
            Err(Fault::Fenced(why)) => self.fenced(why),
            Err(fault) => {
                self.session = None;
                self.lost(&fault.into_error("read").to_string());
                self.shared.is_away.store(true, Ordering::Release);
            }
        }
    }

    /// The store is another's by now, or not what it was. Nothing is answered from here on; what was confirmed until
    /// then has to be in what the other one took.
    fn fenced(&mut self, mut why: &'static str) {
        if why == OVERTAKEN {
            let connection = match self.session.take().filter(|session| session.abandon().is_ok()) {
                Some(session) => Ok(session.connection),
                None => Connection::open(&self.runtime, &self.shared.database),
            };
            let compared = connection.and_then(|it| owner::overtaken(&it, &self.shared.noted()));
            if let Ok(Fault::Fenced(found)) = compared {
                why = found;
            }
        }
        self.session = None;
        self.shared.fail(why);
    }

    /// Ends what is left of a transaction; a connection on which that fails is given up.
    fn abandon(&mut self) {
        if self.session.as_ref().is_some_and(|session| session.abandon().is_err()) {
            self.session = None;
        }
    }

    fn sleep(&self, tries: u32) {
        self.runtime.block_on(async { tokio::time::sleep(pause(tries)).await });
    }

    fn close(&mut self) {
        if self.shared.health() != Health::Failed {
            self.shared.health.store(Health::Closed as u8, Ordering::Release);
        }
        // From here on `send` fails; what is still queued is answered with Closed by dropping its answer.
        self.jobs.close();
        while self.jobs.try_recv().is_ok() {}
        if let Some(session) = self.session.take() {
            let _ = owner::unlock(&session.connection);
        }
    }
}

/// What a group is going to write.
#[derive(Default)]
struct Pending {
    writes: Writes,
    appended: Appended,
    bytes: usize,
}

/// Runs one job over the database and the group's pending writes, and adds its own to them if it commits.
fn run_over(cached: &Cached<'_>, entry: &mut Entry, pending: &mut Pending) -> Result<(), StoreError> {
    entry.has_rows = false;
    let below = Layer { below: cached, writes: &pending.writes };
    let mut txn = Overlay::new(&below);
    if run_job(&mut entry.job, &mut txn)? == Verdict::Commit {
        let (writes, appended, bytes) = txn.into_all();
        entry.has_rows = !appended.is_empty();
        pending.writes.extend(writes);
        pending.appended.extend(appended);
        pending.bytes = pending.bytes.saturating_add(bytes);
    }
    Ok(())
}
