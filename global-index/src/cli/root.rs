//! The root's commands. They work on files alone, on a machine that no network reaches.

use std::path::Path;

use handover_cli::CliError;
use handover_core::Code;
use handover_core::artefact::Verified;
use handover_core::artefact::federation::{AuthorityCertificate, HospitalCertificate};
use handover_core::codec::Extensions;
use handover_core::time::DAY_MS;
use handover_seal::SigningKey;
use serde_json::json;

use super::context::{Context, read_file, write_file};
use crate::keys::{open_signing_key, write_signing_key};
use crate::registry;

/// Makes the root key.
pub(super) fn init(context: &Context, out: &Path) -> Result<(), CliError> {
    let passphrase = context.new_passphrase("New passphrase of the root key: ")?;
    let mut random = (context.edge.random)();
    let key = SigningKey::generate(&mut *random);
    write_signing_key(out, &key, &passphrase, &mut *random)?;
    context
        .output
        .note("Keep this file and its passphrase apart and offline. Everybody pins this public key:");
    let root = key.public().to_string();
    context.output.emit("handover/root/1", &json!({ "root": root }), |to| writeln!(to, "{root}"))
}

/// Certifies what a request asks for.
pub(super) fn sign(
    context: &Context,
    root_key: &Path,
    request: &Path,
    out: &Path,
    days: u32,
) -> Result<(), CliError> {
    let envelope = read_file(request)?;
    let request = registry::certificate_request(&envelope)
        .map_err(|fault| CliError::new(fault.code(), format!("{}: {fault}", request.display())))?;
    let not_before = context.edge.clock.now();
    let not_after = not_before.plus_ms(i64::from(days).saturating_mul(DAY_MS));
    let (name, key) = (request.name.clone(), request.key);
    let subject = match (&request.authority, &request.hospital) {
        (Some(authority), None) => authority.to_string(),
        (None, Some(hospital)) => format!("hospital {hospital}"),
        _ => return Err(Code::Malformed.into()),
    };
    context.output.note(format_args!("Certifying {subject}, {name:?}, key {key}, until {not_after}"));
    let root = open_signing_key(root_key, &context.passphrase("Passphrase of the root key: ")?)?;
    let extensions = Extensions::default();
    let certificate = match (request.authority, request.hospital.clone()) {
        (Some(authority), None) => {
            let certificate =
                AuthorityCertificate { authority, name, key, not_before, not_after, extensions };
            Verified::sign(certificate, &root).envelope().to_vec()
        }
        (None, Some(hospital)) => {
            let certificate = HospitalCertificate { hospital, name, key, not_before, not_after, extensions };
            Verified::sign(certificate, &root).envelope().to_vec()
        }
        _ => return Err(Code::Malformed.into()),
    };
    write_file(out, &certificate)?;
    let document = json!({
        "subject": subject,
        "name": request.name,
        "key": key.to_string(),
        "not_before": not_before.to_string(),
        "not_after": not_after.to_string(),
        "certificate": out,
    });
    context.output.emit("handover/certificate/1", &document, |to| writeln!(to, "{}", out.display()))
}
