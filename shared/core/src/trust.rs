//! From the pinned root to everybody's keys: a directory that verified, part by part, and what it says at a time.
//!
//! A [`Federation`] is made only by verifying a directory: its [`Head`] first, which says by hash which pieces belong to
//! it, then the pieces, of which those that a verified directory has already are taken over ([`Gathering`] says which are
//! to be asked for). Whoever holds one can look up members without checking again. It knows nothing of how the directory
//! arrived.

mod federation;
mod gathering;
mod head;
mod piece;

use crate::artefact::federation::{
    Authority, AuthorityCertificate, EndpointCertificate, HospitalCertificate, HospitalProfile, Order,
    StatusOrder,
};
use crate::artefact::patient::CLOCK_SKEW_MS;
use crate::artefact::{ArtefactError, Countersigned, SignatureVerifier, Signed, Verified};
use crate::codec::{self, Bytes, MAX_MESSAGE_BYTES};
use crate::id::{Digest, Party, SigningPublic};
use crate::{Code, Timestamp, cbor_map};

pub use federation::Federation;
pub use gathering::Gathering;
pub use head::Head;

/// Why something does not lead up to the root.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TrustError {
    /// A part is no artefact of the needed kind, or its signature fails.
    #[error(transparent)]
    Artefact(#[from] ArtefactError),
    /// A certificate is not valid at this time.
    #[error("a certificate is not valid at this time")]
    Expired,
    /// A certificate or the directory begins later than now: one of two clocks is wrong, and nothing else may be.
    #[error("a part is from the future: a clock is wrong")]
    NotYet,
    /// A part speaks of another hospital or key than the one beside it, or two operators are one.
    #[error("the parts do not belong together: {0}")]
    Mismatch(&'static str),
    /// Signed by a key that the chain does not know.
    #[error("signed by a key that no certificate covers")]
    UnknownSigner,
    /// A directory's version is above the time at which it was issued.
    #[error("the directory's version is ahead of the time at which it was issued")]
    Ahead,
    /// A directory claims to hold for longer than every directory does, or for less.
    #[error("the directory claims to hold for longer or shorter than one does")]
    Life,
    /// A piece that the directory names is not there.
    #[error("a piece of the directory is missing")]
    Incomplete,
    /// Head and pieces are more than a directory may have.
    #[error("the directory is larger than one may be")]
    TooLarge,
}

impl TrustError {
    /// The stable code for it.
    #[must_use]
    pub const fn code(&self) -> Code {
        match self {
            Self::Artefact(fault) => fault.code(),
            Self::Expired => Code::CertificateExpired,
            Self::NotYet => Code::ClockOff,
            Self::Mismatch(_) | Self::UnknownSigner => Code::WrongSigner,
            Self::Ahead => Code::DirectoryAhead,
            Self::Life => Code::DirectoryLife,
            Self::Incomplete => Code::DirectoryIncomplete,
            Self::TooLarge => Code::TooLarge,
        }
    }
}

/// A hospital as the directory has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its certificate.
    pub certificate: HospitalCertificate,
    /// The newest status order.
    pub order: StatusOrder,
    /// Its profile.
    pub profile: HospitalProfile,
    /// Keys that spoke for it before, the oldest first: what they signed stays evidence.
    pub former: Vec<SigningPublic>,
}

impl Member {
    /// Every key that speaks or spoke for it; the one of now first.
    pub fn keys(&self) -> impl Iterator<Item = &SigningPublic> {
        std::iter::once(&self.certificate.key).chain(&self.former)
    }

    /// Whether the key with this thumbprint speaks or spoke for it.
    #[must_use]
    pub fn has(&self, kid: &Digest) -> bool {
        self.keys().any(|key| key.thumbprint() == *kid)
    }

    /// The key with this thumbprint; the one of now if it has none such.
    #[must_use]
    pub fn key(&self, kid: &Digest) -> SigningPublic {
        *self.keys().find(|key| key.thumbprint() == *kid).unwrap_or(&self.certificate.key)
    }
}

/// Verifies an index or operator certificate under the root, valid at `now`.
///
/// # Errors
/// [`TrustError`].
pub fn authority(
    envelope: &[u8],
    wanted: Authority,
    root: &SigningPublic,
    now: Timestamp,
    verifier: &dyn SignatureVerifier,
) -> Result<AuthorityCertificate, TrustError> {
    let certificate = certified(envelope, wanted, root, verifier)?;
    in_time(certificate.not_before, certificate.not_after, now)?;
    Ok(certificate)
}

/// [`authority`] whatever the time: an operator's orders outlive their term.
fn certified(
    envelope: &[u8],
    wanted: Authority,
    root: &SigningPublic,
    verifier: &dyn SignatureVerifier,
) -> Result<AuthorityCertificate, TrustError> {
    let certificate = Signed::<AuthorityCertificate>::read(envelope)?.verify(root, verifier)?;
    if certificate.authority != wanted {
        return Err(TrustError::Mismatch("the certificate is for another office"));
    }
    Ok((*certificate).clone())
}

/// Verifies an order that two different operators signed, both in office when it was issued.
///
/// # Errors
/// [`TrustError`].
pub fn two_operators<T: Order>(
    envelope: &[u8],
    operators: &[AuthorityCertificate],
    verifier: &dyn SignatureVerifier,
) -> Result<Verified<T>, TrustError> {
    let order = Countersigned::<T>::read(envelope)?;
    let issued = order.claim().issued();
    let key = |kid: &Digest| {
        let mut terms = operators.iter().filter(|operator| operator.key.thumbprint() == *kid).peekable();
        terms.peek().ok_or(TrustError::UnknownSigner)?;
        // A renewed certificate stands beside the one before it: any term that the order falls into will do.
        let operator = terms
            .find(|operator| in_time(operator.not_before, operator.not_after, issued).is_ok())
            .ok_or(TrustError::Expired)?;
        Ok::<_, TrustError>(operator.key)
    };
    let (first, second) = order.kids();
    let (first, second) = (key(first)?, key(second)?);
    if first == second {
        return Err(TrustError::Mismatch("both signatures are one operator's"));
    }
    Ok(order.verify(&first, &second, verifier)?)
}

fn in_time(not_before: Timestamp, not_after: Timestamp, now: Timestamp) -> Result<(), TrustError> {
    if now.plus_ms(CLOCK_SKEW_MS) < not_before {
        return Err(TrustError::NotYet);
    }
    if now < not_after { Ok(()) } else { Err(TrustError::Expired) }
}

cbor_map! {
    /// What a process presents on a new connection.
    pub struct Hello {
        /// Its `EndpointCertificate`.
        1 => endpoint: Bytes,
        /// For an index: the `AuthorityCertificate` of the key that signed the endpoint certificate, so that a node
        /// without a directory can admit it.
        2 => authority: Option<Bytes>,
    }
}

/// Who speaks on a connection: the party of the endpoint certificate, if it is for this peer key and the party
/// takes part. An index proves itself under the root; a hospital needs a directory that has it.
///
/// # Errors
/// [`Code::NotAdmitted`] or the hospital's status.
pub fn admit(
    hello: &[u8],
    peer: &SigningPublic,
    root: &SigningPublic,
    federation: Option<&Federation>,
    now: Timestamp,
    verifier: &dyn SignatureVerifier,
) -> Result<Party, Code> {
    let hello: Hello = codec::decode(hello, MAX_MESSAGE_BYTES).map_err(|_| Code::NotAdmitted)?;
    let claimed =
        Signed::<EndpointCertificate>::read(hello.endpoint.as_ref()).map_err(|_| Code::NotAdmitted)?;
    let key = match &claimed.claim().party {
        Party::Index => {
            let certificate = hello.authority.as_ref().ok_or(Code::NotAdmitted)?;
            authority(certificate.as_ref(), Authority::Index, root, now, verifier)
                .map_err(|fault| fault.code())?
                .key
        }
        Party::Hospital(hospital) => {
            federation.ok_or(Code::UnknownHospital)?.active(hospital, now)?.certificate.key
        }
    };
    let certificate = claimed.verify(&key, verifier).map_err(|_| Code::NotAdmitted)?;
    if certificate.key != *peer {
        return Err(Code::NotAdmitted);
    }
    in_time(certificate.not_before, certificate.not_after, now).map_err(|fault| fault.code())?;
    Ok(certificate.party.clone())
}
