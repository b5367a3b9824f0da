//! A test is charged once per payer and destination, ever: also by a second one-time transfer, and by two that were
//! quoted at the same time; again only if the fee of the one that charged it cannot stand.

#![expect(clippy::indexing_slicing, reason = "JSON values: an absent key is null")]

use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use handover_scenarios::generator::{self, Expected};
use handover_scenarios::programs::Programs;
use handover_scenarios::world::{Options, World};
use serde_json::Value;

const SOURCE: &str = "lakeside";
const DESTINATION: &str = "riverside";
const LIMIT: Duration = Duration::from_secs(60);
const LIMIT_SECONDS: &str = "60";

/// A patient with a wallet, linked at both hospitals.
struct Person<'w> {
    world: &'w World,
    expected: Expected,
}

impl<'w> Person<'w> {
    fn settle(world: &'w World) -> Result<Self> {
        let file = world.records_folder().join("anna.json");
        let options = generator::Options { hospital: world.name(SOURCE)?.to_owned(), ..Default::default() };
        let mut out = BufWriter::new(File::create(&file)?);
        let written = generator::write_patient(3, &options, &mut out)?;
        out.flush()?;
        let file = file.to_str().context("a file's name is no UTF-8")?;
        world.node(SOURCE, &["import", file])?.done()?;
        world.new_wallet("anna")?;
        for hospital in [SOURCE, DESTINATION] {
            let registered = world.node(hospital, &["patient", "register", &written.id])?.json()?;
            let code = registered["link_code"].as_str().context("no link code")?;
            world.wallet_at("anna", hospital, &["link", "--code", code])?.done()?;
        }
        Ok(Self { world, expected: written.expected })
    }

    fn wallet(&self, args: &[&str]) -> Result<Value> {
        self.world.wallet_at("anna", DESTINATION, args)?.json()
    }

    /// Asks and requests; the transfer, and its quote as the patient reads it.
    fn quoted(&self) -> Result<(String, Value)> {
        let asked = self.wallet(&["ask", "--source", SOURCE])?;
        let transfer = asked["transfer"].as_str().context("no transfer")?.to_owned();
        self.world.node(DESTINATION, &["transfer", "request", &transfer])?.done()?;
        let wait = ["inbox", "--transfer", &transfer, "--until", "quoted", "--wait", LIMIT_SECONDS];
        let quote = self.wallet(&wait)?["transfers"][0]["quote"].clone();
        Ok((transfer, quote))
    }

    fn consent(&self, transfer: &str, more: &[&str]) -> Result<()> {
        self.wallet(&[&["consent", "--transfer", transfer], more].concat())?;
        Ok(())
    }

    fn until(&self, at: &str, transfer: &str, phase: &str) -> Result<Value> {
        let shown = self
            .world
            .node(at, &["transfer", "show", transfer, "--wait", LIMIT_SECONDS, "--until", phase])?;
        let shown = shown.json()?;
        ensure!(shown["state"] == phase, "expected at {at}: {phase}, came: {shown}");
        Ok(shown)
    }

    /// Filed at both ends, for this fee, which is posted once.
    fn ends(&self, transfer: &str, fee: &str) -> Result<()> {
        for at in [DESTINATION, SOURCE] {
            let shown = self.until(at, transfer, "filed")?;
            ensure!(shown["fee"] == fee, "expected at {at}: {fee}, came: {shown}");
        }
        let posted = self.world.posted(transfer, LIMIT)?;
        ensure!(posted["amount"] == fee, "{posted}");
        Ok(())
    }
}

/// How many tests a quote charges, and how many it says were charged before, all of them by one transfer.
fn charged(quote: &Value, by: Option<&str>) -> (u64, u64) {
    let tests = quote["tests"].as_array().map_or(&[][..], Vec::as_slice);
    let before = tests.iter().filter(|test| by.is_some() && test["charged_by"].as_str() == by);
    assert!(tests.iter().all(|test| test["price"].is_null() || test["charged_by"].is_null()), "{quote}");
    let before = before.count() as u64;
    assert_eq!(quote["tests_charged_before"].as_u64(), Some(before), "{quote}");
    (quote["tests_priced"].as_u64().unwrap_or_default(), before)
}

#[test]
fn a_test_is_charged_once() -> Result<()> {
    let world = World::start(Programs::shared()?, &Options::of(&[SOURCE, DESTINATION]))?;
    let outcome = play(&Person::settle(&world)?);
    outcome.map_err(|fault| {
        let folder = world.folder().display().to_string();
        world.leave_folder();
        fault.context(format!("data and logs are in {folder}"))
    })
}

fn play(anna: &Person<'_>) -> Result<()> {
    let (fee, tests) = (anna.expected.fee(), anna.expected.tests_priced);
    // One whose consent is taken back before its second half of the key is out: its fee is let go.
    let (lost, quote) = anna.quoted()?;
    assert_eq!(charged(&quote, None), (tests, 0));
    anna.consent(&lost, &["--no-release"])?;
    anna.until(SOURCE, &lost, "released")?;
    anna.wallet(&["revoke", "--transfer", &lost])?;
    anna.until(SOURCE, &lost, "failed")?;
    // Two are quoted at once; neither knows of the other, and of the lost one nothing is charged.
    let (first, quote) = anna.quoted()?;
    assert_eq!(charged(&quote, None), (tests, 0));
    let (second, quote) = anna.quoted()?;
    assert_eq!(charged(&quote, None), (tests, 0));
    assert_eq!(quote["fee"], fee.as_str());
    // The first that is sealed charges.
    anna.consent(&first, &["--no-release"])?;
    anna.until(SOURCE, &first, "released")?;
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
