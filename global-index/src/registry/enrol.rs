//! Enrolment: a request is answered with a secret wrapped to the RSA key that it names; who sends the secret's hash
//! back, signed, holds both keys.
//!
//! Challenges are kept by the request's hash, so that nobody can push another's enrolment aside by asking for the
//! same identifier.

use handover_core::artefact::federation::{
    CertificateRequest, EnrolmentProof, EnrolmentRequest, HospitalProfile,
};
use handover_core::artefact::patient::CLOCK_SKEW_MS;
use handover_core::artefact::{Signed, Verified};
use handover_core::codec::{Bytes, Extensions};
use handover_core::id::SigningPublic;
use handover_core::time::HOUR_MS;
use handover_core::{Code, Digest, Timestamp};
use handover_seal::{Ed25519, RsaPublicKey};
use handover_store::{KeyMaker, Txn};

use super::rows::{Challenge, Hospital};
use super::{
    RegistryError, certificate_request, ensure, hospital, hospitals, may_change, put_hospital, refuse,
};
use crate::desk::Changed;
use handover_store::rows as cells;

/// The most bytes of an enrolment request, with the profile in it.
const MAX_REQUEST_BYTES: usize = 32 * 1024;
/// The most challenges that wait, and the most hospitals that wait for a certificate.
const MAX_PENDING: usize = 1_000;
/// When room is needed, challenges older than this go, in milliseconds.
const CHALLENGE_LIFE_MS: i64 = HOUR_MS;
/// The most addresses of a profile.
const MAX_ADDRESSES: usize = 16;
/// The most bytes of a name, an address or a URL.
const MAX_TEXT_BYTES: usize = 256;

/// An enrolment request whose own signatures verified.
#[derive(Clone)]
pub(crate) struct Claim {
    request: Verified<EnrolmentRequest>,
    profile: Verified<HospitalProfile>,
    certificate_request: Verified<CertificateRequest>,
    rsa_key: RsaPublicKey,
}

impl Claim {
    /// Reads `[EnrolmentRequest, CertificateRequest]`.
    pub(crate) fn read(items: &[Bytes], now: Timestamp) -> Result<Self, RegistryError> {
        let [request, certificate] = items else {
            return refuse(Code::Malformed, "needs an enrolment request and a certificate request");
        };
        if request.0.len() > MAX_REQUEST_BYTES || certificate.0.len() > MAX_REQUEST_BYTES {
            return refuse(Code::TooLarge, "an enrolment request is larger than allowed");
        }
        let request = Signed::<EnrolmentRequest>::read(&request.0)?;
        let key = request.claim().key;
        let request = request.verify(&key, &Ed25519)?;
        let profile = Signed::<HospitalProfile>::read(request.profile.as_ref())?.verify(&key, &Ed25519)?;
        let certificate_request = certificate_request(&certificate.0)?;
        let same = profile.hospital == request.hospital
            && certificate_request.hospital.as_ref() == Some(&request.hospital)
            && certificate_request.key == key;
        ensure(same, Code::Malformed, "the parts of the enrolment name different hospitals or keys")?;
        ensure(request.hospital.as_str() != "index", Code::Conflict, "no hospital may be called 'index'")?;
        ensure(
            request.issued <= now.plus_ms(CLOCK_SKEW_MS),
            Code::ClockOff,
            "the request is from the future",
        )?;
        check_profile(&profile)?;
        ensure(short(&request.name), Code::Malformed, "the name is empty or too long")?;
        let rsa_key = RsaPublicKey::from_spki_der(profile.rsa_key.as_ref())?;
        Ok(Self { request, profile, certificate_request, rsa_key })
    }

    /// The RSA key that the challenge is wrapped to.
    pub(crate) const fn rsa_key(&self) -> &RsaPublicKey {
        &self.rsa_key
    }

    /// The enrolment request's hash.
    #[cfg(test)]
    pub(super) fn hash(&self) -> Digest {
        self.request.hash()
    }

    fn key(&self) -> &SigningPublic {
        &self.request.key
    }
}

fn short(text: &str) -> bool {
    (1..=MAX_TEXT_BYTES).contains(&text.len()) && !text.chars().any(char::is_control)
}

fn check_profile(profile: &HospitalProfile) -> Result<(), RegistryError> {
    let jurisdiction =
        profile.jurisdiction.len() == 2 && profile.jurisdiction.bytes().all(|byte| byte.is_ascii_uppercase());
    ensure(jurisdiction, Code::Malformed, "the jurisdiction is not two capital letters (ISO 3166-1)")?;
    let addresses = profile.addresses.len() <= MAX_ADDRESSES && profile.addresses.iter().all(|it| short(it));
    ensure(addresses, Code::Malformed, "the profile has too many or too long addresses")?;
    ensure(short(&profile.name), Code::Malformed, "the profile's name is empty or too long")?;
    let url = profile.patient_url.starts_with("https://") && short(&profile.patient_url);
    ensure(url, Code::Malformed, "the patients' address does not begin with https://")
}

fn challenge_key(keys: &KeyMaker, request: &Digest) -> Vec<u8> {
    keys.space("challenge").hashed(request.as_bytes()).build()
}

/// Answers an enrolment: the secret wrapped to the RSA key, the first one again for the same request. `secret` and
/// `wrapped` are used if this is the first time. A certified hospital's newer profile with the same RSA key counts at
/// once; with another RSA key, once that is proved.
pub(crate) fn enrol(
    txn: &mut dyn Txn,
    keys: &KeyMaker,
    claim: &Claim,
    secret: &[u8; 32],
    wrapped: &[u8],
    now: Timestamp,
) -> Result<(Vec<u8>, Changed), RegistryError> {
    let mut changed = Changed::Nothing;
    if let Some(row) = hospital(txn, keys, &claim.request.hospital)? {
        ensure(row.key == *claim.key(), Code::Conflict, "another key has enrolled this identifier")?;
        may_change(&row)?;
        if row.certificate.is_some() && row.rsa_key == claim.rsa_key.thumbprint() {
            changed = renew(txn, keys, row, claim)?;
        }
    }
    let key = challenge_key(keys, &claim.request.hash());
    if let Some(challenge) = cells::get::<Challenge>(txn, &key)? {
        return Ok((challenge.wrapped.0, changed));
    }
    make_room(txn, keys, now)?;
    let challenge = Challenge {
        request: Bytes(claim.request.envelope().to_vec()),
        certificate_request: Bytes(claim.certificate_request.envelope().to_vec()),
        answer: Digest::sha256(&[secret]),
        wrapped: Bytes(wrapped.to_vec()),
        at: now,
        extensions: Extensions::default(),
    };
    cells::put(txn, &key, &challenge)?;
    Ok((wrapped.to_vec(), changed))
}

/// Takes a newer profile; an older one changes nothing.
fn renew(
    txn: &mut dyn Txn,
    keys: &KeyMaker,
    mut row: Hospital,
    claim: &Claim,
) -> Result<Changed, RegistryError> {
    if claim.profile.number <= row.profile_number {
        return Ok(Changed::Nothing);
    }
    row.profile = Bytes(claim.profile.envelope().to_vec());
    row.profile_number = claim.profile.number;
    row.rsa_key = claim.rsa_key.thumbprint();
    row.request = claim.request.hash();
    put_hospital(txn, keys, &row)?;
    Ok(if row.order.is_some() { Changed::Directory } else { Changed::Nothing })
}

fn make_room(txn: &mut dyn Txn, keys: &KeyMaker, now: Timestamp) -> Result<(), RegistryError> {
    let waiting = txn.scan(&keys.space("challenge").build(), None, MAX_PENDING)?;
    if waiting.len() < MAX_PENDING {
        return Ok(());
    }
    let mut has_room = false;
    for (key, bytes) in waiting {
        if now.since_ms(cells::read::<Challenge>(&bytes)?.at) > CHALLENGE_LIFE_MS {
            txn.remove(&key)?;
            has_room = true;
        }
    }
    ensure(has_room, Code::Busy, "too many enrolments are under way")
}

/// Takes the proof: from now on the identifier is this key's.
pub(crate) fn prove(
    txn: &mut dyn Txn,
    keys: &KeyMaker,
    envelope: &[u8],
    now: Timestamp,
) -> Result<Changed, RegistryError> {
    let proof = Signed::<EnrolmentProof>::read(envelope)?;
    let key = challenge_key(keys, &proof.claim().request);
    let Some(challenge) = cells::get::<Challenge>(txn, &key)? else {
        // Proved before: the same answer again.
        let known = hospital(txn, keys, &proof.claim().hospital)?;
        return match known {
            Some(row) if row.request == proof.claim().request => {
                proof.verify(&row.key, &Ed25519)?;
                Ok(Changed::Nothing)
            }
            _ => refuse(Code::UnknownHospital, "no enrolment waits for this proof; enrol first"),
        };
    };
    let items = [challenge.request, challenge.certificate_request];
    let claim = Claim::read(&items, now)?;
    let proof = proof.verify(claim.key(), &Ed25519)?;
    ensure(proof.hospital == claim.request.hospital, Code::Malformed, "the proof names another hospital")?;
    ensure(
        proof.answer == challenge.answer,
        Code::BadSignature,
        "the challenge was not answered with the RSA key",
    )?;
    txn.remove(&key)?;
    match hospital(txn, keys, &proof.hospital)? {
        Some(row) => {
            ensure(row.key == *claim.key(), Code::Conflict, "another key has enrolled this identifier")?;
            may_change(&row)?;
            renew(txn, keys, row, &claim)
        }
        None => {
            let waiting = hospitals(txn, keys)?.iter().filter(|row| row.certificate.is_none()).count();
            ensure(waiting < MAX_PENDING, Code::Busy, "too many hospitals wait for a certificate")?;
            put_hospital(txn, keys, &new_row(&claim, now))?;
            Ok(Changed::Nothing)
        }
    }
}

fn new_row(claim: &Claim, now: Timestamp) -> Hospital {
    Hospital {
        hospital: claim.request.hospital.clone(),
        name: claim.request.name.clone(),
        key: *claim.key(),
        request: claim.request.hash(),
        certificate_request: Bytes(claim.certificate_request.envelope().to_vec()),
        profile: Bytes(claim.profile.envelope().to_vec()),
        profile_number: claim.profile.number,
        rsa_key: claim.rsa_key.thumbprint(),
        certificate: None,
        order: None,
        status: None,
        number: 0,
        pending: None,
        since: now,
        extensions: Extensions::default(),
    }
}
