//! A verified piece of a directory, shared by all directories that have it.

use super::{Member, TrustError, two_operators};
use crate::artefact::federation::{
    AuthorityCertificate, DirectoryEntry, DirectoryPiece, FORMER_KEYS_MAX, HospitalCertificate,
    HospitalProfile, StatusOrder, place_of,
};
use crate::artefact::{ArtefactError, SignatureVerifier, Signed};
use crate::id::{Digest, HospitalId, SigningPublic};

/// What the entries of a directory stand on.
#[derive(Clone, Debug)]
pub(super) struct Vouching {
    pub(super) root: SigningPublic,
    /// With every term.
    pub(super) operators: Vec<AuthorityCertificate>,
}

impl Vouching {
    /// Whether what stands on this stands on `other` just as well: an order needs its operators' terms, and another
    /// operator takes nothing from it.
    pub(super) fn is_within(&self, other: &Self) -> bool {
        self.root == other.root && self.operators.iter().all(|term| other.operators.contains(term))
    }
}

/// A verified piece.
#[derive(Debug)]
pub(super) struct Piece {
    digest: Digest,
    bytes: Vec<u8>,
    /// Ascending by identifier.
    members: Vec<Member>,
    /// Thumbprints of replaced keys, and whose they were.
    former: Vec<(Digest, HospitalId)>,
}

impl Piece {
    /// Verifies a piece with every entry, at its place among so many.
    ///
    /// # Errors
    /// [`TrustError`]; one false entry refuses the whole.
    pub(super) fn verify(
        bytes: &[u8],
        (place, count): (usize, usize),
        vouching: &Vouching,
        verifier: &dyn SignatureVerifier,
    ) -> Result<Self, TrustError> {
        let read = DirectoryPiece::read(bytes).map_err(ArtefactError::from)?;
        let mut members: Vec<Member> = Vec::with_capacity(read.hospitals.len());
        for entry in &read.hospitals {
            let member = member(entry, vouching, verifier)?;
            let hospital = &member.certificate.hospital;
            if members.last().is_some_and(|before| before.certificate.hospital >= *hospital) {
                return Err(TrustError::Mismatch(
                    "a hospital stands twice in the directory, or out of order",
                ));
            }
            if place_of(hospital, count) != place {
                return Err(TrustError::Mismatch(
                    "a hospital stands in another piece of the directory than its own",
                ));
            }
            members.push(member);
        }
        let whose = |member: &Member| {
            let hospital = member.certificate.hospital.clone();
            let thumbprints: Vec<Digest> = member.former.iter().map(SigningPublic::thumbprint).collect();
            thumbprints.into_iter().map(move |thumbprint| (thumbprint, hospital.clone()))
        };
        let former = members.iter().flat_map(whose).collect();
        Ok(Self { digest: Digest::sha256(&[bytes]), bytes: bytes.to_vec(), members, former })
    }

    pub(super) const fn digest(&self) -> &Digest {
        &self.digest
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(super) fn members(&self) -> &[Member] {
        &self.members
    }

    pub(super) fn member(&self, hospital: &HospitalId) -> Option<&Member> {
        let at = self.members.binary_search_by(|member| member.certificate.hospital.cmp(hospital)).ok()?;
        self.members.get(at)
    }

    /// Whose replaced key has this thumbprint.
    pub(super) fn owners<'p>(&'p self, kid: &'p Digest) -> impl Iterator<Item = &'p HospitalId> {
        self.former.iter().filter(move |(former, _)| former == kid).map(|(_, owner)| owner)
    }
}

/// Verifies an entry: certificate, order and profile are of one hospital and key, and lead up to root and operators.
fn member(
    entry: &DirectoryEntry,
    vouching: &Vouching,
    verifier: &dyn SignatureVerifier,
) -> Result<Member, TrustError> {
    let root = &vouching.root;
    let certificate =
        Signed::<HospitalCertificate>::read(entry.certificate.as_ref())?.verify(root, verifier)?;
    let order = two_operators::<StatusOrder>(entry.status.as_ref(), &vouching.operators, verifier)?;
    let profile =
        Signed::<HospitalProfile>::read(entry.profile.as_ref())?.verify(&certificate.key, verifier)?;
    let former = former(entry, &certificate, root, verifier)?;
    if order.hospital != certificate.hospital
        || order.key != certificate.key.thumbprint()
        || profile.hospital != certificate.hospital
    {
        return Err(TrustError::Mismatch("certificate, order and profile name different hospitals"));
    }
    Ok(Member {
        certificate: (*certificate).clone(),
        order: (*order).clone(),
        profile: (*profile).clone(),
        former,
    })
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
