//! What a dossier holds, verified again from its envelopes each time it is relied on.

use handover_core::Code;
use handover_core::artefact::Verified;
use handover_core::artefact::patient::{Consent, ShareRelease};
use handover_core::artefact::transfer::{
    Delivered, FeeAcceptance, KeyRelease, PackageHeader, Quote, Receipt, Refusal,
};
use handover_core::rules::{self, Context, Cover, RequestEvidence};

use crate::{Dossier, DossierError, Kind};

impl Dossier<'_> {
    fn needed(&mut self, kind: Kind) -> Result<Vec<u8>, DossierError> {
        self.get(kind)?.ok_or(DossierError::Refused(Code::EvidenceMissing))
    }

    /// The request with its ask.
    ///
    /// # Errors
    /// [`Code::EvidenceMissing`], or why it does not verify; so for all of these.
    pub fn request(&mut self, context: Context<'_>) -> Result<RequestEvidence, DossierError> {
        let envelope = self.needed(Kind::Request)?;
        Ok(rules::request(&envelope, context)?)
    }

    /// The first quote.
    ///
    /// # Errors
    /// As [`Self::request`].
    pub fn quote(&mut self, context: Context<'_>) -> Result<Verified<Quote>, DossierError> {
        let on = self.request(context)?;
        let envelope = self.needed(Kind::Quote)?;
        Ok(rules::quote(&envelope, &on, context)?)
    }

    /// The quote that sealing, reservation and receipt follow: the final one if there is one.
    ///
    /// # Errors
    /// As [`Self::request`].
    pub fn agreed_quote(&mut self, context: Context<'_>) -> Result<Verified<Quote>, DossierError> {
        match self.get(Kind::FinalQuote)? {
            None => self.quote(context),
            Some(envelope) => {
                let on = self.request(context)?;
                Ok(rules::quote(&envelope, &on, context)?)
            }
        }
    }

    /// The consent.
    ///
    /// # Errors
    /// As [`Self::request`].
    pub fn consent(&mut self, context: Context<'_>) -> Result<Verified<Consent>, DossierError> {
        let on = self.request(context)?;
        let quote = self.quote(context)?;
        let envelope = self.needed(Kind::Consent)?;
        Ok(rules::consent(&envelope, &on, &quote, context)?)
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

    /// The package header.
    ///
    /// # Errors
    /// As [`Self::request`].
    pub fn header(&mut self, context: Context<'_>) -> Result<Verified<PackageHeader>, DossierError> {
        let (consent, cover) = (self.consent(context)?, self.cover(context)?);
        let envelope = self.needed(Kind::Header)?;
        Ok(rules::header(&envelope, &consent, &cover, context)?)
    }

    /// The proof of delivery.
    ///
    /// # Errors
    /// As [`Self::request`].
    pub fn delivered(&mut self, context: Context<'_>) -> Result<Verified<Delivered>, DossierError> {
        let header = self.header(context)?;
        let envelope = self.needed(Kind::Delivered)?;
        Ok(rules::delivered(&envelope, &header, context)?)
    }

    /// The released shares.
    ///
    /// # Errors
    /// As [`Self::request`].
    pub fn key_release(&mut self, context: Context<'_>) -> Result<Verified<KeyRelease>, DossierError> {
        let header = self.header(context)?;
        let envelope = self.needed(Kind::KeyRelease)?;
        Ok(rules::key_release(&envelope, &header, context)?)
    }

    /// The patient's release.
    ///
    /// # Errors
    /// As [`Self::request`].
    pub fn share_release(&mut self, context: Context<'_>) -> Result<Verified<ShareRelease>, DossierError> {
        let consent = self.consent(context)?;
        let envelope = self.needed(Kind::ShareRelease)?;
        Ok(rules::share_release(&envelope, &consent, context.verifier)?)
    }

    /// The receipt.
    ///
    /// # Errors
    /// As [`Self::request`].
    pub fn receipt(&mut self, context: Context<'_>) -> Result<Verified<Receipt>, DossierError> {
        let header = self.header(context)?;
        let envelope = self.needed(Kind::Receipt)?;
        Ok(rules::receipt(&envelope, &header, context)?)
    }

    /// A hospital's refusal.
    ///
    /// # Errors
    /// As [`Self::request`].
    pub fn refusal(&mut self, context: Context<'_>) -> Result<Verified<Refusal>, DossierError> {
        let on = self.request(context)?;
        let envelope = self.needed(Kind::Refusal)?;
        Ok(rules::refusal(&envelope, &on, context)?)
    }
}
