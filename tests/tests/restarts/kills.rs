//! Source, destination or index is killed: at each phase, at random moments, and in the middle of a package.

use std::fs;
use std::thread;

use anyhow::{Context as _, Result};
use handover_scenarios::signals::kill;
use handover_scenarios::world::World;

use crate::moves::{
    DESTINATION, Move, SOURCE, Victim, all_is_whole, close, incoming, joined, patients, within, world,
};

/// Bytes of the scan in a package that is cut in the middle.
const LARGE_SCAN_BYTES: usize = 2_000_000;
/// Bytes of the scans otherwise.
const SMALL_SCAN_BYTES: usize = 300_000;
/// Seeds of the random moments, unless [`SEED_VARIABLE`] gives another.
const SEEDS: [u64; 4] = [2, 8, 11, 13];
/// Plays one random moment of one's own choice.
const SEED_VARIABLE: &str = "HANDOVER_SEED";

/// Where in a move the blow falls.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Moment {
    /// The desk was told that the request is stored.
    Requested,
    /// The source has stored its quote.
    Quoted,
    /// The patient was told that the consent is stored.
    Consented,
    /// A hospital has reached this phase after the consent.
    Reached(&'static str, &'static str),
    /// So much of the package lies at the destination, in bytes.
    Streamed(u64),
}

const PHASES: [Moment; 7] = [
    Moment::Requested,
    Moment::Quoted,
    Moment::Consented,
    Moment::Reached(SOURCE, "sealed"),
    Moment::Reached(DESTINATION, "delivered"),
    Moment::Reached(SOURCE, "released"),
    Moment::Reached(DESTINATION, "filed"),
];

/// Plays a move in which `victim` is killed at `moment`, started again, and the people go on with what they were at.
pub(crate) fn play(world: &mut World, it: &mut Move, victim: Victim, moment: Moment) -> Result<()> {
    let pid = victim.pid(world)?;
    it.ask(world)?;
    it.request(world)?;
    let is_given = match moment {
        Moment::Requested => {
            kill(pid)?;
            false
        }
        Moment::Quoted => {
            it.until(world, SOURCE, "quoted")?;
            kill(pid)?;
            false
        }
        Moment::Consented => {
            it.quoted(world)?;
            it.wallet(world, "consent", &[])?.done()?;
            kill(pid)?;
            true
        }
        Moment::Reached(at, phase) => blow(world, it, || it.until(world, at, phase).map(drop), pid)?,
        Moment::Streamed(bytes) => blow(world, it, || streamed(world, it, bytes), pid)?,
    };
    victim.restart(world)?;
    if !is_given {
        it.quoted(world)?;
        it.wallet(world, "consent", &[])?.done()?;
    }
    it.ends_well(world)
}

/// Consents, and kills as soon as the event has come. Whether the patient got an answer; who did not consents again.
fn blow(world: &World, it: &Move, event: impl FnOnce() -> Result<()> + Send, pid: u32) -> Result<bool> {
    it.quoted(world)?;
    thread::scope(|scope| {
        let killed = scope.spawn(move || {
            event()?;
            kill(pid)
        });
        let consented = it.wallet(world, "consent", &[]);
        joined(killed)?;
        Ok(consented?.exit == Some(0))
    })
}

/// Waits until the destination has at least so many bytes of the package, or all of it.
fn streamed(world: &World, it: &Move, bytes: u64) -> Result<()> {
    let incoming = incoming(&world.folder().join("hospitals").join(DESTINATION).join("data"))?;
    let incoming = incoming.join(&it.transfer);
    let log = world.logs().join(format!("{DESTINATION}.log"));
    within("the package arrives", || {
        let Ok(parts) = fs::read_dir(&incoming) else {
            // Not there yet, or over before anybody could look.
            let is_delivered = |line: &str| line.contains(&it.transfer) && line.contains("\"delivered\"");
            return Ok(fs::read_to_string(&log)?.lines().any(is_delivered));
        };
        let lengths = parts.flatten().filter_map(|part| part.metadata().ok()).map(|meta| meta.len());
        Ok(lengths.max() >= Some(bytes))
    })
}

fn play_all(world: &mut World, rounds: &[(Victim, Moment, usize)]) -> Result<()> {
    let scans: Vec<usize> = rounds.iter().map(|(_, _, scan_bytes)| *scan_bytes).collect();
    let mut moves = patients(world, &scans)?;
    for (it, (victim, moment, _)) in moves.iter_mut().zip(rounds) {
        play(world, it, *victim, *moment).with_context(|| format!("{victim:?} killed at {moment:?}"))?;
    }
    all_is_whole(world)
}

#[test]
fn a_process_killed_at_any_phase_changes_nothing() -> Result<()> {
    let mut world = world()?;
    let rounds: Vec<_> =
        PHASES.iter().flat_map(|moment| Victim::ALL.map(|victim| (victim, *moment, 0))).collect();
    let outcome = play_all(&mut world, &rounds);
    close(world, outcome)
}

#[test]
fn a_process_killed_in_a_package_or_at_a_random_moment_changes_nothing() -> Result<()> {
    let mut world = world()?;
    let mut rounds = Victim::ALL
        .map(|victim| (victim, Moment::Streamed(LARGE_SCAN_BYTES as u64 / 4), LARGE_SCAN_BYTES))
        .to_vec();
    let seeds = match std::env::var(SEED_VARIABLE) {
        Ok(seed) => vec![seed.parse().context(SEED_VARIABLE)?],
        Err(_) => SEEDS.to_vec(),
    };
    rounds.extend(seeds.into_iter().map(random));
    let outcome = play_all(&mut world, &rounds);
    close(world, outcome)
}

/// Who is killed, and when, after the consent: as a seed says.
fn random(seed: u64) -> (Victim, Moment, usize) {
    // SplitMix64.
    let mixed = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    let drawn = mixed ^ (mixed >> 31);
    let victim = match drawn % 3 {
        0 => Victim::Source,
        1 => Victim::Destination,
        _ => Victim::Index,
    };
    let at = if drawn & 8 == 0 { SOURCE } else { DESTINATION };
    let moment = match (drawn >> 8) % 6 {
        0 => Moment::Consented,
        1 => Moment::Reached(at, "sealed"),
        2 => Moment::Reached(at, "delivered"),
        3 => Moment::Reached(at, "released"),
        4 => Moment::Reached(at, "filed"),
        _ => Moment::Streamed((drawn >> 16) % SMALL_SCAN_BYTES as u64),
    };
    (victim, moment, SMALL_SCAN_BYTES)
}
