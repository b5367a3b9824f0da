//! Break-glass: one share, for the hospital alone, under a label of its own.
//!
//! Nothing that a patient consented to opens with such a key, and nothing given out in an emergency opens with a
//! consent's shares: the label differs, and so do salt and context.

use handover_core::{BreakGlassId, Digest, HospitalId};
use zeroize::Zeroizing;

use crate::cell::expand;
use crate::frame::put_text;
use crate::shares::{ContentSecrets, SUITE};
use crate::{SealError, Secret32};

const LABEL: &str = "handover/1/break-glass";

/// What one answer's share belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GlassBinding {
    /// The hospital that gives out.
    pub source: HospitalId,
    /// The hospital that asks.
    pub requesting: HospitalId,
    /// Which break-glass.
    pub id: BreakGlassId,
    /// Hash of what was asked with: the break-glass, or the second person's signature for more.
    pub asked: Digest,
}

impl GlassBinding {
    /// Label, source, requesting (each with its u16 length) ‖ hash (32 bytes) ‖ suite (1 byte).
    fn info(&self) -> Result<Vec<u8>, SealError> {
        let mut info = Vec::new();
        for text in [LABEL, self.source.as_str(), self.requesting.as_str()] {
            put_text(&mut info, text)?;
        }
        info.extend_from_slice(self.asked.as_bytes());
        info.push(SUITE);
        Ok(info)
    }

    /// HKDF-SHA256 (RFC 5869) of the hospital's share, the identifier as salt, the rest as info.
    ///
    /// # Errors
    /// [`SealError::TooLong`], which no valid identifier reaches.
    pub fn content_secrets(&self, share: &Secret32) -> Result<ContentSecrets, SealError> {
        let info = self.info()?;
        let mut out = Zeroizing::new([0; 64]);
        expand(Some(self.id.as_bytes()), share.expose(), &info, out.as_mut_slice());
        let (cek, commitment) = out.split_at(32);
        Ok(ContentSecrets {
            cek: Secret32::from_slice(cek)?,
            commitment: commitment.try_into().map_err(|_| SealError::Commitment)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use handover_core::{Timestamp, TransferId};

    use super::*;
    use crate::shares::{Binding, Shares};

    fn binding() -> GlassBinding {
        GlassBinding {
            source: "lakeside".parse().unwrap(),
            requesting: "riverside".parse().unwrap(),
            id: BreakGlassId::new(Timestamp::from_millis(1), [1; 10]),
            asked: Digest::from_bytes([2; 32]),
        }
    }

    #[test]
    fn every_part_of_the_context_gives_another_key() {
        let share = Secret32::from_bytes([7; 32]);
        let secrets = binding().content_secrets(&share).unwrap();
        let id = BreakGlassId::new(Timestamp::from_millis(2), [1; 10]);
        let others = [
            GlassBinding { source: "northside".parse().unwrap(), ..binding() },
            GlassBinding { requesting: "northside".parse().unwrap(), ..binding() },
            GlassBinding { id, ..binding() },
            GlassBinding { asked: Digest::from_bytes([3; 32]), ..binding() },
        ];
        for other in others {
            let other = other.content_secrets(&share).unwrap();
            assert_ne!(other.cek.expose(), secrets.cek.expose());
            assert!(other.check(&secrets.commitment).is_err());
        }
        assert_eq!(
            hex::encode(secrets.cek.expose()),
            "b330d222154159e2c66a6bc2bffeab0594bf4e33a731fa6d2905e6665d9edaf9"
        );
    }

    #[test]
    fn a_consents_derivation_gives_another_key() {
        let share = Secret32::from_bytes([7; 32]);
        let glass = binding();
        let ours = glass.content_secrets(&share).unwrap();
        let transfer = TransferId::try_from(glass.id.as_bytes().as_slice()).unwrap();
        for patient in [[0; 32], [7; 32]] {
            let consent = Binding {
                source: glass.source.clone(),
                destination: glass.requesting.clone(),
                consent: glass.asked,
                transfer,
                attempt: 1,
            };
            let shares = Shares { hospital: share.clone(), patient: Secret32::from_bytes(patient) };
            let theirs = shares.content_secrets(&consent).unwrap();
            assert_ne!(theirs.cek.expose(), ours.cek.expose());
            assert!(theirs.check(&ours.commitment).is_err());
        }
    }
}
