//! Fees as finance reads them: the index's books beside this hospital's own evidence.

use handover_core::transfer::Role;
use handover_core::verify::Standing;
use handover_core::{Amount, Currency};
use handover_exchange::{Counterparty, FeeLine};
use serde::{Deserialize, Serialize};

use crate::Node;
use crate::error::NodeError;

/// A transfer's fee.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct FeeShown {
    /// The transfer.
    pub transfer: String,
    /// `receivable`: due to this hospital; `payable`: this hospital owes it; `patient`: a patient owes it to the other.
    pub side: String,
    /// The other hospital.
    pub hospital: String,
    /// Who pays: a hospital, or a patient's reference.
    pub payer: String,
    /// ISO 4217.
    pub currency: String,
    /// What the package's header charges; null if this hospital has none.
    pub fee: Option<String>,
    /// What is due by what was signed, less what was given back.
    pub evidence: String,
    /// What the index has posted, less what it has reversed.
    pub posted: String,
    /// What the index has reserved and neither posted nor let go.
    pub reserved: String,
    /// Why it is held until two operators settle it: `fee-disputed` or `refused-after-delivery`; null if it is not.
    pub held: Option<String>,
    /// How two operators settled that: `settled-for-source` or `settled-for-payer`.
    pub settled: Option<String>,
    /// `agrees`, `in-flight`, or a problem code.
    pub standing: String,
    /// The incident with the proof, if something is wrong and proven.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub incident: Option<String>,
}

/// Fees with one hospital in one currency.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct CounterpartyShown {
    /// The hospital.
    pub hospital: String,
    /// ISO 4217.
    pub currency: String,
    /// Due to this hospital by that one, by the evidence.
    pub receivable_evidence: String,
    /// The same, as the index has posted it.
    pub receivable_posted: String,
    /// Due to this hospital by patients who moved there, by the evidence.
    pub patients_evidence: String,
    /// The same, as the index has posted it.
    pub patients_posted: String,
    /// Due by this hospital to that one, by the evidence. What patients pay is not among it.
    pub payable_evidence: String,
    /// The same, as the index has posted it.
    pub payable_posted: String,
    /// How many transfers.
    pub transfers: u64,
    /// How many of them differ.
    pub differences: u64,
}

/// All of it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct FeesListed {
    /// As of when, by the index's word (RFC 3339); null before it was asked.
    pub as_of: Option<String>,
    /// Entries in its log then, of everybody.
    pub log_size: u64,
    /// Whether everything in it that concerns this hospital is here.
    pub whole: bool,
    /// Whether nothing differs; what is in flight does not.
    pub agrees: bool,
    /// Whether the books did not continue what was signed before, and nobody has dealt with that.
    pub rewritten: bool,
    /// Whether the index is there, and has not shown them whole and as of now for hours.
    pub stale: bool,
    /// By transfer.
    pub fees: Vec<FeeShown>,
    /// By hospital and currency.
    pub counterparties: Vec<CounterpartyShown>,
}

fn decimal(minor: i64, currency: Currency) -> String {
    Amount::from_minor(minor, currency).to_decimal_string()
}

fn fee(line: &FeeLine, own: &str) -> FeeShown {
    let payer = line.payer.to_string();
    let side = match line.role {
        Role::Source => "receivable",
        _ if payer == own => "payable",
        _ => "patient",
    };
    let (hold, settled) = line.hold.as_ref().map_or((None, None), |(hold, by)| (hold.reason, *by));
    FeeShown {
        held: hold.filter(|_| settled.is_none()).map(|reason| reason.to_string()),
        settled: settled.map(|reason| reason.to_string()),
        transfer: line.transfer.to_string(),
        side: side.to_owned(),
        hospital: line.counterparty.to_string(),
        payer,
        currency: line.currency.to_string(),
        fee: line.fee.map(|fee| fee.to_decimal_string()),
        evidence: decimal(line.due_minor, line.currency),
        posted: decimal(line.posted_minor, line.currency),
        reserved: decimal(line.reserved_minor, line.currency),
        standing: match line.standing {
            Standing::Agrees => "agrees".to_owned(),
            Standing::InFlight | Standing::Late(_) => "in-flight".to_owned(),
            Standing::Differs(code) => code.to_string(),
        },
        incident: line.incident.map(|id| id.to_string()),
    }
}

fn counterparty(of: &Counterparty) -> CounterpartyShown {
    CounterpartyShown {
        hospital: of.hospital.to_string(),
        currency: of.currency.to_string(),
        receivable_evidence: decimal(of.receivable_minor.0, of.currency),
        receivable_posted: decimal(of.receivable_minor.1, of.currency),
        patients_evidence: decimal(of.patients_minor.0, of.currency),
        patients_posted: decimal(of.patients_minor.1, of.currency),
        payable_evidence: decimal(of.payable_minor.0, of.currency),
        payable_posted: decimal(of.payable_minor.1, of.currency),
        transfers: of.transfers,
        differences: of.differences,
    }
}

/// Lists; with `ask`, after the index was asked.
pub(super) async fn list(node: &Node, ask: bool) -> Result<FeesListed, NodeError> {
    if ask {
        node.live()?;
        node.exchange.reconcile().await?;
    }
    let books = node.exchange.books().await?;
    let own = node.hospital().to_string();
    let is_fault = |line: &FeeLine| matches!(line.standing, Standing::Differs(_));
    Ok(FeesListed {
        as_of: books.as_of.map(|at| at.to_string()),
        log_size: books.log_size,
        whole: books.is_whole,
        agrees: !books.rewritten && !books.stale && !books.fees.iter().any(is_fault),
        rewritten: books.rewritten,
        stale: books.stale,
        fees: books.fees.iter().map(|line| fee(line, &own)).collect(),
        counterparties: books.counterparties.iter().map(counterparty).collect(),
    })
}
