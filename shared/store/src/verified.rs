//! The start-up check: a store is served only if it holds everything that it acknowledged. What it keeps of itself is
//! compared with the note beside it and with a reading of every cell; so it does not matter what a damaged engine takes
//! for whole.

use std::path::Path;

use handover_core::time::Clock as _;
use handover_seal::SystemClock;

use crate::StoreError;
use crate::before;
use crate::meta::{META_KEY, MOVE_KEY, Meta};
use crate::note::{Note, Noted};
use crate::sled_files::RESTORE_OR_REPAIR;
use crate::sled_tree::Tree;
use crate::sums::{Commit, Summing, Sums, is_of_sums};
use crate::telling::Telling;
use crate::txn::{View as _, Writes};

/// Cells that are read in one go.
const PAGE_CELLS: usize = 500;

/// A database whose cells are all accounted for.
pub(crate) struct Verified {
    pub(crate) tree: Tree,
    pub(crate) sums: Sums,
    pub(crate) note: Note,
}

/// Opens the store in `folder`, made if it is not there.
pub(crate) fn open(folder: &Path, meta: &Meta) -> Result<Verified, StoreError> {
    let opened = Tree::open_after(folder, |whole| before::keep(folder, whole));
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

fn check(folder: &Path, mut tree: Tree, meta: &Meta, mut noted: Noted) -> Result<Verified, StoreError> {
    let stored = tree.get(META_KEY)?;
    let is_empty = tree.is_empty()?;
    match noted {
        Noted::Last(last) if is_empty && last.number > 0 => return Err(lost(&[gone(last, None)])),
        Noted::Unreadable if is_empty => {
            return Err(lost(&["its files are empty, its note is not".to_owned()]));
        }
        _ => {}
    }
    let summing = meta.summing();
    let first: Writes = match meta.admit(stored.as_deref(), is_empty) {
        // Its sums could not be read with another key.
        Err(StoreError::WrongKey) if summing.kept(&tree)?.is_some() => {
            return Err(lost(&["its format cell is not what was written".to_owned()]));
        }
        admitted => admitted?.into_iter().map(|(key, value)| (key, Some(value))).collect(),
    };
    if !first.is_empty() {
        Note::make(folder)?;
        noted = Note::read(folder)?;
        let (_, own) = summing.change(&Sums::default(), &tree, &first, SystemClock.now())?;
        tree.apply(first, own)?;
        tree.flush()?;
    }
    let mark = tree.get(MOVE_KEY)?;
    meta.admit_mark(mark.as_deref())?;
    let Some(kept) = summing.kept(&tree)? else {
        return Err(lost(&["what the store keeps of itself cannot be read".to_owned()]));
    };
    let mut losses = losses(noted, &kept);
    if mark.is_none() && is_marked(noted, Some(&kept)) {
        losses.push("its mark, that it was moved or is not complete, is gone".to_owned());
    }
    let found = recount(&tree, summing, kept.all.cells)?;
    losses.extend(kept.differences(&found));
    if !losses.is_empty() {
        return Err(lost(&losses));
    }
    before::forget(folder)?;
    let note = Note::open(folder, kept.commit)?;
    Ok(Verified { tree, sums: kept, note })
}

/// What the note says that the store does not.
pub(crate) fn losses(noted: Noted, kept: &Sums) -> Vec<String> {
    match noted {
        Noted::Last(last) if last.number > kept.commit.number => vec![gone(last, Some(kept.commit))],
        Noted::Last(_) => Vec::new(),
        // The note is made before the store is.
        Noted::Nothing | Noted::Unreadable => {
            vec!["its note of the last commit is gone, so nobody can tell whether later ones are".to_owned()]
        }
    }
}

/// Whether the store has to have a mark that keeps it from opening. Note and number are never behind by a mark.
pub(crate) fn is_marked(noted: Noted, kept: Option<&Sums>) -> bool {
    let noted = match noted {
        Noted::Last(last) => Some(last),
        Noted::Nothing | Noted::Unreadable => None,
    };
    noted.max(kept.map(|kept| kept.commit)).is_some_and(|last| last.is_marked)
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

/// Reads every cell; there are to be so many.
fn recount(tree: &Tree, summing: &Summing, cells: u64) -> Result<Sums, StoreError> {
    let mut telling = Telling::new("values", cells);
    let mut found = Sums::default();
    let mut after: Option<Vec<u8>> = None;
    loop {
        let page = tree.scan(&[], after.as_deref(), PAGE_CELLS)?;
        for (key, stored) in page.iter().filter(|(key, _)| !is_of_sums(key)) {
            summing.count(&mut found, key, stored);
        }
        let Some((last, _)) = page.into_iter().next_back() else { break };
        after = Some(last);
        telling.tell(found.all.cells);
    }
    telling.end();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use handover_core::Code;

    use super::*;
    use crate::CellKey;
    use crate::meta::Mark;
    use crate::txn::Cell;

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

    /// Writes past number and sums, over what an opening that was refused keeps.
    fn alter(folder: &Path, writes: Writes, own: Vec<Cell>) {
        before::forget(folder).unwrap();
        let mut tree = Tree::open(folder).unwrap();
        tree.apply(writes, own).unwrap();
        tree.flush().unwrap();
    }

    /// Whatever becomes of a cell of the store's own, it does not open as if nothing were.
    #[test]
    fn the_stores_own_cells_are_missed() {
        let cell_key = CellKey::from_bytes([1; 32]);
        let (meta, mark) = (Meta::new(&cell_key), Mark::Moved { to: "there".to_owned() });
        let base = tempfile::tempdir().unwrap();
        drop(filled(base.path(), &meta));
        let verified = open(base.path(), &meta).unwrap();
        let own = verified.tree.scan(b"\0", None, 100).unwrap();
        assert_eq!(own.len(), 4, "format, number, sums of two kinds");
        drop(verified);
        for (key, value) in own {
            for bit in (0..value.len() * 8).step_by(47).map(Some).chain([None]) {
                let altered = bit.map(|bit| {
                    let mut value = value.clone();
                    value[bit / 8] ^= 1 << (bit % 8);
                    value
                });
                alter(base.path(), [(key.clone(), altered)].into(), Vec::new());
                let said = open(base.path(), &meta).map(|_| ()).unwrap_err();
                let is_named = matches!(said.code(), Code::StoreDamaged | Code::StoreUnavailable);
                assert!(is_named, "{key:?} {bit:?} {said}");
                alter(base.path(), [].into(), vec![(key.clone(), value.clone())]);
            }
        }
        // A mark that is gone, with number and sums as they are, or as they were before it.
        let Verified { mut tree, sums, note } = open(base.path(), &meta).unwrap();
        let before: Vec<_> = tree.scan(b"\0", None, 100).unwrap();
        let writes = [(MOVE_KEY.to_vec(), Some(mark.to_bytes()))].into();
        let (changed, own) = meta.summing().change(&sums, &tree, &writes, Commit::default().at).unwrap();
        tree.apply(writes, own).unwrap();
        note.write(changed.commit).unwrap();
        drop(note);
        tree.flush().unwrap();
        drop(tree);
        assert!(matches!(open(base.path(), &meta).map(|_| ()), Err(StoreError::Moved { .. })));
        for own in [Vec::new(), before] {
            alter(base.path(), [(MOVE_KEY.to_vec(), None)].into(), own);
            let said = open(base.path(), &meta).map(|_| ()).unwrap_err();
            assert!(said.to_string().contains("its mark"), "{said}");
        }
    }

    /// Cut back to its first batch, which holds nothing of anybody, it is not taken for a new one.
    #[test]
    fn a_new_store_has_its_note_before_anything_else() {
        let meta = Meta::new(&CellKey::from_bytes([1; 32]));
        let folder = tempfile::tempdir().unwrap();
        drop(open(folder.path(), &meta).unwrap());
        std::fs::remove_file(folder.path().join("commits")).unwrap();
        let said = open(folder.path(), &meta).map(|_| ()).unwrap_err();
        assert!(said.to_string().contains("its note of the last commit is gone"), "{said}");
        // Killed before its first batch, it is begun again.
        let folder = tempfile::tempdir().unwrap();
        drop(Tree::open(folder.path()).unwrap());
        Note::make(folder.path()).unwrap();
        drop(open(folder.path(), &meta).unwrap());
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
