//! The Merkle tree in the store: its root, proofs, and what was signed last.

use handover_core::Digest;
use handover_core::codec::Extensions;
use handover_core::ledger::merkle::{self, Position};
use handover_store::Txn;

use super::rows::{self, Head, StoredTreeHead};
use super::{Book, BooksError};

/// A tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TreeHead {
    /// Leaves.
    pub size: u64,
    /// Root over them (RFC 6962).
    pub root: Digest,
}

/// That an entry is a leaf of a tree: whoever has the entry's bytes and the salt recomputes the commitment and checks
/// with [`merkle::verify_inclusion`].
#[derive(Clone, PartialEq, Eq)]
pub struct Inclusion {
    /// The tree.
    pub tree: TreeHead,
    /// The leaf.
    pub sequence: u64,
    /// SHA-256 of salt and entry.
    pub commitment: Digest,
    /// Opens the commitment; only for those who may see the entry.
    pub salt: [u8; 32],
    /// The audit path, leaf side first.
    pub path: Vec<Digest>,
}

impl Book {
    pub(super) fn node(&self, txn: &mut dyn Txn, at: Position) -> Result<Digest, BooksError> {
        txn.get(&self.keys.node(at.level, at.index))?
            .and_then(|bytes| Digest::try_from(bytes.as_slice()).ok())
            .ok_or(BooksError::Damaged("a node of the Merkle tree is missing"))
    }

    /// The root of the tree when it had `size` leaves.
    pub(super) fn root_at(&self, txn: &mut dyn Txn, size: u64) -> Result<Digest, BooksError> {
        merkle::root(size, &mut |at| self.node(txn, at))
    }

    /// How many entries there are.
    pub(super) fn size(&self, txn: &mut dyn Txn) -> Result<u64, BooksError> {
        Ok(rows::get::<Head>(txn, &self.keys.head())?.map_or(0, |head| head.size))
    }

    /// The tree as it is.
    ///
    /// # Errors
    /// [`BooksError`].
    pub fn tree_head(&self, txn: &mut dyn Txn) -> Result<TreeHead, BooksError> {
        let size = self.size(txn)?;
        Ok(TreeHead { size, root: self.root_at(txn, size)? })
    }

    /// The proof that an entry is in the tree as it is.
    ///
    /// # Errors
    /// [`BooksError::UnknownEntry`] and others.
    pub fn inclusion(&self, txn: &mut dyn Txn, sequence: u64) -> Result<Inclusion, BooksError> {
        let stored = self.stored(txn, sequence)?;
        let tree = self.tree_head(txn)?;
        self.inclusion_of(txn, &tree, sequence, (&stored.salt, stored.entry.as_ref()))
    }

    /// The same for an entry that was read.
    pub(super) fn inclusion_of(
        &self,
        txn: &mut dyn Txn,
        tree: &TreeHead,
        sequence: u64,
        (salt, entry): (&[u8; 32], &[u8]),
    ) -> Result<Inclusion, BooksError> {
        let path = merkle::inclusion(tree.size, sequence, &mut |at| self.node(txn, at))?
            .ok_or(BooksError::UnknownEntry(sequence))?;
        let commitment = merkle::commitment(salt, entry);
        Ok(Inclusion { tree: *tree, sequence, commitment, salt: *salt, path })
    }

    /// The proof that a tree of these books, of `size` leaves, continues the one that had `old_size`.
    ///
    /// # Errors
    /// [`BooksError::UnknownEntry`] unless `0 < old_size <= size`.
    pub fn consistency(
        &self,
        txn: &mut dyn Txn,
        old_size: u64,
        size: u64,
    ) -> Result<Vec<Digest>, BooksError> {
        merkle::consistency(old_size, size, &mut |at| self.node(txn, at))?
            .ok_or(BooksError::UnknownEntry(old_size))
    }

    /// The tree that was remembered for signing last.
    pub(super) fn last_checkpoint(&self, txn: &mut dyn Txn) -> Result<Option<TreeHead>, BooksError> {
        let stored = rows::get::<StoredTreeHead>(txn, &self.keys.checkpoint())?;
        Ok(stored.map(|stored| TreeHead { size: stored.size, root: stored.root }))
    }

    /// Remembers the tree, as far as it is with others, as the one that is signed next, if it continues the one signed
    /// before.
    ///
    /// # Errors
    /// [`BooksError::Damaged`] if it does not: nothing may be signed then.
    pub fn advance_checkpoint(&self, txn: &mut dyn Txn) -> Result<TreeHead, BooksError> {
        let tree = self.stated(txn)?;
        self.check_continues(txn, &tree)?;
        let row = StoredTreeHead { size: tree.size, root: tree.root, extensions: Extensions::default() };
        rows::put(txn, &self.keys.checkpoint(), &row)?;
        Ok(tree)
    }

    /// Nothing is signed over a tree that does not continue the one remembered for signing last.
    pub(super) fn check_continues(&self, txn: &mut dyn Txn, tree: &TreeHead) -> Result<(), BooksError> {
        let Some(last) = self.last_checkpoint(txn)? else { return Ok(()) };
        let path = if last.size == 0 { Vec::new() } else { self.consistency(txn, last.size, tree.size)? };
        merkle::verify_consistency((&last.root, last.size), (&tree.root, tree.size), &path)
            .map_err(|_| BooksError::Damaged("the tree does not continue the last checkpoint"))
    }
}
