//! The Wycheproof vectors for every primitive that this room uses. Where the room has a function for the primitive
//! the vectors go through it, else through the crate that it calls.

use aes_gcm::aead::{Aead as _, KeyInit as _, Payload};
use handover_core::artefact::SignatureVerifier as _;
use handover_core::id::SigningPublic;
use handover_seal::{Ed25519, RsaPrivateKey, SealError, Secret32, cell};
use hmac::Mac as _;
use wycheproof::TestResult;

#[test]
fn ed25519_strict() {
    let set = wycheproof::eddsa::TestSet::load(wycheproof::eddsa::TestName::Ed25519).unwrap();
    let mut count = 0;
    for group in set.test_groups {
        let key = SigningPublic::try_from(group.key.pk.as_slice()).unwrap();
        for test in group.tests {
            let valid = <[u8; 64]>::try_from(test.sig.as_slice())
                .is_ok_and(|signature| Ed25519.is_valid(&key, &test.msg, &signature));
            assert_eq!(valid, test.result == TestResult::Valid, "{} {}", test.tc_id, test.comment);
            count += 1;
        }
    }
    assert!(count > 100, "{count} vectors");
}

#[test]
fn x25519() {
    let set = wycheproof::xdh::TestSet::load(wycheproof::xdh::TestName::X25519).unwrap();
    let mut count = 0;
    for test in set.test_groups.into_iter().flat_map(|group| group.tests) {
        let (Ok(secret), Ok(public)) =
            (<[u8; 32]>::try_from(&test.private_key[..]), <[u8; 32]>::try_from(&test.public_key[..]))
        else {
            assert_ne!(test.result, TestResult::Valid, "{} {}", test.tc_id, test.comment);
            continue;
        };
        // "Acceptable" ones too: RFC 7748 prescribes their result, and HPKE refuses the all-zero one itself.
        let shared = x25519_dalek::x25519(secret, public);
        assert_eq!(&shared[..], &test.shared_secret[..], "{} {}", test.tc_id, test.comment);
        count += 1;
    }
    assert!(count > 400, "{count} vectors");
}

#[test]
fn aes_256_gcm() {
    let set = wycheproof::aead::TestSet::load(wycheproof::aead::TestName::AesGcm).unwrap();
    let groups = set
        .test_groups
        .into_iter()
        .filter(|group| (group.key_size, group.nonce_size, group.tag_size) == (256, 96, 128));
    let mut count = 0;
    for test in groups.flat_map(|group| group.tests) {
        let key = Secret32::from_slice(&test.key).unwrap();
        let sealed = [&test.ct[..], &test.tag[..]].concat();
        let as_cell = [&[1][..], &test.nonce[..], &sealed].concat();
        let opened = cell::open_cell(&key, &test.aad, &as_cell);
        if test.result == TestResult::Valid {
            assert_eq!(opened.unwrap().as_slice(), &test.pt[..], "{} {}", test.tc_id, test.comment);
            let nonce = <[u8; 12]>::try_from(&test.nonce[..]).unwrap();
            let resealed = aes_gcm::Aes256Gcm::new_from_slice(&test.key)
                .unwrap()
                .encrypt(&nonce.into(), Payload { msg: &test.pt, aad: &test.aad })
                .unwrap();
            assert_eq!(resealed, sealed, "{} {}", test.tc_id, test.comment);
        } else {
            assert!(matches!(opened, Err(SealError::CannotOpen)), "{} {}", test.tc_id, test.comment);
        }
        count += 1;
    }
    assert!(count > 50, "{count} vectors");
}

#[test]
fn hkdf_sha256() {
    let set = wycheproof::hkdf::TestSet::load(wycheproof::hkdf::TestName::HkdfSha256).unwrap();
    let mut count = 0;
    for test in set.test_groups.into_iter().flat_map(|group| group.tests) {
        let mut out = vec![0; test.size];
        let expanded =
            hkdf::Hkdf::<sha2::Sha256>::new(Some(&test.salt), &test.ikm).expand(&test.info, &mut out);
        assert_eq!(expanded.is_ok(), test.result == TestResult::Valid, "{} {}", test.tc_id, test.comment);
        if expanded.is_ok() {
            assert_eq!(out, &test.okm[..], "{} {}", test.tc_id, test.comment);
        }
        count += 1;
    }
    assert!(count > 50, "{count} vectors");
}

#[test]
fn hmac_sha256() {
    let set = wycheproof::mac::TestSet::load(wycheproof::mac::TestName::HmacSha256).unwrap();
    let mut count = 0;
    for group in set.test_groups.into_iter().filter(|group| group.tag_size == 256) {
        for test in group.tests {
            let mut mac = <hmac::Hmac<sha2::Sha256> as hmac::KeyInit>::new_from_slice(&test.key).unwrap();
            mac.update(&test.msg);
            let valid = mac.verify_slice(&test.tag).is_ok();
            assert_eq!(valid, test.result == TestResult::Valid, "{} {}", test.tc_id, test.comment);
            count += 1;
        }
    }
    assert!(count > 50, "{count} vectors");
}

#[test]
fn rsa_oaep_sha256() {
    use wycheproof::rsa_oaep::TestName;
    for name in [TestName::Rsa3072Sha256Mgf1Sha256, TestName::Rsa4096Sha256Mgf1Sha256] {
        let set = wycheproof::rsa_oaep::TestSet::load(name).unwrap();
        let mut count = 0;
        for group in set.test_groups {
            let key = RsaPrivateKey::from_pkcs8_der(&group.pkcs8).unwrap();
            for test in group.tests {
                let opened = key.unwrap(&test.ct);
                // We use no labels: what was wrapped with one must not open.
                if test.result == TestResult::Valid && test.label.is_empty() {
                    assert_eq!(opened.unwrap().as_slice(), &test.pt[..], "{} {}", test.tc_id, test.comment);
                } else {
                    assert!(matches!(opened, Err(SealError::CannotOpen)), "{} {}", test.tc_id, test.comment);
                }
                count += 1;
            }
        }
        assert!(count > 20, "{count} vectors");
    }
}
