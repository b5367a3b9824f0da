//! Hospitals and fee schedules. What an operator signs is shown first; the first operator's signature proposes, a
//! second one's puts it in force.

use std::path::Path;

use handover_cli::CliError;
use handover_core::artefact::federation::{FeeSchedule, HospitalCertificate, Status, StatusOrder};
use handover_core::artefact::{ArtefactError, Countersigned, Payload, Signed, Verified};
use handover_core::codec::{self, Extensions};
use handover_core::id::SigningPublic;
use handover_core::time::DAY_MS;
use handover_core::{Code, HospitalId};
use handover_seal::{Ed25519, SigningKey};
use serde_json::json;

use super::context::{Context, file_fault, read_file, write_file};
use super::{OperatorKey, OrderArgs, Preset};
use crate::keys::open_signing_key;
use crate::ops::views::{HospitalContext, HospitalView, Hospitals, OperatorView, Ordered, ScheduleContext};
use crate::ops::{Command, Hex};

/// Lists hospitals.
pub(super) fn list(context: &Context) -> Result<(), CliError> {
    let hospitals: Hospitals = context.perform(&Command::HospitalList)?;
    context.output.emit("handover/hospitals/1", &hospitals, |to| {
        for it in &hospitals.hospitals {
            let waits = match &it.pending {
                Some(pending) => format!("  ({} waits for a second operator)", pending.what),
                None => String::new(),
            };
            writeln!(to, "{:<20} {:<20} {}{waits}", it.hospital, it.status, it.name)?;
        }
        Ok(())
    })
}

/// Writes the request for the root.
pub(super) fn request(context: &Context, hospital: HospitalId, out: &Path) -> Result<(), CliError> {
    let found: HospitalContext = context.perform(&Command::HospitalShow { hospital })?;
    write_file(out, &found.certificate_request.0)?;
    let document = json!({ "hospital": found.hospital.hospital, "key": found.hospital.key, "request": out });
    context.output.emit("handover/hospital-request/1", &document, |to| writeln!(to, "{}", out.display()))
}

/// Installs the root's certificate.
pub(super) fn certify(context: &Context, hospital: &HospitalId, certificate: &Path) -> Result<(), CliError> {
    let envelope = read_file(certificate)?;
    let claimed =
        Signed::<HospitalCertificate>::read(&envelope).map_err(|fault| file_fault(certificate, fault))?;
    if claimed.claim().hospital != *hospital {
        return Err(file_fault(certificate, "is another hospital's"));
    }
    let view: HospitalView = context.perform(&Command::HospitalCertify { certificate: Hex(envelope) })?;
    context.output.emit("handover/hospital/1", &view, |to| writeln!(to, "{}: {}", view.hospital, view.status))
}

/// Drops an enrolment.
pub(super) fn drop_enrolment(context: &Context, hospital: HospitalId) -> Result<(), CliError> {
    let view: HospitalView = context.perform(&Command::HospitalDrop { hospital })?;
    context.output.emit("handover/hospital-dropped/1", &view, |to| {
        writeln!(to, "{}: the enrolment with key {} is dropped", view.hospital, view.key)
    })
}

fn open_operator(key: &OperatorKey) -> Result<SigningKey, CliError> {
    let passphrase = handover_cli::passphrase(
        key.operator_passphrase_file.as_deref(),
        "Passphrase of the operator's key: ",
    )?;
    Ok(open_signing_key(&key.operator_key, &passphrase)?)
}

/// What one operator signed and another one is to sign.
struct Proposal<T> {
    order: Verified<T>,
    is_mine: bool,
}

/// What waits, if whoever proposed it is in office; else somebody has to propose it anew.
fn proposal<T: Payload>(
    pending: Option<&Hex>,
    operators: &[SigningPublic],
    mine: &SigningKey,
) -> Result<Option<Proposal<T>>, CliError> {
    let stored = |fault: ArtefactError| CliError::new(fault.code(), fault.to_string());
    let Some(pending) = pending else { return Ok(None) };
    let pending = Signed::<T>::read(&pending.0).map_err(stored)?;
    let is_mine = *pending.kid() == mine.public().thumbprint();
    let by = operators.iter().find(|key| key.thumbprint() == *pending.kid());
    let Some(by) = by else { return Ok(None) };
    Ok(Some(Proposal { order: pending.verify(by, &Ed25519).map_err(stored)?, is_mine }))
}

/// The operators in office, of whom the one who signs has to be.
fn in_office(operators: &[OperatorView], mine: &SigningKey) -> Result<Vec<SigningPublic>, CliError> {
    let keys: Vec<SigningPublic> =
        operators.iter().filter_map(|operator| operator.key.parse().ok()).collect();
    if keys.contains(&mine.public()) {
        return Ok(keys);
    }
    Err(CliError::new(Code::WrongSigner, "this key is no operator's in office")
        .with_next("Give its certificate first: operator add --certificate FILE."))
}

/// Who names a reason names the one that holds: nobody signs another's words unseen.
fn same_reason(wished: &str, holds: &str) -> Result<(), CliError> {
    if wished.is_empty() || wished == holds {
        return Ok(());
    }
    Err(CliError::new(Code::Conflict, format!("the order has another --reason: {holds:?}"))
        .with_next("Leave --reason out to say the same."))
}

/// Orders a hospital's status. What is in force already, or was proposed by the same operator, is not signed again.
pub(super) fn order(context: &Context, args: OrderArgs, status: Status) -> Result<(), CliError> {
    let OrderArgs { hospital, key, reason } = args;
    let found: HospitalContext = context.perform(&Command::HospitalShow { hospital: hospital.clone() })?;
    let mine = open_operator(&key)?;
    let operators = in_office(&found.operators, &mine)?;
    let standing =
        |outcome: &str| Ordered { outcome: outcome.to_owned(), directory_version: found.directory_version };
    let stored = |fault: ArtefactError| CliError::new(fault.code(), fault.to_string());
    let in_force = found.order.as_ref().map(|order| Countersigned::<StatusOrder>::read(&order.0)).transpose();
    let in_force = in_force.map_err(stored)?.filter(|order| order.claim().status == status);
    let proposed = proposal::<StatusOrder>(found.pending.as_ref(), &operators, &mine)?;
    let proposed = proposed.filter(|proposed| proposed.order.status == status);
    let (order, ordered) = match (in_force, proposed) {
        (Some(order), _) => {
            same_reason(&reason, &order.claim().reason)?;
            (order.claim().clone(), standing("effective"))
        }
        (None, Some(Proposal { order, is_mine: true })) => {
            same_reason(&reason, &order.reason)?;
            ((*order).clone(), standing("pending"))
        }
        (None, Some(Proposal { order, is_mine: false })) => {
            same_reason(&reason, &order.reason)?;
            let envelope = Hex(Countersigned::sign(&order, &mine));
            ((*order).clone(), context.perform(&Command::HospitalOrder { envelope })?)
        }
        (None, None) => {
            let key: SigningPublic =
                found.hospital.key.parse().map_err(|_| CliError::from(Code::Malformed))?;
            let order = StatusOrder {
                hospital: hospital.clone(),
                key: key.thumbprint(),
                status,
                number: found.hospital.number.saturating_add(1),
                reason,
                issued: context.edge.clock.now(),
                extensions: Extensions::default(),
            };
            let envelope = Hex(Verified::sign(order.clone(), &mine).envelope().to_vec());
            (order, context.perform(&Command::HospitalOrder { envelope })?)
        }
    };
    let document = json!({
        "hospital": hospital,
        "status": status.as_str(),
        "number": order.number,
        "reason": order.reason,
        "outcome": ordered.outcome,
        "directory_version": ordered.directory_version,
    });
    context.output.emit("handover/status-order/1", &document, |to| match ordered.outcome.as_str() {
        "pending" => writeln!(to, "{hospital}: {status} waits for a second operator"),
        _ => writeln!(to, "{hospital}: {status}, directory version {}", ordered.directory_version),
    })
}

/// Shows a jurisdiction's schedules.
pub(super) fn show_schedule(context: &Context, jurisdiction: String) -> Result<(), CliError> {
    let found: ScheduleContext = context.perform(&Command::ScheduleShow { jurisdiction })?;
    context.output.emit("handover/schedule/1", &found, |to| {
        match found.rate_bps {
            Some(rate) => {
                let days = found.silence_ms.unwrap_or_default() / DAY_MS;
                writeln!(
                    to,
                    "{}: number {}, {rate} basis points, due after {days} days of silence",
                    found.jurisdiction, found.number
                )?
            }
            None => writeln!(to, "{}: no schedule", found.jurisdiction)?,
        }
        if found.pending.is_some() {
            writeln!(to, "another one waits for a second operator")?;
        }
        Ok(())
    })
}

/// Whether two schedules say the same but for number and time.
fn same_terms(one: &FeeSchedule, other: &FeeSchedule) -> bool {
    let FeeSchedule { number, valid_from, issued, .. } = one.clone();
    *one == FeeSchedule { number, valid_from, issued, ..other.clone() }
}

/// Proposes or approves a schedule. What is in force already, or was proposed by the same operator, is not signed
/// again.
pub(super) fn approve_schedule(
    context: &Context,
    preset: Preset,
    jurisdiction: String,
    silence_days: Option<u16>,
    key: &OperatorKey,
) -> Result<(), CliError> {
    let found: ScheduleContext =
        context.perform(&Command::ScheduleShow { jurisdiction: jurisdiction.clone() })?;
    let mine = open_operator(key)?;
    let operators = in_office(&found.operators, &mine)?;
    let standing =
        |outcome: &str| Ordered { outcome: outcome.to_owned(), directory_version: found.directory_version };
    let number = found.number.saturating_add(1);
    let now = context.edge.clock.now();
    let mut wanted = match preset {
        Preset::Percentage => FeeSchedule { jurisdiction, number, ..FeeSchedule::percentage(now) },
    };
    if let Some(days) = silence_days {
        wanted.silence_ms = DAY_MS.saturating_mul(i64::from(days));
    }
    let newest = found.newest.as_ref().map(|newest| codec::decode(&newest.0, codec::MAX_MESSAGE_BYTES));
    let newest: Option<FeeSchedule> = newest.transpose().map_err(|_| CliError::from(Code::Malformed))?;
    // An operator approves what they asked for: only what says the same is countersigned.
    let proposed = proposal::<FeeSchedule>(found.pending.as_ref(), &operators, &mine)?;
    let proposed = proposed.filter(|proposed| same_terms(&proposed.order, &wanted));
    let submit = |envelope: Vec<u8>| context.perform(&Command::ScheduleSubmit { envelope: Hex(envelope) });
    let (number, ordered) = match (newest.filter(|newest| same_terms(newest, &wanted)), proposed) {
        (Some(newest), _) => (newest.number, standing("effective")),
        (None, Some(Proposal { order, is_mine: true })) => (order.number, standing("pending")),
        (None, Some(Proposal { order, is_mine: false })) => {
            (order.number, submit(Countersigned::sign(&order, &mine))?)
        }
        (None, None) => (number, submit(Verified::sign(wanted.clone(), &mine).envelope().to_vec())?),
    };
    let document = json!({
        "jurisdiction": wanted.jurisdiction,
        "number": number,
        "rate_bps": wanted.rate_bps,
        "silence_ms": wanted.silence_ms,
        "outcome": ordered.outcome,
        "directory_version": ordered.directory_version,
    });
    context.output.emit("handover/schedule-order/1", &document, |to| {
        writeln!(to, "{}: {} basis points, {}", wanted.jurisdiction, wanted.rate_bps, ordered.outcome)
    })
}
