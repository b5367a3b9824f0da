//! The new hospital: patients who are linked here bring their requests, a clerk vouches for who they are, and the old
//! hospital is asked until it has answered.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use handover_core::artefact::patient::PatientLink;
use handover_core::artefact::remote::{RemoteLinkRequest, RemoteLinkState as State};
use handover_core::artefact::{Countersigned, Signed, Verified};
use handover_core::codec::{Bytes, Extensions};
use handover_core::message::{Answer, Request, Verb};
use handover_core::rules::{self, Context};
use handover_core::{Code, HospitalId, KeyChain, PatientRef, RemoteLinkId, Timestamp};
use handover_records::{Action, Subject};
use handover_seal::Remembered;
use handover_store::{KeyMaker, StoreError, Txn, rows};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::brought::OutRow;
use super::{
    OUT, REQUEST_MAX_BYTES, ROWS_MAX, RemoteLink, cells, details, kept_until, left_of, permit, place,
};
use crate::context::Inner;
use crate::{Exchange, ExchangeError};

/// Requests of one patient.
const ROWS_PER_PATIENT: usize = 5;
/// How soon an old hospital that could not be asked is asked again; doubles up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(120);
/// How often it is asked for its answer, even if no patient wants to know.
const LOOK: Duration = Duration::from_secs(15 * 60);

impl Exchange {
    /// Takes a patient's request to be vouched for; how it stands. The same again gives how it stands then, after the
    /// old hospital was asked.
    ///
    /// # Errors
    /// Why it is none; [`Code::NotLinked`] for a patient who is not linked here; [`Code::Busy`]; why the old hospital
    /// takes no part.
    pub async fn remote_link(&self, envelope: Vec<u8>) -> Result<Vec<u8>, ExchangeError> {
        let inner = &self.0;
        if envelope.len() > REQUEST_MAX_BYTES {
            return Err(Code::TooLarge.into());
        }
        let request = rules::remote_link_claim(&envelope, inner.own(), &Remembered)?;
        let id = request.id;
        match row(inner, id).await {
            Ok(held) if held.request.as_ref() != envelope => return Err(Code::Conflict.into()),
            Ok(_) => ask_again(inner, id).await,
            Err(fault) if fault.code() == Code::UnknownRemoteLink => self.keep_request(request).await?,
            Err(fault) => return Err(fault),
        }
        Ok(row(inner, id).await?.status())
    }

    async fn keep_request(&self, request: Verified<RemoteLinkRequest>) -> Result<(), ExchangeError> {
        let (inner, now) = (&self.0, self.0.now());
        rules::remote_link_in_time(&request, now)?;
        inner.federation()?.active(&request.hospital, now)?;
        self.admit_keys(KeyChain::of(&request.key_records, &request.patient, &Remembered)?).await?;
        inner.parts.records.by_ref(request.patient).await?.ok_or(Code::NotLinked)?;
        // One that no desk here can read is not kept.
        details(inner, &request, request.sealed_to_vouching.as_ref())?;
        let keys = inner.keys();
        let new = OutRow {
            request: request.envelope().to_vec().into(),
            state: State::Waiting,
            reason: None,
            answer: None,
            extensions: Extensions::default(),
        };
        let write = inner.parts.store.write(move |txn| -> Result<(), ExchangeError> {
            let key = place(&keys, OUT, &request.id);
            if txn.get(&key)?.is_some() {
                return Ok(());
            }
            let others = left(txn, &keys, now)?;
            let own = others.iter().filter(|other| other.patient == request.patient).count();
            if others.len() >= ROWS_MAX || own >= ROWS_PER_PATIENT {
                return Err(Code::Busy.into());
            }
            Ok(rows::put(txn, &key, &new)?)
        });
        write.await
    }

    /// A clerk vouches: who asks is who the details name. The request goes on its way to the old hospital. Again, it
    /// changes nothing.
    ///
    /// # Errors
    /// [`Code::UnknownRemoteLink`]; [`Code::NotLinked`], [`Code::AskExpired`]; [`Code::OutOfOrder`] after a no.
    pub async fn vouch_remote_link(
        &self,
        staff: &str,
        id: RemoteLinkId,
    ) -> Result<RemoteLink, ExchangeError> {
        let (inner, now) = (&self.0, self.0.now());
        let held = row(inner, id).await?;
        let request = held.request(inner)?;
        let linked = inner.parts.records.by_ref(request.patient).await?.ok_or(Code::NotLinked)?;
        if held.state == State::Waiting {
            rules::remote_link_in_time(&request, now)?;
            inner.federation()?.active(&request.hospital, now)?;
            let subject = Subject::staff(staff);
            let _permit = permit(inner, subject, Action::Link, Some(&linked.patient)).await?;
        }
        let held = change(inner, id, move |row| match row.state {
            State::Waiting => {
                row.state = State::Vouched;
                Ok(())
            }
            State::Refused => Err(Code::OutOfOrder),
            _ => Ok(()),
        })
        .await?;
        inner.remote.notify_one();
        shown(inner, &held).await
    }
}

/// Says no to a request that nobody has vouched for.
pub(super) async fn refuse(
    inner: &Arc<Inner>,
    id: RemoteLinkId,
    reason: Code,
) -> Result<RemoteLink, ExchangeError> {
    let held = change(inner, id, move |row| match (row.state, row.reason) {
        (State::Waiting, _) => {
            row.state = State::Refused;
            row.reason = Some(reason);
            Ok(())
        }
        (State::Refused, Some(held)) if held == reason => Ok(()),
        _ => Err(Code::OutOfOrder),
    })
    .await?;
    shown(inner, &held).await
}

pub(super) async fn list(inner: &Arc<Inner>) -> Result<Vec<RemoteLink>, ExchangeError> {
    let mut found = Vec::new();
    for (_, held) in all(inner).await? {
        if inner.now() < kept_until(&held.claim()?) {
            found.push(shown(inner, &held).await?);
        }
    }
    Ok(found)
}

/// Removes what is past its time; what is left.
pub(super) fn left(
    txn: &mut dyn Txn,
    keys: &KeyMaker,
    now: Timestamp,
) -> Result<Vec<RemoteLinkRequest>, StoreError> {
    left_of(txn, keys, OUT, now, |value| rows::read::<OutRow>(value)?.claim())
}

pub(super) fn forget(txn: &mut dyn Txn, keys: &KeyMaker, refs: &[PatientRef]) -> Result<(), StoreError> {
    for (key, value) in cells(txn, keys, OUT)? {
        if refs.contains(&rows::read::<OutRow>(&value)?.claim()?.patient) {
            txn.remove(&key)?;
        }
    }
    Ok(())
}

/// Passes a patient's link on to the old hospital that confirmed their request; its answer, countersigned.
///
/// # Errors
/// [`Code::AskMismatch`] if no request of theirs to that hospital is under way; what that hospital says.
pub(crate) async fn pass_link(inner: &Arc<Inner>, envelope: Vec<u8>) -> Result<Vec<u8>, ExchangeError> {
    let claimed = Signed::<PatientLink>::read(&envelope).map_err(|fault| fault.code())?;
    let link = rules::link_claim(&envelope, &claimed.claim().hospital, &Remembered)?;
    let mut requests = Vec::new();
    for (id, held) in all(inner).await? {
        let claim = held.claim()?;
        let is_asked = held.is_under_way() || held.state == State::Linked;
        if is_asked && claim.patient == link.patient && claim.hospital == link.hospital {
            requests.push(id);
        }
    }
    if requests.is_empty() {
        return Err(Code::AskMismatch.into());
    }
    let chain = KeyChain::of(&link.key_records, &link.patient, &Remembered)?;
    Exchange(Arc::clone(inner)).admit_keys(chain).await?;
    let asked = ask(inner, &link.hospital, envelope).await;
    for id in requests {
        ask_again(inner, id).await;
    }
    let signed = asked?.into_iter().next().ok_or(Code::Malformed)?;
    let federation = inner.federation()?;
    rules::link(&signed, Context { federation: &federation, verifier: &Remembered })?;
    Ok(signed)
}

async fn ask(inner: &Inner, hospital: &HospitalId, content: Vec<u8>) -> Result<Vec<Vec<u8>>, ExchangeError> {
    let route = inner.route_to(hospital)?;
    let net = inner.net.get().ok_or(Code::Unreachable)?;
    let answer = net.request(&route, Request::encode(Verb::RemoteLink, vec![content])).await?;
    Ok(Answer::decode(&answer)?)
}

/// Asks the old hospital about a request under way and keeps what it says.
pub(crate) async fn ask_again(inner: &Arc<Inner>, id: RemoteLinkId) {
    if let Err(fault) = try_asking(inner, id).await {
        tracing::debug!(remote_link = %id, code = %fault.code(), "the old hospital could not be asked");
    }
}

/// As [`ask_again`]; an error is one that may pass.
async fn try_asking(inner: &Arc<Inner>, id: RemoteLinkId) -> Result<(), ExchangeError> {
    let held = row(inner, id).await?;
    if !held.is_under_way() {
        return Ok(());
    }
    let request = held.request(inner)?;
    // The same each time: Ed25519 signatures are.
    let vouched = Countersigned::sign(&request, &inner.parts.identity.signing);
    let (state, reason, answer) = match ask(inner, &request.hospital, vouched).await {
        Ok(items) => match items.into_iter().next() {
            None => (State::Asked, None, None),
            Some(answer) => {
                let federation = inner.federation()?;
                let context = Context { federation: &federation, verifier: &Remembered };
                let said = rules::remote_link_answer(&answer, &request, context)?;
                (said.state, said.reason, Some(Bytes(answer)))
            }
        },
        Err(fault) if fault.code().is_transient() => return Err(fault),
        // What was confirmed stays confirmed: the code may be on its way.
        Err(_) if held.state == State::Confirmed => return Ok(()),
        Err(fault) => (State::Refused, Some(fault.code()), None),
    };
    let kept = change(inner, id, move |row| {
        if row.is_under_way() {
            (row.state, row.reason, row.answer) = (state, reason, answer.clone());
        }
        Ok(())
    });
    let is_new = kept.await?.state != held.state;
    if is_new {
        tracing::info!(remote_link = %id, state = %state, "a remote link went on");
    }
    Ok(())
}

/// Asks the old hospitals, each by itself, until shut down.
pub(crate) async fn carry(inner: Arc<Inner>, shutdown: CancellationToken) {
    let (mut pause, mut look) = (FIRST_PAUSE, Instant::now());
    loop {
        let wants_all = Instant::now() >= look;
        if wants_all {
            look = Instant::now() + LOOK;
            if let Err(fault) = super::sweep(&inner).await {
                tracing::error!(code = %fault.code(), "remote links cannot be swept");
            }
        }
        let wake = match round(&inner, wants_all).await {
            Ok(true) => {
                pause = FIRST_PAUSE;
                look
            }
            outcome => {
                if let Err(fault) = outcome {
                    tracing::error!(code = %fault.code(), "remote links cannot be read");
                }
                let wake = Instant::now() + pause;
                pause = (pause * 2).min(LONGEST_PAUSE);
                wake.min(look)
            }
        };
        tokio::select! {
            () = shutdown.cancelled() => break,
            () = inner.remote.notified() => pause = FIRST_PAUSE,
            () = sleep_until(wake) => {}
        }
    }
}

/// Asks about what was vouched for, or about everything under way; says whether everybody could be asked.
async fn round(inner: &Arc<Inner>, wants_all: bool) -> Result<bool, ExchangeError> {
    let mut by_hospital: BTreeMap<HospitalId, Vec<RemoteLinkId>> = BTreeMap::new();
    for (id, held) in all(inner).await? {
        let request = held.claim()?;
        let is_over = inner.now() >= kept_until(&request);
        if !is_over && (held.state == State::Vouched || (wants_all && held.is_under_way())) {
            by_hospital.entry(request.hospital).or_default().push(id);
        }
    }
    let mut asking = JoinSet::new();
    for ids in by_hospital.into_values() {
        let inner = Arc::clone(inner);
        asking.spawn(async move {
            for id in ids {
                try_asking(&inner, id).await?;
            }
            Ok::<_, ExchangeError>(())
        });
    }
    let mut could_all = true;
    while let Some(asked) = asking.join_next().await {
        could_all &= asked.is_ok_and(|asked| asked.is_ok());
    }
    Ok(could_all)
}

async fn row(inner: &Inner, id: RemoteLinkId) -> Result<OutRow, ExchangeError> {
    let key = place(&inner.keys(), OUT, &id);
    let read = inner.parts.store.read(move |txn| rows::get(txn, &key));
    Ok(read.await?.ok_or(Code::UnknownRemoteLink)?)
}

async fn all(inner: &Inner) -> Result<Vec<(RemoteLinkId, OutRow)>, ExchangeError> {
    let keys = inner.keys();
    let read = inner.parts.store.read(move |txn| -> Result<_, StoreError> {
        let mut found = Vec::new();
        for (_, value) in cells(txn, &keys, OUT)? {
            let held: OutRow = rows::read(&value)?;
            found.push((held.claim()?.id, held));
        }
        Ok(found)
    });
    Ok(read.await?)
}

async fn change(
    inner: &Inner,
    id: RemoteLinkId,
    step: impl Fn(&mut OutRow) -> Result<(), Code> + Send + 'static,
) -> Result<OutRow, ExchangeError> {
    let key = place(&inner.keys(), OUT, &id);
    let write = inner.parts.store.write(move |txn| -> Result<OutRow, ExchangeError> {
        let mut held: OutRow = rows::get(txn, &key)?.ok_or(Code::UnknownRemoteLink)?;
        step(&mut held)?;
        rows::put(txn, &key, &held)?;
        Ok(held)
    });
    write.await
}

async fn shown(inner: &Inner, held: &OutRow) -> Result<RemoteLink, ExchangeError> {
    let request = held.request(inner)?;
    Ok(RemoteLink {
        id: request.id,
        is_vouching: true,
        patient: request.patient,
        other: request.hospital.clone(),
        details: details(inner, &request, request.sealed_to_vouching.as_ref())?,
        state: held.state,
        reason: held.reason,
        expires: request.expires,
        local: inner.parts.records.by_ref(request.patient).await?.map(|linked| linked.patient),
    })
}
