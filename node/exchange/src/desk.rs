//! What clerks do: register and link patients, turn a patient's ask into a request, look at transfers, send again.

use std::time::Duration;

use handover_core::artefact::patient::{Ask, AskKind, PatientLink, Scope};
use handover_core::artefact::transfer::{Payer, QuoteBody, TransferRequest};
use handover_core::artefact::{Countersigned, Signed, Verified};
use handover_core::codec::{self, Bytes, Extensions};
use handover_core::id::SigningPublic;
use handover_core::message::{REQUEST_SCOPE_LABEL, part_binding};
use handover_core::rules::{self, Context};
use handover_core::transfer::Phase;
use handover_core::{Amount, Code, Department, HospitalId, PatientRef, Timestamp, TransferId, cbor_map};
use handover_dossier::{Dossier, DossierError, Kind, Row};
use handover_records::{Action, Departments, GrantRequest, LocalPatient, Permit, Purpose, Subject};
use handover_seal::part::seal_part;
use handover_seal::{Ed25519, OsRandom, RsaPublicKey, SealingKey};
use handover_store::{KeyMaker, StoreError, Txn, rows};

use crate::context::{Came, Inner};
use crate::outbox::{self, Target};
use crate::{Exchange, ExchangeError, bodies, links, secrets};

const ASKED: &str = "asked";
/// Asks that may wait for the desk.
const ASKS_MAX: usize = 1_000;
/// Those of one patient.
const ASKS_PER_PATIENT: usize = 10;

/// A patient's ask that waits for the desk.
#[derive(Clone, Debug)]
pub struct Asked {
    /// The transfer it is for.
    pub transfer: TransferId,
    /// Who asks.
    pub patient: PatientRef,
    /// Who holds the records.
    pub source: HospitalId,
    /// Until when it is good.
    pub expires: Timestamp,
}

/// What this hospital knows of what was sent.
#[derive(Clone, Debug)]
pub struct TransferDetails {
    /// Records by department.
    pub departments: Vec<(Department, u64)>,
    /// All records.
    pub records: u64,
    /// Tests with a price.
    pub tests_priced: u64,
    /// Tests without.
    pub tests_unpriced: u64,
    /// Sum of the prices, exact.
    pub basis: String,
    /// The fee.
    pub fee: Amount,
    /// Who owes it.
    pub payer: Payer,
    /// Bytes of the package as it travels; none before it is sealed.
    pub package_bytes: Option<u64>,
}

/// A transfer as the desk sees it.
#[derive(Clone, Debug)]
pub struct TransferView {
    /// Its state.
    pub row: Row,
    /// Its artefacts, whole.
    pub artefacts: Vec<(Kind, Vec<u8>)>,
    /// Parcels of it that were refused for good.
    pub dead_letters: usize,
    /// Parcels of it that wait.
    pub waiting: usize,
    /// What is known of its content here.
    pub details: Option<TransferDetails>,
}

cbor_map! {
    /// An ask as it waits.
    struct AskRow {
        /// The whole envelope.
        1 => ask: Bytes,
        /// When it came.
        2 => since: Timestamp,
    }
}

impl Exchange {
    fn inner(&self) -> &std::sync::Arc<Inner> {
        &self.0
    }

    /// The hospital's signing key, whose short code patients compare.
    #[must_use]
    pub fn signing_key(&self) -> SigningPublic {
        self.0.parts.identity.signing.public()
    }

    /// Registers a patient at the desk; gives the code with which they link themselves.
    ///
    /// # Errors
    /// The records room's.
    pub async fn register_patient(
        &self,
        staff: &str,
        patient: &LocalPatient,
    ) -> Result<String, ExchangeError> {
        let records = &self.0.parts.records;
        let subject = Subject::Staff { name: staff.to_owned() };
        let permit = self.link_permit(subject, patient).await?;
        records.register(&permit, self.0.now(), patient).await?;
        let code = records.new_link_code(&permit, self.0.now(), patient, &mut OsRandom).await?;
        links::keep(&self.0.parts.store, &code, self.0.now()).await?;
        Ok(code)
    }

    async fn link_permit(&self, subject: Subject, patient: &LocalPatient) -> Result<Permit, ExchangeError> {
        let purpose = if matches!(subject, Subject::Staff { .. }) {
            Purpose::Administration
        } else {
            Purpose::PatientAccess
        };
        let request = GrantRequest {
            subject,
            action: Action::Link,
            purpose,
            patient: Some(patient.clone()),
            departments: Departments::All,
            transfer: None,
        };
        Ok(self.0.parts.records.audit().permit(request, self.0.now()).await?)
    }

    /// Links a patient who proves the desk's code; gives the link with the hospital's signature, and tells the index.
    ///
    /// # Errors
    /// [`Code::LinkCodeWrong`], and why the link does not verify.
    pub async fn link(&self, envelope: Vec<u8>) -> Result<Vec<u8>, ExchangeError> {
        let (inner, now) = (self.inner(), self.0.now());
        if envelope.len() > links::LINK_MAX_BYTES {
            return Err(Code::TooLarge.into());
        }
        let link = rules::link_claim(&envelope, inner.own(), &Ed25519)?;
        let keys = rules::patient_keys(link.key_record.as_ref(), &link.patient, &Ed25519)?;
        let records = &inner.parts.records;
        if let Some(known) = links::signed(&inner.parts.store, &link).await? {
            return Ok(known);
        }
        let code = links::find(&inner.parts.store, &link, now).await?;
        let patient = records.redeem(&code, link.patient, now).await?;
        let permit = self.link_permit(Subject::Patient(link.patient), &patient).await?;
        records.link(&permit, now, link.patient, &patient, keys.number, link.key_record.as_ref()).await?;
        let signed = Countersigned::<PatientLink>::sign(&link, &inner.parts.identity.signing);
        links::finish(&inner.parts.store, &link, &code, &signed).await?;
        inner.links.notify_one();
        Ok(signed)
    }

    /// Takes a patient's ask for a transfer to this hospital, by file or from their wallet.
    ///
    /// # Errors
    /// Why it is not one.
    pub async fn take_ask(&self, envelope: Vec<u8>) -> Result<TransferId, ExchangeError> {
        let (inner, now) = (self.inner(), self.0.now());
        let ask = rules::ask(&envelope, AskKind::Transfer, &Ed25519)?;
        rules::ask_in_time(&ask, now)?;
        let transfer = ask.transfer.ok_or(Code::AskMismatch)?;
        if ask.destination.as_ref() != Some(inner.own()) || ask.source.as_ref() == Some(inner.own()) {
            return Err(Code::AskMismatch.into());
        }
        if let Some(source) = &ask.source {
            inner.federation()?.active(source, now)?;
        }
        inner.parts.records.by_ref(ask.patient).await?.ok_or(Code::NotLinked)?;
        let patient = ask.patient;
        let row = AskRow { ask: envelope.into(), since: now, extensions: Extensions::default() };
        let keys = inner.keys();
        inner
            .parts
            .store
            .write(move |txn| -> Result<(), ExchangeError> {
                let key = keys.space(ASKED).raw(transfer.as_bytes()).build();
                if let Some(kept) = rows::get::<AskRow>(txn, &key)? {
                    return if kept.ask == row.ask { Ok(()) } else { Err(Code::Conflict.into()) };
                }
                if Dossier::of(txn, &keys, transfer).row()?.is_some() {
                    return Ok(());
                }
                let mut others = Vec::new();
                for (key, value) in txn.scan(&keys.space(ASKED).build(), None, ASKS_MAX)? {
                    match asked(&value)? {
                        Some(other) if other.expires > now => others.push(other.patient),
                        _ => txn.remove(&key)?,
                    }
                }
                let own = others.iter().filter(|other| **other == patient).count();
                if others.len() >= ASKS_MAX || own >= ASKS_PER_PATIENT {
                    return Err(Code::Busy.into());
                }
                Ok(rows::put(txn, &key, &row)?)
            })
            .await?;
        inner.changed.send_modify(|count| *count = count.wrapping_add(1));
        Ok(transfer)
    }

    /// The asks that wait for the desk.
    ///
    /// # Errors
    /// The store's.
    pub async fn asks(&self) -> Result<Vec<Asked>, ExchangeError> {
        let (keys, now) = (self.0.keys(), self.0.now());
        let cells = self
            .0
            .parts
            .store
            .read(move |txn| -> Result<_, StoreError> {
                txn.scan(&keys.space(ASKED).build(), None, ASKS_MAX)
            })
            .await?;
        let mut asks = Vec::with_capacity(cells.len());
        for (_, value) in cells {
            asks.extend(asked(&value)?.filter(|ask| ask.expires > now));
        }
        Ok(asks)
    }

    /// Takes a patient's ask from the desk: nothing follows from it. They can ask again.
    ///
    /// # Errors
    /// [`Code::UnknownTransfer`] if no ask waits under this identifier.
    pub async fn dismiss(&self, transfer: TransferId) -> Result<(), ExchangeError> {
        let key = self.0.keys().space(ASKED).raw(transfer.as_bytes()).build();
        self.0
            .parts
            .store
            .write(move |txn| -> Result<(), ExchangeError> {
                txn.get(&key)?.ok_or(Code::UnknownTransfer)?;
                Ok(txn.remove(&key)?)
            })
            .await?;
        self.0.changed.send_modify(|count| *count = count.wrapping_add(1));
        Ok(())
    }

    /// Asks the source for the records, on the patient's ask. Asking again changes nothing.
    ///
    /// # Errors
    /// [`Code::UnknownTransfer`] if no ask waits under this identifier, and what a rule says.
    pub async fn request(&self, transfer: TransferId, scope: Scope) -> Result<Row, ExchangeError> {
        let inner = self.inner();
        if let Ok(row) = inner.row(transfer).await {
            return Ok(row);
        }
        let ask = self.waiting_ask(transfer).await?;
        let (federation, now) = (inner.federation()?, inner.now());
        let source = ask.source.clone().ok_or(Code::AskMismatch)?;
        federation.check_fresh(now)?;
        let profile = &federation.active(&source, now)?.profile;
        let rsa = RsaPublicKey::from_spki_der(profile.rsa_key.as_ref())?;
        let request_key = SealingKey::generate(&mut OsRandom);
        let aad = part_binding(REQUEST_SCOPE_LABEL, &transfer);
        let request = TransferRequest {
            transfer,
            source,
            destination: inner.own().clone(),
            ask: ask.envelope().to_vec().into(),
            request_key: request_key.public(),
            sealed: seal_part(&rsa, &aad, &codec::encode(&scope), &mut OsRandom)?.into(),
            issued: now,
            extensions: Extensions::default(),
        };
        let request = Verified::sign(request, &inner.parts.identity.signing);
        let (work, keys) = (std::sync::Arc::clone(inner), inner.keys());
        let taken = inner
            .parts
            .store
            .write(move |txn| -> Result<_, DossierError> {
                let context = Context { federation: &federation, verifier: &Ed25519 };
                secrets::put_request_key(txn, &work.parts.keyring, transfer, &request_key)?;
                txn.remove(&keys.space(ASKED).raw(transfer.as_bytes()).build())?;
                work.take_in(txn, &keys, transfer, request.envelope(), Came::Own, context, now)
            })
            .await?;
        inner.wake(&taken);
        Ok(taken.row)
    }

    async fn waiting_ask(&self, transfer: TransferId) -> Result<Verified<Ask>, ExchangeError> {
        let keys = self.0.keys();
        let row: AskRow = self
            .0
            .parts
            .store
            .read(move |txn| -> Result<_, StoreError> {
                rows::get(txn, &keys.space(ASKED).raw(transfer.as_bytes()).build())
            })
            .await?
            .ok_or(Code::UnknownTransfer)?;
        Ok(rules::ask(row.ask.as_ref(), AskKind::Transfer, &Ed25519)?)
    }

    /// Transfers, oldest first; `after` pages on.
    ///
    /// # Errors
    /// The store's.
    pub async fn transfers(
        &self,
        after: Option<TransferId>,
        limit: usize,
    ) -> Result<Vec<Row>, ExchangeError> {
        let keys = self.0.keys();
        Ok(self
            .0
            .parts
            .store
            .read(move |txn| -> Result<_, DossierError> { handover_dossier::list(txn, &keys, after, limit) })
            .await?)
    }

    /// One transfer with everything known of it here.
    ///
    /// # Errors
    /// [`Code::UnknownTransfer`].
    pub async fn transfer(&self, transfer: TransferId) -> Result<TransferView, ExchangeError> {
        let (keys, federation) = (self.0.keys(), self.0.federation().ok());
        let keyring = self.0.parts.keyring.clone();
        let (row, artefacts, body, package_bytes) = self
            .0
            .parts
            .store
            .read(move |txn| -> Result<_, ExchangeError> {
                let mut dossier = Dossier::of(txn, &keys, transfer);
                let row = dossier.row()?.ok_or(Code::UnknownTransfer)?;
                let mut artefacts = Vec::new();
                for kind in Kind::ALL {
                    artefacts.extend(dossier.get(*kind)?.map(|content| (*kind, content)));
                }
                let header = federation
                    .as_ref()
                    .and_then(|federation| dossier.header(Context { federation, verifier: &Ed25519 }).ok());
                let bytes = header.map(|header| {
                    header
                        .contents
                        .iter()
                        .fold(header.manifest.length, |sum, part| sum.saturating_add(part.length))
                });
                Ok((row, artefacts, bodies::get(txn, &keyring, &keys, transfer)?, bytes))
            })
            .await?;
        let of_this = |label: &outbox::Label| label.transfer == transfer;
        let (waiting, dead_letters) = outbox::count(&self.0.parts.store, of_this).await?;
        Ok(TransferView {
            row,
            artefacts,
            dead_letters,
            waiting,
            details: body.map(|body| details(body, package_bytes)),
        })
    }

    /// Sends a transfer's dead letters again; says how many.
    ///
    /// # Errors
    /// [`Code::UnknownTransfer`].
    pub async fn resend(&self, transfer: TransferId) -> Result<usize, ExchangeError> {
        self.0.row(transfer).await?;
        let count = outbox::revive(&self.0.parts.store, transfer).await?;
        self.0.outbox.notify_one();
        self.0.jobs.notify_one();
        Ok(count)
    }

    /// Waits until a transfer has reached a phase, or is over.
    ///
    /// # Errors
    /// [`Code::TimedOut`].
    pub async fn wait_for(
        &self,
        transfer: TransferId,
        phase: Phase,
        limit: Duration,
    ) -> Result<Row, ExchangeError> {
        let mut changes = self.0.changed.subscribe();
        let wait = async {
            loop {
                match self.0.row(transfer).await {
                    Ok(row) if row.state.phase >= phase || row.state.phase.is_final() => return Ok(row),
                    _ => {}
                }
                changes.changed().await.map_err(|_| ExchangeError::TaskEnded)?;
            }
        };
        tokio::time::timeout(limit, wait).await.map_err(|_| Code::TimedOut)?
    }

    /// How many parcels wait for the index and for hospitals.
    ///
    /// # Errors
    /// The store's.
    pub async fn backlog(&self) -> Result<(usize, usize), ExchangeError> {
        let store = &self.0.parts.store;
        let (index, _) = outbox::count(store, |label| label.target() == Target::Index).await?;
        let (hospitals, _) = outbox::count(store, |label| label.target() != Target::Index).await?;
        Ok((index, hospitals))
    }
}

/// Takes the asks of these patients from the desk.
pub(crate) fn drop_asks(
    txn: &mut dyn Txn,
    keys: &KeyMaker,
    patients: &[PatientRef],
) -> Result<(), StoreError> {
    for (key, value) in txn.scan(&keys.space(ASKED).build(), None, ASKS_MAX)? {
        if asked(&value)?.is_some_and(|ask| patients.contains(&ask.patient)) {
            txn.remove(&key)?;
        }
    }
    Ok(())
}

/// What an ask that waits says; it verified when it came. Nothing for one that cannot be read or used.
fn asked(row: &[u8]) -> Result<Option<Asked>, StoreError> {
    let row: AskRow = rows::read(row)?;
    let Ok(ask) = Signed::<Ask>::read(row.ask.as_ref()) else { return Ok(None) };
    let ask = ask.claim();
    Ok(match (ask.transfer, ask.source.clone()) {
        (Some(transfer), Some(source)) => {
            Some(Asked { transfer, patient: ask.patient, source, expires: ask.expires })
        }
        _ => None,
    })
}

fn details(body: QuoteBody, package_bytes: Option<u64>) -> TransferDetails {
    let unpriced = u64::from(body.unpriced);
    TransferDetails {
        departments: body.departments.into_iter().map(|it| (it.department, it.records)).collect(),
        records: body.records,
        tests_priced: (body.lines.len() as u64).saturating_sub(unpriced),
        tests_unpriced: unpriced,
        basis: body.basis,
        fee: body.fee,
        payer: body.payer,
        package_bytes,
    }
}
