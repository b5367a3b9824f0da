//! The mount: what the kernel asks, answered from a [`State`].

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::sleep;
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result};
use fuser::{
    BackgroundSession, BsdFileFlags, Config, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags,
    Generation, INodeNo, LockOwner, MountOption, OpenFlags, RenameFlags, ReplyAttr, ReplyCreate, ReplyData,
    ReplyDirectory, ReplyEmpty, ReplyEntry, ReplyOpen, ReplyStatfs, ReplyWrite, Request, TimeOrNow,
    WriteFlags,
};

use crate::power::{Seeded, Survives, lay_out_all};
use crate::state::{BLOCK, Node, State};

/// The kernel remembers nothing: what is on the disk may be another thing after a loss of power.
const TTL: Duration = Duration::ZERO;
/// What of a mode says what kind of a file it is, and that it is a socket.
const KIND: u32 = 0o170_000;
const SOCKET: u32 = 0o140_000;

/// What is the matter with a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// Nothing.
    None,
    /// So many bytes are free.
    Full(u64),
    /// No byte is free, and it says that there is room: a quota, or somebody who is faster.
    FullUnsaid,
    /// Each write and each flush takes so long.
    Slow(Duration),
}

/// A mounted disk.
pub struct Disk {
    state: Arc<Mutex<State>>,
    slow: Arc<Mutex<Duration>>,
    capacity: u64,
    _session: BackgroundSession,
    folder: tempfile::TempDir,
}

impl Disk {
    /// Mounts one that remembers every step.
    ///
    /// # Errors
    /// There is no FUSE here: without it there is no way to lose what was not flushed, so a test that needs it fails.
    pub fn mount(capacity: u64, told_free: Option<u64>) -> Result<Self> {
        Self::made(capacity, told_free, false)
    }

    /// Mounts one for a long time: it remembers what it needs for [`Disk::lose_power`] only.
    ///
    /// # Errors
    /// As [`Disk::mount`].
    pub fn mount_for_long(capacity: u64) -> Result<Self> {
        Self::made(capacity, None, true)
    }

    fn made(capacity: u64, told_free: Option<u64>, folds: bool) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let like = folder.path().metadata()?;
        let state = State::new(capacity, told_free, folds, (like.uid(), like.gid()));
        let (state, slow) = (Arc::new(Mutex::new(state)), Arc::default());
        let mut config = Config::default();
        config.mount_options = vec![MountOption::FSName("handover-faults".to_owned())];
        let mounted = Mounted { state: Arc::clone(&state), slow: Arc::clone(&slow) };
        let session = fuser::spawn_mount(mounted, folder.path(), &config).context(
            "cannot mount a disk that loses writes: this test needs /dev/fuse and, for others than root, \
             fusermount3; give a container --device /dev/fuse --cap-add SYS_ADMIN",
        )?;
        Ok(Self { state, slow, capacity, _session: session, folder })
    }

    /// Where it is mounted.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// What is on it.
    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives it another size.
    pub fn resize(&self, capacity: u64) {
        self.state().capacity = capacity;
    }

    /// Begins trouble in the place of any other.
    pub fn begin(&self, trouble: Trouble) {
        let mut state = self.state();
        let used = state.used();
        (state.capacity, state.told_free) = match trouble {
            Trouble::None | Trouble::Slow(_) => (self.capacity, None),
            Trouble::Full(free) => (used + free, None),
            Trouble::FullUnsaid => (used, Some(self.capacity)),
        };
        let slow = if let Trouble::Slow(delay) = trouble { delay } else { Duration::ZERO };
        *self.slow.lock().unwrap_or_else(PoisonError::into_inner) = slow;
    }

    /// Power is lost, once who wrote is gone: what was not flushed survives as `survives` says.
    pub fn lose_power(&self, survives: Survives, seeded: &mut Seeded) {
        self.state().lose_power(survives, seeded);
    }

    /// Writes everything to another folder, for people to look at.
    ///
    /// # Errors
    /// The file system's.
    pub fn copy_to(&self, folder: &Path) -> Result<()> {
        let nodes = self.state().nodes.clone();
        Ok(lay_out_all(&nodes, folder)?)
    }
}

struct Mounted {
    state: Arc<Mutex<State>>,
    slow: Arc<Mutex<Duration>>,
}

impl Mounted {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One after another, as on a disk that is busy: reads wait behind writes.
    fn work(&self) {
        let delay = *self.slow.lock().unwrap_or_else(PoisonError::into_inner);
        sleep(delay);
    }
}

fn empty(reply: ReplyEmpty, done: Result<(), Errno>) {
    match done {
        Ok(()) => reply.ok(),
        Err(error) => reply.error(error),
    }
}

fn entry(reply: ReplyEntry, done: Result<FileAttr, Errno>) {
    match done {
        Ok(found) => reply.entry(&TTL, &found, Generation(0)),
        Err(error) => reply.error(error),
    }
}

fn attributes(reply: ReplyAttr, done: Result<FileAttr, Errno>) {
    match done {
        Ok(found) => reply.attr(&TTL, &found),
        Err(error) => reply.error(error),
    }
}

impl Filesystem for Mounted {
    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let mut state = self.state();
        let found = state.named(parent, name).and_then(|number| state.attributes(number));
        entry(reply, found);
    }

    fn getattr(&self, _: &Request, ino: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        attributes(reply, self.state().attributes(ino.0));
    }

    fn setattr(
        &self,
        _: &Request,
        ino: INodeNo,
        mode: Option<u32>,
        _: Option<u32>,
        _: Option<u32>,
        size: Option<u64>,
        _: Option<TimeOrNow>,
        _: Option<TimeOrNow>,
        _: Option<SystemTime>,
        _: Option<FileHandle>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        attributes(reply, self.state().change(ino.0, mode, size));
    }

    fn open(&self, _: &Request, ino: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        self.state().opened(ino.0);
        // Straight here, in pieces as large as they are written.
        reply.opened(FileHandle(0), FopenFlags::FOPEN_DIRECT_IO);
    }

    fn release(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        _: OpenFlags,
        _: Option<LockOwner>,
        _: bool,
        reply: ReplyEmpty,
    ) {
        self.state().closed(ino.0);
        reply.ok();
    }

    fn mkdir(&self, _: &Request, parent: INodeNo, name: &OsStr, mode: u32, umask: u32, reply: ReplyEntry) {
        entry(reply, self.state().make(parent, name, Node::Folder(BTreeMap::new()), mode & !umask));
    }

    fn mknod(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        _: u32,
        reply: ReplyEntry,
    ) {
        let node = if mode & KIND == SOCKET { Node::Socket } else { Node::File(Vec::new()) };
        entry(reply, self.state().make(parent, name, node, mode & !umask));
    }

    fn create(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        _: i32,
        reply: ReplyCreate,
    ) {
        let mut state = self.state();
        match state.make(parent, name, Node::File(Vec::new()), mode & !umask) {
            Ok(made) => {
                state.opened(made.ino.0);
                reply.created(&TTL, &made, Generation(0), FileHandle(0), FopenFlags::FOPEN_DIRECT_IO);
            }
            Err(error) => reply.error(error),
        }
    }

    fn unlink(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        empty(reply, self.state().unname(parent, name));
    }

    fn rmdir(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        empty(reply, self.state().unname(parent, name));
    }

    fn rename(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        newparent: INodeNo,
        newname: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        if flags == RenameFlags::RENAME_EXCHANGE {
            return empty(reply, self.state().exchange((parent, name), (newparent, newname)));
        }
        if !flags.is_empty() {
            return reply.error(Errno::EINVAL);
        }
        empty(reply, self.state().rename((parent, name), (newparent, newname)));
    }

    fn read(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let mut state = self.state();
        state.reads += 1;
        if state.fails == Some(state.reads) {
            return reply.error(Errno::EIO);
        }
        let Some(Node::File(bytes)) = state.nodes.get(&ino.0) else { return reply.error(Errno::ENOENT) };
        let start = (offset as usize).min(bytes.len());
        let end = (start + size as usize).min(bytes.len());
        reply.data(bytes.get(start..end).unwrap_or_default());
    }

    fn write(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        data: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        self.work();
        match self.state().put(ino.0, offset, data) {
            Ok(()) => reply.written(data.len() as u32),
            Err(error) => reply.error(error),
        }
    }

    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        reply.ok();
    }

    fn fsync(&self, _: &Request, ino: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        self.work();
        self.state().sync(ino.0);
        reply.ok();
    }

    fn fsyncdir(&self, _: &Request, ino: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        self.work();
        self.state().sync_folder(ino.0);
        reply.ok();
    }

    fn readdir(&self, _: &Request, ino: INodeNo, _: FileHandle, offset: u64, mut reply: ReplyDirectory) {
        let mut state = self.state();
        let names = match state.names(ino.0) {
            Ok(names) => names.clone(),
            Err(error) => return reply.error(error),
        };
        for (at, (name, number)) in names.iter().enumerate().skip(offset as usize) {
            let kind = match state.nodes.get(number) {
                Some(Node::Folder(_)) => FileType::Directory,
                Some(Node::Socket) => FileType::Socket,
                _ => FileType::RegularFile,
            };
            if reply.add(INodeNo(*number), at as u64 + 1, kind, name) {
                break;
            }
        }
        reply.ok();
    }

    fn statfs(&self, _: &Request, _: INodeNo, reply: ReplyStatfs) {
        let state = self.state();
        let free = state.free() / BLOCK;
        reply.statfs(state.capacity / BLOCK, free, free, 1000, 1000, BLOCK as u32, 255, BLOCK as u32);
    }
}
