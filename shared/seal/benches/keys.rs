//! What each signature and each share costs, against SHA-256 over a 64 KiB chunk in the same run.

#![expect(clippy::unwrap_used, reason = "a benchmark may stop at the first fault")]

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use handover_core::artefact::{SignatureVerifier, Signer};
use handover_core::{Digest, Timestamp, TransferId};
use handover_seal::shares::{Binding, SealedShares, Shares, open_grant_key, seal_grant_key};
use handover_seal::{Ed25519, KeyRing, OsRandom, RsaPrivateKey, SealingKey, SigningKey};

/// As long as most artefacts are.
const ARTEFACT_BYTES: usize = 1_000;

fn keys(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("keys");
    let chunk = vec![0x5a; 64 * 1024];
    group.bench_function("SHA-256 of 64 KiB (baseline)", |bencher| {
        bencher.iter(|| black_box(Digest::sha256(&[&chunk])));
    });

    let (signing, artefact) = (SigningKey::generate(&mut OsRandom), vec![0x5a; ARTEFACT_BYTES]);
    let signature = signing.sign(&artefact);
    group.bench_function("sign an artefact (Ed25519)", |bencher| {
        bencher.iter(|| black_box(signing.sign(&artefact)));
    });
    let public = signing.public();
    group.bench_function("verify an artefact (Ed25519)", |bencher| {
        bencher.iter(|| assert!(Ed25519.is_valid(&public, &artefact, &signature)));
    });

    let ring =
        KeyRing::new(RsaPrivateKey::from_pkcs8_der(include_bytes!("../src/testdata/one.pk8")).unwrap());
    let (grant, request) = (SealingKey::generate(&mut OsRandom), SealingKey::generate(&mut OsRandom));
    let binding = Binding {
        source: "lakeside".parse().unwrap(),
        destination: "riverside".parse().unwrap(),
        consent: Digest::sha256(&[b"consent"]),
        transfer: TransferId::new(Timestamp::from_millis(1), [1; 10]),
        attempt: 1,
    };
    let shares = Shares::generate(&mut OsRandom);
    let to = ring.current().public();
    let seal = || SealedShares::seal(&shares, &binding, to, &grant.public(), &mut OsRandom).unwrap();
    group.bench_function("seal both shares (RSA-3072 OAEP, HPKE)", |bencher| {
        bencher.iter(|| black_box(seal()))
    });
    let sealed = seal();
    group.bench_function("open both shares", |bencher| {
        bencher.iter(|| black_box(sealed.open(&binding, &ring, &grant).unwrap()));
    });
    group.bench_function("content key of both shares (HKDF)", |bencher| {
        bencher.iter(|| black_box(shares.content_secrets(&binding).unwrap()));
    });
    let give = || seal_grant_key(&grant, &request.public(), &binding.consent, &mut OsRandom).unwrap();
    group.bench_function("the patient's release (HPKE)", |bencher| bencher.iter(|| black_box(give())));
    let given = give();
    group.bench_function("open the patient's release", |bencher| {
        bencher
            .iter(|| black_box(open_grant_key(&request, &binding.consent, &grant.public(), &given).unwrap()));
    });
    group.finish();
}

criterion_group!(benches, keys);
criterion_main!(benches);
