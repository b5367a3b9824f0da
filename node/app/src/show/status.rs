//! The node's standing as people read it.

use std::io;

use super::{Out, rejoin};
use crate::operations::{Degraded, ReachShown, StatusShown};

const MB: u64 = 1_000_000;

pub(crate) fn status(out: Out<'_>, shown: &StatusShown) -> io::Result<()> {
    let all_well = if shown.degraded.is_empty() { ", and all is well" } else { "" };
    writeln!(out, "{} runs{all_well}.", shown.hospital)?;
    for Degraded { component, code, meaning, until } in &shown.degraded {
        let until = until.as_ref().map(|until| format!(", what goes on does so until {until}"));
        writeln!(out, "NOT WELL: {component} ({code}){}", until.unwrap_or_default())?;
        writeln!(out, "    {meaning}")?;
    }
    let is = if shown.index_connected { "connected" } else { "away" };
    let since = shown.index_since.as_ref().map(|since| format!(" since {since}")).unwrap_or_default();
    writeln!(out, "index: {is}{since}")?;
    reach(out, &shown.reach)?;
    match &shown.directory {
        Some(held) => writeln!(
            out,
            "directory: version {}, of {}, holds until {}",
            held.version, held.issued, held.expires
        )?,
        None => writeln!(out, "directory: none yet")?,
    }
    if let Some(held) = &shown.directory {
        writeln!(out, "formats: edition {} in force, {} is read here", held.edition, shown.reads_edition)?;
    }
    if let Some(rejoining) = &shown.rejoin {
        rejoin(out, rejoining)?;
    }
    if let Some(under_way) = &shown.under_way {
        let counts: Vec<_> = under_way.iter().map(|(state, count)| format!("{count} {state}")).collect();
        let counts = if counts.is_empty() { "none".to_owned() } else { counts.join(", ") };
        writeln!(out, "transfers under way: {counts}")?;
    }
    for waiting in shown.waiting.iter().flatten() {
        writeln!(out, "for {}: {} artefacts wait, since {}", waiting.to, waiting.parcels, waiting.since)?;
    }
    for (count, what) in [
        (shown.asks, "asks of patients wait for the desk: transfer list, transfer request"),
        (shown.links_owed, "links of patients are not known to the index: patient links"),
        (shown.keys_owed, "patients have newer keys of which the index is still to be told"),
        (shown.dead_letters, "artefacts were refused for good: transfer list, transfer show"),
    ] {
        if let Some(count) = count.filter(|count| *count > 0) {
            writeln!(out, "{count} {what}")?;
        }
    }
    match shown.free_bytes {
        Some(bytes) => writeln!(out, "free on the disk: {} MB", bytes / MB),
        None => Ok(()),
    }
}

/// How others reach it.
fn reach(out: Out<'_>, shown: &ReachShown) -> io::Result<()> {
    if shown.relays.is_empty() {
        match &shown.dialled {
            Some(at) => writeln!(out, "reached: directly, last at {at}")?,
            None => writeln!(out, "reached: directly, by nobody since the start")?,
        }
    }
    for relay in &shown.relays {
        match (&relay.since, &relay.code) {
            (Some(since), _) => writeln!(out, "reached: through relay {} since {since}", relay.relay)?,
            (None, Some(code)) => writeln!(out, "reached: not through relay {} ({code})", relay.relay)?,
            (None, None) => writeln!(out, "reached: not yet through relay {}", relay.relay)?,
        }
    }
    writeln!(out, "members connected: {} directly, {} over relays", shown.direct, shown.relayed)
}
