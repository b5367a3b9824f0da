//! `run`: starts the index, says where it is, and drains when it is told to end. Stands by while another process
//! serves; ends at once when the store is another's.

use std::io::Write as _;
use std::time::Duration;

use handover_cli::CliError;
use handover_core::Code;
use serde_json::json;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::context::{Context, runtime};
use crate::keys::IndexKeys;
use crate::service::{self, Index};

/// For what is left to end at the end.
const END_LIMIT: Duration = Duration::from_secs(1);

/// Runs until SIGTERM or SIGINT.
pub(super) fn run(context: &Context) -> Result<(), CliError> {
    handover_cli::allow_open_files();
    let config = context.config()?;
    let keys = IndexKeys::open(&config.data, &context.passphrase("Passphrase of the index's keys: ")?)?;
    let edge = context.edge.clone();
    let internal = |error: std::io::Error| CliError::new(Code::Internal, error.to_string());
    let runtime = runtime()?;
    let outcome = runtime.block_on(async move {
        // Before anything is started, so that no signal is missed.
        let mut terminate = signal(SignalKind::terminate()).map_err(internal)?;
        let mut interrupt = signal(SignalKind::interrupt()).map_err(internal)?;
        // What would keep it from starting is said now, not when it has to take over.
        service::seat(&config.data, config.root, &keys, &edge)?;
        let starting = async {
            let store = service::open_or_stand_by(&config, &keys).await?;
            Index::start_on(store, config, keys, edge).await
        };
        let index = tokio::select! {
            index = starting => index?,
            () = ended(&mut terminate, &mut interrupt) => {
                // Opening reads the whole store; left at any moment, it is taken back by the next one.
                tracing::info!("stopped before it was ready");
                return Ok(());
            }
        };
        let ready = index.ready();
        let line = json!({
            "schema": "handover/ready/1", "ready": true, "role": "index", "net": ready.net, "web": ready.web, "control": ready.control,
        });
        let mut stdout = std::io::stdout();
        writeln!(stdout, "{line}").and_then(|()| stdout.flush()).map_err(internal)?;
        tokio::select! {
            () = ended(&mut terminate, &mut interrupt) => {}
            failure = index.failed() => return Err(CliError::new(failure.code(), failure.to_string())),
        }
        tracing::info!("draining");
        index.stop().await;
        Ok(())
    });
    // Nobody waits for what a store that failed still has under way.
    runtime.shutdown_timeout(END_LIMIT);
    outcome
}

/// Waits until it is told to end.
async fn ended(terminate: &mut Signal, interrupt: &mut Signal) {
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}
