//! How a package goes over a stream: an offer, what the other side has already, the parts, and a word at the end.
//!
//! `offer → have → parts → done`, each but the parts a frame of u32 length and CBOR map. A part is content with its
//! hash tree interleaved (see `handover_seal::tree`), from the group that the receiver wants.

use handover_core::artefact::transfer::PartList;
use handover_core::codec::{self, Bytes, CborMap, Extensions};
use handover_core::problem::Said;
use handover_core::{Code, Timestamp, cbor_map};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::ParcelError;

/// The most bytes of one frame.
const FRAME_MAX_BYTES: usize = 4 * 1024 * 1024;

cbor_map! {
    /// What the source brings: everything that the header stands on, so that the destination needs no index.
    pub struct Offer {
        /// `Quote`.
        1 => quote: Bytes,
        /// `Consent`.
        2 => consent: Bytes,
        /// The final `Quote`, if the consent narrows.
        3 => final_quote: Option<Bytes>,
        /// `PackageHeader`.
        4 => header: Bytes,
        /// What the header commits to.
        5 => parts: PartList,
        /// `KeyRelease`, if this is left in the destination's folder: it waits there beside the package.
        6 => release: Option<Bytes>,
    }
}

cbor_map! {
    /// What the destination has of each part: the manifest, then the contents.
    pub struct Have {
        /// Why it takes none.
        1 => problem: Option<Said>,
        /// Groups that lie there, verified, for each part.
        2 => groups: Vec<u64>,
    }
}

cbor_map! {
    /// The destination's last word: everything is stored, or why not.
    pub struct Done {
        /// Why not.
        1 => problem: Option<Said>,
        /// `Delivered`: everything lies there.
        2 => delivered: Option<Bytes>,
        /// Until when a folder keeps it.
        3 => kept_until: Option<Timestamp>,
    }
}

impl Have {
    /// What lies there of each part.
    #[must_use]
    pub fn of(groups: Vec<u64>) -> Self {
        Self { problem: None, groups, extensions: Extensions::default() }
    }

    /// It takes none.
    #[must_use]
    pub fn none(problem: Code) -> Self {
        Self { problem: Some(problem.into()), groups: Vec::new(), extensions: Extensions::default() }
    }
}

impl Done {
    /// Everything lies there, and was signed for.
    #[must_use]
    pub fn delivered(delivered: Vec<u8>) -> Self {
        Self { delivered: Some(delivered.into()), ..Self::empty() }
    }

    /// Everything lies in a folder.
    #[must_use]
    pub fn kept(until: Timestamp) -> Self {
        Self { kept_until: Some(until), ..Self::empty() }
    }

    /// It came to nothing.
    #[must_use]
    pub fn not(problem: Code) -> Self {
        Self { problem: Some(problem.into()), ..Self::empty() }
    }

    fn empty() -> Self {
        Self { problem: None, delivered: None, kept_until: None, extensions: Extensions::default() }
    }
}

/// Writes a frame.
///
/// # Errors
/// [`Code::TooLarge`]; the stream's.
pub async fn put<T: CborMap>(to: &mut (impl AsyncWrite + Unpin), frame: &T) -> Result<(), ParcelError> {
    let bytes = codec::encode(frame);
    let length = u32::try_from(bytes.len()).map_err(|_| Code::TooLarge)?;
    if bytes.len() > FRAME_MAX_BYTES {
        return Err(Code::TooLarge.into());
    }
    let written = async {
        to.write_all(&length.to_be_bytes()).await?;
        to.write_all(&bytes).await?;
        to.flush().await
    };
    written.await.map_err(ParcelError::Stream)
}

/// Reads a frame.
///
/// # Errors
/// [`Code::TooLarge`]; what cannot be decoded; the stream's.
pub async fn get<T: CborMap>(from: &mut (impl AsyncRead + Unpin)) -> Result<T, ParcelError> {
    let length =
        usize::try_from(from.read_u32().await.map_err(ParcelError::Stream)?).map_err(|_| Code::TooLarge)?;
    if length > FRAME_MAX_BYTES {
        return Err(Code::TooLarge.into());
    }
    let mut bytes = vec![0; length];
    from.read_exact(&mut bytes).await.map_err(ParcelError::Stream)?;
    Ok(codec::decode(&bytes, FRAME_MAX_BYTES)?)
}
