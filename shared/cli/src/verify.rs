//! `verify FILE`, the same in all three programs: a transfer's file, checked offline under the root's public key.

mod books;
mod break_glass;

use std::io::Read;
use std::path::{Path, PathBuf};

use handover_core::Code;
use handover_core::artefact::SignatureVerifier;
use handover_core::id::SigningPublic;
use handover_core::transfer::FIRST_ATTEMPT;
use handover_core::verify::{
    Report, StepReport, TRANSFER_FILE_MAX_BYTES, VerifyError, is_books, is_break_glass, verify,
};
use serde::Serialize;

use crate::{CliError, Output};

/// `verify`'s arguments.
#[derive(clap::Args, Clone, Debug)]
pub struct VerifyArgs {
    /// The transfer's file
    pub file: PathBuf,
    /// The root's public key, 64 hexadecimal digits
    #[arg(long, value_name = "HEX")]
    pub root: SigningPublic,
}

#[derive(Serialize)]
struct Verified {
    transfer: String,
    patient: String,
    source: String,
    destination: String,
    attempt: Option<u32>,
    steps: Vec<VerifiedStep>,
    fee: Option<String>,
    currency: Option<String>,
    filed: Option<String>,
    recalls: u32,
    fee_back: Option<String>,
}

#[derive(Serialize)]
struct VerifiedStep {
    artefact: String,
    hash: String,
    issued: Option<String>,
    attempt: Option<u32>,
    key_replaced: bool,
}

impl From<StepReport> for VerifiedStep {
    fn from(step: StepReport) -> Self {
        Self {
            artefact: step.artefact,
            hash: step.hash.to_string(),
            issued: step.issued.map(|at| at.to_string()),
            attempt: step.attempt,
            key_replaced: step.is_replaced,
        }
    }
}

impl VerifiedStep {
    /// What is to be said of the key that signed it.
    fn key(&self) -> &'static str {
        if self.key_replaced { "  (the hospital has replaced this key since)" } else { "" }
    }
}

impl From<Report> for Verified {
    fn from(report: Report) -> Self {
        Self {
            transfer: report.transfer.to_string(),
            patient: report.patient.to_string(),
            source: report.source.to_string(),
            destination: report.destination.to_string(),
            attempt: report.attempt,
            steps: report.steps.into_iter().map(Into::into).collect(),
            fee: report.fee.map(|fee| fee.to_decimal_string()),
            currency: report.fee.map(|fee| fee.currency().to_string()),
            filed: report.filed.map(|at| at.to_string()),
            recalls: report.recalls,
            fee_back: report.fee_back.map(|back| back.to_decimal_string()),
        }
    }
}

/// Runs `verify`: every signature up to the root, and that each artefact belongs to those before it.
///
/// # Errors
/// The file cannot be read, or the first artefact that does not hold and why.
pub fn verify_file(
    file: &Path,
    root: &SigningPublic,
    output: Output,
    verifier: &dyn SignatureVerifier,
) -> Result<(), CliError> {
    let bytes = read_bounded(file)?;
    if is_books(&bytes) {
        return books::verified(file, &bytes, root, output, verifier);
    }
    if is_break_glass(&bytes) {
        return break_glass::verified(file, &bytes, root, output, verifier);
    }
    let report = verify(&bytes, root, verifier).map_err(named(file))?;
    let report = Verified::from(report);
    output.emit("handover/verified/1", &report, |out| {
        writeln!(out, "transfer {}: {} → {}", report.transfer, report.source, report.destination)?;
        for step in &report.steps {
            let issued = step.issued.as_deref().unwrap_or("-");
            // Most transfers have one attempt only.
            let attempt = step.attempt.filter(|_| report.attempt > Some(FIRST_ATTEMPT));
            let attempt = attempt.map(|attempt| format!("  attempt {attempt}")).unwrap_or_default();
            writeln!(out, "  ok  {:<32} {issued}  {}{attempt}{}", step.artefact, step.hash, step.key())?;
        }
        if let (Some(fee), Some(currency)) = (&report.fee, &report.currency) {
            writeln!(out, "  fee {fee} {currency}")?;
        }
        match &report.filed {
            Some(at) => writeln!(out, "  filed {at}")?,
            None => writeln!(out, "  not filed yet")?,
        }
        if let (Some(back), Some(currency)) = (&report.fee_back, &report.currency) {
            writeln!(
                out,
                "  records recalled since: {} times; {back} {currency} of the fee given back",
                report.recalls
            )?;
        }
        Ok(())
    })
}

/// Which file does not hold, and what in it.
fn named(file: &Path) -> impl Fn(VerifyError) -> CliError {
    move |fault| CliError::new(fault.code, format!("{}: {}", file.display(), fault.artefact))
}

fn read_bounded(path: &Path) -> Result<Vec<u8>, CliError> {
    let fault =
        |error: std::io::Error| CliError::new(Code::UsageInvalid, format!("{}: {error}", path.display()));
    let mut bytes = Vec::new();
    let limit = TRANSFER_FILE_MAX_BYTES as u64;
    std::fs::File::open(path).map_err(fault)?.take(limit + 1).read_to_end(&mut bytes).map_err(fault)?;
    if bytes.len() as u64 > limit {
        return Err(CliError::new(Code::TooLarge, path.display().to_string()));
    }
    Ok(bytes)
}
