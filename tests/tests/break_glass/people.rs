//! Who is in the world: patients with records, clinicians with keys, and what they do in one line.

use std::fs;
use std::os::unix::fs::OpenOptionsExt as _;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use handover_scenarios::json;
use handover_scenarios::process::Answer;
use handover_scenarios::world::World;
use serde_json::{Value, json};

use super::{NEW, OLD, OTHER};

/// Nothing is waited for any longer.
const LIMIT: Duration = Duration::from_secs(60);

/// A patient's record number at each hospital.
pub(crate) const ADA: &str = "P-1001";
/// Two people of one name and birth date.
pub(crate) const TWINS: [&str; 2] = ["P-2001", "P-2002"];

/// Records of a patient: some of the subset, one of it restricted, and some that are not.
fn bundle(number: &str, family: &str, given: &str, born: &str) -> Value {
    let id = |kind: &str| format!("{number}-{kind}");
    let of = format!("Patient/{number}");
    let coded = |text: &str| json!({ "text": text });
    let scan = "A".repeat(1_500_000);
    let resources = [
        json!({ "resourceType": "Patient", "id": number, "birthDate": born, "gender": "female",
            "name": [{ "family": family, "given": [given, "May"] }] }),
        json!({ "resourceType": "AllergyIntolerance", "id": id("allergy"), "patient": { "reference": of },
            "code": coded("Allergy to penicillin") }),
        json!({ "resourceType": "Condition", "id": id("condition"), "subject": { "reference": of },
            "code": coded("Atrial fibrillation") }),
        json!({ "resourceType": "MedicationStatement", "id": id("statement"), "status": "active",
            "subject": { "reference": of }, "medicationCodeableConcept": coded("Warfarin"),
            "meta": { "security": [{ "system": "http://terminology.hl7.org/CodeSystem/v3-Confidentiality",
                "code": "R" }] } }),
        json!({ "resourceType": "MedicationRequest", "id": id("request"), "status": "active", "intent": "order",
            "subject": { "reference": of }, "medicationReference": { "reference": format!("Medication/{}", id("drug")) } }),
        json!({ "resourceType": "Medication", "id": id("drug"), "code": coded("Metoprolol") }),
        json!({ "resourceType": "Observation", "id": id("observation"), "status": "final",
            "subject": { "reference": of }, "code": coded("Potassium") }),
        json!({ "resourceType": "DocumentReference", "id": id("letter"), "status": "current",
            "subject": { "reference": of },
            "content": [{ "attachment": { "contentType": "text/plain", "data": scan } }] }),
    ];
    let entry = |resource: Value| json!({ "resource": resource });
    json!({ "resourceType": "Bundle", "type": "collection",
        "entry": resources.into_iter().map(entry).collect::<Vec<_>>() })
}

/// Patients of both old hospitals.
pub(crate) fn fill(world: &World) -> Result<()> {
    for (hospital, number, family, given, born) in [
        (OLD, ADA, "Quill-Reed", "Ada", "1980-02-29"),
        (OLD, TWINS[0], "Marsh", "Eva", "1991-07-04"),
        (OLD, TWINS[1], "Marsh", "Eva", "1991-07-04"),
        (OTHER, "N-1", "Quill-Reed", "Ada", "1980-02-29"),
    ] {
        let path = world.records_folder().join(format!("{hospital}-{number}.json"));
        fs::write(&path, bundle(number, family, given, born).to_string())?;
        world.node(hospital, &["import", path.to_str().context("UTF-8")?])?.done()?;
    }
    Ok(())
}

/// A clinician's key file and passphrase file.
pub(crate) fn key(world: &World, name: &str) -> Result<[String; 2]> {
    let path = |end: &str| {
        let path = world.folder().join(format!("{name}.{end}"));
        path.to_str().map(str::to_owned).context("UTF-8")
    };
    let secret = path("secret")?;
    if !std::path::Path::new(&secret).exists() {
        let mut file = fs::File::options().write(true).create_new(true).mode(0o600).open(&secret)?;
        std::io::Write::write_all(&mut file, format!("secret of {name}\n").as_bytes())?;
    }
    Ok([path("key")?, secret])
}

/// A new key; its public half.
pub(crate) fn new_key(world: &World, hospital: &str, name: &str) -> Result<String> {
    let [key, secret] = key(world, name)?;
    let made = ["clinician", "new", "--key", &key, "--clinician-passphrase-file", &secret];
    Ok(json::text(&world.node(hospital, &made)?.json()?, "public_key").to_owned())
}

/// Certifies it; the certificate's number.
pub(crate) fn certify(world: &World, hospital: &str, public: &str, name: &str, days: &str) -> Result<u64> {
    let role = "emergency physician";
    let words =
        ["clinician", "certify", "--public-key", public, "--name", name, "--role", role, "--days", days];
    Ok(json::number(&world.node(hospital, &words)?.json()?, "number"))
}

/// A clinician with a key and a certificate.
pub(crate) fn clinician(world: &World, hospital: &str, name: &str) -> Result<u64> {
    let public = new_key(world, hospital, name)?;
    certify(world, hospital, &public, &format!("Dr. {name}"), "365")
}

/// Runs a command that a clinician signs.
pub(crate) fn signed(world: &World, hospital: &str, by: &str, words: &[&str]) -> Result<Answer> {
    let [key, secret] = key(world, by)?;
    let mut all = vec!["break-glass"];
    all.extend(words);
    all.extend(["--key", &key, "--clinician-passphrase-file", &secret]);
    world.node(hospital, &all)
}

/// Who is asked for, by name.
pub(crate) fn person<'a>(family: &'a str, given: &'a str, born: &'a str) -> [&'a str; 6] {
    ["--family", family, "--given", given, "--birth-date", born]
}

/// Ada, as an emergency room writes her.
pub(crate) const ADA_BY_NAME: [&str; 6] =
    ["--family", "Quill Reed", "--given", "ada", "--birth-date", "1980-02-29"];

/// Opens with these words; the answer.
pub(crate) fn open(world: &World, by: &str, whom: &[&str], more: &[&str]) -> Result<Answer> {
    let mut words = vec!["open", "--reason", "unconscious after a fall"];
    words.extend(whom);
    words.extend(more);
    signed(world, NEW, by, &words)
}

/// Opens at one hospital, and is given the subset; the identifier.
pub(crate) fn opened(world: &World, by: &str, whom: &[&str], more: &[&str]) -> Result<String> {
    let answer = open(world, by, whom, more)?.json()?;
    let glass = &answer["break_glasses"][0];
    ensure!(glass["state"] == "given" && glass["scope"] == "subset", "{answer}");
    Ok(json::text(glass, "break_glass").to_owned())
}

/// What a clinician reads, as a Bundle.
pub(crate) fn read(world: &World, by: &str, id: &str) -> Result<Value> {
    let answer = signed(world, NEW, by, &["read", id])?;
    answer.done()?;
    Ok(serde_json::from_slice(&answer.stdout)?)
}

/// The types in a Bundle, in order.
pub(crate) fn types(bundle: &Value) -> Vec<&str> {
    json::list(bundle, "entry").map(|it| json::text(&it["resource"], "resourceType")).collect()
}

/// How it stands at a hospital.
pub(crate) fn shown(world: &World, hospital: &str, id: &str) -> Result<Value> {
    world.node(hospital, &["--staff", "officer", "break-glass", "show", id])?.json()
}

/// Actions of the audit lines that name it.
pub(crate) fn audit(shown: &Value) -> Vec<String> {
    json::list(shown, "audit")
        .map(|it| format!("{} {}", json::text(it, "subject"), json::text(it, "action")))
        .collect()
}

/// Links a wallet in person.
pub(crate) fn link(world: &World, wallet: &str, hospital: &str, number: &str) -> Result<()> {
    let registered = world.node(hospital, &["patient", "register", number])?.json()?;
    let code = json::text(&registered, "link_code").to_owned();
    world.wallet_at(wallet, hospital, &["link", "--code", &code])?.done()
}

/// What a wallet is told at a hospital.
pub(crate) fn told(world: &World, wallet: &str, hospital: &str) -> Result<Vec<Value>> {
    let inbox = world.wallet_at(wallet, hospital, &["inbox"])?.json()?;
    Ok(json::list(&inbox, "break_glasses").cloned().collect())
}

/// Looks until something holds.
pub(crate) fn within(what: &str, holds: impl Fn() -> Result<bool>) -> Result<()> {
    let begun = Instant::now();
    while !holds()? {
        if begun.elapsed() > LIMIT {
            bail!("{what}: not within {} s", LIMIT.as_secs());
        }
    }
    Ok(())
}

/// A command is refused by name.
pub(crate) fn refused(answer: &Answer, code: &str) -> Result<()> {
    ensure!(
        answer.problem().as_deref() == Some(code),
        "not refused as {code}: {} {}",
        answer.command,
        answer.stderr
    );
    Ok(())
}
