//! Carries the outbox out: one run per target, in order, with back-off, until each parcel was taken.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use handover_core::Code;
use handover_core::artefact::transfer::Step;
use handover_core::message::{Answer, Parcel, Request, Verb};
use handover_core::transfer::{Phase, Role};
use handover_core::{Party, TransferId, codec};
use handover_dossier::Row;
use handover_net::Net;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::ExchangeError;
use crate::context::Inner;
use crate::outbox::{self, Label, Target, Waiting};

/// Parcels looked at in one round.
const ROUND_PARCELS: usize = 1_000;
/// The first pause of a target that is away, and of a transfer whose turn has not come there; each doubles.
const TARGET_PAUSE: Duration = Duration::from_millis(500);
const TRANSFER_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// What waits: a whole target, or one transfer there.
type Blocked = (Target, Option<TransferId>);

struct Pause {
    until: Instant,
    next: Duration,
}

/// What a run to one target came to.
struct Run {
    target: Target,
    /// Whether the target could be reached.
    is_away: bool,
    /// Transfers that have to wait there.
    held: BTreeSet<TransferId>,
    /// Transfers of which something got through.
    moved: BTreeSet<TransferId>,
}

/// When what is tried again.
#[derive(Default)]
struct Pauses(BTreeMap<Blocked, Pause>);

impl Pauses {
    fn hold(&mut self, blocked: Blocked) {
        let first = if blocked.1.is_some() { TRANSFER_PAUSE } else { TARGET_PAUSE };
        let length = self.0.get(&blocked).map_or(first, |pause| pause.next);
        let pause = Pause { until: Instant::now() + length, next: (length * 2).min(LONGEST_PAUSE) };
        self.0.insert(blocked, pause);
    }

    fn clear(&mut self, blocked: &Blocked) {
        self.0.remove(blocked);
    }

    fn is_held(&self, blocked: &Blocked) -> bool {
        self.0.get(blocked).is_some_and(|pause| pause.until > Instant::now())
    }

    fn next(&self) -> Instant {
        let now = Instant::now();
        let ends = self.0.values().map(|pause| pause.until).filter(|until| *until > now);
        ends.min().unwrap_or(now + LONGEST_PAUSE)
    }

    fn learn(&mut self, run: Run) {
        for transfer in run.moved {
            self.clear(&(run.target.clone(), Some(transfer)));
        }
        for transfer in run.held {
            self.hold((run.target.clone(), Some(transfer)));
        }
        let target = (run.target, None);
        if run.is_away { self.hold(target) } else { self.clear(&target) }
    }
}

/// Runs until shut down.
pub(crate) async fn run(inner: Arc<Inner>, net: Net, shutdown: CancellationToken) {
    let mut pauses = Pauses::default();
    let mut running: BTreeSet<Target> = BTreeSet::new();
    let mut runs: JoinSet<Run> = JoinSet::new();
    loop {
        match due(&inner, &pauses, &running).await {
            Ok(due) => {
                for (target, parcels) in due {
                    running.insert(target.clone());
                    runs.spawn(run_to(Arc::clone(&inner), net.clone(), target, parcels));
                }
            }
            Err(fault) => tracing::error!(code = %fault.code(), "the outbox cannot be read"),
        }
        tokio::select! {
            () = shutdown.cancelled() => break,
            () = inner.outbox.notified() => {}
            () = inner.connected.notified() => pauses = Pauses::default(),
            () = tokio::time::sleep_until(pauses.next()) => {}
            Some(done) = runs.join_next() => if let Ok(run) = done {
                running.remove(&run.target);
                pauses.learn(run);
            }
        }
    }
    runs.shutdown().await;
}

/// What can go out now, by target, in order.
async fn due(
    inner: &Arc<Inner>,
    pauses: &Pauses,
    running: &BTreeSet<Target>,
) -> Result<BTreeMap<Target, Vec<Waiting>>, ExchangeError> {
    let mut by_target: BTreeMap<Target, Vec<Waiting>> = BTreeMap::new();
    for parcel in outbox::waiting(&inner.parts.store, None, ROUND_PARCELS).await? {
        let target = parcel.label.target();
        let is_held = running.contains(&target)
            || pauses.is_held(&(target.clone(), None))
            || pauses.is_held(&(target.clone(), Some(parcel.label.transfer)));
        if !is_held {
            by_target.entry(target).or_default().push(parcel);
        }
    }
    Ok(by_target)
}

async fn run_to(inner: Arc<Inner>, net: Net, target: Target, parcels: Vec<Waiting>) -> Run {
    let mut run = Run { target, is_away: false, held: BTreeSet::new(), moved: BTreeSet::new() };
    for parcel in parcels {
        let transfer = parcel.label.transfer;
        // A transfer whose parcel has to wait keeps its order; others go on.
        if run.held.contains(&transfer) {
            continue;
        }
        match deliver(&inner, &net, parcel).await {
            Ok(()) => {
                run.moved.insert(transfer);
            }
            Err(Held::Transfer) => {
                run.held.insert(transfer);
            }
            Err(Held::Target) => {
                run.is_away = true;
                break;
            }
        }
    }
    run
}

/// Why a parcel stays.
enum Held {
    /// Nothing gets through to the target.
    Target,
    /// This transfer's turn has not come there.
    Transfer,
}

async fn deliver(inner: &Arc<Inner>, net: &Net, parcel: Waiting) -> Result<(), Held> {
    let outcome = send(inner, net, &parcel).await;
    let (number, transfer) = (parcel.number, parcel.label.transfer);
    let stored = match outcome {
        Ok(()) => outbox::done(&inner.parts.store, number).await,
        Err(fault) => {
            let code = standing(inner, fault.code());
            if !code.is_transient() {
                tracing::warn!(%transfer, code = %code, "a parcel was refused for good");
                if code == Code::HospitalRevoked {
                    end_request(inner, transfer, code).await;
                }
                outbox::bury(&inner.parts.store, parcel, code).await
            } else if is_away(code) && straight(inner, net, &parcel).await {
                let label = Label::copy(transfer, parcel.label.since);
                outbox::relabel(&inner.parts.store, number, label).await
            } else {
                tracing::debug!(%transfer, code = %code, "a parcel has to wait");
                return Err(if is_away(code) { Held::Target } else { Held::Transfer });
            }
        }
    };
    stored.map_err(|fault| {
        tracing::error!(code = %fault.code(), "the outbox cannot be written");
        Held::Target
    })
}

/// Who is not admitted any more may not have been told why: the directory, which everybody may ask for, is asked
/// for, and once it is here its word stands for the refusal.
fn standing(inner: &Arc<Inner>, code: Code) -> Code {
    if code != Code::NotAdmitted {
        return code;
    }
    inner.links.notify_one();
    let own = inner.federation().and_then(|held| held.active(inner.own(), inner.now()).map(drop));
    if own == Err(Code::HospitalRevoked) { Code::HospitalRevoked } else { code }
}

/// A request that cannot arrive any more ends by name; what is further on ends by its own rules.
async fn end_request(inner: &Arc<Inner>, transfer: TransferId, code: Code) {
    let waits = |row: &Row| row.role == Role::Destination && row.state.phase == Phase::Requested;
    let ended = match inner.row(transfer).await {
        Ok(row) if waits(&row) => inner.refuse(transfer, Step::Request, code).await,
        Ok(_) => Ok(()),
        Err(fault) => Err(fault),
    };
    if let Err(fault) = ended {
        tracing::error!(%transfer, code = %fault.code(), "the refusal could not be stored");
    }
}

const fn is_away(code: Code) -> bool {
    matches!(code, Code::Unreachable | Code::TimedOut | Code::Busy)
}

async fn send(inner: &Arc<Inner>, net: &Net, parcel: &Waiting) -> Result<(), ExchangeError> {
    match parcel.label.target() {
        Target::Index => send_by(inner, net, parcel, Party::Index).await,
        Target::Hospital(hospital) => send_by(inner, net, parcel, Party::Hospital(hospital)).await,
    }
}

/// The index is away: the hospital that it was to be passed on to gets it straight.
async fn straight(inner: &Arc<Inner>, net: &Net, parcel: &Waiting) -> bool {
    match (&parcel.label.to, parcel.label.target()) {
        (Some(hospital), Target::Index) => {
            send_by(inner, net, parcel, Party::Hospital(hospital.clone())).await.is_ok()
        }
        _ => false,
    }
}

async fn send_by(inner: &Arc<Inner>, net: &Net, parcel: &Waiting, party: Party) -> Result<(), ExchangeError> {
    let Some(content) = outbox::content(&inner.parts.store, parcel.number).await? else { return Ok(()) };
    let (route, to) = match party {
        Party::Index => (inner.route_to_index(), parcel.label.to.clone()),
        Party::Hospital(hospital) => (inner.route_to(&hospital)?, None),
    };
    let item = Parcel { to, content, extensions: codec::Extensions::default() };
    let answer = net.request(&route, Request::encode(Verb::Deliver, vec![codec::encode(&item)])).await?;
    Answer::decode(&answer)?;
    Ok(())
}
