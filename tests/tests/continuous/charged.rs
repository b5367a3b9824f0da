//! A test is charged once per payer and destination, ever: also by a second one-time transfer, and by two that were
//! quoted at the same time; again only if the fee of the one that charged it cannot stand.

use anyhow::{Context as _, Result};
use serde_json::Value;

use crate::person::{Person, SOURCE};

/// How many tests a quote charges, and how many it says were charged before, all of them by one transfer.
fn charged(quote: &Value, by: Option<&str>) -> (u64, u64) {
    let tests = quote["tests"].as_array().map_or(&[][..], Vec::as_slice);
    let before = tests.iter().filter(|test| by.is_some() && test["charged_by"].as_str() == by);
    assert!(tests.iter().all(|test| test["price"].is_null() || test["charged_by"].is_null()), "{quote}");
    let before = before.count() as u64;
    assert_eq!(quote["tests_charged_before"].as_u64(), Some(before), "{quote}");
    (quote["tests_priced"].as_u64().unwrap_or_default(), before)
}

pub(crate) fn play(anna: &Person<'_>) -> Result<()> {
    let (fee, tests) = (anna.expected.fee(), anna.expected.tests_priced);
    // One whose consent is taken back before its second half of the key is out: its fee is let go.
    let (lost, quote) = anna.quoted()?;
    assert_eq!(charged(&quote, None), (tests, 0));
    anna.consent(&lost, &["--no-release"])?;
    anna.until(SOURCE, &lost, "delivered")?;
    anna.wallet(&["revoke", "--transfer", &lost])?;
    anna.until(SOURCE, &lost, "revoked")?;
    // Two are quoted at once; neither knows of the other, and of the lost one nothing is charged.
    let (first, quote) = anna.quoted()?;
    assert_eq!(charged(&quote, None), (tests, 0));
    let (second, quote) = anna.quoted()?;
    assert_eq!(charged(&quote, None), (tests, 0));
    assert_eq!(quote["fee"], fee.as_str());
    // The first that is sealed charges.
    anna.consent(&first, &["--no-release"])?;
    anna.until(SOURCE, &first, "delivered")?;
    let (waiting, quote) = anna.quoted()?;
    assert_eq!(charged(&quote, Some(&first)), (0, tests), "what is under way is not charged twice");
    assert_eq!(quote["fee"], "0.00");
    anna.wallet(&["release", "--transfer", &first])?;
    anna.ends(&first, &fee)?;
    // What was quoted at the full price is not charged again: a final quote says so.
    anna.consent(&second, &[])?;
    anna.ends(&second, "0.00")?;
    let inbox = anna.wallet(&["inbox", "--transfer", &second])?;
    let last = &inbox["transfers"][0]["final_quote"];
    assert_eq!(charged(last, Some(&first)), (0, tests));
    anna.consent(&waiting, &[])?;
    anna.ends(&waiting, "0.00")?;
    for transfer in [&first, &second, &waiting] {
        let file = anna.world.records_folder().join(format!("{transfer}.handover"));
        let out = file.to_str().context("a file's name is no UTF-8")?;
        anna.world.node(SOURCE, &["transfer", "show", transfer, "--out", out])?.done()?;
        anna.world.verify(&file)?.done()?;
    }
    Ok(())
}
