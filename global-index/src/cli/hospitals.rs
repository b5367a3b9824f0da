//! Hospitals and their status.

use std::path::Path;

use handover_cli::CliError;
use handover_core::artefact::federation::{CertificateRequest, HospitalCertificate, Status, StatusOrder};
use handover_core::artefact::{ArtefactError, Countersigned, Signed, Verified};
use handover_core::codec::Extensions;
use handover_core::id::SigningPublic;
use handover_core::{Code, Digest, HospitalId};
use serde_json::json;

use super::OrderArgs;
use super::context::{Context, file_fault, read_file, write_file};
use super::proposal::{Proposal, in_office, open_operator, proposal};
use crate::ops::views::{HospitalContext, HospitalView, Hospitals, Ordered};
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
            for next in &it.successors {
                writeln!(to, "  would succeed: {} ({})", next.key, next.status)?;
            }
        }
        Ok(())
    })
}

/// Writes the request for the root.
pub(super) fn request(
    context: &Context,
    hospital: HospitalId,
    successor: Option<SigningPublic>,
    out: &Path,
) -> Result<(), CliError> {
    let found: HospitalContext = context.perform(&Command::HospitalShow { hospital, successor })?;
    same_key(&found, successor)?;
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
pub(super) fn drop_enrolment(
    context: &Context,
    hospital: HospitalId,
    successor: Option<SigningPublic>,
) -> Result<(), CliError> {
    let view: HospitalView = context.perform(&Command::HospitalDrop { hospital, successor })?;
    context.output.emit("handover/hospital-dropped/1", &view, |to| {
        writeln!(to, "{}: the enrolment with key {} is dropped", view.hospital, view.key)
    })
}

/// Who names a reason names the one that holds: nobody signs another's words unseen.
fn same_reason(wished: &str, holds: &str) -> Result<(), CliError> {
    if wished.is_empty() || wished == holds {
        return Ok(());
    }
    Err(CliError::new(Code::Conflict, format!("the order has another --reason: {holds:?}"))
        .with_next("Leave --reason out to say the same."))
}

/// The thumbprint of the key that is shown, which is the one that was asked for, and asks for its certificate itself:
/// nobody signs for another one than was compared.
fn same_key(found: &HospitalContext, wanted: Option<SigningPublic>) -> Result<Digest, CliError> {
    let shown: SigningPublic = found.hospital.key.parse().map_err(|_| CliError::from(Code::Malformed))?;
    // Of what came back from a directory nobody has the request any more, nor needs it.
    let requested = match found.certificate_request.0.as_slice() {
        [] => shown,
        request => {
            let request = Signed::<CertificateRequest>::read(request);
            request.map_err(|fault| CliError::new(fault.code(), fault.to_string()))?.claim().key
        }
    };
    if wanted.is_some_and(|wanted| wanted != shown) || requested != shown {
        let detail = format!("the index shows another key than was asked for: {shown}");
        return Err(CliError::new(Code::WrongSigner, detail).with_next("Nothing was signed."));
    }
    Ok(shown.thumbprint())
}

/// Orders a hospital's status, or that a key succeeds its own. What is in force already, or was proposed by the same
/// operator, is not signed again.
pub(super) fn order(
    context: &Context,
    args: OrderArgs,
    successor: Option<SigningPublic>,
    status: Status,
) -> Result<(), CliError> {
    let OrderArgs { hospital, key, reason } = args;
    let found: HospitalContext =
        context.perform(&Command::HospitalShow { hospital: hospital.clone(), successor })?;
    let about = same_key(&found, successor)?;
    let mine = open_operator(&key)?;
    let operators = in_office(&found.operators, &mine)?;
    let standing =
        |outcome: &str| Ordered { outcome: outcome.to_owned(), directory_version: found.directory_version };
    let stored = |fault: ArtefactError| CliError::new(fault.code(), fault.to_string());
    let in_force = found.order.as_ref().map(|order| Countersigned::<StatusOrder>::read(&order.0)).transpose();
    let in_force = in_force.map_err(stored)?.filter(|order| order.claim().status == status);
    let proposed = proposal::<StatusOrder>(found.pending.as_ref(), &operators, &mine)?;
    let proposed = proposed.filter(|proposed| {
        proposed.order.status == status && proposed.order.key == about && proposed.order.hospital == hospital
    });
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
            let order = StatusOrder {
                hospital: hospital.clone(),
                key: about,
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
