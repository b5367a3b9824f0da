//! The RFC 6962 Merkle tree over the entries. Leaves hold salted commitments only: a log cannot forget, but the salt
//! beside an entry can be forgotten, and then the leaf says nothing.
//!
//! Only nodes over complete subtrees are kept, each written once: appending reads and writes the right edge, and
//! roots and proofs are put together from kept nodes. Where nodes lie is the caller's: it passes how to read one.
//! Proofs are checked by the `ct-merkle` crate.

use ct_merkle::{ConsistencyProof, InclusionProof, RootHash};
use sha2::Sha256;

use crate::Digest;

/// A node over the complete subtree of leaves `index × 2^level` up to `(index + 1) × 2^level`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// Height; leaves are at 0.
    pub level: u8,
    /// Place in its level, from the left.
    pub index: u64,
}

/// The most leaves of a tree that a claim about it may name.
pub const MAX_LEAVES: u64 = 1 << 48;

/// How kept nodes are read. A node that the tree's size implies and that is not there is the reader's error.
pub type ReadNode<'a, E> = &'a mut dyn FnMut(Position) -> Result<Digest, E>;

/// A proof does not show what it should.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the Merkle proof does not hold")]
pub struct ProofError;

/// The salted commitment to an entry's bytes: SHA-256(salt ‖ bytes).
#[must_use]
pub fn commitment(salt: &[u8; 32], entry_bytes: &[u8]) -> Digest {
    Digest::sha256(&[salt, entry_bytes])
}

/// A leaf's hash (RFC 6962, section 2.1): SHA-256(0x00 ‖ data).
#[must_use]
pub fn leaf_hash(data: &[u8]) -> Digest {
    Digest::sha256(&[&[0x00], data])
}

fn parent_hash(left: &Digest, right: &Digest) -> Digest {
    Digest::sha256(&[&[0x01], left.as_bytes(), right.as_bytes()])
}

/// The nodes to keep when a leaf is appended to a tree of `size` leaves: the leaf, and what it completes.
///
/// # Errors
/// The reader's.
pub fn append<E>(size: u64, leaf: Digest, read: ReadNode<'_, E>) -> Result<Vec<(Position, Digest)>, E> {
    let mut at = Position { level: 0, index: size };
    let mut hash = leaf;
    let mut nodes = vec![(at, hash)];
    // A right child completes its parent; a tree of 2^64 leaves is never reached.
    while at.index & 1 == 1 {
        hash = parent_hash(&read(Position { level: at.level, index: at.index ^ 1 })?, &hash);
        at = Position { level: at.level.saturating_add(1), index: at.index >> 1 };
        nodes.push((at, hash));
    }
    Ok(nodes)
}

/// The root of a tree of `size` leaves; without any, SHA-256 of nothing.
///
/// # Errors
/// The reader's.
pub fn root<E>(size: u64, read: ReadNode<'_, E>) -> Result<Digest, E> {
    if size == 0 { Ok(Digest::sha256(&[])) } else { subtree(0, size, read) }
}

/// The largest power of two below `width`, which is at least 2.
fn split(width: u64) -> u64 {
    1 << width.saturating_sub(1).checked_ilog2().unwrap_or(0)
}

/// MTH over the leaves `from` up to `to`, at least one.
fn subtree<E>(from: u64, to: u64, read: ReadNode<'_, E>) -> Result<Digest, E> {
    let width = to.saturating_sub(from);
    if width.is_power_of_two() && from & width.saturating_sub(1) == 0 {
        let level = width.trailing_zeros();
        return read(Position { level: u8::try_from(level).unwrap_or(u8::MAX), index: from >> level });
    }
    let middle = from.saturating_add(split(width));
    Ok(parent_hash(&subtree(from, middle, read)?, &subtree(middle, to, read)?))
}

/// The audit path of leaf `index` in a tree of `size` leaves (RFC 6962, section 2.1.1), leaf side first; `None` if
/// there is no such leaf.
///
/// # Errors
/// The reader's.
pub fn inclusion<E>(size: u64, index: u64, read: ReadNode<'_, E>) -> Result<Option<Vec<Digest>>, E> {
    if index >= size {
        return Ok(None);
    }
    let (mut from, mut to) = (0, size);
    let mut path = Vec::new();
    while to.saturating_sub(from) > 1 {
        let middle = from + split(to - from);
        if index < middle {
            path.push(subtree(middle, to, read)?);
            to = middle;
        } else {
            path.push(subtree(from, middle, read)?);
            from = middle;
        }
    }
    path.reverse();
    Ok(Some(path))
}

/// The proof that the tree of `size` leaves continues the tree of `old_size` (RFC 6962, section 2.1.2); `None`
/// unless `0 < old_size <= size`.
///
/// # Errors
/// The reader's.
pub fn consistency<E>(old_size: u64, size: u64, read: ReadNode<'_, E>) -> Result<Option<Vec<Digest>>, E> {
    if old_size == 0 || old_size > size {
        return Ok(None);
    }
    let (mut from, mut to) = (0, size);
    let mut path = Vec::new();
    while to != old_size {
        let middle = from + split(to - from);
        if old_size <= middle {
            path.push(subtree(middle, to, read)?);
            to = middle;
        } else {
            path.push(subtree(from, middle, read)?);
            from = middle;
        }
    }
    // What remains is a subtree of the old tree; it is its whole if the walk never went right.
    if from != 0 {
        path.push(subtree(from, to, read)?);
    }
    path.reverse();
    Ok(Some(path))
}

fn concat(path: &[Digest]) -> Vec<u8> {
    path.iter().flat_map(|digest| *digest.as_bytes()).collect()
}

fn root_hash(root: &Digest, size: u64) -> Result<RootHash<Sha256>, ProofError> {
    if size > MAX_LEAVES {
        return Err(ProofError);
    }
    Ok(RootHash::new((*root.as_bytes()).into(), size))
}

/// Checks that a commitment is leaf `index` of the tree with this root and size.
///
/// # Errors
/// [`ProofError`].
pub fn verify_inclusion(
    root: &Digest,
    size: u64,
    index: u64,
    commitment: &Digest,
    path: &[Digest],
) -> Result<(), ProofError> {
    let proof = InclusionProof::try_from_bytes(concat(path)).map_err(|_| ProofError)?;
    root_hash(root, size)?.verify_inclusion(commitment.as_bytes(), index, &proof).map_err(|_| ProofError)
}

/// Checks that the tree with root and size continues the old one. Every tree continues the empty one.
///
/// # Errors
/// [`ProofError`].
pub fn verify_consistency(
    (old_root, old_size): (&Digest, u64),
    (root, size): (&Digest, u64),
    path: &[Digest],
) -> Result<(), ProofError> {
    if old_size == 0 {
        return if path.is_empty() && *old_root == Digest::sha256(&[]) { Ok(()) } else { Err(ProofError) };
    }
    let proof = ConsistencyProof::try_from_bytes(concat(path)).map_err(|_| ProofError)?;
    root_hash(root, size)?.verify_consistency(&root_hash(old_root, old_size)?, &proof).map_err(|_| ProofError)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::convert::Infallible;

    use ct_merkle::mem_backed_tree::MemoryBackedTree;

    use super::*;

    /// Leaves of the reference tests of transparency-dev/merkle and of Certificate Transparency.
    const LEAVES: [&str; 8] =
        ["", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"];
    /// Roots of the trees of 1 to 8 of these leaves.
    const ROOTS: [&str; 8] = [
        "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
        "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
        "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
        "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
        "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
        "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
    ];

    type Nodes = BTreeMap<Position, Digest>;

    fn reader(nodes: &Nodes) -> impl FnMut(Position) -> Result<Digest, Infallible> {
        |position| Ok(nodes[&position])
    }

    fn grow(nodes: &mut Nodes, size: u64, data: &[u8]) {
        let added = append(size, leaf_hash(data), &mut reader(nodes)).unwrap();
        for (position, hash) in added {
            assert_eq!(nodes.insert(position, hash), None, "a node is written once");
        }
    }

    #[test]
    fn roots_are_the_published_ones() {
        let mut nodes = Nodes::new();
        let empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(root(0, &mut reader(&nodes)).unwrap().to_string(), empty);
        for (size, (leaf, wanted)) in LEAVES.iter().zip(ROOTS).enumerate() {
            grow(&mut nodes, size as u64, &hex::decode(leaf).unwrap());
            assert_eq!(root(size as u64 + 1, &mut reader(&nodes)).unwrap().to_string(), wanted);
        }
    }

    #[test]
    fn roots_and_proofs_are_those_of_the_reference() {
        let mut reference = MemoryBackedTree::<Sha256, Vec<u8>>::new();
        let mut nodes = Nodes::new();
        let mut roots = vec![Digest::sha256(&[])];
        for size in 1..=70_u64 {
            let commitment = Digest::sha256(&[&size.to_be_bytes()]);
            grow(&mut nodes, size - 1, commitment.as_bytes());
            reference.push(commitment.as_bytes().to_vec());
            let top = root(size, &mut reader(&nodes)).unwrap();
            assert_eq!(top.as_bytes().as_slice(), reference.root().as_bytes().as_slice());
            roots.push(top);
            for index in 0..size {
                let path = inclusion(size, index, &mut reader(&nodes)).unwrap().unwrap();
                assert_eq!(concat(&path), reference.prove_inclusion(index as usize).as_bytes());
                let leaf = Digest::sha256(&[&(index + 1).to_be_bytes()]);
                assert_eq!(verify_inclusion(&top, size, index, &leaf, &path), Ok(()));
                assert_eq!(verify_inclusion(&top, size, index, &top, &path), Err(ProofError));
                let old = index + 1;
                let path = consistency(old, size, &mut reader(&nodes)).unwrap().unwrap();
                let additions = (size - old) as usize;
                assert_eq!(concat(&path), reference.prove_consistency(additions).as_bytes());
                let (before, now) = (&roots[old as usize], (&top, size));
                assert_eq!(verify_consistency((before, old), now, &path), Ok(()));
                assert_eq!(verify_consistency((&commitment, old), now, &path), Err(ProofError));
            }
        }
        assert_eq!(inclusion(70, 70, &mut reader(&nodes)).unwrap(), None);
        assert_eq!(consistency(0, 70, &mut reader(&nodes)).unwrap(), None);
        assert_eq!(verify_consistency((&roots[0], 0), (&roots[9], 9), &[]), Ok(()));
        assert_eq!(verify_inclusion(&roots[1], u64::MAX, 3, &roots[2], &[]), Err(ProofError));
    }
}
