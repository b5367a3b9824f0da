//! Many patients at once: a folder of Bundles, or one NDJSON file.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use super::{Form, Options, WrittenPatient, write_patient};

/// Writes the patients of `first_seed`, `first_seed` + 1, … into `folder` (made if absent), each its own transaction
/// Bundle named `patient-SEED.json`, ten digits, so that bytewise order is the seeds' order. Calls `each` after
/// every file.
///
/// # Errors
/// What the file system says.
pub fn generate_folder(
    folder: &Path,
    first_seed: u64,
    patients: u64,
    options: &Options,
    mut each: impl FnMut(&Path, &WrittenPatient),
) -> io::Result<Vec<(PathBuf, WrittenPatient)>> {
    std::fs::create_dir_all(folder)?;
    let options = Options { form: Form::Transaction, ..options.clone() };
    let mut written = Vec::new();
    for seed in first_seed..first_seed.saturating_add(patients) {
        let path = folder.join(format!("patient-{seed:010}.json"));
        let mut out = BufWriter::new(File::create(&path)?);
        let patient = write_patient(seed, &options, &mut out)?;
        out.flush()?;
        each(&path, &patient);
        written.push((path, patient));
    }
    Ok(written)
}

/// Writes the patients of `first_seed`, `first_seed` + 1, … as lines, one resource each. The hospital's Organization
/// and Practitioners come again with every patient, byte for byte the same.
///
/// # Errors
/// What `out` says.
pub fn generate_ndjson<W: Write>(
    out: &mut W,
    first_seed: u64,
    patients: u64,
    options: &Options,
) -> io::Result<Vec<WrittenPatient>> {
    let options = Options { form: Form::Ndjson, ..options.clone() };
    (first_seed..first_seed.saturating_add(patients)).map(|seed| write_patient(seed, &options, out)).collect()
}
