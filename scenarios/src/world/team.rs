//! Several processes of one party over one database: one serves, the others stand by. Each has a configuration and a
//! data folder of its own, with the same keys.

use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use super::World;
use super::files::copy_folder;
use crate::process::{Answer, Daemon};

/// How long until one of those that stand by may serve.
const TAKEOVER_LIMIT: Duration = Duration::from_secs(60);
const LOOK_AGAIN: Duration = Duration::from_millis(10);
/// What lies in a data folder that is each process's own, or in a folder that all of them have. Epoch keys that lie in a
/// data folder are every process's.
const NOT_COPIED: [&str; 6] = ["store", "store.database", "blobs", "blob-cache", "incoming", "control.sock"];

/// Where one process of the party is.
#[derive(Clone, Debug)]
pub(super) struct Seat {
    /// Its configuration file.
    pub(super) config: PathBuf,
    /// Its data folder's name, beside that.
    pub(super) data: String,
    /// Where it listens.
    pub(super) net: Vec<String>,
}

/// The processes of one party but the one that serves.
#[derive(Debug, Default)]
pub(super) struct Team {
    /// All places; empty if there is one process only.
    pub(super) seats: Vec<Seat>,
    standbys: Vec<(usize, Daemon)>,
    serving: usize,
}

impl Team {
    /// One that serves, and so many that stand by, each at an address of its own.
    pub(super) fn of(
        folder: &Path,
        (name, data): (&str, &str),
        host: Ipv4Addr,
        standbys: usize,
    ) -> Result<Self> {
        if standbys == 0 {
            return Ok(Self::default());
        }
        // All at once, so that no two get the same.
        let any = (0..=standbys).map(|_| TcpListener::bind((host, 0))).collect::<Result<Vec<_>, _>>()?;
        let seat = |(at, port): (usize, &TcpListener)| {
            let mark = if at == 0 { String::new() } else { format!("-{}", at.saturating_add(1)) };
            Ok(Seat {
                config: folder.join(format!("{name}{mark}.toml")),
                data: format!("{data}{mark}"),
                net: vec![format!("/ip4/{host}/tcp/{}", port.local_addr()?.port())],
            })
        };
        let seats = any.iter().enumerate().map(seat).collect::<Result<Vec<_>>>()?;
        Ok(Self { seats, ..Self::default() })
    }

    /// The one that serves, or is to.
    pub(super) fn serving(&self) -> Option<&Seat> {
        self.seats.get(self.serving)
    }

    /// What all tell others, as a configuration says it; nothing for one process.
    pub(super) fn advertise(&self) -> String {
        let all: Vec<&String> = self.seats.iter().flat_map(|seat| &seat.net).collect();
        if all.is_empty() { String::new() } else { format!("advertise = {all:?}\n") }
    }

    /// The folder that all of them have, as a configuration says it; nothing for one process, and for those of which
    /// `more` says that their blobs lie in a bucket: they share no folder.
    pub(super) fn shared(&self, name: &str, more: &str) -> String {
        let is_none = self.seats.is_empty() || more.contains("[blobs]");
        if is_none { String::new() } else { format!("shared = {name:?}\n") }
    }

    /// The places at which no process is, with the one that serves first; their data folders are made.
    pub(super) fn free(&self, is_serving: bool) -> Result<Vec<(usize, Seat)>> {
        let is_free = |at: &usize| {
            (!is_serving || *at != self.serving) && self.standbys.iter().all(|(other, _)| other != at)
        };
        let free: Vec<_> = self.seats.iter().cloned().enumerate().filter(|(at, _)| is_free(at)).collect();
        if let Some(first) = self.serving() {
            for (_, seat) in &free {
                if !beside(seat).exists() {
                    copy_folder(&beside(first), &beside(seat), &NOT_COPIED)?;
                }
            }
        }
        Ok(free)
    }

    /// A place at which a process stands by.
    pub(super) fn standing(&self) -> Option<&Seat> {
        self.standbys.first().and_then(|(at, _)| self.seats.get(*at))
    }

    /// A process stands by at that place.
    pub(super) fn stands_by(&mut self, at: usize, daemon: Daemon) {
        self.standbys.push((at, daemon));
    }

    /// Tells those that stand by to stop, and waits until they have.
    pub(super) fn stop(&mut self) -> Result<()> {
        self.standbys.drain(..).try_for_each(|(_, mut daemon)| daemon.stop())
    }

    /// Waits until one of those that stand by serves.
    pub(super) fn takes_over(&mut self) -> Result<Daemon> {
        let end = Instant::now().checked_add(TAKEOVER_LIMIT);
        loop {
            for at in 0..self.standbys.len() {
                if self.standbys.get_mut(at).is_some_and(|(_, daemon)| matches!(daemon.is_ready(), Ok(true)))
                {
                    let (seat, daemon) = self.standbys.remove(at);
                    self.serving = seat;
                    return Ok(daemon);
                }
            }
            if end.is_none_or(|end| Instant::now() > end) {
                bail!("nobody took over within {} s", TAKEOVER_LIMIT.as_secs());
            }
            thread::sleep(LOOK_AGAIN);
        }
    }
}

/// A seat's data folder.
fn beside(seat: &Seat) -> PathBuf {
    seat.config.with_file_name(&seat.data)
}

impl World {
    /// Kills the index's process that serves.
    ///
    /// # Errors
    /// It had ended by itself.
    pub fn kill_index(&mut self) -> Result<()> {
        self.federation.kill()
    }

    /// Waits until another process of the index serves; the one before, if it was not killed.
    ///
    /// # Errors
    /// None does.
    pub fn index_taken_over(&mut self) -> Result<Option<Daemon>> {
        self.federation.taken_over()
    }

    /// Has a process stand by for the index wherever one had served before.
    ///
    /// # Errors
    /// It does not.
    pub fn stand_by_for_index(&mut self) -> Result<()> {
        let programs = self.programs.clone();
        self.federation.stand_by(&programs)
    }

    /// Runs a command where a process stands by for the index.
    ///
    /// # Errors
    /// None does, or the command cannot be run to its end.
    pub fn index_standing_by(&self, args: &[&str]) -> Result<Answer> {
        self.federation.run_standing_by(&self.programs, args)
    }

    /// Waits until another process of a hospital serves; the one before, if it was not killed.
    ///
    /// # Errors
    /// None does.
    pub fn taken_over(&mut self, hospital: &str) -> Result<Option<Daemon>> {
        self.hospital_mut(hospital)?.taken_over()
    }

    /// Stops the processes that stand by for a hospital.
    ///
    /// # Errors
    /// They do not end well.
    pub fn stop_standing_by(&mut self, hospital: &str) -> Result<()> {
        self.hospital_mut(hospital)?.stop_standing_by()
    }

    /// Has a process of a hospital stand by wherever it has none.
    ///
    /// # Errors
    /// It does not.
    pub fn stand_by_for(&mut self, hospital: &str) -> Result<()> {
        let programs = self.programs.clone();
        self.hospital_mut(hospital)?.stand_by(&programs)
    }
}
