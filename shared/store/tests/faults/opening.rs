//! Openings that are disturbed: by a read that fails, by a kill. What was whole before is whole after.

use std::path::Path;

use handover_disk::{Disk, Seeded, Survives};

use crate::writer::{Acknowledged, Outcome, WRITERS};
use crate::{ENOUGH, damage, killed, look, look_as, rounds, seed, written};

/// To sled a read that fails is the end of its log, and it fills the rest with zeros.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_read_that_fails_once_costs_nothing() {
    const BYTES: usize = 60_000;
    let disk = Disk::mount(ENOUGH, None).unwrap();
    let store = disk.path().join("store");
    let mut seeded = Seeded(seed());
    let mut acknowledged: Acknowledged = [0; WRITERS as usize];
    let (mut refused, mut whole) = (0, 0);
    // Reads of an opening like the one that is disturbed.
    let mut reads = 0;
    for round in 0..=rounds(5) {
        // More than a segment behind the last snapshot, or a part of one.
        killed(&store, BYTES, if round % 4 == 0 { 300 } else { 40 }, &mut acknowledged);
        if round > 0 {
            // One that nobody can do without first, then any.
            let later = if round == 1 { 0 } else { seeded.below(reads) };
            let next = disk.state().reads + 1;
            disk.state().fails = Some(next + later);
            match look_as("glance", &store, &acknowledged, BYTES).await {
                Outcome::Whole => whole += 1,
                Outcome::Refused(_) => refused += 1,
                silent @ Outcome::Silent(_) => panic!("round {round}: {silent:?}"),
            }
            disk.state().fails = None;
        }
        let before = disk.state().reads;
        assert_eq!(look(&store, &acknowledged, BYTES).await, Outcome::Whole, "round {round}");
        reads = disk.state().reads - before;
        // A snapshot that could not be read, or was not finished, may lie there: it follows from the log.
        let left = names_in(&store.join("aside")).into_iter().find(|name| !follows_from_the_log(name));
        assert_eq!(left, None, "round {round}");
    }
    eprintln!(
        "a read fails once: seed {}, refused {refused} times, whole {whole} times, {reads} reads",
        seed()
    );
    assert!(refused > 0);
}

fn names_in(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

fn follows_from_the_log(name: &str) -> bool {
    name.starts_with("snap.") || name == "conf"
}

/// A kill, or a loss of power, at any moment of an opening: what it had begun is taken back by the next one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_opening_that_is_cut_off_changes_nothing() {
    const BYTES: usize = 60_000;
    let disk = Disk::mount(ENOUGH, None).unwrap();
    let store = disk.path().join("store");
    let mut acknowledged: Acknowledged = [0; WRITERS as usize];
    killed(&store, BYTES, 300, &mut acknowledged);
    let begun = disk.state().ops.len();
    assert_eq!(look_as("glance", &store, &acknowledged, BYTES).await, Outcome::Whole);
    let ops = std::mem::take(&mut disk.state().ops);
    let mut seeded = Seeded(seed());
    let folder = tempfile::tempdir().unwrap();
    for trial in 0..rounds(12) {
        let end = begun + seeded.below((ops.len() - begun) as u64 + 1) as usize;
        let survives = match trial % 3 {
            0 => Survives::Everything,
            1 => Survives::Nothing,
            _ => Survives::Some(seeded.below(101)),
        };
        let place = folder.path().join("disk");
        handover_disk::lay_out_all(&handover_disk::left(&ops[..end], survives, &mut seeded), &place).unwrap();
        let outcome = look(&place.join("store"), &acknowledged, BYTES).await;
        assert_eq!(
            outcome,
            Outcome::Whole,
            "trial {trial}, {survives:?}, {} of {}",
            end - begun,
            ops.len() - begun
        );
        std::fs::remove_dir_all(&place).unwrap();
    }
}

/// What was kept of a store that was refused does not get into the backup that is laid over it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_that_is_laid_over_a_damaged_store_opens() {
    const BYTES: usize = 2_000;
    let folder = tempfile::tempdir().unwrap();
    let (store, backup) = (folder.path().join("store"), folder.path().join("backup"));
    let acknowledged = written(&store, BYTES, 40, 1, true);
    damage::copy(&store, &backup);
    let later = written(&store, BYTES, 40, 1, false);
    let log = std::fs::read(store.join("db")).unwrap();
    let used = log.iter().rposition(|byte| *byte != 0).unwrap();
    std::fs::write(store.join("db"), &log[..used - used / 4]).unwrap();
    assert!(matches!(look_as("glance", &store, &later, BYTES).await, Outcome::Refused(_)));
    assert!(store.join("aside/before").exists());
    damage::copy(&backup, &store);
    assert_eq!(look(&store, &acknowledged, BYTES).await, Outcome::Whole);
}
