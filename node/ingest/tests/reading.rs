//! Reading files: nothing lost, nothing guessed, no input that makes it fall over.

#![expect(clippy::unwrap_used, reason = "a helper that fails is a failed test")]

use std::io::{BufReader, Read};
use std::ops::ControlFlow;

use handover_ingest::source::{Item, Kind, Summary, read};
use handover_ingest::{Facts, Fault, minified_hash};
use proptest::prelude::*;

/// What was found, owned: text or fault, with its entry and line.
type Found = Vec<(Option<u64>, u64, Result<String, Fault>)>;

fn all(input: impl Read, kind: Kind) -> (Found, Summary) {
    let mut found = Vec::new();
    // A small buffer, so that values lie across its borders.
    let summary = read(BufReader::with_capacity(7, input), kind, |item| {
        found.push(match item {
            Item::Resource { place, json, .. } => (place.entry, place.line, Ok(json.to_owned())),
            Item::Unreadable { place, reason, .. } => (place.entry, place.line, Err(reason)),
        });
        ControlFlow::Continue(())
    })
    .unwrap();
    (found, summary)
}

fn texts(found: &Found) -> Vec<&str> {
    found.iter().filter_map(|(_, _, one)| one.as_deref().ok()).collect()
}

fn faults(found: &Found) -> Vec<(Option<u64>, u64, Fault)> {
    found
        .iter()
        .filter_map(|(entry, line, one)| one.clone().err().map(|fault| (*entry, *line, fault)))
        .collect()
}

const PATIENT: &str = r#"{"resourceType":"Patient","id":"p\"}"}"#;
const LIST: &str = r#"{"resourceType":"List","entry":[{"item":{"reference":"Patient/p"}},{"item":{}}]}"#;

#[test]
fn bundles_are_read_whatever_the_order_of_their_keys() {
    let entries = format!(
        r#""entry" : [ {{"fullUrl":"urn:uuid:1","resource": {PATIENT} }} ,{{"request":{{}},"resource":{LIST}}}]"#
    );
    for bundle in [
        format!(r#"{{"resourceType":"Bundle","type":"transaction",{entries}}}"#),
        format!("\u{FEFF}{{{entries},\"type\":\"batch\",\"resourceType\":\"Bundle\"}}\n"),
        format!(r#" {{"meta":{{"a":[1]}},{entries},"resourceType":"Bundle"}} "#),
    ] {
        let (found, summary) = all(bundle.as_bytes(), Kind::Json);
        assert_eq!(texts(&found), [PATIENT, LIST], "{bundle}");
        assert_eq!(found.iter().map(|one| one.0).collect::<Vec<_>>(), [Some(0), Some(1)]);
        assert_eq!((summary.resources, summary.unreadable), (2, 0));
        assert_eq!(summary.bytes, bundle.len() as u64);
    }
}

#[test]
fn the_full_url_and_the_place_are_given() {
    let bundle =
        "{\"resourceType\":\"Bundle\",\n\"entry\":[\n{\"fullUrl\":\"urn:uuid:\\u0061\",\"resource\":{}}]}";
    let mut seen = 0;
    read(bundle.as_bytes(), Kind::Json, |item| {
        if let Item::Resource { place, full_url, json } = item {
            assert_eq!((place.line, place.offset, place.bytes), (3, 36, 43));
            assert_eq!((full_url.as_deref(), json), (Some("urn:uuid:a"), "{}"));
            seen += 1;
        }
        ControlFlow::Continue(())
    })
    .unwrap();
    assert_eq!(seen, 1);
}

#[test]
fn single_resources_are_read_as_they_stand() {
    let before =
        LIST.replace(r#""resourceType":"List","#, "").replace("]}", "] , \"resourceType\":\"List\"}");
    for text in [
        PATIENT,
        LIST,
        &before,
        "{ }",
        "{\"resourceType\" : \"Bundle\",\"entry\":[ ] }",
        "{\n\"a\" : 1.50\t}",
    ] {
        let (found, _) = all(text.as_bytes(), Kind::Json);
        let expected: &[&str] = if text.contains("Bundle") { &[] } else { &[text] };
        assert_eq!(texts(&found), expected);
    }
}

#[test]
fn a_bad_entry_stops_nothing_else() {
    let bundle = "{\"resourceType\":\"Bundle\",\"entry\":[\n{\"resource\":{\"a\":tru}},\n{},\n7,\n{\"resource\":[]},\n\
                  {\"resource\":null},\n{\"resource\":{\"a\":1},\"fullUrl\":2},\n{\"resource\":{\"ok\":1}}]}";
    let (found, _) = all(bundle.as_bytes(), Kind::Json);
    assert_eq!(texts(&found), [r#"{"ok":1}"#]);
    let faults = faults(&found);
    assert!(matches!(faults[0], (Some(0), 2, Fault::BrokenJson { line: 1, .. })), "{faults:?}");
    assert_eq!(
        faults[1..],
        [
            (Some(1), 3, Fault::EmptyEntry),
            (Some(2), 4, Fault::NotAnEntry),
            (Some(3), 5, Fault::NotAnObject),
            (Some(4), 6, Fault::EmptyEntry),
            (Some(5), 7, Fault::NotAnEntry),
        ]
    );
}

#[test]
fn what_a_broken_file_held_before_the_break_stays() {
    let whole =
        format!(r#"{{"resourceType":"Bundle","entry":[{{"resource":{PATIENT}}},{{"resource":{PATIENT}}}]}}"#);
    let entry = format!(r#"{{"resource":{PATIENT}}}"#);
    for cut in 0..whole.len() {
        let (found, summary) = all(&whole.as_bytes()[..cut], Kind::Json);
        // An entry counts as soon as its last bracket was read.
        let ended = whole[..cut].matches(&entry).count();
        assert_eq!(texts(&found).len(), ended, "{cut}");
        assert_eq!(faults(&found).len(), usize::from(cut > 0), "{cut}: {found:?}");
        assert_eq!(summary.bytes, cut as u64);
    }
    let (found, _) = all(format!("{}{}", &whole[..whole.len() - 2], "}]").as_bytes(), Kind::Json);
    assert_eq!(texts(&found).len(), 2);
    assert_eq!(faults(&found), [(Some(2), 1, Fault::BrokenStructure)]);
}

#[test]
fn a_broken_line_of_ndjson_ends_with_the_line() {
    let lines = format!(
        "{PATIENT}\n{{\"a\":\n\n{{\"a\":\"b\n<xml/>\n7\n{{\"resourceType\":\"Bundle\",\"entry\":[{{\"resource\":{LIST}}}]}}\r\n{PATIENT}"
    );
    let (found, _) = all(lines.as_bytes(), Kind::NdJson);
    assert_eq!(texts(&found), [PATIENT, LIST, PATIENT]);
    assert_eq!(
        faults(&found),
        [
            (None, 2, Fault::EndsEarly),
            (None, 4, Fault::EndsEarly),
            (None, 5, Fault::Xml),
            (None, 6, Fault::NotAnObject),
        ]
    );
    let (found, _) = all(format!("{PATIENT}\n{PATIENT}{PATIENT}").as_bytes(), Kind::Json);
    assert_eq!(texts(&found).len(), 3);
    assert_eq!(Kind::of_name("a.b.NDJSON"), Kind::NdJson);
    assert_eq!(Kind::of_name("ndjson"), Kind::Json);
}

#[test]
fn limits_have_names_and_end_nothing() {
    let deep = format!("{}1{}", "[".repeat(500), "]".repeat(500));
    let head = r#"{"resourceType":"Bundle","entry":[{"resource":{"a":"#;
    let tail = format!(r#"}}}},{{"resource":{PATIENT}}}]}}"#);
    let (found, _) = all(format!("{head}{deep}{tail}").as_bytes(), Kind::Json);
    assert_eq!(texts(&found), [PATIENT]);
    assert_eq!(faults(&found), [(Some(0), 1, Fault::TooDeep)]);

    let large = std::io::repeat(b'7').take(64 * 1024 * 1024);
    let input = BufReader::with_capacity(1 << 20, head.as_bytes().chain(large).chain(tail.as_bytes()));
    let mut given = Vec::new();
    read(input, Kind::Json, |item| {
        given.push(match item {
            Item::Resource { json, .. } => Ok(json.to_owned()),
            Item::Unreadable { reason, raw, .. } => Err((reason, raw.is_some())),
        });
        ControlFlow::Continue(())
    })
    .unwrap();
    assert_eq!(given, [Err((Fault::TooLarge, false)), Ok(PATIENT.to_owned())]);
}

#[test]
fn reading_ends_when_told() {
    let mut count = 0;
    let summary = read(format!("{PATIENT}\n{PATIENT}").as_bytes(), Kind::NdJson, |_| {
        count += 1;
        ControlFlow::Break(())
    })
    .unwrap();
    assert!(count == 1 && summary.stopped);
}

#[test]
fn facts_are_read_leniently_and_judged_strictly() {
    let facts = Facts::of(
        r##"{"resourceType":"Claim","id":"c","patient":{"reference":"Patient/p"},"category":7,"type":{"coding":[{"code":"x"}]},
            "item":[{"encounter":[{"reference":"urn:uuid:E"},{"reference":"#e"},{"reference":"urn:uuid:e"}]}],
            "created":"soon","billablePeriod":{"end":"2020-02-03T04:05:06Z"}}"##,
    )
    .unwrap();
    assert_eq!(facts.patient.as_ref().map(ToString::to_string).as_deref(), Some("Patient/p"));
    assert_eq!(facts.encounters.len(), 1);
    assert_eq!((facts.day(), facts.kind.len(), facts.category.len()), (Some("2020-02-03"), 1, 0));
    assert_eq!(format!("{facts:?}"), "Facts(Claim/…)");
    for (json, fault) in [
        ("{}", Fault::NoResourceType),
        (r#"{"resourceType":"Visit"}"#, Fault::UnknownResourceType),
        (r#"{"resourceType":"Patient","id":"a b"}"#, Fault::BadId),
        (r#"{"resourceType":"Patient","id":7}"#, Fault::BadId),
        (r#"{"resourceType":"Patient","id":"a","id":"b"}"#, Fault::DuplicateKey),
        ("[]", Fault::NotAnObject),
    ] {
        assert_eq!(Facts::of(json), Err(fault), "{json}");
    }
}

#[test]
fn a_resource_without_id_gets_the_same_one_each_time() {
    let one = Facts::of(r#"{"resourceType":"Patient","gender":"female"}"#).unwrap();
    let same = Facts::of("{ \"resourceType\": \"Patient\",\n\"gender\": \"female\" }").unwrap();
    let other = Facts::of(r#"{"resourceType":"Patient","gender":"male"}"#).unwrap();
    assert_eq!(one.reference(), same.reference());
    assert_ne!(one.id, other.id);
    assert!(one.id.len() <= 64);
}

fn json() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        any::<bool>().prop_map(Into::into),
        any::<i64>().prop_map(Into::into),
        any::<String>().prop_map(Into::into),
        "[ \\\\\"{}\\[\\]\t\n]{0,8}".prop_map(Into::into),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Into::into),
            prop::collection::hash_map(any::<String>(), inner, 0..4)
                .prop_map(|map| serde_json::Value::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn any_bytes_are_read_to_their_end(bytes in prop::collection::vec(any::<u8>(), 0..200), lines: bool) {
        let (_, summary) = all(bytes.as_slice(), if lines { Kind::NdJson } else { Kind::Json });
        prop_assert_eq!(summary.bytes, bytes.len() as u64);
    }

    #[test]
    fn anything_like_json_is_read_to_its_end(text in "([\\{\\}\\[\\],: \n]|\"[a-z\\\\]*\"|\"entry\":\\[|\"resourceType\":\"Bundle\"|7){0,40}", lines: bool) {
        let (found, summary) = all(text.as_bytes(), if lines { Kind::NdJson } else { Kind::Json });
        prop_assert_eq!(summary.bytes, text.len() as u64);
        prop_assert_eq!(summary.resources + summary.unreadable, found.len() as u64);
        for one in texts(&found) {
            let _ = Facts::of(one);
        }
    }

    #[test]
    fn splitting_loses_nothing(values in prop::collection::vec(json(), 0..6), pretty: bool, type_last: bool) {
        let print = |value: &serde_json::Value| if pretty {
            serde_json::to_string_pretty(value).unwrap()
        } else {
            value.to_string()
        };
        let resources: Vec<_> = values.into_iter().map(|value| print(&serde_json::json!({ "value": value }))).collect();
        let entries: Vec<_> = resources.iter().map(|one| format!("{{ \"resource\" : {one}\n}}")).collect();
        let entries = format!("\"entry\":[{}]", entries.join(" ,"));
        let kind = "\"resourceType\":\"Bundle\"";
        let bundle = if type_last { format!("{{{entries},{kind}}}") } else { format!("{{{kind},{entries}}}") };
        let (found, summary) = all(bundle.as_bytes(), Kind::Json);
        prop_assert_eq!(texts(&found), resources);
        prop_assert_eq!(summary.unreadable, 0);
    }

    #[test]
    fn the_hash_knows_content_and_not_whitespace(value in json(), other in json()) {
        let pretty = minified_hash(&serde_json::to_string_pretty(&value).unwrap());
        prop_assert_eq!(minified_hash(&value.to_string()), pretty);
        prop_assert_eq!(pretty == minified_hash(&other.to_string()), value == other);
    }
}
