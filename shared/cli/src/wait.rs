//! How long a command waits, as every program takes it: `--wait SECONDS`.

use std::time::Duration;

/// The longest wait: a day. Who waits longer asks again.
const MAX_SECONDS: u64 = 24 * 60 * 60;

/// Reads `SECONDS`.
///
/// # Errors
/// What is wrong with it.
pub fn wait_seconds(text: &str) -> Result<Duration, String> {
    let seconds = text.parse().ok().filter(|seconds| *seconds <= MAX_SECONDS);
    seconds.map(Duration::from_secs).ok_or_else(|| format!("needs whole seconds, at most {MAX_SECONDS}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_has_a_bound() {
        assert_eq!(wait_seconds("60"), Ok(Duration::from_secs(60)));
        assert_eq!(wait_seconds("86400"), Ok(Duration::from_secs(86_400)));
        for text in ["86401", "-1", "1.5", "", "18446744073709551616"] {
            assert!(wait_seconds(text).is_err(), "{text}");
        }
    }
}
