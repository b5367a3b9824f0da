//! What this room stores: a version byte, then one map. Keys are made here and nowhere else in the room.

use handover_core::codec::{self, Bytes, CborMap};
use handover_core::ledger::{Account, AccountBalance, Cycle, merkle};
use handover_core::{Digest, HospitalId, Timestamp, TransferId, cbor_map};
use handover_store::{KeyBuilder, KeyMaker, SCAN_MAX_CELLS, Txn};

use super::BooksError;

/// The version of every row of this room.
const ROW_VERSION: u8 = 1;
/// The most bytes of a row.
const MAX_ROW_BYTES: usize = 64 * 1024;

cbor_map! {
    /// How far the books are.
    pub struct Head {
        /// Entries, and the next sequence number.
        1 => size: u64,
        /// The newest entry's cycle: earlier ones are closed.
        2 => cycle: Cycle,
    }
}

cbor_map! {
    /// An entry with the salt of its commitment.
    pub struct StoredEntry {
        /// Forgotten with the entry, should it have to be.
        1 => salt: [u8; 32],
        /// The encoded entry.
        2 => entry: Bytes,
    }
}

cbor_map! {
    /// A cached balance.
    pub struct StoredBalance {
        /// Whose.
        1 => account: Account,
        /// As of the entries folded.
        2 => balance: AccountBalance,
    }
}

cbor_map! {
    /// How many entries the cached balances hold.
    #[derive(Default)]
    pub struct Folded {
        /// The first sequence number that they do not hold.
        1 => size: u64,
    }
}

cbor_map! {
    /// The tree that the newest checkpoint is about.
    pub struct StoredTreeHead {
        /// Leaves.
        1 => size: u64,
        /// Root.
        2 => root: Digest,
    }
}

cbor_map! {
    /// How far a hospital holds the log.
    #[derive(Default)]
    pub struct CopyOf {
        /// Everything before this sequence number, by its own word.
        1 => until: u64,
        /// How large the largest log was that was stated to it.
        2 => stated: u64,
    }
}

cbor_map! {
    /// How far the log is with others.
    pub struct Copied {
        /// Somebody holds everything before this sequence number.
        1 => copied: u64,
        /// Each entry before this one is with its source and its destination.
        2 => held: u64,
    }
}

cbor_map! {
    /// When a transfer's fee is looked at next.
    pub struct Due {
        /// The transfer.
        1 => transfer: TransferId,
        /// Not before.
        2 => at: Timestamp,
    }
}

cbor_map! {
    /// A transfer's fee is held.
    pub struct HeldSince {
        /// The transfer.
        1 => transfer: TransferId,
        /// When the hold was booked.
        2 => at: Timestamp,
    }
}

impl StoredEntry {
    /// Its leaf in the log.
    pub(super) fn leaf(&self) -> Digest {
        merkle::leaf_hash(merkle::commitment(&self.salt, self.entry.as_ref()).as_bytes())
    }
}

/// Makes this room's keys.
#[derive(Clone)]
pub(super) struct Keys(pub(super) KeyMaker);

impl Keys {
    fn single(&self, name: &'static str) -> Vec<u8> {
        self.0.space("ledger").raw(name).build()
    }

    pub(super) fn head(&self) -> Vec<u8> {
        self.single("head")
    }

    pub(super) fn folded(&self) -> Vec<u8> {
        self.single("folded")
    }

    pub(super) fn checkpoint(&self) -> Vec<u8> {
        self.single("checkpoint")
    }

    pub(super) fn copied(&self) -> Vec<u8> {
        self.single("copied")
    }

    /// How far each hospital holds the log.
    pub(super) fn copies(&self) -> KeyBuilder {
        self.0.space("ledger-copy")
    }

    pub(super) fn copy(&self, hospital: &HospitalId) -> Vec<u8> {
        self.copies().raw(hospital.as_str()).build()
    }

    /// Every entry, by sequence number.
    pub(super) fn entries(&self) -> KeyBuilder {
        self.0.space("ledger-entry")
    }

    pub(super) fn entry(&self, sequence: u64) -> Vec<u8> {
        self.entries().u64(sequence).build()
    }

    /// Which entries a transfer has.
    pub(super) fn transfers(&self) -> KeyBuilder {
        self.0.space("ledger-transfer")
    }

    pub(super) fn transfer(&self, transfer: &TransferId) -> KeyBuilder {
        self.transfers().hashed(transfer.as_bytes())
    }

    pub(super) fn node(&self, level: u8, index: u64) -> Vec<u8> {
        self.0.space("ledger-node").u64(u64::from(level)).u64(index).build()
    }

    pub(super) fn balances(&self) -> KeyBuilder {
        self.0.space("ledger-balance")
    }

    pub(super) fn balance(&self, account: &Account) -> Vec<u8> {
        self.balances().hashed(account.to_string()).build()
    }

    /// Entries that made room and are to be booked again, in their order.
    pub(super) fn made_room(&self) -> KeyBuilder {
        self.0.space("ledger-made-room")
    }

    /// Transfers, by the time at which their fees are looked at next.
    pub(super) fn dues(&self) -> KeyBuilder {
        self.0.space("ledger-due")
    }

    pub(super) fn due(&self, at: Timestamp, transfer: &TransferId) -> Vec<u8> {
        self.dues().u64(due_order(at)).hashed(transfer.as_bytes()).build()
    }

    /// The same, by transfer.
    pub(super) fn dues_of(&self) -> KeyBuilder {
        self.0.space("ledger-due-of")
    }

    pub(super) fn due_of(&self, transfer: &TransferId) -> Vec<u8> {
        self.dues_of().hashed(transfer.as_bytes()).build()
    }

    /// Transfers whose fees are held, the longest first.
    pub(super) fn all_held(&self) -> KeyBuilder {
        self.0.space("ledger-held")
    }

    pub(super) fn held(&self, at: Timestamp, transfer: &TransferId) -> Vec<u8> {
        self.all_held().u64(due_order(at)).hashed(transfer.as_bytes()).build()
    }
}

/// A time as an ordered number; nothing is due or held before 1970.
pub(super) fn due_order(at: Timestamp) -> u64 {
    u64::try_from(at.as_millis()).unwrap_or(0)
}

/// The number that a key ends with.
pub(super) fn sequence_of(key: &[u8]) -> Result<u64, BooksError> {
    key.last_chunk()
        .map(|bytes| u64::from_be_bytes(*bytes))
        .ok_or(BooksError::Damaged("a key without its number"))
}

/// Calls `visit` with the value of every cell under `prefix`, page by page.
pub(super) fn each(
    txn: &mut dyn Txn,
    prefix: &[u8],
    mut visit: impl FnMut(&mut dyn Txn, &[u8]) -> Result<(), BooksError>,
) -> Result<(), BooksError> {
    let mut after: Option<Vec<u8>> = None;
    loop {
        let page = txn.scan(prefix, after.as_deref(), SCAN_MAX_CELLS)?;
        for (_, value) in &page {
            visit(txn, value)?;
        }
        if page.len() < SCAN_MAX_CELLS {
            return Ok(());
        }
        after = page.into_iter().next_back().map(|(key, _)| key);
    }
}

pub(super) fn encode<T: CborMap>(row: &T) -> Vec<u8> {
    let mut bytes = vec![ROW_VERSION];
    bytes.extend(codec::encode(row));
    bytes
}

pub(super) fn decode<T: CborMap>(bytes: &[u8]) -> Result<T, BooksError> {
    match bytes.split_first() {
        Some((&ROW_VERSION, map)) => {
            codec::decode(map, MAX_ROW_BYTES).map_err(|_| BooksError::Damaged("a row cannot be read"))
        }
        _ => Err(BooksError::Damaged("a row of a version that is not known")),
    }
}

pub(super) fn put<T: CborMap>(txn: &mut dyn Txn, key: &[u8], row: &T) -> Result<(), BooksError> {
    Ok(txn.put(key, encode(row))?)
}

pub(super) fn get<T: CborMap>(txn: &mut dyn Txn, key: &[u8]) -> Result<Option<T>, BooksError> {
    txn.get(key)?.map(|bytes| decode(&bytes)).transpose()
}
