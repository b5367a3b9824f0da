//! `--records`: every file of a folder is a patient who moves with everything from the first hospital to the second.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, ensure};
use handover_scenarios::story::{
    Action, DIFFERS, Difference, FILED, Outcome, Played, Records, Step, Story, TransferSummary, ledger,
    play_as_far,
};
use handover_scenarios::world::World;

use crate::teller::Teller;

/// Endings of FHIR files.
const ENDINGS: [&str; 2] = ["json", "ndjson"];
const PATIENT: &str = "patient";
const TRANSFER: &str = "everything";

/// The outcome of a file that holds no patient's records, or more than one patient's, or nothing that can be read.
const NOT_IMPORTED: &str = "not-imported";
/// The outcome of a file that was imported, but whose patient could not ask for the transfer.
const NOT_ASKED: &str = "not-asked";
/// The outcome of a transfer whose records are filed, but whose fee or end at the source is not as it has to be.
const UNSETTLED: &str = "unsettled";
/// The outcome of a transfer that the processes do not say anything of any more.
const UNKNOWN: &str = "unknown";

/// The number of the step in [`story_of`] that imports.
const IMPORT_STEP: usize = 1;
/// The number of the step that asks for the transfer.
const ASK_STEP: usize = 4;

/// Moves every patient; what came of each file, and what the run failed with, if anything did.
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
    let mut differs: Option<anyhow::Error> = None;
    for (at, file) in files.iter().enumerate() {
        let name = name_of(file).to_string_lossy().into_owned();
        let played = play_as_far(world, &story_of(file, &name, from, to), teller);
        // Whatever came of it, every file has its row.
        let played = played.unwrap_or_else(|error| Played {
            outcome: Outcome::default(),
            failed: Some((usize::MAX, error)),
        });
        let row =
            row_of(played.outcome.transfers, name, (from, to), played.failed.as_ref(), world.currency());
        teller.line(&format!("[{:>3}/{}] {}", at.saturating_add(1), files.len(), line_of(&row)))?;
        all.transfers.push(row);
        let difference = played.failed.map(|(_, error)| error).filter(|error| error.is::<Difference>());
        differs = differs.or(difference);
    }
    let unfiled = all.transfers.iter().filter(|row| row.outcome != FILED).count();
    let failed = (unfiled > 0)
        .then(|| anyhow!("not filed: {unfiled} of {} files; their lines above say why", all.transfers.len()));
    // A difference weighs more than anything else that failed.
    let failed = differs.or(failed);
    match ledger(world) {
        Ok(ledger) => all.ledger = ledger,
        Err(error) => return Ok((all, failed.or(Some(error)))),
    }
    Ok((all, failed))
}

/// The one row of a file: its transfer, or why there is none.
fn row_of(
    transfers: Vec<TransferSummary>,
    name: String,
    (from, to): (&str, &str),
    failed: Option<&(usize, anyhow::Error)>,
    currency: &str,
) -> TransferSummary {
    let mut row = transfers.into_iter().next().unwrap_or_else(|| TransferSummary {
        file: None,
        patient: String::new(),
        kind: "self",
        source: from.to_owned(),
        destination: to.to_owned(),
        departments: BTreeMap::new(),
        records_sent: 0,
        records_filed: 0,
        tests_priced: 0,
        tests_unpriced: 0,
        basis: "0.00".to_owned(),
        fee: "0.00".to_owned(),
        currency: currency.to_owned(),
        payer: "patient".to_owned(),
        outcome: match failed {
            Some((IMPORT_STEP, _)) => NOT_IMPORTED,
            Some((step, _)) if *step <= ASK_STEP => NOT_ASKED,
            _ => UNKNOWN,
        }
        .to_owned(),
        reason: None,
        package_bytes: 0,
        ms: 0,
    });
    row.file = Some(name);
    if let Some((_, error)) = failed {
        // The records lie there, but not all is done that has to come of them.
        if row.outcome == FILED {
            UNSETTLED.clone_into(&mut row.outcome);
        }
        if row.outcome != DIFFERS {
            row.reason.get_or_insert_with(|| one_line(&error.root_cause().to_string()));
        }
    }
    row
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// A folder's FHIR files in bytewise order of their names; at least one.
pub(crate) fn files_of(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    // The folder's own names count, also where they are links to other files.
    let folder = std::fs::canonicalize(folder).with_context(|| folder.display().to_string())?;
    for entry in std::fs::read_dir(&folder).with_context(|| folder.display().to_string())? {
        let path = entry?.path();
        let fits = path.extension().and_then(OsStr::to_str).is_some_and(|ending| ENDINGS.contains(&ending));
        if fits && path.is_file() {
            files.push(path);
        }
    }
    ensure!(!files.is_empty(), "no .json or .ndjson file in {}", folder.display());
    files.sort_by(|one, other| name_of(one).as_bytes().cmp(name_of(other).as_bytes()));
    Ok(files)
}

fn name_of(path: &Path) -> &OsStr {
    path.file_name().unwrap_or_default()
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
            Action::Consent {
                transfer: transfer.clone(),
                departments: None,
                max_fee: None,
                release: true,
                continuous: false,
            },
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

fn line_of(row: &TransferSummary) -> String {
    let name = row.file.as_deref().unwrap_or(&row.patient);
    if row.outcome != FILED && row.outcome != DIFFERS {
        return format!("{name}: {}: {}", row.outcome, row.reason.as_deref().unwrap_or("no reason given"));
    }
    let mark = if row.outcome == FILED { "" } else { "  NOT AS SENT" };
    format!(
        "{name}: {} records sent, {} filed in {} departments; {} tests priced, {} not; fee {} {}; {:.1} s{mark}",
        row.records_sent,
        row.records_filed,
        row.departments.len(),
        row.tests_priced,
        row.tests_unpriced,
        row.fee,
        row.currency,
        std::time::Duration::from_millis(row.ms).as_secs_f64(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed(step: usize, error: anyhow::Error) -> TransferSummary {
        row_of(Vec::new(), "a.json".to_owned(), ("old", "new"), Some(&(step, error)), "USD")
    }

    #[test]
    fn a_file_without_a_transfer_has_its_row() {
        let story = story_of(Path::new("/a.json"), "a.json", "old", "new");
        let import = story.steps.get(IMPORT_STEP - 1).unwrap();
        assert!(matches!(import.action, Action::Import { .. }));
        let ask = story.steps.get(ASK_STEP - 1).unwrap();
        assert!(matches!(ask.action, Action::Ask { .. }));

        let row = failed(IMPORT_STEP, anyhow!("expected: one\n  came: two").context("step 1"));
        assert_eq!((row.file.as_deref(), row.outcome.as_str()), (Some("a.json"), NOT_IMPORTED));
        assert_eq!(line_of(&row), "a.json: not-imported: expected: one came: two");
        assert_eq!(failed(ASK_STEP, anyhow!("no")).outcome, NOT_ASKED);
        assert_eq!(failed(usize::MAX, anyhow!("gone")).outcome, UNKNOWN);
    }

    #[test]
    fn only_what_is_wholly_done_is_filed() {
        let transfer = TransferSummary { outcome: FILED.to_owned(), ..failed(1, anyhow!("no")) };
        let row = |transfer: TransferSummary, failed: Option<(usize, anyhow::Error)>| {
            row_of(vec![transfer], "a.json".to_owned(), ("old", "new"), failed.as_ref(), "USD").outcome
        };
        assert_eq!(row(transfer.clone(), None), FILED);
        assert_eq!(row(transfer.clone(), Some((9, anyhow!("not posted")))), UNSETTLED);
        let differs = TransferSummary { outcome: DIFFERS.to_owned(), ..transfer };
        assert_eq!(row(differs, Some((8, anyhow!("less came")))), DIFFERS);
    }

    #[test]
    fn files_come_in_the_order_of_their_names() {
        let folder = tempfile::tempdir().unwrap();
        let elsewhere = tempfile::tempdir().unwrap();
        for name in ["b.json", "B.ndjson", "é.json", "notes.txt"] {
            std::fs::write(folder.path().join(name), "").unwrap();
        }
        std::fs::write(elsewhere.path().join("z.json"), "").unwrap();
        std::os::unix::fs::symlink(elsewhere.path().join("z.json"), folder.path().join("a.json")).unwrap();
        let files = files_of(folder.path()).unwrap();
        let names: Vec<_> = files.iter().map(|it| name_of(it).to_string_lossy().into_owned()).collect();
        assert_eq!(names, ["B.ndjson", "a.json", "b.json", "é.json"]);
    }
}
