//! Keys at rest: the index's own, and those of root and operators. Each file is sealed under a passphrase.
//!
//! Nothing here knows a store or a network; whoever holds a file and its passphrase holds the key.

use std::path::{Path, PathBuf};

use handover_core::codec::{self, Extensions};
use handover_core::{Code, Random, cbor_map};
use handover_seal::keyfile::{
    KdfParams, MAX_BYTES, Unlock, open_keyfile, read_private, seal_keyfile, write_private,
};
use handover_seal::{SealError, Secret32, SigningKey};
use handover_store::CellKey;

use crate::keepsakes::Keepsakes;

/// The key file in the data folder.
pub const KEY_FILE: &str = "index-keys";
/// The request for the root, in the data folder.
pub const REQUEST_FILE: &str = "index-request.cbor";
/// The root's certificate for the online key, in the data folder.
pub const CERTIFICATE_FILE: &str = "index-certificate.cbor";

/// Why a key file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The file cannot be opened, written or read with this passphrase.
    #[error("{}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: SealError,
    },
    /// It opens, but holds something else.
    #[error("{}: not a key file of the needed kind", path.display())]
    Kind {
        /// The file.
        path: PathBuf,
    },
}

impl KeyError {
    /// The stable code.
    #[must_use]
    pub const fn code(&self) -> Code {
        Code::KeyUnavailable
    }
}

cbor_map! {
    /// What the index's key file holds.
    pub struct StoredKeys {
        /// Seed of the online signing key.
        1 => signing: [u8; 32],
        /// Seed of the libp2p key.
        2 => net: [u8; 32],
        /// The store's cell key.
        3 => cells: [u8; 32],
    }
}

/// The index's own keys.
pub struct IndexKeys {
    /// Signs directories, checkpoints and the endpoint certificate.
    pub signing: SigningKey,
    /// Seed of the libp2p key.
    pub net: Secret32,
    cells: Secret32,
}

impl std::fmt::Debug for IndexKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("IndexKeys").field("signing", &self.signing).finish_non_exhaustive()
    }
}

fn at(path: &Path) -> impl FnOnce(SealError) -> KeyError + '_ {
    |source| KeyError::File { path: path.to_owned(), source }
}

fn seal(path: &Path, plain: &[u8], passphrase: &str, random: &mut dyn Random) -> Result<(), KeyError> {
    let sealed = seal_keyfile(&Unlock::Passphrase(passphrase), plain, KdfParams::default(), random)
        .map_err(at(path))?;
    write_private(path, &sealed).map_err(at(path))
}

impl IndexKeys {
    /// Fresh keys.
    #[must_use]
    pub fn generate(random: &mut dyn Random) -> Self {
        Self {
            signing: SigningKey::generate(random),
            net: Secret32::generate(random),
            cells: Secret32::generate(random),
        }
    }

    /// The store's cell key.
    #[must_use]
    pub fn cell_key(&self) -> CellKey {
        CellKey::from_bytes(*self.cells.expose())
    }

    /// For what others keep of the log: whoever has the store's key can read that anyway.
    #[must_use]
    pub(crate) fn keepsakes(&self) -> Keepsakes {
        Keepsakes::of(&self.cells)
    }

    /// Writes them into a data folder; never over others.
    ///
    /// # Errors
    /// [`KeyError::File`].
    pub fn write(&self, data: &Path, passphrase: &str, random: &mut dyn Random) -> Result<(), KeyError> {
        let stored = StoredKeys {
            signing: *self.signing.seed().expose(),
            net: *self.net.expose(),
            cells: *self.cells.expose(),
            extensions: Extensions::default(),
        };
        let plain = zeroize::Zeroizing::new(codec::encode(&stored));
        seal(&data.join(KEY_FILE), &plain, passphrase, random)
    }

    /// Opens those in a data folder.
    ///
    /// # Errors
    /// [`KeyError`].
    pub fn open(data: &Path, passphrase: &str) -> Result<Self, KeyError> {
        let path = data.join(KEY_FILE);
        let sealed = read_private(&path).map_err(at(&path))?;
        let plain = open_keyfile(&Unlock::Passphrase(passphrase), &sealed).map_err(at(&path))?;
        let stored: StoredKeys =
            codec::decode(&plain, MAX_BYTES).map_err(|_| KeyError::Kind { path: path.clone() })?;
        Ok(Self {
            signing: SigningKey::from_seed(&Secret32::from_bytes(stored.signing)),
            net: Secret32::from_bytes(stored.net),
            cells: Secret32::from_bytes(stored.cells),
        })
    }
}

/// Writes a root's or operator's key; never over another.
///
/// # Errors
/// [`KeyError::File`].
pub fn write_signing_key(
    path: &Path,
    key: &SigningKey,
    passphrase: &str,
    random: &mut dyn Random,
) -> Result<(), KeyError> {
    seal(path, key.seed().expose(), passphrase, random)
}

/// Opens a root's or operator's key.
///
/// # Errors
/// [`KeyError`].
pub fn open_signing_key(path: &Path, passphrase: &str) -> Result<SigningKey, KeyError> {
    let sealed = read_private(path).map_err(at(path))?;
    let plain = open_keyfile(&Unlock::Passphrase(passphrase), &sealed).map_err(at(path))?;
    let seed = Secret32::from_slice(&plain).map_err(|_| KeyError::Kind { path: path.to_owned() })?;
    Ok(SigningKey::from_seed(&seed))
}
