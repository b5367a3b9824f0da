use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};

use super::*;

struct Key(SigningKey);

impl Signer for Key {
    fn public(&self) -> SigningPublic {
        SigningPublic::from_bytes(self.0.verifying_key().to_bytes())
    }

    fn sign(&self, message: &[u8]) -> [u8; 64] {
        self.0.sign(message).to_bytes()
    }
}

struct Strict;

impl SignatureVerifier for Strict {
    fn is_valid(&self, key: &SigningPublic, message: &[u8], signature: &[u8; 64]) -> bool {
        VerifyingKey::from_bytes(key.as_bytes())
            .is_ok_and(|key| key.verify_strict(message, &Signature::from_bytes(signature)).is_ok())
    }
}

const ORIGIN: &str = "index.example/ledger";

fn key() -> Key {
    Key(SigningKey::from_bytes(&[42; 32]))
}

fn checkpoint() -> Checkpoint {
    Checkpoint {
        origin: ORIGIN.into(),
        size: 20_852_163,
        root: Digest::sha256(&[b"root"]),
        extensions: vec![],
    }
}

/// The example of Go's `sumdb/note` package, from which the format comes.
#[test]
fn opens_the_published_note() {
    let note = "If you think cryptography is the answer to your problem,\n\
        then you don't know what your problem is.\n\n\
        — PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n";
    let vkey = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";
    let encoded = BASE64.decode(vkey.rsplit('+').next().unwrap()).unwrap();
    let key = SigningPublic::try_from(&encoded[1..]).unwrap();
    assert_eq!(verifier_key("PeterNeumann", &key).unwrap(), vkey);
    let text = open_note(note, "PeterNeumann", &key, &Strict).unwrap();
    assert!(note.starts_with(text) && text.ends_with("problem is.\n"));
    let altered = note.replace("think", "thank");
    let other = open_note(&altered, "PeterNeumann", &key, &Strict);
    assert_eq!(other, Err(NoteError::BadSignature("PeterNeumann".into())));
}

#[test]
fn a_checkpoint_has_a_golden_form() {
    let note = checkpoint().sign(&key()).unwrap();
    assert_eq!(note, GOLDEN);
    assert_eq!(Checkpoint::open(&note, ORIGIN, &key().public(), &Strict), Ok(checkpoint()));
    let extended = Checkpoint { extensions: vec!["directory 7 abc".into()], ..checkpoint() };
    let note = extended.sign(&key()).unwrap();
    assert_eq!(Checkpoint::open(&note, ORIGIN, &key().public(), &Strict), Ok(extended));
}

const GOLDEN: &str = "index.example/ledger\n\
20852163\n\
SBNJTRN+FjG7owHVrKtue7eqdM4RhdRWVl71HXN2d7I=\n\n\
— index.example/ledger DFr+4f7XUo+QE94OYjY2IivlZmpgFl5KMM4u6myRyTVn8r/ocH0XQ5WSIfNawEUmt5WKtOpba36/aP64t0+o93HX4gg=\n";

#[test]
fn other_notes_are_refused() {
    let note = checkpoint().sign(&key()).unwrap();
    let public = key().public();
    let open = |note: &str| Checkpoint::open(note, ORIGIN, &public, &Strict);
    let signed = |text: &str| sign_note(text, ORIGIN, &key()).unwrap();
    let root = BASE64.encode([1; 32]);
    for (note, fault) in [
        (note.replace("20852163", "20852164"), NoteError::BadSignature(ORIGIN.into())),
        (note.replace("— index", "— other"), NoteError::NotSigned(ORIGIN.into())),
        (note.replace("— ", "- "), NoteError::Malformed("a signature line")),
        (note.trim_end().to_owned(), NoteError::Malformed("the signatures do not end their last line")),
        (note.replace('2', "\r"), NoteError::Malformed("control characters")),
        ("x".repeat(MAX_NOTE_BYTES + 1), NoteError::Malformed("too large")),
        (String::new(), NoteError::Malformed("no signatures")),
        ("a\n\n".into(), NoteError::Malformed("the signatures do not end their last line")),
        (signed(&format!("other.example\n1\n{root}\n")), NoteError::Malformed("another origin")),
        (signed(&format!("{ORIGIN}\n01\n{root}\n")), NoteError::Malformed("size")),
        (signed(&format!("{ORIGIN}\n-1\n{root}\n")), NoteError::Malformed("size")),
        (signed(&format!("{ORIGIN}\n1\nAAAA\n")), NoteError::Malformed("root")),
        (signed(&format!("{ORIGIN}\n1\n")), NoteError::Malformed("root")),
    ] {
        assert_eq!(open(&note), Err(fault), "{note}");
    }
    let other = SigningPublic::from_bytes(SigningKey::from_bytes(&[43; 32]).verifying_key().to_bytes());
    assert_eq!(Checkpoint::open(&note, ORIGIN, &other, &Strict), Err(NoteError::NotSigned(ORIGIN.into())));
    for bad in ["", "two words", "a+b", "line\n"] {
        assert_eq!(Checkpoint { origin: bad.into(), ..checkpoint() }.sign(&key()), Err(NoteError::Name));
    }
}
