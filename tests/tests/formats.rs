//! Golden bytes: every artefact and every other format that is sent or stored is, byte for byte, what it was when it
//! was agreed on; and what was agreed on is still read.

use std::collections::BTreeSet;

use handover_tests::fixture::catalogue::{envelopes, formats};
use handover_tests::golden;

/// All or nothing: every format that changed is named at once.
fn no_faults(faults: &[String]) {
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

#[test]
fn formats_are_what_they_were() {
    let named = envelopes().into_iter().map(|it| (it.name, it.bytes));
    let named = named.chain(formats().into_iter().map(|it| (it.name, it.bytes)));
    let faults: Vec<_> = named
        .filter_map(|(name, bytes)| {
            golden::write_if_asked(name, &bytes).and_then(|()| golden::compare(name, &bytes)).err()
        })
        .map(|fault| fault.to_string())
        .collect();
    no_faults(&faults);
}

#[test]
fn what_was_agreed_on_is_still_read() {
    for envelope in envelopes() {
        let golden = golden::read(envelope.name).unwrap();
        let opened = (envelope.open)(&golden, &envelope.keys);
        assert_eq!(opened.as_ref(), Ok(&envelope.payload), "{}", envelope.name);
    }
    for format in formats() {
        let golden = golden::read(format.name).unwrap();
        assert_eq!((format.again)(&golden).as_ref(), Ok(&golden), "{}", format.name);
    }
}

#[test]
fn every_golden_file_is_compared() {
    let named: BTreeSet<String> = envelopes()
        .iter()
        .map(|it| it.name)
        .chain(formats().iter().map(|it| it.name))
        .map(|name| format!("{name}.hex"))
        .collect();
    let there: BTreeSet<String> = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/golden"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    assert_eq!(there, named, "a golden file without a format, or a format without one");
}

#[test]
fn a_changed_byte_is_named() {
    let consent = envelopes().into_iter().find(|it| it.name == "consent").unwrap();
    let mut changed = consent.bytes;
    changed[200] ^= 1;
    let fault = golden::compare("consent", &changed).unwrap_err().to_string();
    assert!(fault.contains("consent: byte 200 ") && fault.contains("new version"), "{fault}");
}

#[test]
fn every_kind_has_its_own_label_with_a_version() {
    let mut labels: Vec<&str> = envelopes().iter().map(|it| it.label).collect();
    for label in &labels {
        let (kind, version) = label.rsplit_once('/').unwrap();
        assert!(kind.starts_with("handover/") && version.parse::<u32>().is_ok(), "{label}");
    }
    labels.sort_unstable();
    labels.dedup();
    // Two kinds of ask and of consent, four of quote and three of key records stand for one label each.
    assert_eq!(labels.len(), envelopes().len() - 7);
}
