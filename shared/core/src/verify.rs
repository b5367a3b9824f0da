//! A whole transfer, checked offline from its file: every artefact's signature up to the root, and that each belongs
//! to those before it.

use std::collections::BTreeSet;

use crate::artefact::patient::{Consent, Revocation, ShareRelease};
use crate::artefact::transfer::{
    Delivered, FeeAcceptance, KeyRelease, NextAttempt, PackageHeader, Quote, Receipt, Refusal,
    RevocationConfirmed, TransferRequest,
};
use crate::artefact::{ArtefactError, Payload, SignatureVerifier, Signed, Verified, peek_type};
use crate::codec::{self, Bytes, MAX_MESSAGE_BYTES};
use crate::id::{Digest, HospitalId, PatientRef, SealingPublic, SigningPublic, TransferId};
use crate::rules::{self, Context, Cover, RequestEvidence};
use crate::transfer::{FIRST_ATTEMPT, LAST_ATTEMPT};
use crate::{Amount, Code, Timestamp};

mod books;
mod books_file;
mod break_glass;
mod file;
mod recalls;

pub use books::{FeeEvidence, Looked, Standing, standing};
pub use books_file::{BooksFile, BooksReport, is_books, verify_books};
pub use break_glass::{GlassReport, is_break_glass, verify_break_glass};
pub use file::{TRANSFER_FILE_MAX_BYTES, TransferFile, named};
pub use recalls::Recalled;

use file::{federation, opened};

/// What failed, and in which artefact.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{artefact}: {code}")]
pub struct VerifyError {
    /// Why.
    pub code: Code,
    /// Which artefact.
    pub artefact: String,
}

/// One verified step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StepReport {
    /// The artefact's type.
    pub artefact: String,
    /// Its hash, by which others name it.
    pub hash: Digest,
    /// When its signer says it was made.
    pub issued: Option<Timestamp>,
    /// Which attempt it belongs to, if to one.
    pub attempt: Option<u32>,
    /// Whether its hospital has replaced the key that signed it since, by the directory in the file: if that was stolen,
    /// the thief may have.
    pub is_replaced: bool,
}

/// What a verified file says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// The transfer.
    pub transfer: TransferId,
    /// The transfer that it continues under the same consent, if it is a delivery.
    pub continues: Option<TransferId>,
    /// Whose records.
    pub patient: PatientRef,
    /// Who held them.
    pub source: HospitalId,
    /// Who got them.
    pub destination: HospitalId,
    /// The last attempt; none before something was sealed.
    pub attempt: Option<u32>,
    /// The steps, in the order of the protocol, earlier attempts before later ones.
    pub steps: Vec<StepReport>,
    /// The fee, if a package was sealed.
    pub fee: Option<Amount>,
    /// When the destination signed that everything is filed.
    pub filed: Option<Timestamp>,
    /// How often records of it were recalled since.
    pub recalls: u32,
    /// What the recalls give back of the fee, if there are any.
    pub fee_back: Option<Amount>,
    /// What the books are held against.
    pub founded: FeeEvidence,
}

struct Parts<'a> {
    artefacts: &'a [Bytes],
    context: Context<'a>,
    steps: Vec<StepReport>,
}

impl Parts<'_> {
    fn all(&self, label: &str) -> impl Iterator<Item = &[u8]> {
        self.artefacts
            .iter()
            .map(AsRef::as_ref)
            .filter(move |content| peek_type(content).is_ok_and(|found| found == label))
    }

    fn find(&self, label: &str) -> Option<Vec<u8>> {
        self.all(label).next().map(<[u8]>::to_vec)
    }

    /// The quotes in the file: of a delivery, or of a transfer that was asked for.
    fn quotes(&self, is_delivery: bool) -> Vec<Vec<u8>> {
        let is_of = |content: &&[u8]| {
            let quote = Signed::<Quote>::read(content);
            quote.is_ok_and(|quote| quote.claim().continues.is_some()) == is_delivery
        };
        self.all(Quote::TYPE).filter(is_of).map(<[u8]>::to_vec).collect()
    }

    /// A first quote and the one that narrows it; at most one of each.
    fn first_and_final(
        &mut self,
        envelopes: Vec<Vec<u8>>,
        check: impl Fn(&[u8], Context<'_>) -> Result<Verified<Quote>, Code>,
    ) -> Result<Quotes, VerifyError> {
        let quote_fault = |code| fault(Quote::TYPE, code);
        let (mut first, mut last) = (None, None);
        for envelope in envelopes {
            let quote = check(&envelope, self.context).map_err(quote_fault)?;
            let place = if quote.narrows.is_some() { &mut last } else { &mut first };
            if place.replace(quote).is_some() {
                return Err(quote_fault(Code::Conflict));
            }
        }
        if let Some(last) = &last {
            let first = first.as_ref().ok_or_else(|| quote_fault(Code::EvidenceMissing))?;
            rules::narrowing(last, first).map_err(quote_fault)?;
        }
        for quote in first.iter().chain(&last) {
            self.note(quote, |it| it.issued, None);
        }
        Ok((first, last))
    }

    fn note<T: Payload>(
        &mut self,
        verified: &Verified<T>,
        issued: impl Fn(&T) -> Timestamp,
        attempt: Option<u32>,
    ) {
        self.steps.push(StepReport {
            artefact: T::TYPE.to_owned(),
            hash: verified.hash(),
            issued: Some(issued(verified)),
            attempt,
            is_replaced: self.context.federation.is_former(&verified.signer().thumbprint()),
        });
    }

    /// Verifies the artefact of a type, if the file has it, and notes the step.
    fn step<T: Payload>(
        &mut self,
        issued: impl Fn(&T) -> Timestamp,
        check: impl Fn(&[u8], Context<'_>) -> Result<Verified<T>, Code>,
    ) -> Result<Option<Verified<T>>, VerifyError> {
        let Some(envelope) = self.find(T::TYPE) else { return Ok(None) };
        let verified = check(&envelope, self.context).map_err(|code| fault(T::TYPE, code))?;
        self.note(&verified, issued, None);
        Ok(Some(verified))
    }

    /// As [`Self::step`] for what every attempt can have: verifies that of `attempt`.
    fn step_of<T: Payload>(
        &mut self,
        (transfer, attempt): (TransferId, u32),
        (place_of, issued): (impl Fn(&T) -> (TransferId, u32), impl Fn(&T) -> Timestamp),
        check: impl Fn(&[u8], Context<'_>) -> Result<Verified<T>, Code>,
    ) -> Result<Option<Verified<T>>, VerifyError> {
        let is_of = |content: &&[u8]| {
            Signed::<T>::read(content).is_ok_and(|signed| place_of(signed.claim()) == (transfer, attempt))
        };
        let Some(envelope) = self.all(T::TYPE).find(is_of).map(<[u8]>::to_vec) else { return Ok(None) };
        let verified = check(&envelope, self.context).map_err(|code| fault(T::TYPE, code))?;
        self.note(&verified, issued, Some(attempt));
        Ok(Some(verified))
    }
}

fn fault(artefact: &str, code: Code) -> VerifyError {
    VerifyError { code, artefact: artefact.to_owned() }
}

/// Verifies a transfer's file under the root's public key.
///
/// # Errors
/// [`VerifyError`] naming the first artefact that does not hold.
pub fn verify(
    file: &[u8],
    root: &SigningPublic,
    verifier: &dyn SignatureVerifier,
) -> Result<Report, VerifyError> {
    let (file, federation) = opened(file, root, verifier)?;
    verify_artefacts(&file.artefacts, Context { federation: &federation, verifier })
}

/// As [`verify`], for artefacts of a transfer and a federation that is verified already.
///
/// # Errors
/// [`VerifyError`] naming the first artefact that does not hold.
pub fn verify_artefacts(artefacts: &[Bytes], context: Context<'_>) -> Result<Report, VerifyError> {
    use crate::artefact::patient::PatientRefusal;

    // Else what this program cannot read would seem to be missing.
    let newer = |content: &Bytes| match peek_type(content.as_ref()) {
        Err(found @ ArtefactError::NewerEdition(_)) => Some(fault("artefact", found.code())),
        _ => None,
    };
    if let Some(fault) = artefacts.iter().find_map(newer) {
        return Err(fault);
    }
    let mut parts = Parts { artefacts, context, steps: Vec::new() };
    let envelope = parts
        .find(TransferRequest::TYPE)
        .ok_or_else(|| fault(TransferRequest::TYPE, Code::EvidenceMissing))?;
    let on = rules::request(&envelope, context).map_err(|code| fault(TransferRequest::TYPE, code))?;
    parts.note(&on.request, |it| it.issued, None);
    let (consented, narrowed) = quotes(&mut parts, &on)?;
    let consent = match &consented {
        None => None,
        Some(quote) => parts.step(
            |it: &Consent| it.issued,
            |envelope, context| rules::consent(envelope, &on, quote, context),
        )?,
    };
    // A delivery has quotes of its own, under the same consent.
    let (first, last) = match &consent {
        Some(consent) => delivery(&mut parts, &on, consent)?,
        None => (None, None),
    };
    if first.is_some() && narrowed.is_some() {
        return Err(fault(Quote::TYPE, Code::Conflict));
    }
    let continues = first.as_ref().map(|_| on.request.transfer);
    let (first, last) = match first {
        Some(_) => (first.clone(), last.or(first)),
        None => (consented.clone(), narrowed.or(consented)),
    };
    let transfer = first.as_ref().map_or(on.request.transfer, |first| first.transfer);
    let acceptance = match &first {
        None => None,
        Some(quote) => parts.step(
            |it: &FeeAcceptance| it.issued,
            |envelope, context| rules::fee_acceptance(envelope, quote, context),
        )?,
    };
    let mut report = Report {
        transfer,
        continues,
        patient: on.ask.patient,
        source: on.request.source.clone(),
        destination: on.request.destination.clone(),
        attempt: None,
        steps: Vec::new(),
        fee: None,
        filed: None,
        recalls: 0,
        fee_back: None,
        founded: FeeEvidence::default(),
    };
    if let (Some(consent), Some(first), Some(last)) = (&consent, &first, &last) {
        let mut request_keys = vec![(FIRST_ATTEMPT, on.request.request_key)];
        if continues.is_some() {
            request_keys.extend(keys_of_origin(&mut parts, consent)?);
        }
        for attempt in FIRST_ATTEMPT..=LAST_ATTEMPT {
            let agreed = Agreed { consent, first, quote: last, acceptance: acceptance.as_deref() };
            let asked = one_attempt(&mut parts, attempt, &agreed, &mut report)?;
            let is_new = |key: &SealingPublic| request_keys.iter().all(|(_, known)| known != key);
            let fresh = asked.filter(is_new);
            request_keys.extend(fresh.map(|key| (attempt, key)));
        }
        share_releases(&mut parts, consent, &request_keys)?;
        report.founded.agreed(last, consent, &parts);
        recalls::verify(&mut parts, &mut report)?;
        confirmations(&mut parts, consent)?;
        for content in artefacts.iter().filter(|content| peek_type(content.as_ref()).is_err()) {
            let revocation: Revocation = codec::decode(content.as_ref(), MAX_MESSAGE_BYTES)
                .map_err(|_| fault("revocation", Code::Malformed))?;
            rules::revocation(&revocation, consent).map_err(|code| fault("revocation", code))?;
            let hash = Digest::sha256(&[content.as_ref()]);
            parts.steps.push(StepReport {
                artefact: "revocation".to_owned(),
                hash,
                issued: None,
                attempt: None,
                is_replaced: false,
            });
        }
    }
    parts.step(
        |it: &PatientRefusal| it.issued,
        |envelope, context| rules::patient_refusal(envelope, &on, context.verifier),
    )?;
    let refusal = parts.step(
        |it: &Refusal| it.issued,
        |envelope, context| rules::refusal(envelope, transfer, &on, context),
    )?;
    let destination = context.federation.member(&report.destination);
    let by_destination =
        |it: &Verified<Refusal>| destination.is_ok_and(|member| member.keys().any(|key| key == it.signer()));
    report.founded.is_refused = refusal
        .is_some_and(|it| by_destination(&it) && report.attempt.is_none_or(|attempt| it.attempt <= attempt));
    // Whatever was not verified, because it belongs elsewhere or stands twice, refuses the whole.
    if parts.steps.len() != artefacts.len() {
        return Err(fault("file", Code::EvidenceMissing));
    }
    report.steps = parts.steps;
    Ok(report)
}

/// What every attempt is made under.
struct Agreed<'a> {
    consent: &'a Verified<Consent>,
    first: &'a Verified<Quote>,
    quote: &'a Verified<Quote>,
    acceptance: Option<&'a FeeAcceptance>,
}

/// One attempt, from the destination's asking to the receipt; the request key that it brought. Every attempt is about
/// the same fee, and nothing was filed before the last.
fn one_attempt(
    parts: &mut Parts<'_>,
    attempt: u32,
    agreed: &Agreed<'_>,
    report: &mut Report,
) -> Result<Option<SealingPublic>, VerifyError> {
    let Agreed { consent, first, quote, acceptance } = *agreed;
    let place = (first.transfer, attempt);
    let asked = parts.step_of(
        place,
        (|it: &NextAttempt| (it.transfer, it.attempt), |it: &NextAttempt| it.issued),
        |envelope, context| rules::next_attempt(envelope, first.transfer, consent, context),
    )?;
    let request_key = asked.map(|asked| asked.request_key);
    let header = parts.step_of(
        place,
        (|it: &PackageHeader| (it.transfer, it.attempt), |it: &PackageHeader| it.issued),
        |envelope, context| {
            let cover = Cover::of(quote, consent, acceptance)?;
            let header = rules::header(envelope, first.transfer, consent, &cover, context)?;
            rules::header_quote(&header, quote, &first.hash(), context)?;
            Ok(header)
        },
    )?;
    if (request_key.is_some() || header.is_some()) && report.filed.is_some() {
        return Err(fault(Receipt::TYPE, Code::OutOfOrder));
    }
    let Some(header) = header else { return Ok(request_key) };
    if report.fee.is_some_and(|fee| fee != header.fee) {
        return Err(fault(PackageHeader::TYPE, Code::QuoteMismatch));
    }
    report.attempt = Some(attempt);
    report.fee = Some(header.fee);
    let cover = Cover::of(quote, consent, acceptance).map_err(|code| fault(FeeAcceptance::TYPE, code))?;
    report.founded.terms = Some(rules::fee_terms(&header, consent, &cover));
    let delivered = parts.step_of(
        place,
        (|it: &Delivered| (it.transfer, it.attempt), |it: &Delivered| it.issued),
        |envelope, context| rules::delivered(envelope, &header, context),
    )?;
    let release = parts.step_of(
        place,
        (|it: &KeyRelease| (it.transfer, it.attempt), |it: &KeyRelease| it.issued),
        |envelope, context| rules::key_release(envelope, &header, context),
    )?;
    let receipt = parts.step_of(
        place,
        (|it: &Receipt| (it.transfer, it.attempt), |it: &Receipt| it.issued),
        |envelope, context| rules::receipt(envelope, &header, context),
    )?;
    if receipt.is_some() && (delivered.is_none() || release.is_none()) {
        return Err(fault(Receipt::TYPE, Code::EvidenceMissing));
    }
    report.founded.receipts.extend(receipt.iter().map(|it| (it.hash(), it.fee, it.issued)));
    report.filed = receipt.map(|receipt| receipt.issued);
    Ok(request_key)
}

/// The patient's releases, at most one for each key that the destination asked with.
fn share_releases(
    parts: &mut Parts<'_>,
    consent: &Verified<Consent>,
    request_keys: &[(u32, SealingPublic)],
) -> Result<(), VerifyError> {
    let release_fault = |code| fault(ShareRelease::TYPE, code);
    let mut releases = Vec::new();
    for envelope in parts.all(ShareRelease::TYPE) {
        let release = rules::share_release(envelope, consent, parts.context.verifier);
        releases.push(release.map_err(release_fault)?);
    }
    if releases.iter().any(|it| request_keys.iter().all(|(_, key)| *key != it.request_key)) {
        return Err(release_fault(Code::ReleaseMismatch));
    }
    for (attempt, key) in request_keys {
        let mut to_this = releases.iter().filter(|it| it.request_key == *key);
        if let Some(release) = to_this.next() {
            parts.note(release, |it| it.issued, Some(*attempt));
        }
        if to_this.next().is_some() {
            return Err(release_fault(Code::Conflict));
        }
    }
    Ok(())
}

/// Each of the two hospitals may confirm a revocation, once.
fn confirmations(parts: &mut Parts<'_>, consent: &Verified<Consent>) -> Result<(), VerifyError> {
    let envelopes: Vec<Vec<u8>> = parts.all(RevocationConfirmed::TYPE).map(<[u8]>::to_vec).collect();
    let mut confirmed_by = BTreeSet::new();
    for envelope in envelopes {
        let confirmed = rules::revocation_confirmed(&envelope, consent, parts.context)
            .map_err(|code| fault(RevocationConfirmed::TYPE, code))?;
        if !confirmed_by.insert(confirmed.by.clone()) {
            return Err(fault(RevocationConfirmed::TYPE, Code::Conflict));
        }
        parts.note(&confirmed, |it| it.since, None);
    }
    Ok(())
}

type Quotes = (Option<Verified<Quote>>, Option<Verified<Quote>>);

/// The quote that was consented to, and the one that was sealed after; at most one of each.
fn quotes(parts: &mut Parts<'_>, on: &RequestEvidence) -> Result<Quotes, VerifyError> {
    let envelopes = parts.quotes(false);
    parts.first_and_final(envelopes, |envelope, context| rules::quote(envelope, on, context))
}

/// The same of a delivery under the consent; none if the file is about no delivery.
fn delivery(
    parts: &mut Parts<'_>,
    on: &RequestEvidence,
    consent: &Verified<Consent>,
) -> Result<Quotes, VerifyError> {
    let envelopes = parts.quotes(true);
    parts.first_and_final(envelopes, |envelope, context| rules::delivery(envelope, on, consent, context))
}

/// The keys that the destination asked with in further attempts of the transfer which a delivery continues.
fn keys_of_origin(
    parts: &mut Parts<'_>,
    consent: &Verified<Consent>,
) -> Result<Vec<(u32, SealingPublic)>, VerifyError> {
    let (origin, mut keys) = (consent.transfer, Vec::new());
    for attempt in FIRST_ATTEMPT..=LAST_ATTEMPT {
        let asked = parts.step_of(
            (origin, attempt),
            (|it: &NextAttempt| (it.transfer, it.attempt), |it: &NextAttempt| it.issued),
            |envelope, context| rules::next_attempt(envelope, origin, consent, context),
        )?;
        keys.extend(asked.map(|asked| (attempt, asked.request_key)));
    }
    Ok(keys)
}
