//! `run`: starts the index, says where it is, and drains when it is told to end.

use std::io::Write as _;

use handover_cli::CliError;
use handover_core::Code;
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};

use super::context::{Context, runtime};
use crate::keys::IndexKeys;
use crate::service::Index;

/// Runs until SIGTERM or SIGINT.
pub(super) fn run(context: &Context) -> Result<(), CliError> {
    let config = context.config()?;
    let keys = IndexKeys::open(&config.data, &context.passphrase("Passphrase of the index's keys: ")?)?;
    let edge = context.edge.clone();
    let internal = |error: std::io::Error| CliError::new(Code::Internal, error.to_string());
    runtime()?.block_on(async move {
        // Before anything is started, so that no signal is missed.
        let mut terminate = signal(SignalKind::terminate()).map_err(internal)?;
        let mut interrupt = signal(SignalKind::interrupt()).map_err(internal)?;
        let index = Index::start(config, keys, edge).await?;
        let ready = index.ready();
        let line = json!({
            "schema": "handover/ready/1", "ready": true, "role": "index", "net": ready.net, "web": ready.web, "control": ready.control,
        });
        let mut stdout = std::io::stdout();
        writeln!(stdout, "{line}").and_then(|()| stdout.flush()).map_err(internal)?;
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!("draining");
        index.stop().await;
        Ok(())
    })
}
