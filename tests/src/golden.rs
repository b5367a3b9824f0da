//! Golden bytes: what a format looked like when it was agreed on, as hexadecimal files that are part of the project.

use std::fs;
use std::path::PathBuf;

/// Set to write golden files that are missing; one that is there is never overwritten.
pub const WRITE_VARIABLE: &str = "HANDOVER_WRITE_GOLDEN";

/// Digits in a line of a golden file.
const LINE_DIGITS: usize = 100;

fn path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("golden").join(format!("{name}.hex"))
}

/// The golden bytes of a name.
///
/// # Errors
/// What is wrong with the file and what to do.
pub fn read(name: &str) -> anyhow::Result<Vec<u8>> {
    let text = fs::read_to_string(path(name)).map_err(|fault| {
        anyhow::anyhow!("{name}: no golden file ({fault}); a new format's is written with {WRITE_VARIABLE}=1")
    })?;
    Ok(hex::decode(text.split_whitespace().collect::<String>())?)
}

/// Writes the golden file of a format if there is none and [`WRITE_VARIABLE`] is set.
///
/// # Errors
/// If it cannot be written.
pub fn write_if_asked(name: &str, now: &[u8]) -> anyhow::Result<()> {
    let file = path(name);
    if std::env::var_os(WRITE_VARIABLE).is_some() && !file.exists() {
        let digits = hex::encode(now);
        let lines = digits.as_bytes().chunks(LINE_DIGITS).map(String::from_utf8_lossy);
        fs::write(&file, lines.collect::<Vec<_>>().join("\n") + "\n")?;
    }
    Ok(())
}

/// Compares what a format looks like now with its golden file.
///
/// # Errors
/// Where the first difference is and what to do.
pub fn compare(name: &str, now: &[u8]) -> anyhow::Result<()> {
    let golden = read(name)?;
    if golden == now {
        return Ok(());
    }
    let at = golden.iter().zip(now).take_while(|(was, is)| was == is).count();
    anyhow::bail!(
        "{name}: byte {at} is no longer what it was ({} bytes then, {} now). Others hold artefacts and data in the \
         old form: give the format a new version (a new type label or key) and keep reading the old one. Only if no \
         version with it was ever used: delete tests/golden/{name}.hex and run with {WRITE_VARIABLE}=1.",
        golden.len(),
        now.len()
    )
}
