//! Fees that a destination disputes: listed, and settled by two operators.

use clap::{Args, ValueEnum};
use handover_cli::CliError;
use handover_core::artefact::books::{HOLD_REASON_MAX_BYTES, HoldOrder, Settled};
use handover_core::artefact::{ArtefactError, Countersigned, Verified};
use handover_core::codec::Extensions;
use handover_core::{Code, Digest, TransferId};
use serde_json::json;

use super::OperatorKey;
use super::books::all_entries;
use super::context::Context;
use super::proposal::{Proposal, in_office, open_operator, proposal};
use crate::ops::views::{EntriesView, HoldContext, Ordered};
use crate::ops::{Command, Hex};

/// What settles a hold.
#[derive(Debug, Args)]
pub(super) struct SettleArgs {
    /// The transfer.
    transfer: TransferId,
    /// For the source, the fee is due; for the payer, nothing is owed.
    #[arg(long = "for", value_enum, value_name = "WHOM")]
    settled: Whom,
    #[command(flatten)]
    key: OperatorKey,
    /// Why, for both hospitals. Left out by the second operator, it is the first one's.
    #[arg(long, default_value = "")]
    reason: String,
}

/// For whom.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum Whom {
    /// The fee is due.
    Source,
    /// Nothing is owed.
    Payer,
}

impl From<Whom> for Settled {
    fn from(whom: Whom) -> Self {
        match whom {
            Whom::Source => Self::ForSource,
            Whom::Payer => Self::ForPayer,
        }
    }
}

/// Lists those that nobody has settled.
pub(super) fn list(context: &Context) -> Result<(), CliError> {
    let all = all_entries(context)?;
    let held = |it: &crate::ops::views::EntryView| it.kind == "hold" && it.hold.is_some();
    let view = EntriesView { entries: all.entries.into_iter().filter(held).collect(), next: None };
    context.output.emit("handover/holds/1", &view, |to| {
        if view.entries.is_empty() {
            writeln!(to, "No fee is held.")?;
        }
        for it in &view.entries {
            let why = it.hold.as_deref().unwrap_or_default();
            writeln!(to, "{}  {} {}  {} -> {}", it.transfer, it.amount, it.currency, it.payer, it.source)?;
            writeln!(to, "    since {}: {why}", it.at)?;
        }
        Ok(())
    })
}

/// Settles one. What is settled so already, or was proposed by the same operator, is not signed again; whoever signs
/// second says the same, by name and reason.
pub(super) fn settle(context: &Context, args: SettleArgs) -> Result<(), CliError> {
    let SettleArgs { transfer, settled, key, reason } = args;
    let settled = Settled::from(settled);
    if reason.len() > HOLD_REASON_MAX_BYTES {
        let text = format!("--reason has {} bytes, of {HOLD_REASON_MAX_BYTES} at most", reason.len());
        return Err(CliError::new(Code::UsageInvalid, text).with_next("Say it shorter."));
    }
    let found: HoldContext = context.perform(&Command::HoldShow { transfer })?;
    let mine = open_operator(&key)?;
    let operators = in_office(&found.operators, &mine)?;
    let stored = |fault: ArtefactError| CliError::new(fault.code(), fault.to_string());
    let standing =
        |outcome: &str| Ordered { outcome: outcome.to_owned(), directory_version: found.directory_version };
    let booked = found.order.as_ref().map(|order| Countersigned::<HoldOrder>::read(&order.0)).transpose();
    let proposed = proposal::<HoldOrder>(found.pending.as_ref(), &operators, &mine)?;
    let (order, ordered) = match (booked.map_err(stored)?, proposed) {
        (Some(order), _) => (order.claim().clone(), standing("effective")),
        (None, Some(Proposal { order, is_mine: true })) if order.settled == settled => {
            ((*order).clone(), standing("pending"))
        }
        (None, Some(Proposal { order, is_mine: false })) if order.settled == settled => {
            same(&reason, settled, &order)?;
            let envelope = Hex(Countersigned::sign(&order, &mine));
            ((*order).clone(), context.perform(&Command::HoldSettle { envelope })?)
        }
        _ => {
            let hold = found.hold.as_deref().filter(|_| found.why.is_some()).ok_or(Code::NotHeld)?;
            if reason.is_empty() {
                return Err(CliError::new(Code::UsageInvalid, "--reason says why, for both hospitals"));
            }
            let hold: Digest = hold.parse().map_err(|_| CliError::from(Code::Malformed))?;
            let issued = context.edge.clock.now();
            let extensions = Extensions::default();
            let order = HoldOrder { transfer, hold, settled, reason: reason.clone(), issued, extensions };
            let envelope = Hex(Verified::sign(order.clone(), &mine).envelope().to_vec());
            (order, context.perform(&Command::HoldSettle { envelope })?)
        }
    };
    same(&reason, settled, &order)?;
    let document = settled_document(transfer, &order, &ordered.outcome);
    context.output.emit("handover/hold-order/1", &document, |to| match ordered.outcome.as_str() {
        "pending" => writeln!(to, "{transfer}: for the {settled}, waits for a second operator"),
        _ => writeln!(to, "{transfer}: settled for the {settled}"),
    })
}

fn settled_document(transfer: TransferId, order: &HoldOrder, outcome: &str) -> serde_json::Value {
    json!({
        "transfer": transfer.to_string(),
        "settled": order.settled.as_str(),
        "reason": order.reason,
        "outcome": outcome,
    })
}

/// Who settles it otherwise, or for another reason, is told: nobody signs another's words unseen.
fn same(reason: &str, settled: Settled, order: &HoldOrder) -> Result<(), CliError> {
    if order.settled != settled {
        let text = format!("it is settled for the {}: {:?}", order.settled, order.reason);
        return Err(CliError::new(Code::Conflict, text));
    }
    if reason.is_empty() || reason == order.reason {
        return Ok(());
    }
    Err(CliError::new(Code::Conflict, format!("the order has another --reason: {:?}", order.reason))
        .with_next("Leave --reason out to say the same."))
}
