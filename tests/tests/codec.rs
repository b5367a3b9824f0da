//! The codec against everything: the examples of RFC 8949, arbitrary bytes, golden bytes with something turned, and
//! values that were generated.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a helper that fails is a failed test")]

use handover_core::artefact::patient::{Consent, Revocation, Scope};
use handover_core::artefact::{ArtefactError, Signed, Verified, peek_type};
use handover_core::codec::{self, Bytes, DecodeError, Extensions, MAX_DEPTH, MAX_MESSAGE_BYTES};
use handover_core::message::{Answer, Request, Verb};
use handover_core::{Code, Department, HospitalId, Timestamp, TransferId, cbor_map, rules, verify};
use handover_dossier::transfer_of;
use handover_seal::{Ed25519, part};
use handover_tests::fixture::catalogue::{Envelope, Format, envelopes, formats};
use handover_tests::fixture::{Plan, Story, T0, World};
use proptest::prelude::*;

cbor_map! {
    /// Nothing but extensions, in which anything may stand that the codec lets through.
    pub struct Open {}
}

/// `{0: {1: item}}`: the item in an unknown extension.
fn in_extension(item: &[u8]) -> Vec<u8> {
    [&[0xa1, 0x00, 0xa1, 0x01], item].concat()
}

fn decode_item(hexed: &str) -> Result<(), DecodeError> {
    let bytes = in_extension(&hex::decode(hexed).unwrap());
    let open: Open = codec::decode(&bytes, MAX_MESSAGE_BYTES)?;
    assert_eq!(codec::encode(&open), bytes, "{hexed}");
    Ok(())
}

/// RFC 8949, appendix A: integers up to 64 bits, strings, arrays, maps, booleans and null, in their shortest and
/// definite form.
const TAKEN: &str = "00 01 0a 17 1818 1819 1864 1903e8 1a000f4240 1b000000e8d4a51000 1bffffffffffffffff \
    3bffffffffffffffff 20 29 3863 3903e7 f4 f5 f6 40 4401020304 60 6161 6449455446 62225c 62c3bc 63e6b0b4 \
    64f0908591 80 83010203 8301820203820405 98190102030405060708090a0b0c0d0e0f101112131415161718181819 a0 \
    a201020304 a26161016162820203 826161a161626163 a56161614161626142616361436164614461656145";

/// RFC 8949, appendix A: tags (big numbers among them), floats, undefined and other simple values, indefinite
/// lengths.
const REFUSED: &str = "c249010000000000000000 c349010000000000000000 c074323031332d30332d32315432303a30343a30305a \
    c11a514b67b0 c1fb41d452d9ec200000 d74401020304 d818456449455446 \
    d82076687474703a2f2f7777772e6578616d706c652e636f6d \
    f90000 f98000 f93c00 fb3ff199999999999a f93e00 f97bff fa47c35000 fa7f7fffff fb7e37e43c8800759c f90001 f90400 \
    f9c400 fbc010666666666666 f97c00 f97e00 f9fc00 fa7f800000 fa7fc00000 faff800000 fb7ff0000000000000 \
    fb7ff8000000000000 fbfff0000000000000 f7 f0 f818 f8ff \
    5f42010243030405ff 7f657374726561646d696e67ff 9fff 9f018202039f0405ffff 9f01820203820405ff 83018202039f0405ff \
    83019f0203ff820405 9f0102030405060708090a0b0c0d0e0f101112131415161718181819ff bf61610161629f0203ffff \
    826161bf61626163ff bf6346756ef563416d7421ff";

#[test]
fn rfc_8949_appendix_a() {
    assert_eq!(
        TAKEN.split_whitespace().count() + REFUSED.split_whitespace().count(),
        82,
        "the whole appendix"
    );
    for item in TAKEN.split_whitespace() {
        assert_eq!(decode_item(item), Ok(()), "{item}");
    }
    for item in REFUSED.split_whitespace() {
        assert!(decode_item(item).is_err(), "{item}");
    }
}

/// Of two versions that work beside each other one knows less: it says so, and takes it for no damage.
#[test]
fn what_a_later_version_asks_and_answers_is_named() {
    let bytes = |text: &str| hex::decode(text).unwrap();
    assert_eq!(Request::decode(&bytes("a20119270f0280")), Err(Code::OlderProgram), "verb 9999");
    assert_eq!(Request::decode(&bytes("a30101028003f6")), Err(Code::Malformed), "a key too many");
    assert_eq!(Request::decode(&bytes("a201192710")), Err(Code::Malformed), "cut off");
    assert_eq!(Answer::decode(&bytes("a20168612d6e65772d6e6f0280")), Err(Code::OlderProgram), "a-new-no");
}

/// RFC 8949, section 3: not well-formed (appendix F), and well-formed in another than the shortest form.
#[test]
fn what_is_not_well_formed_or_not_shortest_is_refused() {
    for item in [
        "", "18", "19", "1a0000", "5f", "5fff00", "61", "7f61", "81", "a1", "a101", "c0", "f8", "f9", "1c",
        "1d", "1e", "1f", "3c", "3f", "5c", "7c", "9c", "bc", "df", "fc", "fd", "fe", "ff", "8200ff", "a1ff",
        "61ff", "62c328", "0000", "f800", "f81f",
    ] {
        assert!(decode_item(item).is_err(), "{item}");
    }
    for item in [
        "1800",
        "190017",
        "1a00000017",
        "1b0000000000000017",
        "3800",
        "580100",
        "780161",
        "980100",
        "b8010000",
    ] {
        assert_eq!(decode_item(item), Err(DecodeError::NotCanonical), "{item}");
    }
    // Keys twice, and in another order.
    for item in ["a200000001", "a201000000", "a2616200616100", "a220000100"] {
        assert_eq!(decode_item(item), Err(DecodeError::NotCanonical), "{item}");
    }
}

/// Lengths that nobody can have sent are refused without reserving memory for them.
#[test]
fn great_lengths_cost_nothing() {
    for item in
        ["5bffffffffffffffff", "7b7fffffffffffffff", "9bffffffffffffffff", "bb00ffffffffffffff", "9a7fffffff"]
    {
        assert_eq!(decode_item(item), Err(DecodeError::Malformed), "{item}");
        let bytes = hex::decode(item).unwrap();
        assert!(codec::decode::<Open>(&bytes, MAX_MESSAGE_BYTES).is_err());
        assert!(
            peek_type(&bytes).is_err() && peek_type(&[&[0xd2, 0x84], bytes.as_slice()].concat()).is_err()
        );
    }
}

#[test]
fn depth_and_size_are_bounded() {
    // The map, its extensions and the item itself are three levels.
    let nested = |levels: usize| [vec![0x81; levels - 1], vec![0x80]].concat();
    let take = |levels| codec::decode::<Open>(&in_extension(&nested(levels)), MAX_MESSAGE_BYTES).map(|_| ());
    assert_eq!(take(MAX_DEPTH - 2), Ok(()));
    assert_eq!(take(MAX_DEPTH - 1), Err(DecodeError::TooDeep));
    assert!(take(MAX_MESSAGE_BYTES - 16).is_err(), "no stack runs over");
    assert!(
        peek_type(&vec![0x81; MAX_MESSAGE_BYTES]).is_err()
            && peek_type(&vec![0xd2; MAX_MESSAGE_BYTES]).is_err()
    );

    let oversized = vec![0; MAX_MESSAGE_BYTES + 1];
    let too_large = DecodeError::TooLarge { bytes: MAX_MESSAGE_BYTES + 1, max: MAX_MESSAGE_BYTES };
    assert_eq!(codec::decode::<Open>(&oversized, MAX_MESSAGE_BYTES), Err(too_large.clone()));
    assert_eq!(Signed::<Consent>::read(&oversized).err(), Some(ArtefactError::Payload(too_large)));
    assert_eq!(Signed::<Consent>::read(&oversized).unwrap_err().code(), Code::TooLarge);
}

/// An artefact of a later version carries what this one does not know: kept, signed and passed on as it came;
/// refused if it must be known.
#[test]
fn extensions_of_a_signed_artefact() {
    let story = Story::tell(Plan::opaque(1));
    let with = |extension: &[u8]| {
        let bytes = [&[0xb2, 0x00, 0xa1], extension, &codec::encode(&*story.consent)[1..]].concat();
        codec::decode::<Consent>(&bytes, MAX_MESSAGE_BYTES)
    };
    let extended = with(&[0x07, 0x61, 0x78]).unwrap();
    assert_ne!(extended.extensions, Extensions::default());
    let signed = Verified::sign(extended.clone(), &story.patient.signing);
    let read = Signed::<Consent>::read(signed.envelope()).unwrap();
    assert_eq!(*read.claim(), extended);
    let (on, quote) = (story.evidence(), &story.quote);
    let verified = rules::consent(signed.envelope(), &on, quote, World::context()).unwrap();
    assert_eq!(verified.hash(), signed.hash());
    assert_ne!(verified.hash(), story.consent.hash(), "the extension is part of what was signed");

    assert_eq!(with(&[0x26, 0x61, 0x78]), Err(DecodeError::CriticalExtension(-7)));
    assert!(with(&[0x61, 0x61, 0x00]).is_err(), "a key that is no number");
}

/// Every bit of an envelope counts.
fn no_bit_can_be_turned(envelope: &Envelope, step: usize) {
    let mut bytes = envelope.bytes.clone();
    for at in (0..bytes.len() * 8).step_by(step) {
        bytes[at / 8] ^= 1 << (at % 8);
        assert!((envelope.open)(&bytes, &envelope.keys).is_err(), "{}: bit {at}", envelope.name);
        bytes[at / 8] ^= 1 << (at % 8);
    }
    assert!((envelope.open)(&bytes, &envelope.keys).is_ok());
}

#[test]
fn no_bit_of_the_small_artefacts_can_be_turned() {
    for envelope in envelopes().iter().filter(|it| it.bytes.len() <= 700) {
        no_bit_can_be_turned(envelope, 1);
    }
}

#[test]
fn no_byte_of_the_large_artefacts_can_be_turned() {
    for envelope in envelopes().iter().filter(|it| it.bytes.len() > 700) {
        no_bit_can_be_turned(envelope, 7);
    }
}

/// Whoever reads bytes from outside.
fn every_reader(bytes: &[u8]) {
    let world = World::shared();
    let _ = peek_type(bytes);
    let _ = transfer_of(bytes);
    let _ = Request::decode(bytes);
    let _ = Answer::decode(bytes);
    let _ = part::open_part(&world.lakeside.ring, b"", bytes);
    let _ = verify::verify(bytes, &world.root.public(), &Ed25519);
    for format in formats_cached() {
        if let Ok(again) = (format.again)(bytes) {
            assert_eq!(again, bytes, "{}", format.name);
        }
    }
    for envelope in envelopes_cached() {
        if (envelope.open)(bytes, &envelope.keys).is_ok() {
            // Two artefacts of one kind and signer open each other's bytes; anything else is forged.
            let is_known = envelopes_cached().iter().any(|known| known.bytes == bytes);
            assert!(is_known, "{}: other bytes were accepted", envelope.name);
        }
    }
}

fn formats_cached() -> &'static [Format] {
    static FORMATS: std::sync::OnceLock<Vec<Format>> = std::sync::OnceLock::new();
    FORMATS.get_or_init(formats)
}

fn envelopes_cached() -> &'static [Envelope] {
    static ENVELOPES: std::sync::OnceLock<Vec<Envelope>> = std::sync::OnceLock::new();
    ENVELOPES.get_or_init(envelopes)
}

/// Golden bytes with a few bytes replaced, a piece cut out or doubled.
fn mutated() -> impl Strategy<Value = Vec<u8>> {
    let golden: Vec<Vec<u8>> = envelopes_cached()
        .iter()
        .map(|it| it.bytes.clone())
        .chain(envelopes_cached().iter().map(|it| it.payload.clone()))
        .chain(formats_cached().iter().map(|it| it.bytes.clone()))
        .filter(|bytes| bytes.len() < 3_000)
        .collect();
    let edits = proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4);
    let cut = (any::<prop::sample::Index>(), 0..40_usize, any::<bool>());
    (prop::sample::select(golden), edits, cut).prop_map(|(mut bytes, edits, (at, length, doubled))| {
        for (index, byte) in edits {
            let at = index.index(bytes.len());
            bytes[at] = byte;
        }
        let at = at.index(bytes.len());
        let piece: Vec<u8> = bytes[at..].iter().take(length).copied().collect();
        let kept = if doubled { at } else { at + piece.len() };
        [&bytes[..at], if doubled { &piece } else { &[] }, &bytes[kept..]].concat()
    })
}

fn any_scope() -> impl Strategy<Value = Scope> {
    let department = "[a-z]{2,12}".prop_map(|name| name.parse::<Department>().unwrap());
    let departments = proptest::option::of(proptest::collection::vec(department, 0..6));
    let time = || proptest::option::of(any::<i64>().prop_map(Timestamp::from_millis));
    (departments, time(), time(), any::<bool>()).prop_map(|(departments, from, until, without_restricted)| {
        Scope { departments, from, until, without_restricted, extensions: Extensions::default() }
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_reader_falls_over_arbitrary_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        every_reader(&bytes);
        every_reader(&[&[0xd2, 0x84], bytes.as_slice()].concat());
        every_reader(&in_extension(&bytes));
    }

    #[test]
    fn no_reader_falls_over_mutated_golden_bytes(bytes in mutated()) {
        every_reader(&bytes);
    }

    #[test]
    fn scopes_come_back(scope in any_scope()) {
        prop_assert_eq!(codec::decode::<Scope>(&codec::encode(&scope), MAX_MESSAGE_BYTES), Ok(scope));
    }

    #[test]
    fn a_scope_within_another_holds_no_more(
        one in any_scope(), other in any_scope(), at in proptest::option::of(any::<i64>().prop_map(Timestamp::from_millis)),
        restricted in any::<bool>(),
    ) {
        let departments = one.departments.iter().chain(&other.departments).flatten();
        for department in departments {
            if one.is_within(&other) && one.contains(department, at, restricted) {
                prop_assert!(other.contains(department, at, restricted));
            }
        }
    }

    #[test]
    fn control_messages_come_back(
        verb in prop::sample::select(Verb::ALL),
        items in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..100), 0..6),
        code in prop::sample::select(Code::ALL),
    ) {
        let request = Request::decode(&Request::encode(verb, items.clone())).unwrap();
        prop_assert_eq!(request.verb, verb);
        prop_assert_eq!(request.items, items.iter().cloned().map(Bytes).collect::<Vec<_>>());
        prop_assert_eq!(Answer::decode(&Answer::encode(Ok(items.clone()))), Ok(items));
        prop_assert_eq!(Answer::decode(&Answer::encode(Err(code))), Err(code));
    }

    #[test]
    fn unsigned_revocations_come_back(random in any::<[u8; 10]>(), consent in any::<[u8; 32]>(), preimage in any::<[u8; 32]>()) {
        let revocation = Revocation {
            transfer: TransferId::new(T0, random),
            consent: handover_core::Digest::from_bytes(consent),
            preimage,
            extensions: Extensions::default(),
        };
        let bytes = codec::encode(&revocation);
        prop_assert_eq!(transfer_of(&bytes), Ok(revocation.transfer));
        prop_assert_eq!(codec::decode::<Revocation>(&bytes, MAX_MESSAGE_BYTES), Ok(revocation));
    }

    #[test]
    fn what_is_no_hospital_is_never_one(text in ".{0,50}") {
        if let Ok(hospital) = text.parse::<HospitalId>() {
            prop_assert_eq!(hospital.as_str(), text);
        }
    }
}
