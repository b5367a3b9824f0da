//! What others bring, patients say or this hospital signs, taken in by itself.

use std::sync::Arc;

use handover_core::rules::Context;
use handover_core::{Code, Party};
use handover_dossier::{Dossier, DossierError, Taken, tally};
use handover_seal::Remembered;

use super::{Came, Inner};
use crate::{ExchangeError, incidents};

impl Inner {
    /// Takes an artefact in: verifies, keeps, advances, and puts what follows from it into the outbox, all in one
    /// transaction. The same one again gives the same answer.
    pub(crate) async fn take(self: &Arc<Self>, content: Vec<u8>, from: Came) -> Result<Taken, ExchangeError> {
        self.take_by(content, from, None).await
    }

    /// [`Self::take`] of what another party brings.
    pub(crate) async fn take_from(
        self: &Arc<Self>,
        content: Vec<u8>,
        bringer: &Party,
    ) -> Result<Taken, ExchangeError> {
        self.take_by(content, Came::Network, Some(bringer.clone())).await
    }

    async fn take_by(
        self: &Arc<Self>,
        content: Vec<u8>,
        from: Came,
        bringer: Option<Party>,
    ) -> Result<Taken, ExchangeError> {
        let (inner, federation, now) = (Arc::clone(self), self.federation()?, self.now());
        let keys = self.keys();
        let transfer = handover_dossier::transfer_of(&content)?;
        let content = Arc::new(content);
        let came = Arc::clone(&content);
        let was_whole = self.parts.gate.is_whole();
        let taken = self.parts.store.write(move |txn| -> Result<Taken, DossierError> {
            let context = Context { federation: &federation, verifier: &Remembered };
            if let Some(bringer) = &bringer {
                Dossier::of(txn, &keys, transfer).check_bringer(&content, bringer, context)?;
            }
            let taken = inner.take_in(txn, &keys, transfer, &content, from, context, now)?;
            if let Some(bringer) = bringer.as_ref().filter(|_| !taken.was_kept) {
                tally::add(txn, &keys, bringer)?;
            }
            Ok(taken)
        });
        let taken = match taken.await {
            // What it follows may be among what this store gets back.
            Err(DossierError::Refused(Code::OutOfOrder)) if from == Came::Network && !was_whole => {
                return Err(Code::CatchingUp.into());
            }
            Err(DossierError::Refused(code)) if from == Came::Network => {
                incidents::note(self, came, code).await?;
                return Err(code.into());
            }
            other => other?,
        };
        self.wake(&taken);
        Ok(taken)
    }
}
