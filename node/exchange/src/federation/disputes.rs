//! What the index signed and may not have signed: two directories that contradict each other, kept as proof.
//!
//! Invariants: the first proof of a fork is kept until a higher version is held, and after that until there is another;
//! one at a time, so nobody fills a disk with proofs.

use handover_core::artefact::federation::Directory;
use handover_core::artefact::{Payload as _, Verified};
use handover_core::codec::{Bytes, Extensions, MAX_MESSAGE_BYTES};
use handover_core::{Code, Digest, Party, Timestamp, cbor_map};
use handover_dossier::incidents::Incident;
use handover_store::{KeyMaker, StoreError, Txn, rows};

const DISPUTE: &str = "directory-dispute";

cbor_map! {
    /// Two directories of which at least one is false.
    pub(super) struct Dispute {
        /// What is wrong with the offered one.
        1 => code: Code,
        /// The offered one's version.
        2 => version: u64,
        /// When it was offered.
        3 => at: Timestamp,
        /// The envelope held then.
        4 => held: Bytes,
        /// The envelope offered.
        5 => offered: Bytes,
    }
}

impl Dispute {
    /// Whether nothing newer than the offered one is held: then it is not known which of the two holds.
    const fn is_open(&self, held: u64) -> bool {
        self.version >= held
    }

    /// As it is listed among the incidents: what was refused is the offered one.
    pub(super) fn incident(&self) -> Incident {
        Incident {
            by: Party::Index,
            code: self.code,
            artefact: Directory::TYPE.to_owned(),
            id: Digest::sha256(&[self.offered.as_ref()]),
            transfer: None,
            at: self.at,
            extensions: Extensions::default(),
        }
    }

    /// Whether it proves another directory of the version that is held.
    pub(super) fn is_fork_of(&self, held: u64) -> bool {
        self.code == Code::DirectoryForked && self.version == held
    }
}

/// The proof that is kept.
pub(super) fn kept(txn: &mut dyn Txn, keys: &KeyMaker) -> Result<Option<Dispute>, StoreError> {
    rows::get_large(txn, &keys.space(DISPUTE), 2 * MAX_MESSAGE_BYTES + 1024)
}

/// Keeps a proof, unless an open one says as much.
pub(super) fn keep(
    txn: &mut dyn Txn,
    keys: &KeyMaker,
    code: Code,
    held: &Verified<Directory>,
    offered: &Verified<Directory>,
    at: Timestamp,
) -> Result<(), StoreError> {
    let before = kept(txn, keys)?.filter(|dispute| dispute.is_open(held.version));
    if before.is_some_and(|before| before.code == Code::DirectoryForked || before.code == code) {
        return Ok(());
    }
    let dispute = Dispute {
        code,
        version: offered.version,
        at,
        held: Bytes(held.envelope().to_vec()),
        offered: Bytes(offered.envelope().to_vec()),
        extensions: Extensions::default(),
    };
    rows::put_large(txn, &keys.space(DISPUTE), &dispute)
}
