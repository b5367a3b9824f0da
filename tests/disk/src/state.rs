//! What is on the disk, and what was done to it.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::time::{SystemTime, UNIX_EPOCH};

use fuser::{Errno, FileAttr, FileType, INodeNo};

use crate::power;

pub(crate) const BLOCK: u64 = 4096;
/// What of a mode are permissions.
const PERMISSIONS: u32 = 0o7777;
/// Noted bytes from which on what is flushed is put together and noted no more.
const NOTED_BYTES: usize = 32 << 20;

/// Something that happened on the disk.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "the fields are what they are called")]
pub enum Op {
    /// Bytes into a file.
    Write { file: u64, at: u64, bytes: Vec<u8> },
    /// A file was given a length.
    Length { file: u64, bytes: u64 },
    /// A file was flushed.
    Sync { file: u64 },
    /// A file or folder was made.
    Name { folder: u64, name: String, is: u64, is_folder: bool },
    /// A name was removed.
    Unname { folder: u64, name: String },
    /// A file or folder was given another name.
    Rename { folder: u64, name: String, is: u64, to: u64, new: String },
    /// A folder was flushed.
    SyncFolder { folder: u64 },
}

/// A file, a folder, or a socket.
#[derive(Clone, Debug)]
pub enum Node {
    /// Its content.
    File(Vec<u8>),
    /// What its names name.
    Folder(BTreeMap<String, u64>),
    /// Only somebody who runs can make something of it.
    Socket,
}

/// Everything by number.
pub type Nodes = BTreeMap<u64, Node>;

/// Permissions, and when it was written.
#[derive(Clone, Copy)]
struct Meta {
    mode: u32,
    written: SystemTime,
}

/// A disk's content and what was noted.
pub struct State {
    pub(crate) nodes: Nodes,
    metas: BTreeMap<u64, Meta>,
    /// What was flushed before what is noted.
    base: Nodes,
    /// What was done since, in order.
    pub ops: Vec<Op>,
    noted: usize,
    /// Whether what is flushed may be forgotten as a step of its own.
    pub(crate) folds: bool,
    /// The most bytes of all files.
    pub(crate) capacity: u64,
    /// What is said to be free, if not the truth.
    pub(crate) told_free: Option<u64>,
    /// The highest number that was ever given.
    highest: u64,
    /// How often files are open.
    open: BTreeMap<u64, u32>,
    /// User and group.
    owner: (u32, u32),
    /// Reads so far.
    pub reads: u64,
    /// The read that fails, once.
    pub fails: Option<u64>,
}

impl State {
    pub(crate) fn new(capacity: u64, told_free: Option<u64>, folds: bool, owner: (u32, u32)) -> Self {
        let nodes = power::blank();
        Self {
            base: nodes.clone(),
            nodes,
            metas: BTreeMap::new(),
            ops: Vec::new(),
            noted: 0,
            folds,
            capacity,
            told_free,
            highest: power::ROOT,
            open: BTreeMap::new(),
            owner,
            reads: 0,
            fails: None,
        }
    }

    /// Bytes of all files.
    #[must_use]
    pub fn used(&self) -> u64 {
        let files = self.nodes.values().map(|node| match node {
            Node::File(bytes) => bytes.len() as u64,
            Node::Folder(_) | Node::Socket => 0,
        });
        files.sum()
    }

    pub(crate) fn free(&self) -> u64 {
        self.told_free.unwrap_or(self.capacity.saturating_sub(self.used()))
    }

    /// Goes on with what a loss of power leaves.
    pub(crate) fn lose_power(&mut self, survives: power::Survives, seeded: &mut power::Seeded) {
        self.nodes = power::left_of(&self.base, &self.ops, survives, seeded);
        power::drop_unnamed(&mut self.nodes);
        self.nodes.retain(|_, node| !matches!(node, Node::Socket));
        self.base = self.nodes.clone();
        self.ops.clear();
        self.open.clear();
        self.noted = 0;
    }

    fn note(&mut self, op: Op) {
        if let Op::Write { bytes, .. } = &op {
            self.noted += bytes.len();
        }
        let is_sync = matches!(op, Op::Sync { .. });
        self.ops.push(op);
        if self.folds && is_sync && self.noted > NOTED_BYTES {
            self.ops = power::fold(&mut self.base, std::mem::take(&mut self.ops));
            // Files that are gone and were never flushed as gone are few.
            self.noted = 0;
        }
    }

    pub(crate) fn names(&mut self, folder: u64) -> Result<&mut BTreeMap<String, u64>, Errno> {
        match self.nodes.get_mut(&folder) {
            Some(Node::Folder(names)) => Ok(names),
            _ => Err(Errno::ENOTDIR),
        }
    }

    pub(crate) fn named(&mut self, folder: INodeNo, name: &OsStr) -> Result<u64, Errno> {
        self.names(folder.0)?.get(text(name).as_str()).copied().ok_or(Errno::ENOENT)
    }

    pub(crate) fn make(
        &mut self,
        folder: INodeNo,
        name: &OsStr,
        node: Node,
        mode: u32,
    ) -> Result<FileAttr, Errno> {
        let number = self.highest + 1;
        let op = Op::Name {
            folder: folder.0,
            name: text(name),
            is: number,
            is_folder: matches!(node, Node::Folder(_)),
        };
        let is_socket = matches!(node, Node::Socket);
        self.names(folder.0)?.insert(text(name), number);
        self.highest = number;
        self.nodes.insert(number, node);
        self.metas.insert(number, Meta { mode: mode & PERMISSIONS, written: SystemTime::now() });
        if !is_socket {
            self.note(op);
        }
        self.attributes(number)
    }

    pub(crate) fn attributes(&self, number: u64) -> Result<FileAttr, Errno> {
        let (kind, size) = match self.nodes.get(&number) {
            Some(Node::File(bytes)) => (FileType::RegularFile, bytes.len() as u64),
            Some(Node::Folder(_)) => (FileType::Directory, 0),
            Some(Node::Socket) => (FileType::Socket, 0),
            None => return Err(Errno::ENOENT),
        };
        let usual = Meta { mode: 0o700, written: UNIX_EPOCH };
        let meta = self.metas.get(&number).copied().unwrap_or(usual);
        Ok(FileAttr {
            ino: INodeNo(number),
            size,
            blocks: size.div_ceil(512),
            atime: meta.written,
            mtime: meta.written,
            ctime: meta.written,
            crtime: meta.written,
            kind,
            perm: meta.mode as u16,
            nlink: 1,
            uid: self.owner.0,
            gid: self.owner.1,
            rdev: 0,
            blksize: BLOCK as u32,
            flags: 0,
        })
    }

    pub(crate) fn change(
        &mut self,
        file: u64,
        mode: Option<u32>,
        length: Option<u64>,
    ) -> Result<FileAttr, Errno> {
        if let (Some(bytes), Some(Node::File(content))) = (length, self.nodes.get_mut(&file)) {
            content.resize(bytes as usize, 0);
            self.note(Op::Length { file, bytes });
        }
        if let (Some(mode), Some(meta)) = (mode, self.metas.get_mut(&file)) {
            meta.mode = mode & PERMISSIONS;
        }
        self.attributes(file)
    }

    pub(crate) fn put(&mut self, file: u64, at: u64, bytes: &[u8]) -> Result<(), Errno> {
        let (free, end) = (self.capacity.saturating_sub(self.used()), at + bytes.len() as u64);
        let Some(Node::File(content)) = self.nodes.get_mut(&file) else { return Err(Errno::ENOENT) };
        if end.saturating_sub(content.len() as u64) > free {
            return Err(Errno::ENOSPC);
        }
        power::overwrite(content, at, bytes);
        if let Some(meta) = self.metas.get_mut(&file) {
            meta.written = SystemTime::now();
        }
        self.note(Op::Write { file, at, bytes: bytes.to_vec() });
        Ok(())
    }

    pub(crate) fn sync(&mut self, file: u64) {
        self.note(Op::Sync { file });
    }

    pub(crate) fn sync_folder(&mut self, folder: u64) {
        self.note(Op::SyncFolder { folder });
    }

    pub(crate) fn opened(&mut self, file: u64) {
        *self.open.entry(file).or_default() += 1;
    }

    pub(crate) fn closed(&mut self, file: u64) {
        let is_last = self.open.get_mut(&file).is_some_and(|times| {
            *times = times.saturating_sub(1);
            *times == 0
        });
        if is_last {
            self.open.remove(&file);
            self.drop_if_gone(file);
        }
    }

    /// What has no name is there as long as it is open.
    fn drop_if_gone(&mut self, number: u64) {
        let is_named = || {
            self.nodes.values().any(|node| match node {
                Node::Folder(names) => names.values().any(|it| *it == number),
                Node::File(_) | Node::Socket => false,
            })
        };
        if number != power::ROOT && !self.open.contains_key(&number) && !is_named() {
            self.nodes.remove(&number);
            self.metas.remove(&number);
        }
    }

    pub(crate) fn unname(&mut self, folder: INodeNo, name: &OsStr) -> Result<(), Errno> {
        let number = self.named(folder, name)?;
        if matches!(self.nodes.get(&number), Some(Node::Folder(names)) if !names.is_empty()) {
            return Err(Errno::ENOTEMPTY);
        }
        self.names(folder.0)?.remove(text(name).as_str());
        self.note(Op::Unname { folder: folder.0, name: text(name) });
        self.drop_if_gone(number);
        Ok(())
    }

    pub(crate) fn rename(&mut self, from: (INodeNo, &OsStr), to: (INodeNo, &OsStr)) -> Result<(), Errno> {
        let is = self.named(from.0, from.1)?;
        self.names(from.0.0)?.remove(text(from.1).as_str());
        let before = self.names(to.0.0)?.insert(text(to.1), is);
        let (name, new) = (text(from.1), text(to.1));
        self.note(Op::Rename { folder: from.0.0, name, is, to: to.0.0, new });
        if let Some(before) = before.filter(|before| *before != is) {
            self.drop_if_gone(before);
        }
        Ok(())
    }

    /// Not noted: power is lost in no test of it.
    pub(crate) fn exchange(&mut self, one: (INodeNo, &OsStr), other: (INodeNo, &OsStr)) -> Result<(), Errno> {
        let (first, second) = (self.named(one.0, one.1)?, self.named(other.0, other.1)?);
        self.names(one.0.0)?.insert(text(one.1), second);
        self.names(other.0.0)?.insert(text(other.1), first);
        Ok(())
    }
}

/// The numbers that are named, from these folders on.
pub(crate) fn reachable(nodes: &Nodes, mut open: Vec<u64>) -> BTreeSet<u64> {
    let mut found = BTreeSet::new();
    while let Some(number) = open.pop() {
        if found.insert(number)
            && let Some(Node::Folder(names)) = nodes.get(&number)
        {
            open.extend(names.values());
        }
    }
    found
}

pub(crate) fn text(name: &OsStr) -> String {
    name.to_string_lossy().into_owned()
}
