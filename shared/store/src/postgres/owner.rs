//! Who may use a store: one process at a time.
//!
//! The one that writes holds an advisory lock on its connection, so that a second one is told. A connection can die,
//! though, and its process not know; so whoever opens also puts a random token into the row `owner`, every
//! transaction asks for its own token there, and one that finds another stops for good.
//!
//! The row also names the last group of transactions that was committed. So after a connection was lost in a commit it
//! can be asked whether that was carried out; and a database that comes back without what it confirmed is found out.

use super::AWAY_LIMIT;
use super::connection::{Connection, Fault};
use super::session::{Session, Token};
use crate::meta::{MOVE_KEY, Mark};

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

/// Takes a store over that nobody has. Waits for what its former owner had under way.
pub(super) fn take(connection: &Connection, token: &Token) -> Result<(), Fault> {
    let taken = connection.query(
        "INSERT INTO owner (token, last_group, asked, since) VALUES ($1, 0, 0, now()) ON CONFLICT (only_row) \
         DO UPDATE SET token = $1, last_group = 0, asked = 0, since = now()",
        &[&&token[..]],
    );
    taken.map(drop)
}

/// Goes on with a store on a new connection, after the one that the server's process `former` served.
pub(super) fn resume(session: &Session, token: &Token, former: i32, confirmed: i64) -> Result<(), Fault> {
    let connection = &session.connection;
    if !lock(connection)? {
        // Fenced, if it is another process that has it.
        session.last_group(token)?;
        // Else the server has not noticed that the former connection is gone.
        let key = connection.lock_key("owner");
        connection.query(
            "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND granted AND pid = $1 \
             AND classid::bigint = ($2::bigint >> 32) & 4294967295 AND objid::bigint = $2::bigint & 4294967295",
            &[&former, &key],
        )?;
        return Err(Fault::Lost("the connection before this one still holds the store".to_owned()));
    }
    if session.last_group(token)? < confirmed {
        // Whoever opens it next was told nothing, and has no number to compare.
        let mark = "INSERT INTO cells (key, value) VALUES ($1, $2) ON CONFLICT (key) DO NOTHING";
        connection.query(mark, &[&MOVE_KEY, &Mark::Lossy.to_bytes()])?;
        return Err(Fault::Fenced(
            "the database has lost what it had confirmed; it is marked, and opens when it was restored or the loss is \
             accepted",
        ));
    }
    Ok(())
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
        None => Err(Fault::Fenced("another process has opened it since")),
    }
}
