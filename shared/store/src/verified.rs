//! The start-up check: a store is served only if it holds everything that it acknowledged. What it keeps of itself is
//! compared with the note beside it and with a reading of every cell; so it does not matter what a damaged engine takes
//! for whole.

use std::path::Path;
use std::time::{Duration, Instant};

use crate::StoreError;
use crate::meta::{LAST_OWN_KEY, META_KEY, MOVE_KEY, Meta};
use crate::note::{Note, Noted};
use crate::sled_files::RESTORE_OR_REPAIR;
use crate::sled_tree::Tree;
use crate::sums::{COMMIT_KEY, Commit, Summing, Sums};
use crate::txn::View as _;

/// Cells that are read in one go.
const PAGE_CELLS: usize = 500;
/// How often a long check says how far it is.
const TELL_EVERY: Duration = Duration::from_secs(5);

/// A database whose cells are all accounted for.
pub(crate) struct Verified {
    pub(crate) tree: Tree,
    pub(crate) sums: Sums,
    pub(crate) note: Note,
}

/// Opens the store in `folder`, made if it is not there.
pub(crate) fn open(folder: &Path, meta: &Meta) -> Result<Verified, StoreError> {
    let opened = Tree::open(folder);
    // Not before the folder is this process's alone.
    let noted = Note::read(folder)?;
    let whole = opened.and_then(|tree| check(folder, tree, meta, noted));
    whole.map_err(|fault| match (fault, noted) {
        // What sled says of it is that it is damaged; how much is at stake, the note knows.
        (StoreError::Damaged { what, .. }, Noted::Last(last)) => lost(&[format!(
            "{what} cannot be read ({} commits, the last of {}); repair --preview says what can",
            last.number, last.at
        )]),
        (fault, _) => fault,
    })
}

fn check(folder: &Path, mut tree: Tree, meta: &Meta, noted: Noted) -> Result<Verified, StoreError> {
    let stored = tree.get(META_KEY)?;
    let is_empty = tree.is_empty()?;
    match noted {
        Noted::Last(last) if is_empty => return Err(lost(&[gone(last, None)])),
        Noted::Unreadable if is_empty => {
            return Err(lost(&["its files are empty, its note is not".to_owned()]));
        }
        _ => {}
    }
    let mut first = meta.admit(stored.as_deref(), is_empty)?;
    if !first.is_empty() {
        first.push((COMMIT_KEY.to_vec(), Sums::default().commit_value()));
        tree.apply([].into(), first)?;
        tree.flush()?;
    }
    meta.admit_mark(tree.get(MOVE_KEY)?.as_deref())?;
    let Some(kept) = Sums::kept(&tree)? else {
        return Err(lost(&["what the store keeps of itself cannot be read".to_owned()]));
    };
    let found = recount(&tree, meta.summing())?;
    let mut losses = losses(noted, &kept);
    losses.extend(kept.differences(&found));
    if !losses.is_empty() {
        return Err(lost(&losses));
    }
    let note = Note::open(folder, kept.commit)?;
    Ok(Verified { tree, sums: kept, note })
}

/// What the note says that the store does not.
pub(crate) fn losses(noted: Noted, kept: &Sums) -> Vec<String> {
    match noted {
        Noted::Last(last) if last.number > kept.commit.number => vec![gone(last, Some(kept.commit))],
        // A store is made before its note is.
        Noted::Nothing | Noted::Unreadable if kept.commit.number > 0 => {
            vec!["its note of the last commit is gone, so nobody can tell whether later ones are".to_owned()]
        }
        _ => Vec::new(),
    }
}

fn gone(last: Commit, found: Option<Commit>) -> String {
    match found {
        Some(found) => format!(
            "its last {} commits are gone (number {} of {} was the last, {} of {} is)",
            last.number.saturating_sub(found.number),
            last.number,
            last.at,
            found.number,
            found.at
        ),
        None => format!(
            "its files are missing, empty, or damaged where they begin ({} commits, the last of {})",
            last.number, last.at
        ),
    }
}

fn lost(what: &[String]) -> StoreError {
    StoreError::Lost { what: what.join("; "), advice: RESTORE_OR_REPAIR }
}

/// Reads every cell.
fn recount(tree: &Tree, summing: &Summing) -> Result<Sums, StoreError> {
    let (begun, mut told, mut bytes) = (Instant::now(), Instant::now(), 0_usize);
    let mut found = Sums::default();
    let mut after = LAST_OWN_KEY.to_vec();
    loop {
        let page = tree.scan(&[], Some(&after), PAGE_CELLS)?;
        for (key, stored) in &page {
            bytes = bytes.saturating_add(key.len()).saturating_add(stored.len());
            summing.count(&mut found, key, stored);
        }
        let Some((last, _)) = page.into_iter().next_back() else { break };
        after = last;
        if told.elapsed() >= TELL_EVERY {
            told = Instant::now();
            tracing::info!(cells = found.all.cells, bytes, "the start-up check reads the store");
        }
    }
    let ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
    tracing::debug!(cells = found.all.cells, bytes, ms, "the start-up check has read the store");
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::CellKey;

    const COMMITS: u8 = 100;

    /// A store of so many commits, and its log.
    fn filled(folder: &Path, meta: &Meta) -> std::path::PathBuf {
        let Verified { mut tree, mut sums, note } = open(folder, meta).unwrap();
        for number in 0..COMMITS {
            let writes = [(vec![1, b'a', number], Some(vec![number; 500]))].into();
            let (changed, own) = meta.summing().change(&sums, &tree, &writes, Commit::default().at).unwrap();
            tree.apply(writes, own).unwrap();
            tree.flush().unwrap();
            note.write(changed.commit).unwrap();
            sums.take(changed);
        }
        folder.join("db")
    }

    fn turn_a_bit(log: &Path) {
        let mut bytes = std::fs::read(log).unwrap();
        let used = bytes.iter().rposition(|byte| *byte != 0).unwrap();
        bytes[used / 2] ^= 1;
        std::fs::write(log, bytes).unwrap();
    }

    /// Why the check is needed: sled takes the rest of its log for something that was never finished, and cuts it off.
    #[test]
    fn sled_alone_opens_with_less_after_one_turned_bit() {
        let meta = Meta::new(&CellKey::from_bytes([1; 32]));
        let folder = tempfile::tempdir().unwrap();
        turn_a_bit(&filled(folder.path(), &meta));
        let tree = Tree::open(folder.path()).unwrap();
        let left = tree.scan(&[1, b'a'], None, 1_000).unwrap().len();
        assert!((1..usize::from(COMMITS)).contains(&left), "sled alone says nothing of it: {left} are left");
        drop(tree);
        let said = open(folder.path(), &meta).map(|_| ()).unwrap_err();
        let lost = format!("its last {} commits are gone", usize::from(COMMITS) - left);
        assert!(said.to_string().contains(&lost), "{said}");
    }
}
