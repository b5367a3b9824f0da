//! A directory of thousands of hospitals, as the realm's index would have signed it.

use handover_core::artefact::federation::{
    DIRECTORY_LIFE_MS, Directory, DirectoryEntry, DirectoryPiece, WholeDirectory, pieces_for, place_of,
};
use handover_core::artefact::{Countersigned, Verified};
use handover_core::codec::{self, Bytes, Extensions};
use handover_core::trust::Federation;
use handover_core::{Digest, HospitalId};
use handover_seal::{Secret32, SigningKey};

use super::{DAY_MS, Edition, HospitalCertificate, HospitalProfile, Realm, Status, StatusOrder, now, rsa};

/// The hospital with this number, and its key.
pub fn hospital(number: usize) -> (HospitalId, SigningKey) {
    let name = format!("hospital-{number:05}");
    let seed = *Digest::sha256(&[name.as_bytes()]).as_bytes();
    (name.parse().unwrap(), SigningKey::from_seed(&Secret32::from_bytes(seed)))
}

/// What two operators order of it.
pub fn order(realm: &Realm, of: usize, status: Status, number: u64) -> Vec<u8> {
    let (hospital, key) = hospital(of);
    let order = StatusOrder {
        hospital,
        key: key.public().thumbprint(),
        status,
        number,
        reason: "test".to_owned(),
        issued: now(),
        extensions: Extensions::default(),
    };
    Countersigned::sign(&Verified::sign(order, &realm.operators[0]), &realm.operators[1])
}

fn entry(realm: &Realm, number: usize) -> (HospitalId, DirectoryEntry) {
    let (hospital, key) = hospital(number);
    let certificate = HospitalCertificate {
        hospital: hospital.clone(),
        name: format!("Hospital {number}"),
        key: key.public(),
        not_before: now().plus_ms(-DAY_MS),
        not_after: now().plus_ms(1_000 * DAY_MS),
        extensions: Extensions::default(),
    };
    let host = format!("hospital-{number:05}.example.org");
    let profile = HospitalProfile {
        reads: Edition::FIRST,
        hospital: hospital.clone(),
        number: 1,
        name: format!("Hospital {number}"),
        rsa_key: Bytes(rsa().public().spki_der().to_vec()),
        addresses: vec![
            format!("/dns4/{host}/tcp/4001/p2p/12D3KooWAbcdefghijklmnopqrstuvwxyzabcdefghijklmnopqr"),
            format!("/dns4/{host}/udp/4001/quic-v1/p2p/12D3KooWAbcdefghijklmnopqrstuvwxyzabcdefghijklmnopqr"),
        ],
        patient_url: format!("https://{host}:8443"),
        currency: "USD".parse().unwrap(),
        jurisdiction: "US".to_owned(),
        issued: now(),
        extensions: Extensions::default(),
    };
    let entry = DirectoryEntry {
        certificate: Bytes(Verified::sign(certificate, &realm.root).envelope().to_vec()),
        status: Bytes(order(realm, number, Status::Suspended, 1)),
        profile: Bytes(Verified::sign(profile, &key).envelope().to_vec()),
        former: None,
        extensions: Extensions::default(),
    };
    (hospital, entry)
}

/// The directory in force with so many hospitals more, all of them suspended.
pub fn with(realm: &Realm, current: &Federation, count: usize) -> WholeDirectory {
    let known = current.places().flat_map(|place| current.entries(place).unwrap());
    let known = known.map(|(entry, member)| (member.certificate.hospital.clone(), entry));
    let mut hospitals: Vec<_> = known.chain((0..count).map(|number| entry(realm, number))).collect();
    hospitals.sort_by(|one, other| one.0.cmp(&other.0));
    let mut places = vec![Vec::new(); pieces_for(hospitals.len()).unwrap()];
    let all = places.len();
    for (hospital, entry) in hospitals {
        places[place_of(&hospital, all)].push(entry);
    }
    let encode = |hospitals| codec::encode(&DirectoryPiece { hospitals, extensions: Extensions::default() });
    let pieces: Vec<Vec<u8>> = places.into_iter().map(encode).collect();
    let (held, issued) = ((**current.directory()).clone(), now());
    let head = Directory {
        version: u64::try_from(issued.as_millis()).unwrap().max(held.version + 1),
        issued,
        expires: issued.plus_ms(DIRECTORY_LIFE_MS),
        pieces: pieces.iter().map(|piece| Digest::sha256(&[piece])).collect(),
        ..held
    };
    let head = Verified::sign(head, &Realm::keys().signing).envelope().to_vec();
    WholeDirectory {
        head: Bytes(head),
        pieces: pieces.into_iter().map(Bytes).collect(),
        extensions: Extensions::default(),
    }
}
