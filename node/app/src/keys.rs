//! The hospital's secrets: made once by `init`, sealed together in one file under the passphrase, so that opening
//! them stretches it once.
//!
//! Layout of the sealed plaintext: format (1 byte), the length of the hospital's identifier (1 byte) and the
//! identifier, then the seeds and keys of 32 bytes each in the order of [`Secrets`], then the RSA key as PKCS#8 DER
//! to the end. Nothing is ever overwritten.

use std::path::Path;

use handover_cli::CliError;
use handover_core::{Code, HospitalId, Random};
use handover_seal::keyfile::{
    self, KdfParams, Unlock, open_keyfile, read_private, seal_keyfile, write_private,
};
use handover_seal::{RsaPrivateKey, SealError, Secret32, SigningKey};
use handover_store::CellKey;
use zeroize::Zeroizing;

const FORMAT: u8 = 1;
const SEED_BYTES: usize = 32;

/// Everything that only this node may know.
pub struct Secrets {
    /// Whose they are: the federation binds its admission to both, so neither changes alone.
    hospital: HospitalId,
    /// Seed of the hospital's Ed25519 signing key.
    signing_seed: Secret32,
    /// Seed of this process' libp2p key.
    net_seed: Secret32,
    /// What encrypts the store's values.
    cell_key: Secret32,
    /// What wraps the departments' keys.
    hospital_key: Secret32,
    /// The RSA key, PKCS#8 DER.
    rsa_pkcs8: Zeroizing<Vec<u8>>,
}

impl Secrets {
    /// New keys of a hospital. Making the RSA key takes from a tenth of a second to several.
    ///
    /// # Errors
    /// [`SealError::InvalidKey`] if no RSA key could be made.
    pub fn generate(hospital: HospitalId, random: &mut dyn Random) -> Result<Self, SealError> {
        Ok(Self {
            hospital,
            signing_seed: Secret32::generate(random),
            net_seed: Secret32::generate(random),
            cell_key: Secret32::generate(random),
            hospital_key: Secret32::generate(random),
            rsa_pkcs8: RsaPrivateKey::generate(random)?.pkcs8_der().clone(),
        })
    }

    /// That they are this hospital's.
    ///
    /// # Errors
    /// [`Code::ConfigInvalid`]; names both hospitals.
    pub fn check_hospital(&self, configured: &HospitalId) -> Result<(), CliError> {
        let made = &self.hospital;
        if configured == made {
            return Ok(());
        }
        let detail =
            format!("hospital.id: the configuration says {configured}, but these keys were made for {made}");
        Err(CliError::new(Code::ConfigInvalid, detail).with_next(format!(
            "Put {made} back. For another hospital, use another data folder and give init."
        )))
    }

    /// The hospital's signing key.
    #[must_use]
    pub fn signing(&self) -> SigningKey {
        SigningKey::from_seed(&self.signing_seed)
    }

    /// The key that proves this process on connections.
    #[must_use]
    pub fn net(&self) -> SigningKey {
        SigningKey::from_seed(&self.net_seed)
    }

    /// Its seed.
    #[must_use]
    pub fn net_seed(&self) -> Zeroizing<[u8; SEED_BYTES]> {
        Zeroizing::new(*self.net_seed.expose())
    }

    /// The store's key.
    #[must_use]
    pub fn cell_key(&self) -> CellKey {
        CellKey::from_bytes(*self.cell_key.expose())
    }

    /// The records' key.
    #[must_use]
    pub fn hospital_key(&self) -> Secret32 {
        self.hospital_key.clone()
    }

    /// The RSA key.
    ///
    /// # Errors
    /// [`SealError::InvalidKey`] if what was kept is none.
    pub fn rsa(&self) -> Result<RsaPrivateKey, SealError> {
        RsaPrivateKey::from_pkcs8_der(&self.rsa_pkcs8)
    }

    fn to_bytes(&self) -> Zeroizing<Vec<u8>> {
        let seeds = [&self.signing_seed, &self.net_seed, &self.cell_key, &self.hospital_key];
        // Room for everything at once: a buffer that grows leaves copies behind.
        let hospital = self.hospital.as_str().as_bytes();
        let length = 2 + hospital.len() + seeds.len() * SEED_BYTES + self.rsa_pkcs8.len();
        let mut bytes = Zeroizing::new(Vec::with_capacity(length));
        bytes.push(FORMAT);
        // An identifier has at most 40 bytes.
        bytes.push(u8::try_from(hospital.len()).unwrap_or(u8::MAX));
        bytes.extend_from_slice(hospital);
        for seed in seeds {
            bytes.extend_from_slice(seed.expose());
        }
        bytes.extend_from_slice(&self.rsa_pkcs8);
        bytes
    }

    fn from_bytes(bytes: &[u8]) -> Result<Self, SealError> {
        let (&FORMAT, rest) = bytes.split_first().ok_or(SealError::KeyFile)? else {
            return Err(SealError::KeyFileParameters);
        };
        let (&length, rest) = rest.split_first().ok_or(SealError::KeyFile)?;
        let (hospital, mut rest) = rest.split_at_checked(length.into()).ok_or(SealError::KeyFile)?;
        let hospital = std::str::from_utf8(hospital).ok().and_then(|text| text.parse().ok());
        let mut next = || {
            let (seed, after) = rest.split_at_checked(SEED_BYTES).ok_or(SealError::KeyFile)?;
            rest = after;
            Secret32::from_slice(seed)
        };
        Ok(Self {
            hospital: hospital.ok_or(SealError::KeyFile)?,
            signing_seed: next()?,
            net_seed: next()?,
            cell_key: next()?,
            hospital_key: next()?,
            rsa_pkcs8: Zeroizing::new(rest.to_vec()),
        })
    }

    /// Seals them into a new file.
    ///
    /// # Errors
    /// [`Code::Conflict`] if there is one already; what could not be written.
    pub fn save(&self, path: &Path, passphrase: &str, random: &mut dyn Random) -> Result<(), CliError> {
        if let Some(folder) = path.parent() {
            make_private_folder(folder)?;
        }
        let sealed =
            seal_keyfile(&Unlock::Passphrase(passphrase), &self.to_bytes(), KdfParams::default(), random)
                .map_err(|fault| key_fault(path, &fault))?;
        write_private(path, &sealed).map_err(|fault| match &fault {
            SealError::Io(error) if error.kind() == std::io::ErrorKind::AlreadyExists => already(path),
            _ => key_fault(path, &fault),
        })
    }

    /// Opens what [`Secrets::save`] wrote.
    ///
    /// # Errors
    /// [`Code::KeyUnavailable`]: no such file, a wrong passphrase, a file that others can read.
    pub fn load(path: &Path, passphrase: &str) -> Result<Self, CliError> {
        let sealed = read_private(path).map_err(|fault| key_fault(path, &fault))?;
        open_keyfile(&Unlock::Passphrase(passphrase), &sealed)
            .and_then(|bytes| Self::from_bytes(&bytes))
            .map_err(|fault| key_fault(path, &fault))
    }
}

/// Makes a folder, and those above it, for this user only; durable.
///
/// # Errors
/// [`Code::StoreUnavailable`].
pub fn make_private_folder(folder: &Path) -> Result<(), CliError> {
    keyfile::make_private_folder(folder)
        .map_err(|error| CliError::new(Code::StoreUnavailable, format!("{}: {error}", folder.display())))
}

/// There are keys already.
fn already(path: &Path) -> CliError {
    CliError::new(Code::Conflict, format!("{} exists: this node has its keys already", path.display()))
        .with_next("Nothing was changed. To begin anew, use another data folder.")
}

fn key_fault(path: &Path, fault: &SealError) -> CliError {
    let missing = matches!(fault, SealError::Io(error) if error.kind() == std::io::ErrorKind::NotFound);
    let error = CliError::new(Code::KeyUnavailable, format!("{}: {fault}", path.display()));
    if missing { error.with_next("Run init first.") } else { error }
}

#[cfg(test)]
mod tests {
    use handover_seal::OsRandom;

    use super::*;

    #[test]
    fn keys_come_back_and_are_never_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys").join("keys.sealed");
        let made = Secrets::generate("lakeside".parse().unwrap(), &mut OsRandom).unwrap();
        made.save(&path, "correct horse", &mut OsRandom).unwrap();
        let read = Secrets::load(&path, "correct horse").unwrap();
        assert_eq!(read.to_bytes(), made.to_bytes());
        assert_eq!(read.rsa().unwrap().public(), made.rsa().unwrap().public());
        read.check_hospital(&"lakeside".parse().unwrap()).unwrap();
        let error = read.check_hospital(&"riverside".parse().unwrap()).unwrap_err();
        assert!(error.detail.contains("riverside") && error.detail.contains("lakeside"), "{error}");
        assert_eq!(made.save(&path, "other", &mut OsRandom).unwrap_err().code, Code::Conflict);
        for (path, passphrase) in [(path.as_path(), "wrong"), (Path::new("/nonexistent/keys"), "x")] {
            let error = Secrets::load(path, passphrase).err().unwrap();
            assert_eq!(error.code, Code::KeyUnavailable);
        }
    }
}
