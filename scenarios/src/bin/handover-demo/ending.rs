//! The ledger at the end, and the JSON file.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use handover_scenarios::json::{self, number, text};
use handover_scenarios::story::{FILED, Outcome};
use handover_scenarios::world::World;
use serde_json::Value;

use crate::teller::Teller;

/// Entries and accounts that are shown one by one.
const SHOWN: usize = 12;
/// Characters of who pays: a patient's reference is long.
const PAYER_CHARS: usize = 24;

pub(crate) fn tell(world: &World, outcome: &Outcome, teller: &mut Teller, took: Duration) -> Result<()> {
    teller.title("The ledger at the end")?;
    let entries = world.index(&["ledger", "entries"])?.json()?;
    let entries: Vec<&Value> = json::list(&entries, "entries").collect();
    for entry in entries.iter().take(SHOWN) {
        let whole = text(entry, "payer");
        let payer: String = whole.chars().take(PAYER_CHARS).collect();
        let cut = if payer == whole { "" } else { "…" };
        teller.line(&format!(
            "  {:>4}  {:<8} {:>12} {}  {payer}{cut} owes {}",
            number(entry, "sequence"),
            text(entry, "kind"),
            text(entry, "amount"),
            text(entry, "currency"),
            text(entry, "source"),
        ))?;
    }
    if entries.len() > SHOWN {
        teller.line(&format!("  … and {} more", entries.len().saturating_sub(SHOWN)))?;
    }
    let ledger = &outcome.ledger;
    let balance = if ledger.balanced { "it balances" } else { "IT DOES NOT BALANCE" };
    teller.line(&format!(
        "  {} entries; debits {}, credits {}: {balance}",
        ledger.entries, ledger.debits, ledger.credits
    ))?;
    match ledger.differences.as_slice() {
        [] => teller.line(&format!(
            "  The hospitals hold it against their own evidence, {} fees in all: all agree.",
            ledger.reconciled
        ))?,
        found => found.iter().try_for_each(|it| teller.line(&format!("  NOT WHAT WAS SIGNED: {it}")))?,
    }
    let are_files = outcome.transfers.iter().all(|row| row.file.is_some());
    let what = if are_files { "files" } else { "transfers asked for" };
    let filed = outcome.transfers.iter().filter(|transfer| transfer.outcome == FILED);
    let (sent, received) = filed.clone().fold((0_u64, 0_u64), |(sent, received), transfer| {
        (sent.saturating_add(transfer.records_sent), received.saturating_add(transfer.records_filed))
    });
    teller.line(&format!(
        "\n{} {what}, {} filed: {sent} records sent, {received} filed. {:.1} s in all.",
        outcome.transfers.len(),
        filed.count(),
        took.as_secs_f64()
    ))?;
    Ok(())
}

pub(crate) fn write_json(path: &Path, outcome: &Outcome) -> Result<()> {
    let mut text = serde_json::to_string_pretty(outcome)?;
    text.push('\n');
    std::fs::write(path, text).with_context(|| path.display().to_string())
}
