//! What the index shows over HTTPS.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "tests and their helpers"
)]

mod common;

use common::transfer::{Patient, Story};
use common::{LIMIT, Realm};
use handover_core::ledger::checkpoint::Checkpoint;
use handover_index::keys::CERTIFICATE_FILE;
use handover_seal::Ed25519;

/// Status and body of a page; the certificate is self-signed and made for another name.
fn get(url: String) -> (u16, Vec<u8>) {
    let provider = std::sync::Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let tls = ureq::tls::TlsConfig::builder()
        .unversioned_rustls_crypto_provider(provider)
        .disable_verification(true)
        .build();
    let config = ureq::Agent::config_builder().tls_config(tls).http_status_as_error(false).build();
    let mut response = ureq::Agent::new_with_config(config).get(&url).call().unwrap();
    (response.status().as_u16(), response.body_mut().read_to_vec().unwrap())
}

async fn page(realm: &Realm, path: &str) -> (u16, Vec<u8>) {
    let url = format!("{}{path}", realm.index().ready().web);
    tokio::task::spawn_blocking(move || get(url)).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn health_metrics_checkpoint_and_directory_are_public() {
    let realm = Realm::new().await;
    let _hospital = realm.hospital("lakeside", 1).await;
    let (status, _) = page(&realm, "/health").await;
    assert_eq!(status, 200);

    let (_, directory) = page(&realm, "/v1/directory").await;
    let head = realm.verify(&directory);
    let (_, piece) = page(&realm, &format!("/v1/directory/pieces/{}", head.directory().pieces[0])).await;
    assert_eq!(head.complete(&[piece], None, &Ed25519).unwrap().members().count(), 1);
    let unknown = format!("/v1/directory/pieces/{}", handover_core::Digest::sha256(&[]));
    assert_eq!(page(&realm, &unknown).await.0, 503);

    let (_, note) = page(&realm, "/v1/checkpoint").await;
    let certificate = std::fs::read(realm.config.data.join(CERTIFICATE_FILE)).unwrap();
    let certificate = handover_core::trust::authority(
        &certificate,
        handover_core::artefact::federation::Authority::Index,
        &realm.root.public(),
        common::now(),
        &Ed25519,
    );
    let note = String::from_utf8(note).unwrap();
    let checkpoint = Checkpoint::open(&note, "index.test", &certificate.unwrap().key, &Ed25519).unwrap();
    assert_eq!(checkpoint.size, 0);

    let (_, metrics) = page(&realm, "/metrics").await;
    let metrics = String::from_utf8(metrics).unwrap();
    assert!(metrics.contains("handover_index_requests_total{verb=\"enrol\",outcome=\"ok\"} 1"), "{metrics}");
    assert_eq!(page(&realm, "/v1/nothing").await.0, 404);
}

/// A fee that waits for two operators makes nobody unwell, and is told until they have settled it.
#[tokio::test(flavor = "multi_thread")]
async fn health_and_metrics_tell_of_fees_that_are_held() {
    let realm = Realm::new().await;
    let source = realm.hospital("source", 1).await;
    let destination = realm.hospital("destination", 2).await;
    let story = Story::new(&Patient::new(), &source, &destination, 500, 500);
    for content in story.handover() {
        source.send(&realm, None, content).await.unwrap();
    }
    destination.send(&realm, None, &story.refusal).await.unwrap();
    let told = async {
        loop {
            let (status, health) = page(&realm, "/health").await;
            assert_eq!(status, 200);
            let health: serde_json::Value = serde_json::from_slice(&health).unwrap();
            if health["components"]["holds"] == "fees-held" {
                break;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(LIMIT, told).await.unwrap();
    let (_, metrics) = page(&realm, "/metrics").await;
    let metrics = String::from_utf8(metrics).unwrap();
    assert!(metrics.contains("handover_index_fees_held{} 1"), "{metrics}");
    assert!(!metrics.contains("handover_index_fees_held_since{} 0"), "{metrics}");
}
