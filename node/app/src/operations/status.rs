//! `status`: how the node stands, for who looks after it. What does not work is named with what goes on all the same,
//! and until when.

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use handover_core::rules::{self, EMERGENCY_AFTER_EXPIRY_MS, REVOCATIONS_STALE_MS};
use handover_core::{Code, Edition, Party, Timestamp};
use handover_exchange::Standing;
use handover_net::Net;
use serde::{Deserialize, Serialize};

use super::rejoin::{self, RejoinShown};
use crate::error::NodeError;
use crate::{Node, health};

/// How the node stands.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct StatusShown {
    /// The hospital.
    pub hospital: String,
    /// Whether the index is connected.
    pub index_connected: bool,
    /// Since when that is so (RFC 3339); if it never changed, since the start.
    pub index_since: Option<String>,
    /// How others reach this node.
    pub reach: ReachShown,
    /// The last edition of the formats that this program reads.
    pub reads_edition: u32,
    /// The directory that is held.
    pub directory: Option<DirectoryShown>,
    /// What does not work; empty if all does.
    pub degraded: Vec<Degraded>,
    /// What of transfers waits to go out. This and what follows is absent while the store cannot be read.
    pub waiting: Option<Vec<WaitingShown>>,
    /// What was refused for good: `transfer show` names it.
    pub dead_letters: Option<u64>,
    /// Patients' links that the index does not know: `patient links` names them.
    pub links_owed: Option<u64>,
    /// Patients of whose newer keys the index is still to be told.
    pub keys_owed: Option<u64>,
    /// Patients' asks that wait for the desk: `transfer list` names them.
    pub asks: Option<u64>,
    /// Transfers that are not over, by state.
    pub under_way: Option<BTreeMap<String, u64>>,
    /// What is free on the disk where contents lie, in bytes.
    pub free_bytes: Option<u64>,
    /// How a store that was restored from a backup catches up; null if it never was.
    pub rejoin: Option<RejoinShown>,
}

/// How others reach this node.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct ReachShown {
    /// When a member last dialled it directly (RFC 3339), since the start.
    pub dialled: Option<String>,
    /// The relays that it needs; none, if others are to dial it.
    pub relays: Vec<RelayShown>,
    /// Members with a direct connection now.
    pub direct: usize,
    /// Members that are connected over relays only.
    pub relayed: usize,
}

/// One relay.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct RelayShown {
    /// Its peer id.
    pub relay: String,
    /// Since when it reaches this node (RFC 3339).
    pub since: Option<String>,
    /// Why it does not.
    pub code: Option<String>,
}

impl ReachShown {
    fn of(net: &Net) -> Self {
        let text = |time: SystemTime| {
            let since = time.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
            Timestamp::from_millis(i64::try_from(since).unwrap_or(i64::MAX)).to_string()
        };
        let (direct, relayed) = net.connections();
        let relays = net.at_relays().into_iter().map(|it| RelayShown {
            relay: it.relay,
            since: it.since.map(text),
            code: it.fault.map(|code| code.to_string()),
        });
        Self { dialled: net.last_dialled().map(text), relays: relays.collect(), direct, relayed }
    }
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
    /// The edition of the formats that is in force.
    pub edition: u32,
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
    let live = node.live()?;
    health::look(node, &live.health).await;
    let read = node.exchange.standing().await;
    // A store that failed is told with the rest, as far as that is known.
    let standing = match read {
        Err(fault) if live.health.faults().contains_key("store") => {
            tracing::info!(code = %fault.code(), "the standing cannot be read");
            None
        }
        read => Some(read?),
    };
    let is_connected = live.net.connected().contains(&Party::Index);
    live.health.tell("books", health::books(node).await);
    health::rejoin(node, &live.health);
    live.health.tell("relays", health::relayed_by(&live.net.at_relays()));
    live.health.tell("index", if is_connected { Ok(()) } else { Err(Code::Unreachable) });
    let held = node.directories.held().ok();
    let held = held.as_deref().map(|held| held.directory());
    let dates = held.map(|held| (held.issued, held.expires));
    Ok(StatusShown {
        hospital: node.hospital().to_string(),
        index_connected: is_connected,
        index_since: standing.as_ref().map(|standing| standing.index_since.to_string()),
        degraded: degraded(live.health.faults(), dates, node.now()),
        reach: ReachShown::of(&live.net),
        reads_edition: Edition::last().number(),
        directory: held.map(|held| DirectoryShown {
            edition: held.edition.number(),
            version: held.version,
            issued: held.issued.to_string(),
            expires: held.expires.to_string(),
        }),
        waiting: standing.as_ref().map(waiting),
        dead_letters: standing.as_ref().map(|standing| standing.dead_letters),
        links_owed: standing.as_ref().map(|standing| standing.links_owed),
        keys_owed: standing.as_ref().map(|standing| standing.keys_owed),
        asks: standing.as_ref().map(|standing| standing.asks),
        under_way: standing.as_ref().map(|standing| {
            standing.under_way.iter().map(|(phase, count)| (phase.to_string(), *count)).collect()
        }),
        rejoin: match standing.is_some() {
            true => rejoin::shown(node).await?,
            false => None,
        },
        free_bytes: standing.as_ref().map(|standing| standing.free_bytes),
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

type Dates = (Timestamp, Timestamp);

/// What does not work, with what that means. `dates`: from when the directory is and until when it holds.
fn degraded(mut faults: BTreeMap<&str, Code>, dates: Option<Dates>, now: Timestamp) -> Vec<Degraded> {
    let goes_on = !faults.contains_key("directory") && !faults.contains_key("hospital");
    let pause = dates.map(|(issued, _)| issued.plus_ms(REVOCATIONS_STALE_MS));
    if let Some((issued, _)) = dates.filter(|_| goes_on)
        && let Err(code) = rules::revocations_fresh(issued, now)
    {
        faults.insert("deliveries", code);
    }
    let shown = faults.iter().map(|(component, code)| {
        let (meaning, until) = match (*component, *code, dates, pause) {
            ("index", _, Some((_, expires)), Some(pause)) if goes_on => (away(pause), Some(expires)),
            ("index", ..) => (AWAY.to_owned(), None),
            ("directory", Code::DirectoryExpired, None, _) => (NEVER.to_owned(), None),
            ("directory", Code::DirectoryExpired, Some((_, expires)), _) => {
                (EXPIRED.to_owned(), Some(expires.plus_ms(EMERGENCY_AFTER_EXPIRY_MS)))
            }
            ("store" | "audit", Code::StoreUnavailable | Code::AuditUnavailable, ..) => {
                (NO_STORE.to_owned(), None)
            }
            ("blobs", Code::StoreUnavailable, ..) => (NO_BUCKET.to_owned(), None),
            (_, code, ..) => (code.text().to_owned(), None),
        };
        Degraded {
            component: (*component).to_owned(),
            code: code.to_string(),
            meaning,
            until: until.map(|until| until.to_string()),
        }
    });
    shown.collect()
}

fn away(pause: Timestamp) -> String {
    format!(
        "Until the directory expires, hospitals go on without the index: transfers, revocations, recalls, \
         break-glasses; deliveries under continuous consents until {pause}. {AWAY}"
    )
}

const AWAY: &str = "What waits for it is kept: evidence and fees, patients' new links and keys, who holds a patient's \
    records, packages for hospitals that are away.";
const NEVER: &str =
    "There is no directory yet. Enrol this hospital, or look whether the index can be reached.";
const EXPIRED: &str = "Nothing new begins, and nothing under way gets further, until the index sends a directory. What has \
    begun is kept, what is filed can be read, and break-glasses go on.";
const NO_STORE: &str = "The disk takes nothing, so nothing is taken in and nothing is disclosed. Look at the disk, then \
    restart the node.";
const NO_BUCKET: &str = "The bucket that keeps large content does not answer: none is taken in or sent, and nothing is \
    lost. It is tried again; what waits goes on by itself.";

#[cfg(test)]
mod tests {
    use handover_core::time::HOUR_MS;

    use super::*;

    const ISSUED: Timestamp = Timestamp::from_millis(1_800_000_000_000);

    fn shown(faults: &[(&'static str, Code)], dates: Option<Dates>, hours: i64) -> Vec<Degraded> {
        degraded(faults.iter().copied().collect(), dates, ISSUED.plus_ms(hours * HOUR_MS))
    }

    fn names(shown: &[Degraded]) -> Vec<(&str, Option<&str>)> {
        shown.iter().map(|it| (it.component.as_str(), it.until.as_deref())).collect()
    }

    #[test]
    fn what_does_not_work_says_until_when_the_rest_does() {
        let expires = ISSUED.plus_ms(72 * HOUR_MS);
        let (dates, away) = (Some((ISSUED, expires)), ("index", Code::Unreachable));
        assert!(shown(&[], dates, 1).is_empty());
        let until = expires.to_string();
        assert_eq!(names(&shown(&[away], dates, 1)), [("index", Some(until.as_str()))]);
        // After a day nobody knows whether continuous consents still stand.
        let stale = shown(&[away], dates, 25);
        assert_eq!(names(&stale), [("deliveries", None), ("index", Some(until.as_str()))]);
        let expired = shown(&[away, ("directory", Code::DirectoryExpired)], dates, 73);
        let week = expires.plus_ms(EMERGENCY_AFTER_EXPIRY_MS).to_string();
        assert_eq!(names(&expired), [("directory", Some(week.as_str())), ("index", None)]);
    }

    #[test]
    fn nothing_is_promised_that_does_not_go_on() {
        let dates = Some((ISSUED, ISSUED.plus_ms(72 * HOUR_MS)));
        let away = ("index", Code::Unreachable);
        for other in [("directory", Code::DirectoryForked), ("hospital", Code::HospitalSuspended)] {
            let shown = shown(&[away, other], dates, 1);
            assert!(shown.iter().all(|it| it.until.is_none() && !it.meaning.contains("go on")), "{shown:?}");
        }
        let new = shown(&[away, ("directory", Code::DirectoryExpired)], None, 1);
        assert_eq!(new[0].meaning, NEVER);
        let busy = shown(&[("store", Code::Busy)], dates, 1);
        assert_eq!(busy[0].meaning, Code::Busy.text());
    }
}
