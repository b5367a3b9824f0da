//! The endpoint certificate: the hospital says that this process speaks for it. Valid for thirty days, renewed long
//! before its end while the node runs.

use std::time::Duration;

use handover_core::artefact::Verified;
use handover_core::artefact::federation::EndpointCertificate;
use handover_core::codec::{self, Extensions};
use handover_core::id::SigningPublic;
use handover_core::time::{DAY_MS, HOUR_MS};
use handover_core::trust::Hello;
use handover_core::{Code, Party, Timestamp};
use handover_exchange::NodeAdmission;
use handover_net::{Admission, Net};
use handover_web::CancellationToken;
use tokio::sync::watch;

use crate::Node;

const VALID_MS: i64 = 30 * DAY_MS;
/// For peers whose clocks run behind.
const BACKDATED_MS: i64 = HOUR_MS;
const RENEW_EVERY: Duration = Duration::from_secs(10 * 24 * 60 * 60);

/// What this process presents on a connection, with a certificate made now.
pub(crate) fn hello(node: &Node, now: Timestamp) -> Result<Vec<u8>, Code> {
    let own = node.own()?;
    let certificate = EndpointCertificate {
        party: Party::Hospital(node.hospital().clone()),
        key: own.net().public(),
        not_before: now.plus_ms(-BACKDATED_MS),
        not_after: now.plus_ms(VALID_MS),
        extensions: Extensions::default(),
    };
    let signed = Verified::sign(certificate, &own.signing());
    let endpoint = signed.envelope().to_vec().into();
    Ok(codec::encode(&Hello { endpoint, authority: None, extensions: Extensions::default() }))
}

/// Admission by the directory, with a hello that can be renewed.
pub(crate) struct RenewedAdmission {
    admission: NodeAdmission,
    hello: watch::Receiver<Vec<u8>>,
}

impl RenewedAdmission {
    pub(crate) fn new(node: &Node, hello: watch::Receiver<Vec<u8>>) -> Self {
        // The inner one's own hello is never asked for.
        Self { admission: NodeAdmission::new(node.directories.clone(), Vec::new()), hello }
    }
}

impl Admission for RenewedAdmission {
    fn hello(&self) -> Vec<u8> {
        self.hello.borrow().clone()
    }

    fn admit(&self, peer: &SigningPublic, hello: &[u8]) -> Result<Party, Code> {
        self.admission.admit(peer, hello)
    }
}

/// Renews the hello until shut down.
pub(crate) async fn renew(
    node: std::sync::Arc<Node>,
    net: Net,
    current: watch::Sender<Vec<u8>>,
    shutdown: CancellationToken,
) {
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(RENEW_EVERY) => {}
        }
        if let Ok(renewed) = hello(&node, node.now()) {
            current.send_replace(renewed);
        }
        net.renew_hello().await;
        tracing::info!("endpoint certificate renewed");
    }
}
