//! `status`: how the node stands, for who looks after it. What does not work is named with what goes on all the same,
//! and until when.

use std::collections::BTreeMap;

use handover_core::{Code, Timestamp};
use handover_exchange::Standing;
use handover_web::Health;
use serde::{Deserialize, Serialize};

use crate::error::NodeError;
use crate::{Node, health};

/// How the node stands.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct StatusShown {
    /// The hospital.
    pub hospital: String,
    /// Whether the node runs; if not, the command has opened its data by itself.
    pub running: bool,
    /// Whether the index is connected.
    pub index_connected: bool,
    /// Since when that is so (RFC 3339); if it never changed, since the start.
    pub index_since: Option<String>,
    /// The directory that is held.
    pub directory: Option<DirectoryShown>,
    /// What does not work; empty if all does.
    pub degraded: Vec<Degraded>,
    /// What waits to go out.
    pub waiting: Vec<WaitingShown>,
    /// What was refused for good: `transfer show` names it.
    pub dead_letters: u64,
    /// Patients' links that the index does not know: `patient links` names them.
    pub links_owed: u64,
    /// Transfers that are not over, by state.
    pub under_way: BTreeMap<String, u64>,
    /// What is free on the disk where contents lie, in bytes.
    pub free_bytes: u64,
}

/// A directory.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct DirectoryShown {
    /// Its version.
    pub version: u64,
    /// From when it is (RFC 3339).
    pub issued: String,
    /// Until when it holds (RFC 3339).
    pub expires: String,
}

/// Something that does not work.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Degraded {
    /// What, as `/health` calls it.
    pub component: String,
    /// Why.
    pub code: String,
    /// What that means for the hospital.
    pub meaning: String,
    /// Until when what goes on does so (RFC 3339), if that has an end.
    pub until: Option<String>,
}

/// What waits for somebody.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct WaitingShown {
    /// A hospital, or `index`.
    pub to: String,
    /// How many artefacts.
    pub parcels: u64,
    /// Since when the oldest waits (RFC 3339).
    pub since: String,
}

pub(super) async fn status(node: &Node) -> Result<StatusShown, NodeError> {
    let live = node.live().ok();
    let health = live.map(|live| live.health.clone()).unwrap_or_default();
    health::look(node, &health).await;
    let standing = node.exchange.standing().await?;
    if live.is_some() {
        health.tell("index", if standing.index.0 { Ok(()) } else { Err(Code::Unreachable) });
    }
    let held = node.directories.held().ok();
    let held = held.as_deref().map(|held| held.directory());
    Ok(StatusShown {
        hospital: node.hospital().to_string(),
        running: live.is_some(),
        index_connected: standing.index.0,
        index_since: live.map(|_| standing.index.1.to_string()),
        degraded: degraded(&health, held.map(|held| held.expires)),
        directory: held.map(|held| DirectoryShown {
            version: held.version,
            issued: held.issued.to_string(),
            expires: held.expires.to_string(),
        }),
        waiting: waiting(&standing),
        dead_letters: standing.dead_letters,
        links_owed: standing.links_owed,
        under_way: standing.under_way.iter().map(|(phase, count)| (phase.to_string(), *count)).collect(),
        free_bytes: standing.free_bytes,
    })
}

fn waiting(standing: &Standing) -> Vec<WaitingShown> {
    let shown = standing.owed.iter().map(|owed| WaitingShown {
        to: owed.to.to_string(),
        parcels: owed.parcels,
        since: owed.since.to_string(),
    });
    shown.collect()
}

fn degraded(health: &Health, expires: Option<Timestamp>) -> Vec<Degraded> {
    let faults = health.faults();
    let is_expired = faults.get("directory") == Some(&Code::DirectoryExpired);
    let shown = faults.iter().map(|(component, code)| {
        let meaning = match (*component, *code) {
            ("index", _) if is_expired => AWAY_TOO_LONG,
            ("index", _) => AWAY,
            ("directory", Code::DirectoryExpired) => EXPIRED,
            ("store" | "audit", _) => NO_STORE,
            (_, code) => code.text(),
        };
        let until = expires.filter(|_| *component == "index" && !is_expired);
        Degraded {
            component: (*component).to_owned(),
            code: code.to_string(),
            meaning: meaning.to_owned(),
            until: until.map(|until| until.to_string()),
        }
    });
    shown.collect()
}

const AWAY: &str = "Until the directory expires, hospitals go on without the index: transfers, revocations, recalls and \
    break-glasses. What waits for it: evidence and fees, patients' new links, who holds a patient's records, and \
    packages for hospitals that are away.";
const AWAY_TOO_LONG: &str = "It has been away until the directory expired. What waits for it is kept.";
const EXPIRED: &str = "No new transfer begins until the index sends a directory; break-glasses go on for a week. What has begun is kept, and what is \
    filed can be read.";
const NO_STORE: &str = "The disk takes nothing, so nothing is taken in and nothing is disclosed. Look at the disk, then \
    restart the node.";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_work_says_until_when_the_rest_does() {
        let health = Health::new();
        let expires = Timestamp::from_millis(1_800_000_000_000);
        assert!(degraded(&health, Some(expires)).is_empty());
        health.tell("index", Err(Code::Unreachable));
        let away = degraded(&health, Some(expires));
        assert_eq!(away.len(), 1);
        assert_eq!((&away[0].until, away[0].meaning.as_str()), (&Some(expires.to_string()), AWAY));
        health.set("directory", Err(Code::DirectoryExpired));
        let both = degraded(&health, Some(expires));
        let meanings: Vec<_> = both.iter().map(|it| (it.component.as_str(), it.meaning.as_str())).collect();
        assert_eq!(meanings, [("directory", EXPIRED), ("index", AWAY_TOO_LONG)]);
        assert!(both.iter().all(|it| it.until.is_none()));
    }
}
