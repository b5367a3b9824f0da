//! From the pinned root to everybody's keys: a directory that verified, part by part, and what it says at a time.
//!
//! A [`Federation`] is made only by verifying a directory; whoever holds one can look up members without checking
//! again. It knows nothing of how the directory arrived.

use std::collections::BTreeMap;

use crate::artefact::federation::{
    Authority, AuthorityCertificate, DIRECTORY_LIFE_MS, Directory, DirectoryEntry, EndpointCertificate,
    FORMER_KEYS_MAX, FeeSchedule, HospitalCertificate, HospitalProfile, Order, Status, StatusOrder,
};
use crate::artefact::patient::CLOCK_SKEW_MS;
use crate::artefact::{
    ArtefactError, Countersigned, Payload, SignatureVerifier, Signed, Verified, peek_edition, peek_kid,
};
use crate::codec::{self, Bytes, MAX_MESSAGE_BYTES};
use crate::id::{Digest, HospitalId, Party, SigningPublic};
use crate::{Code, Edition, Timestamp, cbor_map};

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
        }
    }
}

/// A hospital as the directory has it.
#[derive(Clone, Debug)]
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

/// A verified directory.
#[derive(Clone, Debug)]
pub struct Federation {
    directory: Verified<Directory>,
    members: BTreeMap<HospitalId, Member>,
    schedules: Vec<FeeSchedule>,
    operators: Vec<AuthorityCertificate>,
    indexes: Vec<AuthorityCertificate>,
    forked: bool,
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

/// The highest version that a directory of this time may have: its milliseconds. So a thief of the index's key gets
/// ahead of it by minutes, not for ever.
fn highest_version(issued: Timestamp) -> u64 {
    u64::try_from(issued.plus_ms(CLOCK_SKEW_MS).as_millis()).unwrap_or_default()
}

/// The keys that spoke for a hospital before, each certified by the root.
fn former(
    entry: &DirectoryEntry,
    of: &HospitalCertificate,
    root: &SigningPublic,
    verifier: &dyn SignatureVerifier,
) -> Result<Vec<SigningPublic>, TrustError> {
    let envelopes = entry.former.as_deref().unwrap_or_default();
    if envelopes.len() > FORMER_KEYS_MAX {
        return Err(TrustError::Mismatch("a hospital has replaced more keys than one may"));
    }
    let mut former = Vec::with_capacity(envelopes.len());
    for envelope in envelopes {
        let certificate = Signed::<HospitalCertificate>::read(envelope.as_ref())?.verify(root, verifier)?;
        if certificate.hospital != of.hospital
            || certificate.key == of.key
            || former.contains(&certificate.key)
        {
            return Err(TrustError::Mismatch("a replaced key is another hospital's, or stands twice"));
        }
        former.push(certificate.key);
    }
    Ok(former)
}

impl Federation {
    /// Verifies a directory and every part of it up to the root. Its own expiry is not checked here: an expired
    /// directory still tells who is who, it only allows nothing new (see [`Self::check_fresh`]).
    ///
    /// # Errors
    /// [`TrustError`]; one false part refuses the whole.
    pub fn verify(
        envelope: &[u8],
        root: &SigningPublic,
        now: Timestamp,
        verifier: &dyn SignatureVerifier,
    ) -> Result<Self, TrustError> {
        let claimed = Signed::<Directory>::read(envelope)?;
        let indexes = claimed
            .claim()
            .indexes
            .iter()
            .map(|part| authority(part.as_ref(), Authority::Index, root, now, verifier))
            .collect::<Result<Vec<_>, _>>()?;
        let index = indexes
            .iter()
            .find(|index| index.key.thumbprint() == *claimed.kid())
            .ok_or(TrustError::UnknownSigner)?;
        let directory = claimed.verify(&index.key, verifier)?;
        if directory.edition > Edition::last() {
            return Err(ArtefactError::NewerEdition(directory.edition).into());
        }
        // One that holds for less would stop everybody who takes it, until the index makes another.
        if directory.expires.since_ms(directory.issued) != DIRECTORY_LIFE_MS {
            return Err(TrustError::Life);
        }
        if directory.issued > now.plus_ms(CLOCK_SKEW_MS) {
            return Err(TrustError::NotYet);
        }
        if directory.version > highest_version(directory.issued) {
            return Err(TrustError::Ahead);
        }
        let operators = directory
            .operators
            .iter()
            .map(|part| certified(part.as_ref(), Authority::Operator, root, verifier))
            .collect::<Result<Vec<_>, _>>()?;
        let mut members = BTreeMap::new();
        for entry in &directory.hospitals {
            let certificate =
                Signed::<HospitalCertificate>::read(entry.certificate.as_ref())?.verify(root, verifier)?;
            let order = two_operators::<StatusOrder>(entry.status.as_ref(), &operators, verifier)?;
            let profile = Signed::<HospitalProfile>::read(entry.profile.as_ref())?
                .verify(&certificate.key, verifier)?;
            let hospital = certificate.hospital.clone();
            let former = former(entry, &certificate, root, verifier)?;
            if order.hospital != hospital
                || order.key != certificate.key.thumbprint()
                || profile.hospital != hospital
            {
                return Err(TrustError::Mismatch("certificate, order and profile name different hospitals"));
            }
            let member = Member {
                certificate: (*certificate).clone(),
                order: (*order).clone(),
                profile: (*profile).clone(),
                former,
            };
            if members.insert(hospital, member).is_some() {
                return Err(TrustError::Mismatch("a hospital stands twice in the directory"));
            }
        }
        let schedules = directory
            .schedules
            .iter()
            .map(|part| {
                two_operators::<FeeSchedule>(part.as_ref(), &operators, verifier).map(|it| (*it).clone())
            })
            .collect::<Result<Vec<_>, _>>()?;
        Ok(Self { directory, members, schedules, operators, indexes, forked: false })
    }

    /// The same directory, of which another with the same version is known: it still tells who is who.
    #[must_use]
    pub fn forked(&self) -> Self {
        Self { forked: true, ..self.clone() }
    }

    /// Whether this directory may take the place of `held`; not if it is the same.
    ///
    /// A directory is never older than the one held, never leaves a hospital out, never lowers the edition or the number of
    /// a status order, fee schedule or profile, nor forgets a key that spoke for a hospital: an index that was broken into
    /// cannot un-revoke by forgetting, bring back replaced keys, nor unsay what they signed. One that has expired takes the
    /// place of none that holds or held longer, however high its version: it could stop everybody, or end break-glass.
    ///
    /// # Errors
    /// [`Code::DirectoryRollback`], [`Code::DirectoryForked`], [`Code::DirectoryTakesBack`],
    /// [`Code::DirectoryExpired`].
    pub fn succeeds(&self, held: &Self, now: Timestamp) -> Result<bool, Code> {
        let (new, old) = (self.directory(), held.directory());
        if new.version < old.version {
            return Err(Code::DirectoryRollback);
        }
        if new.version == old.version {
            return if new.hash() == old.hash() { Ok(false) } else { Err(Code::DirectoryForked) };
        }
        let keeps_hospitals = held.members().all(|member| {
            self.member(&member.certificate.hospital).is_ok_and(|now| {
                // Profiles are numbered by each key for itself: a thief of one may have used up its numbers.
                let (order, known) = (now.order.number, member.order.number);
                let follows = match now.certificate.key == member.certificate.key {
                    true => order >= known && now.profile.number >= member.profile.number,
                    false => order > known,
                };
                follows && member.keys().all(|key| now.keys().any(|known| known == key))
            })
        });
        let keeps_schedules = held.schedules.iter().all(|schedule| {
            self.schedules
                .iter()
                .any(|now| now.jurisdiction == schedule.jurisdiction && now.number >= schedule.number)
        });
        if !keeps_hospitals || !keeps_schedules || new.edition < old.edition {
            return Err(Code::DirectoryTakesBack);
        }
        if new.expires <= now && new.expires < old.expires { Err(Code::DirectoryExpired) } else { Ok(true) }
    }

    /// The directory itself.
    #[must_use]
    pub const fn directory(&self) -> &Verified<Directory> {
        &self.directory
    }

    /// The operators.
    #[must_use]
    pub fn operators(&self) -> &[AuthorityCertificate] {
        &self.operators
    }

    /// Every hospital, whatever its status.
    pub fn members(&self) -> impl Iterator<Item = &Member> {
        self.members.values()
    }

    /// A hospital, whatever its status.
    ///
    /// # Errors
    /// [`Code::UnknownHospital`].
    pub fn member(&self, hospital: &HospitalId) -> Result<&Member, Code> {
        self.members.get(hospital).ok_or(Code::UnknownHospital)
    }

    /// A hospital that takes part now.
    ///
    /// # Errors
    /// [`Code::UnknownHospital`], [`Code::HospitalSuspended`], [`Code::HospitalRevoked`],
    /// [`Code::CertificateExpired`].
    pub fn active(&self, hospital: &HospitalId, now: Timestamp) -> Result<&Member, Code> {
        let member = self.member(hospital)?;
        match member.order.status {
            Status::Active => {}
            Status::Suspended => return Err(Code::HospitalSuspended),
            Status::Revoked => return Err(Code::HospitalRevoked),
        }
        let certificate = &member.certificate;
        in_time(certificate.not_before, certificate.not_after, now).map_err(|fault| fault.code())?;
        Ok(member)
    }

    /// Refuses new work on an expired directory, or on one of two.
    ///
    /// # Errors
    /// [`Code::DirectoryExpired`], [`Code::DirectoryForked`].
    pub fn check_fresh(&self, now: Timestamp) -> Result<(), Code> {
        if self.forked {
            return Err(Code::DirectoryForked);
        }
        if now < self.directory.expires { Ok(()) } else { Err(Code::DirectoryExpired) }
    }

    /// Verifies an artefact of a hospital, whatever its status now: evidence of the past stays evidence.
    ///
    /// # Errors
    /// [`Code`] naming the cause.
    pub fn verify_from<T: Payload>(
        &self,
        hospital: &HospitalId,
        signed: Signed<T>,
        verifier: &dyn SignatureVerifier,
    ) -> Result<Verified<T>, Code> {
        let key = self.member(hospital)?.key(signed.kid());
        signed.verify(&key, verifier).map_err(|fault| fault.code())
    }

    /// Whether a hospital has replaced the key with this thumbprint.
    #[must_use]
    pub fn is_former(&self, kid: &Digest) -> bool {
        self.members().any(|member| member.former.iter().any(|key| key.thumbprint() == *kid))
    }

    /// Refuses what is in a later edition than the one in force: not everybody reads it. What is no envelope is in none.
    ///
    /// # Errors
    /// [`Code::NewerEdition`].
    pub fn check_edition(&self, envelope: &[u8]) -> Result<(), Code> {
        match peek_edition(envelope) {
            Ok(it) | Err(ArtefactError::NewerEdition(it)) if it > self.directory.edition => {
                Err(Code::NewerEdition)
            }
            _ => Ok(()),
        }
    }

    /// Refuses what a key signed that its hospital has replaced since, unless that hospital itself brings it, which it
    /// proves on its connection with the key of now: whoever has the former key could sign anything, of any day. What is
    /// held already stays, whoever signed it.
    ///
    /// # Errors
    /// [`Code::KeyReplaced`].
    pub fn check_bringer(&self, envelope: &[u8], bringer: &Party) -> Result<(), Code> {
        // What is no envelope is for its own rule to refuse.
        let Ok(kid) = peek_kid(envelope) else { return Ok(()) };
        let owners = self.members().filter(|member| member.former.iter().any(|key| key.thumbprint() == kid));
        let mut owners = owners.map(|owner| Party::Hospital(owner.certificate.hospital.clone()));
        if owners.all(|owner| owner == *bringer) { Ok(()) } else { Err(Code::KeyReplaced) }
    }

    /// Verifies what one of the index's online keys signed.
    ///
    /// # Errors
    /// [`Code`] naming the cause.
    pub fn verify_from_index<T: Payload>(
        &self,
        signed: Signed<T>,
        verifier: &dyn SignatureVerifier,
    ) -> Result<Verified<T>, Code> {
        let by = self.indexes.iter().find(|index| index.key.thumbprint() == *signed.kid());
        let key = by.ok_or(Code::WrongSigner)?.key;
        signed.verify(&key, verifier).map_err(|fault| fault.code())
    }

    /// Every fee schedule.
    #[must_use]
    pub fn schedules(&self) -> &[FeeSchedule] {
        &self.schedules
    }

    /// The fee schedule of a jurisdiction at a time: its own newest, else the newest for all.
    #[must_use]
    pub fn schedule(&self, jurisdiction: &str, now: Timestamp) -> Option<&FeeSchedule> {
        let newest = |wanted: &str| {
            self.schedules
                .iter()
                .filter(|schedule| schedule.jurisdiction == wanted && schedule.valid_from <= now)
                .max_by_key(|schedule| schedule.number)
        };
        newest(jurisdiction).or_else(|| newest("*"))
    }
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
