//! Recalls: what this hospital sent and turns out to be wrong is recalled from everybody to whom it was sent, by itself
//! or by a clerk; and what was recalled, as the desk sees it.
//!
//! A record that changes is noted where it is filed or marked; what has to be recalled is derived from that, from what
//! transfers were about and from what stands now, so it goes on after any stop. A mark that another hospital's recall
//! brought is such a change, too: so a recall goes on to whomever the records were sent on to.

mod due;
mod list;
mod make;
mod wish;

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::context::Inner;
use crate::{Exchange, ExchangeError};

pub(crate) use list::notices;
pub use list::{Recalled, RecalledName};
pub use wish::{Planned, RecallWish};

/// How often it is looked even if nothing happened: an import in another process tells nobody.
const ROUND: Duration = Duration::from_secs(30);

/// Runs until shut down.
pub(crate) async fn run(inner: Arc<Inner>, shutdown: CancellationToken) {
    loop {
        if let Err(fault) = round(&inner).await {
            tracing::error!(code = %fault.code(), detail = %fault, "recalls have to wait");
        }
        tokio::select! {
            () = shutdown.cancelled() => break,
            () = inner.recalls.notified() => {}
            () = tokio::time::sleep(ROUND) => {}
        }
    }
}

async fn round(inner: &Arc<Inner>) -> Result<(), ExchangeError> {
    let looked = due::look(inner).await;
    make::everything(inner).await?;
    looked
}

impl Exchange {
    /// An import has ended: what was sent of it before is compared with what it was, and recalled together.
    pub fn import_ended(&self) {
        self.0.recalls.notify_one();
    }
}
