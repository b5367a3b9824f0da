//! The rogue as destination: what it asks a source for.

use anyhow::{Result, anyhow};
use handover_core::artefact::Verified;
use handover_core::artefact::patient::{Ask, Consent, Scope};
use handover_core::artefact::transfer::{NextAttempt, TransferRequest};
use handover_core::codec;
use handover_core::message::{REQUEST_SCOPE_LABEL, part_binding};
use handover_seal::part::seal_part;
use handover_seal::{OsRandom, RsaPublicKey, SealingKey};

use super::{Rogue, none, now};

impl Rogue {
    /// An honest question for another attempt, with a fresh key that nobody keeps.
    #[must_use]
    pub fn next_attempt(&self, consent: &Verified<Consent>, attempt: u32) -> Verified<NextAttempt> {
        let next = NextAttempt {
            transfer: consent.transfer,
            attempt,
            consent: consent.hash(),
            request_key: SealingKey::generate(&mut OsRandom).public(),
            issued: now(),
            extensions: none(),
        };
        Verified::sign(next, &self.keys.signing)
    }

    /// A request that stands on an ask, for everything.
    ///
    /// # Errors
    /// The ask names no transfer or no known source.
    pub fn request(&self, ask: &Verified<Ask>) -> Result<TransferRequest> {
        self.request_in(ask, &Scope::everything())
    }

    /// The same, for so much of the patient's records.
    ///
    /// # Errors
    /// The source cannot be found.
    pub fn request_in(&self, ask: &Verified<Ask>, scope: &Scope) -> Result<TransferRequest> {
        let (Some(transfer), Some(source)) = (ask.transfer, ask.source.clone()) else {
            return Err(anyhow!("the ask is for no transfer"));
        };
        let federation = self.federation()?;
        let member = federation.member(&source).map_err(|code| anyhow!("{source}: {code}"))?;
        let rsa = RsaPublicKey::from_spki_der(member.profile.rsa_key.as_ref())?;
        let binding = part_binding(REQUEST_SCOPE_LABEL, &transfer);
        let sealed = seal_part(&rsa, &binding, &codec::encode(scope), &mut OsRandom)?;
        Ok(TransferRequest {
            transfer,
            source,
            destination: self.id().clone(),
            ask: ask.envelope().to_vec().into(),
            request_key: SealingKey::generate(&mut OsRandom).public(),
            sealed: sealed.into(),
            issued: now(),
            extensions: none(),
        })
    }
}
