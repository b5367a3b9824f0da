//! Files that are damaged while their process is killed.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use handover_tests::moves::Victim;
use serde_json::Value;

use crate::blows::Hand;
use crate::desk;

/// The code of what is told of damage.
const DAMAGED: &str = "store-damaged";
/// How long a package is waited for.
const ARRIVAL_LIMIT: Duration = Duration::from_secs(5);
const BLOCK: usize = 4_096;

/// A store's file is damaged. Its process refuses to start, with the cause, and the operator puts the copy back; or
/// nothing was lost, which its check says.
pub(crate) fn store(hand: &mut Hand<'_>) -> Result<()> {
    let victim = hand.victim();
    hand.kill(victim)?;
    let store = hand.stage.data(victim)?.join("store");
    let copy = tempfile::tempdir()?;
    copy_all(&store, copy.path())?;
    let files = files_below(&store);
    // The log is what is largest, and what is hit most.
    let log = files.iter().filter(|file| file.ends_with("db")).cloned().collect::<Vec<_>>();
    let file = if log.is_empty() || hand.dice.below(3) == 0 {
        hand.dice.one_of(&files)
    } else {
        hand.dice.one_of(&log)
    };
    let what = strike(hand, &file)?;
    let Err(refused) = hand.stage.start(victim) else {
        hand.count("damaged stores that opened, whole", 1);
        let checked = match victim {
            Victim::Index => desk::index(hand.stage, "check")?,
            _ => desk::check(hand.stage, victim)?,
        };
        let is_whole = ["whole", "sound"].iter().any(|key| checked.get(key) == Some(&Value::Bool(true)));
        ensure!(is_whole, "{what}: it opened, and its check says {checked}");
        return Ok(());
    };
    let told = format!("{refused:#}");
    ensure!(told.contains(DAMAGED), "{what}: refused without a cause: {told}");
    hand.count("damaged stores that were refused by name, and put back", 1);
    fs::remove_dir_all(&store)?;
    copy_all(copy.path(), &store)?;
    hand.stage.start(victim)
}

/// A content is damaged: the check names it. Or it is a package's on its way, which is made anew.
pub(crate) fn blob(hand: &mut Hand<'_>) -> Result<()> {
    let victim = hand.hospital();
    hand.kill(victim)?;
    let at = victim.hospital().context("a hospital")?;
    let blobs = files_below(&hand.stage.data(victim)?.join("blobs").join("content"));
    let blobs: Vec<PathBuf> = blobs.into_iter().filter(|blob| blob.extension().is_none()).collect();
    if !blobs.is_empty() {
        let blob = hand.dice.one_of(&blobs);
        let whole = fs::read(&blob)?;
        let what = strike(hand, &blob)?;
        let (problem, report) = check(hand, at)?;
        match problem.as_deref() {
            Some(DAMAGED) => {
                ensure!(report.contains(DAMAGED), "{what}: it is not named: {report}");
                hand.count("damaged contents that the check named, and put back", 1);
                write(&blob, &whole)?;
                let (problem, report) = check(hand, at)?;
                ensure!(problem.is_none(), "{what}: put back, and {problem:?}: {report}");
            }
            None => hand.count("damaged contents of packages, made anew", 1),
            other => bail!("{what}: {other:?}: {report}"),
        }
    }
    hand.stage.start(victim)
}

/// The store's and records' own check, beside no process.
fn check(hand: &Hand<'_>, at: &str) -> Result<(Option<String>, String)> {
    let answer = hand.stage.world().node(at, &["check"])?;
    Ok((answer.problem(), String::from_utf8_lossy(&answer.stdout).into_owned() + &answer.stderr))
}

/// A part that has arrived, and was verified on arrival, is damaged before it is opened.
pub(crate) fn arrival(hand: &mut Hand<'_>) -> Result<()> {
    let incoming = hand.stage.data(Victim::Destination)?.join("incoming");
    let begun = Instant::now();
    let arrived = || {
        let files = files_below(&incoming).into_iter();
        files.filter(|file| file.metadata().is_ok_and(|it| it.len() > 0)).collect::<Vec<_>>()
    };
    while arrived().is_empty() && begun.elapsed() < ARRIVAL_LIMIT {
        sleep(Duration::from_millis(2));
    }
    hand.kill(Victim::Destination)?;
    let files = arrived();
    if !files.is_empty() {
        let file = hand.dice.one_of(&files);
        strike(hand, &file)?;
        hand.count("files of packages on their way in that were damaged", 1);
    }
    hand.stage.start(Victim::Destination)
}

/// Turns a bit, cuts the end off, or zeroes a block; what and where.
fn strike(hand: &mut Hand<'_>, file: &Path) -> Result<String> {
    let mut content = fs::read(file)?;
    // Behind the last byte that is not zero nothing was written yet.
    let used = content.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    let place = hand.dice.below(used.max(1) as u64) as usize;
    let how = match hand.dice.below(3) {
        0 => {
            content.truncate(place);
            "cut off"
        }
        1 => {
            let end = used.max(place).min(place + BLOCK);
            content.get_mut(place..end).unwrap_or_default().fill(0);
            "zeros"
        }
        _ => {
            let bit = hand.dice.below(8);
            match content.get_mut(place) {
                Some(byte) => *byte ^= 1 << bit,
                None => content.push(1),
            }
            "a bit"
        }
    };
    write(file, &content)?;
    Ok(format!("{how} at {place} of {used} in {}", file.display()))
}

/// Every file, of those that do not vanish meanwhile.
fn files_below(folder: &Path) -> Vec<PathBuf> {
    let (mut found, mut open) = (Vec::new(), vec![folder.to_owned()]);
    while let Some(folder) = open.pop() {
        for path in fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()) {
            if path.is_dir() { open.push(path) } else { found.push(path) }
        }
    }
    found.sort();
    found
}

/// What the run itself does to files is durable: a loss of power that comes later is none of this.
fn write(file: &Path, content: &[u8]) -> Result<()> {
    fs::write(file, content)?;
    Ok(fs::File::open(file)?.sync_all()?)
}

fn copy_all(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    fs::set_permissions(to, fs::metadata(from)?.permissions())?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy_all(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), &target)?;
            fs::File::open(target)?.sync_all()?;
        }
    }
    for folder in [Some(to), to.parent()].into_iter().flatten() {
        fs::File::open(folder)?.sync_all()?;
    }
    Ok(())
}
