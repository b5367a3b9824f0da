//! What other hospitals signed and may not have signed, as it came here: kept, listed, and written as a file on which
//! everybody's `verify` comes to the same refusal.

use std::sync::Arc;

use handover_core::rules::Context;
use handover_core::{Code, Digest};
use handover_dossier::DossierError;
use handover_dossier::incidents::{self, Incident};
use handover_seal::Remembered;

use crate::context::Inner;
use crate::{Exchange, ExchangeError, books};

/// Keeps what was refused, if it proves something.
pub(crate) async fn note(inner: &Arc<Inner>, content: Arc<Vec<u8>>, code: Code) -> Result<(), ExchangeError> {
    let (keys, federation, now) = (inner.keys(), inner.federation()?, inner.now());
    let noted = inner.parts.store.write(move |txn| {
        let context = Context { federation: &federation, verifier: &Remembered };
        incidents::note(txn, &keys, &content, code, context, now)
    });
    if let Some(incident) = noted.await? {
        tracing::error!(
            by = %incident.by, artefact = %incident.artefact, code = %code, incident = %incident.id,
            "a hospital signed what it may not sign; it is kept as an incident"
        );
    }
    Ok(())
}

/// What shows an incident to others.
#[derive(Clone, Debug)]
pub struct Proof {
    /// What it is about.
    pub incident: Incident,
    /// A transfer's file with what was refused in the place of what holds here; or the directory that was refused.
    pub file: Vec<u8>,
    /// The directory that it contradicts.
    pub held: Option<Vec<u8>>,
}

impl Exchange {
    /// What is kept: the last of the index, then by hospital.
    ///
    /// # Errors
    /// The store's.
    pub async fn incidents(&self) -> Result<Vec<Incident>, ExchangeError> {
        let keys = self.0.keys();
        let kept = self.0.parts.store.read(move |txn| incidents::list(txn, &keys)).await?;
        let disputed = self.0.parts.directories.proof().await?;
        Ok(disputed.map(|(incident, ..)| incident).into_iter().chain(kept).collect())
    }

    /// One of them, for others to see.
    ///
    /// # Errors
    /// [`Code::UnknownIncident`].
    pub async fn incident(&self, id: Digest) -> Result<Proof, ExchangeError> {
        let disputed = self.0.parts.directories.proof().await?;
        if let Some((incident, file, held)) = disputed.filter(|(incident, ..)| incident.id == id) {
            return Ok(Proof { incident, file, held: Some(held) });
        }
        let (keys, federation) = (self.0.keys(), self.0.federation()?);
        let read = self.0.parts.store.read(move |txn| incidents::file(txn, &keys, &id, &federation));
        let (incident, file) = read.await?;
        Ok(Proof { incident, file, held: None })
    }

    /// Removes one of a hospital, so that there is room for others. That of the index stays: whether there is new work
    /// hangs on it.
    ///
    /// # Errors
    /// [`Code::UnknownIncident`].
    pub async fn remove_incident(&self, id: Digest) -> Result<(), ExchangeError> {
        let keys = self.0.keys();
        let removed = self.0.parts.store.write(move |txn| -> Result<(), DossierError> {
            incidents::remove(txn, &keys, &id)?;
            Ok(books::dealt_with(txn, &keys)?)
        });
        Ok(removed.await?)
    }
}
