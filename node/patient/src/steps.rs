//! The steps of the dialogue on a wallet: what is signed is put into the wallet first, and found there when the step
//! is repeated. Meant to run inside [`crate::WalletFile::update`]; what they return is sent afterwards.

use handover_core::artefact::patient::{Consent, ConsentDetails, PatientLink, link_code_proof};
use handover_core::artefact::remote::RemoteLinkState;
use handover_core::artefact::{Signed, Verified};
use handover_core::codec::{self, Bytes, Extensions};
use handover_core::message::Inbox;
use handover_core::rules::{self, Context};
use handover_core::trust::Federation;
use handover_core::{Code, HospitalId, Random, Timestamp, TransferId};
use handover_seal::Remembered;

use crate::consent::{life_ms, mode};
use crate::state::{KnownLink, KnownTransfer};
use crate::{
    ConsentDraft, Question, QuoteView, Reviewed, Wallet, WalletError, Wish, fee_cap, make_ask, make_consent,
    make_link, make_refusal, make_revocation, make_share_release, narrow, open_quote, review,
};

/// A transfer of an inbox: verified, or why it is not believed.
#[derive(Debug)]
pub struct InboxEntry {
    /// The transfer that the item names.
    pub transfer: TransferId,
    /// What holds, or the first thing that does not.
    pub outcome: Result<Reviewed, WalletError>,
}

/// A consent that is in the wallet, ready to be sent.
#[derive(Debug)]
pub struct Given {
    /// The consent.
    pub consent: Verified<Consent>,
    /// What only the two hospitals read of it.
    pub details: ConsentDetails,
    /// The share's release, if it was made: its envelope.
    pub release: Option<Vec<u8>>,
    /// Whether it had been signed before.
    pub repeated: bool,
}

const ASKED_BEFORE: WalletError =
    WalletError::NotNow("this was asked with the device before this one: ask for a new transfer");
const TAKEN_BACK: WalletError = WalletError::NotNow("the consent was taken back: ask for a new transfer");

/// Refuses what was signed before with other content, and names what differs.
fn otherwise(differs: &[&str]) -> Result<(), WalletError> {
    if differs.is_empty() { Ok(()) } else { Err(WalletError::SignedOtherwise(differs.join(", "))) }
}

const fn context(federation: &Federation) -> Context<'_> {
    Context { federation, verifier: &Remembered }
}

impl Wallet {
    /// Signs a link with the desk's code; the envelope.
    ///
    /// # Errors
    /// [`WalletError::Rule`] if the hospital takes no part now.
    pub fn link(
        &mut self,
        hospital: &HospitalId,
        code: &str,
        federation: &Federation,
        now: Timestamp,
    ) -> Result<Vec<u8>, WalletError> {
        federation.active(hospital, now).map_err(WalletError::rule("the hospital"))?;
        let proof = link_code_proof(code, &self.keys.patient(), hospital);
        for known in self.state.links.iter().filter(|known| known.hospital == *hospital) {
            let signed = Signed::<PatientLink>::read(known.signed.as_ref())?;
            let is_own = signed.claim().key_records == self.keys.records();
            if signed.claim().code_proof == proof && (is_own || known.countersigned.is_some()) {
                return Ok(known.signed.0.clone());
            }
        }
        let envelope = make_link(&self.keys, hospital, code, now).envelope().to_vec();
        // A link that the hospital signed holds until it has signed this one.
        self.state.links.retain(|known| known.hospital != *hospital || known.countersigned.is_some());
        self.state.links.push(KnownLink {
            hospital: hospital.clone(),
            signed: Bytes(envelope.clone()),
            countersigned: None,
            named: None,
            ended: None,
            linked: None,
            extensions: Extensions::default(),
        });
        Ok(envelope)
    }

    /// Takes a hospital's countersigned link.
    ///
    /// # Errors
    /// [`WalletError::Rule`] if the hospital did not sign it, or it is not the patient's own.
    pub fn linked(
        &mut self,
        envelope: &[u8],
        federation: &Federation,
        now: Timestamp,
    ) -> Result<HospitalId, WalletError> {
        let link =
            rules::link(envelope, context(federation)).map_err(WalletError::rule("the hospital's link"))?;
        // An index that knew the link before knows it still.
        let before = self.state.links.iter().filter(|known| known.hospital == link.hospital);
        let named = before.filter_map(|known| known.named).max();
        let known = self.state.links.iter_mut().find(|known| known.signed.as_ref() == link.envelope());
        let known =
            known.ok_or(WalletError::Rule { what: "the hospital's link", code: Code::AskMismatch })?;
        known.countersigned = Some(Bytes(envelope.to_vec()));
        (known.named, known.ended) = (named, None);
        known.linked = known.linked.or(Some(now));
        for asked in self.state.remote_links.iter_mut().filter(|asked| asked.hospital == link.hospital) {
            asked.state = RemoteLinkState::Linked;
        }
        self.state
            .links
            .retain(|known| known.hospital != link.hospital || known.signed.as_ref() == link.envelope());
        Ok(link.hospital.clone())
    }

    /// Signs the question for one transfer between two hospitals that take part now; the transfer and the envelope.
    ///
    /// # Errors
    /// [`WalletError::Rule`]; [`WalletError::SignedOtherwise`] if the identifier stands for other hospitals.
    pub fn ask(
        &mut self,
        transfer: Option<TransferId>,
        (source, destination): (&HospitalId, &HospitalId),
        federation: &Federation,
        now: Timestamp,
        random: &mut dyn Random,
    ) -> Result<(TransferId, Vec<u8>), WalletError> {
        if let Some(known) = transfer.and_then(|transfer| self.transfer(&transfer).ok()) {
            let mut differs = Vec::new();
            if known.source != *source {
                differs.push("the source");
            }
            if known.destination != *destination {
                differs.push("the destination");
            }
            otherwise(&differs)?;
            if !known.is_asked_by(&self.keys) {
                return Err(ASKED_BEFORE);
            }
            return Ok((known.transfer, known.ask.0.clone()));
        }
        if source == destination {
            let what = "the source is the hospital that is asked itself, name the one that has the records";
            return Err(WalletError::Rule { what, code: Code::AskMismatch });
        }
        federation.check_fresh(now).map_err(WalletError::rule("the directory"))?;
        let key = |hospital, what| match federation.active(hospital, now) {
            Ok(member) => Ok(member.certificate.key.thumbprint()),
            Err(code) => Err(WalletError::Rule { what, code }),
        };
        let source_key = key(source, "the source")?;
        let destination_key = key(destination, "the destination")?;
        let transfer = transfer.unwrap_or_else(|| {
            let mut bytes = [0; 10];
            random.fill(&mut bytes);
            TransferId::new(now, bytes)
        });
        let question =
            Question::Transfer { transfer, source: source.clone(), destination: destination.clone() };
        let ask = make_ask(&self.keys, question, now, random).envelope().to_vec();
        self.state.transfers.push(KnownTransfer {
            transfer,
            source: source.clone(),
            destination: destination.clone(),
            source_key,
            destination_key,
            ask: Bytes(ask.clone()),
            request: None,
            quote: None,
            details: None,
            consent: None,
            release: None,
            refusal: None,
            revoked: None,
            state: None,
            seen: None,
            next_attempt: None,
            extensions: Extensions::default(),
        });
        self.state.transfers.sort_by_key(|known| known.transfer);
        Ok((transfer, ask))
    }

    /// Verifies an inbox and remembers what it says of the transfers that this wallet asked for. Consent secrets
    /// whose consent has expired are forgotten.
    pub fn take_inbox(&mut self, inbox: &Inbox, federation: &Federation, now: Timestamp) -> Vec<InboxEntry> {
        let mut entries = Vec::with_capacity(inbox.items.len());
        for item in &inbox.items {
            let outcome = review(&self.keys, item, context(federation)).and_then(|reviewed| {
                self.note(&reviewed, now)?;
                Ok(reviewed)
            });
            entries.push(InboxEntry { transfer: item.transfer, outcome });
        }
        self.forget_expired(now);
        entries
    }

    fn note(&mut self, reviewed: &Reviewed, now: Timestamp) -> Result<(), WalletError> {
        // Asked with another copy of the keys: shown, not remembered.
        let Ok(known) = self.transfer_mut(&reviewed.transfer) else { return Ok(()) };
        if known.source != reviewed.source || known.destination != reviewed.destination {
            return Err(WalletError::SignedOtherwise("the hospitals".to_owned()));
        }
        let consent = known.consent.as_ref().zip(reviewed.consent.as_ref());
        if consent.is_some_and(|(held, told)| held.as_ref() != told.envelope()) {
            return Err(WalletError::SignedOtherwise("the hospital holds another consent".to_owned()));
        }
        if reviewed.request.as_ref().is_some_and(|found| found.ask.envelope() != known.ask.as_ref()) {
            return Err(WalletError::Rule { what: "the request", code: Code::AskMismatch });
        }
        if let (Some(request), Some(view)) = (&reviewed.request, &reviewed.quote) {
            // What a consent stands on stays as it was consented to.
            if known.consent.is_none() {
                known.request = Some(Bytes(request.request.envelope().to_vec()));
                known.quote = Some(Bytes(view.quote.envelope().to_vec()));
            }
        }
        if let Some(next) = &reviewed.next_attempt {
            let held = known.next_attempt()?.map_or(0, |held| held.attempt);
            let is_same = known.next_attempt.as_ref().is_some_and(|held| held.as_ref() == next.envelope());
            if next.attempt == held && !is_same {
                return Err(WalletError::SignedOtherwise("what the attempt is asked for with".to_owned()));
            }
            // The other hospital may not have heard of the newest yet.
            if next.attempt > held && known.consent.is_some() {
                known.next_attempt = Some(Bytes(next.envelope().to_vec()));
            }
        }
        known.state = Some(reviewed.state.clone());
        known.seen = Some(now);
        Ok(())
    }

    fn forget_expired(&mut self, now: Timestamp) {
        let (keys, transfers) = (&self.keys, &self.state.transfers);
        self.secrets.retain(|transfer, _| {
            let known = transfers.iter().find(|known| known.transfer == *transfer);
            match known.map(|known| known.consent(keys)) {
                Some(Ok(Some(consent))) => now < consent.expires,
                _ => true,
            }
        });
    }

    /// The quote of a transfer that the wallet holds, verified again.
    ///
    /// # Errors
    /// [`WalletError::NotNow`] if none came yet.
    pub fn quote(&self, transfer: &TransferId, federation: &Federation) -> Result<QuoteView, WalletError> {
        let known = self.transfer(transfer)?;
        if !known.is_asked_by(&self.keys) {
            return Err(ASKED_BEFORE);
        }
        let (Some(request), Some(quote)) = (&known.request, &known.quote) else {
            return Err(WalletError::NotNow("no quote has come yet: look into the inbox first"));
        };
        let request = rules::request(request.as_ref(), context(federation))
            .map_err(WalletError::rule("the request"))?;
        let quote = rules::quote(quote.as_ref(), &request, context(federation))
            .map_err(WalletError::rule("the quote"))?;
        let body = open_quote(&self.keys, &quote)?;
        Ok(QuoteView { quote, body })
    }

    /// Signs a consent to the quote that the wallet holds, and the share's release if wished. Repeated, it gives what
    /// was signed, unless the wish is another one.
    ///
    /// # Errors
    /// [`WalletError::KeyChanged`] if a hospital's key is not the one of the question; what [`make_consent`] says;
    /// [`WalletError::SignedOtherwise`], [`WalletError::NotNow`] after a refusal.
    pub fn consent(
        &mut self,
        transfer: &TransferId,
        wish: &Wish,
        release: bool,
        federation: &Federation,
        now: Timestamp,
        random: &mut dyn Random,
    ) -> Result<Given, WalletError> {
        let known = self.transfer(transfer)?;
        let held = known.consent(&self.keys)?.zip(known.details()?);
        let repeated = held.is_some();
        if let Some((consent, details)) = held {
            if known.revoked.is_some() {
                return Err(TAKEN_BACK);
            }
            self.check_same(transfer, wish, &consent, &details, federation)?;
        } else {
            if known.refusal.is_some() {
                return Err(WalletError::NotNow("the patient has refused this transfer"));
            }
            for (hospital, key) in
                [(&known.source, &known.source_key), (&known.destination, &known.destination_key)]
            {
                let member = federation.member(hospital).map_err(WalletError::rule("the hospital"))?;
                if member.certificate.key.thumbprint() != *key {
                    return Err(WalletError::KeyChanged(hospital.clone()));
                }
            }
            let view = self.quote(transfer, federation)?;
            // A key that was replaced before the patient asked may be a thief's.
            if view.quote.signer().thumbprint() != known.source_key {
                return Err(WalletError::KeyChanged(known.source.clone()));
            }
            let draft = make_consent(&self.keys, &view, wish, federation, now, random)?;
            self.keep(transfer, draft)?;
        }
        // That a further attempt needs another one is the patient's to decide anew.
        if release && self.transfer(transfer)?.release.is_none() {
            self.release(transfer, now, random)?;
        }
        let known = self.transfer(transfer)?;
        let consent = known.consent(&self.keys)?;
        let (Some(consent), Some(details)) = (consent, known.details()?) else {
            return Err(WalletError::UnknownTransfer);
        };
        let release = known.release.as_ref().map(|envelope| envelope.0.clone());
        Ok(Given { consent, details, release, repeated })
    }

    fn keep(&mut self, transfer: &TransferId, draft: ConsentDraft) -> Result<(), WalletError> {
        let known = self.transfer_mut(transfer)?;
        known.consent = Some(Bytes(draft.consent.envelope().to_vec()));
        known.details = Some(Bytes(codec::encode(&draft.details)));
        self.secrets.insert(*transfer, draft.secrets);
        Ok(())
    }

    fn check_same(
        &self,
        transfer: &TransferId,
        wish: &Wish,
        consent: &Consent,
        details: &ConsentDetails,
        federation: &Federation,
    ) -> Result<(), WalletError> {
        let view = self.quote(transfer, federation)?;
        let scope = narrow(&view.body, wish)?;
        let held = &details.scope;
        let mut differs = Vec::new();
        if scope.departments != held.departments {
            differs.push("departments");
        }
        if scope.from != held.from {
            differs.push("from");
        }
        if scope.until != held.until {
            differs.push("until");
        }
        if scope.without_restricted != held.without_restricted {
            differs.push("restricted records");
        }
        // What a cap may be depends on the scope: it is compared for the one that holds.
        if fee_cap(&view.body, held, wish)? != consent.fee_cap {
            differs.push("the highest fee");
        }
        if life_ms(wish) != consent.expires.since_ms(consent.not_before) {
            differs.push("how long it holds");
        }
        if mode(wish) != consent.mode {
            differs.push("whether it is continuous");
        }
        otherwise(&differs)
    }

    /// Signs the release of the grant key for a consent, to the key that the destination asked with last; its envelope.
    ///
    /// # Errors
    /// [`WalletError::NotNow`] without a consent, after it was taken back, or when its secrets are gone.
    pub fn release(
        &mut self,
        transfer: &TransferId,
        now: Timestamp,
        random: &mut dyn Random,
    ) -> Result<Vec<u8>, WalletError> {
        let known = self.transfer(transfer)?;
        if known.revoked.is_some() {
            return Err(TAKEN_BACK);
        }
        if let Some(envelope) = known.release()? {
            return Ok(envelope.0.clone());
        }
        let consent = known
            .consent(&self.keys)?
            .ok_or(WalletError::NotNow("there is no consent to release a share for"))?;
        if !known.is_asked_by(&self.keys) {
            return Err(ASKED_BEFORE);
        }
        let request_key =
            known.request_key()?.ok_or(WalletError::NotNow("the quote is not in the wallet"))?;
        let secrets = self.secrets.get(transfer).ok_or(WalletError::NotNow("the consent has expired"))?;
        let release = make_share_release(&self.keys, &consent, &secrets.grant, &request_key, now, random)?;
        let envelope = release.envelope().to_vec();
        self.transfer_mut(transfer)?.release = Some(Bytes(envelope.clone()));
        Ok(envelope)
    }

    /// Signs a no; its envelope.
    ///
    /// # Errors
    /// [`WalletError::NotNow`] after a consent, which is taken back instead.
    pub fn refuse(&mut self, transfer: &TransferId, now: Timestamp) -> Result<Vec<u8>, WalletError> {
        let known = self.transfer(transfer)?;
        if let Some(envelope) = &known.refusal {
            return Ok(envelope.0.clone());
        }
        if known.consent.is_some() {
            return Err(WalletError::NotNow("there is a consent: take it back with revoke"));
        }
        if !known.is_asked_by(&self.keys) {
            return Err(ASKED_BEFORE);
        }
        let envelope = make_refusal(&self.keys, *transfer, now).envelope().to_vec();
        self.transfer_mut(transfer)?.refusal = Some(Bytes(envelope.clone()));
        Ok(envelope)
    }

    /// Takes a consent back: the encoded `Revocation`, which is not signed.
    ///
    /// # Errors
    /// [`WalletError::NotNow`] without a consent, or when it has expired.
    pub fn revoke(&mut self, transfer: &TransferId, now: Timestamp) -> Result<Vec<u8>, WalletError> {
        let known = self.transfer(transfer)?;
        let consent =
            known.consent(&self.keys)?.ok_or(WalletError::NotNow("there is no consent to take back"))?;
        let secrets = self.secrets.get(transfer).ok_or(WalletError::NotNow("the consent has expired"))?;
        let revocation = codec::encode(&make_revocation(&consent, secrets));
        self.transfer_mut(transfer)?.revoked.get_or_insert(now);
        Ok(revocation)
    }
}

#[cfg(test)]
mod tests;
