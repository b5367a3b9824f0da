//! Fee schedules: what holds, and proposing and approving another one.

use std::io;

use handover_cli::CliError;
use handover_core::artefact::federation::{FeeBasis, FeeSchedule};
use handover_core::artefact::{Countersigned, Signed, Verified};
use handover_core::codec::{self, Extensions};
use handover_core::time::DAY_MS;
use handover_core::{Code, Timestamp};
use serde_json::{Value, json};

use super::context::Context;
use super::proposal::{Proposal, in_office, open_operator, proposal};
use super::{Basis, OperatorKey, Preset, TermsArgs};
use crate::ops::views::{Ordered, ScheduleContext};
use crate::ops::{Command, Hex};

/// How long after it is proposed a schedule begins that follows another one: a day for the second operator, and by
/// then every directory without it has expired.
const LEAD_MS: i64 = DAY_MS + handover_core::artefact::federation::DIRECTORY_LIFE_MS;

fn decoded(schedule: Option<&Hex>) -> Result<Option<FeeSchedule>, CliError> {
    let read = |schedule: &Hex| codec::decode(&schedule.0, codec::MAX_MESSAGE_BYTES);
    schedule.map(read).transpose().map_err(|_| CliError::from(Code::Malformed))
}

fn terms_json(it: &FeeSchedule) -> Value {
    json!({
        "jurisdiction": it.jurisdiction, "number": it.number, "rate_bps": it.rate_bps, "basis": it.basis.as_str(),
        "patient_pays": it.patient_pays, "silence_ms": it.silence_ms, "valid_from": it.valid_from.to_string(),
    })
}

fn terms(to: &mut dyn io::Write, it: &FeeSchedule) -> io::Result<()> {
    let of = match it.basis {
        FeeBasis::TestsInScope => "the tests in scope",
        FeeBasis::AllTests => "all tests at the old hospital",
    };
    let who = match (it.rate_bps, it.patient_pays) {
        (0, _) => "nobody pays",
        (_, true) => "the patient pays, on a referral the new hospital",
        (_, false) => "only on a referral, the new hospital pays",
    };
    let (whole, part) = (it.rate_bps / 100, it.rate_bps % 100);
    let days = it.silence_ms / DAY_MS;
    writeln!(to, "{} number {}, from {} on:", it.jurisdiction, it.number, it.valid_from)?;
    writeln!(to, "  {whole}.{part:02} % of {of}; {who}; due after {days} days of silence")
}

/// Shows what holds for a jurisdiction, what comes next, and what waits for a second operator.
pub(super) fn show(context: &Context, jurisdiction: String) -> Result<(), CliError> {
    let found: ScheduleContext = context.perform(&Command::ScheduleShow { jurisdiction })?;
    let (in_force, newest) = (decoded(found.in_force.as_ref())?, decoded(found.newest.as_ref())?);
    let next = newest.filter(|newest| Some(newest) != in_force.as_ref());
    let pending = found.pending.as_ref().map(|pending| Signed::<FeeSchedule>::read(&pending.0)).transpose();
    let pending = pending.map_err(|fault| CliError::new(fault.code(), fault.to_string()))?;
    let document = json!({
        "jurisdiction": found.jurisdiction,
        "in_force": in_force.as_ref().map(terms_json),
        "next": next.as_ref().map(terms_json),
        "pending": pending.as_ref().map(|pending| terms_json(pending.claim())),
    });
    context.output.emit("handover/schedule/1", &document, |to| {
        match &in_force {
            Some(it) => terms(to, it)?,
            None => writeln!(to, "{}: no schedule holds", found.jurisdiction)?,
        }
        next.iter().try_for_each(|it| terms(to, it))?;
        let Some(pending) = &pending else { return Ok(()) };
        writeln!(to, "waits for a second operator:")?;
        terms(to, pending.claim())
    })
}

/// Whether two schedules say the same but for number and time.
fn same_terms(one: &FeeSchedule, other: &FeeSchedule) -> bool {
    let FeeSchedule { number, valid_from, issued, .. } = one.clone();
    *one == FeeSchedule { number, valid_from, issued, ..other.clone() }
}

fn wanted(given: &TermsArgs, found: &ScheduleContext, now: Timestamp) -> FeeSchedule {
    let is_first = found.newest.is_none() && found.in_force.is_none();
    let default = if is_first { now } else { now.plus_ms(LEAD_MS) };
    let preset = match given.preset {
        Preset::Percentage => FeeSchedule::percentage(now),
        Preset::PatientPaysNothing => FeeSchedule::patient_pays_nothing(now),
        Preset::None => FeeSchedule::no_fee(now),
    };
    let silence_ms = given.silence_days.map(|days| DAY_MS.saturating_mul(i64::from(days)));
    FeeSchedule {
        jurisdiction: given.jurisdiction.clone(),
        number: found.number.saturating_add(1),
        basis: match given.basis {
            Basis::TestsInScope => FeeBasis::TestsInScope,
            Basis::AllTests => FeeBasis::AllTests,
        },
        silence_ms: silence_ms.unwrap_or(preset.silence_ms),
        valid_from: given.valid_from.unwrap_or(default),
        issued: now,
        extensions: Extensions::default(),
        ..preset
    }
}

/// Proposes or approves a schedule. What is in force already, or was proposed by the same operator, is not signed
/// again.
pub(super) fn approve(context: &Context, given: &TermsArgs, key: &OperatorKey) -> Result<(), CliError> {
    let jurisdiction = given.jurisdiction.clone();
    let found: ScheduleContext = context.perform(&Command::ScheduleShow { jurisdiction })?;
    let mine = open_operator(key)?;
    let operators = in_office(&found.operators, &mine)?;
    let standing =
        |outcome: &str| Ordered { outcome: outcome.to_owned(), directory_version: found.directory_version };
    let now = context.edge.clock.now();
    let wanted = wanted(given, &found, now);
    let same = |other: &FeeSchedule| {
        same_terms(other, &wanted) && given.valid_from.is_none_or(|from| from == other.valid_from)
    };
    let newest = decoded(found.newest.as_ref())?.filter(&same);
    // An operator approves what they asked for: only what says the same is countersigned. What should have begun by
    // now is proposed anew.
    let proposed = proposal::<FeeSchedule>(found.pending.as_ref(), &operators, &mine)?;
    let proposed = proposed.filter(|proposed| {
        same(&proposed.order) && (found.in_force.is_none() || proposed.order.valid_from > now)
    });
    let submit = |envelope: Vec<u8>| context.perform(&Command::ScheduleSubmit { envelope: Hex(envelope) });
    let (schedule, ordered) = match (newest, proposed) {
        (Some(newest), _) => (newest, standing("effective")),
        (None, Some(Proposal { order, is_mine: true })) => ((*order).clone(), standing("pending")),
        (None, Some(Proposal { order, is_mine: false })) => {
            ((*order).clone(), submit(Countersigned::sign(&order, &mine))?)
        }
        (None, None) => (wanted.clone(), submit(Verified::sign(wanted, &mine).envelope().to_vec())?),
    };
    let document = json!({
        "schedule": terms_json(&schedule), "outcome": ordered.outcome,
        "directory_version": ordered.directory_version,
    });
    context.output.emit("handover/schedule-order/1", &document, |to| {
        terms(to, &schedule)?;
        match ordered.outcome.as_str() {
            "pending" => writeln!(to, "waits for a second operator"),
            _ => writeln!(to, "approved, directory version {}", ordered.directory_version),
        }
    })
}
