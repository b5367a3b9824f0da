//! The recovery text: the recovery key and the patient's first key record, two lines of hexadecimal digits. With it
//! and nothing else a lost wallet is replaced, any number of times.

use handover_core::KeyChain;
use handover_core::codec::Bytes;
use handover_seal::{Remembered, Secret32, SigningKey, Zeroizing};

use crate::{PatientKeys, WalletError};

/// What recovers a patient's keys.
#[derive(Debug)]
pub struct Recovery {
    /// The private half of the recovery key.
    pub key: SigningKey,
    /// The first key record.
    pub chain: KeyChain,
}

impl Recovery {
    /// The text for keys that were just made.
    #[must_use]
    pub fn text(key: &SigningKey, keys: &PatientKeys) -> Zeroizing<String> {
        let seed = Zeroizing::new(hex::encode(key.seed().expose()));
        let first = keys.records().first().map(hex::encode).unwrap_or_default();
        Zeroizing::new(format!("{}\n{first}\n", *seed))
    }

    /// Reads a text.
    ///
    /// # Errors
    /// [`WalletError::RecoveryKey`].
    pub fn read(text: &str) -> Result<Self, WalletError> {
        const TWO_LINES: WalletError = WalletError::RecoveryKey(
            "a recovery text has two lines: the recovery key and the first key record",
        );
        let mut words = text.split_whitespace();
        let (Some(seed), Some(record), None) = (words.next(), words.next(), words.next()) else {
            return Err(TWO_LINES);
        };
        let seed = hex::decode(seed).map(Zeroizing::new).map_err(|_| TWO_LINES)?;
        let key = SigningKey::from_seed(&Secret32::from_slice(&seed).map_err(|_| TWO_LINES)?);
        let record = hex::decode(record).map_err(|_| TWO_LINES)?;
        let chain = KeyChain::verify(&[Bytes(record)], &Remembered)
            .map_err(WalletError::rule("the first key record"))?;
        if chain.recovery_key() != Some(key.public()) {
            return Err(WalletError::RecoveryKey("the recovery key is not that of the key record"));
        }
        Ok(Self { key, chain })
    }
}

#[cfg(test)]
mod tests {
    use handover_seal::OsRandom;

    use super::*;
    use crate::testkit::{NOW, key};

    #[test]
    fn a_text_recovers_whoever_it_was_made_for() {
        let own = key();
        let keys = PatientKeys::generate(own.public(), NOW, &mut OsRandom).unwrap();
        let text = Recovery::text(&own, &keys);
        let read = Recovery::read(&text).unwrap();
        let new = PatientKeys::recovered(&read.chain, &read.key, NOW, &mut OsRandom).unwrap();
        assert_eq!((new.patient(), new.number()), (keys.patient(), 2));
        assert!(new.is_recovered() && new.follow_from(&keys) && !keys.follow_from(&new));
        // Written down by hand, on one line, by somebody who adds spaces.
        assert!(Recovery::read(&text.replace('\n', "  ")).is_ok());

        let others = Recovery::text(&key(), &keys);
        let cut = text.get(..text.len() - 3).unwrap();
        for false_text in [others.as_str(), cut, text.lines().next().unwrap(), "", "no key"] {
            assert!(Recovery::read(false_text).is_err());
        }
        assert!(PatientKeys::recovered(&read.chain, &key(), NOW, &mut OsRandom).is_err());
    }
}
