//! The rules of which tests count and what they cost, case by case.

#![expect(clippy::unwrap_used, reason = "a helper that fails is a failed test")]

use handover_core::{Code, Currency};
use handover_ingest::charges::{Assessment, Assessor, Catalogue, ChargeError, PriceList, PriceSource};

const CATALOGUE: &str = "system,code,display,class,is_test\n\
    http://loinc.org,24321-2,Basic metabolic panel,laboratory,Y\n\
    http://loinc.org,69409-1,Death certificate,administrative,N\n\
    http://snomed.info/sct,168594001,Clavicle X-ray,imaging,Y\n\
    http://snomed.info/sct,23745001,Documentation,administrative,N\n";
const PRICES: &str = "Code_Source,Code,Price,Price_Date\n\
    LOINC,24321-2,48.23,01-01-2019\nLOINC,24321-2,60.00,01-01-2022\nSNOMED,168594001,300,01-01-2019\nLOINC,2339-0,10.005,01-01-2019\n";

fn usd() -> Currency {
    "USD".parse().unwrap()
}

fn assess_with(catalogue: &str, resources: &[&str]) -> Result<Assessment, ChargeError> {
    let catalogue = if catalogue.is_empty() {
        Catalogue::default()
    } else {
        Catalogue::from_csv(catalogue.as_bytes()).unwrap()
    };
    let prices = PriceList::from_csv(PRICES.as_bytes(), usd()).unwrap();
    let mut forward = Assessor::new(&catalogue, &prices);
    let mut backward = Assessor::new(&catalogue, &prices);
    resources.iter().for_each(|one| forward.add(one, None, true).unwrap());
    resources.iter().rev().for_each(|one| backward.add(one, None, true).unwrap());
    let result = forward.finish();
    assert_eq!(backward.finish(), result, "the order of resources decides nothing");
    result
}

fn assess(resources: &[&str]) -> Assessment {
    assess_with(CATALOGUE, resources).unwrap()
}

/// Reference, amount, source of each line.
fn lines(assessment: &Assessment) -> Vec<(&str, Option<String>, PriceSource)> {
    let line = |line: &handover_ingest::charges::Line| line.amount.map(|amount| amount.to_string());
    assessment.lines.iter().map(|one| (one.reference.as_str(), line(one), one.source)).collect()
}

fn report(id: &str, status: &str, code: &str, day: &str, results: &str) -> String {
    format!(
        r#"{{"resourceType":"DiagnosticReport","id":"{id}","status":"{status}","effectiveDateTime":"{day}",
            "code":{{"coding":[{{"system":"http://loinc.org","code":"{code}","display":"Panel"}}]}},"result":[{results}]}}"#
    )
}

fn procedure(id: &str, status: &str, code: &str) -> String {
    format!(
        r#"{{"resourceType":"Procedure","id":"{id}","status":"{status}","performedPeriod":{{"start":"2020-01-01T08:00:00+01:00"}},
            "code":{{"coding":[{{"system":"http://snomed.info/sct","code":"{code}"}}]}}}}"#
    )
}

fn observation(id: &str, status: &str, category: &str) -> String {
    format!(
        r#"{{"resourceType":"Observation","id":"{id}","status":"{status}","category":[{{"coding":[{{"code":"{category}"}}]}}],
            "code":{{"coding":[{{"system":"http://loinc.org","code":"2339-0"}}]}}}}"#
    )
}

fn claim(id: &str, status: &str, purpose: &str, kind: &str, procedure: &str, item: &str) -> String {
    format!(
        r#"{{"resourceType":"Claim","id":"{id}","status":"{status}","use":"{purpose}","type":{{"coding":[{{"code":"{kind}"}}]}},
            "procedure":[{{"sequence":1,"procedureReference":{{"reference":"{procedure}"}}}}],
            "supportingInfo":[{{"sequence":1,"valueReference":{{"reference":"urn:uuid:r"}}}},
                              {{"sequence":2,"valueReference":{{"reference":"Immunization/i"}}}}],
            "total":{{"value":99999,"currency":"USD"}},"item":[{item}]}}"#
    )
}

fn net(amount: &str) -> String {
    format!(r#"{{"sequence":1,"procedureSequence":[1],"net":{{"value":{amount},"currency":"USD"}}}}"#)
}

#[test]
fn reports_count_unless_the_catalogue_says_no() {
    let made = ["final", "amended", "corrected", "preliminary", "entered-in-error", "cancelled"]
        .map(|status| report(status, status, "24321-2", "2020-01-01", ""));
    let death = report("death", "final", "69409-1", "2020-01-01", "");
    let unknown = report("unknown", "final", "1-1", "2023-01-01", "");
    let mut all: Vec<&str> = made.iter().map(String::as_str).collect();
    all.extend([death.as_str(), unknown.as_str()]);
    let found = assess(&all);
    let listed = Some("48.23".to_owned());
    assert_eq!(
        lines(&found),
        [
            ("DiagnosticReport/amended", listed.clone(), PriceSource::PriceList),
            ("DiagnosticReport/corrected", listed.clone(), PriceSource::PriceList),
            ("DiagnosticReport/final", listed, PriceSource::PriceList),
            ("DiagnosticReport/unknown", None, PriceSource::Unpriced),
        ]
    );
    assert_eq!(
        (found.unpriced, found.basis.to_string(), found.currency),
        (1, "144.69".to_owned(), Some(usd()))
    );
    // Without a catalogue every report counts, and no procedure.
    let without = assess_with("", &[&death, &unknown, &procedure("p", "completed", "168594001")]).unwrap();
    assert_eq!((without.lines.len(), without.unpriced, without.currency), (2, 2, None));
}

#[test]
fn procedures_count_if_the_catalogue_says_yes() {
    let found = assess(&[
        &procedure("yes", "completed", "168594001"),
        &procedure("no", "completed", "23745001"),
        &procedure("unknown", "completed", "1"),
        &procedure("planned", "in-progress", "168594001"),
    ]);
    assert_eq!(lines(&found), [("Procedure/yes", Some("300".to_owned()), PriceSource::PriceList)]);
    assert_eq!(found.lines[0].date.as_deref(), Some("2020-01-01"));
}

#[test]
fn observations_count_if_they_are_laboratory_and_alone() {
    let found = assess(&[
        &report(
            "r",
            "final",
            "24321-2",
            "2022-01-01",
            r#"{"reference":"urn:uuid:part"},{"reference":"Observation/other"}"#,
        ),
        &report("void", "preliminary", "24321-2", "2022-01-01", r#"{"reference":"Observation/early"}"#),
        &observation("part", "final", "laboratory"),
        &observation("other", "final", "laboratory"),
        &observation("early", "final", "laboratory"),
        &observation("alone", "final", "laboratory"),
        &observation("pulse", "final", "vital-signs"),
        &observation("open", "preliminary", "laboratory"),
    ]);
    assert_eq!(
        lines(&found),
        [
            ("Observation/alone", Some("10.005".to_owned()), PriceSource::PriceList),
            ("DiagnosticReport/r", Some("60".to_owned()), PriceSource::PriceList),
        ]
    );
}

#[test]
fn a_claim_item_goes_before_the_price_list() {
    let test = procedure("p", "completed", "168594001");
    let bill = |item: &str| claim("c", "active", "claim", "institutional", "urn:uuid:p", item);
    for (item, amount) in [
        (net("129.160000000000001"), "129.160000000000001"),
        (r#"{"sequence":1,"procedureSequence":[1],"unitPrice":{"value":10.10,"currency":"USD"},"quantity":{"value":3},"factor":0.5}"#.to_owned(), "15.15"),
        (r#"{"sequence":1,"procedureSequence":[1],"unitPrice":{"value":10.10}}"#.to_owned(), "10.1"),
        (net("-5"), "300"),
        (net("\"5\""), "300"),
        (r#"{"sequence":1,"procedureSequence":[1]}"#.to_owned(), "300"),
        (r#"{"sequence":1,"diagnosisSequence":[1],"net":{"value":5}}"#.to_owned(), "300"),
        (format!("{},{}", net("7"), net("8")), "7"),
    ] {
        let found = assess(&[&test, &bill(&item)]);
        assert_eq!(found.basis.to_string(), amount, "{item}");
        assert_eq!(found.lines.len(), 1);
    }
}

#[test]
fn claims_that_bill_nothing_are_passed_over() {
    let test = procedure("p", "completed", "168594001");
    for other in [
        claim("c", "cancelled", "claim", "institutional", "Procedure/p", &net("5")),
        claim("c", "active", "preauthorization", "institutional", "Procedure/p", &net("5")),
        claim("c", "active", "claim", "pharmacy", "Procedure/p", &net("5")),
        claim("c", "active", "claim", "institutional", "Procedure/other", &net("5")),
        claim("c", "active", "claim", "institutional", "Procedure/p", &net("5"))
            .replace("\"Claim\"", "\"ExplanationOfBenefit\""),
    ] {
        assert_eq!(assess(&[&test, &other]).basis.to_string(), "300", "{other}");
    }
}

#[test]
fn information_pays_for_reports_and_never_for_immunizations() {
    let item = r#"{"sequence":1,"informationSequence":[2],"net":{"value":140.52,"currency":"USD"}},
                  {"sequence":2,"informationSequence":[1],"net":{"value":20,"currency":"USD"}}"#;
    let found = assess(&[
        r#"{"resourceType":"Immunization","id":"i","status":"completed"}"#,
        &report("r", "final", "24321-2", "2020-01-01", ""),
        &claim("c", "active", "claim", "institutional", "Procedure/p", item),
    ]);
    assert_eq!(lines(&found), [("DiagnosticReport/r", Some("20".to_owned()), PriceSource::Claim)]);
}

#[test]
fn an_item_pays_for_one_test() {
    let first = procedure("a", "completed", "168594001");
    let second = procedure("b", "completed", "168594001");
    let both = r#"{"resourceType":"Claim","id":"c","status":"active","use":"claim",
        "procedure":[{"sequence":1,"procedureReference":{"reference":"Procedure/a"}},{"sequence":2,"procedureReference":{"reference":"Procedure/b"}}],
        "item":[{"sequence":1,"procedureSequence":[1,2],"net":{"value":7}}]}"#;
    let found = assess(&[&first, &second, both]);
    assert_eq!(found.basis.to_string(), "307");
}

#[test]
fn other_names_of_a_test_are_known() {
    let catalogue = Catalogue::from_csv(CATALOGUE.as_bytes()).unwrap();
    let prices = PriceList::empty(usd());
    let mut assessor = Assessor::new(&catalogue, &prices);
    let test = procedure("p", "completed", "168594001");
    let bill = claim("c", "active", "claim", "institutional", "urn:uuid:X", &net("5"));
    assessor.add(&bill, None, true).unwrap();
    assessor.add(&test, Some("urn:uuid:x"), true).unwrap();
    assert_eq!(assessor.finish().unwrap().basis.to_string(), "5");
}

#[test]
fn what_others_did_is_no_test_here() {
    let catalogue = Catalogue::default();
    let prices = PriceList::empty(usd());
    let mut assessor = Assessor::new(&catalogue, &prices);
    assessor.add(&report("r", "final", "24321-2", "2020-01-01", ""), None, false).unwrap();
    let found = assessor.finish().unwrap();
    assert_eq!((found.lines.len(), found.unpriced, found.basis.to_string()), (0, 0, "0".to_owned()));
}

#[test]
fn currencies_are_not_mixed() {
    let euro = net("5").replace("USD", "EUR");
    let found = assess_with(
        CATALOGUE,
        &[
            &procedure("p", "completed", "168594001"),
            &report("r", "final", "24321-2", "2020-01-01", ""),
            &claim("c", "active", "claim", "institutional", "Procedure/p", &euro),
        ],
    );
    let fault = found.unwrap_err();
    assert_eq!(fault.code(), Code::MixedCurrencies);
    assert_eq!(fault.to_string(), "the priced tests are in more than one currency: {EUR, USD}");
}
