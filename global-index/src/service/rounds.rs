//! The chores of a running index: each new directory goes to everyone who is connected, the directory is made anew
//! before it gets old, fees whose time has come are posted or let go, and the health page tells the truth.

use std::time::Duration;

use futures::StreamExt as _;
use handover_core::artefact::federation::Status;
use handover_core::ledger::Due;
use handover_core::rules::Context;
use handover_core::time::HOUR_MS;
use handover_core::trust::Federation;
use handover_core::{Code, HospitalId, Party, Timestamp, TransferId};
use handover_net::{Limits, Net};
use handover_seal::Remembered;
use handover_store::Health as StoreHealth;
use handover_web::{CancellationToken, Health};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::instruments::{Doors, Holds};
use super::tell_addresses;
use crate::desk::{Changed, Desk};
use crate::directory::DirectoryError;
use crate::folders::Folders;
use crate::ledger::{Booking, BooksError};
use crate::log::Log;
use crate::rejoin::Rejoin;
use crate::routing::{Courier, look, push_by, push_to, recheck};
use crate::voice::Phase;

/// How often the chores are done, in milliseconds.
const ROUND_MS: u64 = 5_000;
/// Fees that one round looks at.
const FEES_PER_ROUND: usize = 100;
/// After how long a fee that could not be decided is looked at again, in milliseconds.
const UNDECIDED_MS: i64 = HOUR_MS;

/// Hospitals that are greeted at one time.
const GREETED_AT_ONCE: usize = 16;

/// Whenever a new directory is in force: whoever it no longer has loses the connection's standing, everyone else
/// gets it, if the index may speak.
pub(super) async fn push(desk: Desk, net: Net, rejoin: Rejoin, stop: CancellationToken) {
    let mut directories = desk.watch();
    let mut before = desk.current();
    let mut pushes = JoinSet::new();
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = pushes.join_next(), if !pushes.is_empty() => continue,
            changed = directories.changed() => if changed.is_err() { return },
        }
        let current = desk.current();
        let others = changed(before.federation(), current.federation(), &net);
        recheck(&desk, &net, others).await;
        before = current;
        // A push of the version before is of no use any more.
        pushes.abort_all();
        // One that was put back goes to nobody: somebody may hold what the next one will have.
        if desk.voice.may_speak().is_err() {
            continue;
        }
        for party in net.connected() {
            if let Party::Hospital(hospital) = party {
                let (desk, net, rejoin) = (desk.clone(), net.clone(), rejoin.clone());
                pushes.spawn(async move {
                    // It may hold what this index has lost, and would take the new one for a lie.
                    if rejoin.may_serve(&hospital).await.is_ok() {
                        push_to(&desk, &net, hospital).await;
                    }
                });
            }
        }
    }
}

/// The connected hospitals for which a directory has another key than the one before.
fn changed(before: &Federation, current: &Federation, net: &Net) -> Vec<HospitalId> {
    let key = |of: &Federation, hospital: &HospitalId| of.member(hospital).ok().map(|it| it.certificate.key);
    let connected = net.connected().into_iter().filter_map(|party| match party {
        Party::Hospital(hospital) => Some(hospital),
        Party::Index => None,
    });
    connected.filter(|it| key(before, it) != key(current, it)).collect()
}

/// After another process: every hospital is dialled and gets the directory. One that is still connected to that
/// process, which may hang, lets go of it. Of a large federation not all: half of the connections are left to who comes.
pub(super) async fn greet(desk: Desk, net: Net, stop: CancellationToken) {
    let most = usize::try_from(Limits::default().connections / 2).unwrap_or(usize::MAX);
    let current = desk.current();
    let active = current.federation().members().filter(|member| member.order.status == Status::Active);
    let known = active.map(|member| (member.profile.hospital.clone(), member.profile.addresses.clone()));
    let greeted = futures::stream::iter(known.collect::<Vec<_>>())
        .take_while(|_| std::future::ready(net.connected().len() < most))
        .for_each_concurrent(GREETED_AT_ONCE, |(hospital, addresses)| {
            push_by(&desk, &net, hospital, addresses)
        });
    tokio::select! {
        () = stop.cancelled() => {}
        () = greeted => {}
    }
}

/// What was put off until the index may speak.
pub(super) struct Spoken {
    /// From before anybody was asked.
    pub(super) phases: watch::Receiver<Phase>,
    pub(super) desk: Desk,
    pub(super) net: Net,
    pub(super) rejoin: Rejoin,
    pub(super) addresses: Vec<String>,
    pub(super) folders: Folders,
    pub(super) courier: Courier,
}

impl Spoken {
    /// Whenever it may speak again, until `stop`.
    pub(super) async fn run(mut self, stop: CancellationToken) {
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                changed = self.phases.changed() => if changed.is_err() { return },
            }
            if *self.phases.borrow_and_update() == Phase::Speaking {
                self.go_on().await;
            }
        }
    }

    async fn go_on(&self) {
        if let Err(fault) = tell_addresses(&self.desk, &self.addresses).await {
            tracing::error!(%fault, "the directory cannot be made anew");
        }
        // What was put into a mailbox again goes out now.
        for member in self.desk.current().federation().members() {
            self.courier.mail(member.certificate.hospital.clone()).await;
        }
        let greeted =
            futures::stream::iter(self.net.connected()).for_each_concurrent(GREETED_AT_ONCE, |party| async {
                if let Party::Hospital(hospital) = party
                    && self.rejoin.may_serve(&hospital).await.is_ok()
                {
                    self.folders.connected(hospital.clone());
                    push_to(&self.desk, &self.net, hospital).await;
                }
            });
        greeted.await;
    }
}

/// Every few seconds until `stop`.
pub(super) async fn refresh(
    desk: Desk,
    log: Log,
    health: Health,
    (doors, holds, folders): (Doors, Holds, Folders),
    stop: CancellationToken,
) {
    let mut tick = tokio::time::interval(Duration::from_millis(ROUND_MS));
    let mut phases = desk.voice.watch();
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = tick.tick() => {}
            Ok(()) = phases.changed() => {}
        }
        let store = match desk.store.health() {
            StoreHealth::Serving => Ok(()),
            StoreHealth::Failed | StoreHealth::Closed | StoreHealth::Away => Err(Code::StoreUnavailable),
        };
        health.set("store", store);
        health.set("blobs", folders.has_blobs());
        let repaired = desk.store.repairs().await.is_ok_and(|repairs| !repairs.is_empty());
        health.tell("repair", if repaired { Err(Code::StoreRepaired) } else { Ok(()) });
        let phase = desk.voice.phase();
        health.set("store-restored", if phase == Phase::CatchingUp { Err(Code::CatchingUp) } else { Ok(()) });
        if phase == Phase::Speaking {
            health.set("directory", renew(&desk).await);
            health.set("log", log.checkpoint().await.map(drop).map_err(|fault| fault.code()));
            health.set("ledger", settle(&desk).await.map_err(|fault| fault.code()));
        }
        // Nobody but operators can settle them, so they are told; the index itself is well.
        let held = desk.ledger.held().await.map_err(|fault| fault.code());
        if let Ok(held) = held {
            holds.show(held);
        }
        health
            .tell("holds", held.and_then(|held| if held.count == 0 { Ok(()) } else { Err(Code::FeesHeld) }));
        doors.show();
    }
}

/// Makes the directory anew if it is old; fails when the one in force has expired or cannot be replaced.
async fn renew(desk: &Desk) -> Result<(), Code> {
    let now = desk.now();
    // It is made anew whenever it may be: what follows a start sees to that.
    if desk.current().is_stale(now) {
        desk.change::<(), DirectoryError, _>(|_| Ok(((), Changed::Directory))).await.map_err(|fault| {
            tracing::error!(%fault, "the directory cannot be made anew");
            fault.code()
        })?;
    }
    desk.current().federation().check_fresh(now)
}

/// Looks at the fees whose time has come: no receipt came for them.
async fn settle(desk: &Desk) -> Result<(), BooksError> {
    let now = desk.now();
    let book = desk.ledger.book().clone();
    for transfer in desk.ledger.due(now, FEES_PER_ROUND).await? {
        let (keys, book, current) = (desk.keys.clone(), book.clone(), desk.current());
        let booking = Booking { now, salt_seed: desk.random_32() };
        // Each by itself: one that cannot be decided is no matter of the others.
        let looked = desk
            .store
            .write(move |txn| {
                let context = Context { federation: current.federation(), verifier: &Remembered };
                look(txn, &keys, &book, &booking, transfer, context)
            })
            .await;
        match looked {
            Ok(Due::Post) => {
                tracing::info!(%transfer, "no receipt came, the fee is posted after the silence")
            }
            Ok(Due::Void(reason)) => tracing::info!(%transfer, %reason, "the reserved fee is let go"),
            Ok(Due::Later(_) | Due::Nothing) => {}
            // It was found just now that the store was rolled back.
            Err(fault) if fault.code() == Code::CatchingUp => return Ok(()),
            Err(fault) => {
                tracing::error!(%transfer, code = %fault.code(), %fault, "a fee cannot be decided");
                put_off(desk, transfer, now.plus_ms(UNDECIDED_MS)).await?;
            }
        }
    }
    Ok(())
}

async fn put_off(desk: &Desk, transfer: TransferId, until: Timestamp) -> Result<(), BooksError> {
    let book = desk.ledger.book().clone();
    desk.store.write(move |txn| book.look_at(txn, &transfer, until)).await
}
