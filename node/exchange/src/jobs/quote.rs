//! The source quotes: what is in the scope, the tests in it, the fee; sealed to the patient.

use std::collections::BTreeSet;
use std::sync::Arc;

use handover_core::artefact::Verified;
use handover_core::artefact::patient::{Consent, Scope};
use handover_core::artefact::transfer::{
    CARRIED_MAX_BYTES, Continues, Payer, QUOTE_LIFE_MS, Quote, QuoteBody,
};
use handover_core::codec::{self, Bytes, Extensions, MAX_MESSAGE_BYTES};
use handover_core::message::{QUOTE_INFO, REQUEST_SCOPE_LABEL, part_binding};
use handover_core::rules::{Context, RequestEvidence};
use handover_core::{Code, Digest, Random, Timestamp, TransferId};
use handover_dossier::{Dossier, DossierError, Row, Taken};
use handover_records::{Action, Filter, LocalPatient, Permit, RecordRef, RecordVersionRef};
use handover_seal::part::open_part;
use handover_seal::{OsRandom, Remembered, RsaPublicKey, hpke_seal_padded};
use handover_store::{KeyMaker, Txn};

use super::price;
use crate::ExchangeError;
use crate::bodies::{self, Priced};
use crate::charged::Account;
use crate::context::{Came, Inner};
use crate::recalled::of_records;
use crate::selection::{self, Chosen};
use crate::{fees, referrals};

pub(super) async fn quote(inner: &Arc<Inner>, row: &Row) -> Result<(), ExchangeError> {
    let on = request(inner, row).await?;
    let aad = part_binding(REQUEST_SCOPE_LABEL, &row.transfer);
    let scope = open_part(&inner.parts.identity.ring, &aad, on.request.sealed.as_ref())?;
    let scope: Scope = codec::decode(&scope, MAX_MESSAGE_BYTES)?;
    let (permit, patient) = super::permit(inner, row, Action::Export).await?;
    let everything = snapshot(inner, &permit, &patient).await?;
    let in_scope = |it: &&RecordVersionRef| scope.contains(&it.department, it.date, it.is_restricted);
    let records = selection::as_fit(everything.iter().filter(in_scope));
    if records.is_empty() {
        return Err(Code::NothingInScope.into());
    }
    if records.len() < everything.iter().filter(in_scope).count() {
        return Err(Code::TooLarge.into());
    }
    let referral = referral(inner, &on).await?;
    let payer = if referral.is_some() { Payer::Hospital } else { Payer::Patient };
    let account = Account { patient, reference: row.patient, payer, destination: row.destination.clone() };
    let now = inner.now();
    let schedule = price::schedule(inner, now)?;
    let (whose, of) = ((&account, row.transfer), (&everything[..], &records[..]));
    let priced = price::price(inner, &permit, of, scope, whose, &schedule).await?;
    let quote = sign(inner, &on, &priced.body, Terms { referral, ..Terms::of(row.transfer, now) })?;
    let chosen = chosen(&everything, &records, &priced);
    let drawn = Drawn { quote, priced, chosen };
    store(inner, drawn, Seen { permit, everything }).await
}

/// The quote with which a delivery under a continuous consent begins: of what is new or changed, `records`.
pub(super) async fn delivery(
    inner: &Arc<Inner>,
    permit: &Permit,
    patient: LocalPatient,
    records: (&[RecordVersionRef], &[RecordVersionRef]),
    scope: Scope,
    (on, consent): (&RequestEvidence, &Verified<Consent>),
) -> Result<Drawn, ExchangeError> {
    let now = inner.now();
    let transfer = TransferId::new(now, OsRandom.array());
    let account = Account {
        patient,
        reference: on.ask.patient,
        payer: Payer::Patient,
        destination: consent.destination.clone(),
    };
    let schedule = price::schedule(inner, now)?;
    let priced = price::price(inner, permit, records, scope, (&account, transfer), &schedule).await?;
    let continues =
        Continues { consent: consent.hash(), origin: consent.transfer, extensions: Extensions::default() };
    let terms = Terms { continues: Some(continues), ..Terms::of(transfer, now) };
    let quote = sign(inner, on, &priced.body, terms)?;
    let chosen = chosen(records.0, records.1, &priced);
    Ok(Drawn { quote, priced, chosen })
}

/// The versions that a quote is about: `records`, and those of its other tests among `everything`.
pub(super) fn chosen(
    everything: &[RecordVersionRef],
    records: &[RecordVersionRef],
    priced: &Priced,
) -> Chosen {
    let others: BTreeSet<&str> = priced.charged_others().map(|line| line.record.as_str()).collect();
    let is_other = |record: &&RecordVersionRef| {
        price::test_reference(record).is_some_and(|test| others.contains(test.as_str()))
    };
    let references = |records: &mut dyn Iterator<Item = &RecordVersionRef>| {
        records.map(|record| record.reference).collect()
    };
    Chosen {
        records: references(&mut records.iter()),
        others: references(&mut everything.iter().filter(is_other)),
    }
}

/// The request and its ask.
pub(super) async fn request(inner: &Arc<Inner>, row: &Row) -> Result<RequestEvidence, ExchangeError> {
    let (keys, transfer, federation) = (inner.keys(), row.transfer, inner.federation()?);
    Ok(inner
        .parts
        .store
        .read(move |txn| -> Result<_, DossierError> {
            let context = Context { federation: &federation, verifier: &Remembered };
            Dossier::of(txn, &keys, transfer).request(context)
        })
        .await?)
}

/// This hospital's referral of the patient to the one that asks, if one stands.
async fn referral(inner: &Arc<Inner>, on: &RequestEvidence) -> Result<Option<Bytes>, ExchangeError> {
    let (keys, now) = (inner.keys(), inner.now());
    let (patient, destination) = (on.ask.patient, on.request.destination.clone());
    Ok(inner
        .parts
        .store
        .read(move |txn| referrals::standing(txn, &keys, &patient, &destination, now))
        .await?)
}

/// Everything current of a patient.
pub(super) async fn snapshot(
    inner: &Arc<Inner>,
    permit: &Permit,
    patient: &LocalPatient,
) -> Result<Vec<RecordVersionRef>, ExchangeError> {
    Ok(inner.parts.records.snapshot(permit, inner.now(), patient, &Filter::default()).await?)
}

/// What a quote is for.
pub(super) struct Terms {
    transfer: TransferId,
    referral: Option<Bytes>,
    narrows: Option<Digest>,
    continues: Option<Continues>,
    issued: Timestamp,
    priced: Timestamp,
}

impl Terms {
    const fn of(transfer: TransferId, now: Timestamp) -> Self {
        Self { transfer, referral: None, narrows: None, continues: None, issued: now, priced: now }
    }

    /// Of the final quote that narrows this one.
    pub(super) fn narrowing(first: &Verified<Quote>, now: Timestamp) -> Self {
        Self {
            transfer: first.transfer,
            referral: first.referral.clone(),
            narrows: Some(first.hash()),
            continues: first.continues.clone(),
            issued: now,
            priced: first.priced,
        }
    }
}

/// Seals a body to the patient, and with a referral the fee to the destination, and signs the quote around it.
pub(super) fn sign(
    inner: &Arc<Inner>,
    on: &RequestEvidence,
    body: &QuoteBody,
    Terms { transfer, referral, narrows, continues, issued, priced }: Terms,
) -> Result<Verified<Quote>, ExchangeError> {
    let plain = codec::encode(body);
    let sealed_to_payer = match &referral {
        None => None,
        Some(_) => {
            let federation = inner.federation()?;
            let payer = &federation.active(&on.request.destination, issued)?.profile.rsa_key;
            let payer = RsaPublicKey::from_spki_der(payer.as_ref())?;
            Some(fees::seal_offer(body.fee, &transfer, &payer)?.into())
        }
    };
    let quote = Quote {
        transfer,
        patient: on.ask.patient,
        source: on.request.source.clone(),
        destination: on.request.destination.clone(),
        request: on.request.hash(),
        commitment: Digest::sha256(&[&plain]),
        sealed: hpke_seal_padded(
            &on.keys.newest().sealing_key,
            QUOTE_INFO,
            transfer.as_bytes(),
            &plain,
            &mut OsRandom,
        )?
        .into(),
        narrows,
        request_key: on.request.request_key,
        issued,
        expires: issued.plus_ms(QUOTE_LIFE_MS),
        referral,
        sealed_to_payer,
        priced,
        continues,
        extensions: Extensions::default(),
    };
    let quote = Verified::sign(quote, &inner.parts.identity.signing);
    if quote.envelope().len() > CARRIED_MAX_BYTES {
        return Err(Code::TooLarge.into());
    }
    Ok(quote)
}

/// A quote as it is kept: with its body, and the record versions that it is about.
pub(super) struct Drawn {
    pub(super) quote: Verified<Quote>,
    pub(super) priced: Priced,
    pub(super) chosen: Chosen,
}

impl Drawn {
    /// Keeps all of it, in a transaction of the caller's.
    pub(super) fn keep(
        &self,
        inner: &Inner,
        txn: &mut dyn Txn,
        keys: &KeyMaker,
        context: Context<'_>,
        now: Timestamp,
    ) -> Result<Taken, DossierError> {
        let transfer = self.quote.transfer;
        if codec::encode(&self.priced).len() > bodies::KEPT_MAX_BYTES {
            return Err(Code::TooLarge.into());
        }
        selection::put(txn, keys, transfer, &self.chosen)?;
        bodies::put(txn, &inner.parts.keyring, keys, transfer, &self.priced)?;
        inner.take_in(txn, keys, transfer, self.quote.envelope(), Came::Own, context, now)
    }
}

/// A patient's records as they were read before a quote was priced, and the permit to.
pub(super) struct Seen {
    pub(super) permit: Permit,
    pub(super) everything: Vec<RecordVersionRef>,
}

impl Seen {
    /// In the transaction that keeps the quote: what changed while it was priced is looked at once more, now that it is
    /// known to be sent as it was, and so is recalled.
    pub(super) fn note_changes(
        &self,
        inner: &Inner,
        txn: &mut dyn Txn,
        chosen: &Chosen,
        now: Timestamp,
    ) -> Result<(), DossierError> {
        let chosen: BTreeSet<RecordRef> = chosen.all().collect();
        let seen: Vec<RecordVersionRef> =
            self.everything.iter().filter(|record| chosen.contains(&record.reference)).cloned().collect();
        let noted = inner.parts.records.note_changes_in(txn, &self.permit, now, &seen);
        noted.map_err(of_records)
    }
}

async fn store(inner: &Arc<Inner>, drawn: Drawn, seen: Seen) -> Result<(), ExchangeError> {
    let (work, keys, federation, now) = (Arc::clone(inner), inner.keys(), inner.federation()?, inner.now());
    let taken = inner
        .parts
        .store
        .write(move |txn| {
            let context = Context { federation: &federation, verifier: &Remembered };
            seen.note_changes(&work, txn, &drawn.chosen, now)?;
            drawn.keep(&work, txn, &keys, context, now)
        })
        .await?;
    inner.wake(&taken);
    Ok(())
}
