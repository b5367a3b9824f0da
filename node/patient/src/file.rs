//! The wallet's file: a random key sealed under the passphrase, and the wallet sealed under that key.
//!
//! Invariants: the file is replaced as a whole (temporary file, fsync, rename, fsync of the folder), so that a crash
//! leaves the old or the new one; changes are made under a lock on what was just read, so that two commands at once
//! lose nothing of each other; only the owner can read it.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use handover_core::Random;
use handover_core::codec::{self, Bytes, Extensions};
use handover_seal::cell::{open_cell, seal_cell};
use handover_seal::keyfile::{KdfParams, Unlock, open_keyfile, seal_keyfile, write_private};
use handover_seal::{SealError, Secret32};

use crate::state::SealedWallet;
use crate::{Wallet, WalletError};

/// The most bytes of a wallet file: some hundred transfers with their quotes.
pub const MAX_WALLET_BYTES: usize = 64 * 1024 * 1024;
const FORMAT: u8 = 1;
const LABEL: &[u8] = b"handover/1/wallet";

/// An opened wallet file. It holds the key, not the wallet: that is read each time, because another command may
/// have changed it.
#[derive(Debug)]
pub struct WalletFile {
    path: PathBuf,
    keyfile: Vec<u8>,
    key: Secret32,
}

impl WalletFile {
    /// Writes a new wallet; never over another file.
    ///
    /// # Errors
    /// [`WalletError::Exists`], [`WalletError::File`], [`WalletError::Seal`].
    pub fn create(
        path: &Path,
        passphrase: &str,
        wallet: &Wallet,
        params: KdfParams,
        random: &mut dyn Random,
    ) -> Result<Self, WalletError> {
        let key = Secret32::generate(random);
        let keyfile = seal_keyfile(&Unlock::Passphrase(passphrase), key.expose(), params, random)?;
        let file = Self { path: path.to_owned(), keyfile, key };
        let sealed = file.seal(wallet, random)?;
        match write_private(path, &sealed) {
            Err(SealError::Io(fault)) if fault.kind() == io::ErrorKind::AlreadyExists => {
                Err(WalletError::Exists(path.to_owned()))
            }
            Err(SealError::Io(fault)) => Err(file.fault(fault)),
            other => Ok(other.map(|()| file)?),
        }
    }

    /// Opens a wallet with its passphrase. Takes a tenth of a second or more.
    ///
    /// # Errors
    /// [`WalletError::File`], [`WalletError::NotAWallet`], [`WalletError::Seal`] for a wrong passphrase or a file
    /// that others can read.
    pub fn open(path: &Path, passphrase: &str) -> Result<Self, WalletError> {
        let sealed = load(path)?;
        let keyfile = sealed.key.0;
        let key = open_keyfile(&Unlock::Passphrase(passphrase), &keyfile)?;
        let key = Secret32::from_slice(&key).map_err(|_| WalletError::NotAWallet(path.to_owned()))?;
        Ok(Self { path: path.to_owned(), keyfile, key })
    }

    /// The wallet as it lies now.
    ///
    /// # Errors
    /// [`WalletError::File`], [`WalletError::NotAWallet`].
    pub fn read(&self) -> Result<Wallet, WalletError> {
        let damaged = || WalletError::NotAWallet(self.path.clone());
        let sealed = load(&self.path)?;
        if sealed.key.0 != self.keyfile {
            return Err(damaged());
        }
        let plain = open_cell(&self.key, &aad(&self.keyfile), sealed.cell.as_ref()).map_err(|_| damaged())?;
        Wallet::from_bytes(&plain).ok_or_else(damaged)
    }

    /// Changes the wallet under the lock; what `change` returns is returned when the new file is durable. Nothing is
    /// written if it fails or changes nothing.
    ///
    /// # Errors
    /// What `change` says; [`WalletError::File`], [`WalletError::NotAWallet`].
    pub fn update<T>(
        &self,
        random: &mut dyn Random,
        change: impl FnOnce(&mut Wallet, &mut dyn Random) -> Result<T, WalletError>,
    ) -> Result<T, WalletError> {
        // Released when dropped, also by a crash. Beside the wallet, because the wallet's own file is replaced.
        let lock = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(self.beside("lock"))
            .map_err(|fault| self.fault(fault))?;
        lock.lock().map_err(|fault| self.fault(fault))?;
        let mut wallet = self.read()?;
        let before = wallet.to_bytes();
        let outcome = change(&mut wallet, random)?;
        if *wallet.to_bytes() != *before {
            let sealed = self.seal(&wallet, random)?;
            self.replace(&sealed).map_err(|fault| self.fault(fault))?;
        }
        Ok(outcome)
    }

    fn seal(&self, wallet: &Wallet, random: &mut dyn Random) -> Result<Vec<u8>, WalletError> {
        let cell = seal_cell(&self.key, &aad(&self.keyfile), &wallet.to_bytes(), random)?;
        let key = Bytes(self.keyfile.clone());
        let sealed = codec::encode(&SealedWallet {
            format: FORMAT,
            key,
            cell: cell.into(),
            extensions: Extensions::default(),
        });
        if sealed.len() > MAX_WALLET_BYTES { Err(SealError::TooLong.into()) } else { Ok(sealed) }
    }

    fn replace(&self, bytes: &[u8]) -> io::Result<()> {
        let part = self.beside("part");
        match fs::remove_file(&part) {
            Err(fault) if fault.kind() != io::ErrorKind::NotFound => return Err(fault),
            // What a crash left behind was never the wallet.
            _ => {}
        }
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&part)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&part, &self.path)?;
        let folder = self.path.parent().filter(|folder| !folder.as_os_str().is_empty());
        File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
    }

    fn beside(&self, suffix: &str) -> PathBuf {
        let mut name = self.path.clone().into_os_string();
        name.push(".");
        name.push(suffix);
        name.into()
    }

    fn fault(&self, source: io::Error) -> WalletError {
        WalletError::File { path: self.path.clone(), source }
    }
}

fn aad(keyfile: &[u8]) -> Vec<u8> {
    [LABEL, keyfile].concat()
}

fn load(path: &Path) -> Result<SealedWallet, WalletError> {
    let fault = |source| WalletError::File { path: path.to_owned(), source };
    let file = File::open(path).map_err(fault)?;
    if file.metadata().map_err(fault)?.permissions().mode() & 0o077 != 0 {
        return Err(SealError::NotPrivate.into());
    }
    let mut bytes = Vec::new();
    file.take(MAX_WALLET_BYTES as u64 + 1).read_to_end(&mut bytes).map_err(fault)?;
    match codec::decode::<SealedWallet>(&bytes, MAX_WALLET_BYTES) {
        Ok(sealed) if sealed.format == FORMAT => Ok(sealed),
        _ => Err(WalletError::NotAWallet(path.to_owned())),
    }
}

#[cfg(test)]
mod tests;
