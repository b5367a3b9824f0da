//! Telling hospitals of the directory in force, and judging connections by it.

use std::time::Duration;

use handover_core::message::{Request, Verb};
use handover_core::{HospitalId, Party};
use handover_net::{Net, Route};

use crate::desk::Desk;

/// How long hospitals may take to hear what becomes of them.
const TELL_LIMIT: Duration = Duration::from_secs(2);
/// How long one hospital may take to take a directory, in milliseconds.
const PUSH_MS: u64 = 20_000;

/// Judges every connection by the directory in force. Whose key was replaced is told before: that process is nobody from
/// then on, and nothing is sent to it any more.
pub(crate) async fn recheck(desk: &Desk, net: &Net, about: Vec<HospitalId>) {
    let told = futures::future::join_all(about.into_iter().map(|hospital| push_to(desk, net, hospital)));
    // Not even one that does not answer keeps its connection for longer.
    let _ = tokio::time::timeout(TELL_LIMIT, told).await;
    net.recheck().await;
}

/// Sends the directory in force to a hospital, if it is connected.
pub(crate) async fn push_to(desk: &Desk, net: &Net, hospital: HospitalId) {
    push_by(desk, net, hospital, Vec::new()).await;
}

/// The same, dialled at these addresses if it is not.
pub(crate) async fn push_by(desk: &Desk, net: &Net, hospital: HospitalId, addresses: Vec<String>) {
    let body = Request::encode(Verb::Directory, vec![desk.current().envelope().to_vec()]);
    let route = Route { party: Party::Hospital(hospital.clone()), addresses };
    let sent = tokio::time::timeout(Duration::from_millis(PUSH_MS), net.request(&route, body)).await;
    // Who did not get it asks for it, at the latest before the one it holds expires.
    match sent {
        Ok(Ok(_)) => {}
        Ok(Err(fault)) => tracing::debug!(%hospital, %fault, "a directory was not taken"),
        Err(_) => tracing::debug!(%hospital, "a directory was not taken in time"),
    }
}
