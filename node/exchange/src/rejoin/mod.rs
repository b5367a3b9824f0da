//! A store that came from a backup, lost something in a database, or was repaired, finds that out and catches up before it
//! speaks for its hospital again.
//!
//! What this hospital signed lay in its own store before anybody else had it. So whoever holds something that it signed
//! and that its store lacks shows, by this hospital's own signature, that the store was rolled back; so does whoever was
//! told that more of theirs was taken than it knows of ([`tally`]). After each start whoever is there, and each whom
//! this store was ever compared with, is asked for the newest such artefact and the highest tally. If one is unknown,
//! the index and all hospitals are asked for everything that they hold of common transfers since they were last compared
//! with.
//!
//! Invariants: no work is done for a hospital before it and the index were asked since the start, as far as they are there,
//! and nobody is sent what was signed here before they were; while the store catches up, nothing of a transfer is signed
//! until the index and the other hospital have told everything; what was found out is durable, and goes on after any stop.

mod gate;
mod rows;
mod taking;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use handover_core::artefact::transfer::Refusal;
use handover_core::artefact::{Payload as _, peek_type, signed_by};
use handover_core::codec::{self, Extensions, MAX_MESSAGE_BYTES};
use handover_core::message::{Answer, EvidenceAnswer, EvidencePlace, EvidenceQuestion, Request, Tally, Verb};
use handover_core::time::DAY_MS;
use handover_core::transfer::{Phase, Role};
use handover_core::{Code, Party, Timestamp, TransferId};
use handover_dossier::{Dossier, DossierError, Row, tally, transfer_of};
use handover_net::{Net, Route};
use handover_records::{Action, GrantRequest, Purpose, Subject};
use handover_seal::Remembered;
use handover_store::StoreError;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::context::Inner;
use crate::pauses::Wait;
use crate::{Exchange, ExchangeError, key_records, left, links, recalled};

pub use gate::Gate;
pub(crate) use rows::{is_unfiled, put_taken as see_to_later, put_unfiled as note_unfiled};

/// The step that waits, as the desk reads it.
const STEP: &str = "catch-up";
/// How long one is looked for who may be back.
const LOOK_LIMIT: Duration = Duration::from_secs(2);
/// How soon those are asked again that could not be.
const AGAIN: Duration = Duration::from_secs(5);
/// How long one of them may take with everything. What was taken by then stays, and the next time is the faster for it.
const ASK_LIMIT: Duration = Duration::from_secs(6 * 60 * 60);
/// How often everybody who is connected is compared with, so that little has to be asked for later.
const COMPARE_EVERY: Duration = Duration::from_secs(6 * 60 * 60);
/// How many are asked at once.
const AT_ONCE: usize = 8;
/// Transfers looked at in one page.
const PAGE: usize = 200;
/// How much further back is asked for than the last comparison: others may have had for long what came here late.
const MARGIN_MS: i64 = 30 * DAY_MS;

/// How a store that came from a backup stands.
#[derive(Clone, Debug)]
pub struct Rejoining {
    /// When that was found, or said by hand.
    pub found: Timestamp,
    /// When everybody had told everything; none while it catches up.
    pub done: Option<Timestamp>,
    /// Who has still to tell.
    pub waits_for: Vec<Party>,
    /// Artefacts that were taken back.
    pub artefacts: u64,
    /// Transfers that were filed here, and whose records are not here any more; at most so many as a page has.
    pub unfiled: Vec<TransferId>,
}

/// Whether this store may speak for its hospital in this transfer.
///
/// # Errors
/// [`Code::CatchingUp`].
pub(crate) fn may_work(inner: &Inner, row: &Row) -> Result<(), Code> {
    let gate = &inner.parts.gate;
    match (row.role, row.state.phase) {
        (Role::Source, Phase::Delivered) => gate.may_release(row.other()),
        _ => gate.may_work(row.other()),
    }
}

/// What a transfer waits for, if it does.
pub(crate) fn wait(inner: &Inner, row: &Row) -> Option<Wait> {
    let code = may_work(inner, row).err().filter(|_| !row.state.phase.is_final())?;
    Some(Wait { step: STEP, party: None, code, next_in: AGAIN })
}

/// Compares with somebody before they are sent anything that was signed here: else that would hide what was lost.
pub(crate) async fn compare_first(inner: &Arc<Inner>, net: &Net, party: &Party) -> Result<(), ExchangeError> {
    let gate = &inner.parts.gate;
    if gate.is_compared(party) {
        return Ok(());
    }
    if gate.told().is_some() { Err(Code::CatchingUp.into()) } else { ask(inner, net, party).await }
}

/// Compares with somebody who brings something before it is taken: what follows from that may have been signed before, and
/// lost. Who brings it may be back before it is known here that they are.
pub(crate) async fn compare_before_taking(
    inner: &Arc<Inner>,
    net: &Net,
    party: &Party,
) -> Result<(), ExchangeError> {
    let gate = &inner.parts.gate;
    // While it catches up nothing is signed anyway.
    if gate.told().is_some() || gate.is_compared(party) { Ok(()) } else { ask(inner, net, party).await }
}

/// Compares with the other hospital of what the index brings, if that is back and nobody knows it here yet; it is not
/// waited for long.
pub(crate) async fn look_for_other(inner: &Arc<Inner>, net: &Net, content: &[u8]) {
    let Ok(transfer) = transfer_of(content) else { return };
    let Ok(row) = inner.row(transfer).await else { return };
    let other = Party::Hospital(row.other().clone());
    let looked = tokio::time::timeout(LOOK_LIMIT, compare_before_taking(inner, net, &other)).await;
    if !matches!(looked, Ok(Ok(()))) {
        tracing::debug!(%other, "is away, and is compared with when it is back");
    }
}

/// What somebody was asked, and what came of it.
type Asked = (Party, Result<(), ExchangeError>);

/// Runs until shut down: after each connection, and while somebody is still to be asked.
pub(crate) async fn run(inner: Arc<Inner>, net: Net, shutdown: CancellationToken) {
    let mut asking: JoinSet<Asked> = JoinSet::new();
    let mut under_way = BTreeSet::new();
    let mut has_news = true;
    // Who is idle does not call by itself: whoever this store knows is looked for once, and who was there until it has been
    // compared with.
    let mut to_look_for = inner.parts.gate.partners.clone();
    let mut were_there = BTreeSet::new();
    loop {
        were_there.extend(net.connected());
        were_there.retain(|it| !inner.parts.gate.is_compared(it));
        for party in due(&inner, &net, to_look_for.union(&were_there)) {
            if asking.len() < AT_ONCE && under_way.insert(party.clone()) {
                let (inner, net) = (Arc::clone(&inner), net.clone());
                asking.spawn(async move {
                    let asked = tokio::time::timeout(ASK_LIMIT, ask(&inner, &net, &party)).await;
                    (party, asked.unwrap_or_else(|_| Err(Code::TimedOut.into())))
                });
            }
        }
        has_news = match finish(&inner, has_news).await {
            Ok(is_left) => is_left,
            Err(fault) => {
                tracing::error!(code = %fault.code(), detail = %fault, "what was given back cannot be seen to");
                true
            }
        };
        tokio::select! {
            () = shutdown.cancelled() => break,
            () = inner.parts.gate.rung() => {}
            () = tokio::time::sleep(AGAIN) => {}
            Some(asked) = asking.join_next() => if let Ok((party, outcome)) = asked {
                under_way.remove(&party);
                to_look_for.remove(&party);
                // Somebody may have told a part of what is lacking.
                has_news |= outcome.is_ok() || !inner.parts.gate.is_whole();
                if let Err(fault) = outcome {
                    tracing::debug!(%party, code = %fault.code(), detail = %fault, "cannot be compared with yet");
                    if inner.parts.gate.put_in_vain(&party) {
                        go_on(&inner);
                    }
                }
            }
        }
    }
    asking.shutdown().await;
}

/// Who is to be asked: whoever is connected, waited for or still to be looked for, and while the store catches up everybody.
/// Those who are there first: others keep their places for as long as one dials.
fn due<'a>(inner: &Inner, net: &Net, to_look_for: impl Iterator<Item = &'a Party>) -> Vec<Party> {
    let (gate, connected) = (&inner.parts.gate, net.connected());
    let mut all: BTreeSet<Party> = connected.iter().cloned().chain(gate.wanted()).collect();
    all.extend(to_look_for.cloned());
    if let Some(told) = gate.told() {
        all.extend(needed(inner).into_iter().filter(|party| !told.contains(party)));
    }
    let mut due: Vec<Party> = all.into_iter().filter(|party| gate.is_due(party, COMPARE_EVERY)).collect();
    due.sort_by_key(|party| !connected.contains(party));
    due
}

/// Everybody who can know something of this hospital's.
fn needed(inner: &Inner) -> BTreeSet<Party> {
    let mut all = BTreeSet::from([Party::Index]);
    if let Ok(federation) = inner.federation() {
        let now = inner.now();
        let active = federation.members().map(|it| &it.certificate.hospital);
        let others = active.filter(|it| *it != inner.own() && federation.active(it, now).is_ok());
        all.extend(others.cloned().map(Party::Hospital));
    }
    all
}

async fn ask(inner: &Arc<Inner>, net: &Net, party: &Party) -> Result<(), ExchangeError> {
    let route = match party {
        Party::Index => inner.route_to_index(),
        Party::Hospital(hospital) => inner.route_to(hospital)?,
    };
    if inner.parts.gate.has_told(party) {
        compare(inner, net, (party, &route)).await?;
    }
    if !inner.parts.gate.has_told(party) {
        catch_up(inner, net, (party, &route)).await?;
    }
    Ok(())
}

/// Finds out whether somebody holds what this hospital signed, or was told that it took, and does not know: then the store
/// begins to catch up.
async fn compare(
    inner: &Arc<Inner>,
    net: &Net,
    (party, route): (&Party, &Route),
) -> Result<(), ExchangeError> {
    let (by, since) = (Subject::System(STEP.to_owned()), inner.parts.gate.since);
    if unknown(inner, net, route).await?.is_some() {
        tracing::warn!(%party, "holds what this hospital signed and does not know");
        return begin(inner, by, since).await;
    }
    if let Some(shown) = highest_tally(net, route).await? {
        let (keys, of) = (inner.keys(), party.clone());
        if inner.parts.store.read(move |txn| tally::is_beyond(txn, &keys, &of, &shown)).await? {
            tracing::warn!(%party, "was told that this hospital took more than it knows of");
            return begin(inner, by, since).await;
        }
    }
    let (keys, now, whom) = (inner.keys(), inner.now(), party.clone());
    inner.parts.store.write(move |txn| rows::put_compared(txn, &keys, &whom, now)).await?;
    inner.parts.gate.put_compared(party.clone());
    go_on(inner);
    Ok(())
}

/// The highest tally that somebody was told.
async fn highest_tally(net: &Net, route: &Route) -> Result<Option<Tally>, ExchangeError> {
    let answer = net.request(route, Request::encode(Verb::Tally, Vec::new())).await?;
    match Answer::decode(&answer) {
        Ok(items) => Ok(tally::of_answer(&items)),
        // One of before keeps none.
        Err(Code::Malformed | Code::OlderProgram) => Ok(None),
        Err(code) => Err(code.into()),
    }
}

/// What had to wait is looked at again.
fn go_on(inner: &Inner) {
    inner.jobs.notify_one();
    inner.outbox.notify_one();
    inner.recalls.notify_one();
    inner.wakes.directory();
}

/// The newest that this hospital signed and somebody holds, if it is not here.
async fn unknown(inner: &Arc<Inner>, net: &Net, route: &Route) -> Result<Option<Vec<u8>>, ExchangeError> {
    let answer = net.request(route, Request::encode(Verb::Newest, Vec::new())).await?;
    let newest = match Answer::decode(&answer) {
        Ok(items) => items.into_iter().next(),
        // One that does not know the question yet keeps no answer to it.
        Err(Code::Malformed) => None,
        Err(code) => return Err(code.into()),
    };
    match newest {
        Some(newest) if is_unknown(inner, newest.clone()).await? => Ok(Some(newest)),
        _ => Ok(None),
    }
}

/// Whether this hospital signed it: now, or with the key that the directory has of it. What a key of before signed says
/// nothing of a loss: a thief of it may have signed it since.
fn is_own(inner: &Inner, content: &[u8]) -> bool {
    let mut own = vec![inner.parts.identity.signing.public()];
    if let Ok(federation) = inner.federation() {
        own.extend(federation.member(inner.own()).map(|member| member.certificate.key));
    }
    signed_by(content, &own, &Remembered).is_ok()
}

async fn is_unknown(inner: &Arc<Inner>, content: Vec<u8>) -> Result<bool, ExchangeError> {
    let transfer = match transfer_of(&content) {
        Ok(transfer) => transfer,
        // Signed by this hospital's next version, before it was restored.
        Err(Code::NewerEdition) => return Err(Code::NewerEdition.into()),
        Err(_) => return Ok(false),
    };
    // What is refused before anything of it is kept here leaves nothing but the refusal.
    let is_refusal = peek_type(&content).is_ok_and(|label| label == Refusal::TYPE);
    if is_refusal || !is_own(inner, &content) {
        return Ok(false);
    }
    let keys = inner.keys();
    let read = inner.parts.store.read(move |txn| -> Result<_, DossierError> {
        let is_kept = Dossier::of(txn, &keys, transfer).keeps(&content)?
            || left::holds(txn, &keys, transfer, &content)?;
        Ok(!is_kept && !rows::is_given_up(txn, &keys, &content)?)
    });
    Ok(read.await?)
}

/// From here on nothing is signed that concerns somebody who has not told everything.
async fn begin(inner: &Arc<Inner>, by: Subject, since: Timestamp) -> Result<(), ExchangeError> {
    let (work, keys, now) = (Arc::clone(inner), inner.keys(), inner.now());
    let request = GrantRequest::new(by, Action::Rejoin, Purpose::Administration, None);
    let is_new = inner.parts.gate.told().is_none();
    inner.parts.gate.begin();
    let begun = inner.parts.store.write(move |txn| -> Result<(), DossierError> {
        work.parts.records.audit().permit_in(txn, &request, now).map_err(recalled::of_records)?;
        rows::clear(txn, &keys)?;
        let known = rows::head(txn, &keys)?.filter(|head| head.done.is_none());
        let head = known.unwrap_or(rows::Head {
            found: now,
            artefacts: 0,
            done: None,
            since,
            extensions: Extensions::default(),
        });
        let since = head.since.min(since);
        rows::put_head(txn, &keys, &rows::Head { since, ..head })?;
        // One that was given out may have been used since.
        links::remove_codes(txn, &keys)?;
        Ok(())
    });
    if let Err(fault) = begun.await {
        if is_new {
            inner.parts.gate.end();
        }
        return Err(fault.into());
    }
    tracing::warn!("this store was restored from a backup, or lost something: it catches up");
    inner.parts.gate.ring();
    inner.changed.send_modify(|count| *count = count.wrapping_add(1));
    Ok(())
}

/// What was sealed may have been left at the index since: that is asked before anything else is done with it.
async fn doubt_left(inner: &Arc<Inner>) -> Result<(), ExchangeError> {
    let mut after = None;
    loop {
        let (keys, from) = (inner.keys(), after);
        let doubted = inner.parts.store.write(move |txn| -> Result<_, DossierError> {
            let page = handover_dossier::active(txn, &keys, from, PAGE)?;
            for row in &page {
                let is_sealed = matches!(row.state.phase, Phase::Sealed | Phase::Delivered);
                if row.role == Role::Source && row.origin.is_none() && is_sealed {
                    left::put_lost(txn, &keys, row.transfer, row.state.attempt)?;
                }
            }
            Ok(page.into_iter().nth(PAGE - 1).map(|row| row.transfer))
        });
        after = doubted.await?;
        if after.is_none() {
            return Ok(());
        }
    }
}

/// Takes back everything that somebody holds.
async fn catch_up(
    inner: &Arc<Inner>,
    net: &Net,
    (party, route): (&Party, &Route),
) -> Result<(), ExchangeError> {
    if *party == Party::Index {
        inner.refresh_directory(net, route).await?;
    }
    let keys = inner.keys();
    let head = inner.parts.store.read(move |txn| rows::head(txn, &keys)).await?;
    let since = head.map_or(Timestamp::from_millis(0), |head| head.since.plus_ms(-MARGIN_MS));
    let mut after: Option<EvidencePlace> = None;
    let place = |it: &EvidencePlace| (it.transfer, it.given.unwrap_or(u32::MAX));
    loop {
        let question = EvidenceQuestion { since, after: after.clone(), extensions: Extensions::default() };
        let body = Request::encode(Verb::Evidence, vec![codec::encode(&question)]);
        let answer = match Answer::decode(&net.request(route, body).await?) {
            Ok(items) => items.into_iter().next().ok_or(Code::Malformed)?,
            // One of before knows nothing that it could tell.
            Err(Code::Malformed) => break,
            Err(code) => return Err(code.into()),
        };
        let answer: EvidenceAnswer = codec::decode(&answer, MAX_MESSAGE_BYTES)?;
        let contents = answer.contents.into_iter().map(|content| content.0).collect();
        let new = taking::all(inner, party, contents).await?;
        count(inner, new).await?;
        let before = after.as_ref().map(place);
        match answer.next {
            None => break,
            Some(next) if before < Some(place(&next)) => after = Some(next),
            Some(_) => return Err(Code::Malformed.into()),
        }
    }
    if let Some(lost) = unknown(inner, net, route).await? {
        taking::give_up(inner, party, vec![(lost, Code::EvidenceMissing)]).await?;
    }
    if *party == Party::Index {
        doubt_left(inner).await?;
        key_records::owe_all(inner).await?;
        key_records::tell(inner, net, route).await?;
    }
    let (shown, keys, now, whom) =
        (highest_tally(net, route).await?, inner.keys(), inner.now(), party.clone());
    let told = inner.parts.store.write(move |txn| -> Result<(), StoreError> {
        tally::raise(txn, &keys, &whom, shown.as_ref(), now)?;
        rows::put_told(txn, &keys, &whom, now)
    });
    told.await?;
    inner.parts.gate.put_told(party.clone());
    tracing::info!(%party, "has told everything");
    Ok(())
}

async fn count(inner: &Arc<Inner>, new: u64) -> Result<(), ExchangeError> {
    let keys = inner.keys();
    let counted = inner.parts.store.write(move |txn| -> Result<(), ExchangeError> {
        let Some(mut head) = rows::head(txn, &keys)? else { return Ok(()) };
        head.artefacts = head.artefacts.saturating_add(new);
        Ok(rows::put_head(txn, &keys, &head)?)
    });
    counted.await
}

/// Sees to what was given back, if there is news; whether something is left that can be seen to.
async fn finish(inner: &Arc<Inner>, has_news: bool) -> Result<bool, ExchangeError> {
    let gate = &inner.parts.gate;
    if !has_news {
        return Ok(false);
    }
    let is_left = taking::see_to_all(inner, |other| gate.may_sign(other).is_ok()).await?;
    go_on(inner);
    if !gate.told().is_some_and(|told| needed(inner).is_subset(&told)) {
        return Ok(is_left);
    }
    let (keys, now) = (inner.keys(), inner.now());
    let ended = inner.parts.store.write(move |txn| -> Result<(), ExchangeError> {
        let Some(mut head) = rows::head(txn, &keys)? else { return Ok(()) };
        head.done = Some(now);
        Ok(rows::put_head(txn, &keys, &head)?)
    });
    ended.await?;
    gate.end();
    tracing::info!("this store has caught up");
    inner.changed.send_modify(|count| *count = count.wrapping_add(1));
    // What concerns hospitals that take no part any more.
    Ok(true)
}

impl Exchange {
    /// Says that the store came from a backup, if nobody can tell: it asks everybody for everything. While it does already,
    /// nothing changes.
    ///
    /// # Errors
    /// The store's; [`Code::AuditUnavailable`].
    pub async fn rejoin(&self, staff: &str) -> Result<(), ExchangeError> {
        if self.0.parts.gate.told().is_some() {
            return Ok(());
        }
        begin(&self.0, Subject::staff(staff), Timestamp::from_millis(0)).await
    }

    /// How a store that came from a backup stands; none if it never did.
    ///
    /// # Errors
    /// The store's.
    pub async fn rejoining(&self) -> Result<Option<Rejoining>, ExchangeError> {
        let keys = self.0.keys();
        let read = self.0.parts.store.read(move |txn| -> Result<_, ExchangeError> {
            let Some(head) = rows::head(txn, &keys)? else { return Ok(None) };
            Ok(Some((head, rows::told(txn, &keys)?, rows::unfiled(txn, &keys, None)?)))
        });
        let Some((head, told, unfiled)) = read.await? else { return Ok(None) };
        let waits_for = match head.done {
            Some(_) => Vec::new(),
            None => needed(&self.0).difference(&told).cloned().collect(),
        };
        let rows::Head { found, artefacts, done, .. } = head;
        Ok(Some(Rejoining { found, done, waits_for, artefacts, unfiled }))
    }

    /// Whether the store catches up, so that this hospital cannot sign: for nobody, or for some.
    #[must_use]
    pub fn catching_up(&self) -> Option<bool> {
        self.0.parts.gate.told().map(|told| !told.contains(&Party::Index))
    }
}
