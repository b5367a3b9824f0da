//! Stories: what people and hospitals do and what has to come of it, as data files.
//!
//! ```toml
//! title = "A move"
//! about = "One or two sentences."
//! hospitals = ["lakeside", "riverside"]
//!
//! [[step]]
//! say = "Lakeside imports Ada's records."     # for people
//! do = "import"                              # an action, with its own fields
//! patient = "ada"
//! at = "lakeside"
//! seed = 7
//! expect = { code = "busy" }                 # of a command that has to be refused
//! ```
//!
//! A story names patients and transfers as it likes; real identifiers are made when it is played. Must not know how
//! the programs are called.

mod aside;
mod check;
mod compare;
mod fields;
mod outcome;
mod parse;
mod play;
mod steps;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::PathBuf;

pub use aside::KeptAside;
pub use check::Difference;
pub use outcome::{DIFFERS, FILED, Ledger, Outcome, TransferSummary};
pub use parse::{StoryFault, StoryFaults, load, parse};
pub use play::{Played, ledger, play, play_as_far};

/// A story.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Story {
    /// Its title.
    pub title: String,
    /// What it shows.
    pub about: String,
    /// The hospitals that it takes.
    pub hospitals: Vec<String>,
    /// What happens.
    pub steps: Vec<Step>,
}

/// One step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// A sentence for people.
    pub say: String,
    /// What is done.
    pub action: Action,
    /// The problem that has to come of it, if it has to be refused.
    pub expect: Option<Expect>,
}

/// The problem that has to come of a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expect {
    /// Its code.
    pub code: Option<String>,
    /// The exit code.
    pub exit: Option<i32>,
}

/// Where a patient's records come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Records {
    /// The project's generator.
    Generated {
        /// Its seed.
        seed: u64,
        /// Visits.
        visits: usize,
        /// Scanned documents.
        scans: usize,
        /// Bytes of each.
        scan_bytes: usize,
    },
    /// A FHIR file.
    File(PathBuf),
}

/// What a step does. Hospitals by their identifiers; patients and transfers by their names in the story.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(
    missing_docs,
    reason = "fields are the words of the story's file; what they mean stands at their action"
)]
pub enum Action {
    /// A hospital imports a patient's records.
    Import { patient: String, at: String, records: Records },
    /// A hospital registers a patient, who links their wallet (made now, if there is none) with the desk's code.
    Link { patient: String, at: String },
    /// A patient asks who holds their records.
    Locate { patient: String, at: String, holders: Vec<String> },
    /// A hospital refers a patient to another one.
    Refer { patient: String, from: String, to: String },
    /// A hospital that owes the fee of a referred patient accepts or denies it.
    Answer { transfer: String, pays: bool },
    /// A patient asks for a transfer.
    Ask { transfer: String, patient: String, from: String, to: String },
    /// The destination's desk requests it.
    Request { transfer: String, departments: Option<Vec<String>> },
    /// The patient waits for the quote and reads it.
    Quote { transfer: String },
    /// The patient says yes.
    Consent {
        transfer: String,
        departments: Option<Vec<String>>,
        max_fee: Option<String>,
        release: bool,
        continuous: bool,
    },
    /// The patient releases the share that was kept back.
    Release { transfer: String },
    /// The patient says no.
    Refuse { transfer: String },
    /// The patient takes the consent back.
    Revoke { transfer: String },
    /// Hospitals confirm to the patient that the consent is taken back, and whether it came in time.
    Confirmed { transfer: String, by: Vec<String>, effect: String },
    /// Two operators sign an order about a hospital.
    Order { hospital: String, order: Order },
    /// A hospital's process stops, is killed, or starts.
    Process { hospital: String, change: Change },
    /// A transfer reaches a phase at a hospital.
    Wait { transfer: String, at: String, phase: String, reason: Option<String>, seconds: u64 },
    /// So many deliveries have followed a transfer under its continuous consent, the last of them filed for this fee.
    Follows { transfer: String, deliveries: u64, records: u64, fee: String },
    /// A hospital has never heard of a transfer.
    Unheard { transfer: String, at: String },
    /// What the source sent and what the destination filed are compared, department by department.
    Compare { transfer: String, departments: Option<Vec<String>>, fee: Option<Fee> },
    /// A hospital holds so many of a patient's records.
    Holds { patient: String, at: String, records: Option<u64>, departments: Option<BTreeMap<String, u64>> },
    /// The transfer's artefacts verify offline, from a file.
    Verify { transfer: String, at: String },
    /// The ledger balances; the transfer's fee stands in it, or nothing of the transfer does.
    Ledger { transfer: Option<String>, is_charged: bool },
}

/// What the operators order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// No new transfers for now.
    Suspend,
    /// Never again.
    Revoke,
}

/// What happens to a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// SIGTERM.
    Stop,
    /// SIGKILL.
    Kill,
    /// Started again on its data folder.
    Start,
}

/// What a fee has to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fee {
    /// What the generator counted while it wrote the charges of the whole patient.
    Generated,
    /// This amount, as a decimal text.
    Amount(String),
    /// Less than the generator's for the whole patient, and not nothing.
    Less,
}

/// Who tells what happens. Every method may do nothing.
pub trait Reporter {
    /// A story begins.
    fn begin(&mut self, _story: &Story) {}
    /// A step begins; numbers count from 1.
    fn step(&mut self, _number: usize, _step: &Step) {}
    /// What the processes said, in one line.
    fn fact(&mut self, _fact: &str) {}
    /// Something of a records file could not be read and was kept aside; the rest goes on.
    fn kept_aside(&mut self, _file: &str, _aside: &[KeptAside]) {}
}

/// Tells nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Reporter for Silent {}
