//! Deliveries under continuous consents: what is new or changed at the source follows by itself. A change wakes this
//! task; it gathers for a moment, looks what of it is in a live consent's scope, and begins a transfer, which is then
//! carried on like any other. At both hospitals it ends what is live of a consent that has run out.
//!
//! What is to be delivered is derived from what is stored: a start looks at every live consent. Invariants: one delivery
//! of a consent at a time; none while what is known of revocations is stale; one above the cap of all fees is refused by
//! name, so that both desks and the patient see it, and is not begun again for the same records.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use handover_core::artefact::Verified;
use handover_core::artefact::patient::Consent;
use handover_core::artefact::transfer::{Refusal, Step};
use handover_core::codec::Extensions;
use handover_core::rules::{self, Context, RequestEvidence};
use handover_core::transfer::{FIRST_ATTEMPT, Role};
use handover_core::{Code, HospitalId, TransferId};
use handover_dossier::{Dossier, DossierError, Row, Taken};
use handover_records::{Action, Origin, RecordId, RecordVersionRef};
use handover_seal::Remembered;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::agenda::{Agenda, GATHER};
use super::quote::{self, Drawn, Seen};
use super::{permit, seal};
use crate::context::{Came, Inner};
use crate::continuous::{self, Live};
use crate::pauses::LONGEST_PAUSE;
use crate::wakes::Woken;
use crate::{ExchangeError, provenance, rejoin, selection};

/// Runs until shut down.
pub(crate) async fn run(inner: Arc<Inner>, shutdown: CancellationToken) {
    let mut agenda = Agenda::default();
    match all_live(&inner).await {
        Ok(all) => {
            for live in all {
                agenda.look(live.origin, Instant::now());
                agenda.ends.insert(live.origin, live.expires);
            }
        }
        Err(fault) => tracing::error!(code = %fault.code(), "live consents cannot be read"),
    }
    // What failed before is tried again once.
    let mut is_new_try = true;
    loop {
        while let Some(origin) = agenda.take(Instant::now(), inner.now()) {
            if shutdown.is_cancelled() {
                return;
            }
            look(&inner, &mut agenda, origin, is_new_try).await;
        }
        let next = agenda.next(Instant::now(), inner.now());
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = sleep_until(next) => is_new_try = false,
            () = inner.wakes.notified() => {
                let woken = inner.wakes.take();
                is_new_try = woken.is_directory_new;
                if let Err(fault) = note(&inner, &mut agenda, woken).await {
                    tracing::error!(code = %fault.code(), "live consents cannot be read");
                }
            }
        }
    }
}

async fn all_live(inner: &Arc<Inner>) -> Result<Vec<Live>, ExchangeError> {
    let (mut all, mut after) = (Vec::new(), None::<Vec<u8>>);
    loop {
        let (keys, from) = (inner.keys(), after.take());
        let read = inner.parts.store.read(move |txn| continuous::page(txn, &keys, None, from.as_deref()));
        let (page, next) = read.await?;
        all.extend(page);
        after = next;
        if after.is_none() {
            return Ok(all);
        }
    }
}

/// Notes what has to be looked at: changes after they were gathered, the rest at once.
async fn note(inner: &Arc<Inner>, agenda: &mut Agenda, woken: Woken) -> Result<(), ExchangeError> {
    let now = Instant::now();
    for origin in woken.consents {
        agenda.look(origin, now);
    }
    if woken.is_directory_new {
        inner.wakes.held().into_iter().for_each(|origin| agenda.look(origin, now));
    }
    for patient in woken.patients {
        let (keys, records) = (inner.keys(), inner.parts.records.clone());
        let read = inner.parts.store.read(move |txn| -> Result<_, ExchangeError> {
            let mut live = Vec::new();
            for linked in records.refs_in(txn, &patient)? {
                live.extend(continuous::of(txn, &keys, &linked)?);
            }
            Ok(live)
        });
        for live in read.await? {
            agenda.look(live.origin, now + GATHER);
        }
    }
    Ok(())
}

/// Looks at one consent, and says in `transfer show` what it has to wait for.
async fn look(inner: &Arc<Inner>, agenda: &mut Agenda, origin: TransferId, is_new_try: bool) {
    let now = Instant::now();
    let (live, outcome) = match ground(inner, origin).await {
        Ok(None) => {
            agenda.ends.remove(&origin);
            inner.wakes.let_go(origin);
            return;
        }
        Ok(Some(ground)) => {
            let live = ground.live.clone();
            // One that has ended goes with the delivery that is under way, whose end wakes this again.
            if !ground.has_ended {
                agenda.ends.insert(origin, live.expires);
            }
            (Some(live), begin(inner, ground, is_new_try).await)
        }
        Err(fault) => (None, Err(fault)),
    };
    let Err(fault) = outcome else { return inner.wakes.let_go(origin) };
    let code = fault.code();
    tracing::warn!(transfer = %origin, code = %code, detail = %fault, "a delivery has to wait");
    let left_ms = live.map_or(0, |live| live.expires.since_ms(inner.now()));
    let mut until = now + Duration::from_millis(u64::try_from(left_ms).unwrap_or(0));
    if code.is_transient() {
        until = now + LONGEST_PAUSE;
        agenda.look(origin, until);
    }
    inner.wakes.hold(origin, code, until);
    inner.changed.send_modify(|count| *count = count.wrapping_add(1));
}

/// What a delivery stands on.
struct Ground {
    row: Row,
    live: Live,
    on: RequestEvidence,
    consent: Verified<Consent>,
    sent: BTreeMap<RecordId, u32>,
    is_under_way: bool,
    has_ended: bool,
}

/// Reads it; nothing if the consent has ended, of which then nothing stays, or a newer one does what it did.
async fn ground(inner: &Arc<Inner>, origin: TransferId) -> Result<Option<Ground>, ExchangeError> {
    let (keys, federation, now) = (inner.keys(), inner.federation()?, inner.now());
    let read = inner.parts.store.read(move |txn| -> Result<_, DossierError> {
        let context = Context { federation: &federation, verifier: &Remembered };
        let mut dossier = Dossier::of(txn, &keys, origin);
        let Some(row) = dossier.row()? else { return Ok(None) };
        let Some(live) = continuous::get(txn, &keys, &row)? else { return Ok(None) };
        let mut dossier = Dossier::of(txn, &keys, origin);
        let (on, consent) = (dossier.request(context)?, dossier.consent(context)?);
        let is_under_way = dossier.under_way()?.is_some();
        let has_ended = !continuous::holds(&mut dossier, &consent, now)?;
        let sent = continuous::sent(txn, &keys, origin)?;
        Ok(Some(Ground { row, live, on, consent, sent, is_under_way, has_ended }))
    });
    let Some(ground) = read.await? else { return Ok(None) };
    if ground.is_under_way {
        return Ok(Some(ground));
    }
    if ground.has_ended || ground.row.role == Role::Source && is_replaced(inner, &ground).await? {
        let (keys, keyring, patient) = (inner.keys(), inner.parts.keyring.clone(), ground.row.patient);
        let ended =
            inner.parts.store.write(move |txn| continuous::end(txn, &keyring, &keys, &patient, origin));
        ended.await?;
        return Ok(None);
    }
    Ok(Some(ground))
}

/// Whether a newer live consent of the patient for the same hospital covers all of this one's records.
async fn is_replaced(inner: &Arc<Inner>, ground: &Ground) -> Result<bool, ExchangeError> {
    let (keys, patient, federation) = (inner.keys(), ground.row.patient, inner.federation()?);
    let (origin, destination, now) = (ground.row.transfer, ground.row.destination.clone(), inner.now());
    let expires = ground.consent.expires;
    let read = inner.parts.store.read(move |txn| -> Result<_, DossierError> {
        let context = Context { federation: &federation, verifier: &Remembered };
        let mut newer = Vec::new();
        for live in continuous::of(txn, &keys, &patient)? {
            let mut dossier = Dossier::of(txn, &keys, live.origin);
            let is_same = |row: Row| row.role == Role::Source && row.destination == destination;
            if live.origin > origin && dossier.row()?.is_some_and(is_same) {
                let consent = dossier.consent(context)?;
                if consent.expires >= expires && continuous::holds(&mut dossier, &consent, now)? {
                    newer.push(consent);
                }
            }
        }
        Ok(newer)
    });
    let newer = read.await?;
    if newer.is_empty() {
        return Ok(false);
    }
    let own = seal::consent_details(inner, &ground.consent)?.scope;
    for consent in &newer {
        if own.is_within(&seal::consent_details(inner, consent)?.scope) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Whether a record is delivered to this hospital: not what came from there or was made there, nor the provenance that
/// filing added. So nothing travels in circles where consents go both ways, or round.
fn goes_on(record: &RecordVersionRef, destination: &HospitalId) -> bool {
    match &record.origin {
        Origin::Local => true,
        Origin::Received { source, origin, .. } => {
            source != destination && origin != destination && !provenance::is_of_filing(record)
        }
    }
}

/// Begins a delivery of what is new or changed in the consent's scope, if anything is.
async fn begin(inner: &Arc<Inner>, ground: Ground, is_new_try: bool) -> Result<(), ExchangeError> {
    let Ground { row, live, on, consent, sent, is_under_way, .. } = &ground;
    if row.role != Role::Source || *is_under_way {
        return Ok(());
    }
    rejoin::may_work(inner, row)?;
    let (federation, now) = (inner.federation()?, inner.now());
    rules::revocations_fresh(federation.directory().issued, now)?;
    federation.check_fresh(now)?;
    federation.active(&row.source, now)?;
    federation.active(&row.destination, now)?;
    let scope = seal::consent_details(inner, consent)?.scope;
    let (permit, patient) = permit(inner, row, Action::Export).await?;
    let everything = quote::snapshot(inner, &permit, &patient).await?;
    let is_new = |record: &&RecordVersionRef| {
        scope.contains(&record.department, record.date, record.is_restricted)
            && goes_on(record, &row.destination)
            && sent.get(&record.reference.record) != Some(&record.reference.version)
    };
    let records = selection::as_fit(everything.iter().filter(is_new));
    if records.is_empty() {
        return Ok(());
    }
    // The same that came to nothing before: it is tried again with another directory or after a start, but not above the
    // cap, nor where the patient is not known any more.
    let versions = selection::versions_hash(&records);
    if let Some(failed) = live.failed.as_ref().filter(|failed| failed.versions == versions)
        && (!is_new_try || matches!(failed.code, Code::CapReached | Code::NotLinked))
    {
        return Err(failed.code.into());
    }
    let drawn =
        quote::delivery(inner, &permit, patient, (&everything, &records), scope, (on, consent)).await?;
    match store(inner, ground, drawn, Seen { permit, everything }).await? {
        Some(Begun { refused: Some(code), .. }) => Err(code.into()),
        _ => Ok(()),
    }
}

struct Begun {
    taken: Taken,
    refused: Option<Code>,
}

/// Keeps the quote with which a delivery begins; with it the refusal, if the fee would be above the cap with all others.
async fn store(
    inner: &Arc<Inner>,
    ground: Ground,
    drawn: Drawn,
    seen: Seen,
) -> Result<Option<Begun>, ExchangeError> {
    let (work, keys, federation, now) = (Arc::clone(inner), inner.keys(), inner.federation()?, inner.now());
    let begun = inner
        .parts
        .store
        .write(move |txn| -> Result<_, DossierError> {
            let context = Context { federation: &federation, verifier: &Remembered };
            let Ground { row, consent, .. } = &ground;
            let mut first = Dossier::of(txn, &keys, row.transfer);
            // Something may have come since it was looked at.
            if first.under_way()?.is_some()
                || !continuous::holds(&mut first, consent, now)?
                || continuous::get(txn, &keys, row)?.is_none()
            {
                return Ok(None);
            }
            let (transfer, fee) = (drawn.quote.transfer, drawn.priced.body.fee);
            seen.note_changes(&work, txn, &drawn.chosen, now)?;
            let taken = drawn.keep(&work, txn, &keys, context, now)?;
            let others = Dossier::of(txn, &keys, transfer).other_fees(context)?;
            let Err(code) = rules::within_cap(consent, &others, fee) else {
                return Ok(Some(Begun { taken, refused: None }));
            };
            let refusal = Refusal {
                transfer,
                step: Step::Seal,
                code,
                issued: now,
                attempt: FIRST_ATTEMPT,
                extensions: Extensions::default(),
            };
            let refusal = Verified::sign(refusal, &work.parts.identity.signing);
            let taken = work.take_in(txn, &keys, transfer, refusal.envelope(), Came::Own, context, now)?;
            Ok(Some(Begun { taken, refused: Some(code) }))
        })
        .await?;
    if let Some(begun) = &begun {
        inner.wake(&begun.taken);
    }
    Ok(begun)
}

#[cfg(test)]
mod tests {
    use handover_core::{Digest, Timestamp};
    use handover_records::RecordRef;

    use super::*;

    fn transfer(number: u8) -> TransferId {
        TransferId::new(Timestamp::from_millis(1), [number; 10])
    }

    #[test]
    fn nothing_travels_in_circles() {
        let hospital = |id: &str| -> HospitalId { id.parse().unwrap() };
        let record = |resource_type: &str, origin: Origin| RecordVersionRef {
            reference: RecordRef { record: RecordId::from_bytes([1; 16]), version: 1 },
            patient: "4711".parse().unwrap(),
            department: "cardiology".parse().unwrap(),
            resource_type: resource_type.to_owned(),
            resource_id: transfer(1).to_string(),
            content_hash: Digest::from_bytes([1; 32]),
            date: None,
            is_restricted: false,
            file: None,
            mark: None,
            bytes: 1,
            origin,
            filed: Timestamp::from_millis(1),
        };
        let received = |source: &str, origin: &str| Origin::Received {
            source: hospital(source),
            origin: hospital(origin),
            transfer: transfer(1),
        };
        let riverside = hospital("riverside");
        for (resource_type, origin, goes) in [
            ("Observation", Origin::Local, true),
            ("Provenance", Origin::Local, true),
            ("Observation", received("hillcrest", "hillcrest"), true),
            ("Observation", received("hillcrest", "riverside"), false),
            ("Observation", received("riverside", "hillcrest"), false),
            ("Provenance", received("hillcrest", "hillcrest"), false),
        ] {
            let record = record(resource_type, origin);
            assert_eq!(goes_on(&record, &riverside), goes, "{resource_type} {:?}", record.origin);
        }
    }
}
