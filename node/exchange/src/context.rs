//! What every part of the exchange works with, and how an artefact is taken in here.

mod coming;
mod directories;
pub(crate) mod labels;
mod own;
mod revocations;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::atomic::AtomicI64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use handover_core::artefact::Verified;
use handover_core::artefact::recall::RecallConfirmed;
use handover_core::artefact::transfer::{Payer, Quote, Refusal, Step};
use handover_core::codec::Extensions;
use handover_core::id::HospitalId;
use handover_core::rules::{self, Context};
use handover_core::time::Clock;
use handover_core::transfer::{Phase, Role};
use handover_core::trust::{Federation, Member};
use handover_core::{Amount, BreakGlassId, Code, Currency, Party, Timestamp, TransferId};
use handover_dossier::{Dossier, DossierError, Kind, Row, Taken};
use handover_ingest::charges::{Catalogue, PriceList};
use handover_net::{Net, Route};
use handover_parcel::Places;
use handover_records::Records;
use handover_seal::{KeyRing, Remembered, SigningKey};
use handover_store::{Blobs, KeyMaker, Keyring, Store, Txn};
use tokio::sync::Notify;

use crate::federation::Directories;
use crate::pauses::{Connected, Pauses, WorkPauses};
use crate::rejoin::{self, Gate};
use crate::wakes::Wakes;
use crate::{ExchangeError, books, continuous, fees, inboxes, left, outbox, recalled, secrets};

/// Who this node is.
pub struct Identity {
    /// The hospital.
    pub hospital: HospitalId,
    /// Its signing key.
    pub signing: SigningKey,
    /// Its RSA keys.
    pub ring: KeyRing,
}

/// What the exchange is started with.
pub struct Parts {
    /// Who this node is.
    pub identity: Identity,
    /// The store.
    pub store: Store,
    /// The store's secrets that can be forgotten.
    pub keyring: Keyring,
    /// The records.
    pub records: Records,
    /// Large content.
    pub blobs: Blobs,
    /// The held directory.
    pub directories: Directories,
    /// Which codes are tests.
    pub catalogue: Catalogue,
    /// What they cost.
    pub prices: PriceList,
    /// The hospital's currency.
    pub currency: Currency,
    /// Where packages lie while they arrive.
    pub incoming: PathBuf,
    /// The index's addresses, until a directory says others.
    pub index_addresses: Vec<String>,
    /// How long something may not come of what the index took to pass it on.
    pub index_patience: Duration,
    /// Fees up to this are accepted without asking anybody, when this hospital owes them.
    pub accepts_up_to: Option<Amount>,
    /// Whether packages for hospitals that are away are left in their folders at the index.
    pub leaves_packages: bool,
    /// Whether the store may speak for this hospital.
    pub gate: Gate,
    /// The clock.
    pub clock: Arc<dyn Clock>,
}

/// The exchange's working parts, shared by its tasks.
pub(crate) struct Inner {
    pub(crate) parts: Parts,
    /// The network, once started.
    pub(crate) net: std::sync::OnceLock<Net>,
    /// When the index last came or went, in milliseconds since the epoch.
    pub(crate) index_changed: AtomicI64,
    /// A link waits for the index.
    pub(crate) links: Notify,
    /// A remote link was vouched for, or somebody may have come back.
    pub(crate) remote: Notify,
    /// Something is left to be done about a break-glass.
    pub(crate) glass: Notify,
    /// The index may have something new in its books.
    pub(crate) books: Notify,
    /// They are looked at by one at a time.
    pub(crate) reconciling: tokio::sync::Mutex<()>,
    /// One at a time tells the index of all patients again.
    pub(crate) telling_again: tokio::sync::Mutex<()>,
    /// One at a time has the index asked whether a signer is new: who waits for that keeps others' place.
    pub(crate) judging_again: Arc<tokio::sync::Mutex<()>>,
    /// Something is in the outbox.
    pub(crate) outbox: Notify,
    /// Somebody connected: what waited for them goes out.
    pub(crate) connected: Connected,
    /// Parcels that have to wait, and work that has to.
    pub(crate) pauses: Mutex<Pauses>,
    pub(crate) work_pauses: Mutex<WorkPauses>,
    /// Break-glasses that a clinician waits for at this moment: they are not asked for a second time beside that.
    pub(crate) asking: Mutex<BTreeSet<BreakGlassId>>,
    /// Break-glasses that are answered at this moment: each is answered once at a time.
    pub(crate) answering: Mutex<BTreeMap<BreakGlassId, Arc<tokio::sync::Mutex<()>>>>,
    /// Transfers whose package is arriving at this moment.
    pub(crate) receiving: Mutex<BTreeSet<TransferId>>,
    pub(crate) receiving_places: Places,
    /// Something may be due.
    pub(crate) jobs: Notify,
    /// What wakes deliveries under continuous consents.
    pub(crate) wakes: Wakes,
    /// Something that was sent may have to be recalled.
    pub(crate) recalls: Notify,
    /// A transfer changed.
    pub(crate) changed: tokio::sync::watch::Sender<u64>,
}

impl Parts {
    /// Signs in the edition that the directory says is in force.
    pub(crate) fn sign_in_force(&self) {
        if let Ok(held) = self.directories.held() {
            self.identity.signing.signs_in().set(held.directory().edition);
        }
    }
}

/// Where an artefact came from.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Came {
    /// From another process: it has told everyone itself.
    Network,
    /// From the patient, to this node: it goes on from here.
    Patient,
    /// Made here.
    Own,
}

impl Inner {
    pub(crate) fn now(&self) -> Timestamp {
        self.parts.clock.now()
    }

    pub(crate) fn keys(&self) -> KeyMaker {
        self.parts.store.keys()
    }

    pub(crate) fn own(&self) -> &HospitalId {
        &self.parts.identity.hospital
    }

    /// Parcels that have to wait.
    pub(crate) fn pauses(&self) -> MutexGuard<'_, Pauses> {
        self.pauses.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Work that has to wait.
    pub(crate) fn work_pauses(&self) -> MutexGuard<'_, WorkPauses> {
        self.work_pauses.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The directory and how to verify under it.
    pub(crate) fn federation(&self) -> Result<Arc<Federation>, Code> {
        self.parts.directories.held()
    }

    /// The way to a hospital, if it takes part now.
    pub(crate) fn route_to(&self, hospital: &HospitalId) -> Result<Route, Code> {
        let federation = self.federation()?;
        let Member { profile, .. } = federation.active(hospital, self.now())?;
        Ok(Route { party: Party::Hospital(hospital.clone()), addresses: profile.addresses.clone() })
    }

    /// The way to the index.
    pub(crate) fn route_to_index(&self) -> Route {
        let mut addresses = self.parts.index_addresses.clone();
        if let Ok(federation) = self.federation() {
            addresses.extend(federation.directory().addresses.iter().cloned());
        }
        addresses.sort();
        addresses.dedup();
        Route { party: Party::Index, addresses }
    }

    /// [`Self::take`] inside a transaction.
    #[expect(
        clippy::too_many_arguments,
        reason = "a transaction's closure brings each of these from outside"
    )]
    pub(crate) fn take_in(
        &self,
        txn: &mut dyn Txn,
        keys: &KeyMaker,
        transfer: TransferId,
        content: &[u8],
        from: Came,
        context: Context<'_>,
        now: Timestamp,
    ) -> Result<Taken, DossierError> {
        let (role, other) = self.sides(&mut Dossier::of(txn, keys, transfer), content)?;
        if from == Came::Own {
            self.parts.gate.may_sign(&other)?;
            self.may_still_sign(context.federation)?;
        }
        // What lies at the index may be released there: a no is kept, and ends the transfer once that is known.
        let is_out = role == Role::Source && left::last_out(txn, keys, transfer)?.is_some();
        let mut dossier = Dossier::of(txn, keys, transfer);
        dossier.hold_no(is_out);
        let taken = dossier.take_in(role, content, context, now).map_err(|fault| match fault {
            // The destination may be further than what has got here from the index: it comes.
            DossierError::Refused(Code::OutOfOrder) if is_out => Code::EvidenceMissing.into(),
            other => other,
        })?;
        if !taken.is_new {
            return Ok(taken);
        }
        if from == Came::Patient && taken.kind() == Kind::PatientRefusal {
            revocations::require_no_consent(&mut Dossier::of(txn, keys, transfer))?;
        }
        self.note_new(txn, keys, &taken, from, now)?;
        for label in labels::of(taken.kind(), from, &taken.row, now) {
            outbox::push(txn, keys, &label, content)?;
        }
        // While this hospital may not sign, what follows is seen to afterwards.
        if self.parts.gate.may_sign(&other).is_err() {
            rejoin::see_to_later(txn, keys, transfer)?;
        } else {
            self.answer(txn, keys, &taken, is_out, context, now)?;
        }
        for row in std::iter::once(&taken.row).chain(&taken.ended) {
            self.see_to_end(txn, keys, row, context, now)?;
        }
        Ok(taken)
    }

    /// Notes what is new for the books' sake, in the patient's inbox, among the recalls, and if it shows a loss.
    pub(crate) fn note_new(
        &self,
        txn: &mut dyn Txn,
        keys: &KeyMaker,
        taken: &Taken,
        from: Came,
        now: Timestamp,
    ) -> Result<(), DossierError> {
        // Only this hospital signs one, when it files: whoever brings it shows that the records were here.
        if from != Came::Own && taken.row.role == Role::Destination && taken.kind() == Kind::Receipt {
            rejoin::note_unfiled(txn, keys, taken.row.transfer)?;
        }
        if taken.kind() == Kind::Recall {
            recalled::note(txn, keys, taken.row.transfer)?;
        }
        books::expect(txn, keys, taken.row.transfer, taken.kind(), now)?;
        if taken.kind() == Kind::Request || begins_delivery(taken) {
            let local =
                self.parts.records.by_ref_in(txn, &taken.row.patient).map_err(recalled::of_records)?;
            inboxes::note(txn, keys, &taken.row, local.as_ref())?;
        }
        Ok(())
    }

    /// If a transfer is over, what is secret of it goes, and what waited for its end follows.
    pub(crate) fn see_to_end(
        &self,
        txn: &mut dyn Txn,
        keys: &KeyMaker,
        row: &Row,
        context: Context<'_>,
        now: Timestamp,
    ) -> Result<(), DossierError> {
        if row.state.phase.is_final() {
            secrets::forget(txn, &self.parts.keyring, keys, row.transfer)?;
            left::forget(txn, keys, row.transfer)?;
            continuous::follow(txn, &self.parts.keyring, keys, row, context, now)?;
        }
        Ok(())
    }

    /// What this hospital says to what it has just taken in.
    fn answer(
        &self,
        txn: &mut dyn Txn,
        keys: &KeyMaker,
        taken: &Taken,
        is_out: bool,
        context: Context<'_>,
        now: Timestamp,
    ) -> Result<(), DossierError> {
        if taken.kind() == Kind::Quote && taken.row.role == Role::Destination {
            self.accept_fee(txn, keys, taken.row.transfer, context, now)?;
        }
        let is_revoked_at_once = taken.kind() == Kind::Consent && taken.row.state.phase == Phase::Revoked;
        if (taken.kind() == Kind::Revocation && !is_out) || is_revoked_at_once {
            self.confirm_revocation(txn, keys, &taken.row, context, now)?;
        }
        if taken.kind() == Kind::KeyRelease
            && is_out
            && revocations::is_unconfirmed(txn, keys, taken.row.transfer)?
        {
            // It was handed out before the revocation got there.
            self.confirm_revocation(txn, keys, &taken.row, context, now)?;
        }
        if matches!(taken.kind(), Kind::KeyRelease | Kind::Revocation) {
            self.refuse_to_open(txn, keys, &taken.row, context, now)?;
        }
        if taken.kind() == Kind::Recall && taken.row.role == Role::Destination {
            self.confirm_recall(txn, keys, taken, context, now)?;
        }
        Ok(())
    }

    /// Source or destination, and the other one: by the row, or by the request that begins it, or the quote of a delivery.
    pub(crate) fn sides(
        &self,
        dossier: &mut Dossier<'_>,
        content: &[u8],
    ) -> Result<(Role, HospitalId), DossierError> {
        use handover_core::artefact::{Signed, transfer::TransferRequest};
        if let Some(row) = dossier.row()? {
            return Ok((row.role, row.other().clone()));
        }
        let (source, destination) = match Signed::<TransferRequest>::read(content) {
            Ok(request) => (request.claim().source.clone(), request.claim().destination.clone()),
            Err(_) => {
                let quote = Signed::<Quote>::read(content).map_err(|_| Code::EvidenceMissing)?;
                quote.claim().continues.as_ref().ok_or(Code::EvidenceMissing)?;
                (quote.claim().source.clone(), quote.claim().destination.clone())
            }
        };
        if source == *self.own() {
            Ok((Role::Source, destination))
        } else if destination == *self.own() {
            Ok((Role::Destination, source))
        } else {
            Err(Code::AskMismatch.into())
        }
    }

    /// Accepts a fee that this hospital owes, if nobody has to be asked. Else a clerk is.
    pub(crate) fn accept_fee(
        &self,
        txn: &mut dyn Txn,
        keys: &KeyMaker,
        transfer: TransferId,
        context: Context<'_>,
        now: Timestamp,
    ) -> Result<(), DossierError> {
        let quote = Dossier::of(txn, keys, transfer).quote(context)?;
        if rules::payer(&quote) == Payer::Patient {
            return Ok(());
        }
        match fees::offered(&quote, &self.parts.identity.ring) {
            Ok(fee) if fees::is_within(self.parts.accepts_up_to, fee) => {
                let accepted = fees::accept(&quote, fee, &self.parts.identity.signing, now);
                self.take_in(txn, keys, transfer, accepted.envelope(), Came::Own, context, now)?;
            }
            Ok(_) => {}
            Err(fault) => tracing::warn!(%transfer, code = %fault.code(), "the fee offered cannot be read"),
        }
        Ok(())
    }

    /// Marks what the source recalls, and says so.
    fn confirm_recall(
        &self,
        txn: &mut dyn Txn,
        keys: &KeyMaker,
        taken: &Taken,
        context: Context<'_>,
        now: Timestamp,
    ) -> Result<(), DossierError> {
        let confirmed = self.mark_recall(txn, keys, (&taken.row, taken.place.attempt), context, now)?;
        let confirmed = Verified::sign(confirmed, &self.parts.identity.signing);
        self.take_in(txn, keys, taken.row.transfer, confirmed.envelope(), Came::Own, context, now)?;
        Ok(())
    }

    /// Marks what a recall is about; the confirmation to be signed.
    pub(crate) fn mark_recall(
        &self,
        txn: &mut dyn Txn,
        keys: &KeyMaker,
        (row, number): (&Row, u32),
        context: Context<'_>,
        now: Timestamp,
    ) -> Result<RecallConfirmed, DossierError> {
        let Parts { keyring, records, identity, .. } = &self.parts;
        let is_unfiled = rejoin::is_unfiled(txn, keys, row.transfer)?;
        let desk = recalled::Desk { keys, keyring, records, ring: &identity.ring, is_unfiled };
        desk.mark(txn, row, number, context, now)
    }

    /// Wakes those who wait for what was taken.
    pub(crate) fn wake(&self, taken: &Taken) {
        if taken.is_new {
            tracing::info!(
                transfer = %taken.row.transfer,
                artefact = %taken.kind(),
                attempt = taken.row.state.attempt,
                phase = %taken.row.state.phase,
                "taken in"
            );
            self.outbox.notify_one();
            self.jobs.notify_one();
            if taken.row.state.phase.is_final() {
                self.wakes.consent(taken.row.origin.unwrap_or(taken.row.transfer));
            }
            self.recalls.notify_one();
            self.changed.send_modify(|count| *count = count.wrapping_add(1));
        }
    }

    /// This hospital's no to an attempt of a transfer, signed.
    pub(crate) fn refusal(
        &self,
        (transfer, attempt): (TransferId, u32),
        step: Step,
        code: Code,
        issued: Timestamp,
    ) -> Verified<Refusal> {
        let refusal = Refusal { transfer, step, code, issued, attempt, extensions: Extensions::default() };
        Verified::sign(refusal, &self.parts.identity.signing)
    }

    /// Says no to a transfer, to everybody who takes part.
    pub(crate) async fn refuse(
        self: &Arc<Self>,
        transfer: TransferId,
        step: Step,
        code: Code,
    ) -> Result<(), ExchangeError> {
        let attempt = self.row(transfer).await?.state.attempt;
        let refusal = self.refusal((transfer, attempt), step, code, self.now());
        tracing::warn!(%transfer, %step, code = %code, "refused");
        self.take(refusal.envelope().to_vec(), Came::Own).await?;
        Ok(())
    }

    /// A transfer's row and one of its artefacts.
    pub(crate) async fn row(&self, transfer: TransferId) -> Result<Row, ExchangeError> {
        let keys = self.keys();
        let row = self
            .parts
            .store
            .read(move |txn| -> Result<_, DossierError> { Dossier::of(txn, &keys, transfer).row() })
            .await?;
        Ok(row.ok_or(Code::UnknownTransfer)?)
    }

    /// Ends a transfer whose time ran out.
    pub(crate) async fn expire(self: &Arc<Self>, row: &Row, reason: Code) -> Result<(), ExchangeError> {
        let (keys, transfer, role, now) = (self.keys(), row.transfer, row.role, self.now());
        let (seen, keyring, federation) = (row.updated, self.parts.keyring.clone(), self.federation()?);
        self.parts
            .store
            .write(move |txn| -> Result<(), DossierError> {
                let mut dossier = Dossier::of(txn, &keys, transfer);
                // Something may have come since it was looked at.
                if dossier.row()?.is_none_or(|row| row.updated != seen) {
                    return Ok(());
                }
                let row = dossier.end(role, Phase::Expired, reason, now)?;
                secrets::forget(txn, &keyring, &keys, transfer)?;
                let context = Context { federation: &federation, verifier: &Remembered };
                continuous::follow(txn, &keyring, &keys, &row, context, now)
            })
            .await?;
        self.wakes.consent(row.origin.unwrap_or(row.transfer));
        self.changed.send_modify(|count| *count = count.wrapping_add(1));
        Ok(())
    }
}

/// Whether a delivery under a continuous consent begins with this.
fn begins_delivery(taken: &Taken) -> bool {
    taken.kind() == Kind::Quote && taken.row.origin.is_some()
}
