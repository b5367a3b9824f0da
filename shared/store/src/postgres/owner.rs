//! Who may use a store: one process at a time.
//!
//! The one that writes holds an advisory lock on its connection, so that a second one is told. A connection can die,
//! though, and its process not know; so whoever opens also puts a random token into the row `owner`, every
//! transaction asks for its own token there, and one that finds another stops for good.
//!
//! The row also names the last group of transactions that was committed, a number that never falls, whoever owns the
//! store. So after a connection was lost in a commit it can be asked whether that was carried out; and a database that
//! comes back without what it confirmed is found out, also by who has lost the store, or opens it again.

use super::AWAY_LIMIT;
use super::connection::{Connection, Fault};
use super::session::{Session, Token};
use crate::StoreError;
use crate::confirmed::Confirmed;
use crate::meta::{LIFE_KEY, MOVE_KEY, Mark};

/// What a former owner is told, and nothing worse.
pub(super) const OVERTAKEN: &str = "another process has opened it since";
const LOST: &str = "the database has lost what it had confirmed; it is marked, and opens when it was restored or the \
                    loss is accepted";
/// Former owners that are remembered. Who comes back after more is refused, until somebody says that all is well.
const FORMER_MAX: i64 = 10_000;

/// Who holds which advisory lock of this database: the lock's number is the first value.
macro_rules! holders {
    ($mode:literal) => {
        concat!(
            "FROM pg_locks WHERE locktype = 'advisory' AND granted AND mode = '",
            $mode,
            "' AND database = (SELECT oid FROM pg_database WHERE datname = current_database()) \
             AND classid::bigint = ($1::bigint >> 32) & 4294967295 AND objid::bigint = $1::bigint & 4294967295"
        )
    };
}
pub(super) use holders;

/// Who has a store, as one that has it not sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Seen {
    /// The owner's token, its sign of life, and the server's process that holds the lock: while any of them changes,
    /// somebody is at work.
    pub(super) life: (Option<Vec<u8>>, Option<i64>, Option<i32>),
    /// For people.
    pub(super) holder: Option<String>,
}

/// Takes the lock, if nobody has it.
pub(super) fn lock(connection: &Connection) -> Result<bool, Fault> {
    let key = connection.lock_key("owner");
    let rows = connection.query("SELECT pg_try_advisory_lock($1)", &[&key])?;
    Ok(rows.first().is_some_and(|row| row.get(0)))
}

/// Lets go of it before the connection ends, so that the next one finds it free.
pub(super) fn unlock(connection: &Connection) -> Result<(), Fault> {
    connection.batch("SELECT pg_advisory_unlock_all()")
}

/// Ends the connection that holds the lock.
pub(super) fn cut_off(connection: &Connection) -> Result<(), Fault> {
    let key = connection.lock_key("owner");
    connection.query(concat!("SELECT pg_terminate_backend(pid) ", holders!("ExclusiveLock")), &[&key])?;
    Ok(())
}

/// Looks who has it.
pub(super) fn see(connection: &Connection) -> Result<Seen, Fault> {
    let key = connection.lock_key("owner");
    let lock = connection.query(concat!("SELECT pid ", holders!("ExclusiveLock")), &[&key])?;
    let pid = lock.first().map(|row| row.get(0));
    // Before the first one has made them there are no tables.
    let there = connection.query("SELECT to_regclass('owner') IS NOT NULL", &[])?;
    if !there.first().is_some_and(|row| row.get(0)) {
        return Ok(Seen { life: (None, None, pid), holder: None });
    }
    let rows = connection.query(
        "SELECT owner.token, beat, holder FROM owner LEFT JOIN pulse ON pulse.token = owner.token",
        &[],
    )?;
    let row = rows.first();
    let (token, beat) = (row.map(|row| row.get(0)), row.and_then(|row| row.get(1)));
    Ok(Seen { life: (token, beat, pid), holder: row.map(|row| row.get(2)) })
}

/// Takes a store over that nobody has. Waits for what its former owner had under way. The last group.
pub(super) fn take(connection: &Connection, token: &Token, holder: &str) -> Result<i64, Fault> {
    connection.batch("BEGIN")?;
    let token = &token[..];
    // Not this one, whose commit was carried out and its answer lost: it has only begun.
    connection.query(
        "INSERT INTO owner_before (token, last_group, until) SELECT token, last_group, now() \
         FROM (SELECT token, last_group FROM owner WHERE token <> $1 FOR UPDATE) AS former",
        &[&token],
    )?;
    connection.query(
        "DELETE FROM owner_before WHERE number <= (SELECT max(number) FROM owner_before) - $1",
        &[&FORMER_MAX],
    )?;
    let taken = connection.query(
        "INSERT INTO owner (token, last_group, asked, holder, since) VALUES ($1, 0, 0, $2, now()) \
         ON CONFLICT (only_row) DO UPDATE SET token = $1, asked = 0, holder = $2, since = now() RETURNING last_group",
        &[&token, &holder],
    )?;
    connection.query(
        "INSERT INTO pulse (token, beat) VALUES ($1, 0) ON CONFLICT (only_row) DO UPDATE SET token = $1, beat = 0",
        &[&token],
    )?;
    connection.batch("COMMIT")?;
    taken.first().map(|row| row.get(0)).ok_or_else(|| Fault::Lost("an empty answer".to_owned()))
}

/// Goes on with a store on a new connection, after the one that the server's process `former` served.
pub(super) fn resume(session: &Session, token: &Token, former: i32, noted: &Noted<'_>) -> Result<(), Fault> {
    let connection = &session.connection;
    if !lock(connection)? {
        // Fenced, if it is another process that has it.
        session.last_group(token)?;
        // Else the server has not noticed that the former connection is gone.
        let key = connection.lock_key("owner");
        connection.query(
            concat!("SELECT pg_terminate_backend(pid) ", holders!("ExclusiveLock"), " AND pid = $2"),
            &[&key, &former],
        )?;
        return Err(Fault::Lost("the connection before this one still holds the store".to_owned()));
    }
    session.last_group(token)?;
    match noted.kept(connection)? {
        Kept::All => Ok(()),
        Kept::OfAnotherLife | Kept::Unknown => Err(Fault::Fenced(OVERTAKEN)),
        Kept::Less => Err(lost(connection)?),
    }
}

/// What an owner is told that does not find its token any more: that it was overtaken, or that what it had been
/// confirmed is lost besides, which ends its successor, too.
pub(super) fn overtaken(connection: &Connection, noted: &Noted<'_>) -> Result<Fault, Fault> {
    match noted.kept(connection)? {
        Kept::All | Kept::OfAnotherLife | Kept::Unknown => Ok(Fault::Fenced(OVERTAKEN)),
        Kept::Less => lost(connection),
    }
}

/// Refuses a database that has less than it had confirmed to this machine, as the note says.
pub(super) fn compare(connection: &Connection, noted: &Confirmed) -> Result<(), Fault> {
    let noted = Noted { life: &noted.life, token: &noted.token, group: noted.group };
    match noted.kept(connection)? {
        Kept::All | Kept::OfAnotherLife => Ok(()),
        Kept::Unknown => Err(Fault::Store(StoreError::Lost {
            what: "how far this machine's process had got is not kept in the database any more".to_owned(),
            advice: "too many openings lie between; if the database is known to have everything, take the file \
                     store.database in the data folder away",
        })),
        Kept::Less => {
            lost(connection)?;
            Err(Fault::Store(Mark::Lossy.into_error()))
        }
    }
}

/// What an owner was confirmed.
pub(super) struct Noted<'a> {
    pub(super) life: &'a [u8],
    pub(super) token: &'a [u8],
    pub(super) group: i64,
}

/// What a database has of it.
enum Kept {
    All,
    Less,
    /// Another store, or one whose loss was accepted.
    OfAnotherLife,
    /// Former owners were forgotten, this one most likely.
    Unknown,
}

impl Noted<'_> {
    fn kept(&self, connection: &Connection) -> Result<Kept, Fault> {
        let life = connection.query("SELECT value FROM cells WHERE key = $1", &[&LIFE_KEY])?;
        if life.first().is_none_or(|row| row.get::<_, Vec<u8>>(0) != self.life) {
            return Ok(Kept::OfAnotherLife);
        }
        // How far it got, or has got until now. Every owner confirmed at least that it is one.
        let rows = connection.query(
            "SELECT min(last_group), (SELECT max(number) FROM owner_before) FROM \
             (SELECT last_group FROM owner WHERE token = $1 \
             UNION ALL SELECT last_group FROM owner_before WHERE token = $1) AS got",
            &[&self.token],
        )?;
        let row = rows.first();
        let got: Option<i64> = row.and_then(|row| row.get(0));
        let filed: Option<i64> = row.and_then(|row| row.get(1));
        Ok(match got {
            Some(group) if group >= self.group => Kept::All,
            None if filed.is_some_and(|filed| filed > FORMER_MAX) => Kept::Unknown,
            _ => Kept::Less,
        })
    }
}

/// Marks a database that has lost something: whoever opens it next was told nothing, and has no number to compare. Who
/// has it now stops.
fn lost(connection: &Connection) -> Result<Fault, Fault> {
    let mark = "INSERT INTO cells (key, value) VALUES ($1, $2) ON CONFLICT (key) DO NOTHING";
    connection.query(mark, &[&MOVE_KEY, &Mark::Lossy.to_bytes()])?;
    connection.batch("UPDATE owner SET token = ''")?;
    Ok(Fault::Fenced(LOST))
}

/// Whether a group was committed, after the connection was lost on which that was asked. Its transaction noted the
/// group before it was to be committed, so this waits for its end; and this is a commit itself, so that what it says
/// is as durable.
pub(super) fn was_committed(session: &Session, token: &Token, group: i64) -> Result<bool, Fault> {
    let asked = "UPDATE owner SET asked = asked + 1 WHERE token = $1 RETURNING last_group = $2";
    let connection = &session.connection;
    let rows = connection.wait_for(AWAY_LIMIT, connection.client().query(asked, &[&&token[..], &group]))?;
    match rows.first() {
        Some(row) => Ok(row.get(0)),
        None => Err(Fault::Fenced(OVERTAKEN)),
    }
}
