//! What is due: the work that a transfer's state calls for, done until the state has moved on. Because it is derived
//! from what is stored, it goes on after any stop.

mod agenda;
mod check;
mod continuing;
mod file;
mod leave;
mod price;
mod quote;
mod receive;
mod release;
mod seal;
mod send;
mod withdraw;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use handover_core::artefact::patient::TRANSFER_ASK_LIFE_MS;
use handover_core::artefact::transfer::{QUOTE_LIFE_MS, Step};
use handover_core::ledger::RESERVATION_AFTER_CONSENT_MS;
use handover_core::rules::Context;
use handover_core::transfer::{Phase, Role};
use handover_core::{Code, Timestamp, TransferId};
use handover_dossier::{Dossier, DossierError, Row};
use handover_net::Net;
use handover_parcel::Places;
use handover_records::{Action, GrantRequest, LocalPatient, Permit, Purpose, Subject};
use handover_seal::Remembered;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::context::Inner;
use crate::{ExchangeError, leftovers, parts, rejoin};

pub(crate) use continuing::run as run_deliveries;
pub(crate) use receive::receive;

/// Transfers looked at in one page.
const PAGE: usize = 200;
/// How long the destination's copy waits for the source's word on a consent that ran out, in milliseconds.
const LAPSE_MS: i64 = handover_core::time::DAY_MS;
/// How often everything is looked at even if nothing happened.
const ROUND: Duration = Duration::from_secs(30);

/// A piece of work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Job {
    Quote,
    Seal,
    Send,
    Release,
    File,
    Expire,
    Lapse,
}

impl Job {
    /// As the desk reads it.
    const fn word(self) -> &'static str {
        match self {
            Self::Quote => "quote",
            Self::Seal => "seal",
            Self::Send => "send",
            Self::Release => "release",
            Self::File => "file",
            Self::Expire => "expire",
            Self::Lapse => "lapse",
        }
    }

    /// The step that a refusal names if this cannot be done.
    const fn step(self) -> Step {
        match self {
            Self::Quote => Step::Quote,
            Self::Seal => Step::Seal,
            Self::Send | Self::Expire | Self::Lapse => Step::Delivery,
            Self::Release => Step::Release,
            Self::File => Step::Filing,
        }
    }
}

/// What a state calls for.
fn due(row: &Row, now: Timestamp) -> Option<Job> {
    let age_ms = now.since_ms(row.updated);
    match (row.role, row.state.phase) {
        (_, Phase::Requested) if age_ms > TRANSFER_ASK_LIFE_MS => Some(Job::Expire),
        (_, Phase::Quoted) if age_ms > QUOTE_LIFE_MS => Some(Job::Expire),
        // What the source does not end is not waited for longer than the consent.
        (Role::Destination, Phase::Consented | Phase::Sealed | Phase::Delivered) if age_ms > LAPSE_MS => {
            Some(Job::Lapse)
        }
        (Role::Source, Phase::Requested) => Some(Job::Quote),
        (Role::Source, Phase::Consented) => Some(Job::Seal),
        (Role::Source, Phase::Sealed) => Some(Job::Send),
        (Role::Source, Phase::Delivered) => Some(Job::Release),
        (Role::Destination, Phase::Delivered | Phase::Released) => Some(Job::File),
        _ => None,
    }
}

/// Runs until shut down.
pub(crate) async fn run(inner: Arc<Inner>, net: Net, shutdown: CancellationToken) {
    let (working, sending) = (Arc::new(Places::to_work()), Arc::new(Places::to_send()));
    let mut running: BTreeSet<TransferId> = BTreeSet::new();
    let mut tasks: JoinSet<(Row, Job, Result<(), Code>)> = JoinSet::new();
    loop {
        let Inner { parts, .. } = &*inner;
        if let Err(fault) =
            leftovers::sweep(&parts.store, &parts.blobs, &parts.records, &parts.incoming).await
        {
            tracing::error!(code = %fault.code(), "leftovers cannot be removed");
        }
        match active(&inner).await {
            Ok(rows) => {
                for row in rows {
                    let Some(job) = due(&row, inner.now()) else { continue };
                    if rejoin::may_work(&inner, &row).is_err() {
                        continue;
                    }
                    if inner.work_pauses().is_held(&row, Instant::now()) || !running.insert(row.transfer) {
                        continue;
                    }
                    let places = if job == Job::Send { &sending } else { &working };
                    let (inner, net, places) = (Arc::clone(&inner), net.clone(), Arc::clone(places));
                    tasks.spawn(async move {
                        let other = if row.role == Role::Source { &row.destination } else { &row.source };
                        let _place = places.wait(other, is_large(&inner, &row, job).await).await;
                        let seen = row.clone();
                        // In a task of its own: one that panics leaves its transfer to be tried again.
                        let task = tokio::spawn(async move { work(&inner, &net, &row, job).await });
                        (seen, job, AbortOnDropHandle::new(task).await.unwrap_or(Err(Code::Internal)))
                    });
                }
            }
            Err(fault) => tracing::error!(code = %fault.code(), "transfers cannot be read"),
        }
        let now = Instant::now();
        let wake = inner.work_pauses().next(now);
        tokio::select! {
            () = shutdown.cancelled() => break,
            () = inner.jobs.notified() => {}
            () = tokio::time::sleep_until(wake.unwrap_or(now + ROUND).min(now + ROUND)) => {}
            Some(done) = tasks.join_next() => if let Ok((row, job, outcome)) = done {
                running.remove(&row.transfer);
                inner.work_pauses().learn(&row, job.word(), outcome, Instant::now());
            }
        }
    }
    tasks.shutdown().await;
}

/// Whether the job is about bytes, and those are many. What cannot be read is told by the job itself.
async fn is_large(inner: &Arc<Inner>, row: &Row, job: Job) -> bool {
    if !matches!(job, Job::Send | Job::File) {
        return false;
    }
    let (keys, transfer) = (inner.keys(), row.transfer);
    let read = inner.parts.store.read(move |txn| parts::get(txn, &keys, transfer));
    read.await.is_ok_and(|parts| parts.is_some_and(|parts| handover_parcel::is_large(&parts)))
}

async fn active(inner: &Arc<Inner>) -> Result<Vec<Row>, ExchangeError> {
    let (mut rows, mut after) = (Vec::new(), None);
    loop {
        let keys = inner.keys();
        let page: Vec<Row> = inner
            .parts
            .store
            .read(move |txn| -> Result<_, DossierError> { handover_dossier::active(txn, &keys, after, PAGE) })
            .await?;
        after = page.last().map(|row| row.transfer);
        let is_last = page.len() < PAGE;
        rows.extend(page);
        if is_last {
            return Ok(rows);
        }
    }
}

/// Does a job, so that the state moves on; or why it has to wait.
async fn work(inner: &Arc<Inner>, net: &Net, row: &Row, job: Job) -> Result<(), Code> {
    let known = inner.parts.directories.version();
    let Err(fault) = perform(inner, net, row, job).await else { return Ok(()) };
    let code = inner.code_of(known, &fault).await;
    // The patient took the consent back at the destination: their word is on its way, and ends the transfer.
    let is_told = job == Job::Send && code == Code::ConsentRevoked;
    if code.is_transient() || is_told {
        // That somebody else's step comes first is no news.
        if matches!(code, Code::ReleaseAwaited | Code::KeyAwaited) {
            tracing::debug!(transfer = %row.transfer, ?job, code = %code, "a step has to wait");
        } else {
            tracing::warn!(transfer = %row.transfer, ?job, code = %code, detail = %fault, "a step has to wait");
        }
        return Err(code);
    }
    tracing::warn!(transfer = %row.transfer, ?job, code = %code, detail = %fault, "a step cannot be done");
    // What waits in a folder may have been released there meanwhile: then there is nothing to refuse any more.
    if row.role == Role::Source {
        match withdraw::withdraw(inner, net, row.transfer).await {
            Ok(withdraw::Outcome::Nothing) => {}
            Ok(withdraw::Outcome::HandedOut) => return Ok(()),
            Err(fault) => return Err(fault.code()),
        }
    }
    if let Err(fault) = inner.refuse(row.transfer, job.step(), code).await {
        // It may have ended while this was under way.
        if inner.row(row.transfer).await.is_ok_and(|row| row.state.phase.is_final()) {
            return Ok(());
        }
        tracing::error!(transfer = %row.transfer, code = %fault.code(), "the refusal could not be stored");
        return Err(fault.code());
    }
    Ok(())
}

async fn perform(inner: &Arc<Inner>, net: &Net, row: &Row, job: Job) -> Result<(), ExchangeError> {
    let goes_on = matches!(job, Job::Seal | Job::Send | Job::Release);
    if goes_on && withdraw::is_held(inner, row).await? {
        return withdraw::end(inner, net, row).await;
    }
    if goes_on && withdraw::lost(inner, net, row).await? == withdraw::Outcome::HandedOut {
        return Ok(());
    }
    match job {
        Job::Quote => quote::quote(inner, row).await,
        Job::Seal => seal::seal(inner, row, row.state.attempt).await,
        Job::Send => send::send(inner, net, row).await,
        Job::Release => release::release(inner, net, row).await,
        Job::File => file::file(inner, row).await,
        Job::Expire => inner.expire(row, Code::QuoteExpired).await,
        Job::Lapse => lapse(inner, row).await,
    }
}

/// Ends a transfer at the destination whose consent ran out without a word from the source.
async fn lapse(inner: &Arc<Inner>, row: &Row) -> Result<(), ExchangeError> {
    let (keys, transfer, federation) = (inner.keys(), row.transfer, inner.federation()?);
    let read = inner.parts.store.read(move |txn| -> Result<_, DossierError> {
        let context = Context { federation: &federation, verifier: &Remembered };
        Ok(Dossier::of(txn, &keys, transfer).consent(context)?.expires)
    });
    // What lies here whole may have been released while this hospital was away: as long as its fee may come to stand, it
    // is kept.
    let patience_ms =
        if row.state.phase == Phase::Delivered { RESERVATION_AFTER_CONSENT_MS } else { LAPSE_MS };
    if read.await?.plus_ms(patience_ms) < inner.now() {
        inner.expire(row, Code::ConsentExpired).await?;
    }
    Ok(())
}

/// The audit line for what a transfer needs of the records, for the other hospital; and the patient that it is about.
async fn permit(
    inner: &Arc<Inner>,
    row: &Row,
    action: Action,
) -> Result<(Permit, LocalPatient), ExchangeError> {
    let records = &inner.parts.records;
    let linked = records.by_ref(row.patient).await?.ok_or(Code::NotLinked)?;
    let other = if row.role == Role::Source { &row.destination } else { &row.source };
    let request = GrantRequest {
        transfer: Some(row.transfer),
        ..GrantRequest::new(
            Subject::Hospital(other.clone()),
            action,
            Purpose::Transfer,
            Some(linked.patient.clone()),
        )
    };
    Ok((records.audit().permit(request, inner.now()).await?, linked.patient))
}
