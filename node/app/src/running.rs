//! The running node: everything that listens, started together and stopped in order.

use std::sync::Arc;

use handover_cli::CliError;
use handover_core::Code;
use handover_net::{Limits as NetLimits, Net, NetConfig, NetError, RelayLimits};
use handover_store::StoreError;
use handover_web::{CancellationToken, Health, Limits, ServeConfig, TlsIdentity, WebError, control, serve};
use serde::Serialize;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::control::Commands;
use crate::endpoint::{self, RenewedAdmission};
use crate::node::{Live, Node};
use crate::{enrol, health, http, operations};

/// What `run` prints once everything listens.
#[derive(Clone, Debug, Serialize)]
pub struct Ready {
    /// The line's form.
    pub schema: &'static str,
    /// Always true.
    pub ready: bool,
    /// `node`.
    pub role: &'static str,
    /// The hospital.
    pub hospital: String,
    /// Real libp2p addresses.
    pub net: Vec<String>,
    /// Where HTTPS really listens.
    pub web: String,
    /// The web certificate's file, for clients that pin it.
    pub certificate: String,
    /// The control socket.
    pub control: String,
}

/// A running node.
pub struct Running {
    node: Arc<Node>,
    net: Net,
    ready: Ready,
    shutdown: CancellationToken,
    exchange: JoinHandle<()>,
    listeners: Vec<JoinHandle<()>>,
    helpers: Vec<JoinHandle<()>>,
}

impl Running {
    /// Starts network, HTTPS and control socket of an opened node.
    ///
    /// # Errors
    /// An address that cannot be had, a certificate that cannot be used, another process at the socket.
    pub async fn start(node: Arc<Node>) -> Result<Self, CliError> {
        let config = &node.config;
        let shutdown = CancellationToken::new();
        let tls = TlsIdentity::load_or_create(&config.data, &config.web_names, node.now())
            .map_err(|fault| web(&fault))?;

        let (hello, presented) = watch::channel(endpoint::hello(&node, node.now())?);
        let net_config = NetConfig {
            key_seed: node.own()?.net_seed(),
            listen: config.net_listen.clone(),
            relays: config.relays.clone(),
            relay: config.serves_as_relay.then(RelayLimits::default),
            limits: NetLimits::default(),
        };
        let admission = Arc::new(RenewedAdmission::new(&node, presented));
        let (net, inbound) =
            handover_net::start(net_config, admission).await.map_err(|fault| listen(&fault))?;

        let health = Health::new();
        health::look(&node, &health).await;
        let routes = http::routes(node.exchange.clone(), &health, &node.metrics);
        let serving = ServeConfig { listen: config.web_listen, tls, limits: Limits::default() };
        let serving = serve(serving, routes, shutdown.clone()).await.map_err(|fault| web(&fault))?;
        let (web, turned_away) = (format!("https://{}", serving.address), Arc::clone(&serving.turned_away));
        let patient_url = config.web_url.clone().unwrap_or_else(|| web.clone());
        node.go_live(Live { net: net.clone(), patient_url, health: health.clone() })?;

        let exchange = node.exchange.start(net.clone(), inbound, shutdown.clone());
        let helpers = vec![
            tokio::spawn(endpoint::renew(Arc::clone(&node), net.clone(), hello, shutdown.clone())),
            tokio::spawn(operations::resume(Arc::clone(&node), shutdown.clone())),
            tokio::spawn(enrol::keep_profile(Arc::clone(&node), shutdown.clone())),
            tokio::spawn(health::watch(
                Arc::clone(&node),
                net.clone(),
                turned_away,
                health,
                shutdown.clone(),
            )),
        ];
        let socket = config.control_socket();
        let commands = Arc::new(Commands(Arc::clone(&node)));
        let controlled = control::serve(socket.clone(), commands, shutdown.clone())
            .await
            .map_err(|fault| CliError::new(fault.code(), fault.to_string()))?;
        let ready = Ready {
            schema: "handover/ready/1",
            ready: true,
            role: "node",
            hospital: config.hospital.id.to_string(),
            net: net.addresses(),
            web,
            certificate: config.data.join(handover_web::tls::CERTIFICATE_FILE).display().to_string(),
            control: socket.display().to_string(),
        };
        Ok(Self { node, net, ready, shutdown, exchange, listeners: vec![serving.join, controlled], helpers })
    }

    /// Where it listens.
    #[must_use]
    pub const fn ready(&self) -> &Ready {
        &self.ready
    }

    /// Waits until its store refuses everything for good; why. Nothing is served after that.
    pub async fn failed(&self) -> StoreError {
        let failure = self.node.store.failed().await;
        self.node.stopping.cancel();
        self.shutdown.cancel();
        failure
    }

    /// Waits until the keys that the node was started with do not speak for its hospital any more, and says why. What is
    /// signed with them from then on counts for nothing.
    pub async fn other_keys_speak(&self) -> Code {
        self.node.other_keys_speak().await
    }

    /// Drains and stops: nothing new is accepted, what runs is finished or ends at its next safe point, everything
    /// acknowledged is on disk.
    pub async fn stop(self) {
        self.node.stopping.cancel();
        self.shutdown.cancel();
        let drained = async {
            for part in self.listeners {
                ended(part.await);
            }
            // An import whose client left is no listener's any more; it ends after its batch.
            let import = self.node.importing.acquire().await;
            ended(self.exchange.await);
            for part in self.helpers {
                ended(part.await);
            }
            import
        };
        let import = self.node.store.drain(drained).await;
        self.net.shutdown().await;
        self.node.close().await;
        drop(import);
        tracing::info!("stopped");
    }
}

fn ended(outcome: Result<(), tokio::task::JoinError>) {
    if outcome.is_err() {
        tracing::error!("a part of the node ended early");
    }
}

fn web(fault: &WebError) -> CliError {
    CliError::new(fault.code(), fault.to_string())
}

fn listen(fault: &NetError) -> CliError {
    let code = if fault.code() == Code::Internal { Code::ConfigInvalid } else { fault.code() };
    CliError::new(code, format!("net: {fault}"))
}
