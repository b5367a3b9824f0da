//! `repair`: salvages what can be read of a damaged store into a fresh one, and keeps the damaged one aside.
//!
//! Invariants: the damaged files are never written to, a copy is read; the fresh store takes their place in one step,
//! durable before; what it holds is sound by itself; that it was repaired stands in it from then on.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};
use std::time::Instant;

use handover_core::Timestamp;
use rustix::fs::{CWD, RenameFlags, renameat_with};

use serde::Serialize;

use crate::blobs::free_bytes;
use crate::cell::Cells;
use crate::meta::{META_KEY, MOVE_KEY, Meta};
use crate::note::{Note, Noted};
use crate::repaired::RepairMark;
use crate::sled_files::{LOCK_LIMIT, LOCK_PAUSE, parent, sync_folder};
use crate::sled_tree::Tree;
use crate::sums::{Sums, kind_of};
use crate::txn::{Cell, View as _, Writes};
use crate::verified::{self, Verified, losses};
use crate::{CellKey, ROOM_BYTES, Store, StoreError, salvage};

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
    /// Repairs the store in `folder`, which no process has open; with `preview`, only says what that would come to.
    /// Needs room for the store twice more. `progress` is told how many values were read. Blocking.
    ///
    /// # Errors
    /// [`StoreError::InUse`]; [`StoreError::WrongKey`]; [`StoreError::Unavailable`] without room; [`StoreError::Damaged`]
    /// or [`StoreError::Lost`] if nothing at all can be read. Nothing was changed then.
    pub fn repair(
        folder: &Path,
        cell_key: &CellKey,
        now: Timestamp,
        preview: bool,
        progress: impl FnMut(u64),
    ) -> Result<Repaired, StoreError> {
        // Whoever has the store open has locked its log; held until all is done.
        let _lock = lock(folder)?;
        let room_bytes = bytes_of(folder)?.saturating_mul(2).saturating_add(ROOM_BYTES);
        let free_bytes = free_bytes(folder)?;
        if free_bytes < room_bytes {
            let reason = format!("needs {} MiB free on its disk, {} are", room_bytes / MIB, free_bytes / MIB);
            return Err(StoreError::Unavailable { doing: "repair the store", reason });
        }
        let (copy, fresh) = (free_name(folder, "copy"), free_name(folder, "damaged"));
        let repair = Repair { folder, copy: &copy, cells: cell_key.cells(), meta: Meta::new(cell_key) };
        let done = repair.run(&fresh, now, preview, progress);
        if let Err(error) = remove(&copy) {
            tracing::warn!(%error, copy = %copy.display(), "the copy that was read is still there; remove it");
        }
        if !matches!(&done, Ok(repaired) if repaired.aside.is_some()) {
            remove(&fresh)?;
        }
        done
    }
}

struct Repair<'a> {
    folder: &'a Path,
    copy: &'a Path,
    cells: Cells,
    meta: Meta,
}

impl Repair<'_> {
    fn run(
        &self,
        fresh: &Path,
        now: Timestamp,
        preview: bool,
        mut progress: impl FnMut(u64),
    ) -> Result<Repaired, StoreError> {
        let noted = Note::read(self.folder)?;
        let tree = self.open_copy()?;
        let kept = Sums::kept(&tree).ok().flatten();
        let mut target = if preview { None } else { Some(self.make(fresh)?) };
        let mut repaired = Repaired::default();
        let mut found = Sums::default();
        let gaps = salvage::each(&tree, |page| {
            let sound = self.sound(page, &mut repaired, &mut found);
            progress(found.all.cells);
            target.as_mut().map_or(Ok(()), |target| self.put(target, sound, now))
        })?;
        self.judge(&mut repaired, noted, kept.as_ref(), &found, gaps)?;
        let Some(mut target) = target.filter(|_| !repaired.is_whole) else { return Ok(repaired) };
        let mut marks = RepairMark::all_in(&tree).unwrap_or_default();
        marks.push(RepairMark {
            at: now,
            commits_lost: repaired.commits_lost,
            values_lost: repaired.values_lost(),
        });
        let marks = marks.iter().map(|mark| (mark.key(), Some(mark.value())));
        self.commit(&mut target, marks.collect(), now)?;
        drop((tree, target));
        for file in files(fresh)? {
            File::open(file)
                .and_then(|file| file.sync_all())
                .map_err(StoreError::io("flush the fresh store"))?;
        }
        sync_folder(fresh)?;
        // In one step: whatever stops this, one of the two is there under the store's name, and both are kept.
        renameat_with(CWD, fresh, CWD, self.folder, RenameFlags::EXCHANGE)
            .map_err(|fault| StoreError::io("put the fresh store in its place")(fault.into()))?;
        // From here on `fresh` names what was there before: no error may pass for a repair that was not done.
        if let Err(error) = sync_folder(&parent(self.folder)) {
            tracing::warn!(%error, "losing power now may take the repair back");
        }
        repaired.aside = Some(fresh.to_owned());
        Ok(repaired)
    }

    /// Opens a copy, for sled writes to what it opens.
    fn open_copy(&self) -> Result<Tree, StoreError> {
        copy_all(self.folder, self.copy)?;
        let tree = Tree::open(self.copy)?;
        // One that was moved, or is half of a copy, is not the store any more: repaired it would be a second one.
        self.meta.admit_mark(tree.get(MOVE_KEY).ok().flatten().as_deref())?;
        match tree.get(META_KEY) {
            Ok(Some(stored)) => match self.meta.admit(Some(&stored), false) {
                Err(fault @ (StoreError::WrongKey | StoreError::UnknownFormat { .. })) => Err(fault),
                _ => Ok(tree),
            },
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

    fn put(&self, target: &mut Verified, cells: Vec<Cell>, now: Timestamp) -> Result<(), StoreError> {
        let writes: Writes = cells.into_iter().map(|(key, value)| (key, Some(value))).collect();
        if writes.is_empty() { Ok(()) } else { self.commit(target, writes, now) }
    }

    fn commit(&self, target: &mut Verified, writes: Writes, now: Timestamp) -> Result<(), StoreError> {
        let (sums, own) = self.meta.summing().change(&target.sums, &target.tree, &writes, now)?;
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
        for (kind, sum) in kept.iter().flat_map(|kept| &kept.kinds) {
            let counts = repaired.kinds.entry(String::from_utf8_lossy(kind).into_owned()).or_default();
            counts.kept = Some(sum.cells);
        }
        repaired.commits_lost = match (noted, kept) {
            (Noted::Last(last), Some(kept)) => Some(last.number.saturating_sub(kept.commit.number)),
            (Noted::Last(last), None) => Some(last.number).filter(|_| found.all.cells == 0),
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
                advice: "keep the folder as it is and restore the last backup; there is nothing to repair",
            });
        }
        Ok(())
    }
}

/// Locks a store's log as sled does, waiting a moment: it lets go a little after a store was closed.
fn lock(folder: &Path) -> Result<File, StoreError> {
    let opened = File::open(folder.join("db")).or_else(|_| File::open(folder));
    let file = opened.map_err(StoreError::io("open the store's folder"))?;
    let end = Instant::now() + LOCK_LIMIT;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::Error(error)) => return Err(StoreError::io("lock the store")(error)),
            Err(TryLockError::WouldBlock) if Instant::now() < end => std::thread::sleep(LOCK_PAUSE),
            Err(TryLockError::WouldBlock) => return Err(StoreError::InUse { folder: folder.to_owned() }),
        }
    }
}

/// A name of its own beside a folder.
fn beside(folder: &Path, what: &str) -> PathBuf {
    let mut name = folder.file_name().unwrap_or_default().to_owned();
    name.push(".");
    name.push(what);
    folder.with_file_name(name)
}

/// Where the damaged files will lie: a name that nothing has.
fn free_name(folder: &Path, what: &str) -> PathBuf {
    let names = (1_u64..).map(|number| beside(folder, &format!("{what}-{number}")));
    names.into_iter().find(|name| !name.exists()).unwrap_or_else(|| beside(folder, what))
}

fn files(folder: &Path) -> Result<Vec<PathBuf>, StoreError> {
    let io = StoreError::io("list the store's files");
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).map_err(&io)? {
        let path = entry.map_err(&io)?.path();
        if path.is_dir() { found.extend(files(&path)?) } else { found.push(path) }
    }
    Ok(found)
}

fn bytes_of(folder: &Path) -> Result<u64, StoreError> {
    let io = StoreError::io("list the store's files");
    files(folder)?
        .iter()
        .try_fold(0_u64, |sum, file| Ok(sum.saturating_add(fs::metadata(file).map_err(&io)?.len())))
}

fn copy_all(from: &Path, to: &Path) -> Result<(), StoreError> {
    let io = StoreError::io("copy the store");
    for file in files(from)? {
        let target = to.join(file.strip_prefix(from).unwrap_or(&file));
        fs::create_dir_all(parent(&target)).map_err(&io)?;
        fs::copy(&file, target).map_err(&io)?;
    }
    Ok(())
}

fn remove(folder: &Path) -> Result<(), StoreError> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(StoreError::io("remove a copy of the store")(error))
        }
        _ => Ok(()),
    }
}
