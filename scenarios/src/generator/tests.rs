//! What every generated patient keeps: the same bytes for a seed, ids that are unique, references that lead
//! somewhere, and an expectation that a recount from the JSON agrees with.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use sha2::{Digest, Sha256};

use super::*;

/// Small scans: their size changes nothing that is tested here.
fn small() -> Options {
    Options { scan_bytes: 3_000, ..Options::default() }
}

fn resources(patient: &GeneratedPatient) -> Vec<Value> {
    let bundle: Value = serde_json::from_str(&patient.bundle_json).unwrap();
    assert_eq!(bundle["type"], "transaction");
    let entries = bundle["entry"].as_array().unwrap();
    for entry in entries {
        assert_eq!(entry["fullUrl"], format!("urn:uuid:{}", text(&entry["resource"]["id"])));
        assert_eq!(entry["request"]["url"], entry["resource"]["resourceType"]);
    }
    entries.iter().map(|entry| entry["resource"].clone()).collect()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// Collects every `reference`, and fails on what FHIR's JSON forbids: null and empty arrays.
fn references(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            for (name, field) in fields {
                match field {
                    Value::String(reference) if name == "reference" => found.push(reference.clone()),
                    other => references(other, found),
                }
            }
        }
        Value::Array(items) => {
            assert!(!items.is_empty());
            items.iter().for_each(|item| references(item, found));
        }
        other => assert!(!other.is_null()),
    }
}

#[test]
fn a_seed_decides_every_byte() {
    let patient = generate(42, &small()).unwrap();
    assert_eq!(patient.bundle_json, generate(42, &small()).unwrap().bundle_json);
    assert_ne!(patient.bundle_json, generate(43, &small()).unwrap().bundle_json);
    let digest = hex::encode(Sha256::digest(patient.bundle_json.as_bytes()));
    assert_eq!(digest, "846d5cf23ee4eafda1109e903fdc7a7761dac184fa9171d10113b75a3f73a0ec");
}

#[test]
fn ids_are_unique_and_references_resolve() {
    let mut forward = 0;
    for seed in 0..40 {
        let all = resources(&generate(seed, &small()).unwrap());
        let ids: BTreeMap<String, usize> =
            all.iter().enumerate().map(|(place, one)| (text(&one["id"]).to_owned(), place)).collect();
        assert_eq!(ids.len(), all.len(), "seed {seed}");
        for (place, one) in all.iter().enumerate() {
            let mut found = Vec::new();
            references(one, &mut found);
            for reference in found {
                let target = ids[reference.strip_prefix("urn:uuid:").unwrap()];
                forward += usize::from(target > place);
            }
        }
    }
    assert!(forward > 100);
}

#[test]
fn every_patient_has_a_realistic_size_and_everything_that_matters() {
    let mut half_cents = 0;
    for seed in 0..60 {
        let patient = generate(seed, &small()).unwrap();
        let many = patient.expected.total_resources();
        assert!((60..=150).contains(&many), "seed {seed}: {many}");
        half_cents += u32::from(patient.expected.is_half_cent());
        let all = resources(&patient);
        let kinds: BTreeSet<&str> = all.iter().map(|one| text(&one["resourceType"])).collect();
        for kind in [
            "AllergyIntolerance",
            "CarePlan",
            "Claim",
            "Condition",
            "DiagnosticReport",
            "DocumentReference",
            "Encounter",
            "ExplanationOfBenefit",
            "ImagingStudy",
            "Immunization",
            "Observation",
            "Organization",
            "Patient",
            "Practitioner",
            "Procedure",
        ] {
            assert!(kinds.contains(kind), "seed {seed}: {kind}");
        }
        let classes: BTreeSet<&str> = all.iter().map(|one| text(&one["class"]["code"])).collect();
        assert!(["AMB", "EMER", "IMP"].iter().all(|class| classes.contains(class)), "seed {seed}");
        let has = |kind: &str, field: &str, value: &str| {
            all.iter().any(|one| one["resourceType"] == kind && one[field] == value)
        };
        assert!(has("DiagnosticReport", "status", "entered-in-error"), "seed {seed}");
        assert!(has("DiagnosticReport", "status", "preliminary"), "seed {seed}");
        assert!(has("Claim", "use", "preauthorization"), "seed {seed}");
        assert!(has("Claim", "status", "cancelled"), "seed {seed}");
        assert!(all.iter().any(|one| one["code"]["coding"][0]["code"] == "312681000"), "seed {seed}");
    }
    assert!((10..50).contains(&half_cents), "{half_cents}");
}

/// The rules of the fee once more, read from the JSON alone; written for clearness, not for speed.
fn recount(all: &[Value]) -> (u64, u64, i64) {
    let rows = |csv: &'static str| csv.lines().skip(1).map(|line| line.split(',').collect::<Vec<_>>());
    let catalogue: BTreeMap<&str, &str> = rows(TEST_CATALOGUE_CSV).map(|row| (row[1], row[4])).collect();
    let mut prices: BTreeMap<&str, Vec<(String, i64)>> = BTreeMap::new();
    for row in rows(PRICE_LIST_CSV) {
        let (day, year) = row[9].rsplit_once('-').unwrap();
        let minor = row[8].replace('.', "").parse().unwrap();
        prices.entry(row[7]).or_default().push((format!("{year}-{day}"), minor));
    }
    let reported: BTreeSet<&str> = all
        .iter()
        .filter(|one| one["resourceType"] == "DiagnosticReport")
        .flat_map(|report| list(&report["result"]).iter().map(|result| text(&result["reference"])))
        .collect();
    let (mut priced, mut unpriced, mut basis) = (0, 0, 0);
    for one in all {
        let flag =
            list(&one["code"]["coding"]).iter().find_map(|coding| catalogue.get(text(&coding["code"])));
        let url = format!("urn:uuid:{}", text(&one["id"]));
        let status = text(&one["status"]);
        let counts = match text(&one["resourceType"]) {
            "DiagnosticReport" => ["final", "amended", "corrected"].contains(&status) && flag != Some(&"N"),
            "Procedure" => status == "completed" && flag == Some(&"Y"),
            "Observation" => {
                let laboratory = one["category"][0]["coding"][0]["code"] == "laboratory";
                status == "final" && laboratory && !reported.contains(url.as_str()) && flag != Some(&"N")
            }
            _ => false,
        };
        if !counts {
            continue;
        }
        let done = one["effectiveDateTime"].as_str().or(one["performedPeriod"]["start"].as_str()).unwrap();
        let listed = || {
            let rows =
                list(&one["code"]["coding"]).iter().find_map(|coding| prices.get(text(&coding["code"])))?;
            let latest = rows.iter().rev().find(|(from, _)| from.as_str() <= &done[..10]);
            latest.or(rows.first()).map(|(_, minor)| *minor)
        };
        match charge(all, &url).or_else(listed) {
            Some(minor) => (priced, basis) = (priced + 1, basis + minor),
            None => unpriced += 1,
        }
    }
    (priced, unpriced, basis)
}

/// Tenths of cents would be lost: every amount of the generator is in whole cents.
fn minor(amount: &Value) -> Option<i64> {
    let text = amount.as_number()?.to_string();
    let (whole, part) = text.split_once('.').unwrap_or((&text, ""));
    format!("{whole}{part:0<2}").parse().ok()
}

fn charge(all: &[Value], url: &str) -> Option<i64> {
    let claims = all.iter().filter(|one| {
        one["resourceType"] == "Claim"
            && one["status"] == "active"
            && one["use"] == "claim"
            && one["type"]["coding"][0]["code"] != "pharmacy"
    });
    for claim in claims {
        for (part, reference, link) in [
            ("procedure", "procedureReference", "procedureSequence"),
            ("supportingInfo", "valueReference", "informationSequence"),
        ] {
            let Some(entry) = list(&claim[part]).iter().find(|entry| entry[reference]["reference"] == url)
            else {
                continue;
            };
            let item = list(&claim["item"]).iter().find(|item| item[link][0] == entry["sequence"])?;
            let unit = || {
                let tenths =
                    item["factor"].as_number().map_or(10, |factor| minor_tenths(&factor.to_string()));
                Some(
                    minor(&item["unitPrice"]["value"])?
                        * item["quantity"]["value"].as_i64().unwrap_or(1)
                        * tenths
                        / 10,
                )
            };
            return minor(&item["net"]["value"]).or_else(unit);
        }
    }
    None
}

fn minor_tenths(factor: &str) -> i64 {
    factor.replace('.', "").parse().unwrap()
}

#[test]
fn a_recount_from_the_json_agrees() {
    let (mut any_unpriced, mut kinds) = (0, BTreeSet::new());
    for seed in 0..200 {
        let patient = generate(seed, &small()).unwrap();
        let all = resources(&patient);
        let mut counts = BTreeMap::new();
        for one in &all {
            *counts.entry(text(&one["resourceType"]).to_owned()).or_insert(0) += 1;
        }
        assert_eq!(counts, patient.expected.resources, "seed {seed}");
        let Expected { tests_priced, tests_unpriced, basis_minor, .. } = patient.expected;
        assert_eq!(recount(&all), (tests_priced, tests_unpriced, basis_minor), "seed {seed}");
        any_unpriced += tests_unpriced;
        kinds.extend(counts.into_keys());
    }
    assert!(any_unpriced > 50);
    assert!(kinds.contains("MedicationRequest"));
}

#[test]
fn fees_are_rounded_once_and_half_up() {
    for (basis_minor, fee) in [(10, "0.01"), (30, "0.02"), (9, "0.00"), (2_197_740, "1098.87"), (0, "0.00")] {
        assert_eq!(Expected { basis_minor, ..Expected::default() }.fee(), fee, "{basis_minor}");
    }
    for seed in 0..20 {
        let patient = generate(seed, &Options { half_cent: true, ..small() }).unwrap();
        assert!(patient.expected.is_half_cent(), "seed {seed}");
        // Half to even would round down here.
        assert_eq!(patient.expected.fee_minor() % 2, 1, "seed {seed}");
    }
}

#[test]
fn options_make_it_larger() {
    let options = Options { visits: 40, scans: 3, scan_bytes: 100_000, ..Options::default() };
    let patient = generate(7, &options).unwrap();
    assert!(patient.expected.total_resources() > 500);
    assert_eq!(patient.expected.resources["DocumentReference"], 3);
    assert!(patient.bundle_json.len() > 400_000);
    assert_eq!(resources(&patient).len() as u64, patient.expected.total_resources());
}

#[test]
fn a_folder_holds_a_bundle_a_patient() {
    let folder = tempfile::tempdir().unwrap();
    let mut told = 0;
    let written = generate_folder(&folder.path().join("patients"), 5, 3, &small(), |_, _| told += 1).unwrap();
    assert_eq!((written.len(), told), (3, 3));
    for ((path, patient), seed) in written.iter().zip(5..) {
        let expected = generate(seed, &small()).unwrap();
        assert_eq!(std::fs::read_to_string(path).unwrap(), expected.bundle_json);
        assert_eq!((&patient.id, &patient.expected), (&expected.id, &expected.expected));
    }
}

#[test]
fn lines_hold_the_same_resources_with_literal_references() {
    let mut lines = Vec::new();
    let written = generate_ndjson(&mut lines, 1, 2, &small()).unwrap();
    let lines = String::from_utf8(lines).unwrap();
    let all: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(
        all.len() as u64,
        written.iter().map(|patient| patient.expected.total_resources()).sum::<u64>()
    );
    let names: BTreeSet<String> =
        all.iter().map(|one| format!("{}/{}", text(&one["resourceType"]), text(&one["id"]))).collect();
    let mut found = Vec::new();
    all.iter().for_each(|one| references(one, &mut found));
    assert!(found.iter().all(|reference| names.contains(reference)));
    assert_eq!(written[0].expected, generate(1, &small()).unwrap().expected);
}
