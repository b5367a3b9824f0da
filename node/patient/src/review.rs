//! Verifying what a hospital says of a transfer before the patient believes it.

use handover_core::artefact::Verified;
use handover_core::artefact::patient::Consent;
use handover_core::artefact::transfer::{NextAttempt, Payer, Quote, QuoteBody, RevocationConfirmed};
use handover_core::codec::{self, MAX_MESSAGE_BYTES};
use handover_core::ledger::fee::fee;
use handover_core::message::{InboxItem, QUOTE_INFO, RecallNotice};
use handover_core::rules::{self, Context, RequestEvidence};
use handover_core::transfer::State;
use handover_core::{Code, Digest, HospitalId, Timestamp, TransferId};
use handover_seal::hpke_open_padded;

use crate::{PatientKeys, WalletError};

/// A quote with its opened body.
#[derive(Clone, Debug)]
pub struct QuoteView {
    /// As the source signed it.
    pub quote: Verified<Quote>,
    /// What it says.
    pub body: QuoteBody,
}

/// A transfer in the inbox, every artefact of it verified. The state is what the answering hospital says.
#[derive(Clone, Debug)]
pub struct Reviewed {
    /// The transfer.
    pub transfer: TransferId,
    /// Where it stands there.
    pub state: State,
    /// Who holds the records.
    pub source: HospitalId,
    /// Who gets them.
    pub destination: HospitalId,
    /// The destination's request with the patient's own ask.
    pub request: Option<RequestEvidence>,
    /// The quote to answer.
    pub quote: Option<QuoteView>,
    /// The quote that followed a narrower consent.
    pub final_quote: Option<QuoteView>,
    /// The consent as the hospital holds it.
    pub consent: Option<Verified<Consent>>,
    /// Who has taken a revocation in, and since when.
    pub confirmations: Vec<Verified<RevocationConfirmed>>,
    /// With what the destination asked for another attempt last.
    pub next_attempt: Option<Verified<NextAttempt>>,
    /// When it last changed.
    pub updated: Timestamp,
    /// The transfer that it continues, if it is a delivery: request and consent are that one's.
    pub continues: Option<TransferId>,
    /// What was wrong of what was sent, as the answering hospital says.
    pub recalls: Vec<RecallNotice>,
}

/// Opens a verified quote: its body must be the one that the source committed to, and must not charge more than its
/// own basis and rate give.
///
/// # Errors
/// [`WalletError::Seal`], [`WalletError::Decode`], [`WalletError::FalseQuote`].
pub fn open_quote(keys: &PatientKeys, quote: &Verified<Quote>) -> Result<QuoteBody, WalletError> {
    let plain =
        hpke_open_padded(&keys.sealing, QUOTE_INFO, quote.transfer.as_bytes(), quote.sealed.as_ref())?;
    if Digest::sha256(&[&plain]) != quote.commitment {
        return Err(WalletError::FalseQuote("its content is not the one that was committed to"));
    }
    let body: QuoteBody = codec::decode(&plain, MAX_MESSAGE_BYTES)?;
    let mut records = 0_u64;
    for count in &body.departments {
        records = records.checked_add(count.records).ok_or(WalletError::FalseQuote("too many records"))?;
    }
    if records != body.records {
        return Err(WalletError::FalseQuote("the departments' records do not add up"));
    }
    if body.lines.iter().any(|line| line.price.is_some() && line.charged_by.is_some()) {
        return Err(WalletError::FalseQuote("a test that was charged before has a price"));
    }
    let (basis, scale) = decimal(&body.basis).ok_or(WalletError::FalseQuote("the basis is no amount"))?;
    let highest = fee(basis, scale, body.rate_bps, body.fee.currency().exponent())
        .map_err(|_| WalletError::FalseQuote("the basis is no amount"))?;
    if body.fee.minor() < 0 || body.fee.minor() > highest {
        return Err(WalletError::FalseQuote("the fee is not what basis and rate give"));
    }
    Ok(body)
}

/// A plain decimal (`12`, `0.050`) as an integer and its digits after the point.
fn decimal(text: &str) -> Option<(i128, u32)> {
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    let digits = [whole, part].concat();
    let sound = !whole.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    if !sound {
        return None;
    }
    Some((digits.parse().ok()?, u32::try_from(part.len()).ok()?))
}

/// Verifies an inbox item under the directory: the destination's request stands on this patient's own ask, the
/// quotes are the source's, the consent is this patient's, the confirmations are the holders', and it is the
/// destination that asks for another attempt.
///
/// # Errors
/// [`WalletError`] naming the first thing that does not hold.
pub fn review(keys: &PatientKeys, item: &InboxItem, context: Context<'_>) -> Result<Reviewed, WalletError> {
    let request = item
        .request
        .as_ref()
        .map(|envelope| rules::request(envelope.as_ref(), context))
        .transpose()
        .map_err(WalletError::rule("the request"))?;
    if let Some(found) = &request {
        let same = found.ask.patient == keys.patient()
            && found.request.transfer == item.continues.unwrap_or(item.transfer)
            && found.request.source == item.source
            && found.request.destination == item.destination;
        if !same {
            return Err(WalletError::Rule { what: "the request", code: Code::AskMismatch });
        }
    }
    // What another device asked for is sealed to its keys.
    let is_own = request.as_ref().is_none_or(|found| found.keys.hash() == keys.record_hash());
    if let (false, Some(on)) = (is_own, &request) {
        return of_another_device(item, on, context);
    }
    let consent = consent(item, request.as_ref(), context)?;
    let on = (request.as_ref(), consent.as_ref().filter(|_| item.continues.is_some()));
    let quote = open_verified(keys, item.quote.as_ref(), on, context)?;
    let final_quote = open_verified(keys, item.final_quote.as_ref(), on, context)?;
    if let Some(last) = &final_quote {
        let narrows = last.quote.narrows.is_some();
        if !narrows || quote.as_ref().map(|first| first.quote.hash()) != last.quote.narrows {
            return Err(WalletError::Rule { what: "the final quote", code: Code::QuoteMismatch });
        }
    }
    if let (Some(consent), Some(last)) = (&consent, &final_quote) {
        let fee = last.body.fee;
        let cap = consent.fee_cap;
        let within = fee.minor() <= cap.minor() && fee.currency() == cap.currency();
        if last.body.payer == Payer::Patient && fee.minor() > 0 && !within {
            return Err(WalletError::Rule { what: "the final quote", code: Code::CapExceeded });
        }
    }
    let next_attempt = next_attempt(item, consent.as_ref(), context)?;
    let confirmations = confirmations(item, consent.as_ref(), context)?;
    Ok(Reviewed { quote, final_quote, consent, confirmations, next_attempt, ..bare(item, request) })
}

/// What the destination asked last for another attempt with.
fn next_attempt(
    item: &InboxItem,
    consent: Option<&Verified<Consent>>,
    context: Context<'_>,
) -> Result<Option<Verified<NextAttempt>>, WalletError> {
    let Some(envelope) = &item.next_attempt else { return Ok(None) };
    let refused = |code| WalletError::Rule { what: "the next attempt", code };
    let consent = consent.ok_or(refused(Code::EvidenceMissing))?;
    let next = rules::next_attempt(envelope.as_ref(), item.transfer, consent, context).map_err(refused)?;
    if next.attempt > item.state.attempt {
        return Err(refused(Code::OutOfOrder));
    }
    Ok(Some(next))
}

fn bare(item: &InboxItem, request: Option<RequestEvidence>) -> Reviewed {
    Reviewed {
        transfer: item.transfer,
        state: item.state.clone(),
        source: item.source.clone(),
        destination: item.destination.clone(),
        request,
        quote: None,
        final_quote: None,
        consent: None,
        confirmations: Vec::new(),
        next_attempt: None,
        updated: item.updated,
        continues: item.continues,
        recalls: item.recalls.clone(),
    }
}

/// A transfer that an earlier device of the patient asked for: all but the quotes is verified.
fn of_another_device(
    item: &InboxItem,
    on: &RequestEvidence,
    context: Context<'_>,
) -> Result<Reviewed, WalletError> {
    let consent = consent(item, Some(on), context)?;
    if let Some(envelope) = &item.quote {
        let delivery = consent.as_ref().filter(|_| item.continues.is_some());
        verified_quote(envelope.as_ref(), (on, delivery), context)?;
    }
    let confirmations = confirmations(item, consent.as_ref(), context)?;
    Ok(Reviewed { consent, confirmations, ..bare(item, Some(on.clone())) })
}

fn confirmations(
    item: &InboxItem,
    consent: Option<&Verified<Consent>>,
    context: Context<'_>,
) -> Result<Vec<Verified<RevocationConfirmed>>, WalletError> {
    match (consent, item.confirmations.as_slice()) {
        (_, []) => Ok(Vec::new()),
        (None, _) => Err(WalletError::Rule { what: "a confirmation", code: Code::EvidenceMissing }),
        (Some(consent), envelopes) => envelopes
            .iter()
            .map(|envelope| rules::revocation_confirmed(envelope.as_ref(), consent, context))
            .collect::<Result<_, _>>()
            .map_err(WalletError::rule("a confirmation")),
    }
}

/// The consent, with the quote that it answers: a delivery's is that of the transfer which it continues.
fn consent(
    item: &InboxItem,
    on: Option<&RequestEvidence>,
    context: Context<'_>,
) -> Result<Option<Verified<Consent>>, WalletError> {
    let missing = WalletError::Rule { what: "the consent", code: Code::EvidenceMissing };
    let answered = if item.continues.is_some() { &item.origin_quote } else { &item.quote };
    match (&item.consent, on, answered) {
        (None, ..) if item.continues.is_none() => Ok(None),
        (Some(envelope), Some(on), Some(quote)) => {
            let quote = rules::quote(quote.as_ref(), on, context).map_err(WalletError::rule("the quote"))?;
            let consent = rules::consent(envelope.as_ref(), on, &quote, context);
            Ok(Some(consent.map_err(WalletError::rule("the consent"))?))
        }
        _ => Err(missing),
    }
}

/// What a quote stands on: the request, and for a delivery the consent that it is made under.
type Footing<'a> = (&'a RequestEvidence, Option<&'a Verified<Consent>>);

fn verified_quote(
    envelope: &[u8],
    (on, delivery): Footing<'_>,
    context: Context<'_>,
) -> Result<Verified<Quote>, WalletError> {
    let quote = match delivery {
        None => rules::quote(envelope, on, context),
        Some(consent) => rules::delivery(envelope, on, consent, context),
    };
    quote.map_err(WalletError::rule("the quote"))
}

fn open_verified(
    keys: &PatientKeys,
    envelope: Option<&codec::Bytes>,
    (request, delivery): (Option<&RequestEvidence>, Option<&Verified<Consent>>),
    context: Context<'_>,
) -> Result<Option<QuoteView>, WalletError> {
    let Some(envelope) = envelope else { return Ok(None) };
    let request = request.ok_or(WalletError::Rule { what: "the quote", code: Code::EvidenceMissing })?;
    let quote = verified_quote(envelope.as_ref(), (request, delivery), context)?;
    let body = open_quote(keys, &quote)?;
    rules::quote_rate(&quote, &body, context).map_err(WalletError::rule("the quote's rate"))?;
    Ok(Some(QuoteView { quote, body }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_plain_decimals_only() {
        for (text, value) in [
            ("12", Some((12, 0))),
            ("0.050", Some((50, 3))),
            ("", None),
            (".5", None),
            ("-1", None),
            ("1e3", None),
            ("1.2.3", None),
        ] {
            assert_eq!(decimal(text), value, "{text}");
        }
    }
}
