//! The items of a Claim that bill something that was done, with the amount that each asks for.

use std::collections::HashMap;

use handover_core::Currency;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::exact::ExactAmount;
use crate::fault::Fault;
use crate::reference::Reference;

/// The most items of a Claim and the most links of an item that are looked at.
const MAX_LINKS: usize = 100_000;

/// What an item bills, and for how much.
#[derive(Clone)]
pub(super) struct Billed {
    /// What it leads to, in the item's order.
    pub(super) links: Vec<Reference>,
    pub(super) amount: ExactAmount,
    pub(super) currency: Currency,
}

#[derive(Deserialize)]
struct Claim<'a> {
    status: Option<String>,
    #[serde(rename = "use")]
    purpose: Option<String>,
    #[serde(rename = "type")]
    kind: Option<Concept>,
    #[serde(default)]
    procedure: Vec<Listed>,
    #[serde(default, rename = "supportingInfo")]
    supporting_info: Vec<Listed>,
    #[serde(borrow, default)]
    item: Vec<Item<'a>>,
}

#[derive(Deserialize)]
struct Concept {
    #[serde(default)]
    coding: Vec<Code>,
}

#[derive(Deserialize)]
struct Code {
    code: Option<String>,
}

/// An entry of a Claim's list that items point into by its number.
#[derive(Deserialize)]
struct Listed {
    sequence: u64,
    #[serde(rename = "procedureReference")]
    procedure: Option<Link>,
    #[serde(rename = "valueReference")]
    value: Option<Link>,
}

#[derive(Deserialize)]
struct Link {
    reference: Option<String>,
}

#[derive(Deserialize)]
struct Item<'a> {
    #[serde(default, rename = "procedureSequence")]
    procedures: Vec<u64>,
    #[serde(default, rename = "informationSequence")]
    information: Vec<u64>,
    #[serde(borrow)]
    net: Option<Money<'a>>,
    #[serde(borrow, rename = "unitPrice")]
    unit_price: Option<Money<'a>>,
    #[serde(borrow)]
    quantity: Option<Quantity<'a>>,
    #[serde(borrow)]
    factor: Option<&'a RawValue>,
}

/// Values as text: a number that went through binary floating point is another number.
#[derive(Deserialize)]
struct Money<'a> {
    #[serde(borrow)]
    value: Option<&'a RawValue>,
    currency: Option<String>,
}

#[derive(Deserialize)]
struct Quantity<'a> {
    #[serde(borrow)]
    value: Option<&'a RawValue>,
}

/// The items of an active Claim of use `claim` that is not a pharmacy's, which lead to something and have an amount.
/// An amount without a currency is in `home`, the hospital's.
pub(super) fn billed(raw_json: &str, home: Currency) -> Result<Vec<Billed>, Fault> {
    let claim: Claim<'_> =
        serde_json::from_str(raw_json).map_err(|error| Fault::of_json(&error, Fault::BadField))?;
    let is = |field: &Option<String>, wanted: &str| field.as_deref() == Some(wanted);
    let pharmacy = claim.kind.iter().flat_map(|kind| &kind.coding).any(|coding| is(&coding.code, "pharmacy"));
    if !is(&claim.status, "active") || !is(&claim.purpose, "claim") || pharmacy {
        return Ok(Vec::new());
    }
    let procedures = by_sequence(&claim.procedure, |listed| listed.procedure.as_ref());
    let information = by_sequence(&claim.supporting_info, |listed| listed.value.as_ref());
    let items = claim.item.iter().take(MAX_LINKS).filter_map(|item| {
        let by_procedure = item.procedures.iter().filter_map(|sequence| procedures.get(sequence));
        let by_information = item.information.iter().filter_map(|sequence| information.get(sequence));
        let links: Vec<_> = by_procedure.chain(by_information).take(MAX_LINKS).cloned().collect();
        let (amount, currency) = if links.is_empty() { None } else { item.amount(home) }?;
        Some(Billed { links, amount, currency })
    });
    Ok(items.collect())
}

fn by_sequence(list: &[Listed], link: impl Fn(&Listed) -> Option<&Link>) -> HashMap<u64, Reference> {
    list.iter()
        .filter_map(|listed| Some((listed.sequence, Reference::parse(link(listed)?.reference.as_deref()?)?)))
        .collect()
}

impl Item<'_> {
    /// `net`, else unitPrice × quantity × factor, of which an absent one counts as 1. An amount that is no decimal,
    /// below zero, out of range or in no known currency is none.
    fn amount(&self, home: Currency) -> Option<(ExactAmount, Currency)> {
        if let Some(net) = self.net.as_ref().filter(|net| net.value.is_some()) {
            return net.read(home);
        }
        let (mut amount, currency) = self.unit_price.as_ref()?.read(home)?;
        for times in
            [self.quantity.as_ref().and_then(|quantity| quantity.value), self.factor].into_iter().flatten()
        {
            amount = amount.checked_mul(times.get().parse().ok()?)?;
        }
        (!amount.is_negative()).then_some((amount, currency))
    }
}

impl Money<'_> {
    fn read(&self, home: Currency) -> Option<(ExactAmount, Currency)> {
        let amount: ExactAmount = self.value?.get().parse().ok()?;
        let currency = match &self.currency {
            Some(code) => code.parse().ok()?,
            None => home,
        };
        (!amount.is_negative()).then_some((amount, currency))
    }
}
