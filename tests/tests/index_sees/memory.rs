//! What a process has in memory: what it has seen and not yet overwritten, whether it stored it or not.

use std::fs::File;
use std::os::unix::fs::FileExt as _;

use anyhow::{Context as _, Result, bail};

/// The part of it, in thousandths, that may be gone again before it is read.
const GONE_MAX: u64 = 10;

/// How often it is read for as long as too much of it goes meanwhile.
const LOOKS: u32 = 5;

/// Every writable part of a process's memory, in order.
///
/// # Errors
/// Another user's process, or none; too much of it cannot be read.
pub(crate) fn of(pid: u32) -> Result<Vec<u8>> {
    let mut gone = 0;
    for _ in 0..LOOKS {
        let all;
        (all, gone) = read(pid)?;
        if gone * 1000 <= all.len() as u64 * GONE_MAX {
            return Ok(all);
        }
    }
    bail!("{gone} bytes cannot be read")
}

/// What there is of it, and how many bytes there were no more.
fn read(pid: u32) -> Result<(Vec<u8>, u64)> {
    let maps = std::fs::read_to_string(format!("/proc/{pid}/maps"))?;
    let memory = File::open(format!("/proc/{pid}/mem"))?;
    let (mut all, mut gone) = (Vec::new(), 0);
    for line in maps.lines() {
        let mut words = line.split(' ');
        let (range, rights) = (words.next().context("a range")?, words.next().context("rights")?);
        if !rights.starts_with("rw") {
            continue;
        }
        let (from, to) = range.split_once('-').context("from and to")?;
        let (from, to) = (u64::from_str_radix(from, 16)?, u64::from_str_radix(to, 16)?);
        let mut part = vec![0; usize::try_from(to - from)?];
        match memory.read_exact_at(&mut part, from) {
            Ok(()) => all.extend(part),
            Err(_) => gone += to - from,
        }
    }
    Ok((all, gone))
}
