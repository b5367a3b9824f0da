//! Hospitals and fee schedules. What an operator signs is shown first; the first operator's signature proposes, a
//! second one's puts it in force.

use std::path::Path;

use handover_cli::CliError;
use handover_core::artefact::federation::{FeeSchedule, HospitalCertificate, Status, StatusOrder};
use handover_core::artefact::{Countersigned, Payload, Signed, Verified};
use handover_core::codec::Extensions;
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

/// Countersigns what another operator proposed, after checking that another one did.
fn second<T: Payload>(
    pending: &[u8],
    operators: &[OperatorView],
    mine: &SigningKey,
) -> Result<Vec<u8>, CliError> {
    let stored =
        |fault: handover_core::artefact::ArtefactError| CliError::new(fault.code(), fault.to_string());
    let pending = Signed::<T>::read(pending).map_err(stored)?;
    if *pending.kid() == mine.public().thumbprint() {
        return Err(CliError::new(Code::WrongSigner, "this operator has proposed it already")
            .with_next("Let another operator approve it."));
    }
    let first = operators
        .iter()
        .filter_map(|operator| operator.key.parse::<SigningPublic>().ok())
        .find(|key| key.thumbprint() == *pending.kid())
        .ok_or_else(|| {
            CliError::new(Code::WrongSigner, "it was proposed with a key that is no operator's")
        })?;
    Ok(Countersigned::sign(&pending.verify(&first, &Ed25519).map_err(stored)?, mine))
}

/// Orders a hospital's status.
pub(super) fn order(context: &Context, args: OrderArgs, status: Status) -> Result<(), CliError> {
    let OrderArgs { hospital, key, reason } = args;
    let found: HospitalContext = context.perform(&Command::HospitalShow { hospital: hospital.clone() })?;
    let mine = open_operator(&key)?;
    let number = found.hospital.number.saturating_add(1);
    let waits = found.hospital.pending.as_ref().is_some_and(|pending| pending.what == status.as_str());
    let envelope = match found.pending.filter(|_| waits) {
        Some(pending) => second::<StatusOrder>(&pending.0, &found.operators, &mine)?,
        None => {
            let key: SigningPublic =
                found.hospital.key.parse().map_err(|_| CliError::from(Code::Malformed))?;
            let order = StatusOrder {
                hospital: hospital.clone(),
                key: key.thumbprint(),
                status,
                number,
                reason,
                issued: context.edge.clock.now(),
                extensions: Extensions::default(),
            };
            Verified::sign(order, &mine).envelope().to_vec()
        }
    };
    let ordered: Ordered = context.perform(&Command::HospitalOrder { envelope: Hex(envelope) })?;
    let document = json!({
        "hospital": hospital,
        "status": status.as_str(),
        "number": number,
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

/// Proposes or approves a schedule.
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
    let number = found.number.saturating_add(1);
    let now = context.edge.clock.now();
    let mut wanted = match preset {
        Preset::Percentage => FeeSchedule { jurisdiction, number, ..FeeSchedule::percentage(now) },
    };
    if let Some(days) = silence_days {
        wanted.silence_ms = DAY_MS.saturating_mul(i64::from(days));
    }
    // Only what is the same but for its time is countersigned: an operator approves what they asked for.
    let waiting = found.pending.filter(|pending| {
        Signed::<FeeSchedule>::read(&pending.0).is_ok_and(|pending| {
            let valid_from = pending.claim().valid_from;
            *pending.claim() == FeeSchedule { valid_from, issued: valid_from, ..wanted.clone() }
        })
    });
    let envelope = match waiting {
        Some(pending) => second::<FeeSchedule>(&pending.0, &found.operators, &mine)?,
        None => Verified::sign(wanted.clone(), &mine).envelope().to_vec(),
    };
    let ordered: Ordered = context.perform(&Command::ScheduleSubmit { envelope: Hex(envelope) })?;
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
