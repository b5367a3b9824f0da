//! A disk in memory under a FUSE mount: it notes every write, name and flush in their order, so that what a loss of
//! power leaves at any moment can be put together afterwards, and it can be full.
//!
//! `sync_file_range` does not come here, as it does not reach a real disk's cache: only `fsync` and `fdatasync` count.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fuser::{
    BackgroundSession, BsdFileFlags, Config, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags,
    Generation, INodeNo, LockOwner, MountOption, OpenFlags, RenameFlags, ReplyAttr, ReplyCreate, ReplyData,
    ReplyDirectory, ReplyEmpty, ReplyEntry, ReplyOpen, ReplyStatfs, ReplyWrite, Request, TimeOrNow,
    WriteFlags,
};

const TTL: Duration = Duration::from_secs(1);
const BLOCK: u64 = 4096;

/// Something that happened on the disk.
#[derive(Clone, Debug)]
pub(crate) enum Op {
    Write { file: u64, at: u64, bytes: Vec<u8> },
    Length { file: u64, bytes: u64 },
    Sync { file: u64 },
    Name { folder: u64, name: String, is: u64, is_folder: bool },
    Unname { folder: u64, name: String },
    Rename { folder: u64, name: String, to: u64, new: String },
    SyncFolder { folder: u64 },
}

#[derive(Clone, Debug)]
pub(crate) enum Node {
    File(Vec<u8>),
    Folder(BTreeMap<String, u64>),
}

#[derive(Default)]
pub(crate) struct State {
    pub(crate) nodes: BTreeMap<u64, Node>,
    pub(crate) ops: Vec<Op>,
    /// The most bytes of all files.
    capacity: u64,
    /// What `statfs` says is free, if not the truth.
    told_free: Option<u64>,
    /// User and group.
    owner: (u32, u32),
}

/// A mounted disk.
pub(crate) struct Disk {
    state: Arc<Mutex<State>>,
    _session: BackgroundSession,
    folder: tempfile::TempDir,
}

impl Disk {
    /// Mounts one. Without FUSE there is no way to lose what was not flushed, so that is a failure.
    pub(crate) fn mount(capacity: u64, told_free: Option<u64>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let like = folder.path().metadata().unwrap();
        let mut state = State { capacity, told_free, owner: (like.uid(), like.gid()), ..State::default() };
        state.nodes.insert(INodeNo::ROOT.0, Node::Folder(BTreeMap::new()));
        let state = Arc::new(Mutex::new(state));
        let mut config = Config::default();
        config.mount_options = vec![MountOption::FSName("handover-faults".to_owned())];
        let session = fuser::spawn_mount(Mounted(Arc::clone(&state)), folder.path(), &config)
            .unwrap_or_else(|error| {
                panic!(
                    "cannot mount a disk that loses writes ({error}): this test needs /dev/fuse and, for others than \
                     root, fusermount3; give a container --device /dev/fuse --cap-add SYS_ADMIN"
                )
            });
        Self { state, _session: session, folder }
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Gives it another size.
    pub(crate) fn resize(&self, capacity: u64) {
        self.state().capacity = capacity;
    }
}

impl State {
    fn used(&self) -> u64 {
        let files = self.nodes.values().map(|node| match node {
            Node::File(bytes) => bytes.len() as u64,
            Node::Folder(_) => 0,
        });
        files.sum()
    }

    fn names(&mut self, folder: u64) -> Result<&mut BTreeMap<String, u64>, Errno> {
        match self.nodes.get_mut(&folder) {
            Some(Node::Folder(names)) => Ok(names),
            _ => Err(Errno::ENOTDIR),
        }
    }

    fn named(&mut self, folder: INodeNo, name: &OsStr) -> Result<u64, Errno> {
        self.names(folder.0)?.get(text(name).as_str()).copied().ok_or(Errno::ENOENT)
    }

    fn make(&mut self, folder: INodeNo, name: &OsStr, node: Node) -> Result<FileAttr, Errno> {
        let number = 1 + self.nodes.keys().next_back().copied().unwrap_or(1).max(self.highest());
        let is_folder = matches!(node, Node::Folder(_));
        self.names(folder.0)?.insert(text(name), number);
        self.nodes.insert(number, node);
        self.ops.push(Op::Name { folder: folder.0, name: text(name), is: number, is_folder });
        self.attributes(number)
    }

    /// The highest number that was ever given.
    fn highest(&self) -> u64 {
        let given = self.ops.iter().rev().find_map(|op| match op {
            Op::Name { is, .. } => Some(*is),
            _ => None,
        });
        given.unwrap_or(1)
    }

    fn attributes(&self, number: u64) -> Result<FileAttr, Errno> {
        let (kind, size) = match self.nodes.get(&number) {
            Some(Node::File(bytes)) => (FileType::RegularFile, bytes.len() as u64),
            Some(Node::Folder(_)) => (FileType::Directory, 0),
            None => return Err(Errno::ENOENT),
        };
        Ok(FileAttr {
            ino: INodeNo(number),
            size,
            blocks: size.div_ceil(512),
            atime: UNIX_EPOCH,
            mtime: UNIX_EPOCH,
            ctime: UNIX_EPOCH,
            crtime: UNIX_EPOCH,
            kind,
            perm: 0o700,
            nlink: 1,
            uid: self.owner.0,
            gid: self.owner.1,
            rdev: 0,
            blksize: BLOCK as u32,
            flags: 0,
        })
    }

    fn put(&mut self, file: u64, at: u64, bytes: &[u8]) -> Result<(), Errno> {
        let (free, end) = (self.capacity.saturating_sub(self.used()), at + bytes.len() as u64);
        let Some(Node::File(content)) = self.nodes.get_mut(&file) else { return Err(Errno::ENOENT) };
        if end.saturating_sub(content.len() as u64) > free {
            return Err(Errno::ENOSPC);
        }
        overwrite(content, at, bytes);
        self.ops.push(Op::Write { file, at, bytes: bytes.to_vec() });
        Ok(())
    }

    fn unname(&mut self, folder: INodeNo, name: &OsStr) -> Result<(), Errno> {
        let number = self.named(folder, name)?;
        self.names(folder.0)?.remove(text(name).as_str());
        self.ops.push(Op::Unname { folder: folder.0, name: text(name) });
        // An open file stays readable by its number; what it holds is free again for others.
        if let Some(Node::File(bytes)) = self.nodes.get_mut(&number) {
            bytes.clear();
        }
        Ok(())
    }

    fn rename(&mut self, from: (INodeNo, &OsStr), to: (INodeNo, &OsStr)) -> Result<(), Errno> {
        let number = self.named(from.0, from.1)?;
        self.names(from.0.0)?.remove(text(from.1).as_str());
        self.names(to.0.0)?.insert(text(to.1), number);
        self.ops.push(Op::Rename { folder: from.0.0, name: text(from.1), to: to.0.0, new: text(to.1) });
        Ok(())
    }
}

/// Writes into a file's content, with zeros before it if it begins behind the end.
pub(crate) fn overwrite(content: &mut Vec<u8>, at: u64, bytes: &[u8]) {
    let at = at as usize;
    content.resize(content.len().max(at + bytes.len()), 0);
    content[at..at + bytes.len()].copy_from_slice(bytes);
}

fn text(name: &OsStr) -> String {
    name.to_str().unwrap().to_owned()
}

struct Mounted(Arc<Mutex<State>>);

impl Mounted {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
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
        _: Option<u32>,
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
        let mut state = self.state();
        if let (Some(bytes), Some(Node::File(content))) = (size, state.nodes.get_mut(&ino.0)) {
            content.resize(bytes as usize, 0);
            state.ops.push(Op::Length { file: ino.0, bytes });
        }
        attributes(reply, state.attributes(ino.0));
    }

    fn open(&self, _: &Request, _: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        // Straight here, in pieces as large as they are written.
        reply.opened(FileHandle(0), FopenFlags::FOPEN_DIRECT_IO);
    }

    fn mkdir(&self, _: &Request, parent: INodeNo, name: &OsStr, _: u32, _: u32, reply: ReplyEntry) {
        entry(reply, self.state().make(parent, name, Node::Folder(BTreeMap::new())));
    }

    fn create(&self, _: &Request, parent: INodeNo, name: &OsStr, _: u32, _: u32, _: i32, reply: ReplyCreate) {
        match self.state().make(parent, name, Node::File(Vec::new())) {
            Ok(made) => reply.created(&TTL, &made, Generation(0), FileHandle(0), FopenFlags::FOPEN_DIRECT_IO),
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
        _: RenameFlags,
        reply: ReplyEmpty,
    ) {
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
        let state = self.state();
        let Some(Node::File(bytes)) = state.nodes.get(&ino.0) else { return reply.error(Errno::ENOENT) };
        let start = (offset as usize).min(bytes.len());
        let end = (start + size as usize).min(bytes.len());
        reply.data(&bytes[start..end]);
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
        match self.state().put(ino.0, offset, data) {
            Ok(()) => reply.written(data.len() as u32),
            Err(error) => reply.error(error),
        }
    }

    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        reply.ok();
    }

    fn fsync(&self, _: &Request, ino: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        self.state().ops.push(Op::Sync { file: ino.0 });
        reply.ok();
    }

    fn fsyncdir(&self, _: &Request, ino: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        self.state().ops.push(Op::SyncFolder { folder: ino.0 });
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
        let free = state.told_free.unwrap_or(state.capacity.saturating_sub(state.used())) / BLOCK;
        reply.statfs(state.capacity / BLOCK, free, free, 1000, 1000, BLOCK as u32, 255, BLOCK as u32);
    }
}
