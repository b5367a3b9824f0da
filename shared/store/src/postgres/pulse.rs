//! The owner's sign of life, on a thread and a connection of its own: groups may take long, and a process that hangs
//! gives none.
//!
//! One that nobody can see any more ends its service by itself while others stand by. Whether the store is still this
//! process's is for the writer to say, whose connection holds the lock.

use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::connection::{Connection, Fault};
use super::owner::holders;
use super::{Shared, runtime};
use crate::confirmed::Noting;
use crate::engine::Health;

/// How often a sign is given.
const BEAT: Duration = Duration::from_secs(1);
/// How often is looked whether the store was closed.
const LOOK_PAUSE: Duration = Duration::from_millis(100);
/// How long none can be given until the store is taken for another's: longer than who stands by waits.
const UNSEEN_LIMIT: Duration = Duration::from_secs(20);

/// The pulse's thread: ends when the store is closed or failed.
pub(super) fn run(shared: &Shared, noting: Option<&Noting>) {
    let runtime = match runtime() {
        Ok(runtime) => Rc::new(runtime),
        Err(error) => {
            tracing::error!(%error, "the store's sign of life cannot start");
            return;
        }
    };
    let mut connection = None;
    let (mut seen, mut standbys, mut flushed) = (Instant::now(), 0_i64, 0);
    while shared.health().require_serving().is_ok() {
        let begun = Instant::now();
        let open = || {
            let connection = Connection::open(&runtime, &shared.database)?;
            // What a sign is worth is over before a disk has it.
            connection.batch("SET synchronous_commit = off")?;
            Ok::<_, Fault>(connection)
        };
        let beaten = connection.take().map_or_else(open, Ok).and_then(|open: Connection| {
            let found = beat(&open, shared)?;
            Ok((open, found))
        });
        match beaten {
            Ok((open, found)) => {
                if found != standbys {
                    tracing::info!(standbys = found, "other processes stand by");
                }
                (connection, standbys, seen) = (Some(open), found, Instant::now());
            }
            Err(_) if standbys > 0 && seen.elapsed() > UNSEEN_LIMIT => {
                shared.fail("its database is away for long, and another process stands by to take it over");
            }
            Err(_) => {}
        }
        let confirmed = shared.confirmed.load(Ordering::Acquire);
        if let Some(noting) = noting.filter(|_| confirmed != flushed) {
            noting.flush();
            flushed = confirmed;
        }
        while begun.elapsed() < BEAT && shared.health().require_serving().is_ok() {
            std::thread::sleep(LOOK_PAUSE);
        }
    }
    if shared.health() == Health::Closed
        && let Some(noting) = noting
    {
        noting.flush();
    }
}

/// Gives a sign. How many stand by.
fn beat(connection: &Connection, shared: &Shared) -> Result<i64, Fault> {
    let beaten = connection.query(
        concat!(
            "UPDATE pulse SET beat = beat + 1 WHERE token = $2 RETURNING (SELECT count(*) ",
            holders!("ShareLock"),
            ")"
        ),
        &[&connection.lock_key("standby"), &&shared.token[..]],
    )?;
    let found = beaten.first().map(|row| row.get(0));
    found.ok_or_else(|| Fault::Lost("it knows another owner".to_owned()))
}
