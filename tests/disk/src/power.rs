//! What a loss of power leaves of a disk: everything that was flushed, and of the rest whatever the seed says. Data by
//! blocks, in any order; names in the order in which they were changed, as journals keep them. Where a name goes from
//! one folder to another, a flush of either keeps it, as with a journal.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::Path;

use crate::state::{BLOCK, Node, Nodes, Op, reachable};

pub(crate) const ROOT: u64 = 1;

/// Numbers that look random and are the same again for one seed (SplitMix64).
#[derive(Clone, Debug)]
pub struct Seeded(pub u64);

impl Seeded {
    /// The next one.
    pub fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Below `end`.
    pub fn below(&mut self, end: u64) -> u64 {
        self.roll() % end.max(1)
    }
}

/// How much of what was not flushed survives.
#[derive(Clone, Copy, Debug)]
pub enum Survives {
    /// Only what was flushed.
    Nothing,
    /// All of it.
    Everything,
    /// So many blocks of a hundred, and a part of the names.
    Some(u64),
}

/// An empty disk.
pub(crate) fn blank() -> Nodes {
    BTreeMap::from([(ROOT, Node::Folder(BTreeMap::new()))])
}

/// Up to where each file and folder was flushed, and what moved for good.
struct Flushed {
    until: BTreeMap<u64, usize>,
    moved: BTreeSet<(u64, String, u64)>,
}

impl Flushed {
    fn of(ops: &[Op]) -> Self {
        let mut until = BTreeMap::new();
        for (at, op) in ops.iter().enumerate() {
            if let Op::Sync { file: number } | Op::SyncFolder { folder: number } = op {
                until.insert(*number, at);
            }
        }
        let mut flushed = Self { until, moved: BTreeSet::new() };
        for (at, op) in ops.iter().enumerate() {
            if let Op::Rename { folder, name, is, .. } = op
                && flushed.has(at, op)
            {
                flushed.moved.insert((*folder, name.clone(), *is));
            }
        }
        flushed
    }

    fn is_before(&self, number: u64, at: usize) -> bool {
        self.until.get(&number).is_some_and(|end| at < *end)
    }

    fn has(&self, at: usize, op: &Op) -> bool {
        match op {
            Op::Write { file, .. } | Op::Length { file, .. } => self.is_before(*file, at),
            Op::Name { folder, .. } | Op::Unname { folder, .. } => self.is_before(*folder, at),
            Op::Rename { folder, to, .. } => self.is_before(*folder, at) || self.is_before(*to, at),
            Op::Sync { .. } | Op::SyncFolder { .. } => true,
        }
    }

    /// Whether a name that was made and not flushed has moved on, flushed there.
    fn has_moved(&self, op: &Op) -> bool {
        match op {
            Op::Name { folder, name, is, .. } => self.moved.contains(&(*folder, name.clone(), *is)),
            _ => false,
        }
    }
}

const fn is_name(op: &Op) -> bool {
    matches!(op, Op::Name { .. } | Op::Unname { .. } | Op::Rename { .. })
}

/// The disk after a loss of power behind these first operations on an empty one.
#[must_use]
pub fn left(ops: &[Op], survives: Survives, seeded: &mut Seeded) -> Nodes {
    left_of(&blank(), ops, survives, seeded)
}

/// The same on one that had something.
pub(crate) fn left_of(base: &Nodes, ops: &[Op], survives: Survives, seeded: &mut Seeded) -> Nodes {
    let flushed = Flushed::of(ops);
    let pending =
        ops.iter().enumerate().filter(|(at, op)| is_name(op) && !flushed.has(*at, op)).count() as u64;
    let mut names_left = match survives {
        Survives::Nothing => 0,
        Survives::Everything => pending,
        Survives::Some(_) => seeded.below(pending + 1),
    };
    let mut nodes = base.clone();
    for (at, op) in ops.iter().enumerate() {
        make(&mut nodes, op);
        let is_flushed = flushed.has(at, op);
        match op {
            Op::Write { file, at: offset, bytes } => {
                let Some(Node::File(content)) = nodes.get_mut(file) else { continue };
                for (number, block) in (0_u64..).zip(bytes.chunks(BLOCK as usize)) {
                    let keeps = match survives {
                        _ if is_flushed => true,
                        Survives::Nothing => false,
                        Survives::Everything => true,
                        Survives::Some(of_hundred) => seeded.below(100) < of_hundred,
                    };
                    if keeps {
                        overwrite(content, offset + number * BLOCK, block);
                    }
                }
            }
            Op::Length { .. } if is_flushed || !matches!(survives, Survives::Nothing) => {
                apply(&mut nodes, op);
            }
            _ if is_name(op) => {
                let keeps = is_flushed || names_left > 0;
                names_left = names_left.saturating_sub(u64::from(!is_flushed));
                if keeps && (is_flushed || !flushed.has_moved(op)) {
                    apply(&mut nodes, op);
                }
            }
            _ => {}
        }
    }
    nodes
}

/// Puts what was flushed into `base`; what is left is not.
pub(crate) fn fold(base: &mut Nodes, ops: Vec<Op>) -> Vec<Op> {
    let flushed = Flushed::of(&ops);
    let mut rest = Vec::new();
    for (at, op) in ops.into_iter().enumerate() {
        make(base, &op);
        if flushed.has(at, &op) {
            apply(base, &op);
        } else if !flushed.has_moved(&op) {
            rest.push(op);
        }
    }
    let needed = rest.iter().filter_map(Op::makes).chain([ROOT]).collect();
    let reachable = reachable(base, needed);
    base.retain(|number, _| reachable.contains(number));
    rest
}

/// What is named nowhere is gone.
pub(crate) fn drop_unnamed(nodes: &mut Nodes) {
    let reachable = reachable(nodes, vec![ROOT]);
    nodes.retain(|number, _| reachable.contains(number));
}

impl Op {
    /// The number of what this makes or moves.
    const fn makes(&self) -> Option<u64> {
        match self {
            Self::Name { is, .. } | Self::Rename { is, .. } => Some(*is),
            _ => None,
        }
    }
}

/// What is made is there, with or without a name.
fn make(nodes: &mut Nodes, op: &Op) {
    if let Op::Name { is, is_folder, .. } = op {
        nodes.entry(*is).or_insert_with(|| {
            if *is_folder { Node::Folder(BTreeMap::new()) } else { Node::File(Vec::new()) }
        });
    }
}

fn apply(nodes: &mut Nodes, op: &Op) {
    match op {
        Op::Write { file, at, bytes } => {
            if let Some(Node::File(content)) = nodes.get_mut(file) {
                overwrite(content, *at, bytes);
            }
        }
        Op::Length { file, bytes } => {
            if let Some(Node::File(content)) = nodes.get_mut(file) {
                content.resize(*bytes as usize, 0);
            }
        }
        Op::Name { folder, name, is, .. } => name_it(nodes, *folder, name, *is),
        Op::Unname { folder, name } => unname_it(nodes, *folder, name),
        Op::Rename { folder, name, is, to, new } => {
            unname_it(nodes, *folder, name);
            name_it(nodes, *to, new, *is);
        }
        Op::Sync { .. } | Op::SyncFolder { .. } => {}
    }
}

fn name_it(nodes: &mut Nodes, folder: u64, name: &str, is: u64) {
    if let (true, Some(Node::Folder(names))) = (nodes.contains_key(&is), nodes.get_mut(&folder)) {
        names.insert(name.to_owned(), is);
    }
}

fn unname_it(nodes: &mut Nodes, folder: u64, name: &str) {
    if let Some(Node::Folder(names)) = nodes.get_mut(&folder) {
        names.remove(name);
    }
}

/// Writes into a file's content, with zeros before it if it begins behind the end.
pub(crate) fn overwrite(content: &mut Vec<u8>, at: u64, bytes: &[u8]) {
    let at = at as usize;
    let end = at + bytes.len();
    content.resize(content.len().max(end), 0);
    if let Some(place) = content.get_mut(at..end) {
        place.copy_from_slice(bytes);
    }
}

fn lay_out(nodes: &Nodes, number: u64, folder: &Path) -> io::Result<()> {
    let Some(Node::Folder(names)) = nodes.get(&number) else { return Ok(()) };
    fs::create_dir_all(folder)?;
    for (name, number) in names {
        match nodes.get(number) {
            Some(Node::File(bytes)) => fs::write(folder.join(name), bytes)?,
            _ => lay_out(nodes, *number, &folder.join(name))?,
        }
    }
    Ok(())
}

/// Writes a disk's content into a folder.
///
/// # Errors
/// The file system's.
pub fn lay_out_all(nodes: &Nodes, folder: &Path) -> io::Result<()> {
    lay_out(nodes, ROOT, folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(folder: u64, name: &str, is: u64, is_folder: bool) -> Op {
        Op::Name { folder, name: name.to_owned(), is, is_folder }
    }

    fn write(file: u64, text: &str) -> Op {
        Op::Write { file, at: 0, bytes: text.as_bytes().to_vec() }
    }

    fn at(nodes: &Nodes, path: &[&str]) -> Option<String> {
        let mut number = ROOT;
        for step in path {
            let Some(Node::Folder(names)) = nodes.get(&number) else { return None };
            number = *names.get(*step)?;
        }
        match nodes.get(&number) {
            Some(Node::File(bytes)) => Some(String::from_utf8(bytes.clone()).unwrap()),
            _ => panic!("no file at {path:?}"),
        }
    }

    /// A file that is made in one folder, flushed, and moved to another, which alone is flushed.
    fn moved() -> Vec<Op> {
        let rename = Op::Rename { folder: 2, name: "new".into(), is: 4, to: 3, new: "kept".into() };
        vec![
            name(ROOT, "spool", 2, true),
            name(ROOT, "content", 3, true),
            Op::SyncFolder { folder: ROOT },
            name(2, "new", 4, false),
            write(4, "whole"),
            Op::Sync { file: 4 },
            rename,
            Op::SyncFolder { folder: 3 },
            write(4, "later"),
        ]
    }

    #[test]
    fn what_was_flushed_is_left_folded_or_not() {
        let ops = moved();
        for folded in 0..=ops.len() {
            let mut base = blank();
            let mut rest = fold(&mut base, ops[..folded].to_vec());
            rest.extend_from_slice(&ops[folded..]);
            let left = left_of(&base, &rest, Survives::Nothing, &mut Seeded(1));
            assert_eq!(at(&left, &["content", "kept"]).as_deref(), Some("whole"), "folded at {folded}");
            assert_eq!(at(&left, &["spool", "new"]), None, "folded at {folded}");
            let all = left_of(&base, &rest, Survives::Everything, &mut Seeded(1));
            assert_eq!(at(&all, &["content", "kept"]).as_deref(), Some("later"), "folded at {folded}");
        }
    }

    #[test]
    fn what_lies_in_an_unflushed_folder_waits_for_it() {
        let mut base = blank();
        let in_it = [
            name(2, "file", 3, false),
            write(3, "whole"),
            Op::Sync { file: 3 },
            Op::SyncFolder { folder: 2 },
        ];
        let ops = [vec![name(ROOT, "data", 2, true)], in_it.to_vec()].concat();
        let rest = fold(&mut base, ops);
        let gone = left_of(&base, &rest, Survives::Nothing, &mut Seeded(1));
        assert_eq!(at(&gone, &["data", "file"]), None);
        let all = left_of(
            &base,
            &[rest, vec![Op::SyncFolder { folder: ROOT }]].concat(),
            Survives::Nothing,
            &mut Seeded(1),
        );
        assert_eq!(at(&all, &["data", "file"]).as_deref(), Some("whole"));
    }

    #[test]
    fn what_was_not_flushed_may_be_gone() {
        let ops = moved();
        let unnamed = left(&ops[..7], Survives::Nothing, &mut Seeded(1));
        assert_eq!((at(&unnamed, &["content", "kept"]), at(&unnamed, &["spool", "new"])), (None, None));
        let unwritten = [&ops[..5], &ops[6..8]].concat();
        let unwritten = left(&unwritten, Survives::Nothing, &mut Seeded(1));
        assert_eq!(at(&unwritten, &["content", "kept"]).as_deref(), Some(""));
    }
}
