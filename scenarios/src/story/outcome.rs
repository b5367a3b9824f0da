//! What came of a story, in numbers that the processes gave.

use std::collections::BTreeMap;

use serde::Serialize;

/// The outcome of a transfer whose records all lie at the destination.
pub const FILED: &str = "filed";
/// The outcome of a transfer that is filed, but of which something differs.
pub const DIFFERS: &str = "differs";

/// What came of a story.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Outcome {
    /// Every transfer that was asked for, in that order.
    pub transfers: Vec<TransferSummary>,
    /// The ledger at the end.
    pub ledger: Ledger,
}

/// One transfer, from both ends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TransferSummary {
    /// The name of the patient's file; none for a generated patient.
    pub file: Option<String>,
    /// The id of the FHIR Patient, which is the hospitals' own identifier too.
    pub patient: String,
    /// `self` or `referral`.
    #[serde(rename = "move")]
    pub kind: &'static str,
    /// Who held the records.
    pub source: String,
    /// Who got them.
    pub destination: String,
    /// Records filed at the destination, by department.
    pub departments: BTreeMap<String, u64>,
    /// Records that the source's quote counts.
    pub records_sent: u64,
    /// Records that the destination received with this transfer, by its Provenance, and lists.
    pub records_filed: u64,
    /// Tests with a price.
    pub tests_priced: u64,
    /// Tests without.
    pub tests_unpriced: u64,
    /// Sum of the prices, a decimal text.
    pub basis: String,
    /// The fee, a decimal text.
    pub fee: String,
    /// ISO 4217.
    pub currency: String,
    /// `patient` or `hospital`.
    pub payer: String,
    /// `filed`, or how the transfer ended or stands.
    pub outcome: String,
    /// Why it ended so, for people; none if it is filed.
    #[serde(skip)]
    pub reason: Option<String>,
    /// Bytes of the package as it travelled.
    pub package_bytes: u64,
    /// From the patient's ask until it was filed at both ends.
    pub ms: u64,
}

/// The ledger's totals.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Ledger {
    /// Entries.
    pub entries: u64,
    /// Sum of all debits, a decimal text.
    pub debits: String,
    /// Sum of all credits, a decimal text.
    pub credits: String,
    /// Whether they are equal in every currency.
    pub balanced: bool,
    /// Fees that the hospitals have held against their own evidence, each hospital its own.
    pub reconciled: u64,
    /// What a hospital has found to be otherwise there, or why it could not look.
    pub differences: Vec<String>,
}
