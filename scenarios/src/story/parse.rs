//! From a file to a [`Story`]. Every fault is told at once, with step and field; names that no earlier step
//! introduced are faults too.

use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};

use handover_core::artefact::transfer::RevocationEffect;
use toml::{Table, Value};

use super::fields::Fields;
use super::{Action, Change, Expect, Fee, Order, Records, Step, Story};
use crate::generator::MIN_VISITS;

/// Bytes of a generated scan, if the step says nothing.
const SCAN_BYTES: usize = 200_000;
/// Seconds that a step waits for a state, if it says nothing.
const WAIT_SECONDS: u64 = 60;

/// One fault of a story.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoryFault {
    /// The step, from 1; none for the story's own fields.
    pub step: Option<usize>,
    /// The field; empty for the file as a whole.
    pub field: String,
    /// What is wrong.
    pub reason: String,
}

/// Everything that is wrong with a story.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoryFaults {
    /// The file.
    pub file: PathBuf,
    /// Never empty.
    pub faults: Vec<StoryFault>,
}

impl fmt::Display for StoryFaults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the story {} cannot be played", self.file.display())?;
        for StoryFault { step, field, reason } in &self.faults {
            match step {
                Some(step) => write!(f, "\nstep {step}, {field}: {reason}")?,
                None if field.is_empty() => write!(f, "\n{reason}")?,
                None => write!(f, "\n{field}: {reason}")?,
            }
        }
        Ok(())
    }
}

impl std::error::Error for StoryFaults {}

/// Reads a story's file. Record files that it names lie relative to it.
///
/// # Errors
/// Every fault.
pub fn load(path: &Path) -> Result<Story, StoryFaults> {
    let text =
        std::fs::read_to_string(path).map_err(|error| whole(path, format!("it cannot be read: {error}")))?;
    parse(&text, path)
}

/// Reads a story's text; `path` is named in faults.
///
/// # Errors
/// Every fault.
pub fn parse(text: &str, path: &Path) -> Result<Story, StoryFaults> {
    let table: Table = text.parse().map_err(|error: toml::de::Error| whole(path, error.to_string()))?;
    let mut faults = Vec::new();
    let mut head = Fields::new(&table);
    let (title, about) = (head.text("title"), head.text("about"));
    let hospitals = head.texts("hospitals").unwrap_or_default();
    if hospitals.is_empty() {
        head.fault("hospitals", "needs at least one hospital");
    }
    let tables = match head.get("step").map(Value::as_array) {
        Some(Some(tables)) if !tables.is_empty() => tables.as_slice(),
        _ => {
            head.fault("step", "needs at least one [[step]]");
            &[]
        }
    };
    let in_step = |step| move |(field, reason)| StoryFault { step, field, reason };
    faults.extend(head.close().into_iter().map(in_step(None)));
    let mut names = Names { hospitals: hospitals.iter().cloned().collect(), ..Names::default() };
    let mut steps = Vec::new();
    for (at, table) in tables.iter().enumerate() {
        let number = Some(at.saturating_add(1));
        let Some(table) = table.as_table() else {
            faults.push(StoryFault {
                step: number,
                field: "step".to_owned(),
                reason: "has to be a table".to_owned(),
            });
            continue;
        };
        let mut fields = Fields::new(table);
        let step = read_step(&mut fields, path);
        if let Some(step) = &step {
            names.check(&step.action, &mut fields);
        }
        // What an unknown action's fields mean is not known.
        let found = if step.is_some() { fields.close() } else { fields.faults };
        faults.extend(found.into_iter().map(in_step(number)));
        steps.extend(step);
    }
    if faults.is_empty() {
        return Ok(Story { title, about, hospitals, steps });
    }
    Err(StoryFaults { file: path.to_owned(), faults })
}

fn whole(path: &Path, reason: String) -> StoryFaults {
    let fault = StoryFault { step: None, field: String::new(), reason };
    StoryFaults { file: path.to_owned(), faults: vec![fault] }
}

fn read_step(f: &mut Fields<'_>, path: &Path) -> Option<Step> {
    let say = f.text("say");
    let expect = read_expect(f);
    let (patient, transfer, at, hospital) = ("patient", "transfer", "at", "hospital");
    let action = match f.text("do").as_str() {
        "import" => {
            Action::Import { patient: f.text(patient), at: f.text(at), records: read_records(f, path) }
        }
        "link" => Action::Link { patient: f.text(patient), at: f.text(at) },
        "locate" => Action::Locate {
            patient: f.text(patient),
            at: f.text(at),
            holders: f.texts("holders").unwrap_or_default(),
        },
        "ask" => Action::Ask {
            transfer: f.text(transfer),
            patient: f.text(patient),
            from: f.text("from"),
            to: f.text("to"),
        },
        "refer" => Action::Refer { patient: f.text(patient), from: f.text("from"), to: f.text("to") },
        "accept-fee" => Action::Answer { transfer: f.text(transfer), pays: true },
        "deny-fee" => Action::Answer { transfer: f.text(transfer), pays: false },
        "request" => Action::Request { transfer: f.text(transfer), departments: f.texts("departments") },
        "quote" => Action::Quote { transfer: f.text(transfer) },
        "consent" => Action::Consent {
            transfer: f.text(transfer),
            departments: f.texts("departments"),
            max_fee: f.optional("max-fee"),
            release: f.flag("release", true),
            continuous: f.flag("continuous", false),
        },
        "release" => Action::Release { transfer: f.text(transfer) },
        "refuse" => Action::Refuse { transfer: f.text(transfer) },
        "revoke" => Action::Revoke { transfer: f.text(transfer) },
        "confirmed" => Action::Confirmed {
            transfer: f.text(transfer),
            by: f.texts("by").unwrap_or_default(),
            effect: f.text("effect"),
        },
        "suspend-hospital" => Action::Order { hospital: f.text(hospital), order: Order::Suspend },
        "revoke-hospital" => Action::Order { hospital: f.text(hospital), order: Order::Revoke },
        "stop" => Action::Process { hospital: f.text(hospital), change: Change::Stop },
        "kill" => Action::Process { hospital: f.text(hospital), change: Change::Kill },
        "start" => Action::Process { hospital: f.text(hospital), change: Change::Start },
        "wait" => Action::Wait {
            transfer: f.text(transfer),
            at: f.text(at),
            phase: f.text("phase"),
            reason: f.optional("reason"),
            seconds: f.number("seconds").unwrap_or(WAIT_SECONDS),
        },
        "follows" => Action::Follows {
            transfer: f.text(transfer),
            deliveries: f.number("deliveries").unwrap_or(1),
            records: f.number("records").unwrap_or(1),
            fee: f.text("fee"),
        },
        "unheard" => Action::Unheard { transfer: f.text(transfer), at: f.text(at) },
        "compare" => Action::Compare {
            transfer: f.text(transfer),
            departments: f.texts("departments"),
            fee: f.optional("fee").map(|fee| match fee.as_str() {
                "generated" => Fee::Generated,
                "less" => Fee::Less,
                _ => Fee::Amount(fee),
            }),
        },
        "holds" => Action::Holds {
            patient: f.text(patient),
            at: f.text(at),
            records: f.number("records"),
            departments: f.counts("departments"),
        },
        "verify" => Action::Verify { transfer: f.text(transfer), at: f.text(at) },
        "ledger" => Action::Ledger { transfer: f.optional(transfer), is_charged: f.flag("charged", true) },
        "" => return None,
        unknown => {
            f.fault("do", format!("\"{unknown}\" is no action"));
            return None;
        }
    };
    Some(Step { say, action, expect })
}

fn read_expect(f: &mut Fields<'_>) -> Option<Expect> {
    let value = f.get("expect")?;
    let Some(table) = value.as_table() else {
        f.fault("expect", "has to be a table with code, exit or both");
        return None;
    };
    let mut fields = Fields::new(table);
    let code = fields.optional("code");
    let exit = fields.number("exit").and_then(|exit| i32::try_from(exit).ok());
    if let Some(code) = code.as_deref().filter(|code| code.parse::<handover_core::Code>().is_err()) {
        fields.fault("code", format!("\"{code}\" is no problem code"));
    }
    if code.is_none() && exit.is_none() {
        fields.fault("code", "is missing, and so is exit");
    }
    for (field, reason) in fields.close() {
        f.fault(&format!("expect.{field}"), reason);
    }
    Some(Expect { code, exit })
}

fn read_records(f: &mut Fields<'_>, path: &Path) -> Records {
    let (seed, file) = (f.number("seed"), f.optional("file"));
    let visits = f.size("visits", MIN_VISITS);
    let (scans, scan_bytes) = (f.size("scans", 0), f.size("scan-bytes", SCAN_BYTES));
    match (seed, file) {
        (None, Some(file)) => Records::File(path.parent().unwrap_or(Path::new(".")).join(file)),
        (seed, file) => {
            if seed.is_some() == file.is_some() {
                f.fault("seed", "either seed or file is needed");
            }
            Records::Generated { seed: seed.unwrap_or_default(), visits, scans, scan_bytes }
        }
    }
}

/// The names that steps introduced until now.
#[derive(Default)]
struct Names {
    hospitals: BTreeSet<String>,
    patients: BTreeSet<String>,
    transfers: BTreeSet<String>,
}

impl Names {
    fn check(&mut self, action: &Action, f: &mut Fields<'_>) {
        let hospital = |f: &mut Fields<'_>, field: &str, id: &String| {
            if !self.hospitals.contains(id) {
                f.fault(field, format!("\"{id}\" is not among this story's hospitals"));
            }
        };
        match action {
            Action::Import { at, .. }
            | Action::Link { at, .. }
            | Action::Locate { at, .. }
            | Action::Holds { at, .. }
            | Action::Wait { at, .. }
            | Action::Unheard { at, .. }
            | Action::Verify { at, .. } => hospital(f, "at", at),
            Action::Ask { from, to, .. } | Action::Refer { from, to, .. } => {
                hospital(f, "from", from);
                hospital(f, "to", to);
            }
            Action::Confirmed { by, effect, .. } => {
                by.iter().for_each(|id| hospital(f, "by", id));
                if effect.parse::<RevocationEffect>().is_err() {
                    f.fault("effect", format!("\"{effect}\" is no effect of a revocation"));
                }
            }
            Action::Order { hospital: id, .. } | Action::Process { hospital: id, .. } => {
                hospital(f, "hospital", id)
            }
            _ => {}
        }
        if let Action::Wait { phase, reason, .. } = action {
            if phase.parse::<handover_core::transfer::Phase>().is_err() {
                f.fault("phase", format!("\"{phase}\" is no phase of a transfer"));
            }
            if reason.as_ref().is_some_and(|reason| reason.parse::<handover_core::Code>().is_err()) {
                f.fault("reason", "is no problem code");
            }
        }
        match action {
            Action::Import { patient, .. } => {
                self.patients.insert(patient.clone());
            }
            Action::Link { patient, .. }
            | Action::Locate { patient, .. }
            | Action::Refer { patient, .. }
            | Action::Holds { patient, .. } => {
                known(f, "patient", patient, &self.patients);
            }
            Action::Ask { patient, transfer, .. } => {
                known(f, "patient", patient, &self.patients);
                if !self.transfers.insert(transfer.clone()) {
                    f.fault("transfer", format!("\"{transfer}\" was asked for before"));
                }
            }
            Action::Request { transfer, .. }
            | Action::Quote { transfer }
            | Action::Consent { transfer, .. }
            | Action::Release { transfer }
            | Action::Refuse { transfer }
            | Action::Revoke { transfer }
            | Action::Answer { transfer, .. }
            | Action::Confirmed { transfer, .. }
            | Action::Wait { transfer, .. }
            | Action::Follows { transfer, .. }
            | Action::Unheard { transfer, .. }
            | Action::Compare { transfer, .. }
            | Action::Verify { transfer, .. }
            | Action::Ledger { transfer: Some(transfer), .. } => {
                known(f, "transfer", transfer, &self.transfers)
            }
            Action::Ledger { .. } | Action::Order { .. } | Action::Process { .. } => {}
        }
    }
}

fn known(f: &mut Fields<'_>, field: &str, name: &str, names: &BTreeSet<String>) {
    if !name.is_empty() && !names.contains(name) {
        f.fault(field, format!("no earlier step introduces \"{name}\""));
    }
}
