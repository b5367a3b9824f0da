//! Signed artefacts: a COSE_Sign1 (RFC 9052) around a deterministic CBOR map.
//!
//! The protected header holds the algorithm (EdDSA), the signer's key thumbprint (`kid`) and the artefact's type
//! (`typ`, RFC 9596) with its version; the unprotected header is empty. An envelope that does not encode to the
//! received bytes again is refused, so one artefact has one form and one hash.

pub mod books;
pub mod break_glass;
pub mod federation;
pub mod patient;
pub mod recall;
pub mod remote;
pub mod transfer;

use std::marker::PhantomData;

use coset::{CoseSign1, CoseSign1Builder, HeaderBuilder, TaggedCborSerializable as _, iana};

use crate::Edition;
use crate::codec::{self, CborMap, DecodeError, MAX_MESSAGE_BYTES};
use crate::id::{Digest, SigningPublic};

macro_rules! payload_types {
    ($($ty:ident = $label:literal),* $(,)?) => { $(
        impl $crate::artefact::Payload for $ty { const TYPE: &'static str = $label; }
    )* };
}
use payload_types;

/// A payload with its type label.
pub trait Payload: CborMap {
    /// Its label in the first edition, for example `handover/consent/1`: its kind is known by that in every one.
    const TYPE: &'static str;
}

/// Makes Ed25519 signatures.
pub trait Signer {
    /// The public half.
    fn public(&self) -> SigningPublic;
    /// In which edition it signs.
    fn edition(&self) -> Edition {
        Edition::FIRST
    }
    /// Signs a message (RFC 8032, pure Ed25519).
    fn sign(&self, message: &[u8]) -> [u8; 64];
}

/// Checks Ed25519 signatures strictly: weak keys and non-canonical encodings are refused.
pub trait SignatureVerifier {
    /// Whether `signature` is `key`'s over `message`.
    fn is_valid(&self, key: &SigningPublic, message: &[u8], signature: &[u8; 64]) -> bool;
}

/// Why an envelope is not accepted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ArtefactError {
    /// Not a COSE_Sign1 in the one accepted form.
    #[error("not a signed artefact in the accepted form")]
    Envelope,
    /// Of a later edition than this program reads.
    #[error("in edition {0} of the formats, and this program reads {last}", last = Edition::last())]
    NewerEdition(Edition),
    /// Another kind than wanted.
    #[error("a {found}, where a {wanted} is needed")]
    WrongType {
        /// The label found.
        found: String,
        /// The label wanted.
        wanted: &'static str,
    },
    /// The payload cannot be read.
    #[error(transparent)]
    Payload(#[from] DecodeError),
    /// Signed with another key than the one that may sign this.
    #[error("signed with another key")]
    WrongKey,
    /// The signature does not match.
    #[error("the signature does not match")]
    BadSignature,
}

impl ArtefactError {
    /// The stable code for it.
    #[must_use]
    pub const fn code(&self) -> crate::Code {
        match self {
            Self::Payload(DecodeError::TooLarge { .. }) => crate::Code::TooLarge,
            Self::NewerEdition(_) => crate::Code::NewerEdition,
            Self::Envelope | Self::WrongType { .. } | Self::Payload(_) => crate::Code::Malformed,
            Self::WrongKey => crate::Code::WrongSigner,
            Self::BadSignature => crate::Code::BadSignature,
        }
    }
}

/// An artefact as claimed: readable, but not yet verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signed<T> {
    envelope: Vec<u8>,
    signed_bytes: Vec<u8>,
    signature: [u8; 64],
    kid: Digest,
    payload: T,
}

/// An artefact whose signature was checked against a key that the verifier's caller stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified<T> {
    signed: Signed<T>,
    signer: SigningPublic,
}

/// The COSE header parameter `typ` (RFC 9596).
const TYP_LABEL: i64 = 16;

struct Envelope {
    /// The label that its kind has in the first edition.
    typ: String,
    edition: Edition,
    kid: Digest,
    payload: Vec<u8>,
    signature: [u8; 64],
    signed_bytes: Vec<u8>,
}

fn protected_header(typ: &str, kid: &Digest) -> coset::Header {
    HeaderBuilder::new()
        .algorithm(iana::Algorithm::EdDSA)
        .key_id(kid.as_bytes().to_vec())
        .value(TYP_LABEL, coset::cbor::Value::Text(typ.to_owned()))
        .build()
}

fn seal_envelope(typ: &str, payload: Vec<u8>, signer: &dyn Signer) -> Vec<u8> {
    let header = protected_header(typ, &signer.public().thumbprint());
    let envelope = CoseSign1Builder::new()
        .protected(header)
        .payload(payload)
        .create_signature(b"", |message| signer.sign(message).to_vec())
        .build();
    #[expect(clippy::expect_used, reason = "header and payload are made of texts and bytes only")]
    envelope.to_tagged_vec().expect("a COSE_Sign1 of texts and bytes always encodes")
}

fn open_envelope(bytes: &[u8]) -> Result<Envelope, ArtefactError> {
    if bytes.len() > MAX_MESSAGE_BYTES {
        return Err(DecodeError::TooLarge { bytes: bytes.len(), max: MAX_MESSAGE_BYTES }.into());
    }
    open_any_size(bytes)
}

fn open_any_size(bytes: &[u8]) -> Result<Envelope, ArtefactError> {
    let cose = CoseSign1::from_tagged_slice(bytes).map_err(|_| ArtefactError::Envelope)?;
    let header = &cose.protected.header;
    let kid = Digest::try_from(header.key_id.as_slice()).map_err(|_| ArtefactError::Envelope)?;
    let typ = header
        .rest
        .iter()
        .find_map(|(label, value)| match (label, value) {
            (coset::Label::Int(TYP_LABEL), coset::cbor::Value::Text(text)) => Some(text.clone()),
            _ => None,
        })
        .ok_or(ArtefactError::Envelope)?;
    let signature = <[u8; 64]>::try_from(cose.signature.as_slice()).map_err(|_| ArtefactError::Envelope)?;
    let payload = cose.payload.clone().ok_or(ArtefactError::Envelope)?;
    // The one accepted form: exactly these headers, encoded as we encode them.
    let canonical = CoseSign1 {
        protected: coset::ProtectedHeader { original_data: None, header: protected_header(&typ, &kid) },
        unprotected: coset::Header::default(),
        payload: Some(payload.clone()),
        signature: signature.to_vec(),
    };
    let signed_bytes = canonical.tbs_data(b"");
    if canonical.to_tagged_vec().map_err(|_| ArtefactError::Envelope)? != bytes {
        return Err(ArtefactError::Envelope);
    }
    let (typ, edition) = Edition::of_label(&typ);
    if edition > Edition::last() {
        return Err(ArtefactError::NewerEdition(edition));
    }
    Ok(Envelope { typ, edition, kid, payload, signature, signed_bytes })
}

/// The label that an envelope's kind has in the first edition, read without believing anything else in it.
///
/// # Errors
/// [`ArtefactError::Envelope`] if it is none, [`ArtefactError::NewerEdition`].
pub fn peek_type(bytes: &[u8]) -> Result<String, ArtefactError> {
    open_envelope(bytes).map(|envelope| envelope.typ)
}

/// In which edition an envelope says to be; of two, one in the other, the later.
///
/// # Errors
/// As [`peek_type`].
pub fn peek_edition(bytes: &[u8]) -> Result<Edition, ArtefactError> {
    let outer = open_envelope(bytes)?;
    let inner = open_envelope(&outer.payload).map(|inner| inner.edition);
    match inner {
        Err(newer @ ArtefactError::NewerEdition(_)) => Err(newer),
        inner => Ok(inner.map_or(outer.edition, |inner| inner.max(outer.edition))),
    }
}

/// As [`peek_type`], and which of `keys` signed it.
///
/// # Errors
/// As [`peek_type`]; [`ArtefactError::WrongKey`] if none of them did;
/// [`ArtefactError::BadSignature`].
pub fn signed_by<'a>(
    bytes: &[u8],
    keys: impl IntoIterator<Item = &'a SigningPublic>,
    verifier: &dyn SignatureVerifier,
) -> Result<(String, SigningPublic), ArtefactError> {
    let opened = open_envelope(bytes)?;
    let key = keys.into_iter().find(|key| key.thumbprint() == opened.kid).ok_or(ArtefactError::WrongKey)?;
    check(&opened.kid, key, &opened.signed_bytes, &opened.signature, verifier)?;
    Ok((opened.typ, *key))
}

/// Thumbprint of the key that an envelope says to be signed with; of the second one, if two signed it.
///
/// # Errors
/// [`ArtefactError`] if it is no envelope.
pub fn peek_kid(bytes: &[u8]) -> Result<Digest, ArtefactError> {
    Ok(open_envelope(bytes)?.kid)
}

impl<T: Payload> Signed<T> {
    /// Reads an envelope; the claim is not verified yet.
    ///
    /// # Errors
    /// [`ArtefactError`].
    pub fn read(bytes: &[u8]) -> Result<Self, ArtefactError> {
        let opened = open_envelope(bytes)?;
        if opened.typ != T::TYPE {
            return Err(ArtefactError::WrongType { found: opened.typ, wanted: T::TYPE });
        }
        let payload = codec::decode(&opened.payload, MAX_MESSAGE_BYTES)?;
        Ok(Self {
            envelope: bytes.to_vec(),
            signed_bytes: opened.signed_bytes,
            signature: opened.signature,
            kid: opened.kid,
            payload,
        })
    }

    /// Checks that `key` made the signature.
    ///
    /// # Errors
    /// [`ArtefactError::WrongKey`], [`ArtefactError::BadSignature`].
    pub fn verify(
        self,
        key: &SigningPublic,
        verifier: &dyn SignatureVerifier,
    ) -> Result<Verified<T>, ArtefactError> {
        check(&self.kid, key, &self.signed_bytes, &self.signature, verifier)?;
        Ok(Verified { signed: self, signer: *key })
    }

    /// What it claims. Only to find the key that it must verify under.
    #[must_use]
    pub const fn claim(&self) -> &T {
        &self.payload
    }

    /// Thumbprint of the key that it says to be signed with.
    #[must_use]
    pub const fn kid(&self) -> &Digest {
        &self.kid
    }

    /// The whole envelope as received.
    #[must_use]
    pub fn envelope(&self) -> &[u8] {
        &self.envelope
    }
}

fn check(
    kid: &Digest,
    key: &SigningPublic,
    message: &[u8],
    signature: &[u8; 64],
    verifier: &dyn SignatureVerifier,
) -> Result<(), ArtefactError> {
    if *kid != key.thumbprint() {
        return Err(ArtefactError::WrongKey);
    }
    if !verifier.is_valid(key, message, signature) {
        return Err(ArtefactError::BadSignature);
    }
    Ok(())
}

impl<T: Payload> Verified<T> {
    /// Signs a payload. Whether the envelope is small enough to travel, its maker checks.
    #[must_use]
    pub fn sign(payload: T, signer: &dyn Signer) -> Self {
        let envelope = seal_envelope(&signer.edition().label(T::TYPE), codec::encode(&payload), signer);
        #[expect(clippy::expect_used, reason = "what was just sealed is in the accepted form")]
        let opened = open_any_size(&envelope).expect("an own envelope opens");
        let signed = Signed {
            envelope,
            signed_bytes: opened.signed_bytes,
            signature: opened.signature,
            kid: opened.kid,
            payload,
        };
        Self { signed, signer: signer.public() }
    }

    /// SHA-256 of the `Sig_structure`: the artefact's hash, by which others name it.
    #[must_use]
    pub fn hash(&self) -> Digest {
        Digest::sha256(&[&self.signed.signed_bytes])
    }

    /// The key that signed.
    #[must_use]
    pub const fn signer(&self) -> &SigningPublic {
        &self.signer
    }

    /// The whole envelope.
    #[must_use]
    pub fn envelope(&self) -> &[u8] {
        &self.signed.envelope
    }
}

impl<T> std::ops::Deref for Verified<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.signed.payload
    }
}

/// An artefact that two sign: the second signs an envelope whose payload is the first's whole envelope.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Countersigned<T> {
    envelope: Vec<u8>,
    signed_bytes: Vec<u8>,
    signature: [u8; 64],
    kid: Digest,
    inner: Signed<T>,
    outer: PhantomData<T>,
}

fn countersigned_type(typ: &str) -> String {
    format!("{typ}+countersigned")
}

impl<T: Payload> Countersigned<T> {
    /// Signs a verified artefact as the second.
    #[must_use]
    pub fn sign(first: &Verified<T>, second: &dyn Signer) -> Vec<u8> {
        let label = countersigned_type(&second.edition().label(T::TYPE));
        seal_envelope(&label, first.envelope().to_vec(), second)
    }

    /// Reads an envelope that holds an envelope; neither is verified yet.
    ///
    /// # Errors
    /// [`ArtefactError`].
    pub fn read(bytes: &[u8]) -> Result<Self, ArtefactError> {
        let opened = open_envelope(bytes)?;
        if opened.typ != countersigned_type(T::TYPE) {
            return Err(ArtefactError::WrongType { found: opened.typ, wanted: T::TYPE });
        }
        Ok(Self {
            inner: Signed::read(&opened.payload)?,
            envelope: bytes.to_vec(),
            signed_bytes: opened.signed_bytes,
            signature: opened.signature,
            kid: opened.kid,
            outer: PhantomData,
        })
    }

    /// What it claims. Only to find the keys that it must verify under.
    #[must_use]
    pub const fn claim(&self) -> &T {
        self.inner.claim()
    }

    /// The first's whole envelope.
    #[must_use]
    pub fn first(&self) -> &[u8] {
        self.inner.envelope()
    }

    /// Thumbprints of the first and the second key.
    #[must_use]
    pub const fn kids(&self) -> (&Digest, &Digest) {
        (&self.inner.kid, &self.kid)
    }

    /// The whole outer envelope.
    #[must_use]
    pub fn envelope(&self) -> &[u8] {
        &self.envelope
    }

    /// Checks both signatures; gives the inner artefact, verified.
    ///
    /// # Errors
    /// [`ArtefactError::WrongKey`], [`ArtefactError::BadSignature`].
    pub fn verify(
        self,
        first: &SigningPublic,
        second: &SigningPublic,
        verifier: &dyn SignatureVerifier,
    ) -> Result<Verified<T>, ArtefactError> {
        check(&self.kid, second, &self.signed_bytes, &self.signature, verifier)?;
        self.inner.verify(first, verifier)
    }
}
