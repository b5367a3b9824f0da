//! The manifest: what a package says of itself and its records, sealed as one stream.
//!
//! A sequence of frames, each a length (u32, big-endian) and a CBOR map: first the [`Head`], then a
//! [`ManifestRecord`] for each record. It is written and read one frame at a time, so memory stays flat however many
//! records there are. Both hospitals, consent and transfer are repeated in the head: a header that was stripped off
//! and signed anew by another does not fit.

use std::io::{Read, Write};

use ct_merkle::mem_backed_tree::MemoryBackedTree;
use handover_core::artefact::recall::RecallReason;
use handover_core::artefact::transfer::QuoteBody;
use handover_core::codec::{self, Bytes, CborMap};
use handover_core::id::ContentRoot;
use handover_core::{Code, Department, Digest, HospitalId, Timestamp, TransferId, cbor_map};
use handover_records::FileFacts;
use sha2::Sha256;

use crate::ExchangeError;

/// The most bytes of one frame: a record's inline content is at most 64 KiB, the head holds the quote's lines.
pub(crate) const FRAME_MAX_BYTES: usize = 1024 * 1024;

cbor_map! {
    /// What the package is.
    pub(crate) struct Head {
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
        /// That quote's body, so that the destination computes the fee from the lines.
        7 => body: QuoteBody,
        /// How many records follow.
        8 => records: u64,
    }
}

cbor_map! {
    /// A large content that travels beside the manifest.
    pub(crate) struct SealedContent {
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
    /// What is said against a record version: it is marked so where it is filed.
    pub(crate) struct CarriedMark {
        /// Why it is wrong.
        1 => reason: RecallReason,
        /// Who says so.
        2 => by: HospitalId,
        /// When the newer version was recorded, if there is one.
        3 => replaced: Option<Timestamp>,
    }
}

cbor_map! {
    /// One record version.
    pub(crate) struct ManifestRecord {
        /// Makes the record's hash say nothing.
        1 => salt: [u8; 16],
        /// The hospital where it was first recorded.
        2 => origin: HospitalId,
        /// Its department there.
        3 => department: Department,
        /// FHIR resource type.
        4 => resource_type: String,
        /// FHIR logical id.
        5 => resource_id: String,
        /// Its version at the source.
        6 => version: u32,
        /// SHA-256 of the minified JSON; BLAKE3 of a file.
        7 => content_hash: Digest,
        /// Clinical date.
        8 => date: Option<Timestamp>,
        /// The JSON or the file as it was received, if small.
        9 => content: Option<Bytes>,
        /// Else where it travels.
        10 => sealed: Option<SealedContent>,
        /// Whether a security label in it, or in the resource that it belongs to, restricts it.
        11 => is_restricted: bool,
        /// What is said against it where it comes from.
        12 => mark: Option<CarriedMark>,
        /// Of a file: its media type (RFC 6838) and its name. Absent: the content is FHIR JSON.
        13 => media_type: Option<String>,
        14 => file_name: Option<String>,
    }
}

impl ManifestRecord {
    /// If the content is a file; absent: FHIR JSON.
    pub(crate) fn file(&self) -> Result<Option<FileFacts>, Code> {
        match (&self.media_type, &self.file_name) {
            (None, None) => Ok(None),
            (Some(media_type), Some(name)) => {
                Ok(Some(FileFacts { media_type: media_type.clone(), name: name.clone() }))
            }
            _ => Err(Code::PackageMismatch),
        }
    }

    /// The record's leaf: SHA-256 over its whole encoding, salt included.
    #[must_use]
    pub(crate) fn leaf(&self) -> Digest {
        Digest::sha256(&[&codec::encode(self)])
    }
}

/// The RFC 6962 tree over the records' leaves, in the manifest's order.
#[derive(Default)]
pub(crate) struct RecordTree(MemoryBackedTree<Sha256, [u8; 32]>);

impl RecordTree {
    /// An empty tree.
    #[must_use]
    pub(crate) fn new() -> Self {
        Self(MemoryBackedTree::new())
    }

    /// Adds a leaf.
    pub(crate) fn push(&mut self, leaf: &Digest) {
        self.0.push(*leaf.as_bytes());
    }

    /// The root.
    #[must_use]
    pub(crate) fn root(&self) -> Digest {
        let root = self.0.root();
        Digest::try_from(root.as_bytes().as_slice()).unwrap_or_else(|_| Digest::from_bytes([0; 32]))
    }
}

/// Writes one frame.
///
/// # Errors
/// The writer's; [`Code::TooLarge`].
pub(crate) fn write_frame<T: CborMap>(to: &mut impl Write, frame: &T) -> Result<(), ExchangeError> {
    let bytes = codec::encode(frame);
    let length = u32::try_from(bytes.len()).map_err(|_| Code::TooLarge)?;
    if bytes.len() > FRAME_MAX_BYTES {
        return Err(Code::TooLarge.into());
    }
    to.write_all(&length.to_be_bytes())?;
    to.write_all(&bytes)?;
    Ok(())
}

/// Reads one frame. What opens was sealed as it is, so a frame that is none is the source's own.
///
/// # Errors
/// [`Code::CannotOpen`] if the stream does not open; [`Code::PackageNotAsQuoted`] if no frame is left;
/// [`Code::PackageMismatch`] if the frame is none.
pub(crate) fn read_frame<T: CborMap>(from: &mut impl Read) -> Result<T, ExchangeError> {
    let length = up_to(from, size_of::<u32>())?;
    if length.is_empty() {
        return Err(Code::PackageNotAsQuoted.into());
    }
    let length: [u8; 4] = length.try_into().map_err(|_| Code::PackageMismatch)?;
    let length = usize::try_from(u32::from_be_bytes(length)).map_err(|_| Code::PackageMismatch)?;
    if length > FRAME_MAX_BYTES {
        return Err(Code::PackageMismatch.into());
    }
    let bytes = up_to(from, length)?;
    if bytes.len() != length {
        return Err(Code::PackageMismatch.into());
    }
    Ok(codec::decode(&bytes, FRAME_MAX_BYTES).map_err(|_| Code::PackageMismatch)?)
}

/// So many bytes, or what there is.
fn up_to(from: &mut impl Read, length: usize) -> Result<Vec<u8>, ExchangeError> {
    let mut bytes = Vec::with_capacity(length);
    from.by_ref().take(length as u64).read_to_end(&mut bytes).map_err(ExchangeError::of_opening)?;
    Ok(bytes)
}

/// Checks that nothing follows.
///
/// # Errors
/// [`Code::PackageNotAsQuoted`].
pub(crate) fn expect_end(from: &mut impl Read) -> Result<(), ExchangeError> {
    if up_to(from, 1)?.is_empty() { Ok(()) } else { Err(Code::PackageNotAsQuoted.into()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_that_is_none_is_told_from_one_that_is_not_there() {
        let sealed = SealedContent {
            root: ContentRoot::from_bytes([1; 32]),
            length: 2,
            key: [3; 32],
            plain_bytes: 4,
            extensions: codec::Extensions::default(),
        };
        let mut good = Vec::new();
        write_frame(&mut good, &sealed).unwrap();
        let read = |bytes: &[u8]| read_frame::<SealedContent>(&mut &*bytes).map_err(|fault| fault.code());
        assert_eq!(read(&good).unwrap(), sealed);
        assert_eq!(read(&[]).unwrap_err(), Code::PackageNotAsQuoted);
        let huge = u32::try_from(FRAME_MAX_BYTES + 1).unwrap().to_be_bytes();
        for none in [&good[..3], &good[..4], &good[..good.len() - 1], &huge, &[0, 0, 0, 1, 0xff]] {
            assert_eq!(read(none).unwrap_err(), Code::PackageMismatch, "{none:?}");
        }
        assert!(expect_end(&mut &[][..]).is_ok());
        assert_eq!(expect_end(&mut &good[..]).unwrap_err().code(), Code::PackageNotAsQuoted);
    }
}
