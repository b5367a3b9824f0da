//! A small federation in memory: a root, an index, two operators, two hospitals; and what hospitals sign.

use std::sync::OnceLock;

use handover_core::artefact::federation::{
    Authority, AuthorityCertificate, DIRECTORY_LIFE_MS, Directory, DirectoryEntry, DirectoryPiece,
    FeeSchedule, HospitalCertificate, HospitalProfile, Status, StatusOrder, WholeDirectory,
};
use handover_core::artefact::patient::Scope;
use handover_core::artefact::transfer::{DepartmentCount, Payer, Quote, QuoteBody, TransferRequest};
use handover_core::artefact::{Countersigned, Verified};
use handover_core::codec::{self, Bytes, Extensions};
use handover_core::message::{HospitalInfo, InboxItem, QUOTE_INFO};
use handover_core::time::DAY_MS;
use handover_core::transfer::{Phase, State};
use handover_core::{Digest, Edition, HospitalId, Timestamp, TransferId};
use handover_seal::{KeyRing, OsRandom, RsaPrivateKey, SealingKey, SigningKey, hpke_seal_padded};

use crate::{PatientKeys, Wallet};

pub(crate) const NOW: Timestamp = Timestamp::from_millis(1_795_250_096_789);

pub(crate) fn rsa_keys() -> &'static [RsaPrivateKey; 2] {
    static KEYS: OnceLock<[RsaPrivateKey; 2]> = OnceLock::new();
    KEYS.get_or_init(|| [(); 2].map(|()| RsaPrivateKey::generate(&mut OsRandom).unwrap()))
}

pub(crate) fn ring(hospital: usize) -> KeyRing {
    KeyRing::new(RsaPrivateKey::from_pkcs8_der(rsa_keys()[hospital].pkcs8_der()).unwrap())
}

pub(crate) fn key() -> SigningKey {
    SigningKey::generate(&mut OsRandom)
}

/// Hospital 0 is the source, 1 the destination.
pub(crate) struct World {
    pub(crate) root: SigningKey,
    index: SigningKey,
    operators: [SigningKey; 2],
    pub(crate) hospitals: [SigningKey; 2],
    pub(crate) status: [Status; 2],
    pub(crate) version: u64,
    /// When its directory was issued.
    pub(crate) issued: Timestamp,
}

pub(crate) fn hospital(which: usize) -> HospitalId {
    ["lakeside", "hilltop"][which].parse().unwrap()
}

impl World {
    pub(crate) fn new() -> Self {
        Self {
            root: key(),
            index: key(),
            operators: [key(), key()],
            hospitals: [key(), key()],
            status: [Status::Active; 2],
            version: 1,
            issued: NOW,
        }
    }

    fn certified(&self, authority: Authority, key: &SigningKey) -> Bytes {
        let certificate = AuthorityCertificate {
            authority,
            name: "someone".to_owned(),
            key: key.public(),
            not_before: NOW.plus_ms(-DAY_MS),
            not_after: NOW.plus_ms(1000 * DAY_MS),
            extensions: Extensions::default(),
        };
        Bytes(Verified::sign(certificate, &self.root).envelope().to_vec())
    }

    fn entry(&self, which: usize) -> DirectoryEntry {
        let key = &self.hospitals[which];
        let certificate = HospitalCertificate {
            hospital: hospital(which),
            name: format!("Hospital {which}"),
            key: key.public(),
            not_before: NOW.plus_ms(-DAY_MS),
            not_after: NOW.plus_ms(1000 * DAY_MS),
            extensions: Extensions::default(),
        };
        let order = StatusOrder {
            hospital: hospital(which),
            key: key.public().thumbprint(),
            status: self.status[which],
            number: 1,
            reason: String::new(),
            issued: NOW,
            extensions: Extensions::default(),
        };
        let order = Verified::sign(order, &self.operators[0]);
        let profile = HospitalProfile {
            reads: Edition::FIRST,
            hospital: hospital(which),
            number: 1,
            name: format!("Hospital {which}"),
            rsa_key: Bytes(rsa_keys()[which].public().spki_der().to_vec()),
            addresses: Vec::new(),
            patient_url: String::new(),
            currency: "USD".parse().unwrap(),
            jurisdiction: "US".to_owned(),
            issued: NOW,
            extensions: Extensions::default(),
        };
        DirectoryEntry {
            certificate: Bytes(Verified::sign(certificate, &self.root).envelope().to_vec()),
            status: Bytes(Countersigned::sign(&order, &self.operators[1])),
            profile: Bytes(Verified::sign(profile, key).envelope().to_vec()),
            former: None,
            extensions: Extensions::default(),
        }
    }

    /// What the node of a hospital says of itself.
    pub(crate) fn info(&self, which: usize) -> HospitalInfo {
        let mut hospitals = vec![(hospital(0), self.entry(0)), (hospital(1), self.entry(1))];
        hospitals.sort_by(|one, other| one.0.cmp(&other.0));
        let hospitals = hospitals.into_iter().map(|(_, entry)| entry).collect();
        let piece = codec::encode(&DirectoryPiece { hospitals, extensions: Extensions::default() });
        let directory = Directory {
            edition: Edition::FIRST,
            version: self.version,
            issued: self.issued,
            expires: self.issued.plus_ms(DIRECTORY_LIFE_MS),
            indexes: vec![self.certified(Authority::Index, &self.index)],
            operators: self.operators.iter().map(|key| self.certified(Authority::Operator, key)).collect(),
            pieces: vec![Digest::sha256(&[&piece])],
            schedules: vec![Bytes(Countersigned::sign(
                &Verified::sign(FeeSchedule::percentage(NOW), &self.operators[0]),
                &self.operators[1],
            ))],
            log_size: 0,
            log_root: Digest::sha256(&[]),
            addresses: Vec::new(),
            extensions: Extensions::default(),
        };
        let directory = WholeDirectory {
            head: Bytes(Verified::sign(directory, &self.index).envelope().to_vec()),
            pieces: vec![Bytes(piece)],
            extensions: Extensions::default(),
        };
        HospitalInfo { directory, hospital: hospital(which), extensions: Extensions::default() }
    }

    pub(crate) fn wallet(&self) -> Wallet {
        Wallet::new(PatientKeys::generate(key().public(), NOW, &mut OsRandom).unwrap(), self.root.public())
    }
}

pub(crate) fn body(departments: &[(&str, u64)]) -> QuoteBody {
    QuoteBody {
        scope: Scope::everything(),
        departments: departments
            .iter()
            .map(|(name, records)| DepartmentCount {
                department: name.parse().unwrap(),
                records: *records,
                extensions: Extensions::default(),
            })
            .collect(),
        records: departments.iter().map(|(_, records)| records).sum(),
        bytes: 1000,
        lines: Vec::new(),
        unpriced: 0,
        basis: "250.00".to_owned(),
        rate_bps: 500,
        fee: "12.50 USD".parse().unwrap(),
        payer: Payer::Patient,
        versions: Digest::sha256(&[]),
        salt: [7; 16],
        other_tests: None,
        restricted: 0,
        extensions: Extensions::default(),
    }
}

/// What both hospitals make of an ask: the inbox item with request and quote, and the request's secret key.
pub(crate) struct Hospitals {
    pub(crate) item: InboxItem,
    pub(crate) request_key: SealingKey,
}

impl Hospitals {
    pub(crate) fn answer(
        world: &World,
        wallet: &Wallet,
        transfer: TransferId,
        ask: &[u8],
        body: &QuoteBody,
    ) -> Self {
        Self::answer_with(world, wallet, transfer, ask, body, Digest::sha256(&[&codec::encode(body)]))
    }

    pub(crate) fn answer_with(
        world: &World,
        wallet: &Wallet,
        transfer: TransferId,
        ask: &[u8],
        body: &QuoteBody,
        commitment: Digest,
    ) -> Self {
        let request_key = SealingKey::generate(&mut OsRandom);
        let request = TransferRequest {
            transfer,
            source: hospital(0),
            destination: hospital(1),
            ask: Bytes(ask.to_vec()),
            request_key: request_key.public(),
            sealed: Bytes::default(),
            issued: NOW,
            extensions: Extensions::default(),
        };
        let request = Verified::sign(request, &world.hospitals[1]);
        let sealed = hpke_seal_padded(
            &wallet.keys.sealing.public(),
            QUOTE_INFO,
            transfer.as_bytes(),
            &codec::encode(body),
            &mut OsRandom,
        )
        .unwrap();
        let quote = Quote {
            transfer,
            patient: wallet.keys.patient(),
            source: hospital(0),
            destination: hospital(1),
            request: request.hash(),
            commitment,
            sealed: sealed.into(),
            narrows: None,
            request_key: request_key.public(),
            issued: NOW,
            expires: NOW.plus_ms(14 * DAY_MS),
            referral: None,
            sealed_to_payer: None,
            priced: NOW,
            continues: None,
            extensions: Extensions::default(),
        };
        let quote = Verified::sign(quote, &world.hospitals[0]);
        let item = InboxItem {
            transfer,
            state: State::of(Phase::Quoted),
            source: hospital(0),
            destination: hospital(1),
            request: Some(Bytes(request.envelope().to_vec())),
            quote: Some(Bytes(quote.envelope().to_vec())),
            final_quote: None,
            consent: None,
            confirmations: Vec::new(),
            updated: NOW,
            next_attempt: None,
            continues: None,
            origin_quote: None,
            recalls: Vec::new(),
            extensions: Extensions::default(),
        };
        Self { item, request_key }
    }
}
