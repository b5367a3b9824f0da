//! A patient whose keys a test holds: signs what it wants, and speaks to the nodes over HTTPS as a wallet does.

use anyhow::{Context, Result, anyhow};
use handover_core::artefact::Verified;
use handover_core::artefact::patient::{
    Ask, AskKind, Consent, ConsentDetails, ConsentMode, LOCATE_LIFE_MS, PatientLink, PurposeOfUse,
    Revocation, ShareRelease, TRANSFER_ASK_LIFE_MS, link_code_proof,
};
use handover_core::artefact::transfer::{Quote, QuoteBody};
use handover_core::codec;
use handover_core::message::{CONSENT_DETAILS_LABEL, QUOTE_INFO, part_binding};
use handover_core::time::{DAY_MS, MINUTE_MS};
use handover_core::trust::Federation;
use handover_core::{Code, Digest, HospitalId, Random as _, TransferId};
use handover_patient::node::NodeClient;
use handover_scenarios::world::World;
use handover_seal::part::seal_part;
use handover_seal::shares::seal_grant_key;
use handover_seal::{OsRandom, RsaPublicKey, SealingKey, hpke_open_padded};

use serde_json::Value;

use super::{none, now};
use crate::fixture::Patient;

/// A patient.
pub struct Person {
    /// Their keys.
    pub keys: Patient,
    /// The FHIR Patient's id, which is the hospitals' own identifier too.
    pub local: String,
}

/// A consent with what only its patient knows.
pub struct Yes {
    /// The consent.
    pub consent: Verified<Consent>,
    /// Opens the patient's share.
    pub grant: SealingKey,
    /// What takes it back.
    pub revocation: Revocation,
}

/// The HTTPS endpoint of a hospital's node.
///
/// # Errors
/// It does not run.
pub fn endpoint(world: &World, hospital: &str) -> Result<NodeClient> {
    let ready = world.ready(hospital)?;
    let value = |key: &str| {
        ready.get(key).and_then(Value::as_str).with_context(|| format!("no {key} in the ready line"))
    };
    let certificate = std::fs::read_to_string(value("certificate")?)?;
    Ok(NodeClient::new(value("web")?, &certificate)?)
}

impl Person {
    /// The patient of a number, who is `local` to the hospitals.
    #[must_use]
    pub fn new(number: u32, local: &str) -> Self {
        Self { keys: Patient::since(number, now()), local: local.to_owned() }
    }

    /// Registers at a desk; the link code.
    ///
    /// # Errors
    /// The desk says no.
    pub fn register(&self, world: &World, hospital: &str) -> Result<String> {
        let registered = world.node(hospital, &["patient", "register", &self.local])?.json()?;
        Ok(registered.get("link_code").and_then(Value::as_str).context("no link code")?.to_owned())
    }

    /// A link that proves a code.
    #[must_use]
    pub fn linking(&self, hospital: &HospitalId, code: &str) -> Verified<PatientLink> {
        let link = PatientLink {
            patient: self.keys.reference(),
            hospital: hospital.clone(),
            key_records: self.keys.records.clone(),
            code_proof: link_code_proof(code, &self.keys.reference(), hospital),
            issued: now(),
            extensions: none(),
        };
        Verified::sign(link, &self.keys.signing)
    }

    /// Registers and links.
    ///
    /// # Errors
    /// The hospital says no.
    pub fn link(&self, world: &World, hospital: &str) -> Result<()> {
        let code = self.register(world, hospital)?;
        let link = self.linking(&hospital.parse()?, &code);
        endpoint(world, hospital)?.link(link.envelope())?;
        Ok(())
    }

    /// An ask for a transfer, good from now on.
    #[must_use]
    pub fn asking(&self, source: &HospitalId, destination: &HospitalId) -> Ask {
        Ask {
            kind: AskKind::Transfer,
            patient: self.keys.reference(),
            key_records: self.keys.records.clone(),
            nonce: OsRandom.array(),
            transfer: Some(TransferId::new(now(), OsRandom.array())),
            source: Some(source.clone()),
            destination: Some(destination.clone()),
            issued: now(),
            expires: now().plus_ms(TRANSFER_ASK_LIFE_MS),
            extensions: none(),
        }
    }

    /// An inbox question to a hospital, or a locate question.
    #[must_use]
    pub fn question(&self, inbox_of: Option<&HospitalId>) -> Ask {
        Ask {
            kind: if inbox_of.is_some() { AskKind::Inbox } else { AskKind::Locate },
            patient: self.keys.reference(),
            key_records: self.keys.records.clone(),
            nonce: OsRandom.array(),
            transfer: None,
            source: None,
            destination: inbox_of.cloned(),
            issued: now(),
            expires: now().plus_ms(LOCATE_LIFE_MS),
            extensions: none(),
        }
    }

    /// Signs an ask.
    #[must_use]
    pub fn signed(&self, ask: Ask) -> Verified<Ask> {
        Verified::sign(ask, &self.keys.signing)
    }

    /// Opens a quote.
    ///
    /// # Errors
    /// It is not sealed to this patient.
    pub fn read(&self, quote: &Quote) -> Result<QuoteBody> {
        let plain = hpke_open_padded(
            &self.keys.sealing,
            QUOTE_INFO,
            quote.transfer.as_bytes(),
            quote.sealed.as_ref(),
        )?;
        Ok(codec::decode(&plain, codec::MAX_MESSAGE_BYTES)?)
    }

    /// Says yes to a quote, or to what `change` makes of it.
    ///
    /// # Errors
    /// A hospital of it is not in the directory.
    pub fn consent(
        &self,
        quote: &Verified<Quote>,
        body: &QuoteBody,
        federation: &Federation,
        change: impl FnOnce(&mut ConsentDetails, &mut Consent),
    ) -> Result<Yes> {
        let member = |hospital| federation.member(hospital).map_err(|code: Code| anyhow!("{code}"));
        let (source, destination) = (member(&quote.source)?, member(&quote.destination)?);
        let (grant, secret) = (SealingKey::generate(&mut OsRandom), OsRandom.array::<32>());
        let mut details = ConsentDetails {
            scope: body.scope.clone(),
            purpose: PurposeOfUse::Treatment,
            salt: OsRandom.array(),
            extensions: none(),
        };
        let mut consent = Consent {
            transfer: quote.transfer,
            patient: self.keys.reference(),
            key_record: self.keys.record.hash(),
            quote: quote.hash(),
            source: quote.source.clone(),
            destination: quote.destination.clone(),
            destination_key: destination.certificate.key.thumbprint(),
            details: Digest::sha256(&[]),
            sealed_to_source: Vec::new().into(),
            sealed_to_destination: Vec::new().into(),
            not_before: now().plus_ms(-MINUTE_MS),
            expires: now().plus_ms(DAY_MS),
            mode: ConsentMode::OneTime,
            fee_cap: body.fee,
            grant_key: grant.public(),
            revocation: Digest::sha256(&[&secret]),
            issued: now(),
            extensions: none(),
        };
        change(&mut details, &mut consent);
        let opened = codec::encode(&details);
        let binding = part_binding(CONSENT_DETAILS_LABEL, &quote.transfer);
        let sealed = |key: &codec::Bytes| {
            seal_part(&RsaPublicKey::from_spki_der(key.as_ref())?, &binding, &opened, &mut OsRandom)
        };
        consent.details = Digest::sha256(&[&opened]);
        consent.sealed_to_source = sealed(&source.profile.rsa_key)?.into();
        consent.sealed_to_destination = sealed(&destination.profile.rsa_key)?.into();
        let consent = Verified::sign(consent, &self.keys.signing);
        let revocation = Revocation {
            transfer: quote.transfer,
            consent: consent.hash(),
            preimage: secret,
            extensions: none(),
        };
        Ok(Yes { consent, grant, revocation })
    }

    /// Releases the patient's share of a consent.
    ///
    /// # Errors
    /// The request's key is none.
    pub fn release(&self, yes: &Yes, quote: &Quote) -> Result<Verified<ShareRelease>> {
        let hash = yes.consent.hash();
        let sealed = seal_grant_key(&yes.grant, &quote.request_key, &hash, &mut OsRandom)?;
        let release = ShareRelease {
            transfer: quote.transfer,
            consent: hash,
            patient: self.keys.reference(),
            destination: quote.destination.clone(),
            sealed: sealed.into(),
            issued: now(),
            request_key: quote.request_key,
            extensions: none(),
        };
        Ok(Verified::sign(release, &self.keys.signing))
    }
}
