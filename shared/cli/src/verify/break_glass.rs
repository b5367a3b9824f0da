//! `verify` of a break-glass's file.

use std::path::Path;

use handover_core::artefact::SignatureVerifier;
use handover_core::id::SigningPublic;
use handover_core::verify::verify_break_glass;
use serde::Serialize;

use super::{VerifiedStep, named};
use crate::{CliError, Output};

#[derive(Serialize)]
struct Verified {
    break_glass: String,
    requesting: String,
    source: Option<String>,
    patient: Option<String>,
    clinician: String,
    second: Option<String>,
    until: String,
    scope: Option<String>,
    verdict: Option<String>,
    steps: Vec<VerifiedStep>,
}

/// Verifies it and says what it is.
pub(super) fn verified(
    file: &Path,
    bytes: &[u8],
    root: &SigningPublic,
    output: Output,
    verifier: &dyn SignatureVerifier,
) -> Result<(), CliError> {
    let report = verify_break_glass(bytes, root, verifier).map_err(named(file))?;
    let report = Verified {
        break_glass: report.id.to_string(),
        requesting: report.requesting.to_string(),
        source: report.source.map(|source| source.to_string()),
        patient: report.patient.map(|patient| patient.to_string()),
        clinician: report.clinician,
        second: report.second,
        until: report.until.to_string(),
        scope: report.given.map(|scope| scope.to_string()),
        verdict: report.verdict.map(|verdict| verdict.to_string()),
        steps: report.steps.into_iter().map(Into::into).collect(),
    };
    output.emit("handover/verified-break-glass/1", &report, |out| {
        let source = report.source.as_deref().unwrap_or("the index");
        writeln!(out, "break-glass {}: {} asked {source}", report.break_glass, report.requesting)?;
        for step in &report.steps {
            let issued = step.issued.as_deref().unwrap_or("-");
            writeln!(out, "  ok  {:<32} {issued}  {}{}", step.artefact, step.hash, step.key())?;
        }
        let second = report.second.as_ref().map(|name| format!(" and {name}")).unwrap_or_default();
        writeln!(out, "  by {}{second}, until {}", report.clinician, report.until)?;
        writeln!(out, "  given out: {}", report.scope.as_deref().unwrap_or("nothing"))?;
        writeln!(out, "  reviewed: {}", report.verdict.as_deref().unwrap_or("not yet"))
    })
}
