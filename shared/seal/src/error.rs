//! Why something could not be sealed, opened or verified.

use handover_core::codec::DecodeError;
use handover_core::{Code, Digest};

/// A fault of this room. None of them holds a secret, a plaintext or a path.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SealError {
    /// Wrong key, wrong context, or altered bytes: deliberately the same for all of them.
    #[error("cannot be opened with this key in this context")]
    CannotOpen,
    /// The commitment to the content key is not the one that was announced.
    #[error("the shares do not give the announced content key")]
    Commitment,
    /// Sealed to a key that is not on this ring: its thumbprint.
    #[error("sealed to a key that is not held here")]
    UnknownKey(Digest),
    /// A key that does not meet the rules.
    #[error("not an acceptable key: {0}")]
    InvalidKey(&'static str),
    /// More plaintext than the format takes.
    #[error("too much to seal at once")]
    TooLong,
    /// A sealed structure that cannot be read.
    #[error(transparent)]
    Malformed(#[from] DecodeError),
    /// Content whose bytes do not match their tree: refused, nothing of the group was written.
    #[error("content does not match its root")]
    Damaged,
    /// The input ended early; what was verified so far can be continued from.
    #[error("the input ended before the content was complete")]
    Cut,
    /// A group to continue from that the content does not have.
    #[error("cannot continue at a group that the content does not have")]
    NoSuchGroup,
    /// The key file does not open: wrong passphrase or key, or altered.
    #[error("the key file cannot be opened with this passphrase or key")]
    KeyFile,
    /// The key file's parameters are outside what is accepted.
    #[error("the key file asks for parameters outside the accepted bounds")]
    KeyFileParameters,
    /// Others than its owner may read a private file.
    #[error("others than its owner may read this private file")]
    NotPrivate,
    /// Reading or writing failed.
    #[error("reading or writing failed: {0}")]
    Io(#[from] std::io::Error),
}

impl SealError {
    /// The stable code for it.
    #[must_use]
    pub const fn code(&self) -> Code {
        match self {
            Self::CannotOpen | Self::UnknownKey(_) => Code::CannotOpen,
            Self::Commitment => Code::SharesMismatch,
            Self::InvalidKey(_) => Code::Malformed,
            Self::TooLong | Self::Malformed(DecodeError::TooLarge { .. }) => Code::TooLarge,
            Self::Malformed(_) => Code::Malformed,
            Self::Damaged | Self::NoSuchGroup => Code::PackageDamaged,
            Self::Cut => Code::Unreachable,
            Self::KeyFile | Self::KeyFileParameters | Self::NotPrivate => Code::KeyUnavailable,
            Self::Io(_) => Code::StoreUnavailable,
        }
    }
}
