//! What hospitals signed and may not have signed, as operators see it.

use handover_core::Digest;
use handover_dossier::incidents::{self, Incident};

use super::views::{IncidentView, IncidentsView};
use super::{Hex, Operations, OpsError};

fn view(incident: &Incident) -> IncidentView {
    IncidentView {
        id: incident.id.to_string(),
        by: incident.by.to_string(),
        artefact: incident.artefact.clone(),
        code: incident.code.to_string(),
        transfer: incident.transfer.map(|transfer| transfer.to_string()),
        at: incident.at.to_string(),
        file: None,
    }
}

impl Operations {
    pub(super) async fn incidents(&self) -> Result<IncidentsView, OpsError> {
        let keys = self.desk.keys.clone();
        let kept = self.desk.store.read(move |txn| incidents::list(txn, &keys)).await?;
        Ok(IncidentsView { incidents: kept.iter().map(view).collect() })
    }

    pub(super) async fn incident(&self, id: Digest) -> Result<IncidentView, OpsError> {
        let (keys, current) = (self.desk.keys.clone(), self.desk.current());
        let read = self.desk.store.read(move |txn| incidents::file(txn, &keys, &id, current.federation()));
        let (incident, file) = read.await?;
        Ok(IncidentView { file: Some(Hex(file)), ..view(&incident) })
    }

    pub(super) async fn remove_incident(&self, id: Digest) -> Result<IncidentsView, OpsError> {
        let keys = self.desk.keys.clone();
        self.desk.store.write(move |txn| incidents::remove(txn, &keys, &id)).await?;
        self.incidents().await
    }
}
