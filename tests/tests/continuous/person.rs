//! A patient between two hospitals, on the command lines that people use.

use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use handover_scenarios::generator::{self, Expected};
use handover_scenarios::world::World;
use serde_json::Value;

pub(crate) const SOURCE: &str = "lakeside";
pub(crate) const DESTINATION: &str = "riverside";
pub(crate) const LIMIT: Duration = Duration::from_secs(60);
pub(crate) const LIMIT_SECONDS: &str = "60";

/// A patient with a wallet, linked at both hospitals.
pub(crate) struct Person<'w> {
    pub(crate) world: &'w World,
    pub(crate) expected: Expected,
    pub(crate) id: String,
}

impl<'w> Person<'w> {
    pub(crate) fn settle(world: &'w World) -> Result<Self> {
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
        Ok(Self { world, expected: written.expected, id: written.id })
    }

    pub(crate) fn wallet(&self, args: &[&str]) -> Result<Value> {
        self.world.wallet_at("anna", DESTINATION, args)?.json()
    }

    /// Asks and requests; the transfer, and its quote as the patient reads it.
    pub(crate) fn quoted(&self) -> Result<(String, Value)> {
        let asked = self.wallet(&["ask", "--source", SOURCE])?;
        let transfer = asked["transfer"].as_str().context("no transfer")?.to_owned();
        self.world.node(DESTINATION, &["transfer", "request", &transfer])?.done()?;
        let wait = ["inbox", "--transfer", &transfer, "--until", "quoted", "--wait", LIMIT_SECONDS];
        let quote = self.wallet(&wait)?["transfers"][0]["quote"].clone();
        Ok((transfer, quote))
    }

    pub(crate) fn consent(&self, transfer: &str, more: &[&str]) -> Result<()> {
        self.wallet(&[&["consent", "--transfer", transfer], more].concat())?;
        Ok(())
    }

    pub(crate) fn until(&self, at: &str, transfer: &str, phase: &str) -> Result<Value> {
        let shown = self
            .world
            .node(at, &["transfer", "show", transfer, "--wait", LIMIT_SECONDS, "--until", phase])?;
        let shown = shown.json()?;
        ensure!(shown["state"] == phase, "expected at {at}: {phase}, came: {shown}");
        Ok(shown)
    }

    /// Filed at both ends, for this fee, which is posted once.
    pub(crate) fn ends(&self, transfer: &str, fee: &str) -> Result<()> {
        for at in [DESTINATION, SOURCE] {
            let shown = self.until(at, transfer, "filed")?;
            ensure!(shown["fee"] == fee, "expected at {at}: {fee}, came: {shown}");
        }
        let posted = self.world.posted(transfer, LIMIT)?;
        ensure!(posted["amount"] == fee, "{posted}");
        Ok(())
    }
}
