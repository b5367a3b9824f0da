//! What can go wrong in a store. No key's or value's content stands in any of these.

use std::path::PathBuf;

use handover_core::Code;

const MIB: u64 = 1024 * 1024;

/// Why something was not stored or read. Cloneable, because one failed flush answers a whole batch.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StoreError {
    /// Another process holds the folder's lock.
    #[error("the store in {} is in use by {by}", folder.display())]
    InUse {
        /// The store's folder, or where in which database it is.
        folder: PathBuf,
        /// By whom, for people.
        by: String,
    },
    /// The operating system refused to read or write.
    #[error("cannot {doing}: {reason}")]
    Unavailable {
        /// What was being done.
        doing: &'static str,
        /// The operating system's or engine's words.
        reason: String,
    },
    /// A write could not be made durable, or the store has another owner by now; the log says which. Nothing is read
    /// or written until the store is opened again.
    #[error(
        "an earlier write could not be made durable, or another process has the store by now; it refuses everything \
         until it is opened again"
    )]
    Failed,
    /// The store in a database is not this process's any more, or not what it was.
    #[error("this process has lost the store in {store}: {reason}; start it again")]
    Overtaken {
        /// Where it is.
        store: String,
        /// Why.
        reason: &'static str,
    },
    /// The store was closed.
    #[error("the store is closed")]
    Closed,
    /// The queue of writes stayed full for the whole waiting time.
    #[error("too many writes are waiting")]
    Busy,
    /// The store was made with another cell key, so most likely the passphrase or key file is another store's.
    #[error("this key does not open this store; it was made with another one")]
    WrongKey,
    /// An epoch's key is not there or not this store's. Nothing was changed.
    #[error("{}: {reason}", file.display())]
    EpochKey {
        /// The key's file.
        file: PathBuf,
        /// What is wrong with it, and what to do.
        reason: String,
    },
    /// Written by a version of this software that is not known here.
    #[error("the store has format {found}, which this version does not know")]
    UnknownFormat {
        /// The format's number as found.
        found: u8,
    },
    /// Stored bytes are not what was written.
    #[error("{what} is damaged: {advice}")]
    Damaged {
        /// What is damaged; a key is named by its hexadecimal bytes, which say nothing outside.
        what: String,
        /// What to do about it.
        advice: &'static str,
    },
    /// Something that was acknowledged is not there any more.
    #[error("the store has lost what was acknowledged: {what}: {advice}")]
    Lost {
        /// What, by number and time of its commits and by kinds of values.
        what: String,
        /// What to do about it.
        advice: &'static str,
    },
    /// The disk has too little room for a write. Nothing was written; what is stored can be read.
    #[error(
        "only {} MiB are free on the disk of the store, and {} are kept free; make room, then try again",
        free_bytes / MIB, crate::ROOM_BYTES / MIB
    )]
    Full {
        /// What is free, in bytes.
        free_bytes: u64,
    },
    /// What a transaction appended to tables contradicts one of their constraints. Nothing of it was written.
    #[error(
        "the database refuses what contradicts the constraint {constraint} of its tables, and nothing was written; \
         `check` says what differs"
    )]
    Contradicted {
        /// The constraint's name.
        constraint: String,
    },
    /// A key is longer than [`crate::KEY_MAX_BYTES`].
    #[error("a key of {bytes} bytes is over the limit of {} bytes", crate::KEY_MAX_BYTES)]
    KeyTooLong {
        /// The key's length.
        bytes: usize,
    },
    /// A key is empty or starts with a zero byte, which is the store's own.
    #[error("a key must not be empty or start with a zero byte")]
    KeyReserved,
    /// A value is longer than [`crate::VALUE_MAX_BYTES`].
    #[error(
        "a value of {bytes} bytes is over the limit of {} bytes; large content goes to blobs",
        crate::VALUE_MAX_BYTES
    )]
    ValueTooLarge {
        /// The value's length.
        bytes: usize,
    },
    /// A transaction's writes are more than [`crate::TRANSACTION_MAX_BYTES`] together.
    #[error("a transaction writes more than {} bytes", crate::TRANSACTION_MAX_BYTES)]
    TransactionTooLarge,
    /// More cells were asked for in one page than [`crate::SCAN_MAX_CELLS`].
    #[error("a scan asked for {limit} cells; a page holds at most {}", crate::SCAN_MAX_CELLS)]
    ScanTooWide {
        /// What was asked for.
        limit: usize,
    },
    /// A closure given to `read` tried to write.
    #[error("a read tried to write")]
    ReadOnly,
    /// A transaction's closure panicked. It wrote nothing.
    #[error("a transaction's closure panicked")]
    Panicked,
    /// No content with this root is here.
    #[error("no blob with this root is here")]
    UnknownBlob,
    /// What was said about a database is of no use. No password stands in it.
    #[error("{reason}")]
    Settings {
        /// What is wrong, and what to do.
        reason: String,
    },
    /// The store lies elsewhere by now.
    #[error("this store was moved to {to}: set [store] engine to that one; `store undo` takes the move back")]
    Moved {
        /// Where to.
        to: String,
    },
    /// A store that was being moved here; the copy is not known to be whole.
    #[error(
        "the copy from {from} to here was not completed: give `store copy` again, on the engine from before"
    )]
    Unfinished {
        /// Where from.
        from: String,
    },
    /// A store is copied to an empty place only.
    #[error("{place} holds a store already; take it away, or name another place")]
    NotEmpty {
        /// The place.
        place: String,
    },
    /// The command does not fit how the two stores are.
    #[error("{reason}")]
    NotMoved {
        /// Why not.
        reason: String,
    },
}

impl StoreError {
    /// The stable code.
    #[must_use]
    pub const fn code(&self) -> Code {
        match self {
            Self::InUse { .. }
            | Self::Unavailable { .. }
            | Self::Failed
            | Self::Overtaken { .. }
            | Self::Closed
            | Self::UnknownFormat { .. } => Code::StoreUnavailable,
            Self::Busy => Code::Busy,
            Self::WrongKey => Code::KeyUnavailable,
            Self::EpochKey { .. } => Code::EpochKeyUnavailable,
            Self::Damaged { .. } | Self::Lost { .. } | Self::Contradicted { .. } => Code::StoreDamaged,
            Self::Full { .. } => Code::StoreFull,
            Self::KeyTooLong { .. } | Self::ValueTooLarge { .. } | Self::TransactionTooLarge => {
                Code::TooLarge
            }
            Self::KeyReserved | Self::ScanTooWide { .. } | Self::ReadOnly | Self::Panicked => Code::Internal,
            Self::UnknownBlob => Code::UnknownRecord,
            Self::Settings { .. } => Code::ConfigInvalid,
            Self::Moved { .. } | Self::Unfinished { .. } => Code::StoreUnavailable,
            Self::NotEmpty { .. } | Self::NotMoved { .. } => Code::UsageInvalid,
        }
    }

    /// Another process on this machine has the folder.
    pub(crate) fn in_use(folder: &std::path::Path) -> Self {
        Self::InUse { folder: folder.to_owned(), by: "another process".to_owned() }
    }

    /// For `map_err` on input and output.
    pub(crate) fn io(doing: &'static str) -> impl Fn(std::io::Error) -> Self {
        move |error| Self::Unavailable { doing, reason: error.to_string() }
    }
}
