//! What a dossier holds, verified again from its envelopes each time it is relied on.

use handover_core::Code;
use handover_core::artefact::Verified;
use handover_core::artefact::patient::{Consent, ShareRelease};
use handover_core::artefact::transfer::{Delivered, KeyRelease, PackageHeader, Quote, Receipt, Refusal};
use handover_core::rules::{self, Context, RequestEvidence};

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

    /// The package header.
    ///
    /// # Errors
    /// As [`Self::request`].
    pub fn header(&mut self, context: Context<'_>) -> Result<Verified<PackageHeader>, DossierError> {
        let consent = self.consent(context)?;
        let envelope = self.needed(Kind::Header)?;
        Ok(rules::header(&envelope, &consent, context)?)
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
