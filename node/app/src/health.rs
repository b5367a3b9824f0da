//! How the node is, looked at every few seconds: what is red makes `/health` answer 503.
//!
//! The index being away is no fault of this node (hospitals go on without it until the directory expires): that is
//! a gauge only.

use std::sync::Arc;
use std::time::Duration;

use handover_core::artefact::patient::CLOCK_SKEW_MS;
use handover_core::{Code, Party};
use handover_net::Net;
use handover_store::StoreError;
use handover_web::{CancellationToken, Health};

use crate::Node;

const LOOK_EVERY: Duration = Duration::from_secs(5);
const HEARTBEAT: &str = "heartbeat";

/// Looks until shut down.
pub(crate) async fn watch(node: Arc<Node>, net: Net, health: Health, shutdown: CancellationToken) {
    let connected = node.metrics.gauge("index_connected", "Whether the index is connected", []);
    let version = node.metrics.gauge("directory_version", "The directory's version", []);
    loop {
        look(&node, &health).await;
        connected.set([], i64::from(net.connected().contains(&Party::Index)));
        version.set([], i64::try_from(node.directories.version()).unwrap_or(i64::MAX));
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
    }
}

/// Looks once.
pub(crate) async fn look(node: &Node, health: &Health) {
    let now = node.now();
    let key = node.store.keys().space(HEARTBEAT).build();
    // Only a durable write shows that the disk takes one; the audit log lies in the same store.
    let write = node.store.write(move |txn| txn.put(&key, now.as_millis().to_be_bytes().to_vec()));
    let written: Result<(), StoreError> = write.await;
    let written = written.map_err(|fault| fault.code());
    health.set("store", written);
    health.set("audit", written.map_err(|_| Code::AuditUnavailable));
    let held = node.directories.held();
    health.set("directory", held.as_ref().map_err(|code| *code).and_then(|held| held.check_fresh(now)));
    let issued = held.as_ref().map(|held| held.directory().issued);
    let is_behind = issued.is_ok_and(|issued| issued.since_ms(now) > CLOCK_SKEW_MS);
    health.set("clock", if is_behind { Err(Code::ClockOff) } else { Ok(()) });
}
