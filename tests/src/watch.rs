//! What has to hold at every moment, whatever happened before: looked at again and again while processes are killed,
//! cut off and damaged.
//!
//! Invariants: it compares what it is shown with what it was shown before, and remembers. Must not know processes.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, ensure};
use handover_scenarios::world::is_due;
use serde_json::Value;

use crate::moves::text;

/// The phases of a transfer, in their order.
const PHASES: [&str; 8] =
    ["asked", "requested", "quoted", "consented", "sealed", "delivered", "released", "filed"];
/// The other ends.
const EXITS: [&str; 4] = ["refused", "expired", "revoked", "failed"];

/// How far a transfer has come at a hospital: its attempt, its phase.
type Reached = (u64, usize);

/// What was seen so far.
#[derive(Debug, Default)]
pub struct Watch {
    reached: BTreeMap<(String, String), Reached>,
    ended: BTreeMap<(String, String), String>,
    /// Due entries by transfer, as they were first seen.
    due: BTreeMap<String, String>,
}

fn list<'v>(value: &'v Value, key: &str) -> Result<&'v Vec<Value>> {
    value.get(key).and_then(Value::as_array).with_context(|| format!("no {key}: {value}"))
}

impl Watch {
    /// What a hospital lists as its transfers: none is gone, none goes back, none ends in two ways.
    ///
    /// # Errors
    /// One is or does.
    pub fn transfers(&mut self, at: &str, listed: &Value) -> Result<()> {
        let mut seen = BTreeMap::new();
        for shown in list(listed, "transfers")? {
            let (transfer, state) = (text(shown, "transfer"), text(shown, "state"));
            let key = (at.to_owned(), transfer.to_owned());
            ensure!(seen.insert(transfer.to_owned(), ()).is_none(), "{transfer} is listed twice at {at}");
            if let Some(before) = self.ended.get(&key) {
                ensure!(before == state, "{transfer} had ended as {before} at {at}, and now is {state}");
                continue;
            }
            if EXITS.contains(&state) || state == "filed" {
                self.ended.insert(key, state.to_owned());
                continue;
            }
            let phase = PHASES.iter().position(|phase| *phase == state);
            let phase = phase.with_context(|| format!("{transfer} is \"{state}\" at {at}"))?;
            let attempt = shown.get("attempt").and_then(Value::as_u64).unwrap_or_default();
            let before = self.reached.insert(key, (attempt, phase)).unwrap_or_default();
            ensure!(
                before <= (attempt, phase),
                "{transfer} goes back at {at}: attempt and phase were {before:?}, are {:?}",
                (attempt, phase)
            );
        }
        let known = self.reached.keys().chain(self.ended.keys()).filter(|(whose, _)| whose == at);
        for (_, transfer) in known {
            ensure!(seen.contains_key(transfer), "{transfer} is gone at {at}");
        }
        Ok(())
    }

    /// The ledger's entries, taken before `destination`, what the destination lists: a fee is due once for what is
    /// filed there, with the amount that was agreed on, and for nothing else; none that was due is gone.
    ///
    /// # Errors
    /// Not so.
    pub fn ledger(
        &mut self,
        entries: &Value,
        destination: &Value,
        fees: &BTreeMap<String, String>,
    ) -> Result<()> {
        let filed: Vec<&str> = list(destination, "transfers")?
            .iter()
            .filter(|it| text(it, "state") == "filed")
            .map(|it| text(it, "transfer"))
            .collect();
        let mut due: BTreeMap<String, String> = BTreeMap::new();
        for entry in list(entries, "entries")? {
            let transfer = text(entry, "transfer");
            let fee = fees.get(transfer).with_context(|| format!("an entry of nobody's: {entry}"))?;
            ensure!(text(entry, "amount") == fee, "expected {fee}, came {entry}");
            let reason = entry.get("reason").filter(|reason| !reason.is_null());
            ensure!(reason.is_none(), "a fee is given back or let go: {entry}");
            if !is_due(entry) {
                continue;
            }
            ensure!(filed.contains(&transfer), "a fee is due, and nothing is filed: {entry}");
            ensure!(text(entry, "proof") == "receipt", "due without a receipt: {entry}");
            let twice = due.insert(transfer.to_owned(), text(entry, "id").to_owned());
            ensure!(twice.is_none(), "the fee of {transfer} is due twice");
        }
        for (transfer, entry) in &self.due {
            ensure!(due.get(transfer) == Some(entry), "the fee of {transfer} was due, and is gone");
        }
        self.due = due;
        Ok(())
    }

    /// How many fees are due.
    #[must_use]
    pub fn fees_due(&self) -> usize {
        self.due.len()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn listed(transfers: &[(&str, u64, &str)]) -> Value {
        let shown = |(id, attempt, state): &(&str, u64, &str)| json!({ "transfer": id, "attempt": attempt, "state": state });
        json!({ "transfers": transfers.iter().map(shown).collect::<Vec<_>>() })
    }

    #[test]
    fn nothing_goes_back_is_gone_or_ends_in_two_ways() {
        let after = |before: &[(&str, u64, &str)], now: &[(&str, u64, &str)]| {
            let mut watch = Watch::default();
            watch.transfers("a", &listed(before)).unwrap();
            watch.transfers("b", &listed(&[])).unwrap();
            watch.transfers("a", &listed(now)).map_err(|fault| fault.to_string())
        };
        assert_eq!(after(&[("x", 1, "quoted")], &[("x", 1, "quoted"), ("y", 1, "requested")]), Ok(()));
        assert_eq!(after(&[("x", 1, "released")], &[("x", 2, "consented")]), Ok(()));
        assert_eq!(after(&[("x", 1, "sealed")], &[("x", 1, "refused")]), Ok(()));
        for (before, now, told) in [
            (("x", 1, "sealed"), vec![("x", 1, "consented")], "goes back"),
            (("x", 2, "sealed"), vec![("x", 1, "released")], "goes back"),
            (("x", 1, "filed"), vec![("x", 1, "released")], "had ended"),
            (("x", 1, "filed"), vec![("x", 1, "refused")], "had ended"),
            (("x", 1, "quoted"), vec![], "is gone"),
            (("x", 1, "filed"), vec![], "is gone"),
            (("x", 1, "quoted"), vec![("x", 1, "quoted"); 2], "twice"),
            (("x", 1, "quoted"), vec![("x", 1, "mended")], "is \"mended\""),
        ] {
            let came = after(&[before], &now);
            assert!(came.as_ref().is_err_and(|fault| fault.contains(told)), "{before:?} {now:?}: {came:?}");
        }
    }

    fn entry(id: &str, kind: &str, transfer: &str, amount: &str, proof: Option<&str>) -> Value {
        json!({ "id": id, "kind": kind, "transfer": transfer, "amount": amount, "proof": proof, "reason": null })
    }

    #[test]
    fn a_fee_is_due_once_with_its_evidence_and_stays() {
        let fees = BTreeMap::from([("x".to_owned(), "7.50".to_owned())]);
        let looks = |pages: &[Vec<Value>], state: &str| {
            let mut watch = Watch::default();
            let looked = pages.iter().try_for_each(|entries| {
                watch.ledger(&json!({ "entries": entries }), &listed(&[("x", 1, state)]), &fees)
            });
            looked.map_err(|fault| fault.to_string()).map(|()| watch.fees_due())
        };
        let reserved = || entry("1", "reserve", "x", "7.50", None);
        let due = |id: &str| entry(id, "post", "x", "7.50", Some("receipt"));
        assert_eq!(looks(&[vec![reserved()], vec![reserved(), due("2")]], "filed"), Ok(1));
        assert_eq!(looks(&[vec![reserved()]], "sealed"), Ok(0));
        for (pages, state, told) in [
            (vec![vec![due("2")]], "released", "nothing is filed"),
            (vec![vec![due("2"), due("3")]], "filed", "due twice"),
            (vec![vec![due("2")], vec![reserved()]], "filed", "and is gone"),
            (vec![vec![due("2")], vec![due("3")]], "filed", "and is gone"),
            (vec![vec![entry("2", "post", "x", "7.50", Some("silence"))]], "filed", "without a receipt"),
            (vec![vec![entry("2", "post", "x", "7.51", Some("receipt"))]], "filed", "expected 7.50"),
            (vec![vec![entry("2", "post", "y", "7.50", Some("receipt"))]], "filed", "nobody's"),
        ] {
            let came = looks(&pages, state);
            assert!(came.as_ref().is_err_and(|fault| fault.contains(told)), "{pages:?}: {came:?}");
        }
    }
}
