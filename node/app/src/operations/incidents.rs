//! What others signed and may not have signed, and is kept to be shown.

use handover_core::Digest;
use handover_exchange::Incident;
use serde::{Deserialize, Serialize};

use crate::Node;
use crate::error::NodeError;

/// An incident.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct IncidentShown {
    /// What it is called: SHA-256 of what was refused.
    pub id: String,
    /// Whose signature it bears: a hospital, or `index`.
    pub by: String,
    /// The artefact's type.
    pub artefact: String,
    /// Why it was refused.
    pub code: String,
    /// The transfer that it claims to belong to, if to one.
    pub transfer: Option<String>,
    /// When it first came (RFC 3339).
    pub at: String,
    /// For whom it is to be shown: a transfer's file in which it stands, or the directory that was refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// The directory that it contradicts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub held: Option<String>,
}

/// All that are kept.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct IncidentsListed {
    /// By whose signature they bear.
    pub incidents: Vec<IncidentShown>,
}

impl IncidentShown {
    fn of(incident: &Incident) -> Self {
        Self {
            id: incident.id.to_string(),
            by: incident.by.to_string(),
            artefact: incident.artefact.clone(),
            code: incident.code.to_string(),
            transfer: incident.transfer.map(|transfer| transfer.to_string()),
            at: incident.at.to_string(),
            file: None,
            held: None,
        }
    }
}

pub(super) async fn list(node: &Node) -> Result<IncidentsListed, NodeError> {
    let incidents = node.exchange.incidents().await?;
    Ok(IncidentsListed { incidents: incidents.iter().map(IncidentShown::of).collect() })
}

pub(super) async fn show(node: &Node, id: Digest) -> Result<IncidentShown, NodeError> {
    let proof = node.exchange.incident(id).await?;
    let (file, held) = (Some(hex::encode(proof.file)), proof.held.map(hex::encode));
    Ok(IncidentShown { file, held, ..IncidentShown::of(&proof.incident) })
}

pub(super) async fn remove(node: &Node, id: Digest) -> Result<IncidentsListed, NodeError> {
    node.exchange.remove_incident(id).await?;
    list(node).await
}
