//! Carries the outbox out: one run per target, in order, with back-off, until each parcel was taken.
//!
//! While the index is away, what it would pass on goes straight to its hospital; one parcel at a time asks whether
//! the index is back. So does what it took, if nothing comes of it; and what it cannot take without something that it
//! lacks, which the other hospital may have lost before it told it, and finds out by what comes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use handover_core::Code;
use handover_core::artefact::patient::{Consent, ShareRelease};
use handover_core::artefact::transfer::{FeeAcceptance, Step, TransferRequest};
use handover_core::artefact::{Payload as _, peek_type};
use handover_core::message::{Answer, Parcel, Request, Verb};
use handover_core::time::DAY_MS;
use handover_core::transfer::{Phase, Role};
use handover_core::{Party, TransferId, codec};
use handover_dossier::{Dossier, DossierError, Row, tally};
use handover_net::Net;
use handover_store::{SCAN_MAX_CELLS, Txn};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use crate::context::Inner;
use crate::outbox::{self, Label, Passed, TallyOf, Target, Waiting};
use crate::pauses::{Pauses, Run};
use crate::{ExchangeError, rejoin};

/// Parcels that go out in one round.
const ROUND_PARCELS: usize = 1_000;
/// How long a copy waits for the hospital that has replaced the key which signed it.
const BRINGS_WITHIN_MS: i64 = DAY_MS;

/// The runs under way, and whose parcels they carry.
type Running = BTreeMap<Target, BTreeSet<TransferId>>;

/// Runs until shut down.
pub(crate) async fn run(inner: Arc<Inner>, net: Net, shutdown: CancellationToken) {
    let mut running = Running::new();
    let mut runs: JoinSet<Run> = JoinSet::new();
    let mut looks = tokio::time::interval(inner.parts.index_patience / 2);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        match due(&inner, &running).await {
            Ok(round) => {
                for (target, parcels) in round.by_target {
                    let transfers = parcels.iter().map(|parcel| parcel.label.transfer).collect();
                    running.insert(target.clone(), transfers);
                    runs.spawn(run_to(Arc::clone(&inner), net.clone(), target, parcels));
                }
                // What lies behind may go to others.
                if round.is_full {
                    continue;
                }
            }
            Err(fault) => tracing::error!(code = %fault.code(), "the outbox cannot be read"),
        }
        let wake = inner.pauses().next(Instant::now());
        tokio::select! {
            () = shutdown.cancelled() => break,
            () = inner.outbox.notified() => {}
            () = inner.connected.notified() => for party in inner.connected.take() {
                let target = match party {
                    Party::Index => Target::Index,
                    Party::Hospital(hospital) => Target::Hospital(hospital),
                };
                inner.pauses().connected(&target, Instant::now());
            },
            () = tokio::time::sleep_until(wake) => {}
            _ = looks.tick() => look_at_passed(&inner).await,
            Some(done) = runs.join_next() => if let Ok(run) = done {
                running.remove(&run.target);
                let given_up = inner.pauses().learn(run, Instant::now());
                for (parcel, code) in given_up {
                    give_up(&inner, parcel, code).await;
                }
            }
        }
    }
    runs.shutdown().await;
}

/// What the index took, and nothing came of, goes straight to its hospital.
async fn look_at_passed(inner: &Arc<Inner>) {
    let patience_ms = i64::try_from(inner.parts.index_patience.as_millis()).unwrap_or(i64::MAX);
    let (keys, until) = (inner.keys(), inner.now().plus_ms(patience_ms.saturating_neg()));
    // The next step is the other hospital's, or the patient's who hears of it there.
    let has_come = move |txn: &mut dyn Txn, passed: &Passed| -> Result<bool, DossierError> {
        let row = Dossier::of(txn, &keys, passed.label.transfer).row()?;
        Ok(row.is_none_or(|row| row.state.phase > passed.phase))
    };
    match outbox::look_at_passed(&inner.parts.store, until, has_come).await {
        Ok(0) => {}
        Ok(parcels) => tracing::info!(parcels, "nothing came of what the index took: it goes straight"),
        Err(fault) => tracing::error!(code = %fault.code(), "the outbox cannot be read"),
    }
}

async fn give_up(inner: &Arc<Inner>, parcel: Waiting, code: Code) {
    tracing::warn!(transfer = %parcel.label.transfer, code = %code, "a parcel was put off too often");
    if let Err(fault) = outbox::bury(&inner.parts.store, parcel, code).await {
        tracing::error!(code = %fault.code(), "the outbox cannot be written");
    }
}

/// What goes out in one round.
#[derive(Default)]
struct Round {
    by_target: BTreeMap<Target, Vec<Waiting>>,
    count: usize,
    /// Whether there may be more.
    is_full: bool,
}

impl Round {
    /// Takes a parcel in if it can go now. Whatever makes one wait makes those behind it wait that belong to the
    /// same transfer and go the same way: so each way keeps its order.
    fn take(&mut self, parcel: Waiting, pauses: &Pauses, running: &Running, now: Instant) {
        let transfer = parcel.label.transfer;
        let carries =
            |target: &Target| running.get(target).is_some_and(|carried| carried.contains(&transfer));
        let is_put_off = |target: &Target| {
            pauses.is_held(target, None, now) || pauses.is_held(target, Some(transfer), now)
        };
        let mut target = parcel.label.target();
        if let (Target::Index, Some(hospital)) = (&target, &parcel.label.to) {
            let straight = Target::Hospital(hospital.clone());
            if carries(&Target::Index) || carries(&straight) {
                return;
            }
            let is_asking = self.by_target.contains_key(&Target::Index)
                || running.contains_key(&Target::Index)
                || pauses.is_held(&Target::Index, None, now);
            if pauses.is_away(&Target::Index) && is_asking {
                let asking = self.by_target.get(&Target::Index);
                if asking.is_some_and(|asking| asking.iter().any(|it| it.label.transfer == transfer)) {
                    return;
                }
                target = straight;
            } else if pauses.is_lacking(&Target::Index, transfer) && !is_put_off(&straight) {
                target = straight;
            }
        }
        let is_held = running.contains_key(&target)
            || is_put_off(&target)
            || (target == Target::Index && pauses.is_away(&target) && self.by_target.contains_key(&target));
        if !is_held {
            self.by_target.entry(target).or_default().push(parcel);
            self.count += 1;
        }
    }
}

/// What can go out now, by target, in order.
async fn due(inner: &Arc<Inner>, running: &Running) -> Result<Round, ExchangeError> {
    let (mut round, mut after, now) = (Round::default(), None, Instant::now());
    loop {
        let page = outbox::waiting(&inner.parts.store, after, SCAN_MAX_CELLS).await?;
        let is_last = page.len() < SCAN_MAX_CELLS;
        after = page.last().map(|parcel| parcel.number);
        for parcel in page {
            round.take(parcel, &inner.pauses(), running, now);
            if round.count >= ROUND_PARCELS {
                round.is_full = true;
                return Ok(round);
            }
        }
        if is_last {
            return Ok(round);
        }
    }
}

async fn run_to(inner: Arc<Inner>, net: Net, target: Target, parcels: Vec<Waiting>) -> Run {
    let mut run = Run { target, is_away: false, held: BTreeMap::new(), moved: BTreeSet::new() };
    for parcel in parcels {
        let transfer = parcel.label.transfer;
        // A transfer whose parcel has to wait keeps its order; others go on.
        if run.held.contains_key(&transfer) {
            continue;
        }
        match deliver(&inner, &net, &run.target, &parcel).await {
            Ok(()) => {
                run.moved.insert(transfer);
            }
            Err(code) if is_away(code) => {
                run.is_away = true;
                break;
            }
            Err(code) => {
                run.held.insert(transfer, (parcel, code));
            }
        }
    }
    run
}

/// Delivers a parcel; or why it stays.
async fn deliver(inner: &Arc<Inner>, net: &Net, target: &Target, parcel: &Waiting) -> Result<(), Code> {
    let outcome = send(inner, net, target, parcel).await;
    let (number, transfer) = (parcel.number, parcel.label.transfer);
    let is_detour = parcel.label.target() != *target;
    let stored = match outcome {
        // The index still has to know of it.
        Ok(taken) if is_detour => {
            let copy = Label::copy(transfer, parcel.label.since);
            outbox::relabel(&inner.parts.store, number, copy, taken).await
        }
        Ok(taken) if parcel.label.to.is_some() && *target == Target::Index => {
            passed(inner, parcel, taken).await
        }
        Ok(taken) => outbox::done(&inner.parts.store, number, taken).await,
        Err(fault) => {
            let code = standing(inner, fault.code());
            // What a former key signed, its own hospital has to bring first: a copy waits for that.
            let may_be_brought = parcel.label.to.is_none()
                && code == Code::KeyReplaced
                && inner.now().since_ms(parcel.label.since) < BRINGS_WITHIN_MS;
            let has_to_wait =
                code.is_transient() || may_be_brought || hears_of_a_no(inner, parcel, code).await;
            // What a hospital says to what did not come by the index is not the last word.
            if !is_detour && is_moot(inner, parcel, code).await {
                tracing::debug!(%transfer, code = %code, "a parcel came after the end that both know of");
                outbox::done(&inner.parts.store, number, None).await
            } else if is_detour || has_to_wait {
                tracing::debug!(%transfer, code = %code, "a parcel has to wait");
                return Err(code);
            } else {
                tracing::warn!(%transfer, code = %code, "a parcel was refused for good");
                if code == Code::HospitalRevoked || is_replaced(inner, number, code).await {
                    end_request(inner, transfer, code).await;
                }
                outbox::bury(&inner.parts.store, parcel.clone(), code).await
            }
        }
    };
    stored.map_err(|fault| {
        tracing::error!(code = %fault.code(), "the outbox cannot be written");
        Code::Unreachable
    })
}

/// Whether nothing is lost with a parcel that a hospital refuses like this: the transfer has come to nothing at both.
async fn is_moot(inner: &Arc<Inner>, parcel: &Waiting, code: Code) -> bool {
    let Ok(row) = inner.row(parcel.label.transfer).await else { return false };
    if parcel.label.to.is_none() {
        return false;
    }
    if row.makes_moot(code) && !code.is_transient() {
        return true;
    }
    // Its consent was refused there for the no, so it lacks that for good.
    code == Code::EvidenceMissing
        && row.state.phase.is_exit()
        && is_one_of(inner, parcel.number, &[ShareRelease::TYPE]).await
}

/// Whether a hospital refuses a parcel for a no that has not got here, or has not ended the transfer here yet: that makes the
/// parcel moot when it does.
async fn hears_of_a_no(inner: &Arc<Inner>, parcel: &Waiting, code: Code) -> bool {
    let is_open = |row: Row| row.state.phase < Phase::Released;
    let may_come = matches!(code, Code::ConsentRevoked | Code::PatientRefused) && parcel.label.to.is_some();
    may_come && inner.row(parcel.label.transfer).await.is_ok_and(is_open)
}

async fn is_one_of(inner: &Arc<Inner>, number: u64, types: &[&str]) -> bool {
    let content = outbox::content(&inner.parts.store, number).await.ok().flatten().unwrap_or_default();
    peek_type(content.as_ref()).is_ok_and(|label| types.contains(&label.as_str()))
}

/// The index took it: it is kept, until it is seen that it was passed on.
async fn passed(inner: &Arc<Inner>, parcel: &Waiting, taken: Option<TallyOf>) -> Result<(), ExchangeError> {
    match inner.row(parcel.label.transfer).await {
        Ok(row) => {
            let content = outbox::content(&inner.parts.store, parcel.number).await?.unwrap_or_default();
            let (label, phase) = (parcel.label.clone(), comes_without(content.as_ref(), row.state.phase));
            let passed = Passed { label, phase, at: inner.now(), extensions: codec::Extensions::default() };
            outbox::passed(&inner.parts.store, parcel.number, passed, taken).await
        }
        // A refusal of what was not kept here.
        Err(fault) if fault.code() == Code::UnknownTransfer => {
            outbox::done(&inner.parts.store, parcel.number, taken).await
        }
        Err(fault) => Err(fault),
    }
}

/// How far a transfer comes without an artefact that is sent in `phase`.
fn comes_without(content: &[u8], phase: Phase) -> Phase {
    match peek_type(content).ok().as_deref() {
        // The package travels all the same; the source's release waits.
        Some(ShareRelease::TYPE) => Phase::Delivered,
        // The patient's yes may come before it; nothing is sealed.
        Some(FeeAcceptance::TYPE) => Phase::Consented,
        _ => phase,
    }
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

/// Whether a request or consent is refused because the patient's keys were replaced before it arrived: nothing can
/// follow from it.
async fn is_replaced(inner: &Arc<Inner>, number: u64, code: Code) -> bool {
    matches!(code, Code::KeyRecordOutdated | Code::KeyRecordForked)
        && is_one_of(inner, number, &[TransferRequest::TYPE, Consent::TYPE]).await
}

/// A request that cannot arrive any more ends by name; what is further on ends by its own rules.
async fn end_request(inner: &Arc<Inner>, transfer: TransferId, code: Code) {
    let is_open = |phase| match code {
        Code::HospitalRevoked => phase == Phase::Requested,
        _ => matches!(phase, Phase::Requested | Phase::Consented),
    };
    let waits = |row: &Row| row.role == Role::Destination && is_open(row.state.phase);
    let ended = match inner.row(transfer).await {
        Ok(row) if waits(&row) => inner.refuse(transfer, Step::Request, code).await,
        Ok(_) => Ok(()),
        Err(fault) => Err(fault),
    };
    if let Err(fault) = ended {
        tracing::error!(%transfer, code = %fault.code(), "the refusal could not be stored");
    }
}

/// Nothing gets through. A target that is there but busy is asked for one transfer after the other.
const fn is_away(code: Code) -> bool {
    matches!(code, Code::Unreachable | Code::TimedOut)
}

/// Sends it; how much whoever took it says to have taken by now.
async fn send(
    inner: &Arc<Inner>,
    net: &Net,
    target: &Target,
    parcel: &Waiting,
) -> Result<Option<TallyOf>, ExchangeError> {
    let Some(content) = outbox::content(&inner.parts.store, parcel.number).await? else { return Ok(None) };
    rejoin::compare_first(inner, net, &target.clone().party()).await?;
    let (route, to) = match target {
        Target::Index => (inner.route_to_index(), parcel.label.to.clone()),
        Target::Hospital(hospital) => (inner.route_to(hospital)?, None),
    };
    let item = Parcel { to, content, extensions: codec::Extensions::default() };
    let answer = net.request(&route, Request::encode(Verb::Deliver, vec![codec::encode(&item)])).await?;
    let tally = tally::of_answer(&Answer::decode(&answer)?);
    Ok(tally.map(|tally| (target.clone().party(), tally)))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use handover_core::{HospitalId, Timestamp};

    use super::*;

    fn transfer(number: u8) -> TransferId {
        TransferId::new(Timestamp::from_millis(1), [number; 10])
    }

    fn lakeside() -> HospitalId {
        "lakeside".parse().unwrap()
    }

    fn away(target: Target) -> Run {
        Run { target, is_away: true, held: BTreeMap::new(), moved: BTreeSet::new() }
    }

    fn round(labels: Vec<Label>, pauses: &Pauses, now: Instant) -> BTreeMap<Target, Vec<u64>> {
        let mut round = Round::default();
        for (number, label) in (0..).zip(labels) {
            round.take(Waiting { number, label }, pauses, &Running::new(), now);
        }
        let numbers = |parcels: Vec<Waiting>| parcels.into_iter().map(|parcel| parcel.number).collect();
        round.by_target.into_iter().map(|(target, parcels)| (target, numbers(parcels))).collect()
    }

    fn some_labels() -> Vec<Label> {
        let since = Timestamp::from_millis(1);
        vec![
            Label::copy(transfer(1), since),
            Label::via_index(lakeside(), transfer(1), since),
            Label::via_index(lakeside(), transfer(2), since),
            Label::direct(lakeside(), transfer(2), since),
        ]
    }

    #[test]
    fn with_the_index_everything_takes_its_way() {
        let sent = round(some_labels(), &Pauses::default(), Instant::now());
        let expected = [(Target::Index, vec![0, 1, 2]), (Target::Hospital(lakeside()), vec![3])];
        assert_eq!(sent, BTreeMap::from(expected));
    }

    #[test]
    fn without_the_index_hospitals_are_asked_straight_and_copies_wait() {
        let (mut pauses, now) = (Pauses::default(), Instant::now());
        pauses.learn(away(Target::Index), now);
        let sent = round(some_labels(), &pauses, now);
        assert_eq!(sent, BTreeMap::from([(Target::Hospital(lakeside()), vec![1, 2, 3])]));
        // After the pause, one parcel asks for the index; what belongs to it waits for the answer.
        let sent = round(some_labels(), &pauses, pauses.next(now));
        let expected = [(Target::Index, vec![0]), (Target::Hospital(lakeside()), vec![2, 3])];
        assert_eq!(sent, BTreeMap::from(expected));
    }

    #[test]
    fn what_the_index_lacks_is_brought_to_light_by_what_goes_straight() {
        let (mut pauses, now) = (Pauses::default(), Instant::now());
        let label = Label::via_index(lakeside(), transfer(1), Timestamp::from_millis(1));
        let held = BTreeMap::from([(transfer(1), (Waiting { number: 1, label }, Code::EvidenceMissing))]);
        let run = Run { target: Target::Index, is_away: false, held, moved: BTreeSet::new() };
        assert!(pauses.learn(run, now).is_empty());
        let sent = round(some_labels(), &pauses, now);
        let expected = [(Target::Index, vec![2]), (Target::Hospital(lakeside()), vec![1, 3])];
        assert_eq!(sent, BTreeMap::from(expected));
        // The other hospital is away: then the index is asked again.
        pauses.learn(away(Target::Hospital(lakeside())), now);
        assert_eq!(round(some_labels(), &pauses, now), BTreeMap::from([(Target::Index, vec![2])]));
        let sent = round(some_labels(), &pauses, now + Duration::from_millis(100));
        assert_eq!(sent, BTreeMap::from([(Target::Index, vec![0, 1, 2])]));
    }
}
