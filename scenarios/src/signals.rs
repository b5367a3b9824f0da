//! Signals to processes by their identifiers.

use std::os::fd::OwnedFd;

use anyhow::{Context, Result, ensure};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open, pidfd_send_signal};

pub use rustix::process::Signal;

/// The longest that a killed process takes until it is gone, in seconds.
const GONE_LIMIT: Timespec = Timespec { tv_sec: 30, tv_nsec: 0 };

/// Sends a signal to a process.
///
/// # Errors
/// There is no such process.
pub fn send(pid: u32, signal: Signal) -> Result<()> {
    sent(pid, signal).map(drop)
}

/// `kill -9`; returns when the process is gone. Before that it may still write, and still takes connections.
///
/// # Errors
/// There is no such process, or it stays.
pub fn kill(pid: u32) -> Result<()> {
    let process = sent(pid, Signal::KILL)?;
    let mut ends = [PollFd::new(&process, PollFlags::IN)];
    let ended = poll(&mut ends, Some(&GONE_LIMIT))?;
    ensure!(ended == 1, "process {pid} is killed and stays");
    Ok(())
}

fn sent(pid: u32, signal: Signal) -> Result<OwnedFd> {
    let named = i32::try_from(pid).ok().and_then(Pid::from_raw);
    let named = named.with_context(|| format!("{pid} is no process"))?;
    let process = pidfd_open(named, PidfdFlags::empty()).with_context(|| format!("process {pid}"))?;
    pidfd_send_signal(&process, signal).with_context(|| format!("{signal:?} to process {pid}"))?;
    Ok(process)
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn a_killed_process_is_gone_when_kill_returns() {
        let mut child = Command::new("sleep").arg("100").spawn().unwrap();
        kill(child.id()).unwrap();
        assert!(child.try_wait().unwrap().is_some());
        assert!(send(child.id(), Signal::CONT).is_err(), "a process that was waited for is there no more");
    }
}
