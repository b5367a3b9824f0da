//! What can go wrong before a server runs. What goes wrong with one connection is only logged.

use std::{io, net::SocketAddr, path::PathBuf};

use handover_core::Code;

/// Why a server cannot start.
#[derive(Debug, thiserror::Error)]
pub enum WebError {
    /// A certificate or key file cannot be read or written.
    #[error("cannot read or write {path}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The private key can be read by others than its owner.
    #[error("{path} can be read by others: set its mode to 0600")]
    KeyExposed {
        /// The key file.
        path: PathBuf,
    },
    /// There is a certificate but not its key; a new one would surprise whoever trusts the old.
    #[error(
        "the certificate's key {path} is missing: restore it, or remove the certificate to make a new pair"
    )]
    KeyMissing {
        /// The key file.
        path: PathBuf,
    },
    /// Certificate or key is not usable PEM, or they do not belong together.
    #[error("certificate and key cannot be used: {reason}")]
    Certificate {
        /// What is wrong, without any key material.
        reason: String,
    },
    /// The address cannot be listened on.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// The address asked for.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
}

impl WebError {
    /// The stable code.
    #[must_use]
    pub const fn code(&self) -> Code {
        match self {
            Self::KeyExposed { .. } | Self::KeyMissing { .. } | Self::File { .. } => Code::KeyUnavailable,
            Self::Certificate { .. } | Self::Listen { .. } => Code::ConfigInvalid,
        }
    }
}
