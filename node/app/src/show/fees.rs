//! Fees as people read them.

use std::io;

use super::Out;
use crate::operations::{CounterpartyShown, FeeShown, FeesListed};

pub(crate) fn fees(out: Out<'_>, listed: &FeesListed) -> io::Result<()> {
    listed.fees.iter().try_for_each(|shown| fee(out, shown))?;
    for of in &listed.counterparties {
        let CounterpartyShown { hospital, currency, transfers, .. } = of;
        writeln!(out, "{hospital}, {currency}: transfers {transfers}, differing {}", of.differences)?;
        for (what, evidence, posted) in [
            ("due to here by it", &of.receivable_evidence, &of.receivable_posted),
            ("due to here by patients", &of.patients_evidence, &of.patients_posted),
            ("due to it by here", &of.payable_evidence, &of.payable_posted),
        ] {
            writeln!(out, "    {what:<24} {evidence:>14} by the evidence {posted:>14} posted")?;
        }
    }
    let Some(as_of) = &listed.as_of else {
        return writeln!(out, "The index was not asked yet: fees reconcile.");
    };
    let part = if listed.whole { "" } else { ", not all of it yet" };
    writeln!(out, "as of {as_of}, {} entries in the index's log{part}", listed.log_size)?;
    if listed.rewritten {
        writeln!(out, "THE INDEX HAS REWRITTEN ITS BOOKS: incident list names the proof.")?;
    }
    if listed.stale {
        writeln!(out, "THE INDEX HAS NOT SHOWN ITS BOOKS FOR HOURS: what it has booked since is not known.")?;
    }
    let in_flight = listed.fees.iter().filter(|fee| fee.standing == "in-flight").count();
    match (listed.agrees, in_flight) {
        (true, 0) => writeln!(out, "All agree."),
        (true, in_flight) => writeln!(out, "All agree; {in_flight} still in flight."),
        (false, _) => writeln!(out, "SOMETHING DIFFERS: incident list names what is proven."),
    }
}

fn fee(out: Out<'_>, shown: &FeeShown) -> io::Result<()> {
    let FeeShown { transfer, side, hospital, currency, evidence, posted, standing, .. } = shown;
    let way = if side == "receivable" { "from" } else { "to" };
    writeln!(out, "{transfer}  {side:<10} {way} {hospital}: {standing}")?;
    let fee = shown.fee.as_deref().unwrap_or("-");
    writeln!(
        out,
        "    fee {fee} {currency}; by the evidence {evidence}, posted {posted}, reserved {}",
        shown.reserved
    )?;
    if let Some(why) = &shown.held {
        writeln!(out, "    HELD until two of the federation's operators settle it: {why}")?;
    }
    if let Some(how) = &shown.settled {
        writeln!(out, "    disputed, and {how} by two operators")?;
    }
    match &shown.incident {
        Some(incident) => writeln!(out, "    incident {incident}"),
        None => Ok(()),
    }
}
