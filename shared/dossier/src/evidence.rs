//! What a dossier holds, verified again from its envelopes each time it is relied on.

use handover_core::Code;
use handover_core::artefact::Verified;
use handover_core::artefact::patient::{Consent, ShareRelease};
use handover_core::artefact::transfer::{
    Delivered, FeeAcceptance, KeyRelease, NextAttempt, PackageHeader, Quote, Receipt, Refusal,
};
use handover_core::id::SealingPublic;
use handover_core::rules::{self, Context, Cover, RequestEvidence};
use handover_core::transfer::{FIRST_ATTEMPT, LAST_ATTEMPT};

use crate::{Dossier, DossierError, Kind, Place};
use handover_store::StoreError;

/// What nearly everything else stands on. It verifies once in a transaction, which has one directory; nothing that is
/// kept is ever replaced.
#[derive(Default)]
pub(crate) struct AlreadyVerified {
    request: Option<RequestEvidence>,
    quote: Option<Verified<Quote>>,
    consent: Option<Verified<Consent>>,
}

impl Dossier<'_> {
    fn needed(&mut self, place: impl Into<Place>) -> Result<Vec<u8>, DossierError> {
        self.get(place)?.ok_or(DossierError::Refused(Code::EvidenceMissing))
    }

    /// The request with its ask.
    ///
    /// # Errors
    /// [`Code::EvidenceMissing`], or why it does not verify; so for all of these.
    pub fn request(&mut self, context: Context<'_>) -> Result<RequestEvidence, DossierError> {
        if let Some(on) = &self.verified.request {
            return Ok(on.clone());
        }
        let envelope = self.needed(Kind::Request)?;
        let on = rules::request(&envelope, context)?;
        Ok(self.verified.request.insert(on).clone())
    }

    /// The first quote.
    ///
    /// # Errors
    /// As [`Self::request`].
    pub fn quote(&mut self, context: Context<'_>) -> Result<Verified<Quote>, DossierError> {
        if let Some(quote) = &self.verified.quote {
            return Ok(quote.clone());
        }
        let envelope = self.needed(Kind::Quote)?;
        let quote = self.verified_quote(&envelope, context)?;
        Ok(self.verified.quote.insert(quote).clone())
    }

    /// A quote of this transfer, first or final.
    pub(crate) fn verified_quote(
        &mut self,
        envelope: &[u8],
        context: Context<'_>,
    ) -> Result<Verified<Quote>, DossierError> {
        let on = self.request(context)?;
        Ok(match self.origin()? {
            None => rules::quote(envelope, &on, context)?,
            Some(_) => rules::delivery(envelope, &on, &self.consent(context)?, context)?,
        })
    }

    /// The quote that sealing, reservation and receipt follow: the final one if there is one.
    ///
    /// # Errors
    /// As [`Self::request`].
    pub fn agreed_quote(&mut self, context: Context<'_>) -> Result<Verified<Quote>, DossierError> {
        match self.get(Kind::FinalQuote)? {
            None => self.quote(context),
            Some(envelope) => self.verified_quote(&envelope, context),
        }
    }

    /// The consent; a delivery's is that of the transfer which it continues.
    ///
    /// # Errors
    /// As [`Self::request`].
    pub fn consent(&mut self, context: Context<'_>) -> Result<Verified<Consent>, DossierError> {
        if let Some(consent) = &self.verified.consent {
            return Ok(consent.clone());
        }
        if let Some(origin) = self.origin()? {
            let consent = Dossier::of(self.txn, &self.keys, origin).consent(context)?;
            return Ok(self.verified.consent.insert(consent).clone());
        }
        let on = self.request(context)?;
        let quote = self.quote(context)?;
        let envelope = self.needed(Kind::Consent)?;
        let consent = rules::consent(&envelope, &on, &quote, context)?;
        Ok(self.verified.consent.insert(consent).clone())
    }

    /// The destination's acceptance of the fee, if there is one.
    ///
    /// # Errors
    /// As [`Self::request`].
    pub fn fee_acceptance(
        &mut self,
        context: Context<'_>,
    ) -> Result<Option<Verified<FeeAcceptance>>, DossierError> {
        let Some(envelope) = self.get(Kind::FeeAcceptance)? else { return Ok(None) };
        let quote = self.quote(context)?;
        Ok(Some(rules::fee_acceptance(&envelope, &quote, context)?))
    }

    /// What whoever owes the fee signed for.
    ///
    /// # Errors
    /// As [`Self::request`]; [`Code::FeeNotAccepted`].
    pub fn cover(&mut self, context: Context<'_>) -> Result<Cover, DossierError> {
        let (quote, consent) = (self.quote(context)?, self.consent(context)?);
        let acceptance = self.fee_acceptance(context)?;
        Ok(Cover::of(&quote, &consent, acceptance.as_deref())?)
    }

    /// An attempt's package header.
    ///
    /// # Errors
    /// As [`Self::request`].
    pub fn header(
        &mut self,
        attempt: u32,
        context: Context<'_>,
    ) -> Result<Verified<PackageHeader>, DossierError> {
        let (consent, cover) = (self.consent(context)?, self.cover(context)?);
        let envelope = self.needed(Kind::Header.of(attempt))?;
        Ok(rules::header(&envelope, self.transfer(), &consent, &cover, context)?)
    }

    /// An attempt's proof of delivery.
    ///
    /// # Errors
    /// As [`Self::request`].
    pub fn delivered(
        &mut self,
        attempt: u32,
        context: Context<'_>,
    ) -> Result<Verified<Delivered>, DossierError> {
        let header = self.header(attempt, context)?;
        let envelope = self.needed(Kind::Delivered.of(attempt))?;
        Ok(rules::delivered(&envelope, &header, context)?)
    }

    /// An attempt's released shares.
    ///
    /// # Errors
    /// As [`Self::request`].
    pub fn key_release(
        &mut self,
        attempt: u32,
        context: Context<'_>,
    ) -> Result<Verified<KeyRelease>, DossierError> {
        let header = self.header(attempt, context)?;
        let envelope = self.needed(Kind::KeyRelease.of(attempt))?;
        Ok(rules::key_release(&envelope, &header, context)?)
    }

    /// What the destination asked an attempt with.
    ///
    /// # Errors
    /// As [`Self::request`].
    pub fn next_attempt(
        &mut self,
        attempt: u32,
        context: Context<'_>,
    ) -> Result<Verified<NextAttempt>, DossierError> {
        let consent = self.consent(context)?;
        let envelope = self.needed(Kind::NextAttempt.of(attempt))?;
        Ok(rules::next_attempt(&envelope, self.transfer(), &consent, context)?)
    }

    /// The keys that the destination asked the patient to release to, each with the attempt that brought it, ascending.
    ///
    /// # Errors
    /// As [`Self::request`].
    pub fn request_keys(&mut self, context: Context<'_>) -> Result<Vec<(u32, SealingPublic)>, DossierError> {
        let mut keys = vec![(FIRST_ATTEMPT, self.request(context)?.request.request_key)];
        for attempt in self.attempts_with(Kind::NextAttempt)? {
            let key = self.next_attempt(attempt, context)?.request_key;
            if keys.iter().all(|(_, known)| *known != key) {
                keys.push((attempt, key));
            }
        }
        Ok(keys)
    }

    /// The key that the destination asked the patient to release to in an attempt: the newest up to then.
    ///
    /// # Errors
    /// As [`Self::request`].
    pub fn request_key(&mut self, attempt: u32, context: Context<'_>) -> Result<SealingPublic, DossierError> {
        let asked = self.attempts_with(Kind::NextAttempt)?.into_iter().rfind(|asked| *asked <= attempt);
        match asked {
            Some(asked) => Ok(self.next_attempt(asked, context)?.request_key),
            None => match self.origin()? {
                // What the patient released holds for every delivery.
                Some(origin) => Dossier::of(self.txn, &self.keys, origin).request_key(LAST_ATTEMPT, context),
                None => Ok(self.request(context)?.request.request_key),
            },
        }
    }

    /// The place of the release that opens an attempt.
    ///
    /// # Errors
    /// As [`Self::request`].
    pub fn share_place(&mut self, attempt: u32, context: Context<'_>) -> Result<Place, DossierError> {
        if self.origin()?.is_some() {
            let released =
                self.released_with(attempt)?.ok_or(DossierError::Refused(Code::EvidenceMissing))?;
            return Ok(Kind::ShareRelease.of(released));
        }
        let key = self.request_key(attempt, context)?;
        self.place_of(&key, context)
    }

    /// The place of a release to a key; the artefact that brought the key may still be on its way.
    pub(crate) fn place_of(
        &mut self,
        key: &SealingPublic,
        context: Context<'_>,
    ) -> Result<Place, DossierError> {
        let found = self.request_keys(context)?.into_iter().find(|(_, known)| known == key);
        let (attempt, _) = found.ok_or(DossierError::Refused(Code::EvidenceMissing))?;
        Ok(Kind::ShareRelease.of(attempt))
    }

    /// With the key of which attempt the patient released what opens this one. To whichever key it was sealed, the share
    /// is the same for the whole consent: who had it once has it, for every delivery too.
    ///
    /// # Errors
    /// The store's.
    pub fn released_with(&mut self, attempt: u32) -> Result<Option<u32>, StoreError> {
        let released = self.attempts_with(Kind::ShareRelease)?;
        let is_delivery = self.origin()?.is_some();
        Ok(released.into_iter().rfind(|with_key_of| is_delivery || *with_key_of <= attempt))
    }

    /// The patient's release for an attempt.
    ///
    /// # Errors
    /// As [`Self::request`].
    pub fn share_release(
        &mut self,
        attempt: u32,
        context: Context<'_>,
    ) -> Result<Verified<ShareRelease>, DossierError> {
        let consent = self.consent(context)?;
        let place = self.share_place(attempt, context)?;
        let envelope = self.needed(place)?;
        Ok(rules::share_release(&envelope, &consent, context.verifier)?)
    }

    /// An attempt's receipt.
    ///
    /// # Errors
    /// As [`Self::request`].
    pub fn receipt(&mut self, attempt: u32, context: Context<'_>) -> Result<Verified<Receipt>, DossierError> {
        let header = self.header(attempt, context)?;
        let envelope = self.needed(Kind::Receipt.of(attempt))?;
        Ok(rules::receipt(&envelope, &header, context)?)
    }

    /// A hospital's refusal.
    ///
    /// # Errors
    /// As [`Self::request`].
    pub fn refusal(&mut self, context: Context<'_>) -> Result<Verified<Refusal>, DossierError> {
        let on = self.request(context)?;
        let envelope = self.needed(Kind::Refusal)?;
        Ok(rules::refusal(&envelope, self.transfer(), &on, context)?)
    }
}
