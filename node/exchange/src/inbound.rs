//! What comes in from the network: parcels, directories, packages, and the connection to the index itself.

use std::sync::Arc;
use std::time::Duration;

use handover_core::message::{Answer, Parcel, Request, Verb};
use handover_core::{Code, Party, codec};
use handover_net::{Inbound, Net};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::ExchangeError;
use crate::context::Inner;
use crate::{books, glass, handing_back, jobs, key_records, links, rejoin, remote, requests};

/// Requests worked on at once.
const REQUESTS_AT_ONCE: usize = 32;
/// Parcels in one message.
const PARCELS_MAX: usize = 64;
/// How often the directory is asked for even if nobody brings one.
const REFRESH: Duration = Duration::from_secs(60);
/// The same for a hospital that takes no part: the index tells it of nothing, and it may be let in at any time.
const REFRESH_OUTSIDE: Duration = Duration::from_secs(5);
/// How soon an index that is away is tried again.
const RETRY: Duration = Duration::from_secs(2);
const LINKS_AT_ONCE: usize = 100;

/// Serves what comes in, until shut down.
pub(crate) async fn serve(
    inner: Arc<Inner>,
    net: Net,
    mut inbound: mpsc::Receiver<Inbound>,
    shutdown: CancellationToken,
) {
    let places = Arc::new(Semaphore::new(REQUESTS_AT_ONCE));
    let mut tasks = JoinSet::new();
    loop {
        let event = tokio::select! {
            () = shutdown.cancelled() => break,
            Some(_) = tasks.join_next() => continue,
            event = inbound.recv() => event,
        };
        match event {
            None => break,
            // Refused before it costs anything: a stranger has nothing to say to a hospital.
            Some(Inbound::Request { party: None, reply, .. }) => {
                reply.send(Answer::encode(Err(Code::NotAdmitted)));
            }
            Some(Inbound::Request { party: Some(party), body, reply, .. }) => {
                let (inner, net, places) = (Arc::clone(&inner), net.clone(), Arc::clone(&places));
                tasks.spawn(async move {
                    let _place = places.acquire_owned().await;
                    reply.send(Answer::encode(answer_or_code(&inner, &net, &party, &body).await));
                });
            }
            Some(Inbound::Package { party, stream }) => {
                tasks.spawn(jobs::receive(Arc::clone(&inner), party, stream));
            }
            Some(Inbound::Connected(party)) => {
                tracing::info!(%party, "connected");
                if party == Party::Index {
                    inner.index_came_or_went();
                    inner.books.notify_one();
                }
                inner.parts.gate.connected(&party);
                inner.connected.add(party);
                inner.jobs.notify_one();
                inner.remote.notify_one();
                inner.glass.notify_one();
            }
            Some(Inbound::Disconnected(party)) => {
                tracing::info!(%party, "disconnected");
                if party == Party::Index {
                    inner.index_came_or_went();
                    // The connection is not made again by itself, and revocations come over it.
                    inner.links.notify_one();
                }
            }
        }
    }
    tasks.shutdown().await;
}

async fn answer_or_code(
    inner: &Arc<Inner>,
    net: &Net,
    party: &Party,
    body: &[u8],
) -> Result<Vec<Vec<u8>>, Code> {
    let known = inner.parts.directories.version();
    let fault = match answer(inner, net, party, body).await {
        Ok(items) => return Ok(items),
        Err(fault) => fault,
    };
    let code = inner.code_of(known, &fault).await;
    tracing::debug!(from = %party, %code, detail = %fault, "a request was refused");
    Err(code)
}

async fn answer(
    inner: &Arc<Inner>,
    net: &Net,
    party: &Party,
    body: &[u8],
) -> Result<Vec<Vec<u8>>, ExchangeError> {
    let request = Request::decode(body)?;
    match request.verb {
        Verb::Directory if *party == Party::Index => {
            inner.take_directory(net, request.only_item()?.to_vec()).await?;
        }
        Verb::DirectoryPieces if *party == Party::Index => {
            return Ok(inner.federation()?.pieces(&request.digests()?));
        }
        Verb::Keys if *party == Party::Index => key_records::learn(inner, request.only_item()?).await?,
        Verb::RemoteLink => {
            let content = request.only_item()?;
            inner.federation()?.check_bringer(content, party)?;
            return remote::take(inner, party, content).await;
        }
        Verb::BreakGlass => return glass::take(inner, party, request.only_item()?).await,
        Verb::BreakGlassPart => return glass::piece(inner, party, &request.items).await,
        Verb::Newest => {
            request.no_item()?;
            return handing_back::newest(inner, party).await;
        }
        Verb::Evidence => return handing_back::evidence(inner, party, request.only_item()?).await,
        Verb::Tally => {
            request.no_item()?;
            return handing_back::told_by(inner, party).await;
        }
        Verb::BooksBack => return books::give_back(inner, party, request.only_item()?).await,
        Verb::Deliver => {
            if request.items.len() > PARCELS_MAX {
                return Err(Code::TooLarge.into());
            }
            rejoin::compare_before_taking(inner, net, party).await?;
            for item in &request.items {
                let parcel: Parcel = codec::decode(item.as_ref(), codec::MAX_MESSAGE_BYTES)?;
                if *party == Party::Index {
                    rejoin::look_for_other(inner, net, parcel.content.as_ref()).await;
                }
                if let Err(fault) = deliver(inner, party, parcel.content.as_ref()).await {
                    requests::end_replaced(inner, parcel.content.as_ref(), fault.code()).await;
                    return Err(fault);
                }
            }
            return Ok(vec![codec::encode(&handing_back::taken_of(inner, party).await?)]);
        }
        _ => return Err(Code::AccessDenied.into()),
    }
    Ok(Vec::new())
}

/// Takes in what somebody brings.
async fn deliver(inner: &Arc<Inner>, party: &Party, content: &[u8]) -> Result<(), ExchangeError> {
    let known = inner.parts.directories.version();
    match take(inner, party, content).await {
        Err(fault) if inner.has_new_signers(known, &fault).await? => take(inner, party, content).await,
        taken => taken,
    }
}

async fn take(inner: &Arc<Inner>, party: &Party, content: &[u8]) -> Result<(), ExchangeError> {
    requests::admit(inner, party, content).await?;
    inner.take_from(content.to_vec(), party).await.map(drop)
}

/// Keeps the connection to the index, asks for newer directories, tells it of new links and of patients' new keys.
pub(crate) async fn keep_index(inner: Arc<Inner>, net: Net, shutdown: CancellationToken) {
    loop {
        let pause = match refresh(&inner, &net).await {
            Ok(()) if inner.takes_part() => REFRESH,
            Ok(()) => REFRESH_OUTSIDE,
            Err(fault) => {
                tracing::debug!(code = %fault.code(), "the index cannot be asked");
                RETRY
            }
        };
        tokio::select! {
            () = shutdown.cancelled() => break,
            () = inner.links.notified() => {}
            () = tokio::time::sleep(pause) => {}
        }
    }
}

async fn refresh(inner: &Arc<Inner>, net: &Net) -> Result<(), ExchangeError> {
    let route = inner.route_to_index();
    net.connect(&route).await?;
    inner.refresh_directory(net, &route).await?;
    let mut after = None;
    loop {
        let page = links::owed(&inner.parts.store, after, LINKS_AT_ONCE).await?;
        let is_last = page.len() < LINKS_AT_ONCE;
        after = page.last().map(|(key, _)| key.clone());
        for (key, link) in page {
            let answer = net.request(&route, Request::encode(Verb::Link, vec![link.clone()])).await?;
            match Answer::decode(&answer) {
                Ok(_) => links::told(&inner.parts.store, key).await?,
                Err(code) if is_about_the_link(code) => {
                    tracing::error!(code = %code, "the index refuses a patient's link");
                    links::refused(&inner.parts.store, key, link, code, inner.now()).await?;
                }
                Err(code) if code.is_transient() => {
                    tracing::warn!(code = %code, "a patient's link has to wait");
                }
                Err(code) => return Err(code.into()),
            }
        }
        if is_last {
            return key_records::tell(inner, net, &route).await;
        }
    }
}

/// Whether a refusal is final and says something against the link, not against this hospital.
const fn is_about_the_link(code: Code) -> bool {
    !code.is_transient()
        && !matches!(code, Code::UnknownHospital | Code::HospitalSuspended | Code::HospitalRevoked)
}
