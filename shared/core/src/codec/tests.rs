//! The codec, case by case.

use super::*;

cbor_map! {
    /// A map for the tests.
    struct Sample {
        /// A number.
        1 => number: u32,
        /// A text that may be absent.
        2 => text: Option<String>,
        /// Bytes.
        3 => bytes: Bytes,
    }
}

fn sample() -> Sample {
    Sample { number: 500, text: None, bytes: vec![1, 2].into(), extensions: Extensions::default() }
}

#[test]
fn round_trips_with_golden_bytes() {
    let bytes = encode(&sample());
    assert_eq!(hex::encode(&bytes), "a2011901f403420102");
    assert_eq!(decode::<Sample>(&bytes, 64), Ok(sample()));
}

#[test]
fn refuses_every_other_encoding() {
    for (hexed, fault) in [
        ("a2011a000001f403420102", DecodeError::NotCanonical),
        ("bf011901f403420102ff", DecodeError::NotCanonical),
        ("a203420102011901f4", DecodeError::NotCanonical),
        ("a3011901f4011901f403420102", DecodeError::NotCanonical),
        ("a2011901f403420102 00", DecodeError::Malformed),
        ("a2011901f4", DecodeError::Malformed),
        ("a3002001011901f403420102", DecodeError::Malformed),
    ] {
        let bytes = hex::decode(hexed.replace(' ', "")).unwrap();
        assert_eq!(decode::<Sample>(&bytes, 64), Err(fault), "{hexed}");
    }
    assert!(matches!(decode::<Sample>(&[0; 65], 64), Err(DecodeError::TooLarge { .. })));
}

#[test]
fn keeps_unknown_extensions_and_refuses_critical_ones() {
    let with_extension = hex::decode("a300a10761780119 01f403420102".replace(' ', "")).unwrap();
    let decoded = decode::<Sample>(&with_extension, 64).unwrap();
    assert_eq!(encode(&decoded), with_extension);
    let critical = hex::decode("a300a12661780119 01f403420102".replace(' ', "")).unwrap();
    assert_eq!(decode::<Sample>(&critical, 64), Err(DecodeError::CriticalExtension(-7)));
}
