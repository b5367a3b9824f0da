//! The federation's root key as a person gives it, in a configuration or on the command line.
//!
//! Invariant: a key that signs for anybody, or for nobody, is never taken. Everything that is believed leads up to it.

use std::str::FromStr;

use handover_core::id::SigningPublic;
use handover_seal::is_strong;

/// What stands in the shipped samples in the root's place.
pub const SAMPLE_ROOT: &str = "THE-FEDERATION'S-ROOT";

/// A root key that can be believed: 64 hexadecimal digits of a strong Ed25519 point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Root(pub SigningPublic);

impl FromStr for Root {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == SAMPLE_ROOT {
            return Err("is still the sample's; put the federation's root in".to_owned());
        }
        let key: SigningPublic = text.parse().map_err(|fault| format!("{fault}"))?;
        if is_strong(&key) { Ok(Self(key)) } else { Err("is no key that a root can have".to_owned()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weak_points_and_the_samples_are_refused() {
        let good = "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025";
        assert_eq!(good.parse::<Root>().unwrap().0.to_string(), good);
        // Small order, small order again, no point at all.
        let weak = ["00".repeat(32), format!("01{}", "00".repeat(31)), format!("02{}", "00".repeat(31))];
        for text in weak {
            assert!(text.parse::<Root>().unwrap_err().contains("no key"), "{text}");
        }
        assert!("12".parse::<Root>().unwrap_err().contains("64 hexadecimal digits"));
        assert!(SAMPLE_ROOT.parse::<Root>().unwrap_err().contains("is still the sample's"));
    }
}
