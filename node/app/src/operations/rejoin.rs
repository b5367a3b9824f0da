//! A store that was restored from a backup, as who looks after the node sees it.

use handover_exchange::Rejoining;
use serde::{Deserialize, Serialize};

use crate::Node;
use crate::error::NodeError;

/// How it catches up.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct RejoinShown {
    /// When that was found, or said by hand (RFC 3339).
    pub found: String,
    /// When everybody had told everything (RFC 3339); null while it catches up.
    pub done: Option<String>,
    /// Who has still to tell: hospitals, or `index`.
    pub waits_for: Vec<String>,
    /// Artefacts that others gave back.
    pub artefacts: u64,
    /// Transfers that were filed here, and whose records are not here any more.
    pub unfiled: Vec<String>,
}

impl From<Rejoining> for RejoinShown {
    fn from(it: Rejoining) -> Self {
        Self {
            found: it.found.to_string(),
            done: it.done.map(|done| done.to_string()),
            waits_for: it.waits_for.iter().map(ToString::to_string).collect(),
            artefacts: it.artefacts,
            unfiled: it.unfiled.iter().map(ToString::to_string).collect(),
        }
    }
}

/// Says that the store was restored, and how it stands.
pub(super) async fn rejoin(node: &Node, staff: &str) -> Result<Option<RejoinShown>, NodeError> {
    node.exchange.rejoin(staff).await?;
    shown(node).await
}

pub(super) async fn shown(node: &Node) -> Result<Option<RejoinShown>, NodeError> {
    Ok(node.exchange.rejoining().await?.map(RejoinShown::from))
}
