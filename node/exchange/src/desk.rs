//! What clerks do: register and link patients, turn a patient's ask into a request, look at transfers, send again.

mod fee;
mod view;

use handover_core::artefact::patient::{Ask, AskKind, PatientLink, Scope};
use handover_core::artefact::transfer::TransferRequest;
use handover_core::artefact::{Countersigned, Signed, Verified};
use handover_core::codec::{self, Bytes, Extensions};
use handover_core::id::SigningPublic;
use handover_core::message::{REQUEST_SCOPE_LABEL, part_binding};
use handover_core::rules::{self, Context};
use handover_core::transfer::{FIRST_ATTEMPT, Phase, State};
use handover_core::{Code, HospitalId, KeyChain, PatientRef, Timestamp, TransferId, cbor_map};
use handover_dossier::{Dossier, DossierError, Kind, Row};
use handover_records::{Action, GrantRequest, LocalPatient, Permit, Purpose, RequestId, Subject};
use handover_seal::part::seal_part;
use handover_seal::{OsRandom, Remembered, RsaPublicKey, SealingKey};
use handover_store::{KeyMaker, StoreError, Txn, rows};

use crate::again::{RequestKey, again};
use crate::context::{Came, Inner};
use crate::links::UnknownLink;
use crate::outbox::Label;
use crate::{Exchange, ExchangeError, key_records, links, outbox, remote, secrets};

pub use fee::FeeOwed;
pub use view::{InFolder, Refused, TransferDetails, TransferView};

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

    /// Registers a patient at the desk; gives the code with which they link themselves: a fresh one, or always the
    /// same for the same request.
    ///
    /// # Errors
    /// The records room's.
    pub async fn register_patient(
        &self,
        staff: &str,
        patient: &LocalPatient,
        request: Option<&RequestId>,
    ) -> Result<String, ExchangeError> {
        let records = &self.0.parts.records;
        let subject = Subject::staff(staff);
        let permit = self.link_permit(subject, patient).await?;
        let now = self.0.now();
        let code = match request {
            None => {
                records.register(&permit, now, patient).await?;
                records.new_link_code(&permit, now, patient, &mut OsRandom).await?
            }
            Some(request) => {
                let requested = records.register_with_code(&permit, now, patient, request).await?;
                if requested.is_used {
                    return Ok(requested.code);
                }
                requested.code
            }
        };
        links::keep(&self.0.parts.store, &code, now).await?;
        Ok(code)
    }

    /// The links of patients that the index does not know: those that wait, and those that it refused.
    ///
    /// # Errors
    /// The store's.
    pub async fn unknown_links(&self) -> Result<Vec<UnknownLink>, ExchangeError> {
        links::unknown_to_index(&self.0.parts.store).await
    }

    /// Tells the index again of the links that it refused; says how many.
    ///
    /// # Errors
    /// The store's.
    pub async fn resend_links(&self) -> Result<usize, ExchangeError> {
        let count = links::revive(&self.0.parts.store).await?;
        self.0.links.notify_one();
        Ok(count)
    }

    async fn link_permit(&self, subject: Subject, patient: &LocalPatient) -> Result<Permit, ExchangeError> {
        let purpose = if matches!(subject, Subject::Staff { .. }) {
            Purpose::Administration
        } else {
            Purpose::PatientAccess
        };
        let request = GrantRequest::new(subject, Action::Link, purpose, Some(patient.clone()));
        Ok(self.0.parts.records.audit().permit(request, self.0.now()).await?)
    }

    /// Links a patient who proves the desk's code; gives the link with the hospital's signature, and tells the index. One
    /// to another hospital, to which this one vouched for the patient, is passed on.
    ///
    /// # Errors
    /// [`Code::LinkCodeWrong`]; [`Code::LinkedOtherwise`] while the reference is another patient's here, and the code
    /// stays good for it; why the link does not verify.
    pub async fn link(&self, envelope: Vec<u8>) -> Result<Vec<u8>, ExchangeError> {
        let (inner, now) = (self.inner(), self.0.now());
        if envelope.len() > links::LINK_MAX_BYTES {
            return Err(Code::TooLarge.into());
        }
        let claimed = Signed::<PatientLink>::read(&envelope).map_err(|fault| fault.code())?;
        if claimed.claim().hospital != *inner.own() {
            return remote::pass_link(inner, envelope).await;
        }
        let link = rules::link_claim(&envelope, inner.own(), &Remembered)?;
        let chain = KeyChain::of(&link.key_records, &link.patient, &Remembered)?;
        let records = &inner.parts.records;
        let is_linked = records.by_ref(link.patient).await?.is_some();
        // What was signed before a clerk took the link away holds no longer.
        if let Some(known) = links::signed(&inner.parts.store, &link).await?.filter(|_| is_linked) {
            return Ok(known);
        }
        // Before the code is used up: it may be another device's.
        self.admit_keys(chain.clone()).await?;
        let code = links::find(&inner.parts.store, &link, now).await?;
        let patient = records.redeem(&code, link.patient, now).await?;
        let permit = self.link_permit(Subject::Patient(link.patient), &patient).await?;
        let (keys, records, patient_ref) = (inner.keys(), records.clone(), link.patient);
        inner
            .parts
            .store
            .write(move |txn| -> Result<(), ExchangeError> {
                records.link_in(txn, &permit, now, patient_ref, &patient)?;
                Ok(key_records::begin(txn, &keys, &chain, now)?)
            })
            .await?;
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
        let ask = rules::ask(&envelope, AskKind::Transfer, &Remembered)?;
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
        let chain = KeyChain::of(&ask.key_records, &ask.patient, &Remembered)?;
        let row = AskRow { ask: envelope.into(), since: now, extensions: Extensions::default() };
        let keys = inner.keys();
        let is_owed = inner
            .parts
            .store
            .write(move |txn| -> Result<bool, ExchangeError> {
                let key = keys.space(ASKED).raw(transfer.as_bytes()).build();
                if let Some(kept) = rows::get::<AskRow>(txn, &key)? {
                    return if kept.ask == row.ask { Ok(false) } else { Err(Code::Conflict.into()) };
                }
                let mut dossier = Dossier::of(txn, &keys, transfer);
                if dossier.row()?.is_some() {
                    let asked = dossier.get(Kind::Request)?.map(|request| ask_of(&request)).transpose()?;
                    return if asked.is_none_or(|asked| asked == row.ask) {
                        Ok(false)
                    } else {
                        Err(Code::Conflict.into())
                    };
                }
                let is_owed = key_records::admit(txn, &keys, &chain, now)?;
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
                rows::put(txn, &key, &row)?;
                Ok(is_owed)
            })
            .await?;
        if is_owed {
            inner.links.notify_one();
        }
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

    /// Asks the source for the records, on the patient's ask. Asking again for the same gives the first answer, until
    /// the transfer is over whatever is asked for.
    ///
    /// # Errors
    /// [`ExchangeError::AskedOtherwise`] for another scope; [`Code::UnknownTransfer`] if no ask waits under this
    /// identifier, and what a rule says.
    pub async fn request(&self, transfer: TransferId, mut scope: Scope) -> Result<Row, ExchangeError> {
        let inner = self.inner();
        if let Some(departments) = &mut scope.departments {
            departments.sort();
            departments.dedup();
        }
        let (keys, again) = (inner.keys(), scope.clone());
        let asked = inner.parts.store.read(move |txn| requested(txn, &keys, transfer, &again)).await?;
        if let Some(row) = asked {
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
            .write(move |txn| -> Result<_, ExchangeError> {
                // Somebody else may have asked since it was looked at.
                if let Some(row) = requested(txn, &keys, transfer, &scope)? {
                    return Ok(Err(row));
                }
                let context = Context { federation: &federation, verifier: &Remembered };
                secrets::put_request_key(txn, &work.parts.keyring, transfer, &request_key)?;
                secrets::put_request_scope(txn, &keys, transfer, &scope)?;
                txn.remove(&keys.space(ASKED).raw(transfer.as_bytes()).build())?;
                Ok(Ok(work.take_in(txn, &keys, transfer, request.envelope(), Came::Own, context, now)?))
            })
            .await?;
        Ok(match taken {
            Ok(taken) => {
                inner.wake(&taken);
                taken.row
            }
            Err(row) => row,
        })
    }

    /// Asks for the next attempt of a transfer whose package, or the key to it, is lost here: the source seals again, and
    /// the patient releases again. Asking again for the same attempt changes nothing; without a number it is the one
    /// after the last that was sealed.
    ///
    /// # Errors
    /// [`Code::AccessDenied`] at the source; [`Code::OutOfOrder`] before something is sealed and after it is filed;
    /// [`Code::AttemptsExhausted`]; how the transfer ended.
    pub async fn ask_again(&self, transfer: TransferId, attempt: Option<u32>) -> Result<Row, ExchangeError> {
        let State { attempt: last, phase, .. } = self.0.row(transfer).await?.state;
        let is_asked = phase == Phase::Consented && last > FIRST_ATTEMPT;
        let next = if is_asked { last } else { last.saturating_add(1) };
        again(&self.0, transfer, attempt.unwrap_or(next), RequestKey::Fresh).await
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
        Ok(rules::ask(row.ask.as_ref(), AskKind::Transfer, &Remembered)?)
    }

    /// Sends a transfer's dead letters again, and with `all` everything of it to the index, which may have lost what it
    /// took; says how many.
    ///
    /// # Errors
    /// [`Code::UnknownTransfer`].
    pub async fn resend(&self, transfer: TransferId, all: bool) -> Result<usize, ExchangeError> {
        self.0.row(transfer).await?;
        let mut count = outbox::revive(&self.0.parts.store, transfer).await?;
        if all {
            let (keys, now) = (self.0.keys(), self.0.now());
            let copied = self.0.parts.store.write(move |txn| -> Result<_, DossierError> {
                let artefacts = Dossier::of(txn, &keys, transfer).all()?;
                for (_, content) in &artefacts {
                    outbox::push(txn, &keys, &Label::copy(transfer, now), content)?;
                }
                Ok(artefacts.len())
            });
            count = count.saturating_add(copied.await?);
        }
        self.0.outbox.notify_one();
        self.0.jobs.notify_one();
        Ok(count)
    }
}

/// The ask in a stored request.
fn ask_of(request: &[u8]) -> Result<Bytes, Code> {
    let request = Signed::<TransferRequest>::read(request).map_err(|fault| fault.code())?;
    Ok(request.claim().ask.clone())
}

/// A transfer that was asked for before, if it was.
///
/// # Errors
/// [`ExchangeError::AskedOtherwise`] if another scope was.
fn requested(
    txn: &mut dyn Txn,
    keys: &KeyMaker,
    transfer: TransferId,
    scope: &Scope,
) -> Result<Option<Row>, ExchangeError> {
    let Some(row) = Dossier::of(txn, keys, transfer).row()? else { return Ok(None) };
    match secrets::request_scope(txn, keys, transfer)? {
        Some(held) if held != *scope => Err(ExchangeError::asked_otherwise(&held, scope)),
        _ => Ok(Some(row)),
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
