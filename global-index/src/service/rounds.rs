//! The chores of a running index: each new directory goes to everyone who is connected, the directory is made anew
//! before it gets old, expired reservations are let go, and the health page tells the truth.

use std::time::Duration;

use handover_core::message::{Request, Verb};
use handover_core::{Code, HospitalId, Party};
use handover_net::{Net, Route};
use handover_store::Health as StoreHealth;
use handover_web::{CancellationToken, Health};
use tokio::task::JoinSet;

use crate::desk::{Changed, Desk};
use crate::directory::DirectoryError;
use crate::ledger::{Booking, BooksError};
use crate::log::Log;
use crate::routing::void_expired;

/// How often the chores are done, in milliseconds.
const ROUND_MS: u64 = 5_000;
/// Reservations that one round lets go.
const VOIDS_PER_ROUND: usize = 100;
/// How long one hospital may take to take a directory, in milliseconds.
const PUSH_MS: u64 = 20_000;

/// Whenever a new directory is in force: whoever it no longer has loses the connection's standing, everyone else
/// gets it.
pub(super) async fn push(desk: Desk, net: Net, stop: CancellationToken) {
    let mut directories = desk.watch();
    let mut pushes = JoinSet::new();
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = pushes.join_next(), if !pushes.is_empty() => continue,
            changed = directories.changed() => if changed.is_err() { return },
        }
        net.recheck().await;
        // A push of the version before is of no use any more.
        pushes.abort_all();
        for party in net.connected() {
            if let Party::Hospital(hospital) = party {
                let (desk, net) = (desk.clone(), net.clone());
                pushes.spawn(async move { push_to(&desk, &net, hospital).await });
            }
        }
    }
}

/// Sends the directory in force to a hospital, if it is connected.
pub(super) async fn push_to(desk: &Desk, net: &Net, hospital: HospitalId) {
    let body = Request::encode(Verb::Directory, vec![desk.current().envelope().to_vec()]);
    let route = Route { party: Party::Hospital(hospital.clone()), addresses: Vec::new() };
    let sent = tokio::time::timeout(Duration::from_millis(PUSH_MS), net.request(&route, body)).await;
    // Who did not get it asks for it, at the latest before the one it holds expires.
    match sent {
        Ok(Ok(_)) => {}
        Ok(Err(fault)) => tracing::debug!(%hospital, %fault, "a directory was not taken"),
        Err(_) => tracing::debug!(%hospital, "a directory was not taken in time"),
    }
}

/// Every few seconds until `stop`.
pub(super) async fn refresh(desk: Desk, log: Log, health: Health, stop: CancellationToken) {
    let mut tick = tokio::time::interval(Duration::from_millis(ROUND_MS));
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = tick.tick() => {}
        }
        let store = match desk.store.health() {
            StoreHealth::Serving => Ok(()),
            StoreHealth::Failed | StoreHealth::Closed => Err(Code::StoreUnavailable),
        };
        health.set("store", store);
        health.set("directory", renew(&desk).await);
        health.set("log", log.checkpoint().await.map(drop).map_err(|fault| fault.code()));
        health.set("ledger", let_go(&desk).await.map_err(|fault| fault.code()));
    }
}

/// Makes the directory anew if it is old; fails when the one in force has expired or cannot be replaced.
async fn renew(desk: &Desk) -> Result<(), Code> {
    let now = desk.now();
    if desk.current().is_stale(now) {
        desk.change::<(), DirectoryError, _>(|_| Ok(((), Changed::Directory))).await.map_err(|fault| {
            tracing::error!(%fault, "the directory cannot be made anew");
            fault.code()
        })?;
    }
    desk.current().federation().check_fresh(now)
}

async fn let_go(desk: &Desk) -> Result<(), BooksError> {
    let now = desk.now();
    let book = desk.ledger.book().clone();
    // Read first: most rounds have nothing to write.
    let reader = book.clone();
    let due = desk.store.read(move |txn| reader.due(txn, now, 1)).await?;
    if due.is_empty() {
        return Ok(());
    }
    let booking = Booking { now, salt_seed: desk.random_32() };
    let voided = desk.store.write(move |txn| void_expired(txn, &book, &booking, VOIDS_PER_ROUND)).await?;
    tracing::info!(voided, "expired reservations were let go");
    Ok(())
}
