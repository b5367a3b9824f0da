//! The package format, written down a second time: frames of a length and a CBOR map, a sealed manifest of a head and
//! records, and the tree over the records (RFC 6962).

use handover_core::artefact::transfer::{PartList, QuoteBody};
use handover_core::codec::{self, Bytes, CborMap};
use handover_core::id::ContentRoot;
use handover_core::{Code, Department, Digest, HospitalId, Timestamp, TransferId, cbor_map};

cbor_map! {
    /// What the source brings.
    pub struct Offer {
        /// `Quote`.
        1 => quote: Bytes,
        /// `Consent`.
        2 => consent: Bytes,
        /// The final `Quote`, if there is one.
        3 => final_quote: Option<Bytes>,
        /// `PackageHeader`.
        4 => header: Bytes,
        /// What the header commits to.
        5 => parts: PartList,
        /// `KeyRelease`, in a folder.
        6 => release: Option<Bytes>,
    }
}

cbor_map! {
    /// What the destination has.
    pub struct Have {
        /// Why it takes none.
        1 => problem: Option<Code>,
        /// Groups of each part.
        2 => groups: Vec<u64>,
    }
}

cbor_map! {
    /// The destination's last word.
    pub struct Done {
        /// Why not.
        1 => problem: Option<Code>,
        /// `Delivered`.
        2 => delivered: Option<Bytes>,
    }
}

cbor_map! {
    /// A folder's last word.
    pub struct Kept {
        /// Why not.
        1 => problem: Option<Code>,
        /// Until when it keeps the package.
        3 => kept_until: Option<Timestamp>,
    }
}

cbor_map! {
    /// The manifest's first frame.
    pub struct Head {
        /// The transfer.
        1 => transfer: TransferId,
        /// The attempt.
        2 => attempt: u32,
        /// The source.
        3 => source: HospitalId,
        /// The destination.
        4 => destination: HospitalId,
        /// Hash of the consent.
        5 => consent: Digest,
        /// Hash of the agreed quote.
        6 => quote: Digest,
        /// That quote's body.
        7 => body: QuoteBody,
        /// How many records follow.
        8 => records: u64,
    }
}

cbor_map! {
    /// A large content that travels beside the manifest.
    pub struct Beside {
        /// BLAKE3 root of the ciphertext.
        1 => root: ContentRoot,
        /// Bytes of the ciphertext.
        2 => length: u64,
        /// The key that opens it.
        3 => key: [u8; 32],
        /// Bytes of the plaintext.
        4 => plain_bytes: u64,
    }
}

cbor_map! {
    /// One record.
    pub struct Listed {
        /// Makes its hash say nothing.
        1 => salt: [u8; 16],
        /// Where it was first recorded.
        2 => origin: HospitalId,
        /// Its department there.
        3 => department: Department,
        /// FHIR resource type.
        4 => resource_type: String,
        /// FHIR logical id.
        5 => resource_id: String,
        /// Its version at the source.
        6 => version: u32,
        /// SHA-256 of the minified JSON.
        7 => content_hash: Digest,
        /// Clinical date.
        8 => date: Option<Timestamp>,
        /// The JSON, if small.
        9 => content: Option<Bytes>,
        /// Else where it travels.
        10 => sealed: Option<Beside>,
        /// Whether a security label in it restricts it.
        11 => is_restricted: bool,
        /// Of a file: its media type.
        13 => media_type: Option<String>,
        /// And its name.
        14 => file_name: Option<String>,
    }
}

/// A frame: four bytes of length (big-endian), and the map.
#[must_use]
pub fn frame<T: CborMap>(value: &T) -> Vec<u8> {
    framed(&codec::encode(value))
}

/// The same around any bytes.
#[must_use]
pub fn framed(bytes: &[u8]) -> Vec<u8> {
    let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    [length.to_be_bytes().as_slice(), bytes].concat()
}

/// The root over the records, in their order.
#[must_use]
pub fn record_root(records: &[Listed]) -> Digest {
    let leaf = |record: &Listed| {
        let hash = Digest::sha256(&[&codec::encode(record)]);
        Digest::sha256(&[&[0], hash.as_bytes()])
    };
    tree(&records.iter().map(leaf).collect::<Vec<_>>())
}

/// RFC 6962, section 2.1: the left side of a node is the largest full tree.
fn tree(leaves: &[Digest]) -> Digest {
    match leaves {
        [] => Digest::sha256(&[]),
        [only] => *only,
        _ => {
            let (left, right) = leaves.split_at(leaves.len().next_power_of_two() / 2);
            Digest::sha256(&[&[1], tree(left).as_bytes(), tree(right).as_bytes()])
        }
    }
}
