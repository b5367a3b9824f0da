//! A patient, and every artefact of a transfer between two hospitals. What is sealed is nonsense: the index cannot
//! tell.

use handover_core::artefact::patient::{
    Ask, AskKind, Consent, ConsentMode, KeyAuthority, LOCATE_LIFE_MS, PatientKeyRecord, PatientLink,
    Revocation, ShareRelease, TRANSFER_ASK_LIFE_MS, link_code_proof,
};
use handover_core::artefact::transfer::{
    Delivered, KeyRelease, PackageHeader, Payer, Quote, Receipt, Refusal, RevocationConfirmed,
    RevocationEffect, Step, TransferRequest,
};
use handover_core::artefact::{Countersigned, Verified};
use handover_core::codec::{self, Bytes, Extensions};
use handover_core::id::SealingPublic;
use handover_core::message::KeyRecords;
use handover_core::time::DAY_MS;
use handover_core::{
    Amount, Code, Digest, HospitalId, KeyChain, PatientRef, Random, Timestamp, TransferId, rules,
};
use handover_seal::{Ed25519, OsRandom, SealingKey, SigningKey};

use super::{Node, now};

pub struct Patient {
    pub signing: SigningKey,
    pub sealing: SealingKey,
    pub record: Verified<PatientKeyRecord>,
    pub records: Vec<Bytes>,
    pub recovery: SigningKey,
}

fn extensions() -> Extensions {
    Extensions::default()
}

impl Patient {
    pub fn new() -> Self {
        Self::made(&mut OsRandom, now())
    }

    /// The same from the same random bytes, once more.
    pub fn made(random: &mut dyn Random, issued: Timestamp) -> Self {
        let signing = SigningKey::generate(random);
        let sealing = SealingKey::generate(random);
        let recovery = SigningKey::generate(random);
        let record = PatientKeyRecord {
            number: 1,
            previous: None,
            signing_key: signing.public(),
            sealing_key: sealing.public(),
            recovery_key: Some(recovery.public()),
            issued,
            authorized_by: None,
            extensions: extensions(),
        };
        let record = Verified::sign(record, &signing);
        Self { records: vec![Bytes(record.envelope().to_vec())], record, signing, sealing, recovery }
    }

    /// The same patient with another device, `after_ms` later.
    pub fn with_device(&self, authorized_by: KeyAuthority, after_ms: i64) -> Self {
        let signing = SigningKey::generate(&mut OsRandom);
        let sealing = SealingKey::generate(&mut OsRandom);
        let record = PatientKeyRecord {
            number: self.record.number + 1,
            previous: Some(self.record.hash()),
            signing_key: signing.public(),
            sealing_key: sealing.public(),
            recovery_key: None,
            issued: self.record.issued.plus_ms(after_ms),
            authorized_by: Some(authorized_by),
            extensions: extensions(),
        };
        let record = Verified::sign(record, &signing);
        let by = if authorized_by == KeyAuthority::Device { &self.signing } else { &self.recovery };
        let mut records = self.records.clone();
        records.push(Bytes(Countersigned::sign(&record, by)));
        Self { records, record, signing, sealing, recovery: SigningKey::from_seed(&self.recovery.seed()) }
    }

    /// What tells of the keys alone.
    pub fn keys(&self) -> Vec<u8> {
        codec::encode(&KeyRecords { records: self.records.clone(), extensions: extensions() })
    }

    pub fn id(&self) -> PatientRef {
        KeyChain::verify(&self.records, &Ed25519).unwrap().patient()
    }

    pub fn link(&self, hospital: &HospitalId) -> Verified<PatientLink> {
        let patient = self.id();
        let link = PatientLink {
            patient,
            hospital: hospital.clone(),
            key_records: self.records.clone(),
            code_proof: link_code_proof("1234", &patient, hospital),
            issued: now(),
            extensions: extensions(),
        };
        Verified::sign(link, &self.signing)
    }

    pub fn ask(&self, kind: AskKind) -> Ask {
        let issued = now();
        Ask {
            kind,
            patient: self.id(),
            key_records: self.records.clone(),
            nonce: OsRandom.array(),
            transfer: None,
            source: None,
            destination: None,
            issued,
            expires: issued.plus_ms(LOCATE_LIFE_MS),
            extensions: extensions(),
        }
    }

    pub fn sign_ask(&self, ask: Ask) -> Verified<Ask> {
        Verified::sign(ask, &self.signing)
    }
}

/// Every artefact of one transfer, in order.
pub struct Story {
    pub transfer: TransferId,
    pub request: Vec<u8>,
    pub quote: Vec<u8>,
    pub consent: Vec<u8>,
    pub header: Vec<u8>,
    pub delivered: Vec<u8>,
    pub key_release: Vec<u8>,
    pub share_release: Vec<u8>,
    pub receipt: Vec<u8>,
    pub revocation: Vec<u8>,
    /// The destination signs that it opens nothing any more.
    pub taken_back: Vec<u8>,
    /// The destination's: it cannot file.
    pub refusal: Vec<u8>,
    /// The destination opened nothing, because the consent was taken back.
    pub unopened: Vec<u8>,
    /// The source's.
    pub source_refusal: Vec<u8>,
}

pub fn dollars(minor: i64) -> Amount {
    Amount::from_minor(minor, "USD".parse().unwrap())
}

/// Every order of `0..count`, in which copies of artefacts may come.
pub fn orders(count: usize) -> Vec<Vec<usize>> {
    if count == 0 {
        return vec![vec![]];
    }
    let shorter = orders(count - 1);
    let with = |order: &Vec<usize>, at: usize| {
        let mut order = order.clone();
        order.insert(at, count - 1);
        order
    };
    shorter.iter().flat_map(|order| (0..count).map(move |at| with(order, at))).collect()
}

impl Story {
    /// A story in which the header's fee and the receipt's can differ.
    pub fn new(patient: &Patient, source: &Node, destination: &Node, fee: i64, stated: i64) -> Self {
        let transfer = TransferId::new(now(), OsRandom.array());
        let request_key = SealingPublic::from_bytes([9; 32]);
        let ask = patient.sign_ask(Ask {
            transfer: Some(transfer),
            source: Some(source.id.clone()),
            destination: Some(destination.id.clone()),
            expires: now().plus_ms(TRANSFER_ASK_LIFE_MS),
            ..patient.ask(AskKind::Transfer)
        });
        let request = TransferRequest {
            transfer,
            source: source.id.clone(),
            destination: destination.id.clone(),
            ask: Bytes(ask.envelope().to_vec()),
            request_key,
            sealed: Bytes(vec![1; 100]),
            issued: now(),
            extensions: extensions(),
        };
        let request = Verified::sign(request, &destination.signing);
        let issued = now();
        let quote = Quote {
            transfer,
            patient: patient.id(),
            source: source.id.clone(),
            destination: destination.id.clone(),
            request: request.hash(),
            commitment: Digest::sha256(&[b"body"]),
            sealed: Bytes(vec![2; 100]),
            narrows: None,
            request_key,
            issued,
            expires: issued.plus_ms(DAY_MS),
            referral: None,
            sealed_to_payer: None,
            priced: issued,
            continues: None,
            extensions: extensions(),
        };
        let quote = Verified::sign(quote, &source.signing);
        let secret = [7; 32];
        let consent = Consent {
            transfer,
            patient: patient.id(),
            key_record: patient.record.hash(),
            quote: quote.hash(),
            source: source.id.clone(),
            destination: destination.id.clone(),
            destination_key: destination.signing.public().thumbprint(),
            details: Digest::sha256(&[b"details"]),
            sealed_to_source: Bytes(vec![3; 500]),
            sealed_to_destination: Bytes(vec![4; 500]),
            not_before: now(),
            expires: now().plus_ms(DAY_MS),
            mode: ConsentMode::OneTime,
            fee_cap: dollars(10_000),
            grant_key: SealingPublic::from_bytes([8; 32]),
            revocation: Digest::sha256(&[&secret]),
            issued: now(),
            extensions: extensions(),
        };
        let consent = Verified::sign(consent, &patient.signing);
        let shares = vec![5; 600];
        let header = PackageHeader {
            transfer,
            attempt: 1,
            source: source.id.clone(),
            destination: destination.id.clone(),
            consent: consent.hash(),
            quote: quote.hash(),
            suite: 1,
            shares: rules::shares_hash(&shares),
            parts: Digest::sha256(&[b"parts"]),
            record_root: Digest::sha256(&[b"records"]),
            fee: dollars(fee),
            payer: Payer::Patient,
            commitment: Digest::sha256(&[b"key"]),
            issued: now(),
            extensions: extensions(),
        };
        let header = Verified::sign(header, &source.signing);
        let delivered = Delivered {
            transfer,
            attempt: 1,
            header: header.hash(),
            destination: destination.id.clone(),
            issued: now(),
            extensions: extensions(),
        };
        let key_release = KeyRelease {
            transfer,
            attempt: 1,
            header: header.hash(),
            shares: Bytes(shares),
            issued: now(),
            extensions: extensions(),
        };
        let share_release = ShareRelease {
            transfer,
            consent: consent.hash(),
            patient: patient.id(),
            destination: destination.id.clone(),
            sealed: Bytes(vec![6; 80]),
            issued: now(),
            request_key,
            extensions: extensions(),
        };
        let receipt = Receipt {
            transfer,
            attempt: 1,
            header: header.hash(),
            consent: consent.hash(),
            record_root: header.record_root,
            fee: dollars(stated),
            issued: now(),
            extensions: extensions(),
        };
        let revocation =
            Revocation { transfer, consent: consent.hash(), preimage: secret, extensions: extensions() };
        let taken_back = RevocationConfirmed {
            transfer,
            consent: consent.hash(),
            by: destination.id.clone(),
            since: now(),
            effect: RevocationEffect::InTime,
            extensions: extensions(),
        };
        let refusal = |by: &Node, step, code| {
            let refusal =
                Refusal { transfer, step, code, issued: now(), attempt: 1, extensions: extensions() };
            Verified::sign(refusal, &by.signing).envelope().to_vec()
        };
        Self {
            transfer,
            refusal: refusal(destination, Step::Filing, Code::PackageMismatch),
            unopened: refusal(destination, Step::Filing, Code::ConsentRevoked),
            source_refusal: refusal(source, Step::Release, Code::PackageMismatch),
            request: request.envelope().to_vec(),
            quote: quote.envelope().to_vec(),
            consent: consent.envelope().to_vec(),
            header: header.envelope().to_vec(),
            delivered: Verified::sign(delivered, &destination.signing).envelope().to_vec(),
            key_release: Verified::sign(key_release, &source.signing).envelope().to_vec(),
            share_release: Verified::sign(share_release, &patient.signing).envelope().to_vec(),
            receipt: Verified::sign(receipt, &destination.signing).envelope().to_vec(),
            revocation: codec::encode(&revocation),
            taken_back: Verified::sign(taken_back, &destination.signing).envelope().to_vec(),
        }
    }

    /// What the hospitals bring, in order, and whether the source does.
    pub fn steps(&self) -> [(&Vec<u8>, bool); 8] {
        [
            (&self.request, false),
            (&self.quote, true),
            (&self.consent, false),
            (&self.header, true),
            (&self.delivered, false),
            (&self.key_release, true),
            (&self.share_release, false),
            (&self.receipt, false),
        ]
    }

    /// Everything up to both releases, in order.
    pub fn handover(&self) -> [&Vec<u8>; 7] {
        let steps = self.steps();
        std::array::from_fn(|at| steps[at].0)
    }
}
