//! What the index knows, shown: directory, books, mail, and whether it is all sound.

use handover_cli::CliError;
use handover_core::Code;

use super::context::{Context, Performer, runtime};
use crate::ops::Command;
use crate::ops::emergencies::EmergenciesView;
use crate::ops::views::{BalancesView, CheckView, DirectoryView, EntriesView, FoldersView, MailView};

/// Shows the directory.
pub(super) fn directory(context: &Context) -> Result<(), CliError> {
    let view: DirectoryView = context.perform(&Command::DirectoryShow)?;
    context.output.emit("handover/directory/1", &view, |to| {
        let pieces = match view.pieces {
            1 => "one piece".to_owned(),
            pieces => format!("{pieces} pieces"),
        };
        writeln!(to, "version {}, expires {}, {} bytes, {pieces}", view.version, view.expires, view.bytes)?;
        writeln!(to, "log of {} entries, root {}", view.log_size, view.log_root)?;
        for operator in &view.operators {
            writeln!(to, "operator {} until {}", operator.name, operator.not_after)?;
        }
        for it in &view.hospitals {
            writeln!(
                to,
                "{:<20} {:<10} {} ({}, {})",
                it.hospital, it.status, it.name, it.jurisdiction, it.currency
            )?;
        }
        Ok(())
    })
}

/// Every entry, page by page.
pub(super) fn all_entries(context: &Context) -> Result<EntriesView, CliError> {
    runtime()?.block_on(async {
        let performer = Performer::find(context).await?;
        let mut all = EntriesView { entries: Vec::new(), next: None };
        loop {
            let page = performer.perform(&Command::LedgerEntries { after: all.next }).await?;
            let page: EntriesView =
                serde_json::from_value(page).map_err(|_| CliError::from(Code::Malformed))?;
            all.entries.extend(page.entries);
            all.next = page.next;
            if all.next.is_none() {
                break;
            }
        }
        performer.close().await;
        Ok::<_, CliError>(all)
    })
}

/// Shows every entry.
pub(super) fn entries(context: &Context) -> Result<(), CliError> {
    let view = all_entries(context)?;
    context.output.emit("handover/ledger-entries/1", &view, |to| {
        for it in &view.entries {
            // What a fee was posted on, or why it was let go.
            let why = [("by", &it.proof), ("because", &it.reason)];
            let why = why.iter().find_map(|(word, what)| what.as_ref().map(|what| format!(" {word} {what}")));
            writeln!(
                to,
                "{:>6} {} {:<11} {:>12} {} {} -> {} for {}{}",
                it.sequence,
                it.at,
                it.kind,
                it.amount,
                it.currency,
                it.payer,
                it.source,
                it.transfer,
                why.unwrap_or_default()
            )?;
            if let Some(hold) = &it.hold {
                writeln!(to, "       held: {hold}")?;
            }
            if let Some(recall) = &it.recall {
                writeln!(to, "       by recall {recall}")?;
            }
        }
        Ok(())
    })
}

/// Shows every account and the totals. Books that do not balance end with the exit code for integrity.
pub(super) fn balances(context: &Context) -> Result<(), CliError> {
    let view: BalancesView = context.perform(&Command::LedgerBalances)?;
    context.output.emit("handover/ledger-balances/1", &view, |to| {
        writeln!(
            to,
            "{:<76} {:>14} {:>14} {:>14} {:>14}",
            "", "pending debit", "credit", "posted debit", "credit"
        )?;
        let accounts = view.accounts.iter().map(|it| (it.holder.as_str(), &it.amounts));
        for (name, it) in accounts.chain(view.totals.iter().map(|it| ("total", it))) {
            writeln!(
                to,
                "{name:<72} {} {:>14} {:>14} {:>14} {:>14}",
                it.currency, it.pending_debits, it.pending_credits, it.posted_debits, it.posted_credits
            )?;
        }
        Ok(())
    })?;
    if view.balanced { Ok(()) } else { Err(Code::LedgerUnbalanced.into()) }
}

/// Shows the mailboxes.
pub(super) fn mail(context: &Context) -> Result<(), CliError> {
    let view: MailView = context.perform(&Command::MailShow)?;
    context.output.emit("handover/mail/1", &view, |to| {
        for (hospital, letters) in &view.waiting {
            writeln!(to, "{hospital:<20} {letters} waiting")?;
        }
        for it in &view.dead {
            writeln!(
                to,
                "{:<20} refused {} of {} at {}: {}",
                it.hospital, it.kind, it.transfer, it.at, it.code
            )?;
        }
        Ok(())
    })
}

/// Shows what waits in hospitals' folders.
pub(super) fn folders(context: &Context) -> Result<(), CliError> {
    let view: FoldersView = context.perform(&Command::FolderList)?;
    context.output.emit("handover/folders/1", &view, |to| {
        let word = if view.enabled { "on" } else { "off" };
        writeln!(
            to,
            "folders are {word}; {} bytes each, {} of one source",
            view.quota_bytes, view.share_bytes
        )?;
        for it in &view.folders {
            writeln!(
                to,
                "{:<20} {} packages ({} arriving), {} bytes, oldest {}, first expires {}",
                it.hospital,
                it.packages,
                it.arriving,
                it.bytes,
                it.oldest.as_deref().unwrap_or("-"),
                it.next_expiry.as_deref().unwrap_or("-")
            )?;
        }
        Ok(())
    })
}

/// Lists break-glasses.
pub(super) fn emergencies(context: &Context) -> Result<(), CliError> {
    let view: EmergenciesView = context.perform(&Command::BreakGlassList)?;
    context.output.emit("handover/break-glass-notes/1", &view, |to| {
        for it in &view.notes {
            let source = it.source.as_ref().map_or("who holds the records?", |source| source.as_str());
            let patient = it.patient.as_deref().unwrap_or("not known by a reference");
            writeln!(
                to,
                "{}  {}  {} → {source}, told by {}, patient {patient}",
                it.issued, it.break_glass, it.requesting, it.told_by
            )?;
        }
        Ok(())
    })
}

/// Reads everything. What is not sound ends with the exit code for integrity.
pub(super) fn check(context: &Context) -> Result<(), CliError> {
    let view: CheckView = context.perform(&Command::Check)?;
    context.output.emit("handover/check/1", &view, |to| {
        writeln!(to, "{} values read, {} damaged", view.cells, view.damaged)?;
        writeln!(
            to,
            "{} entries of {} transfers, {} reservations open, {} fees held",
            view.entries, view.transfers, view.open_reservations, view.open_holds
        )?;
        if let Some(since) = &view.held_since {
            writeln!(to, "the first is held since {since}: ledger holds names them")?;
        }
        writeln!(to, "directory version {}", view.directory_version)?;
        for repair in &view.repairs {
            writeln!(to, "repaired {repair}")?;
        }
        for fault in &view.faults {
            writeln!(to, "fault: {fault}")?;
        }
        Ok(())
    })?;
    if view.sound { Ok(()) } else { Err(Code::StoreDamaged.into()) }
}
