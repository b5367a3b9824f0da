//! Saying yes, no, and no longer. A consent never reaches beyond the quote that it answers.

use handover_core::artefact::Verified;
use handover_core::artefact::patient::{
    Consent, ConsentDetails, ConsentMode, PatientRefusal, PurposeOfUse, Revocation, Scope, ShareRelease,
};
use handover_core::artefact::transfer::{CONSENT_MAX_LIFE_MS, Payer, QuoteBody};
use handover_core::codec::{self, Extensions};
use handover_core::id::SealingPublic;
use handover_core::message::{CONSENT_DETAILS_LABEL, part_binding};
use handover_core::time::HOUR_MS;
use handover_core::trust::Federation;
use handover_core::{Amount, Code, Department, Digest, Random, Timestamp, TransferId};
use handover_seal::part::seal_part;
use handover_seal::shares::seal_grant_key;
use handover_seal::{RsaPublicKey, SealingKey, Secret32};

use crate::{PatientKeys, QuoteView, WalletError};

/// How long a consent holds if nothing is said, in hours.
const DEFAULT_LIFE_HOURS: u32 = 72;
/// The same of a continuous one.
const CONTINUOUS_LIFE_HOURS: u32 = 90 * 24;

/// What a patient wants different from the whole quote.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wish {
    /// Only these departments.
    pub departments: Option<Vec<Department>>,
    /// Only records dated at or after this.
    pub from: Option<Timestamp>,
    /// Only records dated before this.
    pub until: Option<Timestamp>,
    /// Nothing that the old hospital marks as restricted.
    pub without_restricted: bool,
    /// The most that it may cost; the quoted fee if absent.
    pub fee_cap: Option<Amount>,
    /// How long the consent holds, in hours; if absent 72, or 90 days if continuous.
    pub life_hours: Option<u32>,
    /// Whatever is new or changed afterwards follows under it; all fees together are within the cap.
    pub continuous: bool,
}

/// What only the patient knows of a consent until it is used or taken back.
#[derive(Clone, Debug)]
pub struct ConsentSecrets {
    /// The grant key `sk_g`.
    pub grant: SealingKey,
    /// What takes the consent back when published.
    pub revocation: Secret32,
}

/// A consent as it was just made.
#[derive(Clone, Debug)]
pub struct ConsentDraft {
    /// The signed consent.
    pub consent: Verified<Consent>,
    /// What only the two hospitals read of it.
    pub details: ConsentDetails,
    /// Its secrets.
    pub secrets: ConsentSecrets,
}

/// The quote's scope, narrowed as wished; never wider.
///
/// # Errors
/// [`WalletError::NoSuchDepartment`] for one that the quote does not have, [`WalletError::EmptyPeriod`].
pub fn narrow(body: &QuoteBody, wish: &Wish) -> Result<Scope, WalletError> {
    let mut scope = body.scope.clone();
    if let Some(wanted) = &wish.departments {
        let quoted = |department: &Department| {
            body.departments.iter().any(|count| count.department == *department)
                && scope.departments.as_ref().is_none_or(|all| all.contains(department))
        };
        if let Some(other) = wanted.iter().find(|department| !quoted(department)) {
            return Err(WalletError::NoSuchDepartment(other.clone()));
        }
        let mut wanted = wanted.clone();
        wanted.sort();
        wanted.dedup();
        scope.departments = Some(wanted);
    }
    scope.without_restricted |= wish.without_restricted;
    scope.from = scope.from.max(wish.from);
    scope.until = match (scope.until, wish.until) {
        (Some(quoted), Some(wished)) => Some(quoted.min(wished)),
        (quoted, wished) => quoted.or(wished),
    };
    let nothing = scope.departments.as_ref().is_some_and(Vec::is_empty);
    let backwards = scope.from.zip(scope.until).is_some_and(|(from, until)| from >= until);
    if nothing || backwards {
        return Err(WalletError::EmptyPeriod);
    }
    Ok(scope)
}

/// The cap that a consent to this quote gets: as wished, else the quoted fee; nothing if the patient does not pay.
///
/// # Errors
/// [`WalletError::FeeCap`] for a negative one or another currency; [`WalletError::CapBelowFee`] if the quote cannot
/// come down to it.
pub fn fee_cap(body: &QuoteBody, scope: &Scope, wish: &Wish) -> Result<Amount, WalletError> {
    if body.payer != Payer::Patient {
        return Ok(Amount::zero(body.fee.currency()));
    }
    let Some(cap) = wish.fee_cap else { return Ok(body.fee) };
    if cap.currency() != body.fee.currency() {
        return Err(WalletError::FeeCap("is in another currency than the quote"));
    }
    if cap.minor() < 0 {
        return Err(WalletError::FeeCap("is negative"));
    }
    if cap.minor() < body.fee.minor() && *scope == body.scope {
        return Err(WalletError::CapBelowFee);
    }
    Ok(cap)
}

/// How long a consent as wished holds.
pub(crate) fn life_ms(wish: &Wish) -> i64 {
    let default_hours = if wish.continuous { CONTINUOUS_LIFE_HOURS } else { DEFAULT_LIFE_HOURS };
    i64::from(wish.life_hours.unwrap_or(default_hours)).saturating_mul(HOUR_MS)
}

/// For how many transfers a consent as wished is.
pub(crate) const fn mode(wish: &Wish) -> ConsentMode {
    if wish.continuous { ConsentMode::Continuous } else { ConsentMode::OneTime }
}

/// Signs a consent to a quote, within it, to hospitals that take part now; its details are sealed to each of them.
///
/// # Errors
/// [`WalletError`]: an expired quote or directory, a hospital that takes no part, a wish outside the quote.
pub fn make_consent(
    keys: &PatientKeys,
    view: &QuoteView,
    wish: &Wish,
    federation: &Federation,
    now: Timestamp,
    random: &mut dyn Random,
) -> Result<ConsentDraft, WalletError> {
    let (quote, body) = (&view.quote, &view.body);
    federation.check_fresh(now).map_err(WalletError::rule("the directory"))?;
    let source = federation.active(&quote.source, now).map_err(WalletError::rule("the source"))?;
    let destination =
        federation.active(&quote.destination, now).map_err(WalletError::rule("the destination"))?;
    if now >= quote.expires {
        return Err(WalletError::Rule { what: "the quote", code: Code::QuoteExpired });
    }
    if wish.continuous && body.payer == Payer::Hospital {
        return Err(WalletError::Rule { what: "the quote", code: Code::ContinuousReferred });
    }
    let scope = narrow(body, wish)?;
    let cap = fee_cap(body, &scope, wish)?;
    let life_ms = life_ms(wish);
    if life_ms == 0 || life_ms > CONSENT_MAX_LIFE_MS {
        return Err(WalletError::Life);
    }

    let mut salt = [0; 16];
    random.fill(&mut salt);
    let purpose = match body.payer {
        Payer::Patient => PurposeOfUse::PatientRequest,
        // The source referred them.
        Payer::Hospital => PurposeOfUse::Treatment,
    };
    let details = ConsentDetails { scope, purpose, salt, extensions: Extensions::default() };
    let encoded = codec::encode(&details);
    let binding = part_binding(CONSENT_DETAILS_LABEL, &quote.transfer);
    let mut sealed_to = |key: &codec::Bytes| {
        let key = RsaPublicKey::from_spki_der(key.as_ref())?;
        seal_part(&key, &binding, &encoded, random)
    };
    let sealed_to_source = sealed_to(&source.profile.rsa_key)?.into();
    let sealed_to_destination = sealed_to(&destination.profile.rsa_key)?.into();
    let secrets =
        ConsentSecrets { grant: SealingKey::generate(random), revocation: Secret32::generate(random) };
    let consent = Consent {
        transfer: quote.transfer,
        patient: keys.patient(),
        key_record: keys.record_hash(),
        quote: quote.hash(),
        source: quote.source.clone(),
        destination: quote.destination.clone(),
        destination_key: destination.certificate.key.thumbprint(),
        details: Digest::sha256(&[&encoded]),
        sealed_to_source,
        sealed_to_destination,
        not_before: now,
        expires: now.plus_ms(life_ms),
        mode: mode(wish),
        fee_cap: cap,
        grant_key: secrets.grant.public(),
        revocation: Digest::sha256(&[secrets.revocation.expose()]),
        issued: now,
        extensions: Extensions::default(),
    };
    Ok(ConsentDraft { consent: Verified::sign(consent, &keys.signing), details, secrets })
}

/// Signs the release of the grant key to the destination's request key, for this consent only.
///
/// # Errors
/// [`WalletError::Seal`] if the request key is not usable.
pub fn make_share_release(
    keys: &PatientKeys,
    consent: &Verified<Consent>,
    grant: &SealingKey,
    request_key: &SealingPublic,
    now: Timestamp,
    random: &mut dyn Random,
) -> Result<Verified<ShareRelease>, WalletError> {
    let release = ShareRelease {
        transfer: consent.transfer,
        consent: consent.hash(),
        patient: consent.patient,
        destination: consent.destination.clone(),
        sealed: seal_grant_key(grant, request_key, &consent.hash(), random)?.into(),
        issued: now,
        request_key: *request_key,
        extensions: Extensions::default(),
    };
    Ok(Verified::sign(release, &keys.signing))
}

/// Signs a no to a transfer.
#[must_use]
pub fn make_refusal(keys: &PatientKeys, transfer: TransferId, now: Timestamp) -> Verified<PatientRefusal> {
    let refusal =
        PatientRefusal { transfer, patient: keys.patient(), issued: now, extensions: Extensions::default() };
    Verified::sign(refusal, &keys.signing)
}

/// What takes a consent back. Whoever sees it can; it is not signed.
#[must_use]
pub fn make_revocation(consent: &Verified<Consent>, secrets: &ConsentSecrets) -> Revocation {
    Revocation {
        transfer: consent.transfer,
        consent: consent.hash(),
        preimage: *secrets.revocation.expose(),
        extensions: Extensions::default(),
    }
}

#[cfg(test)]
mod tests;
