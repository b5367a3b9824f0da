//! A transfer's file: its artefacts, and what they need of a directory to be verified offline.

use std::collections::BTreeSet;

use super::{VerifyError, fault};
use crate::artefact::break_glass::{BreakGlass, BreakGlassAnswer};
use crate::artefact::federation::{Directory, WholeDirectory};
use crate::artefact::transfer::TransferRequest;
use crate::artefact::{Countersigned, Payload as _, SignatureVerifier, Signed};
use crate::codec::{self, Bytes, Extensions};
use crate::id::{HospitalId, SigningPublic};
use crate::trust::{Federation, TrustError};
use crate::{Code, cbor_map};

/// The most bytes of a transfer's file.
pub const TRANSFER_FILE_MAX_BYTES: usize = 16 * 1024 * 1024;

cbor_map! {
    /// A transfer's file.
    pub struct TransferFile {
        /// The directory that everything verifies under, with the pieces of the hospitals that it is about.
        1 => directory: WholeDirectory,
        /// Its artefacts, whole, in any order.
        2 => artefacts: Vec<Bytes>,
    }
}

impl TransferFile {
    /// A file of these artefacts, with what they need of a directory.
    #[must_use]
    pub fn of(federation: &Federation, artefacts: Vec<Bytes>) -> Self {
        let directory = federation.part(&named(&artefacts));
        Self { directory, artefacts, extensions: Extensions::default() }
    }
}

/// Which hospitals artefacts are about, as these claim.
#[must_use]
pub fn named(artefacts: &[Bytes]) -> BTreeSet<HospitalId> {
    let mut hospitals = BTreeSet::new();
    for content in artefacts.iter().map(AsRef::as_ref) {
        if let Ok(request) = Signed::<TransferRequest>::read(content) {
            let claim = request.claim();
            hospitals.extend([claim.source.clone(), claim.destination.clone()]);
        } else if let Ok(asked) = Countersigned::<BreakGlass>::read(content) {
            let claim = asked.claim();
            hospitals.extend([Some(claim.requesting.clone()), claim.source.clone()].into_iter().flatten());
        } else if let Ok(answer) = Signed::<BreakGlassAnswer>::read(content) {
            hospitals.insert(answer.claim().source.clone());
        }
    }
    hospitals
}

/// Reads a file and verifies the directory in it.
pub(super) fn opened(
    file: &[u8],
    root: &SigningPublic,
    verifier: &dyn SignatureVerifier,
) -> Result<(TransferFile, Federation), VerifyError> {
    let file: TransferFile =
        codec::decode(file, TRANSFER_FILE_MAX_BYTES).map_err(|_| fault("file", Code::Malformed))?;
    let federation = federation(&file.directory, root, verifier)?;
    Ok((file, federation))
}

/// Verifies the directory of a file. Certificates are judged at its own time, so that a file goes on verifying after they
/// have run out.
pub(super) fn federation(
    directory: &WholeDirectory,
    root: &SigningPublic,
    verifier: &dyn SignatureVerifier,
) -> Result<Federation, VerifyError> {
    Signed::<Directory>::read(directory.head.as_ref())
        .map_err(TrustError::from)
        .and_then(|head| Federation::verify_part(directory, root, head.claim().issued, verifier))
        .map_err(|found| fault(Directory::TYPE, found.code()))
}
