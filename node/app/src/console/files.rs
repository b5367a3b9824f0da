//! Files that go in and out as hexadecimal digits.

use std::fs;
use std::path::Path;

use handover_cli::CliError;
use handover_core::Code;
use handover_web::control::MAX_REQUEST_BYTES;

use crate::config::usage;

/// The most bytes of a file that a patient carries: as hexadecimal digits it fits a control request.
const CARRIED_MAX_BYTES: u64 = (MAX_REQUEST_BYTES / 2 - 4096) as u64;

/// Names the file that was refused.
pub(super) fn of_file(file: &Path, fault: CliError) -> CliError {
    let colon = if fault.detail.is_empty() { "" } else { ": " };
    CliError { detail: format!("{}{colon}{}", file.display(), fault.detail), ..fault }
}

/// A patient's file as hexadecimal digits.
pub(super) fn carried_file(file: &Path) -> Result<String, CliError> {
    let fault = |reason: String| usage(format!("{}: {reason}", file.display()));
    let length = fs::metadata(file).map_err(|error| fault(error.to_string()))?.len();
    if length > CARRIED_MAX_BYTES {
        return Err(CliError::new(Code::TooLarge, file.display().to_string()));
    }
    Ok(hex::encode(fs::read(file).map_err(|error| fault(error.to_string()))?))
}

/// Writes what came as hexadecimal digits.
pub(super) fn write_file(path: &Path, digits: &str) -> Result<(), CliError> {
    let bytes = hex::decode(digits).map_err(|_| CliError::new(Code::Internal, "the answer was cut"))?;
    write_bytes(path, &bytes)
}

/// Writes a file.
pub(super) fn write_bytes(path: &Path, bytes: &[u8]) -> Result<(), CliError> {
    fs::write(path, bytes)
        .map_err(|error| CliError::new(Code::UsageInvalid, format!("{}: {error}", path.display())))
}
