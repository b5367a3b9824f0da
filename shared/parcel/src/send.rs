//! Sending: the offer, then each part from where the other side has it. What lies is verified as it leaves, so damage
//! here is named here.

use std::io::Write;
use std::time::Duration;

use handover_core::Code;
use handover_core::artefact::transfer::{ContentRef, PartList};
use handover_core::codec::CborMap;
use handover_net::PackageStream;
use handover_seal::{SealError, tree};
use handover_store::{Blobs, StoreError};
use tokio::time::timeout;

use crate::ParcelError;
use crate::bridge::{Bridge, blocking};
use crate::wire::{self, Done, Have, Offer};

/// How long the other side may take for a word.
const WORD_LIMIT: Duration = Duration::from_secs(60);

/// What became of a package.
#[derive(Debug)]
pub enum Sent {
    /// It went out as far as it was wanted; the other side's last word, which is no problem.
    Done(Done),
    /// A part is gone, or is not what it was: nothing that is damaged was sent.
    Damaged {
        /// Its number; the manifest is 0.
        part: usize,
    },
}

/// Sends a package over a stream.
///
/// # Errors
/// Why the other side takes it not; [`ParcelError`].
pub async fn send(stream: &mut PackageStream, blobs: &Blobs, offer: &Offer) -> Result<Sent, ParcelError> {
    timeout(WORD_LIMIT, wire::put(stream, offer)).await.map_err(|_| Code::TimedOut)??;
    let have: Have = word(stream).await?;
    if let Some(said) = have.problem {
        return Err(said.code().into());
    }
    if have.groups.len() != offer.parts.iter().count() {
        return Err(Code::Malformed.into());
    }
    let (blobs, parts) = (blobs.clone(), offer.parts.clone());
    let sent = blocking(stream, move |stream| send_parts(&blobs, stream, &parts, &have.groups));
    let damaged = sent.await?;
    if let Some(part) = damaged {
        return Ok(Sent::Damaged { part });
    }
    let done: Done = word(stream).await?;
    match done.problem {
        Some(said) => Err(said.code().into()),
        None => Ok(Sent::Done(done)),
    }
}

/// The other side's next word.
///
/// # Errors
/// [`Code::TimedOut`]; [`ParcelError`].
pub async fn word<T: CborMap>(stream: &mut PackageStream) -> Result<T, ParcelError> {
    timeout(WORD_LIMIT, wire::get(stream)).await.map_err(|_| Code::TimedOut)?
}

/// Sends the parts; the number of one that is damaged here.
fn send_parts(
    blobs: &Blobs,
    stream: &mut PackageStream,
    parts: &PartList,
    from_groups: &[u64],
) -> Result<Option<usize>, ParcelError> {
    let mut out = Bridge::writer(stream);
    for (number, (part, from_group)) in parts.iter().zip(from_groups).enumerate() {
        if !send_part(blobs, &mut out, part, *from_group)? {
            return Ok(Some(number));
        }
    }
    out.flush().map_err(ParcelError::Stream)?;
    Ok(None)
}

/// Sends one part; false if it is damaged here.
fn send_part(
    blobs: &Blobs,
    out: &mut impl Write,
    part: &ContentRef,
    from_group: u64,
) -> Result<bool, ParcelError> {
    if from_group >= tree::groups(part.length) {
        return Ok(true);
    }
    let Some(hashes) = blobs.tree(part.root, part.length)? else { return Ok(false) };
    let content = match blobs.open_blob(part.root) {
        // Its tree was here, and it is gone, or is not what it was.
        Err(StoreError::UnknownBlob | StoreError::Damaged { .. }) => return Ok(false),
        opened => opened?,
    };
    match tree::send(content, &hashes, from_group, out) {
        // The next try makes the tree anew, and tells whether it was the content; so it does for a copy of it.
        Err(SealError::Damaged) if blobs.doubt(part.root)? => Ok(false),
        Err(SealError::Damaged) => Err(Code::Unreachable.into()),
        // The file was opened a moment ago: what fails now is the stream.
        Err(SealError::Io(fault)) => Err(ParcelError::Stream(fault)),
        sent => Ok(sent.map(|()| true)?),
    }
}
