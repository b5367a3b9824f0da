//! The control socket of a process that does nothing yet: it says so to everybody, and what it waits for.

use std::{path::PathBuf, pin::pin, sync::Arc};

use handover_core::Code;
use serde_json::Value;
use tokio::{
    sync::{mpsc, watch},
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;

use super::{ControlError, Handler, Problem, serve};

/// What came of `opening`, and whether this process stood by meanwhile: once something is `told`, everybody who asks at
/// the socket hears what `say` makes of it. The socket's place is free again in the end.
///
/// # Errors
/// As [`serve`]; the opening is given up then.
pub async fn stands_by<S, T>(
    path: PathBuf,
    mut told: mpsc::UnboundedReceiver<S>,
    say: impl Fn(S) -> String,
    opening: impl Future<Output = T>,
) -> Result<(T, bool), ControlError> {
    let mut opening = pin!(opening);
    let mut socket = Socket { path, shutdown: CancellationToken::new(), served: None };
    let opened = loop {
        tokio::select! {
            opened = &mut opening => break opened,
            Some(standing) = told.recv() => socket.tell(say(standing)).await?,
        }
    };
    let stood_by = socket.served.is_some();
    socket.end().await;
    Ok((opened, stood_by))
}

struct Socket {
    path: PathBuf,
    shutdown: CancellationToken,
    served: Option<(watch::Sender<String>, JoinHandle<()>)>,
}

struct Waiting(watch::Receiver<String>);

#[async_trait::async_trait]
impl Handler for Waiting {
    async fn handle(&self, _: Value, _: mpsc::Sender<Value>) -> Result<Value, Problem> {
        Err(Problem { code: Code::StandingBy, detail: Some(self.0.borrow().clone()) })
    }
}

impl Socket {
    async fn tell(&mut self, what: String) -> Result<(), ControlError> {
        match &self.served {
            Some((told, _)) => drop(told.send_replace(what)),
            None => {
                let (told, waiting) = watch::channel(what);
                let serving =
                    serve(self.path.clone(), Arc::new(Waiting(waiting)), self.shutdown.clone()).await?;
                self.served = Some((told, serving));
            }
        }
        Ok(())
    }

    async fn end(self) {
        self.shutdown.cancel();
        if let Some((_, serving)) = self.served {
            // A part that ended badly has nothing left to end.
            let _ = serving.await;
        }
    }
}
