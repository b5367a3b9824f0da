//! Opening a store in a database, and standing by while another process has it.
//!
//! Who stands by looks at the lock, and at the owner's signs of life by its own monotonic clock. It takes the store when
//! the lock is free; when there is no sign of life for long, it ends the connection that holds the lock: the owner's
//! process hangs, or its machine is gone. Nothing depends on that being so, because an owner that was overtaken is
//! refused by its token.

use std::path::PathBuf;
use std::rc::Rc;
use std::time::{Duration, Instant};

use handover_seal::{OsRandom, Secret32};
use tokio::runtime::Runtime;
use tokio::sync::mpsc;

use super::connection::{Connection, Fault};
use super::session::Session;
use super::{AWAY_LIMIT, Shared, owner, pause, place, runtime, schema};
use crate::StoreError;
use crate::confirmed::{Confirmed, Noting};
use crate::meta::{LIFE_KEY, META_KEY, MOVE_KEY, Meta};
use crate::txn::View as _;

/// How long an opening waits for a lock: the server lets go of it a little after its holder is gone.
const LOCK_LIMIT: Duration = Duration::from_secs(5);
/// How often who stands by looks.
const LOOK_PAUSE: Duration = Duration::from_millis(300);
/// Who did not look for that long knows nothing of the time between.
const LOOK_GAP: Duration = Duration::from_secs(2);
/// How long an owner may give no sign of life.
const SILENCE_LIMIT: Duration = Duration::from_secs(8);
/// How long a database that comes back is left to its owner, which has to find it, too.
const OWNER_FIRST: Duration = Duration::from_secs(4);

/// What a process that stands by waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Where the store is.
    pub store: String,
    /// Which process has it; `None` while the database does not answer.
    pub serving: Option<String>,
}

/// Who is told what is waited for. Nobody waits any more once it is closed.
pub(crate) type Told = mpsc::UnboundedSender<Standing>;

/// What an opening needs besides the database.
pub(crate) struct Opening {
    pub(crate) meta: Meta,
    /// The note beside the data folder.
    pub(crate) note: Option<PathBuf>,
    /// Whether to stand by while another process has the store.
    pub(crate) told: Option<Told>,
}

/// A store that this process has.
pub(super) struct Opened {
    pub(super) session: Session,
    pub(super) last_group: i64,
    pub(super) noting: Option<Noting>,
}

/// Opens the store: the lock, the tables, the format, then the ownership.
pub(super) fn open(shared: &Shared, runtime: &Rc<Runtime>, opening: &Opening) -> Result<Opened, StoreError> {
    let noted = opening.note.as_deref().map(Confirmed::read).transpose()?.flatten();
    // Who moves a store or accepts a loss has to get at it.
    let noted = noted.filter(|_| opening.meta.is_for_use());
    let begun = Instant::now();
    let (mut tries, mut locked, mut standby) = (0, None, None);
    loop {
        let opened = locked
            .take()
            .map_or_else(|| locked_connection(shared, runtime), Ok)
            .and_then(|connection| open_once(shared, connection, opening, noted.as_ref()));
        let is_taken = matches!(opened, Err(Fault::Store(StoreError::InUse { .. })));
        match (opened, &opening.told) {
            // Whoever stood by goes on with that when the database is lost in this moment.
            (Err(fault), Some(told))
                if is_taken || (standby.is_some() && matches!(fault, Fault::Lost(_) | Fault::Conflict)) =>
            {
                let standby =
                    standby.get_or_insert_with(|| Standby::new(shared, runtime, noted.as_ref(), told));
                locked = Some(standby.wait()?);
            }
            // It may be starting at this moment, as may this process.
            (Err(Fault::Lost(_) | Fault::Conflict), _) if begun.elapsed() < AWAY_LIMIT => {
                runtime.block_on(async { tokio::time::sleep(pause(tries)).await });
                tries = tries.saturating_add(1);
            }
            (opened, _) => return opened.map_err(|fault| fault.into_error("open the store")),
        }
    }
}

/// A connection with the lock on it.
fn locked_connection(shared: &Shared, runtime: &Rc<Runtime>) -> Result<Connection, Fault> {
    let connection = Connection::open(runtime, &shared.database)?;
    let end = Instant::now() + LOCK_LIMIT;
    let mut tries = 0;
    while !owner::lock(&connection)? {
        if Instant::now() >= end {
            let by = owner::see(&connection)?.holder.unwrap_or_else(|| "another process".to_owned());
            return Err(Fault::Store(StoreError::InUse { folder: place(&shared.database), by }));
        }
        runtime.block_on(async { tokio::time::sleep(pause(tries)).await });
        tries = tries.saturating_add(1);
    }
    Ok(connection)
}

fn open_once(
    shared: &Shared,
    connection: Connection,
    opening: &Opening,
    noted: Option<&Confirmed>,
) -> Result<Opened, Fault> {
    let meta = &opening.meta;
    schema::migrate(&connection, meta)?;
    let session = Session::prepare(connection)?;
    let (format, mark, life) = (session.get(META_KEY), session.get(MOVE_KEY), session.get(LIFE_KEY));
    let is_empty = session.scan(&[], None, 1).map(|found| found.is_empty());
    session.check()?;
    let admitted = format.and_then(|format| {
        let mut first = meta.admit(format.as_deref(), is_empty?)?;
        meta.admit_mark(mark?.as_deref())?;
        if let Some(life) = life? {
            return Ok((first, life));
        }
        meta.admit_new()?;
        let life = new_life();
        first.push((LIFE_KEY.to_vec(), life.clone()));
        Ok((first, life))
    });
    let (first, life) = admitted.map_err(Fault::Store)?;
    if let Some(noted) = noted {
        owner::compare(&session.connection, noted)?;
    }
    if let Some(tables) = shared.database.tables().filter(|_| meta.is_for_use()) {
        schema::migrate_tables(&session.connection, tables)?;
    }
    let (keys, values): (Vec<_>, Vec<_>) = first.into_iter().unzip();
    if !keys.is_empty() {
        let all = "INSERT INTO cells (key, value) SELECT * FROM unnest($1::bytea[], $2::bytea[])";
        session.connection.query(all, &[&keys, &values])?;
    }
    let last_group = owner::take(&session.connection, &shared.token, &shared.holder)?;
    let life = shared.life.get_or_init(|| life).clone();
    let confirmed = |place| Confirmed { group: last_group, life, token: shared.token.to_vec(), place };
    let noting =
        opening.note.as_deref().map(|path| Noting::begin(path, &confirmed(shared.database.to_string())));
    Ok(Opened { session, last_group, noting: noting.transpose().map_err(Fault::Store)? })
}

/// What tells a life of a store from another one.
pub(crate) fn new_life() -> Vec<u8> {
    Secret32::generate(&mut OsRandom).expose().iter().take(16).copied().collect()
}

/// A process that stands by.
struct Standby<'a> {
    shared: &'a Shared,
    runtime: Rc<Runtime>,
    noted: Option<&'a Confirmed>,
    told: &'a Told,
    connection: Option<Connection>,
    /// The owner comes first until then.
    patient_until: Instant,
    /// What was seen last, and since when nothing has changed.
    seen: Option<owner::Seen>,
    silent_since: Instant,
    looked: Option<Instant>,
    said: Option<Standing>,
}

impl<'a> Standby<'a> {
    fn new(shared: &'a Shared, runtime: &Rc<Runtime>, noted: Option<&'a Confirmed>, told: &'a Told) -> Self {
        let (runtime, now) = (Rc::clone(runtime), Instant::now());
        let (connection, seen, looked, said) = (None, None, None, None);
        let (patient_until, silent_since) = (now, now);
        Self { shared, runtime, noted, told, connection, patient_until, seen, silent_since, looked, said }
    }

    /// Waits for the lock, for as long as somebody waits for this; the connection that has it.
    fn wait(&mut self) -> Result<Connection, StoreError> {
        while !self.told.is_closed() {
            match self.look() {
                Ok(true) => {
                    if let Some(connection) = self.connection.take() {
                        return Ok(connection);
                    }
                }
                Ok(false) => {}
                Err(fault @ (Fault::Store(_) | Fault::Fenced(_))) => {
                    return Err(fault.into_error("open the store"));
                }
                Err(fault) => {
                    if self.said.as_ref().is_none_or(|said| said.serving.is_some()) {
                        let fault = fault.into_error("stand by");
                        tracing::warn!(store = %self.shared.database, %fault, "the database does not answer");
                    }
                    self.connection = None;
                    self.patient_until = Instant::now() + OWNER_FIRST;
                    self.say(None);
                }
            }
            self.runtime.block_on(async { tokio::time::sleep(LOOK_PAUSE).await });
        }
        Err(StoreError::Closed)
    }

    /// Looks once; whether the lock is on this connection now.
    fn look(&mut self) -> Result<bool, Fault> {
        if self.connection.as_ref().is_none_or(Connection::is_closed) {
            if self.connection.take().is_some() {
                // The database went and may be back already: its owner has to find it, too.
                self.patient_until = Instant::now() + OWNER_FIRST;
            }
            let connection = Connection::open(&self.runtime, &self.shared.database)?;
            // So that the owner knows that somebody stands by.
            let key = connection.lock_key("standby");
            connection.query("SELECT pg_advisory_lock_shared($1)", &[&key])?;
            if let Some(noted) = self.noted {
                owner::compare(&connection, noted)?;
            }
            self.connection = Some(connection);
            self.looked = None;
        }
        let Some(connection) = &self.connection else { return Ok(false) };
        if Instant::now() >= self.patient_until && owner::lock(connection)? {
            connection.query("SELECT pg_advisory_unlock_shared($1)", &[&connection.lock_key("standby")])?;
            return Ok(true);
        }
        let seen = owner::see(connection)?;
        let now = Instant::now();
        let has_gap = self.looked.replace(now).is_none_or(|looked| now - looked > LOOK_GAP);
        if has_gap || self.seen.as_ref().is_none_or(|before| before.life != seen.life) {
            self.silent_since = now;
        } else if now >= self.patient_until
            && now - self.silent_since > SILENCE_LIMIT
            && seen.life.2.is_some()
        {
            tracing::warn!(store = %self.shared.database, "its owner gives no sign of life; taking over");
            // Refused most likely because that one has another role.
            let ended = owner::cut_off(connection);
            if let Err(Fault::Refused(reason)) = &ended {
                tracing::warn!(
                    store = %self.shared.database, reason,
                    "the server does not let this process end its owner's connection; all machines have to use the \
                     same database role"
                );
            } else {
                ended?;
            }
            self.silent_since = Instant::now();
        }
        let holder = seen.holder.clone();
        self.seen = Some(seen);
        self.say(Some(holder.unwrap_or_else(|| "another process".to_owned())));
        Ok(false)
    }

    fn say(&mut self, serving: Option<String>) {
        let standing = Standing { store: self.shared.database.to_string(), serving };
        if self.said.as_ref() != Some(&standing) {
            // Nobody is left to be told when nobody waits any more.
            let _ = self.told.send(standing.clone());
            self.said = Some(standing);
        }
    }
}

/// Opens on a runtime of this thread's own.
pub(super) fn begin(shared: &Shared, opening: &Opening) -> Result<(Rc<Runtime>, Opened), StoreError> {
    let runtime = Rc::new(runtime()?);
    let opened = open(shared, &runtime, opening)?;
    Ok((runtime, opened))
}
