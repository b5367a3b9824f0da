//! Private keys at rest: sealed under a passphrase (argon2id, RFC 9106) or under the random secret of another key
//! file, then AES-256-GCM. And files that only their owner reads.
//!
//! The file says how it was sealed, all of it authenticated; what it asks for is bounded before it is computed.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{ErrorKind, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

use argon2::{Algorithm, Argon2, Params, Version};
use handover_core::codec::{self, Bytes, Extensions};
use handover_core::{Random, cbor_enum, cbor_map};
use zeroize::Zeroizing;

use crate::cell::{derive, open_cell, seal_cell};
use crate::{SealError, Secret32};

/// The most bytes of a key file.
pub const MAX_BYTES: usize = 64 * 1024;

const FORMAT: u8 = 1;
const SALT_BYTES: usize = 16;
const LABEL: &str = "handover/1/keyfile";
const MAX_MEMORY_KIB: u32 = 1024 * 1024;
const MAX_PASSES: u32 = 16;
const MAX_LANES: u32 = 8;
/// The rights of a private file: its owner reads and writes.
const PRIVATE_FOLDER_MODE: u32 = 0o700;
const PRIVATE_MODE: u32 = 0o600;
const OTHERS_MODE: u32 = 0o077;

/// What opens a key file.
#[derive(Clone, Copy)]
pub enum Unlock<'a> {
    /// What a person types.
    Passphrase(&'a str),
    /// A random secret that lies elsewhere; not stretched.
    Secret(&'a Secret32),
}

/// How a passphrase is stretched (argon2id).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KdfParams {
    /// Memory in KiB, at most 1 GiB.
    pub memory_kib: u32,
    /// Passes, at most 16.
    pub passes: u32,
    /// Lanes, at most 8.
    pub lanes: u32,
}

impl Default for KdfParams {
    /// 64 MiB, 3 passes, 1 lane.
    fn default() -> Self {
        Self { memory_kib: 64 * 1024, passes: 3, lanes: 1 }
    }
}

cbor_enum! {
    /// How the sealing key of a file is made.
    pub enum Kdf {
        /// argon2id of a passphrase.
        Argon2id = 1, "argon2id";
        /// HKDF-SHA256 of a random secret.
        HkdfSha256 = 2, "hkdf-sha256";
    }
}

cbor_map! {
    /// A key file as it lies.
    pub struct KeyFile {
        /// Format, 1.
        1 => format: u8,
        /// How the key is made.
        2 => kdf: Kdf,
        /// Salt.
        3 => salt: Bytes,
        /// argon2id: memory in KiB.
        4 => memory_kib: Option<u32>,
        /// argon2id: passes.
        5 => passes: Option<u32>,
        /// argon2id: lanes.
        6 => lanes: Option<u32>,
        /// The sealed cell, bound to everything above.
        7 => cell: Bytes,
    }
}

impl KeyFile {
    /// Everything but the cell.
    fn aad(&self) -> Vec<u8> {
        let header = Self { cell: Bytes::default(), ..self.clone() };
        [LABEL.as_bytes(), &codec::encode(&header)].concat()
    }

    fn key(&self, unlock: &Unlock<'_>) -> Result<Secret32, SealError> {
        let salt = self.salt.as_ref();
        match (self.kdf, unlock, self.memory_kib, self.passes, self.lanes) {
            (Kdf::HkdfSha256, Unlock::Secret(secret), None, None, None) => Ok(derive(secret, LABEL, salt)),
            (Kdf::Argon2id, Unlock::Passphrase(passphrase), Some(memory_kib), Some(passes), Some(lanes)) => {
                stretch(passphrase, salt, KdfParams { memory_kib, passes, lanes })
            }
            (Kdf::HkdfSha256, Unlock::Passphrase(_), ..) | (Kdf::Argon2id, Unlock::Secret(_), ..) => {
                Err(SealError::KeyFile)
            }
            _ => Err(SealError::KeyFileParameters),
        }
    }
}

fn stretch(passphrase: &str, salt: &[u8], params: KdfParams) -> Result<Secret32, SealError> {
    if params.memory_kib > MAX_MEMORY_KIB || params.passes > MAX_PASSES || params.lanes > MAX_LANES {
        return Err(SealError::KeyFileParameters);
    }
    let params = Params::new(params.memory_kib, params.passes, params.lanes, Some(32))
        .map_err(|_| SealError::KeyFileParameters)?;
    let mut key = Zeroizing::new([0; 32]);
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
        .hash_password_into(passphrase.as_bytes(), salt, key.as_mut_slice())
        .map_err(|_| SealError::KeyFileParameters)?;
    Secret32::from_slice(key.as_slice())
}

/// Seals a private key; `params` count for a passphrase only. Takes a tenth of a second or more with one.
///
/// # Errors
/// [`SealError::KeyFileParameters`], [`SealError::TooLong`].
pub fn seal_keyfile(
    unlock: &Unlock<'_>,
    plaintext: &[u8],
    params: KdfParams,
    random: &mut dyn Random,
) -> Result<Vec<u8>, SealError> {
    let mut salt = vec![0; SALT_BYTES];
    random.fill(&mut salt);
    let stretched = matches!(unlock, Unlock::Passphrase(_)).then_some(params);
    let mut file = KeyFile {
        format: FORMAT,
        kdf: if stretched.is_some() { Kdf::Argon2id } else { Kdf::HkdfSha256 },
        salt: salt.into(),
        memory_kib: stretched.map(|params| params.memory_kib),
        passes: stretched.map(|params| params.passes),
        lanes: stretched.map(|params| params.lanes),
        cell: Bytes::default(),
        extensions: Extensions::default(),
    };
    file.cell = seal_cell(&file.key(unlock)?, &file.aad(), plaintext, random)?.into();
    let encoded = codec::encode(&file);
    if encoded.len() > MAX_BYTES { Err(SealError::TooLong) } else { Ok(encoded) }
}

/// Opens what [`seal_keyfile`] made.
///
/// # Errors
/// [`SealError::KeyFile`] for a wrong passphrase, secret, kind of unlock or altered bytes;
/// [`SealError::KeyFileParameters`], [`SealError::Malformed`].
pub fn open_keyfile(unlock: &Unlock<'_>, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, SealError> {
    let file: KeyFile = codec::decode(sealed, MAX_BYTES)?;
    if file.format != FORMAT {
        return Err(SealError::KeyFileParameters);
    }
    open_cell(&file.key(unlock)?, &file.aad(), file.cell.as_ref()).map_err(|_| SealError::KeyFile)
}

/// Writes a new file that only its owner reads; file and folder are synced when this returns.
///
/// # Errors
/// [`SealError::Io`], of kind `AlreadyExists` if there is such a file: nothing is ever overwritten.
pub fn write_private(path: &Path, bytes: &[u8]) -> Result<(), SealError> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(PRIVATE_MODE).open(path)?;
    let written = file.write_all(bytes).and_then(|()| file.sync_all()).and_then(|()| sync_folder(path));
    if let Err(fault) = written {
        // A half-written file would stand in the way of the next try.
        drop(fs::remove_file(path));
        return Err(fault.into());
    }
    Ok(())
}

/// Makes a folder, and those above it, for this user only; their names are on disk when this returns.
///
/// # Errors
/// [`SealError::Io`].
pub fn make_private_folder(folder: &Path) -> Result<(), SealError> {
    if folder.as_os_str().is_empty() || folder.is_dir() {
        return Ok(());
    }
    folder.parent().map_or(Ok(()), make_private_folder)?;
    match DirBuilder::new().mode(PRIVATE_FOLDER_MODE).create(folder) {
        // Somebody else was faster.
        Err(error) if error.kind() == ErrorKind::AlreadyExists && folder.is_dir() => {}
        made => made?,
    }
    Ok(sync_folder(folder)?)
}

fn sync_folder(path: &Path) -> std::io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder)?.sync_all()
}

/// Reads a file that [`write_private`] wrote, at most [`MAX_BYTES`].
///
/// # Errors
/// [`SealError::NotPrivate`] if others have any right to it, [`SealError::TooLong`], [`SealError::Io`].
pub fn read_private(path: &Path) -> Result<Zeroizing<Vec<u8>>, SealError> {
    let file = File::open(path)?;
    if file.metadata()?.permissions().mode() & OTHERS_MODE != 0 {
        return Err(SealError::NotPrivate);
    }
    let mut bytes = Zeroizing::new(Vec::with_capacity(MAX_BYTES + 1));
    file.take(MAX_BYTES as u64 + 1).read_to_end(&mut bytes)?;
    if bytes.len() > MAX_BYTES { Err(SealError::TooLong) } else { Ok(bytes) }
}

#[cfg(test)]
mod tests;
