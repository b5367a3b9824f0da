//! The node's standing as people read it.

use std::io;

use super::Out;
use crate::operations::{Degraded, StatusShown};

const MB: u64 = 1_000_000;

pub(crate) fn status(out: Out<'_>, shown: &StatusShown) -> io::Result<()> {
    let way = if shown.running { "runs" } else { "does not run" };
    let all_well = if shown.degraded.is_empty() { ", and all is well" } else { "" };
    writeln!(out, "{} {way}{all_well}.", shown.hospital)?;
    for Degraded { component, code, meaning, until } in &shown.degraded {
        let until = until.as_ref().map(|until| format!(", the rest until {until}")).unwrap_or_default();
        writeln!(out, "NOT WELL: {component} ({code}){until}")?;
        writeln!(out, "    {meaning}")?;
    }
    if let Some(since) = &shown.index_since {
        let is = if shown.index_connected { "connected" } else { "away" };
        writeln!(out, "index: {is} since {since}")?;
    }
    match &shown.directory {
        Some(held) => writeln!(
            out,
            "directory: version {}, of {}, holds until {}",
            held.version, held.issued, held.expires
        )?,
        None => writeln!(out, "directory: none yet")?,
    }
    let under_way: Vec<_> = shown.under_way.iter().map(|(state, count)| format!("{count} {state}")).collect();
    let under_way = if under_way.is_empty() { "none".to_owned() } else { under_way.join(", ") };
    writeln!(out, "transfers under way: {under_way}")?;
    for waiting in &shown.waiting {
        writeln!(out, "for {}: {} artefacts wait, since {}", waiting.to, waiting.parcels, waiting.since)?;
    }
    if shown.links_owed > 0 {
        writeln!(out, "{} links of patients are not known to the index: patient links", shown.links_owed)?;
    }
    if shown.dead_letters > 0 {
        writeln!(
            out,
            "{} artefacts were refused for good: transfer list, transfer show",
            shown.dead_letters
        )?;
    }
    writeln!(out, "free on the disk: {} MB", shown.free_bytes / MB)
}
