//! The newest checkpoint of the ledger's log, signed anew only when the log has grown.
//!
//! Invariant: nothing is signed that does not continue what was signed before. Nothing here knows who reads it.

use std::sync::Arc;

use tokio::sync::Mutex;

use crate::desk::Desk;
use crate::ledger::{BooksError, TreeHead};

/// Signs checkpoints. Clones share what was signed.
#[derive(Clone)]
pub(crate) struct Log {
    desk: Desk,
    origin: String,
    signed: Arc<Mutex<Option<(TreeHead, String)>>>,
}

impl Log {
    /// A log that signs as `origin`.
    pub(crate) fn new(desk: Desk, origin: String) -> Self {
        Self { desk, origin, signed: Arc::default() }
    }

    /// The newest checkpoint as a signed note (C2SP tlog-checkpoint).
    pub(crate) async fn checkpoint(&self) -> Result<String, BooksError> {
        self.desk.voice.may_speak().map_err(BooksError::Silent)?;
        // Held while signing, so that a crowd of readers causes one signature.
        let mut signed = self.signed.lock().await;
        let head = self.desk.ledger.stated().await?;
        if let Some((of, note)) = signed.as_ref()
            && *of == head
        {
            return Ok(note.clone());
        }
        let note = self.desk.ledger.checkpoint(&self.origin, Vec::new(), &*self.desk.seat.signer).await?;
        *signed = Some((head, note.clone()));
        Ok(note)
    }
}
