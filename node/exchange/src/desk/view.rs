//! Looking at transfers: their state, what holds them up here, and waiting for a phase.

use std::collections::BTreeSet;
use std::time::Duration;

use handover_core::artefact::transfer::{Payer, QuoteBody};
use handover_core::rules::Context;
use handover_core::transfer::Phase;
use handover_core::trust::Federation;
use handover_core::{Amount, Code, Department, Party, Timestamp, TransferId};
use handover_dossier::{Dossier, DossierError, Place, Row, Standing};
use handover_seal::Remembered;
use tokio::time::Instant;

use super::FeeOwed;
use crate::outbox::{self, Target};
use crate::pauses::Wait;
use crate::{Exchange, ExchangeError, bodies, left, parts, rejoin};

/// Deliveries that are shown with the transfer that they continue.
const DELIVERIES_SHOWN: usize = 20;

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
    /// Tests that are not sent and count for the fee, too.
    pub other_tests: u64,
    /// Tests that an earlier transfer charged: they count nothing.
    pub tests_charged_before: u64,
    /// Sum of the prices, exact.
    pub basis: String,
    /// The fee.
    pub fee: Amount,
    /// Who owes it.
    pub payer: Payer,
    /// Bytes of the package as it travels; none before it is sealed.
    pub package_bytes: Option<u64>,
}

/// A parcel that was refused for good: a person has to look, and send it again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// By whom.
    pub party: Party,
    /// Why.
    pub code: Code,
}

/// A package in the destination's folder at the index, as far as is known here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InFolder {
    /// Until when it waits there; none: the index has not taken it.
    pub until: Option<Timestamp>,
    /// Why the index did not take it.
    pub problem: Option<Code>,
}

/// A transfer as the desk sees it.
#[derive(Clone, Debug)]
pub struct TransferView {
    /// Its state.
    pub row: Row,
    /// Its artefacts, whole.
    pub artefacts: Vec<(Place, Vec<u8>)>,
    /// Parcels of it that were refused for good.
    pub refused: Vec<Refused>,
    /// Parcels of it that wait.
    pub waiting: usize,
    /// Why it does not go on for now; empty if nothing holds it up here.
    pub waits: Vec<Wait>,
    /// Whether the patient has consented and not released, or not to the key that was asked with last.
    pub awaits_release: bool,
    /// What is known of its content here.
    pub details: Option<TransferDetails>,
    /// The fee, if this hospital owes it.
    pub owed: Option<FeeOwed>,
    /// The newest deliveries that continue it under its consent, oldest first.
    pub deliveries: Vec<Row>,
    /// How many there are in all.
    pub deliveries_count: u64,
    /// Whether the package was left for the destination, while that has not taken it.
    pub folder: Option<InFolder>,
    /// Whether the fee stands or may, as far as is known here; none without a directory.
    pub fee: Option<Standing>,
}

impl Exchange {
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
        let (keys, keyring) = (self.0.keys(), self.0.parts.keyring.clone());
        let federation = self.0.federation();
        let (row, artefacts, awaits_release, priced, package_bytes, deliveries, folder, fee) = self
            .0
            .parts
            .store
            .read(move |txn| -> Result<_, ExchangeError> {
                let mut dossier = Dossier::of(txn, &keys, transfer);
                let row = dossier.row()?.ok_or(Code::UnknownTransfer)?;
                let artefacts = dossier.all()?;
                let awaits_release = match &federation {
                    Ok(federation) => awaits_release(&mut dossier, &row, federation)?,
                    Err(_) => false,
                };
                let mut dossier = Dossier::of(txn, &keys, transfer);
                let deliveries = dossier.deliveries(DELIVERIES_SHOWN)?;
                let fee = match &federation {
                    Ok(federation) => Some(dossier.standing(Context { federation, verifier: &Remembered })?),
                    Err(_) => None,
                };
                let package_bytes = parts::get(txn, &keys, transfer)?.map(|parts| parts.bytes());
                let left = left::get(txn, &keys, transfer, row.state.attempt)?;
                let left = left.filter(|left| row.state.phase == Phase::Sealed && left.withdrawn.is_none());
                let folder = left.map(|left| InFolder { until: left.until, problem: left.problem });
                Ok((
                    row,
                    artefacts,
                    awaits_release,
                    bodies::get(txn, &keyring, &keys, transfer)?,
                    package_bytes,
                    deliveries,
                    folder,
                    fee,
                ))
            })
            .await?;
        let of_this = |label: &outbox::Label| label.transfer == transfer;
        let (waiting, dead) = outbox::labels(&self.0.parts.store, of_this).await?;
        let owed = self.fee_owed(transfer).await.unwrap_or_else(|fault| {
            tracing::warn!(%transfer, code = %fault.code(), "the fee owed cannot be read");
            None
        });
        Ok(TransferView {
            owed,
            waits: self.waits(&row, &waiting),
            row,
            artefacts,
            refused: dead.iter().map(refused).collect(),
            waiting: waiting.len(),
            awaits_release,
            deliveries: deliveries.0,
            deliveries_count: deliveries.1,
            folder,
            fee,
            details: priced.map(|it| details(it.body, package_bytes)),
        })
    }

    fn waits(&self, row: &Row, waiting: &[outbox::Label]) -> Vec<Wait> {
        let now = Instant::now();
        let targets: BTreeSet<Target> = waiting.iter().map(outbox::Label::target).collect();
        let mut waits: Vec<Wait> = self.0.work_pauses().wait(row, now).into_iter().collect();
        let pauses = self.0.pauses();
        waits.extend(rejoin::wait(&self.0, row));
        waits.extend(self.0.wakes.wait(row.transfer, now));
        waits.extend(targets.iter().filter_map(|target| pauses.wait(target, row.transfer, now)));
        // Who does not admit this hospital any more may not say why; the directory held here does.
        let own = self.0.federation().and_then(|held| held.active(self.0.own(), self.0.now()).map(drop));
        if let Err(standing) = own {
            for wait in waits.iter_mut().filter(|wait| wait.code == Code::NotAdmitted) {
                wait.code = standing;
            }
        }
        waits
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

    /// Waits until `count` deliveries that continue a transfer are over, or nothing more can come under its consent.
    ///
    /// # Errors
    /// [`Code::TimedOut`]; [`Code::UnknownTransfer`].
    pub async fn wait_for_deliveries(
        &self,
        transfer: TransferId,
        count: u64,
        limit: Duration,
    ) -> Result<(), ExchangeError> {
        let mut changes = self.0.changed.subscribe();
        let wait = async {
            loop {
                let keys = self.0.keys();
                let read = self.0.parts.store.read(move |txn| -> Result<_, DossierError> {
                    let mut dossier = Dossier::of(txn, &keys, transfer);
                    let begun = dossier.deliveries(0)?.1;
                    let under_way = u64::from(dossier.under_way()?.is_some());
                    Ok(begun.saturating_sub(under_way))
                });
                if read.await? >= count {
                    return Ok(());
                }
                changes.changed().await.map_err(|_| ExchangeError::TaskEnded)?;
            }
        };
        tokio::time::timeout(limit, wait).await.map_err(|_| Code::TimedOut)?
    }
}

/// Whether the patient has consented, and not released to the key that the attempt under way has.
fn awaits_release(
    dossier: &mut Dossier<'_>,
    row: &Row,
    federation: &Federation,
) -> Result<bool, DossierError> {
    let (Phase::Consented | Phase::Sealed | Phase::Delivered | Phase::Released) = row.state.phase else {
        return Ok(false);
    };
    let context = Context { federation, verifier: &Remembered };
    match dossier.share_place(row.state.attempt, context) {
        Ok(place) => Ok(dossier.get(place)?.is_none()),
        // What does not verify any more is for the jobs to say.
        Err(DossierError::Refused(_)) => Ok(false),
        Err(fault) => Err(fault),
    }
}

fn refused(label: &outbox::Label) -> Refused {
    Refused { party: label.target().party(), code: label.refused.unwrap_or(Code::Internal) }
}

fn details(body: QuoteBody, package_bytes: Option<u64>) -> TransferDetails {
    let unpriced = u64::from(body.unpriced);
    let charged_before = body.lines.iter().filter(|line| line.charged_by.is_some()).count() as u64;
    TransferDetails {
        departments: body.departments.into_iter().map(|it| (it.department, it.records)).collect(),
        records: body.records,
        tests_priced: (body.lines.len() as u64).saturating_sub(unpriced).saturating_sub(charged_before),
        tests_unpriced: unpriced,
        other_tests: body.other_tests.map_or(0, |others| u64::from(others.tests)),
        tests_charged_before: charged_before,
        basis: body.basis,
        fee: body.fee,
        payer: body.payer,
        package_bytes,
    }
}
