//! Enrolment: a request is answered with a secret wrapped to the RSA key that it names; who sends the secret's hash
//! back, signed, holds both keys.
//!
//! Challenges are kept by the request's hash, so that nobody can push another's enrolment aside by asking for the
//! same identifier. Who proved its keys holds the identifier, until it is certified for some days only: anybody can
//! make keys, and only the root and the operators know who is who. Operators can drop it before that.
//!
//! A flood of strangers costs strangers: what a certified hospital renews has a place of its own, the oldest challenge
//! gives way to a newer one, and of those who wait to be certified none gives way but to its own kind.

use std::collections::BTreeMap;

use handover_core::artefact::federation::{
    CertificateRequest, EnrolmentProof, EnrolmentRequest, HospitalProfile,
};
use handover_core::artefact::patient::CLOCK_SKEW_MS;
use handover_core::artefact::{Signed, Verified};
use handover_core::codec::{Bytes, Extensions};
use handover_core::id::SigningPublic;
use handover_core::time::DAY_MS;
use handover_core::{Code, Digest, HospitalId, Timestamp};
use handover_seal::{Remembered, RsaPublicKey};
use handover_store::{KeyMaker, StoreError, Txn};

use super::rows::{Challenge, Hospital};
use super::{
    RegistryError, certificate_request, ensure, hospital, hospital_key, hospitals, known_hospital,
    may_change, put_hospital, refuse, succession, successors,
};
use crate::desk::Changed;
use handover_store::rows as cells;

/// The most bytes of an enrolment request, with the profile in it.
const MAX_REQUEST_BYTES: usize = 32 * 1024;
/// The most challenges of strangers that wait, and the most hospitals that wait for a certificate.
const MAX_PENDING: usize = 1_000;
/// How long an identifier is kept from other keys for a hospital that nobody certifies, in milliseconds.
const UNCERTIFIED_LIFE_MS: i64 = 7 * DAY_MS;
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
        let request = request.verify(&key, &Remembered)?;
        let profile = Signed::<HospitalProfile>::read(request.profile.as_ref())?.verify(&key, &Remembered)?;
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

    /// What the hospital says of itself, whole.
    pub(crate) fn profile(&self) -> &[u8] {
        self.profile.envelope()
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

/// Where a certified hospital's challenge lies, apart from everybody's: one for each.
fn renewal_key(keys: &KeyMaker, hospital: &HospitalId) -> Vec<u8> {
    keys.space("challenge-renewal").hashed(hospital.as_str().as_bytes()).build()
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
    let request = claim.request.hash();
    let held = holder(txn, keys, claim, now)?.filter(|row| row.certificate.is_some());
    let is_renewal = held.is_some();
    if let Some(row) = held
        && row.rsa_key == claim.rsa_key.thumbprint()
    {
        let id = row.hospital.clone();
        changed = renew(txn, keys, row, claim)?;
        if known_hospital(txn, keys, &id)?.request == request {
            // Counted already: the proof will say so without a challenge.
            return Ok((wrapped.to_vec(), changed));
        }
    }
    let key =
        if is_renewal { renewal_key(keys, &claim.request.hospital) } else { challenge_key(keys, &request) };
    if let Some(challenge) = cells::get::<Challenge>(txn, &key)?
        && challenge.request.as_ref() == claim.request.envelope()
    {
        return Ok((challenge.wrapped.0, changed));
    }
    if !is_renewal {
        make_room(txn, keys)?;
    }
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

/// Lets the oldest challenge go if there are too many: a node answers in seconds.
fn make_room(txn: &mut dyn Txn, keys: &KeyMaker) -> Result<(), RegistryError> {
    let waiting = txn.scan(&keys.space("challenge").build(), None, MAX_PENDING)?;
    if waiting.len() < MAX_PENDING {
        return Ok(());
    }
    let mut oldest: Option<(Timestamp, Vec<u8>)> = None;
    for (key, bytes) in waiting {
        let at = cells::read::<Challenge>(&bytes)?.at;
        if oldest.as_ref().is_none_or(|(before, _)| at < *before) {
            oldest = Some((at, key));
        }
    }
    if let Some((_, key)) = oldest {
        txn.remove(&key)?;
    }
    Ok(())
}

/// The challenge that a proof answers, and where it lies.
fn challenge_of(
    txn: &mut dyn Txn,
    keys: &KeyMaker,
    proof: &EnrolmentProof,
) -> Result<Option<(Vec<u8>, Challenge)>, RegistryError> {
    let renewal = renewal_key(keys, &proof.hospital);
    if let Some(challenge) = cells::get::<Challenge>(txn, &renewal)? {
        let request = Signed::<EnrolmentRequest>::read(challenge.request.as_ref())?;
        let key = request.claim().key;
        if request.verify(&key, &Remembered)?.hash() == proof.request {
            return Ok(Some((renewal, challenge)));
        }
    }
    let key = challenge_key(keys, &proof.request);
    Ok(cells::get::<Challenge>(txn, &key)?.map(|challenge| (key, challenge)))
}

/// Takes the proof: from now on the identifier is this key's, for good once it is certified.
pub(crate) fn prove(
    txn: &mut dyn Txn,
    keys: &KeyMaker,
    envelope: &[u8],
    now: Timestamp,
) -> Result<Changed, RegistryError> {
    let proof = Signed::<EnrolmentProof>::read(envelope)?;
    let Some((key, challenge)) = challenge_of(txn, keys, proof.claim())? else {
        // Proved before: the same answer again.
        let id = &proof.claim().hospital;
        let known = hospital(txn, keys, id)?.into_iter().chain(successors(txn, keys, id)?);
        return match known.into_iter().find(|row| row.request == proof.claim().request) {
            Some(row) => {
                proof.verify(&row.key, &Remembered)?;
                Ok(Changed::Nothing)
            }
            None => refuse(Code::UnknownHospital, "no enrolment waits for this proof; enrol first"),
        };
    };
    let items = [challenge.request, challenge.certificate_request];
    let claim = Claim::read(&items, now)?;
    let proof = proof.verify(claim.key(), &Remembered)?;
    ensure(proof.hospital == claim.request.hospital, Code::Malformed, "the proof names another hospital")?;
    ensure(
        proof.answer == challenge.answer,
        Code::BadSignature,
        "the challenge was not answered with the RSA key",
    )?;
    txn.remove(&key)?;
    if let Some(row) = holder(txn, keys, &claim, now)? {
        return renew(txn, keys, row, &claim);
    }
    if let Some(held) = certified(txn, keys, &claim)? {
        succession::wait(txn, keys, &held, new_row(&claim, now), now)?;
        return Ok(Changed::Nothing);
    }
    evict(txn, keys, now)?;
    put_hospital(txn, keys, &new_row(&claim, now))?;
    Ok(Changed::Nothing)
}

/// The row of the identifier, if it is another key's that the root has certified: this one asks to succeed it.
fn certified(txn: &mut dyn Txn, keys: &KeyMaker, claim: &Claim) -> Result<Option<Hospital>, StoreError> {
    let row = hospital(txn, keys, &claim.request.hospital)?;
    Ok(row.filter(|row| row.key != *claim.key() && row.certificate.is_some()))
}

/// The row of the identifier, if it is this key's; none if it is free, another key's that was not certified in time,
/// or one's that this key may succeed.
fn holder(
    txn: &mut dyn Txn,
    keys: &KeyMaker,
    claim: &Claim,
    now: Timestamp,
) -> Result<Option<Hospital>, RegistryError> {
    let Some(row) = hospital(txn, keys, &claim.request.hospital)? else { return Ok(None) };
    if row.key != *claim.key() {
        if row.certificate.is_some() {
            succession::may_succeed(&row, claim.key())?;
            return Ok(None);
        }
        let is_over = row.certificate.is_none() && now.since_ms(row.since) > UNCERTIFIED_LIFE_MS;
        ensure(is_over, Code::Conflict, "another key has enrolled this identifier")?;
        return Ok(None);
    }
    may_change(&row)?;
    Ok(Some(row))
}

/// Makes room among those that nobody has certified. Who waits honestly is not pushed out: what nobody certified in
/// time goes first, then the newest of those that share an RSA key, which is one enroller under many names. Where
/// neither is, the newcomer has to come again.
fn evict(txn: &mut dyn Txn, keys: &KeyMaker, now: Timestamp) -> Result<(), RegistryError> {
    let mut waiting = hospitals(txn, keys)?;
    waiting.retain(|row| row.certificate.is_none());
    if waiting.len() < MAX_PENDING {
        return Ok(());
    }
    waiting.sort_by_key(|row| row.since);
    let mut of_key: BTreeMap<Digest, usize> = BTreeMap::new();
    for row in &waiting {
        let count = of_key.entry(row.rsa_key).or_default();
        *count = count.saturating_add(1);
    }
    let late = waiting.iter().find(|row| now.since_ms(row.since) > UNCERTIFIED_LIFE_MS);
    let crowd = of_key.into_iter().max_by_key(|(_, count)| *count).filter(|(_, count)| *count > 1);
    let newest = crowd.and_then(|(key, _)| waiting.iter().rev().find(|row| row.rsa_key == key));
    let Some(goes) = late.or(newest) else {
        return refuse(Code::Busy, "too many hospitals wait for a certificate");
    };
    txn.remove(&hospital_key(keys, &goes.hospital))?;
    Ok(())
}

/// Drops an enrolment that nobody certified: the identifier is free again.
pub(crate) fn drop_enrolment(
    txn: &mut dyn Txn,
    keys: &KeyMaker,
    id: &HospitalId,
) -> Result<Hospital, RegistryError> {
    let row = known_hospital(txn, keys, id)?;
    ensure(
        row.certificate.is_none(),
        Code::Conflict,
        "the hospital is certified: it can be suspended or revoked, not dropped",
    )?;
    txn.remove(&hospital_key(keys, id))?;
    Ok(row)
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
        former: None,
        extensions: Extensions::default(),
    }
}
