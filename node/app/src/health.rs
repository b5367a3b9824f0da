//! How the node is, looked at every few seconds: what is red makes `/health` answer 503.
//!
//! A hospital that the directory does not have as active takes no part: that is red. The index being away is no fault
//! of this node (hospitals go on without it until the directory expires): that is told and makes nothing red.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use handover_core::artefact::patient::CLOCK_SKEW_MS;
use handover_core::{Code, Party};
use handover_net::{AtRelay, Net};
use handover_store::{Health as StoreHealth, StoreError};
use handover_web::metrics::Gauge;
use handover_web::{CancellationToken, Health};

use crate::Node;

const LOOK_EVERY: Duration = Duration::from_secs(5);
const HEARTBEAT: &str = "heartbeat";
/// How long it may take. A commit whose outcome nobody knows can take for ever.
const HEARTBEAT_LIMIT: Duration = Duration::from_secs(10);

/// Looks until shut down; `web` counts who was turned away there.
pub(crate) async fn watch(
    node: Arc<Node>,
    net: Net,
    web: Arc<AtomicU64>,
    health: Health,
    shutdown: CancellationToken,
) {
    let connected = node.metrics.gauge("index_connected", "Whether the index is connected", []);
    let version = node.metrics.gauge("directory_version", "The directory's version", []);
    let refused = node.metrics.gauge("directories_refused", "Directories refused since the start", []);
    let owed = node.metrics.gauge("break_glass_reviews", "Reviews of break-glasses that wait", ["state"]);
    let turned_away = handover_web::metrics::turned_away(&node.metrics);
    let relay = handover_web::metrics::relay(&node.metrics);
    let connections = node.metrics.gauge("connections", "Members that are connected", ["way"]);
    let mut last = None;
    loop {
        look(&node, &health).await;
        let is_connected = net.connected().contains(&Party::Index);
        health.tell("repair", repaired(&node).await);
        health.tell("break-glass-reviews", reviews(&node, &owed).await);
        health.tell("books", books(&node).await);
        rejoin(&node, &health);
        health.tell("index", if is_connected { Ok(()) } else { Err(Code::Unreachable) });
        let standing = standing(&node);
        if last != Some(standing) {
            match standing {
                Ok(()) => tracing::info!("this hospital is active"),
                Err(code) => tracing::warn!(code = %code, "this hospital takes no part: {}", code.text()),
            }
            last = Some(standing);
        }
        connected.set([], i64::from(is_connected));
        version.set([], i64::try_from(node.directories.version()).unwrap_or(i64::MAX));
        refused.set([], i64::try_from(node.directories.refused()).unwrap_or(i64::MAX));
        for (door, count) in [("net", net.turned_away()), ("web", web.load(Ordering::Relaxed))] {
            turned_away.set([door], i64::try_from(count).unwrap_or(i64::MAX));
        }
        for (of, count) in net.carried().counts() {
            relay.set([of], i64::try_from(count).unwrap_or(i64::MAX));
        }
        let (direct, relayed) = net.connections();
        for (way, count) in [("direct", direct), ("relayed", relayed)] {
            connections.set([way], i64::try_from(count).unwrap_or(i64::MAX));
        }
        health.tell("relays", relayed_by(&net.at_relays()));
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
    }
}

/// Whether reviews of break-glasses are owed: told, because others throttle this hospital for it, and no fault of the
/// machine's.
async fn reviews(node: &Node, gauge: &Gauge<1>) -> Result<(), Code> {
    let owed = node.exchange.reviews_owed().await.map_err(|fault| fault.code())?;
    for (state, count) in [("due", owed.due), ("overdue", owed.overdue)] {
        gauge.set([state], i64::try_from(count).unwrap_or(i64::MAX));
    }
    match (owed.due, owed.overdue) {
        (0, _) => Ok(()),
        (_, 0) => Err(Code::ReviewDue),
        _ => Err(Code::ReviewOverdue),
    }
}

/// Whether the store was repaired: told for as long as it is not restored from a backup.
async fn repaired(node: &Node) -> Result<(), Code> {
    let repairs = node.store.repairs().await.map_err(|fault| fault.code())?;
    if repairs.is_empty() { Ok(()) } else { Err(Code::StoreRepaired) }
}

/// Whether the index's books are what was signed: told, and no fault of this node.
pub(crate) async fn books(node: &Node) -> Result<(), Code> {
    node.exchange.books_fault().await.map_err(|fault| fault.code())?.map_or(Ok(()), Err)
}

/// Whether one of the relays that this node needs reaches it: told, as hospitals that it dials itself go on.
pub(crate) fn relayed_by(relays: &[AtRelay]) -> Result<(), Code> {
    if relays.iter().any(|relay| relay.since.is_some()) {
        return Ok(());
    }
    relays.iter().find_map(|relay| relay.fault).map_or(Ok(()), Err)
}

/// Whether the store, which was restored, may speak for its hospital again: for nobody, which is a fault, or not for all
/// yet, which is told.
pub(crate) fn rejoin(node: &Node, health: &Health) {
    let standing = node.exchange.catching_up();
    let of = |is_so: bool| if is_so { Err(Code::CatchingUp) } else { Ok(()) };
    health.set("store-restored", of(standing == Some(true)));
    health.tell("store-restored", of(standing.is_some()));
}

/// Whether the directory has this hospital as active, under a key that is here.
fn standing(node: &Node) -> Result<(), Code> {
    // Who was never admitted may hold no directory; both say the same to the hospital: it has to enrol.
    let held = node.directories.held().map_err(|_| Code::UnknownHospital)?;
    let member = held.active(node.hospital(), node.now())?;
    match node.secrets.number_of(&member.certificate.key) {
        Some(_) => Ok(()),
        None => Err(Code::KeysOutdated),
    }
}

/// Looks once.
pub(crate) async fn look(node: &Node, health: &Health) {
    let now = node.now();
    let key = node.store.keys().space(HEARTBEAT).build();
    // Only a durable write shows that the disk takes one; the audit log lies in the same store.
    let write = node.store.write(move |txn| txn.put(&key, now.as_millis().to_be_bytes().to_vec()));
    let write = async { write.await.map_err(|fault: StoreError| fault.code()) };
    let written = match node.store.health() {
        StoreHealth::Serving => {
            tokio::time::timeout(HEARTBEAT_LIMIT, write).await.unwrap_or(Err(Code::StoreUnavailable))
        }
        StoreHealth::Failed | StoreHealth::Closed | StoreHealth::Away => Err(Code::StoreUnavailable),
    };
    health.set("store", written);
    let is_away = node.blobs.is_away();
    health.set("blobs", if is_away { Err(Code::StoreUnavailable) } else { Ok(()) });
    health.set("audit", written.map_err(|_| Code::AuditUnavailable));
    let held = node.directories.held();
    health.set("directory", node.directories.check(now));
    health.set("hospital", standing(node));
    let issued = held.as_ref().map(|held| held.directory().issued);
    let is_behind = issued.is_ok_and(|issued| issued.since_ms(now) > CLOCK_SKEW_MS);
    health.set("clock", if is_behind { Err(Code::ClockOff) } else { Ok(()) });
}
