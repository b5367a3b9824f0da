//! Tests and their prices, out of a patient's resources given one by one in any order. Holds small facts per
//! possible test and per billed item, no bodies.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use handover_core::{Code, Currency};
use serde::Deserialize;

use super::catalogue::Catalogue;
use super::claim::{Billed, billed};
use super::prices::PriceList;
use crate::exact::ExactAmount;
use crate::fault::Fault;
use crate::reference::Reference;
use crate::resource::{Coding, Facts};

/// Where a test's price comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PriceSource {
    /// An item of a Claim.
    Claim,
    /// The hospital's price list.
    PriceList,
    /// There is no price: the test is counted and adds nothing.
    Unpriced,
}

/// One test.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// `Type/id` of the resource.
    pub reference: String,
    /// When, as `YYYY-MM-DD` or as much of it as is known.
    pub date: Option<String>,
    /// The system of its code.
    pub system: Option<String>,
    /// Its code; empty if it has none.
    pub code: String,
    /// What it is, for people.
    pub display: Option<String>,
    /// Its price in the assessment's currency, exactly.
    pub amount: Option<ExactAmount>,
    /// Where the price comes from.
    pub source: PriceSource,
}

/// The tests of a patient, with their prices.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assessment {
    /// The currency of every price; `None` if nothing is priced.
    pub currency: Option<Currency>,
    /// By date, then reference.
    pub lines: Vec<Line>,
    /// The exact sum of the prices.
    pub basis: ExactAmount,
    /// How many lines have no price.
    pub unpriced: u32,
}

/// Why there is no assessment.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChargeError {
    /// The priced tests are in more than one currency.
    #[error("the priced tests are in more than one currency: {0:?}")]
    MixedCurrencies(BTreeSet<Currency>),
    /// The sum does not fit.
    #[error("the sum of the prices is out of range")]
    OutOfRange,
}

impl ChargeError {
    /// The problem code.
    #[must_use]
    pub const fn code(&self) -> Code {
        match self {
            Self::MixedCurrencies(_) => Code::MixedCurrencies,
            Self::OutOfRange => Code::Malformed,
        }
    }
}

/// A resource that may be a test.
struct Candidate {
    date: Option<String>,
    codings: Vec<Coding>,
    title: Option<String>,
    kind: Kind,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Report,
    Procedure,
    Observation,
}

/// Collects what a fee is made of.
pub struct Assessor<'a> {
    catalogue: &'a Catalogue,
    prices: &'a PriceList,
    candidates: BTreeMap<String, Candidate>,
    /// By Claim, so that the order in which resources come decides nothing.
    bills: BTreeMap<String, Vec<Billed>>,
    /// Results of reports and members of panels.
    parts: HashSet<Reference>,
    /// `urn:…` → `Type/id` of candidates.
    names: HashMap<String, String>,
}

impl<'a> Assessor<'a> {
    /// With a hospital's catalogue and price list; either may be empty.
    #[must_use]
    pub fn new(catalogue: &'a Catalogue, prices: &'a PriceList) -> Self {
        Self {
            catalogue,
            prices,
            candidates: BTreeMap::new(),
            bills: BTreeMap::new(),
            parts: HashSet::new(),
            names: HashMap::new(),
        }
    }

    /// Takes a resource in its current version. `full_url` is its Bundle entry's, if that is not `urn:uuid:` and its
    /// id; `own` tells that this hospital made it: what other hospitals sent is no test of this one.
    ///
    /// # Errors
    /// The resource cannot be read; then it is no test and bills none.
    pub fn add(&mut self, raw_json: &str, full_url: Option<&str>, own: bool) -> Result<(), Fault> {
        if !own {
            return Ok(());
        }
        self.add_own(&Facts::of(raw_json)?, raw_json, full_url)
    }

    fn add_own(&mut self, facts: &Facts, raw_json: &str, full_url: Option<&str>) -> Result<(), Fault> {
        let status = facts.status.as_deref().unwrap_or_default();
        let kind = match facts.resource_type.as_str() {
            "Claim" => {
                let bills = billed(raw_json, self.prices.currency())?;
                if !bills.is_empty() {
                    self.bills.insert(facts.reference(), bills);
                }
                return Ok(());
            }
            "DiagnosticReport" => {
                self.parts.extend(parts(raw_json)?);
                matches!(status, "final" | "amended" | "corrected").then_some(Kind::Report)
            }
            "Procedure" => (status == "completed").then_some(Kind::Procedure),
            "Observation" => {
                self.parts.extend(parts(raw_json)?);
                let laboratory = facts.category.iter().any(|coding| coding.code == "laboratory");
                (status == "final" && laboratory).then_some(Kind::Observation)
            }
            _ => None,
        };
        let Some(kind) = kind else { return Ok(()) };
        let reference = facts.reference();
        let urn = match full_url {
            Some(url) if url.starts_with("urn:") => url.to_ascii_lowercase(),
            _ => format!("urn:uuid:{}", facts.id.to_ascii_lowercase()),
        };
        self.names.insert(urn, reference.clone());
        let date = facts.day().map(str::to_owned);
        let candidate = Candidate { date, codings: facts.code.clone(), title: facts.title.clone(), kind };
        self.candidates.insert(reference, candidate);
        Ok(())
    }

    /// The tests, with their prices.
    ///
    /// # Errors
    /// More than one currency; a sum that does not fit.
    pub fn finish(self) -> Result<Assessment, ChargeError> {
        let parts: HashSet<String> =
            self.parts.iter().filter_map(|part| resolve(&self.names, part)).collect();
        let tests: BTreeMap<&String, &Candidate> = self
            .candidates
            .iter()
            .filter(|(reference, candidate)| {
                let known = self.catalogue.is_test(&candidate.codings);
                match candidate.kind {
                    Kind::Report => known != Some(false),
                    Kind::Procedure => known == Some(true),
                    Kind::Observation => known != Some(false) && !parts.contains(*reference),
                }
            })
            .collect();
        let claimed = self.claimed(&tests);
        let mut currencies = BTreeSet::new();
        let mut basis = ExactAmount::ZERO;
        let mut unpriced = 0_u32;
        let mut lines = Vec::with_capacity(tests.len());
        for (reference, test) in tests {
            let listed = self.prices.price(&test.codings, test.date.as_deref());
            let (amount, source, currency) = match (claimed.get(reference), listed) {
                (Some((amount, currency)), _) => (Some(*amount), PriceSource::Claim, Some(*currency)),
                (None, Some((_, amount))) => {
                    (Some(amount), PriceSource::PriceList, Some(self.prices.currency()))
                }
                (None, None) => (None, PriceSource::Unpriced, None),
            };
            currencies.extend(currency);
            match amount {
                Some(amount) => basis = basis.checked_add(amount).ok_or(ChargeError::OutOfRange)?,
                None => unpriced = unpriced.saturating_add(1),
            }
            let coding = listed.map(|(coding, _)| coding).or_else(|| test.codings.first());
            lines.push(Line {
                reference: reference.clone(),
                date: test.date.clone(),
                system: coding.and_then(|coding| coding.system.clone()),
                code: coding.map(|coding| coding.code.clone()).unwrap_or_default(),
                display: coding.and_then(|coding| coding.display.clone()).or_else(|| test.title.clone()),
                amount,
                source,
            });
        }
        if currencies.len() > 1 {
            return Err(ChargeError::MixedCurrencies(currencies));
        }
        lines.sort_by(|a, b| (&a.date, &a.reference).cmp(&(&b.date, &b.reference)));
        Ok(Assessment { currency: currencies.pop_first(), lines, basis, unpriced })
    }

    /// What Claims ask for each test. An item pays for one test, the first that it leads to and that nothing has
    /// paid for; a test is paid for once.
    fn claimed(&self, tests: &BTreeMap<&String, &Candidate>) -> HashMap<String, (ExactAmount, Currency)> {
        let mut claimed = HashMap::new();
        for bill in self.bills.values().flatten() {
            let mut led_to = bill.links.iter().filter_map(|link| resolve(&self.names, link));
            if let Some(test) = led_to.find(|test| tests.contains_key(test) && !claimed.contains_key(test)) {
                claimed.insert(test, (bill.amount, bill.currency));
            }
        }
        claimed
    }
}

fn resolve(names: &HashMap<String, String>, reference: &Reference) -> Option<String> {
    match reference {
        Reference::Typed { .. } => Some(reference.to_string()),
        Reference::Urn(urn) => names.get(urn).cloned(),
    }
}

/// What a report or a panel consists of.
fn parts(raw_json: &str) -> Result<Vec<Reference>, Fault> {
    #[derive(Deserialize)]
    struct Whole {
        #[serde(default)]
        result: Vec<Link>,
        #[serde(default, rename = "hasMember")]
        members: Vec<Link>,
    }
    #[derive(Deserialize)]
    struct Link {
        reference: Option<String>,
    }
    let whole: Whole =
        serde_json::from_str(raw_json).map_err(|error| Fault::of_json(&error, Fault::BadField))?;
    let links = whole.result.into_iter().chain(whole.members);
    Ok(links.filter_map(|link| Reference::parse(link.reference.as_deref()?)).collect())
}
