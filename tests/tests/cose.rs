//! COSE and CBOR against the outside: an independent implementation verifies our envelopes, and we verify the
//! examples of others.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a helper that fails is a failed test"
)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use coset::{CborSerializable as _, TaggedCborSerializable as _};
use handover_core::artefact::{SignatureVerifier as _, Signer as _, peek_type};
use handover_core::id::SigningPublic;
use handover_seal::{Ed25519, Secret32, SigningKey};
use handover_tests::fixture::World;
use handover_tests::fixture::catalogue::{Envelope, envelopes};
use serde_json::{Value, json};

/// Names a Python that has what `cose/requirements.txt` lists.
const PYTHON_VARIABLE: &str = "HANDOVER_PYTHON";

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Runs a command that must succeed; gives what it said.
fn run(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|fault| panic!("{command:?}: {fault}"));
    assert!(
        output.status.success(),
        "{command:?}:\n{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// The Python of the environment that was prepared, else of one that is made beside the build.
fn python() -> PathBuf {
    if let Some(prepared) = std::env::var_os(PYTHON_VARIABLE) {
        return prepared.into();
    }
    let requirements = folder().join("cose/requirements.txt");
    let wanted = fs::read_to_string(&requirements).unwrap();
    let environment = Path::new(env!("CARGO_TARGET_TMPDIR")).join("cose-python");
    let (python, installed) = (environment.join("bin/python"), environment.join("installed.txt"));
    if fs::read_to_string(&installed).is_ok_and(|found| found == wanted) {
        return python;
    }
    run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&environment));
    run(Command::new(&python).args(["-m", "pip", "install", "--quiet", "--requirement"]).arg(&requirements));
    fs::write(installed, wanted).unwrap();
    python
}

fn case(envelope: &Envelope, name: &str, bytes: &[u8], valid: bool, to: &Path) -> Value {
    let file = format!("{}-{name}.cose", envelope.name);
    fs::write(to.join(&file), bytes).unwrap();
    json!({
        "name": file,
        "envelope": file,
        "keys": envelope.keys.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "type": envelope.label,
        "payload": hex::encode(&envelope.payload),
        "valid": valid,
    })
}

/// Envelopes with one bit turned: in the header, in the payload, in the signature.
fn flipped(bytes: &[u8]) -> impl Iterator<Item = (String, Vec<u8>)> {
    [8, bytes.len() / 2, bytes.len() - 70, bytes.len() - 1].into_iter().map(|at| {
        let mut bytes = bytes.to_vec();
        bytes[at] ^= 4;
        (format!("flipped-{at}"), bytes)
    })
}

#[test]
fn an_independent_implementation_verifies_every_artefact() {
    let temporary = tempfile::tempdir().unwrap();
    let mut cases = Vec::new();
    for envelope in envelopes() {
        cases.push(case(&envelope, "honest", &envelope.bytes, true, temporary.path()));
        for (name, bytes) in flipped(&envelope.bytes) {
            assert!((envelope.open)(&bytes, &envelope.keys).is_err(), "{} {name}", envelope.name);
            cases.push(case(&envelope, &name, &bytes, false, temporary.path()));
        }
        // Another's key: the outermost signature is not that key's.
        let keys = vec![World::shared().stranger.public(); envelope.keys.len()];
        let stranger = Envelope { keys, ..envelope };
        cases.push(case(&stranger, "stranger", &stranger.bytes, false, temporary.path()));
    }
    let list = temporary.path().join("cases.json");
    fs::write(&list, serde_json::to_vec(&cases).unwrap()).unwrap();
    let said = run(Command::new(python()).arg(folder().join("cose/verify.py")).arg(&list));
    let honest = envelopes().len();
    assert_eq!(said, format!("{honest} accepted, {} refused", cases.len() - honest));
}

fn example(name: &str) -> Value {
    let path = folder().join("vectors").join(name);
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

fn hexed(value: &Value) -> Vec<u8> {
    hex::decode(value.as_str().expect("hexadecimal digits")).unwrap()
}

/// EdDSA COSE_Sign1 examples of the COSE working group (they countersign, too; that part stands in the unprotected
/// header and is not looked at).
#[test]
fn sign1_examples_of_the_cose_working_group_verify() {
    for name in ["eddsa-sign1-countersign.json", "eddsa-sign1-countersign0.json"] {
        let example = example(name);
        let key = &example["input"]["sign0"]["key"];
        let public = SigningPublic::try_from(hexed(&key["x_hex"]).as_slice()).unwrap();
        let envelope = hexed(&example["output"]["cbor"]);
        let cose = coset::CoseSign1::from_tagged_slice(&envelope).unwrap();
        let signed = hexed(&example["intermediates"]["ToBeSign_hex"]);
        assert_eq!(cose.tbs_data(b""), signed, "{name}: the Sig_structure");
        let signature = <[u8; 64]>::try_from(cose.signature.as_slice()).unwrap();
        assert!(Ed25519.is_valid(&public, &signed, &signature), "{name}");
        let secret = Secret32::from_slice(&hexed(&key["d_hex"])).unwrap();
        assert_eq!(SigningKey::from_seed(&secret).sign(&signed), signature, "{name}: the same signature");
        for bit in 0..signed.len() * 8 {
            let mut altered = signed.clone();
            altered[bit / 8] ^= 1 << (bit % 8);
            assert!(!Ed25519.is_valid(&public, &altered, &signature), "{name}: bit {bit}");
        }
        // A valid COSE_Sign1, but with other headers than ours: never an artefact.
        assert!(peek_type(&envelope).is_err(), "{name}");
    }
}

/// The same for two COSE_Sign1 structures whose signature must fail: other external data, altered payload.
#[test]
fn signatures_over_something_else_fail() {
    let example = example("eddsa-sign1-countersign.json");
    let public = hexed(&example["input"]["sign0"]["key"]["x_hex"]);
    let public = SigningPublic::try_from(public.as_slice()).unwrap();
    let mut cose = coset::CoseSign1::from_tagged_slice(&hexed(&example["output"]["cbor"])).unwrap();
    let signature = <[u8; 64]>::try_from(cose.signature.as_slice()).unwrap();
    assert!(!Ed25519.is_valid(&public, &cose.tbs_data(b"external"), &signature));
    cose.payload = Some(b"This is the content!".to_vec());
    assert!(!Ed25519.is_valid(&public, &cose.tbs_data(b""), &signature));
}

/// What is no tagged COSE_Sign1 with exactly our headers is no artefact, though it may be a fine COSE structure.
#[test]
fn other_forms_of_the_same_envelope_are_refused() {
    let consent = envelopes().into_iter().find(|it| it.name == "consent").unwrap();
    let cose = coset::CoseSign1::from_tagged_slice(&consent.bytes).unwrap();
    let refused = |what: &str, bytes: &[u8]| {
        assert!(peek_type(bytes).is_err(), "{what}");
        assert!((consent.open)(bytes, &consent.keys).is_err(), "{what}");
    };
    assert!(peek_type(&cose.clone().to_tagged_vec().unwrap()).is_ok());
    refused("untagged", &cose.clone().to_vec().unwrap());
    let mut changed = cose.clone();
    changed.unprotected.key_id = vec![1];
    refused("unprotected header", &changed.to_tagged_vec().unwrap());
    let mut changed = cose.clone();
    changed.payload = None;
    refused("detached payload", &changed.to_tagged_vec().unwrap());
    let mut changed = cose.clone();
    changed.protected.original_data = None;
    changed.protected.header.alg = Some(coset::Algorithm::Assigned(coset::iana::Algorithm::ES256));
    refused("another algorithm", &changed.to_tagged_vec().unwrap());
    let mut changed = cose.clone();
    changed.protected.original_data = None;
    changed.protected.header.rest.push((coset::Label::Int(99), coset::cbor::Value::Null));
    refused("another protected header", &changed.to_tagged_vec().unwrap());
    let mut changed = cose;
    changed.signature.push(0);
    refused("a longer signature", &changed.to_tagged_vec().unwrap());
    // d2 is tag 18 in one byte; d8 12 is the same tag, not in its shortest form.
    refused("a longer tag", &[&[0xd8, 0x12], &consent.bytes[1..]].concat());
    refused("something behind it", &[consent.bytes.as_slice(), &[0]].concat());
    refused("an indefinite array", &[&[0xd2, 0x9f], &consent.bytes[2..], &[0xff]].concat());
}
