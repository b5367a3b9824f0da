//! The rogue as one who leaves packages at the index, and as one who sends what it sends drop by drop.

use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Result, anyhow, bail};
use handover_core::Code;
use handover_core::artefact::Verified;
use handover_core::codec::CborMap;

use super::Rogue;
use super::sale::Package;
use super::stream::Stream;
use super::wire::{Have, Offer};

/// Pause between two bytes of one who trickles.
const BETWEEN: Duration = Duration::from_millis(500);

impl Rogue {
    /// Opens a package stream to the index.
    ///
    /// # Errors
    /// Why it was not accepted.
    pub fn open_at_index(&self) -> Result<Stream, Code> {
        let opened = self.runtime.block_on(self.net.open_package(&self.index));
        Ok(Stream::new(opened.map_err(|fault| fault.code())?, self.runtime.handle()))
    }

    /// What is offered to a folder: a package with its shares, which wait there.
    #[must_use]
    pub fn to_leave(&self, package: &Package) -> Offer {
        let release = Verified::sign(self.key_release(package), &self.keys.signing);
        Offer { release: Some(release.envelope().to_vec().into()), ..package.offer.clone() }
    }

    /// Offers it; the stream and what lies there.
    ///
    /// # Errors
    /// The stream breaks.
    pub fn leave(&self, offer: &Offer) -> Result<(Stream, Have)> {
        let mut stream = self.open_at_index().map_err(|code| anyhow!("a package stream: {code}"))?;
        stream.put(offer)?;
        let have = stream.get()?;
        Ok((stream, have))
    }
}

/// Sends bytes one by one, until the other side has had enough; its last word.
pub struct Trickle<T>(JoinHandle<Result<T>>);

impl<T: CborMap + Send + 'static> Trickle<T> {
    /// Begins.
    #[must_use]
    pub fn of(mut stream: Stream, bytes: Vec<u8>) -> Self {
        Self(thread::spawn(move || {
            for byte in bytes {
                // Whatever became of it, a word says so.
                let _ = stream.write(&[byte]);
                if let Some(word) = stream.get_within(BETWEEN)? {
                    return Ok(word);
                }
            }
            bail!("all of it was taken")
        }))
    }

    /// Whether it was cut.
    #[must_use]
    pub fn was_cut(&self) -> bool {
        self.0.is_finished()
    }

    /// The other side's last word.
    ///
    /// # Errors
    /// There is none.
    pub fn word(self) -> Result<T> {
        self.0.join().map_err(|_| anyhow!("a thread that trickles panicked"))?
    }
}
