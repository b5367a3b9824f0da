//! Sealing and opening a manifest, in MB/s, against bare AES-256-GCM over the same chunks in the same run.

#![expect(clippy::unwrap_used, reason = "a benchmark may stop at the first fault")]

use std::hint::black_box;
use std::io::{Read, Write};

use aes_gcm::aead::{AeadInOut, KeyInit};
use aes_gcm::{Aes256Gcm, Nonce, Tag};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use handover_seal::stream::{OpenReader, PLAIN_CHUNK_BYTES, SealWriter};
use handover_seal::{Secret32, tree};

const MANIFEST_BYTES: usize = 16 * 1024 * 1024;

fn bare(cipher: &Aes256Gcm, content: &mut [u8]) -> Tag {
    let mut last = Tag::default();
    for (number, chunk) in content.chunks_mut(PLAIN_CHUNK_BYTES).enumerate() {
        let mut nonce = [0; 12];
        nonce[..8].copy_from_slice(&(number as u64).to_be_bytes());
        last = cipher.encrypt_inout_detached(&Nonce::from(nonce), b"", chunk.into()).unwrap();
    }
    last
}

fn seal(key: &Secret32, content: &[u8]) -> Vec<u8> {
    let mut writer = SealWriter::new(Vec::with_capacity(content.len() + content.len() / 1_000), key);
    writer.write_all(content).unwrap();
    writer.finish().unwrap()
}

fn streams(criterion: &mut Criterion) {
    let key = Secret32::from_bytes([7; 32]);
    let cipher = Aes256Gcm::new(&(*key.expose()).into());
    let content = vec![0x5a; MANIFEST_BYTES];
    let sealed = seal(&key, &content);
    let mut group = criterion.benchmark_group("manifest");
    group.throughput(Throughput::Bytes(MANIFEST_BYTES as u64)).sample_size(20);
    let mut scratch = content.clone();
    group.bench_function("bare AES-256-GCM (baseline)", |bencher| {
        bencher.iter(|| black_box(bare(&cipher, &mut scratch)));
    });
    group.bench_function("seal", |bencher| bencher.iter(|| black_box(seal(&key, &content))));
    group.bench_function("open", |bencher| {
        let mut opened = Vec::with_capacity(MANIFEST_BYTES);
        bencher.iter(|| {
            opened.clear();
            OpenReader::new(sealed.as_slice(), &key).read_to_end(&mut opened).unwrap();
            black_box(opened.len())
        });
    });
    group.bench_function("root and tree", |bencher| {
        bencher.iter(|| black_box(tree::outboard(sealed.as_slice(), sealed.len() as u64).unwrap().0));
    });
    group.finish();
}

criterion_group!(benches, streams);
criterion_main!(benches);
