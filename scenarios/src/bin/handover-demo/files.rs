//! `--records`: every file of a folder is a patient who moves with everything from the first hospital to the second.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use handover_scenarios::story::{
    Action, Difference, FILED, Outcome, Records, Step, Story, TransferSummary, ledger, play,
};
use handover_scenarios::world::World;

use crate::teller::Teller;

/// Endings of FHIR files.
const ENDINGS: [&str; 2] = ["json", "ndjson"];
const PATIENT: &str = "patient";
const TRANSFER: &str = "everything";

/// Moves every patient; what came of it, and the first thing that failed, if anything did.
pub(crate) fn play_all(
    world: &mut World,
    files: &[PathBuf],
    (from, to): (&str, &str),
    teller: &mut Teller,
) -> Result<(Outcome, Option<anyhow::Error>)> {
    teller.title("Patients who move")?;
    teller.text(&format!(
        "{} files, each one patient: imported at {from}, moved with everything to {to} under the patient's consent.\n",
        files.len()
    ))?;
    teller.is_brief = true;
    let mut all = Outcome::default();
    let mut failed: Option<anyhow::Error> = None;
    for (at, file) in files.iter().enumerate() {
        let counter = format!("[{:>3}/{}]", at.saturating_add(1), files.len());
        let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        match play(world, &story_of(file, &name, from, to), teller) {
            Ok(outcome) => tell(teller, &counter, outcome.transfers, &mut all)?,
            Err(error) => {
                // What differs stands in the numbers, too.
                let compared = std::mem::take(&mut teller.compared);
                tell(teller, &counter, compared, &mut all)?;
                teller.line(&format!("{counter} {name}: FAILED\n{error:#}"))?;
                // A difference weighs more than anything else that failed.
                if failed.as_ref().is_none_or(|known| !known.is::<Difference>()) {
                    failed = Some(error);
                }
            }
        }
    }
    all.ledger = ledger(world)?;
    Ok((all, failed))
}

fn tell(
    teller: &mut Teller,
    counter: &str,
    transfers: Vec<TransferSummary>,
    all: &mut Outcome,
) -> Result<()> {
    for transfer in transfers {
        teller.line(&format!("{counter} {}", line_of(&transfer)))?;
        all.transfers.push(transfer);
    }
    Ok(())
}

/// A folder's FHIR files in bytewise order of their names; at least one.
pub(crate) fn files_of(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let path = entry?.path();
        let fits = path.extension().and_then(OsStr::to_str).is_some_and(|ending| ENDINGS.contains(&ending));
        if fits && path.is_file() {
            files.push(std::fs::canonicalize(path)?);
        }
    }
    ensure!(!files.is_empty(), "no .json or .ndjson file in {}", folder.display());
    files.sort_by(|one, other| name_of(one).cmp(name_of(other)));
    Ok(files)
}

fn name_of(path: &Path) -> &[u8] {
    path.file_name().unwrap_or_default().as_bytes()
}

fn story_of(file: &Path, name: &str, from: &str, to: &str) -> Story {
    let (patient, transfer) = (PATIENT.to_owned(), TRANSFER.to_owned());
    let (from, to) = (from.to_owned(), to.to_owned());
    let import = Action::Import {
        patient: patient.clone(),
        at: from.clone(),
        records: Records::File(file.to_owned()),
    };
    let actions = [
        ("import", import),
        ("link at the first hospital", Action::Link { patient: patient.clone(), at: from.clone() }),
        ("link at the second hospital", Action::Link { patient: patient.clone(), at: to.clone() }),
        ("ask", Action::Ask { transfer: transfer.clone(), patient, from: from.clone(), to: to.clone() }),
        ("request", Action::Request { transfer: transfer.clone(), departments: None }),
        ("quote", Action::Quote { transfer: transfer.clone() }),
        (
            "consent",
            Action::Consent { transfer: transfer.clone(), departments: None, max_fee: None, release: true },
        ),
        ("compare both ends", Action::Compare { transfer: transfer.clone(), departments: None, fee: None }),
        ("ledger", Action::Ledger { transfer: Some(transfer), is_charged: true }),
    ];
    let step = |(say, action): (&str, Action)| Step { say: say.to_owned(), action, expect: None };
    Story {
        title: name.to_owned(),
        about: String::new(),
        hospitals: vec![from, to],
        steps: actions.into_iter().map(step).collect(),
    }
}

fn line_of(transfer: &TransferSummary) -> String {
    let mark = if transfer.outcome == FILED { "" } else { "  NOT AS SENT" };
    format!(
        "{}: {} records sent, {} filed in {} departments; {} tests priced, {} not; fee {} {}; {:.1} s{mark}",
        transfer.file.as_deref().unwrap_or(&transfer.patient),
        transfer.records_sent,
        transfer.records_filed,
        transfer.departments.len(),
        transfer.tests_priced,
        transfer.tests_unpriced,
        transfer.fee,
        transfer.currency,
        std::time::Duration::from_millis(transfer.ms).as_secs_f64(),
    )
}
