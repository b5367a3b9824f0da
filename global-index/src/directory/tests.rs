use std::sync::Arc;

use handover_core::artefact::federation::{
    Authority, AuthorityCertificate, DirectoryEntry, DirectoryPiece, HospitalCertificate,
};
use handover_core::id::SigningPublic;
use handover_core::time::DAY_MS;
use handover_seal::{Secret32, SigningKey};
use handover_store::{CellKey, Store};

use super::*;
use crate::keepsakes::Keepsakes;

const NOW: Timestamp = Timestamp::from_millis(1_795_250_096_789);

fn key(seed: u8) -> SigningKey {
    SigningKey::from_seed(&Secret32::from_bytes([seed; 32]))
}

fn certificate(authority: Authority, name: String, key: SigningPublic) -> Verified<AuthorityCertificate> {
    let certificate = AuthorityCertificate {
        authority,
        name,
        key,
        not_before: NOW,
        not_after: NOW.plus_ms(DAY_MS),
        extensions: Extensions::default(),
    };
    Verified::sign(certificate, &self::key(1))
}

fn seat() -> Seat {
    let authority = certificate(Authority::Index, "index".to_owned(), key(2).public());
    Seat {
        root: key(1).public(),
        signer: Arc::new(key(2)),
        certificate: authority.envelope().to_vec(),
        authority: (*authority).clone(),
        keepsakes: Keepsakes::of(&Secret32::from_bytes([3; 32])),
    }
}

#[tokio::test]
async fn versions_count_up_and_the_newest_is_found_again() {
    let store = Store::memory(&CellKey::from_bytes([1; 32]));
    let (keys, book) = (store.keys(), Book::new(store.keys()));
    let made = store
        .write(move |txn| {
            let time = u64::try_from(NOW.as_millis()).unwrap();
            for version in time..time + 3 {
                assert_eq!(rebuild(txn, &keys, &seat(), &book, None, (None, NOW))?.version(), version);
            }
            load(txn, &keys, &seat(), NOW)
        })
        .await
        .unwrap()
        .unwrap();
    assert_eq!(made.version(), u64::try_from(NOW.as_millis()).unwrap() + 2);
    assert!(!made.is_stale(NOW) && made.is_stale(NOW.plus_ms(REFRESH_AFTER_MS)));
}

/// None is made in its place by a store that may have been rolled back.
#[tokio::test]
async fn one_that_outlived_the_indexes_certificate_still_tells_who_is_who() {
    let store = Store::memory(&CellKey::from_bytes([1; 32]));
    let (keys, book) = (store.keys(), Book::new(store.keys()));
    let (made, found) = store
        .write::<_, DirectoryError, _>(move |txn| {
            let made = rebuild(txn, &keys, &seat(), &book, None, (None, NOW))?.version();
            Ok((made, load(txn, &keys, &seat(), NOW.plus_ms(2 * DAY_MS))?))
        })
        .await
        .unwrap();
    assert_eq!(found.unwrap().version(), made);
}

/// Also if the directory has to be made anew.
#[tokio::test]
async fn an_edition_that_was_in_force_is_so_again_with_its_directory() {
    Edition::rehearse();
    let in_memory = || Store::memory(&CellKey::from_bytes([1; 32]));
    let (whole, restored) = (in_memory(), in_memory());
    let (keys, book) = (whole.keys(), Book::new(whole.keys()));
    let raised = whole.write::<_, DirectoryError, _>(move |txn| {
        rebuild(txn, &keys, &seat(), &book, None, (None, NOW))?;
        rebuild(txn, &keys, &seat(), &book, None, (Some(Edition::last()), NOW))
    });
    let raised = raised.await.unwrap();
    assert!(raised.edition() > Edition::FIRST);
    let (keys, book) = (restored.keys(), Book::new(restored.keys()));
    let anew = restored.write::<_, DirectoryError, _>(move |txn| {
        assert_eq!(rebuild(txn, &keys, &seat(), &book, None, (None, NOW))?.edition(), Edition::FIRST);
        let back = put_back(txn, &keys, raised.federation())?;
        assert_eq!(back.map(|back| back.version()), Some(raised.version()));
        rebuild(txn, &keys, &seat(), &book, None, (None, NOW))
    });
    assert_eq!(anew.await.unwrap().edition(), Edition::last());
}

#[tokio::test]
async fn a_directory_never_loses_a_hospital() {
    let store = Store::memory(&CellKey::from_bytes([1; 32]));
    let (keys, book) = (store.keys(), Book::new(store.keys()));
    let lost = store
        .write::<(), DirectoryError, _>(move |txn| {
            let first = rebuild(txn, &keys, &seat(), &book, None, (None, NOW))?;
            let certificate = HospitalCertificate {
                hospital: "lakeside".parse().unwrap(),
                name: "A hospital".to_owned(),
                key: key(3).public(),
                not_before: NOW,
                not_after: NOW.plus_ms(DAY_MS),
                extensions: Extensions::default(),
            };
            let mut before = (**first.federation().directory()).clone();
            let entry = DirectoryEntry {
                certificate: Bytes(Verified::sign(certificate, &key(1)).envelope().to_vec()),
                status: Bytes(Vec::new()),
                profile: Bytes(Vec::new()),
                former: None,
                extensions: Extensions::default(),
            };
            let piece = DirectoryPiece { hospitals: vec![entry], extensions: Extensions::default() };
            let piece = handover_core::codec::encode(&piece);
            let digest = Digest::sha256(&[&piece]);
            before.pieces = vec![digest];
            let before = Verified::sign(before, &key(2));
            cells::put_pieces(txn, &keys.space("directory-head"), before.envelope())?;
            cells::put_pieces(txn, &keys.space("directory-piece").raw(digest.as_bytes()), &piece)?;
            rebuild(txn, &keys, &seat(), &book, None, (None, NOW)).map(drop)
        })
        .await;
    assert!(matches!(lost, Err(DirectoryError::Dropped(hospital)) if hospital.as_str() == "lakeside"));
}

#[tokio::test]
async fn what_does_not_fit_into_a_message_is_refused_and_changes_nothing() {
    let store = Store::memory(&CellKey::from_bytes([1; 32]));
    let (keys, book) = (store.keys(), Book::new(store.keys()));
    let outcome = store
        .write::<(), registry::RegistryError, _>(move |txn| {
            for number in 0..70_u8 {
                let name = "x".repeat(16 * 1024);
                let operator = certificate(Authority::Operator, name, key(number).public());
                registry::add_operator(txn, &keys, operator.envelope(), &key(1).public(), NOW)?;
            }
            rebuild(txn, &keys, &seat(), &book, None, (None, NOW))?;
            Ok(())
        })
        .await;
    let fault = outcome.unwrap_err();
    assert_eq!(fault.code(), Code::TooLarge);
    assert!(fault.to_string().contains("no more hospitals"));
    let keys = store.keys();
    let held = store.read(move |txn| load(txn, &keys, &seat(), NOW)).await.unwrap();
    assert!(held.is_none());
}
