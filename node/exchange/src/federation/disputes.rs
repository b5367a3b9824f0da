//! What the index signed and may not have signed: two directories that contradict each other, kept as proof.
//!
//! Invariants: the first proof of a fork is kept until a higher version is held, and after that until there is another;
//! one at a time, so nobody fills a disk with proofs.

use handover_core::artefact::federation::{Directory, PIECE_MAX_BYTES, WholeDirectory};
use handover_core::artefact::{Payload as _, Verified};
use handover_core::codec::{Bytes, Extensions, MAX_MESSAGE_BYTES};
use handover_core::trust::Federation;
use handover_core::{Code, Digest, Party, Timestamp, cbor_map};
use handover_dossier::incidents::Incident;
use handover_store::{KeyMaker, StoreError, Txn, rows};

const DISPUTE: &str = "directory-dispute";
/// Of two heads with a piece each.
const DISPUTE_MAX_BYTES: usize = 2 * (MAX_MESSAGE_BYTES + PIECE_MAX_BYTES) + 1024;

cbor_map! {
    /// Two directories of which at least one is false.
    pub(super) struct Dispute {
        /// What is wrong with the offered one.
        1 => code: Code,
        /// The offered one's version.
        2 => version: u64,
        /// When it was offered.
        3 => at: Timestamp,
        /// The directory held then: its head, with the piece of which something is taken back, if it is of one.
        4 => held: WholeDirectory,
        /// The same of the directory offered.
        5 => offered: WholeDirectory,
    }
}

impl Dispute {
    /// That the offered head is of the version that is held: the heads alone show it.
    pub(super) fn of_heads(held: &Federation, offered: &Verified<Directory>, at: Timestamp) -> Self {
        let offered_head = WholeDirectory {
            head: Bytes(offered.envelope().to_vec()),
            pieces: Vec::new(),
            extensions: Extensions::default(),
        };
        Self {
            code: Code::DirectoryForked,
            version: offered.version,
            at,
            held: held.part([]),
            offered: offered_head,
            extensions: Extensions::default(),
        }
    }

    /// That the offered directory contradicts the one held, with what shows it.
    pub(super) fn of(code: Code, held: &Federation, offered: &Federation, at: Timestamp) -> Self {
        let about = offered.taken_back(held);
        Self {
            code,
            version: offered.directory().version,
            at,
            held: held.part(&about),
            offered: offered.part(&about),
            extensions: Extensions::default(),
        }
    }

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
            id: Digest::sha256(&[self.offered.head.as_ref()]),
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
    rows::get_large(txn, &keys.space(DISPUTE), DISPUTE_MAX_BYTES)
}

/// Keeps a proof that was offered beside what is held now, unless an open one says as much.
pub(super) fn keep(
    txn: &mut dyn Txn,
    keys: &KeyMaker,
    held: u64,
    dispute: &Dispute,
) -> Result<(), StoreError> {
    let before = kept(txn, keys)?.filter(|before| before.is_open(held));
    if before.is_some_and(|before| before.code == Code::DirectoryForked || before.code == dispute.code) {
        return Ok(());
    }
    rows::put_large(txn, &keys.space(DISPUTE), dispute)
}
