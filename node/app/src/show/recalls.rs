//! Recalls as people read them.

use std::io::{self, Write as _};

use super::Out;
use crate::operations::{MarkShown, RecallMade, RecallShown, RecallsListed, RecordNamed};

/// Records that are named in a line of their own; all are in the JSON.
const NAMED: usize = 20;

fn named(out: Out<'_>, records: &[RecordNamed]) -> io::Result<()> {
    for RecordNamed { origin, resource_type, id } in records.iter().take(NAMED) {
        writeln!(out, "    {resource_type}/{id} of {origin}")?;
    }
    match records.len().checked_sub(NAMED) {
        Some(more) if more > 0 => writeln!(out, "    and {more} more"),
        _ => Ok(()),
    }
}

fn counted(records: &[RecordNamed], other_tests: u32) -> String {
    let records = records.len();
    match other_tests {
        0 => format!("{records} records"),
        tests => format!("{records} records and {tests} tests that were charged and not sent"),
    }
}

/// A recall in a line, with what is said of its fee.
fn recall(out: Out<'_>, shown: &RecallShown) -> io::Result<()> {
    let RecallShown { transfer, number, direction, hospital, fee_back, currency, .. } = shown;
    let reason = shown.reason.as_deref().unwrap_or("of a patient who is forgotten here");
    let way = if direction == "sent" { "to" } else { "from" };
    let counted = counted(&shown.records, shown.other_tests);
    writeln!(out, "{transfer} recall {number} {way} {hospital}: {counted}, {reason}")?;
    match &shown.marked {
        Some(since) => writeln!(out, "    marked there since {since}")?,
        None => writeln!(out, "    not confirmed yet, made {}", shown.issued)?,
    }
    writeln!(out, "    fee given back: {fee_back} {currency}")?;
    if let Some(computed) = &shown.fee_differs {
        writeln!(
            out,
            "    MISMATCH: the lines of the quote come to {computed} {currency}; talk to {hospital}"
        )?;
    }
    Ok(())
}

/// Says on stderr that the content which follows was recalled.
pub(crate) fn recalled_record(json: bool, mark: &MarkShown) {
    let mut stderr = io::stderr().lock();
    // What cannot be written to stderr cannot be told there either; the list still tells.
    let _ = if json {
        let document = serde_json::json!({ "schema": "handover/recalled-record/1", "recalled": mark });
        writeln!(stderr, "{document}")
    } else {
        writeln!(stderr, "{}", mark.text())
    };
}

pub(crate) fn recalls(out: Out<'_>, listed: &RecallsListed) -> io::Result<()> {
    if listed.recalls.is_empty() {
        writeln!(out, "Nothing was recalled, here or elsewhere.")?;
    }
    for shown in &listed.recalls {
        recall(out, shown)?;
        named(out, &shown.records)?;
    }
    Ok(())
}

pub(crate) fn recall_made(out: Out<'_>, made: &RecallMade) -> io::Result<()> {
    for from in &made.hospitals {
        let counted = counted(&from.records, from.other_tests);
        let word = if made.preview { "would be " } else { "" };
        writeln!(
            out,
            "{} {counted} {word}recalled as {} from {}",
            from.transfer, made.reason, from.hospital
        )?;
        named(out, &from.records)?;
        if made.preview {
            writeln!(out, "    fee given back: {} {}", from.fee_back, from.currency)?;
        } else if from.recalls.is_empty() {
            writeln!(out, "    not released yet; it is recalled as soon as it is")?;
        }
        from.recalls.iter().try_for_each(|shown| recall(out, shown))?;
    }
    Ok(())
}
