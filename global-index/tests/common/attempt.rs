//! A further attempt of a story: asked for, sealed, delivered and released anew.

use handover_core::artefact::patient::ShareRelease;
use handover_core::artefact::transfer::{
    Delivered, KeyRelease, NextAttempt, PackageHeader, Receipt, Refusal,
};
use handover_core::artefact::{Payload, Signed, Verified};
use handover_core::codec::Extensions;
use handover_core::id::SealingPublic;
use handover_core::{Digest, rules};
use handover_seal::SigningKey;

use super::transfer::{Patient, Story};
use super::{Node, now};

/// The artefacts of one further attempt, with a fresh request key.
pub struct Attempt {
    pub next_attempt: Vec<u8>,
    pub header: Vec<u8>,
    pub delivered: Vec<u8>,
    pub key_release: Vec<u8>,
    pub share_release: Vec<u8>,
    pub receipt: Vec<u8>,
    /// The source's: it cannot make this attempt.
    pub source_refusal: Vec<u8>,
}

/// The honest artefact with something changed, and signed.
pub fn altered<T: Payload + Clone>(
    honest: &[u8],
    by: &SigningKey,
    change: impl FnOnce(&mut T),
) -> Verified<T> {
    let mut payload = Signed::<T>::read(honest).unwrap().claim().clone();
    change(&mut payload);
    Verified::sign(payload, by)
}

impl Story {
    pub fn attempt(&self, attempt: u32, patient: &Patient, source: &Node, destination: &Node) -> Attempt {
        let request_key = SealingPublic::from_bytes([u8::try_from(attempt).unwrap(); 32]);
        let shares = vec![attempt as u8; 60];
        let header = altered(&self.header, &source.signing, |it: &mut PackageHeader| {
            it.attempt = attempt;
            it.shares = rules::shares_hash(&shares);
            it.record_root = Digest::sha256(&[b"records", &attempt.to_be_bytes()]);
        });
        let next_attempt = NextAttempt {
            transfer: self.transfer,
            attempt,
            consent: header.consent,
            request_key,
            issued: now(),
            extensions: Extensions::default(),
        };
        let (hash, by) = (header.hash(), &destination.signing);
        let whole = |envelope: &[u8]| envelope.to_vec();
        Attempt {
            next_attempt: whole(Verified::sign(next_attempt, by).envelope()),
            delivered: whole(
                altered(&self.delivered, by, |it: &mut Delivered| (it.attempt, it.header) = (attempt, hash))
                    .envelope(),
            ),
            key_release: whole(
                altered(&self.key_release, &source.signing, |it: &mut KeyRelease| {
                    (it.attempt, it.header) = (attempt, hash);
                    it.shares = shares.into();
                })
                .envelope(),
            ),
            share_release: whole(
                altered(&self.share_release, &patient.signing, |it: &mut ShareRelease| {
                    it.request_key = request_key;
                })
                .envelope(),
            ),
            receipt: whole(
                altered(&self.receipt, by, |it: &mut Receipt| {
                    (it.attempt, it.header, it.record_root) = (attempt, hash, header.record_root);
                })
                .envelope(),
            ),
            source_refusal: whole(
                altered(&self.source_refusal, &source.signing, |it: &mut Refusal| it.attempt = attempt)
                    .envelope(),
            ),
            header: whole(header.envelope()),
        }
    }
}
