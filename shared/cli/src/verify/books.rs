//! What a hospital shows of the index's books.

use std::path::Path;

use handover_core::artefact::SignatureVerifier;
use handover_core::id::SigningPublic;
use handover_core::verify::verify_books;
use serde::Serialize;

use super::named;
use crate::{CliError, Output};

#[derive(Serialize)]
struct VerifiedBooks {
    hospital: String,
    transfer: Option<String>,
    entries: usize,
    in_flight: bool,
}

pub(super) fn verified(
    file: &Path,
    bytes: &[u8],
    root: &SigningPublic,
    output: Output,
    verifier: &dyn SignatureVerifier,
) -> Result<(), CliError> {
    let report = verify_books(bytes, root, verifier).map_err(named(file))?;
    let report = VerifiedBooks {
        hospital: report.hospital.to_string(),
        transfer: report.transfer.map(|transfer| transfer.to_string()),
        entries: report.entries,
        in_flight: report.in_flight,
    };
    output.emit("handover/verified-books/1", &report, |out| {
        let of = report.transfer.as_ref().map(|transfer| format!(", transfer {transfer}"));
        let more = if report.in_flight { "; something is still in flight" } else { "" };
        let (hospital, entries) = (&report.hospital, report.entries);
        writeln!(out, "books of {hospital}{}: {entries} entries agree{more}", of.unwrap_or_default())
    })
}
