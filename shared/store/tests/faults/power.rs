//! What a loss of power leaves of a disk: everything that was flushed, and of the rest whatever the seed says. Data by
//! blocks, in any order; names in the order in which they were changed, as journals keep them.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use crate::disk::{Node, Op, overwrite};

const BLOCK: usize = 4096;
const ROOT: u64 = 1;

/// Numbers that look random and are the same again for one seed (SplitMix64).
pub(crate) struct Seeded(pub(crate) u64);

impl Seeded {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Below `end`.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.next() % end.max(1)
    }
}

/// How much of what was not flushed survives.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Survives {
    Nothing,
    Everything,
    /// So many blocks of a hundred, and a part of the names.
    Some(u64),
}

/// The disk after a loss of power behind the first operations `ops`.
pub(crate) fn left(ops: &[Op], survives: Survives, seeded: &mut Seeded) -> BTreeMap<u64, Node> {
    // Up to where a file or folder was flushed.
    let mut flushed: BTreeMap<u64, usize> = BTreeMap::new();
    for (at, op) in ops.iter().enumerate() {
        if let Op::Sync { file: number } | Op::SyncFolder { folder: number } = op {
            flushed.insert(*number, at);
        }
    }
    let is_flushed = |number: &u64, at: usize| flushed.get(number).is_some_and(|end| at < *end);
    let pending_names = ops.iter().enumerate().filter(|(at, op)| match op {
        Op::Name { folder, .. } | Op::Unname { folder, .. } | Op::Rename { folder, .. } => {
            !is_flushed(folder, *at)
        }
        _ => false,
    });
    let pending_names = pending_names.count() as u64;
    let mut names_left = match survives {
        Survives::Nothing => 0,
        Survives::Everything => pending_names,
        Survives::Some(_) => seeded.below(pending_names + 1),
    };
    let mut keeps_name = |is_flushed: bool| {
        let keeps = is_flushed || names_left > 0;
        names_left = names_left.saturating_sub(u64::from(!is_flushed));
        keeps
    };
    let mut nodes = BTreeMap::from([(ROOT, Node::Folder(BTreeMap::new()))]);
    for (at, op) in ops.iter().enumerate() {
        match op {
            Op::Write { file, at: offset, bytes } => {
                let is_flushed = is_flushed(file, at);
                let Some(Node::File(content)) = nodes.get_mut(file) else { continue };
                for (number, block) in bytes.chunks(BLOCK).enumerate() {
                    let keeps = match survives {
                        _ if is_flushed => true,
                        Survives::Nothing => false,
                        Survives::Everything => true,
                        Survives::Some(of_hundred) => seeded.below(100) < of_hundred,
                    };
                    if keeps {
                        overwrite(content, offset + (number * BLOCK) as u64, block);
                    }
                }
            }
            Op::Length { file, bytes } => {
                let keeps = is_flushed(file, at) || !matches!(survives, Survives::Nothing);
                if let (Some(Node::File(content)), true) = (nodes.get_mut(file), keeps) {
                    content.resize(*bytes as usize, 0);
                }
            }
            Op::Name { folder, name, is, is_folder } => {
                let node = if *is_folder { Node::Folder(BTreeMap::new()) } else { Node::File(Vec::new()) };
                nodes.insert(*is, node);
                if keeps_name(is_flushed(folder, at)) {
                    names(&mut nodes, *folder).insert(name.clone(), *is);
                }
            }
            Op::Unname { folder, name } => {
                if keeps_name(is_flushed(folder, at)) {
                    names(&mut nodes, *folder).remove(name);
                }
            }
            Op::Rename { folder, name, to, new } => {
                if keeps_name(is_flushed(folder, at))
                    && let Some(number) = names(&mut nodes, *folder).remove(name)
                {
                    names(&mut nodes, *to).insert(new.clone(), number);
                }
            }
            Op::Sync { .. } | Op::SyncFolder { .. } => {}
        }
    }
    nodes
}

fn names(nodes: &mut BTreeMap<u64, Node>, folder: u64) -> &mut BTreeMap<String, u64> {
    match nodes.get_mut(&folder) {
        Some(Node::Folder(names)) => names,
        _ => panic!("a name in what is no folder"),
    }
}

/// Writes a disk's content into a folder.
pub(crate) fn lay_out(nodes: &BTreeMap<u64, Node>, number: u64, folder: &Path) {
    let Some(Node::Folder(names)) = nodes.get(&number) else { return };
    fs::create_dir_all(folder).unwrap();
    for (name, number) in names {
        match nodes.get(number) {
            Some(Node::File(bytes)) => fs::write(folder.join(name), bytes).unwrap(),
            _ => lay_out(nodes, *number, &folder.join(name)),
        }
    }
}

/// The disk's first folder.
pub(crate) fn lay_out_all(nodes: &BTreeMap<u64, Node>, folder: &Path) {
    lay_out(nodes, ROOT, folder);
}
