//! What no shipped story tells: a patient whom the old hospital links from afar, moves, is recalled, is an emergency,
//! and whose last package is left in a folder.

use std::os::unix::fs::OpenOptionsExt as _;

use anyhow::{Context as _, Result, ensure};
use handover_scenarios::json::{list, number, text};
use handover_scenarios::world::World;
use handover_tests::moves::{LIMIT_SECONDS, within};
use serde_json::{Value, json};

/// Has her records, and had never heard of her wallet.
pub(crate) const OLD: &str = "lakeside";
/// Where she is now.
pub(crate) const NEW: &str = "riverside";
/// Her number there.
pub(crate) const NUMBER: &str = "K-7";
/// And here.
pub(crate) const NEW_NUMBER: &str = "R-31";
pub(crate) const FAMILY: &str = "Byrd";
pub(crate) const GIVEN: &str = "Ida";
pub(crate) const BORN: &str = "1957-11-23";
/// Where the code of her link is sent.
pub(crate) const PHONE: &str = "+1-555-0142";
/// The three tests of the price list, with their prices in its smallest unit.
pub(crate) const TESTS: [(&str, i128); 3] = [("57698-3", 5_875), ("24325-3", 5_135), ("24348-5", 8_760)];
/// Codes without a price: of a test, of a diagnosis, of a department's visit, of a medicine.
pub(crate) const CODES: [&str; 4] = ["2345-7", "E11.9", "I48.91", "A10BA02"];
pub(crate) const CLINICIAN: &str = "Dr. Mira Noor";
pub(crate) const ROLE: &str = "emergency physician";
pub(crate) const REASON: &str = "found at Elm Street";
pub(crate) const REVIEW: &str = "fell off a ladder";

const WALLET: &str = "ida";

/// What came of it that must not be known.
pub(crate) struct Played {
    /// The code that linked her, as the letter has it.
    pub(crate) link_code: String,
    /// What her wallet shows of her move: the quote, line by line.
    pub(crate) shown: String,
}

fn import(world: &World, resources: &[Value]) -> Result<()> {
    let file = world.records_folder().join(format!("ida-{}.json", resources.len()));
    let entry = |it: &Value| json!({ "resource": it });
    let bundle = json!({ "resourceType": "Bundle", "type": "collection",
        "entry": resources.iter().map(entry).collect::<Vec<_>>() });
    std::fs::write(&file, bundle.to_string())?;
    world.node(OLD, &["import", file.to_str().context("UTF-8")?])?.done()
}

fn report(id: &str, code: &str, value: &str) -> Value {
    json!({
        "resourceType": "DiagnosticReport", "id": id, "status": "final", "conclusion": value,
        "subject": { "reference": format!("Patient/{NUMBER}") }, "effectiveDateTime": "2024-05-01",
        "category": [{ "coding": [{ "system": "http://terminology.hl7.org/CodeSystem/v2-0074", "code": "LAB" }] }],
        "code": { "coding": [{ "system": "http://loinc.org", "code": code }] },
    })
}

fn coded(kind: &str, id: &str, system: &str, code: &str) -> Value {
    json!({
        "resourceType": kind, "id": id, "subject": { "reference": format!("Patient/{NUMBER}") }, "status": "active",
        "code": { "coding": [{ "system": system, "code": code }] },
        "medicationCodeableConcept": { "coding": [{ "system": system, "code": code }] },
    })
}

fn records(world: &World) -> Result<()> {
    let [glucose, diabetes, fibrillation, metformin] = CODES;
    let icd = "http://hl7.org/fhir/sid/icd-10-cm";
    let mut resources = vec![
        json!({ "resourceType": "Patient", "id": NUMBER, "birthDate": BORN,
            "name": [{ "family": FAMILY, "given": [GIVEN] }], "telecom": [{ "system": "phone", "value": PHONE }] }),
        report("glucose", glucose, "5.1"),
        coded("Condition", "diabetes", icd, diabetes),
        coded("Condition", "fibrillation", icd, fibrillation),
        coded("MedicationStatement", "metformin", "http://www.whocc.no/atc", metformin),
    ];
    resources.extend(TESTS.map(|(code, _)| report(code, code, "normal")));
    import(world, &resources)
}

/// She is linked here in person, and there with a code that comes to the contact on file.
fn linked_from_afar(world: &World) -> Result<String> {
    world.new_wallet(WALLET)?;
    let registered = world.node(NEW, &["patient", "register", NEW_NUMBER])?.json()?;
    world.wallet_at(WALLET, NEW, &["link", "--code", text(&registered, "link_code")])?.done()?;
    let name = format!("{GIVEN} {FAMILY}");
    let asking =
        ["link-remote", "--hospital", OLD, "--record-number", NUMBER, "--name", &name, "--birth-date", BORN];
    let asked = world.wallet_at(WALLET, NEW, &asking)?.json()?;
    let id = text(&asked, "remote_link");
    world.node(NEW, &["link-remote", "vouch", id])?.done()?;
    within("the request is at the old hospital's desk", || {
        Ok(text(&world.wallet_at(WALLET, NEW, &asking)?.json()?, "state") == "asked")
    })?;
    let confirmed = world.node(OLD, &["link-remote", "confirm", id, "--patient", NUMBER])?.json()?;
    let code = text(&confirmed, "link_code").to_owned();
    world.wallet_at(WALLET, NEW, &["link", "--hospital", OLD, "--code", &code])?.done()?;
    within("the index knows both", || {
        let located = world.wallet_at(WALLET, NEW, &["locate"])?.json()?;
        Ok(list(&located, "hospitals").count() == 2)
    })?;
    Ok(code)
}

fn quoted(world: &World) -> Result<String> {
    let asked = world.wallet_at(WALLET, NEW, &["ask", "--source", OLD])?.json()?;
    let transfer = text(&asked, "transfer").to_owned();
    world.node(NEW, &["transfer", "request", &transfer])?.done()?;
    told(world, &transfer, "quoted")?;
    Ok(transfer)
}

fn told(world: &World, transfer: &str, phase: &str) -> Result<()> {
    let until = ["inbox", "--transfer", transfer, "--until", phase, "--wait", LIMIT_SECONDS];
    world.wallet_at(WALLET, NEW, &until)?.done()
}

fn consent(world: &World, transfer: &str) -> Result<()> {
    world.wallet_at(WALLET, NEW, &["consent", "--transfer", transfer])?.done()
}

/// What a hospital lists as recalls of a transfer, once each is marked where it was sent to.
fn recalled(world: &World, transfer: &str, count: usize) -> Result<()> {
    within("the recalls are confirmed", || {
        let listed = world.node(OLD, &["recall", "list"])?.json()?;
        let marked = list(&listed, "recalls").filter(|it| text(it, "transfer") == transfer);
        Ok(marked.filter(|it| it["marked"].is_string()).count() == count)
    })
}

/// A result is amended, another one is somebody else's.
fn recalls(world: &World, transfer: &str) -> Result<()> {
    import(world, &[report("glucose", CODES[0], "15.1")])?;
    recalled(world, transfer, 1)?;
    let listed = world.node(OLD, &["records", "list", "--patient", NUMBER])?.json()?;
    let wrong = list(&listed, "records").find(|it| text(it, "id") == TESTS[0].0).context("no such record")?;
    let make = [
        "recall",
        "make",
        "--patient",
        NUMBER,
        "--record",
        text(wrong, "record"),
        "--reason",
        "wrong-patient",
    ];
    world.node(OLD, &make)?.done()?;
    recalled(world, transfer, 2)?;
    within("the fee is given back", || {
        Ok(world.entries(transfer)?.iter().any(|it| text(it, "kind") == "reverse"))
    })
}

fn emergency(world: &World) -> Result<()> {
    let (key, secret) = (world.folder().join("mira.key"), world.folder().join("mira.secret"));
    let mut file = std::fs::File::options().write(true).create_new(true).mode(0o600).open(&secret)?;
    std::io::Write::write_all(&mut file, b"the clinician's own secret\n")?;
    let (key, secret) = (key.to_str().context("UTF-8")?, secret.to_str().context("UTF-8")?);
    let signing = ["--key", key, "--clinician-passphrase-file", secret];
    let made = world.node(NEW, &[&["clinician", "new"][..], &signing].concat())?.json()?;
    let public = text(&made, "public_key");
    let certify =
        ["clinician", "certify", "--public-key", public, "--name", CLINICIAN, "--role", ROLE, "--days", "30"];
    world.node(NEW, &certify)?.done()?;
    let wallet = world.wallet(WALLET, &["show"])?.json()?;
    let by_card = ["--patient", text(&wallet, "patient")];
    let by_name = ["--family", FAMILY, "--given", GIVEN, "--birth-date", BORN, "--at", OLD];
    for whom in [&by_card[..], &by_name] {
        let open = [&["break-glass", "open", "--reason", REASON][..], whom, &signing].concat();
        let opened = world.node(NEW, &open)?.json()?;
        let glass = list(&opened, "break_glasses").next().context("nobody answered")?;
        ensure!(text(glass, "state") == "given", "{opened}");
        let id = text(glass, "break_glass");
        world.node(NEW, &[&["break-glass", "read", id][..], &signing].concat())?.done()?;
        let review = ["break-glass", "review", id, "--verdict", "justified", "--note", REVIEW];
        world.node(NEW, &[&["--staff", "officer"][..], &review].concat())?.done()?;
    }
    within("the index has the notes of both", || {
        let noted = world.index(&["break-glass"])?.json()?;
        Ok(list(&noted, "notes").count() >= 3)
    })
}

/// The source comes back to a consent, and to nobody who takes the package: it is still in the folder when this returns.
pub(crate) fn left_in_a_folder(world: &mut World) -> Result<()> {
    let transfer = quoted(world)?;
    world.stop(OLD)?;
    consent(world, &transfer)?;
    within("the index has what the destination owes it", || {
        Ok(number(&world.node(NEW, &["transfer", "show", &transfer])?.json()?, "waiting") == 0)
    })?;
    world.stop(NEW)?;
    world.restart(OLD)?;
    within("the package is left in the folder", || {
        Ok(world.node(OLD, &["transfer", "show", &transfer])?.json()?["folder"]["until"].is_string())
    })
}

/// Everything with both hospitals there.
pub(crate) fn all(world: &World) -> Result<Played> {
    records(world)?;
    let link_code = linked_from_afar(world).context("a remote link")?;
    let transfer = quoted(world)?;
    consent(world, &transfer)?;
    told(world, &transfer, "filed")?;
    recalls(world, &transfer).context("recalls")?;
    emergency(world).context("break-glass")?;
    let shown = world.wallet_at(WALLET, NEW, &["inbox", "--transfer", &transfer])?.json()?.to_string();
    Ok(Played { link_code, shown })
}
