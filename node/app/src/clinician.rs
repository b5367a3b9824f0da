//! The clinician's side: a key file under a passphrase of their own, and what is signed with it. Runs in the command's
//! own process: the key never goes to the node, only what it signed does.

use std::path::Path;

use handover_cli::CliError;
use handover_core::artefact::Verified;
use handover_core::artefact::break_glass::{
    BreakGlass, BreakGlassDetails, BreakGlassMore, BreakGlassReading,
};
use handover_core::codec::{self, Extensions};
use handover_core::message::break_glass_binding;
use handover_core::{BreakGlassId, Code, Digest, HospitalId, PatientRef, Random, Timestamp};
use handover_seal::keyfile::{KdfParams, Unlock, open_keyfile, read_private, seal_keyfile, write_private};
use handover_seal::part::seal_part;
use handover_seal::{OsRandom, RsaPublicKey, SealError, Secret32, SigningKey};

/// Before the seed: what the file is.
const FORMAT: &[u8] = b"handover/clinician-key/1";

/// Makes a key file; never over another.
///
/// # Errors
/// [`Code::Conflict`] if there is one already; what could not be written.
pub(crate) fn new_key(path: &Path, passphrase: &str) -> Result<SigningKey, CliError> {
    let key = SigningKey::generate(&mut OsRandom);
    let mut plain = handover_seal::Zeroizing::new(Vec::with_capacity(FORMAT.len() + 32));
    plain.extend_from_slice(FORMAT);
    plain.extend_from_slice(key.seed().expose());
    let unlock = Unlock::Passphrase(passphrase);
    let sealed = seal_keyfile(&unlock, &plain, KdfParams::default(), &mut OsRandom);
    let sealed = sealed.map_err(|fault| fault_of(path, &fault))?;
    write_private(path, &sealed).map_err(|fault| match &fault {
        SealError::Io(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
            CliError::new(Code::Conflict, format!("{} exists: nothing was changed", path.display()))
        }
        _ => fault_of(path, &fault),
    })?;
    Ok(key)
}

/// Opens a key file.
///
/// # Errors
/// [`Code::KeyUnavailable`].
pub(crate) fn open_key(path: &Path, passphrase: &str) -> Result<SigningKey, CliError> {
    let opened = read_private(path)
        .and_then(|sealed| open_keyfile(&Unlock::Passphrase(passphrase), &sealed))
        .and_then(|plain| {
            let seed = plain.strip_prefix(FORMAT).ok_or(SealError::KeyFile)?;
            Ok(SigningKey::from_seed(&Secret32::from_slice(seed).map_err(|_| SealError::KeyFile)?))
        });
    opened.map_err(|fault| fault_of(path, &fault))
}

fn fault_of(path: &Path, fault: &SealError) -> CliError {
    let error = CliError::new(Code::KeyUnavailable, format!("{}: {fault}", path.display()));
    match fault {
        SealError::Io(error_of) if error_of.kind() == std::io::ErrorKind::NotFound => {
            error.with_next("Give clinician new first, and have the key certified.")
        }
        _ => error,
    }
}

/// What a clinician knows before they sign.
pub(crate) struct Signing<'a> {
    /// Their key.
    pub(crate) key: &'a SigningKey,
    /// Their certificate's envelope.
    pub(crate) certificate: &'a [u8],
    /// Their hospital.
    pub(crate) hospital: &'a HospitalId,
    /// Their hospital's RSA key.
    pub(crate) own_rsa: &'a RsaPublicKey,
}

/// Whom to ask, and with which key it is sealed to them; none: the index.
pub(crate) type Source<'a> = Option<(&'a HospitalId, &'a RsaPublicKey)>;

impl Signing<'_> {
    /// A fresh break-glass for one source.
    pub(crate) fn break_glass(
        &self,
        source: Source<'_>,
        patient: Option<PatientRef>,
        details: &BreakGlassDetails,
        (issued, until): (Timestamp, Timestamp),
    ) -> Result<(BreakGlassId, Vec<u8>), SealError> {
        let mut random = [0; 10];
        OsRandom.fill(&mut random);
        let id = BreakGlassId::new(issued, random);
        let mut details = details.clone();
        OsRandom.fill(&mut details.salt);
        let (plain, aad) = (codec::encode(&details), break_glass_binding(&id));
        let seal = |to: &RsaPublicKey| seal_part(to, &aad, &plain, &mut OsRandom);
        let request = BreakGlass {
            id,
            requesting: self.hospital.clone(),
            source: source.map(|(source, _)| source.clone()),
            patient,
            certificate: self.certificate.to_vec().into(),
            issued,
            until,
            details: Digest::sha256(&[&plain]),
            sealed_to_source: source.map(|(_, rsa)| seal(rsa)).transpose()?.map(Into::into),
            sealed_to_requesting: seal(self.own_rsa)?.into(),
            extensions: Extensions::default(),
        };
        Ok((id, Verified::sign(request, self.key).envelope().to_vec()))
    }

    /// The second person's signature for everything.
    pub(crate) fn more(&self, id: BreakGlassId, break_glass: Digest, issued: Timestamp) -> Vec<u8> {
        let certificate = self.certificate.to_vec().into();
        let more = BreakGlassMore { id, break_glass, certificate, issued, extensions: Extensions::default() };
        Verified::sign(more, self.key).envelope().to_vec()
    }

    /// That they read now.
    pub(crate) fn reading(&self, id: BreakGlassId, issued: Timestamp) -> Vec<u8> {
        let certificate = self.certificate.to_vec().into();
        let reading = BreakGlassReading { id, certificate, issued, extensions: Extensions::default() };
        Verified::sign(reading, self.key).envelope().to_vec()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_opens_with_its_passphrase_only_and_is_never_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ada.key");
        let key = new_key(&path, "correct horse").unwrap();
        assert_eq!(open_key(&path, "correct horse").unwrap().public(), key.public());
        assert_eq!(new_key(&path, "other").unwrap_err().code, Code::Conflict);
        for (path, passphrase) in [(path.as_path(), "wrong"), (Path::new("/nonexistent"), "x")] {
            assert_eq!(open_key(path, passphrase).unwrap_err().code, Code::KeyUnavailable);
        }
    }
}
