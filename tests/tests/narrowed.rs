//! A patient gives away less than everything, on real processes: by period, and without what is restricted.

use anyhow::{Context, Result, ensure};
use handover_scenarios::json::{at, list, text};
use handover_scenarios::programs::Programs;
use handover_scenarios::world::{Options, World};
use serde_json::{Value, json};

const OLD: &str = "lakeside";
const NEW: &str = "riverside";
const WALLET: &str = "ines";

/// Conditions of a patient, FHIR R4: two old ones, one of them restricted, and three of this year, of which two are.
fn history() -> Value {
    let condition = |id: &str, recorded: &str, label: Option<[&str; 2]>| {
        let security = label.map(|[system, code]| {
            let system = format!("http://terminology.hl7.org/CodeSystem/{system}");
            json!([{ "system": system, "code": code }])
        });
        json!({ "resource": {
            "resourceType": "Condition", "id": id, "recordedDate": recorded, "meta": { "security": security },
            "subject": { "reference": "Patient/ines" },
        } })
    };
    let normal = Some(["v3-Confidentiality", "N"]);
    json!({ "resourceType": "Bundle", "type": "collection", "entry": [
        condition("asthma", "2019-05-02", None),
        condition("old-phobia", "2019-06-02", Some(["v3-ActCode", "PSY"])),
        condition("fracture", "2026-02-03", normal),
        condition("phobia", "2026-03-03", Some(["v3-ActCode", "PSY"])),
        condition("hiv", "2026-04-03", Some(["v3-Confidentiality", "V"])),
    ] })
}

#[test]
fn what_is_restricted_or_older_stays_where_it_is() -> Result<()> {
    let world = World::start(Programs::shared()?, &Options::of(&[OLD, NEW]))?;
    let records = world.records_folder().join("ines.json");
    std::fs::write(&records, history().to_string())?;
    world.node(OLD, &["import", records.to_str().context("UTF-8")?])?.done()?;
    world.new_wallet(WALLET)?;
    for hospital in [OLD, NEW] {
        let registered = world.node(hospital, &["patient", "register", "ines"])?.json()?;
        world.wallet_at(WALLET, hospital, &["link", "--code", text(&registered, "link_code")])?.done()?;
    }
    for (narrower, records) in [
        (&["--from", "2026-01-01", "--without-restricted"][..], &["fracture"][..]),
        (&["--without-restricted"][..], &["asthma", "fracture"][..]),
        (&["--until", "2026-01-01"][..], &["asthma", "fracture", "old-phobia"][..]),
    ] {
        let asked = world.wallet_at(WALLET, NEW, &["ask", "--source", OLD])?.json()?;
        let transfer = text(&asked, "transfer");
        world.node(NEW, &["transfer", "request", transfer])?.done()?;
        let inbox = |until: &str| -> Result<Value> {
            let words = ["inbox", "--transfer", transfer, "--until", until, "--wait", "60"];
            let shown = world.wallet_at(WALLET, NEW, &words)?.json()?;
            let mut items = list(&shown, "transfers").filter(|it| text(it, "transfer") == transfer);
            Ok(items.next().context("the transfer is not in the inbox")?.clone())
        };
        let quote = at(&inbox("quoted")?, "quote").clone();
        ensure!(at(&quote, "records") == 5 && at(&quote, "restricted") == 3, "{quote}");
        let yes = [&["consent", "--transfer", transfer], narrower].concat();
        world.wallet_at(WALLET, NEW, &yes)?.done()?;
        inbox("filed")?;
        // Said again with another scope, nothing is signed.
        let other = world.wallet_at(WALLET, NEW, &["consent", "--transfer", transfer])?;
        ensure!(other.exit == Some(1), "another scope is consented to: {}", other.stderr);
        let held = world.node(NEW, &["records", "list", "--patient", "ines"])?.json()?;
        let mut held: Vec<_> = list(&held, "records")
            .filter(|it| text(it, "type") == "Condition")
            .map(|it| text(it, "id").to_owned())
            .collect();
        held.sort();
        ensure!(held == records, "{narrower:?}: {held:?}");
    }
    Ok(())
}
