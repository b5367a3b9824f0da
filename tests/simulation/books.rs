//! What has to stand in the index's books when the moves are over, and whether it does.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result, bail, ensure};
use handover_core::{HospitalId, Party, PatientRef, TransferId};
use serde_json::{Value, json};

use crate::places::IndexSeat;

/// Who owes a fee.
pub(crate) enum Payer {
    Patient(PatientRef),
    Hospital(HospitalId),
}

/// What has to stand in the books of a transfer.
pub(crate) struct Due {
    pub(crate) transfer: TransferId,
    /// The fee that is due, if one is.
    pub(crate) fee_minor: Option<i64>,
    /// How much of it goes back.
    pub(crate) back_minor: i64,
    /// Who owes it, where that is sure.
    pub(crate) payer: Option<Payer>,
    /// Whether people may have to look at it.
    pub(crate) may_be_held: bool,
    /// Whether it may wait for what was lost with a store.
    pub(crate) may_be_open: bool,
    /// Whether the fee may be nothing.
    pub(crate) may_be_free: bool,
}

/// The index's books say what the moves say: each fee that is due once, nobody else's.
pub(crate) async fn books_agree(index: &IndexSeat, due: &[Due], liars: &BTreeSet<Party>) -> Result<()> {
    let checked = index.op(json!({"op": "check"})).await?;
    ensure!(checked["sound"] == true, "the index's check: {checked}");
    let balances = index.op(json!({"op": "ledger-balances"})).await?;
    ensure!(balances["balanced"] == true, "{balances}");
    let entries = index.op(json!({"op": "ledger-entries", "after": null})).await?;
    let incidents = index.op(json!({"op": "incident-list"})).await?;
    let accused = incidents["incidents"].as_array().context("incidents")?;
    let is_liars = |it: &Value| liars.iter().any(|liar| it["by"] == liar.to_string());
    ensure!(accused.iter().all(is_liars), "the index accuses somebody honest: {incidents}");
    ensure!(entries["next"].is_null(), "more entries than a page has");
    let mail = index.op(json!({"op": "mail-show"})).await?;
    let is_moot =
        |it: &Value| due.iter().any(|due| due.may_be_open && it["transfer"] == due.transfer.to_string());
    let dead = mail["dead"].as_array().context("dead letters")?;
    ensure!(dead.iter().all(is_moot), "dead letters at the index: {mail}");
    let mut booked: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for entry in entries["entries"].as_array().context("entries")? {
        let transfer = entry["transfer"].as_str().context("a transfer")?;
        booked.entry(transfer.to_owned()).or_default().push(entry.clone());
    }
    for due in due {
        let booked = booked.remove(&due.transfer.to_string()).unwrap_or_default();
        due.is_met(&booked).with_context(|| format!("{}: {booked:?}", due.transfer))?;
    }
    ensure!(booked.is_empty(), "nobody's fees: {booked:?}");
    Ok(())
}

impl Due {
    /// The entries of the transfer are those that it may have, and nothing stays reserved.
    fn is_met(&self, booked: &[Value]) -> Result<()> {
        let (mut posted, mut reversed_minor, mut reserved) = (Vec::new(), 0_i64, 0_i32);
        for entry in booked {
            let is_payers = match &self.payer {
                Some(Payer::Hospital(payer)) => entry["payer"] == payer.as_str(),
                Some(Payer::Patient(patient)) => entry["payer"] == format!("patient:{patient}"),
                None => true,
            };
            ensure!(is_payers, "it is owed by another");
            let kind = entry["kind"].as_str().context("a kind")?;
            reserved += match kind {
                "reserve" => 1,
                "void" | "post" | "hold" => -1,
                _ => 0,
            };
            match kind {
                "reserve" | "void" => {}
                "hold" => ensure!(self.may_be_held || self.may_be_open, "nobody is to look at it"),
                // One that was let go before its receipt came is posted directly.
                "post" | "post-direct" => posted.push(minor(entry)?),
                "reverse" => reversed_minor += minor(entry)?,
                other => bail!("nobody ordered a {other}"),
            }
        }
        let wanted: Vec<i64> = self.fee_minor.into_iter().collect();
        let is_free = self.may_be_free && posted.iter().all(|fee| *fee == 0) && posted.len() == wanted.len();
        ensure!(posted == wanted || is_free, "posted {posted:?}, due {wanted:?}");
        ensure!(reversed_minor == self.back_minor, "given back {reversed_minor}, due {}", self.back_minor);
        ensure!(reserved == 0 || self.may_be_open, "reserved for good");
        Ok(())
    }
}

/// An entry's amount.
fn minor(entry: &Value) -> Result<i64> {
    Ok(entry["amount"].as_str().context("an amount")?.replace('.', "").parse()?)
}
