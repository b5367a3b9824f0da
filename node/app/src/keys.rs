//! The hospital's secrets: made once by `init`, sealed together in one file under the passphrase, so that opening
//! them stretches it once. `keys renew` adds a further set of the keys that speak for it; the directory says which does.
//!
//! Layout of the sealed plaintext: format (1 byte), the length of the hospital's identifier (1 byte) and the
//! identifier, what encrypts the store's values and what wraps the departments' keys (32 bytes each), then the sets, the
//! oldest first: the seeds of 32 bytes each in the order of `KeySet`, the length of the RSA key (2 bytes, big-endian)
//! and that key as PKCS#8 DER. A set is never changed, and none goes: what others sealed to it still has to be opened.
//!
//! Format 1 is of one set: signing, network, store, departments, then the RSA key to the end.

use std::path::Path;

use handover_cli::CliError;
use handover_core::artefact::federation::FORMER_KEYS_MAX;
use handover_core::id::SigningPublic;
use handover_core::{Code, HospitalId, Random};
use handover_seal::keyfile::{
    self, KdfParams, Unlock, open_keyfile, read_private, seal_keyfile, write_private,
};
use handover_seal::{KeyRing, RsaPrivateKey, SealError, Secret32, SigningKey};
use handover_store::CellKey;
use zeroize::Zeroizing;

const FORMAT_ONE_SET: u8 = 1;
const FORMAT: u8 = 2;
const SEED_BYTES: usize = 32;

/// The keys that speak for the hospital at one time. Whoever steals one of them may have all, so they are replaced
/// together.
struct KeySet {
    /// Seed of the hospital's Ed25519 signing key.
    signing_seed: Secret32,
    /// Seed of this process' libp2p key.
    net_seed: Secret32,
    /// The RSA key, PKCS#8 DER.
    rsa_pkcs8: Zeroizing<Vec<u8>>,
}

impl KeySet {
    fn generate(random: &mut dyn Random) -> Result<Self, SealError> {
        Ok(Self {
            signing_seed: Secret32::generate(random),
            net_seed: Secret32::generate(random),
            rsa_pkcs8: RsaPrivateKey::generate(random)?.pkcs8_der().clone(),
        })
    }
}

/// Everything that only this node may know.
pub struct Secrets {
    /// Whose they are: the federation binds its admission to both, so neither changes alone.
    hospital: HospitalId,
    /// What encrypts the store's values.
    cell_key: Secret32,
    /// What wraps the departments' keys.
    hospital_key: Secret32,
    /// The oldest first; at least one.
    sets: Vec<KeySet>,
}

/// One of a hospital's sets of keys.
#[derive(Clone, Copy)]
pub struct Keys<'s> {
    set: &'s KeySet,
}

impl Keys<'_> {
    /// The hospital's signing key.
    #[must_use]
    pub fn signing(self) -> SigningKey {
        SigningKey::from_seed(&self.set.signing_seed)
    }

    /// The key that proves this process on connections.
    #[must_use]
    pub fn net(self) -> SigningKey {
        SigningKey::from_seed(&self.set.net_seed)
    }

    /// Its seed.
    #[must_use]
    pub fn net_seed(self) -> Zeroizing<[u8; SEED_BYTES]> {
        Zeroizing::new(*self.set.net_seed.expose())
    }

    /// The RSA key.
    ///
    /// # Errors
    /// [`SealError::InvalidKey`] if what was kept is none.
    pub fn rsa(self) -> Result<RsaPrivateKey, SealError> {
        RsaPrivateKey::from_pkcs8_der(&self.set.rsa_pkcs8)
    }
}

impl Secrets {
    /// New keys of a hospital. Making the RSA key takes from a tenth of a second to several.
    ///
    /// # Errors
    /// [`SealError::InvalidKey`] if no RSA key could be made.
    pub fn generate(hospital: HospitalId, random: &mut dyn Random) -> Result<Self, SealError> {
        Ok(Self {
            hospital,
            cell_key: Secret32::generate(random),
            hospital_key: Secret32::generate(random),
            sets: vec![KeySet::generate(random)?],
        })
    }

    /// Adds a set that is to succeed the others.
    ///
    /// # Errors
    /// As [`Self::generate`]; [`Code::Conflict`] if there are as many as one may have.
    pub fn renew(&mut self, random: &mut dyn Random) -> Result<(), CliError> {
        if self.sets.len() > FORMER_KEYS_MAX {
            return Err(CliError::new(
                Code::Conflict,
                format!("there are {} sets of keys already", self.sets.len()),
            ));
        }
        let made = KeySet::generate(random);
        self.sets.push(made.map_err(|fault| CliError::new(fault.code(), fault.to_string()))?);
        Ok(())
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

    /// The number of the set whose signing key this is.
    #[must_use]
    pub fn number_of(&self, signing: &SigningPublic) -> Option<usize> {
        (0..self.sets.len())
            .find(|number| self.keys(*number).is_some_and(|it| it.signing().public() == *signing))
    }

    /// The set with this number; the oldest is 0.
    #[must_use]
    pub fn keys(&self, number: usize) -> Option<Keys<'_>> {
        self.sets.get(number).map(|set| Keys { set })
    }

    /// The number of the set that was made last.
    #[must_use]
    pub fn last(&self) -> usize {
        self.sets.len().saturating_sub(1)
    }

    /// The set that was made last.
    ///
    /// # Errors
    /// [`Code::KeyUnavailable`] if there is none, which no file says.
    pub fn newest(&self) -> Result<Keys<'_>, Code> {
        self.keys(self.last()).ok_or(Code::KeyUnavailable)
    }

    /// All RSA keys, with the one of a set as the one that others seal to now.
    ///
    /// # Errors
    /// [`SealError::InvalidKey`] if what was kept is none.
    pub fn ring(&self, current: Keys<'_>) -> Result<KeyRing, SealError> {
        let mut ring = KeyRing::new(current.rsa()?);
        for set in self.sets.iter().filter(|set| !std::ptr::eq(*set, current.set)) {
            ring.add_retiring(Keys { set }.rsa()?);
        }
        Ok(ring)
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

    fn to_bytes(&self) -> Zeroizing<Vec<u8>> {
        // Room for everything at once: a buffer that grows leaves copies behind.
        let hospital = self.hospital.as_str().as_bytes();
        let sets = self.sets.iter().map(|set| 2 * SEED_BYTES + size_of::<u16>() + set.rsa_pkcs8.len());
        let length = 2 + hospital.len() + 2 * SEED_BYTES + sets.sum::<usize>();
        let mut bytes = Zeroizing::new(Vec::with_capacity(length));
        bytes.push(FORMAT);
        // An identifier has at most 40 bytes.
        bytes.push(u8::try_from(hospital.len()).unwrap_or(u8::MAX));
        bytes.extend_from_slice(hospital);
        bytes.extend_from_slice(self.cell_key.expose());
        bytes.extend_from_slice(self.hospital_key.expose());
        for set in &self.sets {
            bytes.extend_from_slice(set.signing_seed.expose());
            bytes.extend_from_slice(set.net_seed.expose());
            // An RSA-3072 key has less than 2 KiB.
            bytes.extend_from_slice(&u16::try_from(set.rsa_pkcs8.len()).unwrap_or(u16::MAX).to_be_bytes());
            bytes.extend_from_slice(&set.rsa_pkcs8);
        }
        bytes
    }

    fn from_bytes(bytes: &[u8]) -> Result<Self, SealError> {
        let (format, rest) = bytes.split_first().ok_or(SealError::KeyFile)?;
        let (&length, rest) = rest.split_first().ok_or(SealError::KeyFile)?;
        let (hospital, rest) = rest.split_at_checked(length.into()).ok_or(SealError::KeyFile)?;
        let hospital = std::str::from_utf8(hospital).ok().and_then(|text| text.parse().ok());
        let hospital = hospital.ok_or(SealError::KeyFile)?;
        let mut rest = Rest(rest);
        match *format {
            FORMAT_ONE_SET => {
                let (signing_seed, net_seed) = (rest.seed()?, rest.seed()?);
                let (cell_key, hospital_key) = (rest.seed()?, rest.seed()?);
                let set = KeySet { signing_seed, net_seed, rsa_pkcs8: Zeroizing::new(rest.0.to_vec()) };
                Ok(Self { hospital, cell_key, hospital_key, sets: vec![set] })
            }
            FORMAT => {
                let (cell_key, hospital_key) = (rest.seed()?, rest.seed()?);
                let mut sets = Vec::new();
                while !rest.0.is_empty() {
                    let (signing_seed, net_seed) = (rest.seed()?, rest.seed()?);
                    sets.push(KeySet { signing_seed, net_seed, rsa_pkcs8: rest.rsa()? });
                }
                if sets.is_empty() {
                    return Err(SealError::KeyFile);
                }
                Ok(Self { hospital, cell_key, hospital_key, sets })
            }
            _ => Err(SealError::KeyFileParameters),
        }
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

    /// Puts them in the place of the file with fewer sets; that one stays until this one is durable.
    ///
    /// # Errors
    /// What could not be written.
    pub fn replace(&self, path: &Path, passphrase: &str, random: &mut dyn Random) -> Result<(), CliError> {
        let next = path.with_extension("next");
        let fault = |error: std::io::Error| key_fault(path, &SealError::Io(error));
        // Of one that was interrupted: nobody has heard of its keys.
        match std::fs::remove_file(&next) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(fault(error)),
            _ => {}
        }
        self.save(&next, passphrase, random)?;
        std::fs::rename(&next, path).map_err(fault)?;
        std::fs::File::open(folder_of(path)).and_then(|it| it.sync_all()).map_err(fault)
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

/// Waits until nobody else changes a key file, and keeps others from it until this is dropped.
///
/// # Errors
/// [`Code::KeyUnavailable`] if there is no folder for it.
pub fn alone(path: &Path) -> Result<std::fs::File, CliError> {
    let folder = std::fs::File::open(folder_of(path));
    let locked = folder.and_then(|folder| folder.lock().map(|()| folder));
    locked.map_err(|error| key_fault(path, &SealError::Io(error)))
}

fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|it| !it.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."))
}

/// What is left to be read.
struct Rest<'b>(&'b [u8]);

impl<'b> Rest<'b> {
    fn bytes(&mut self, count: usize) -> Result<&'b [u8], SealError> {
        let (bytes, after) = self.0.split_at_checked(count).ok_or(SealError::KeyFile)?;
        self.0 = after;
        Ok(bytes)
    }

    fn seed(&mut self) -> Result<Secret32, SealError> {
        Secret32::from_slice(self.bytes(SEED_BYTES)?)
    }

    fn rsa(&mut self) -> Result<Zeroizing<Vec<u8>>, SealError> {
        let length = self.bytes(size_of::<u16>())?.try_into().map_err(|_| SealError::KeyFile)?;
        Ok(Zeroizing::new(self.bytes(u16::from_be_bytes(length).into())?.to_vec()))
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
        let rsa = |of: &Secrets| of.newest().unwrap().rsa().unwrap().public().thumbprint();
        assert_eq!(rsa(&read), rsa(&made));
        read.check_hospital(&"lakeside".parse().unwrap()).unwrap();
        let error = read.check_hospital(&"riverside".parse().unwrap()).unwrap_err();
        assert!(error.detail.contains("riverside") && error.detail.contains("lakeside"), "{error}");
        assert_eq!(made.save(&path, "other", &mut OsRandom).unwrap_err().code, Code::Conflict);
        for (path, passphrase) in [(path.as_path(), "wrong"), (Path::new("/nonexistent/keys"), "x")] {
            let error = Secrets::load(path, passphrase).err().unwrap();
            assert_eq!(error.code, Code::KeyUnavailable);
        }
    }

    #[test]
    fn a_further_set_stands_beside_those_before() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys.sealed");
        let mut made = Secrets::generate("lakeside".parse().unwrap(), &mut OsRandom).unwrap();
        made.save(&path, "correct horse", &mut OsRandom).unwrap();
        made.renew(&mut OsRandom).unwrap();
        // One that was cut off before is in nobody's way.
        std::fs::write(path.with_extension("next"), b"half").unwrap();
        made.replace(&path, "correct horse", &mut OsRandom).unwrap();
        let read = Secrets::load(&path, "correct horse").unwrap();
        let (first, second) = (read.keys(0).unwrap(), read.keys(1).unwrap());
        assert_eq!(read.to_bytes(), made.to_bytes());
        assert_eq!(read.newest().unwrap().signing().public(), second.signing().public());
        assert_ne!(first.signing().public(), second.signing().public());
        assert_ne!(first.net().public(), second.net().public());
        assert_eq!(read.number_of(&second.signing().public()), Some(1));
        let ring = read.ring(first).unwrap();
        assert_eq!(ring.current().public(), first.rsa().unwrap().public());
        ring.find(&second.rsa().unwrap().public().thumbprint()).unwrap();
        assert!(!path.with_extension("next").exists());
    }

    #[test]
    fn the_format_of_one_set_is_still_read() {
        let made = Secrets::generate("lakeside".parse().unwrap(), &mut OsRandom).unwrap();
        let set = &made.sets[0];
        let mut bytes = vec![FORMAT_ONE_SET, 8];
        bytes.extend_from_slice(b"lakeside");
        for seed in [&set.signing_seed, &set.net_seed, &made.cell_key, &made.hospital_key] {
            bytes.extend_from_slice(seed.expose());
        }
        bytes.extend_from_slice(&set.rsa_pkcs8);
        assert_eq!(Secrets::from_bytes(&bytes).unwrap().to_bytes(), made.to_bytes());
        assert!(matches!(
            Secrets::from_bytes(&[3, 0]),
            Err(SealError::KeyFile | SealError::KeyFileParameters)
        ));
        let cut = made.to_bytes();
        for end in 0..cut.len() {
            assert!(Secrets::from_bytes(&cut[..end]).is_err(), "{end} bytes are read");
        }
    }
}
