//! Plays a story on a world: who is who, step after step, and what came of it.

use std::collections::BTreeMap;
use std::time::Instant;

use anyhow::{Context, Result};

use super::outcome::{Ledger, Outcome, TransferSummary};
use super::{Action, Reporter, Step, Story, compare, steps};
use crate::generator::Expected;
use crate::json;
use crate::world::World;

/// A patient of a story.
pub(super) struct PatientCast {
    /// The wallet's name in the world.
    pub(super) wallet: String,
    pub(super) has_wallet: bool,
    /// The FHIR Patient's id.
    pub(super) id: String,
    /// The name of the file that the records came from; none if they were generated.
    pub(super) file: Option<String>,
    /// What the generator counted.
    pub(super) expected: Option<Expected>,
}

/// A transfer of a story.
pub(super) struct TransferCast {
    pub(super) id: String,
    pub(super) patient: String,
    pub(super) from: String,
    pub(super) to: String,
    pub(super) asked: Instant,
    pub(super) summary: Option<TransferSummary>,
}

/// A story that is being played.
pub(super) struct Stage<'a> {
    pub(super) world: &'a mut World,
    pub(super) reporter: &'a mut dyn Reporter,
    pub(super) patients: BTreeMap<String, PatientCast>,
    /// In the order in which they were asked for.
    pub(super) transfers: Vec<(String, TransferCast)>,
}

/// How far a story came.
#[derive(Debug)]
pub struct Played {
    /// What came of it until then.
    pub outcome: Outcome,
    /// The number of the step that did not come out as it has to, and the error of [`play`].
    pub failed: Option<(usize, anyhow::Error)>,
}

/// Plays a story to its end.
///
/// # Errors
/// A step that did not come out as it has to: which one, what was expected, what came, and where the logs are. What
/// was sent and what was filed differ: the error's chain holds a [`super::Difference`].
pub fn play(world: &mut World, story: &Story, reporter: &mut dyn Reporter) -> Result<Outcome> {
    let played = play_as_far(world, story, reporter)?;
    played.failed.map_or(Ok(played.outcome), |(_, error)| Err(error))
}

/// Plays a story until a step fails; what was asked for until then is told all the same.
///
/// # Errors
/// It came to its end, but the processes do not say how it stands.
pub fn play_as_far(world: &mut World, story: &Story, reporter: &mut dyn Reporter) -> Result<Played> {
    reporter.begin(story);
    let logs = world.logs().display().to_string();
    let mut stage = Stage { world, reporter, patients: BTreeMap::new(), transfers: Vec::new() };
    for (at, step) in story.steps.iter().enumerate() {
        let number = at.saturating_add(1);
        stage.reporter.step(number, step);
        let done = stage.step(step).with_context(|| {
            format!("\"{}\", step {number}: {}\n  the processes' logs: {logs}", story.title, step.say)
        });
        if let Err(error) = done {
            // The step's own error is the one to tell, whether or not the processes still answer.
            let outcome = stage.outcome().unwrap_or_default();
            return Ok(Played { outcome, failed: Some((number, error)) });
        }
    }
    Ok(Played { outcome: stage.outcome()?, failed: None })
}

/// How the index answers a hospital that was suspended or revoked.
const AWAY: [&str; 3] = ["not-admitted", "hospital-suspended", "hospital-revoked"];

/// The ledger as it stands, and how each hospital finds it by its own evidence.
///
/// # Errors
/// The index does not answer.
pub fn ledger(world: &World) -> Result<Ledger> {
    let balances = world.index(&["ledger", "balances"])?.json()?;
    let total = |key: &str| {
        let totals = json::list(&balances, "totals");
        let sums: Vec<&str> = totals.filter_map(|total| json::at(total, key).as_str()).collect();
        // Nothing was ever charged: there is no currency yet.
        if sums.is_empty() { "0.00".to_owned() } else { sums.join(" + ") }
    };
    let (mut reconciled, mut differences) = (0_u64, Vec::new());
    for hospital in world.hospitals() {
        let looked = world.node(hospital, &["fees", "reconcile"])?;
        match looked.json() {
            Ok(fees) => reconciled = reconciled.saturating_add(json::list(&fees, "fees").count() as u64),
            // Who takes no part at this moment cannot ask.
            Err(_) if looked.problem().is_some_and(|code| AWAY.contains(&code.as_str())) => {}
            Err(_) => differences.push(format!("{hospital}: {}", looked.ended())),
        }
    }
    Ok(Ledger {
        reconciled,
        differences,
        entries: json::number(&balances, "entries"),
        debits: total("posted_debits"),
        credits: total("posted_credits"),
        balanced: json::at(&balances, "balanced") == true,
    })
}

impl Stage<'_> {
    fn step(&mut self, step: &Step) -> Result<()> {
        let expect = step.expect.as_ref();
        match &step.action {
            Action::Import { patient, at, records } => steps::import(self, patient, at, records, expect),
            Action::Link { patient, at } => steps::link(self, patient, at, expect),
            Action::Locate { patient, at, holders } => steps::locate(self, patient, at, holders, expect),
            Action::Refer { patient, from, to } => steps::refer(self, patient, (from, to), expect),
            Action::Answer { transfer, pays } => steps::answer_fee(self, transfer, *pays, expect),
            Action::Ask { transfer, patient, from, to } => {
                steps::ask(self, transfer, patient, (from, to), expect)
            }
            Action::Request { transfer, departments } => {
                steps::request(self, transfer, departments.as_deref(), expect)
            }
            Action::Quote { transfer } => steps::quote(self, transfer, expect),
            Action::Consent { transfer, departments, max_fee, release, continuous } => {
                let how = (departments.as_deref(), max_fee.as_deref(), *release, *continuous);
                steps::consent(self, transfer, how, expect)
            }
            Action::Release { transfer } => steps::answer(self, transfer, "release", expect),
            Action::Refuse { transfer } => steps::answer(self, transfer, "refuse", expect),
            Action::Revoke { transfer } => steps::answer(self, transfer, "revoke", expect),
            Action::Confirmed { transfer, by, effect } => steps::confirmed(self, transfer, by, effect),
            Action::Order { hospital, order } => steps::order(self, hospital, *order),
            Action::Process { hospital, change } => steps::process(self, hospital, *change),
            Action::Wait { transfer, at, phase, reason, seconds } => {
                compare::wait(self, transfer, at, (phase, reason.as_deref()), *seconds)
            }
            Action::Follows { transfer, deliveries, records, fee } => {
                compare::follows(self, transfer, *deliveries, (*records, fee))
            }
            Action::Unheard { transfer, at } => compare::unheard(self, transfer, at),
            Action::Compare { transfer, departments, fee } => {
                compare::compare(self, transfer, departments.as_deref(), fee.as_ref())
            }
            Action::Holds { patient, at, records, departments } => {
                compare::holds(self, patient, at, *records, departments.as_ref())
            }
            Action::Verify { transfer, at } => compare::verify(self, transfer, at),
            Action::Ledger { transfer, is_charged } => compare::books(self, transfer.as_deref(), *is_charged),
        }
    }

    pub(super) fn patient(&self, name: &str) -> Result<&PatientCast> {
        self.patients.get(name).with_context(|| format!("no patient \"{name}\" until now"))
    }

    pub(super) fn transfer(&self, name: &str) -> Result<&TransferCast> {
        let found = self.transfers.iter().find(|(known, _)| known == name);
        found.map(|(_, transfer)| transfer).with_context(|| format!("no transfer \"{name}\" until now"))
    }

    pub(super) fn fact(&mut self, fact: impl AsRef<str>) {
        self.reporter.fact(fact.as_ref());
    }

    fn outcome(&self) -> Result<Outcome> {
        let mut outcome = Outcome { transfers: Vec::new(), ledger: ledger(self.world)? };
        for (_, transfer) in &self.transfers {
            outcome.transfers.push(match &transfer.summary {
                Some(summary) => summary.clone(),
                None => compare::unfinished(self, transfer)?,
            });
        }
        Ok(outcome)
    }
}
