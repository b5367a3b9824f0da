//! Remote links: asking an old hospital that never linked the patient, by way of one that knows who they are.

use handover_core::artefact::Verified;
use handover_core::artefact::remote::{
    REMOTE_LINK_LIFE_MS, RemoteLinkDetails, RemoteLinkRequest, RemoteLinkState, RemoteLinkStatus,
};
use handover_core::codec::{self, Bytes, Extensions, MAX_MESSAGE_BYTES};
use handover_core::message::remote_link_binding;
use handover_core::rules::{self, Context};
use handover_core::trust::Federation;
use handover_core::{Code, Digest, HospitalId, Random, RemoteLinkId, Timestamp};
use handover_seal::part::seal_part;
use handover_seal::{Remembered, RsaPublicKey};

use crate::state::KnownRemoteLink;
use crate::{Wallet, WalletError};

/// Who the patient says to be at the old hospital.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The old hospital's number for them.
    pub record_number: String,
    /// Their name.
    pub name: String,
    /// When they were born, YYYY-MM-DD.
    pub birth_date: String,
}

impl Wallet {
    /// Signs a request to `hospital` for a remote link, that `vouching` vouches for; the envelope. The same again gives
    /// the first one, until it was refused or its time is over; without an identity it is the one that was made.
    ///
    /// # Errors
    /// [`WalletError::Rule`] if a hospital takes no part now, or the identity cannot be shown at a desk.
    pub fn link_remote(
        &mut self,
        (hospital, vouching): (&HospitalId, &HospitalId),
        identity: Option<&Identity>,
        federation: &Federation,
        now: Timestamp,
        random: &mut dyn Random,
    ) -> Result<Vec<u8>, WalletError> {
        if hospital == vouching {
            let what = "the old hospital is the one that is asked itself: its own desk gives a code there";
            return Err(WalletError::Rule { what, code: Code::AskMismatch });
        }
        let held = self.state.remote_links.iter().find(|known| known.hospital == *hospital);
        let Some(identity) = identity else {
            let none = "no remote link was asked for yet: say who you are there (--record-number, --name, --birth-date)";
            return held.map(|known| known.request.0.clone()).ok_or(WalletError::NotNow(none));
        };
        if let Some(known) = held {
            let (request, details) = (known.request()?, known.details()?);
            let is_open = known.state != RemoteLinkState::Refused && now < request.expires;
            let is_same = request.key_records == self.keys.records()
                && request.vouching == *vouching
                && details.record_number == identity.record_number
                && details.name == identity.name
                && details.birth_date == identity.birth_date;
            if is_open && is_same {
                return Ok(known.request.0.clone());
            }
        }
        let (request, details) =
            self.make_request((hospital, vouching), identity, federation, now, random)?;
        self.state.remote_links.retain(|known| known.hospital != *hospital);
        self.state.remote_links.push(KnownRemoteLink {
            hospital: hospital.clone(),
            request: Bytes(request.envelope().to_vec()),
            details: Bytes(details),
            state: RemoteLinkState::Waiting,
            reason: None,
            extensions: Extensions::default(),
        });
        Ok(request.envelope().to_vec())
    }

    fn make_request(
        &self,
        (hospital, vouching): (&HospitalId, &HospitalId),
        identity: &Identity,
        federation: &Federation,
        now: Timestamp,
        random: &mut dyn Random,
    ) -> Result<(Verified<RemoteLinkRequest>, Vec<u8>), WalletError> {
        federation.check_fresh(now).map_err(WalletError::rule("the directory"))?;
        let old = federation.active(hospital, now).map_err(WalletError::rule("the old hospital"))?;
        let new = federation.active(vouching, now).map_err(WalletError::rule("the hospital that vouches"))?;
        let (mut fresh, mut salt) = ([0; 10], [0; 16]);
        random.fill(&mut fresh);
        random.fill(&mut salt);
        let details = RemoteLinkDetails {
            record_number: identity.record_number.clone(),
            name: identity.name.clone(),
            birth_date: identity.birth_date.clone(),
            salt,
            extensions: Extensions::default(),
        };
        if !details.is_readable() {
            let what = "record number and name are one line each, the date of birth is written YYYY-MM-DD";
            return Err(WalletError::Rule { what, code: Code::UsageInvalid });
        }
        let encoded = codec::encode(&details);
        let id = RemoteLinkId::new(now, fresh);
        let mut sealed_to = |key: &Bytes| {
            seal_part(
                &RsaPublicKey::from_spki_der(key.as_ref())?,
                &remote_link_binding(&id),
                &encoded,
                random,
            )
        };
        let request = RemoteLinkRequest {
            id,
            patient: self.keys.patient(),
            key_records: self.keys.records().to_vec(),
            hospital: hospital.clone(),
            vouching: vouching.clone(),
            details: Digest::sha256(&[&encoded]),
            sealed_to_hospital: sealed_to(&old.profile.rsa_key)?.into(),
            sealed_to_vouching: sealed_to(&new.profile.rsa_key)?.into(),
            issued: now,
            expires: now.plus_ms(REMOTE_LINK_LIFE_MS),
            extensions: Extensions::default(),
        };
        Ok((Verified::sign(request, &self.keys.signing), encoded))
    }

    /// Takes what a hospital says of a request, and remembers it. What the old hospital is said to have answered has to
    /// be signed by it.
    ///
    /// # Errors
    /// [`WalletError::Rule`] if it did not sign that; [`WalletError::NotNow`] without a request.
    pub fn remote_link_told(
        &mut self,
        hospital: &HospitalId,
        status: &[u8],
        federation: &Federation,
    ) -> Result<KnownRemoteLink, WalletError> {
        let status: RemoteLinkStatus = codec::decode(status, MAX_MESSAGE_BYTES)?;
        let known = self.state.remote_links.iter_mut().find(|known| known.hospital == *hospital);
        let known =
            known.ok_or(WalletError::NotNow("no remote link was asked for: give link-remote first"))?;
        let request = known.request()?;
        (known.state, known.reason) = match &status.answer {
            Some(answer) => {
                let context = Context { federation, verifier: &Remembered };
                let answer = rules::remote_link_answer(answer.as_ref(), &request, context)
                    .map_err(WalletError::rule("the old hospital's answer"))?;
                (answer.state, answer.reason)
            }
            None if matches!(status.state, RemoteLinkState::Confirmed | RemoteLinkState::Linked) => {
                return Err(WalletError::Rule {
                    what: "the old hospital's answer",
                    code: Code::EvidenceMissing,
                });
            }
            None => (status.state, status.reason),
        };
        Ok(known.clone())
    }
}

#[cfg(test)]
mod tests;
