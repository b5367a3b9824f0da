//! `repair`: salvages what can be read of a damaged store into a fresh one, and keeps the damaged one aside.
//!
//! Invariants: the damaged files are never written to, a copy is read; the fresh store takes their place in one step,
//! durable before and owned by whom the old one is; what it holds is sound by itself; that it was repaired stands in it from then on.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use handover_core::Timestamp;
use rustix::fs::{CWD, RenameFlags, renameat_with};

use serde::Serialize;

use crate::blobs::free_bytes;
use crate::cell::Cells;
use crate::meta::{META_KEY, MOVE_KEY, Meta, OWN_START};
use crate::note::{Note, Noted};
use crate::repair_files::{
    COPY, DAMAGED, begin, bytes_of, complete, copy_all, like, refuse_mount, remove, remove_left, sync_all,
};
use crate::repaired::RepairMark;
use crate::sled_files::{lock, parent, sync_folder};
use crate::sled_tree::Tree;
use crate::sums::{OWN_KIND, Sums, is_of_sums, kind_of};
use crate::txn::{Cell, View as _, Writes};
use crate::verified::{self, Verified, is_marked, losses};
use crate::{CellKey, ROOM_BYTES, SCAN_MAX_CELLS, Store, StoreError, before, salvage};

const MIB: u64 = 1024 * 1024;

/// What became of one kind of values.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct KindRepaired {
    /// How many there were, if that can still be read; as of the last commit that can be.
    pub kept: Option<u64>,
    /// How many were salvaged.
    pub salvaged: u64,
    /// How many are there and do not open.
    pub unreadable: u64,
}

/// What a repair did, or would do.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Repaired {
    /// Nothing is damaged, and nothing was done.
    pub is_whole: bool,
    /// What is gone, in words.
    pub gone: Vec<String>,
    /// Acknowledged commits that are gone; absent if nobody can tell.
    pub commits_lost: Option<u64>,
    /// Values by kind: the label that stands readable in their keys.
    pub kinds: BTreeMap<String, KindRepaired>,
    /// Where the damaged files are now; absent where nothing was done.
    pub aside: Option<PathBuf>,
}

impl Repaired {
    /// Values that were salvaged.
    #[must_use]
    pub fn salvaged(&self) -> u64 {
        self.kinds.values().map(|kind| kind.salvaged).sum()
    }

    /// Values that are known to be gone.
    #[must_use]
    pub fn values_lost(&self) -> u64 {
        self.kinds.values().map(|kind| kind.kept.unwrap_or(0).saturating_sub(kind.salvaged)).sum()
    }
}

/// For people.
impl fmt::Display for Repaired {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_whole {
            return writeln!(f, "{} values, nothing is damaged, nothing was changed", self.salvaged());
        }
        let word = if self.aside.is_some() { "salvaged" } else { "can be salvaged" };
        writeln!(f, "{} values {word}", self.salvaged())?;
        for gone in &self.gone {
            writeln!(f, "  {gone}")?;
        }
        for (kind, it) in self.kinds.iter().filter(|(_, it)| it.unreadable > 0) {
            writeln!(f, "  {} values of `{kind}` do not open", it.unreadable)?;
        }
        match &self.aside {
            Some(aside) => writeln!(f, "the damaged store is kept in {}; give check now", aside.display()),
            None => writeln!(f, "nothing was changed"),
        }
    }
}

impl Store {
    /// Repairs the store in `folder`, which no process has open; with `preview`, only says what that would come to. Its
    /// mark says that it was done `by` whom. Needs room for the store twice more beside it, and removes what a repair
    /// left that was cut off. `progress` is told how many values were read. Blocking.
    ///
    /// # Errors
    /// [`StoreError::InUse`]; [`StoreError::WrongKey`]; [`StoreError::Moved`] or [`StoreError::Unfinished`];
    /// [`StoreError::Unavailable`] without room, or where the folder is a mount; [`StoreError::Damaged`] or
    /// [`StoreError::Lost`] if nothing at all can be read. Nothing was changed then.
    pub fn repair(
        folder: &Path,
        cell_key: &CellKey,
        now: Timestamp,
        by: &str,
        preview: bool,
        progress: impl FnMut(u64),
    ) -> Result<Repaired, StoreError> {
        // Folders are exchanged where it really lies.
        let folder = &folder.canonicalize().map_err(StoreError::io("find the store's folder"))?;
        // Whoever has the store open has locked its log; held until all is done.
        let _lock = lock(folder)?;
        refuse_mount(folder)?;
        remove_left(folder)?;
        let room_bytes = bytes_of(folder)?.saturating_mul(2).saturating_add(ROOM_BYTES);
        let free_bytes = free_bytes(&parent(folder))?;
        if free_bytes < room_bytes {
            let reason = format!("needs {} MiB free on its disk, {} are", room_bytes / MIB, free_bytes / MIB);
            return Err(StoreError::Unavailable { doing: "repair the store", reason });
        }
        let copy = begin(folder, COPY)?;
        let repair =
            Repair { folder, copy: &copy, cells: cell_key.cells(), meta: Meta::new(cell_key), now, by };
        let done = begin(folder, DAMAGED).and_then(|fresh| {
            let done = repair.run(&fresh, preview, progress);
            if !matches!(&done, Ok(repaired) if repaired.aside.is_some()) {
                remove(&fresh)?;
            }
            done
        });
        if let Err(error) = remove(&copy) {
            tracing::warn!(%error, copy = %copy.display(), "the copy that was read is still there; remove it");
        }
        done
    }
}

struct Repair<'a> {
    folder: &'a Path,
    copy: &'a Path,
    cells: Cells,
    meta: Meta,
    now: Timestamp,
    by: &'a str,
}

impl Repair<'_> {
    fn run(
        &self,
        fresh: &Path,
        preview: bool,
        mut progress: impl FnMut(u64),
    ) -> Result<Repaired, StoreError> {
        let noted = Note::read(self.folder)?;
        let tree = self.open_copy()?;
        let kept = self.meta.summing().kept(&tree).ok().flatten();
        if is_marked(noted, kept.as_ref()) {
            return Err(StoreError::Damaged {
                what: "this store's mark".to_owned(),
                advice: "it was moved elsewhere, or is a copy that is not complete, and cannot say any more which: it \
                         is not the store, and is not repaired",
            });
        }
        let mut target = if preview { None } else { Some(self.make(fresh)?) };
        let mut repaired = Repaired::default();
        let mut found = Sums::default();
        let gaps = salvage::each(&tree, |page| {
            let sound = self.sound(page, &mut repaired, &mut found);
            progress(found.all.cells);
            target.as_mut().map_or(Ok(()), |target| self.put(target, sound))
        })?;
        // The store's own are made anew.
        for (key, stored) in tree.scan(OWN_START, None, SCAN_MAX_CELLS).unwrap_or_default() {
            if !is_of_sums(&key) {
                self.meta.summing().count(&mut found, &key, &stored);
            }
        }
        self.judge(&mut repaired, noted, kept.as_ref(), &found, gaps)?;
        let Some(mut target) = target.filter(|_| !repaired.is_whole) else { return Ok(repaired) };
        let mut marks = RepairMark::all_in(&tree).unwrap_or_default();
        marks.push(RepairMark {
            at: self.now,
            by: self.by.to_owned(),
            commits_lost: repaired.commits_lost,
            values_lost: repaired.values_lost(),
        });
        let marks = marks.iter().map(|mark| (mark.key(), Some(mark.value())));
        self.commit(&mut target, marks.collect())?;
        drop((tree, target));
        like(self.folder, fresh)?;
        sync_all(fresh)?;
        // In one step: whatever stops this, one of the two is there under the store's name, and both are kept.
        renameat_with(CWD, fresh, CWD, self.folder, RenameFlags::EXCHANGE)
            .map_err(|fault| StoreError::io("put the fresh store in its place")(fault.into()))?;
        // From here on `fresh` names what was there before: no error may pass for a repair that was not done.
        if let Err(error) = sync_folder(&parent(self.folder)).and_then(|()| complete(self.folder)) {
            tracing::warn!(%error, "losing power now may take the repair back");
        }
        repaired.aside = Some(fresh.to_owned());
        Ok(repaired)
    }

    /// Opens a copy, for sled writes to what it opens.
    fn open_copy(&self) -> Result<Tree, StoreError> {
        copy_all(self.folder, self.copy)?;
        // As it was before an opening that did not come to its end.
        before::put_back(self.copy)?;
        let tree = Tree::open(self.copy)?;
        // One that was moved, or is half of a copy, is not the store any more: repaired it would be a second one.
        self.meta.admit_mark(tree.get(MOVE_KEY).ok().flatten().as_deref())?;
        let stored = tree.get(META_KEY).ok().flatten();
        match stored.map(|stored| self.meta.admit(Some(&stored), false)) {
            Some(Err(fault @ (StoreError::WrongKey | StoreError::UnknownFormat { .. }))) => {
                // With another key its sums could not be read.
                let is_altered = self.meta.summing().kept(&tree).is_ok_and(|kept| kept.is_some());
                if is_altered { Ok(tree) } else { Err(fault) }
            }
            _ => Ok(tree),
        }
    }

    fn make(&self, fresh: &Path) -> Result<Verified, StoreError> {
        verified::open(fresh, &self.meta)
    }

    /// Those of a page's cells that open; all of them are counted.
    fn sound(&self, page: Vec<Cell>, repaired: &mut Repaired, found: &mut Sums) -> Vec<Cell> {
        let mut sound = Vec::with_capacity(page.len());
        for (key, stored) in page {
            self.meta.summing().count(found, &key, &stored);
            let kind = String::from_utf8_lossy(kind_of(&key)).into_owned();
            let counts = repaired.kinds.entry(kind).or_default();
            if self.cells.open(&key, &stored).is_ok() {
                counts.salvaged = counts.salvaged.saturating_add(1);
                sound.push((key, stored));
            } else {
                counts.unreadable = counts.unreadable.saturating_add(1);
            }
        }
        sound
    }

    fn put(&self, target: &mut Verified, cells: Vec<Cell>) -> Result<(), StoreError> {
        let writes: Writes = cells.into_iter().map(|(key, value)| (key, Some(value))).collect();
        if writes.is_empty() { Ok(()) } else { self.commit(target, writes) }
    }

    fn commit(&self, target: &mut Verified, writes: Writes) -> Result<(), StoreError> {
        let (sums, own) = self.meta.summing().change(&target.sums, &target.tree, &writes, self.now)?;
        target.tree.apply(writes, own)?;
        target.tree.flush()?;
        target.note.write(sums.commit)?;
        target.sums.take(sums);
        Ok(())
    }

    /// Says what is gone.
    fn judge(
        &self,
        repaired: &mut Repaired,
        noted: Noted,
        kept: Option<&Sums>,
        found: &Sums,
        gaps: u64,
    ) -> Result<(), StoreError> {
        let unreadable: u64 = repaired.kinds.values().map(|kind| kind.unreadable).sum();
        if unreadable > 0 && repaired.salvaged() == 0 {
            return Err(StoreError::WrongKey);
        }
        let is_empty = repaired.kinds.is_empty();
        for (kind, sum) in kept.iter().flat_map(|kept| &kept.kinds).filter(|(kind, _)| *kind != OWN_KIND) {
            let counts = repaired.kinds.entry(String::from_utf8_lossy(kind).into_owned()).or_default();
            counts.kept = Some(sum.cells);
        }
        repaired.commits_lost = match (noted, kept) {
            (Noted::Last(last), Some(kept)) => Some(last.number.saturating_sub(kept.commit.number)),
            (Noted::Last(last), None) => Some(last.number).filter(|_| is_empty),
            (Noted::Nothing | Noted::Unreadable, _) => None,
        };
        match kept {
            Some(kept) => {
                repaired.gone = losses(noted, kept);
                repaired.gone.extend(kept.differences(found));
            }
            None => repaired.gone.push("what the store kept of itself cannot be read".to_owned()),
        }
        if gaps > 0 {
            repaired.gone.push(format!("{gaps} parts of its keys cannot be read"));
        }
        if unreadable > 0 {
            repaired.gone.push(format!("{unreadable} values do not open"));
        }
        repaired.is_whole = repaired.gone.is_empty();
        if !repaired.is_whole && repaired.salvaged() == 0 {
            return Err(StoreError::Lost {
                what: "nothing of it can be read".to_owned(),
                advice: "move the folder away as it is and put the last backup in its place; there is nothing to repair",
            });
        }
        Ok(())
    }
}
