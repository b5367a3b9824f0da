//! The root's commands. They work on files alone, on a machine that no network reaches.

use std::path::Path;

use handover_cli::CliError;
use handover_core::artefact::federation::{Authority, AuthorityCertificate, HospitalCertificate};
use handover_core::artefact::{Signed, Verified};
use handover_core::codec::Extensions;
use handover_core::id::SigningPublic;
use handover_core::time::DAY_MS;
use handover_core::{Code, HospitalId, Timestamp};
use handover_seal::SigningKey;
use serde_json::json;

use super::context::{Context, read_file, write_file};
use crate::keys::open_signing_key;
use crate::registry;

/// Makes the root key; again, it shows it.
pub(super) fn init(context: &Context, out: &Path) -> Result<(), CliError> {
    let key = context.signing_key(out, "the root")?;
    context
        .output
        .note("Keep this file and its passphrase apart and offline. Everybody pins this public key:");
    let root = key.public().to_string();
    context.output.emit("handover/root/1", &json!({ "root": root }), |to| writeln!(to, "{root}"))
}

/// What the root says of a key.
#[derive(PartialEq, Eq)]
struct Grant {
    authority: Option<Authority>,
    hospital: Option<HospitalId>,
    name: String,
    key: SigningPublic,
    not_before: Timestamp,
    not_after: Timestamp,
}

impl Grant {
    /// What a certificate says, whoever signed it.
    fn read(envelope: &[u8]) -> Option<Self> {
        if let Ok(signed) = Signed::<AuthorityCertificate>::read(envelope) {
            let AuthorityCertificate { authority, name, key, not_before, not_after, .. } =
                signed.claim().clone();
            return Some(Self {
                authority: Some(authority),
                hospital: None,
                name,
                key,
                not_before,
                not_after,
            });
        }
        let signed = Signed::<HospitalCertificate>::read(envelope).ok()?;
        let HospitalCertificate { hospital, name, key, not_before, not_after, .. } = signed.claim().clone();
        Some(Self { authority: None, hospital: Some(hospital), name, key, not_before, not_after })
    }

    fn subject(&self) -> Result<String, CliError> {
        match (&self.authority, &self.hospital) {
            (Some(authority), None) => Ok(authority.to_string()),
            (None, Some(hospital)) => Ok(format!("hospital {hospital}")),
            _ => Err(Code::Malformed.into()),
        }
    }

    /// Signs it: the same bytes for the same grant.
    fn sign(self, root: &SigningKey) -> Result<Vec<u8>, CliError> {
        let Self { authority, hospital, name, key, not_before, not_after } = self;
        let extensions = Extensions::default();
        Ok(match (authority, hospital) {
            (Some(authority), None) => {
                let certificate =
                    AuthorityCertificate { authority, name, key, not_before, not_after, extensions };
                Verified::sign(certificate, root).envelope().to_vec()
            }
            (None, Some(hospital)) => {
                let certificate =
                    HospitalCertificate { hospital, name, key, not_before, not_after, extensions };
                Verified::sign(certificate, root).envelope().to_vec()
            }
            _ => return Err(Code::Malformed.into()),
        })
    }

    /// What of a certificate that lies there is not what is to be signed now.
    fn differs(&self, there: &Self) -> Vec<&'static str> {
        let term = |it: &Self| it.not_after.since_ms(it.not_before);
        [
            ("subject", (&self.authority, &self.hospital) != (&there.authority, &there.hospital)),
            ("name", self.name != there.name),
            ("key", self.key != there.key),
            ("--days", term(self) != term(there)),
            ("term, which is over", there.not_after <= self.not_before),
        ]
        .into_iter()
        .filter_map(|(what, differs)| differs.then_some(what))
        .collect()
    }
}

/// Certifies what a request asks for. A certificate that lies there already is never replaced: the same request gives
/// it again, anything else is refused.
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
    let mut grant = Grant {
        authority: request.authority,
        hospital: request.hospital.clone(),
        name: request.name.clone(),
        key: request.key,
        not_before,
        not_after: not_before.plus_ms(i64::from(days).saturating_mul(DAY_MS)),
    };
    let there = if out.exists() { Some(read_file(out)?) } else { None };
    if let Some(there) = &there {
        let held = Grant::read(there).ok_or_else(|| kept(out, "it is no certificate"))?;
        let differs = grant.differs(&held);
        if !differs.is_empty() {
            return Err(kept(out, &format!("its certificate has another {}", differs.join(", "))));
        }
        grant = held;
    }
    let (subject, name, key) = (grant.subject()?, grant.name.clone(), grant.key);
    let (not_before, not_after) = (grant.not_before, grant.not_after);
    context.output.note(format_args!("Certifying {subject}, {name:?}, key {key}, until {not_after}"));
    let root = open_signing_key(root_key, &context.passphrase("Passphrase of the root key: ")?)?;
    let certificate = grant.sign(&root)?;
    match there {
        Some(there) if there != certificate => return Err(kept(out, "another root signed it")),
        Some(_) => {}
        None => write_file(out, &certificate)?,
    }
    let document = json!({
        "subject": subject,
        "name": name,
        "key": key.to_string(),
        "not_before": not_before.to_string(),
        "not_after": not_after.to_string(),
        "certificate": out,
    });
    context.output.emit("handover/certificate/1", &document, |to| writeln!(to, "{}", out.display()))
}

fn kept(out: &Path, why: &str) -> CliError {
    CliError::new(Code::Conflict, format!("{} is there already: {why}", out.display()))
        .with_next("Nothing was changed. Give another --out.")
}
