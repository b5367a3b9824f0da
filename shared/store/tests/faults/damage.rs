//! Damage to the files of a store that is stopped.

use std::fs;
use std::path::{Path, PathBuf};

use handover_disk::Seeded;

const BLOCK: usize = 4096;

/// What is done to a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Damage {
    /// Cut off anywhere.
    Cut,
    /// One bit turns.
    Bit,
    /// A block reads as zeros.
    BlockOfZeros,
    /// A block holds something else.
    BlockOfNoise,
    /// As long as it was, all zeros.
    Zeros,
    /// There, and empty.
    Empty,
    /// Not there.
    Missing,
}

impl Damage {
    pub(crate) const ALL: [Self; 7] = [
        Self::Cut,
        Self::Bit,
        Self::BlockOfZeros,
        Self::BlockOfNoise,
        Self::Zeros,
        Self::Empty,
        Self::Missing,
    ];

    /// Damages one file of a folder, the log every other time and else one after another; says which and where.
    pub(crate) fn strike(self, folder: &Path, time: u64, seeded: &mut Seeded) -> String {
        let files = files(folder);
        let (log, others): (Vec<_>, Vec<_>) = files.iter().partition(|file| file.ends_with("db"));
        let file = if time.is_multiple_of(2) { log[0] } else { others[(time / 2) as usize % others.len()] };
        let name = file.strip_prefix(folder).unwrap().display().to_string();
        let mut content = fs::read(file).unwrap();
        // Behind the last byte that is not zero nothing was written yet.
        let used = content.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        let place = seeded.below(used as u64) as usize;
        let block = place..(place + BLOCK).min(used.max(place));
        match self {
            Self::Cut => content.truncate(place),
            Self::Bit if used > 0 => content[place] ^= 1 << seeded.below(8),
            Self::Bit => content.push(1),
            Self::BlockOfZeros => content[block].fill(0),
            Self::BlockOfNoise => content[block].iter_mut().for_each(|byte| *byte = seeded.roll() as u8),
            Self::Zeros => content.fill(0),
            Self::Empty => content.clear(),
            Self::Missing => {
                fs::remove_file(file).unwrap();
                return name;
            }
        }
        fs::write(file, content).unwrap();
        format!("{name} at {place} of {used}")
    }
}

/// Every file below a folder, in order.
pub(crate) fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found.sort();
    found
}

pub(crate) fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}
