//! The code that two people compare on two screens.

use crate::Digest;

/// RFC 4648, section 6.
const BASE_32: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";

/// The first 40 bits of a signing key's thumbprint as eight base32 characters (RFC 4648): `ABCD-EFGH`. For people
/// who compare; programs compare thumbprints.
#[must_use]
pub fn short_code(thumbprint: &Digest) -> String {
    let bits = thumbprint.as_bytes().iter().take(5).fold(0_u64, |bits, byte| bits << 8 | u64::from(*byte));
    let mut code = String::with_capacity(9);
    for place in (0..8).rev() {
        if place == 3 {
            code.push('-');
        }
        let index = usize::try_from(bits >> (5 * place) & 31).unwrap_or(0);
        code.push(BASE_32.get(index).copied().map_or('A', char::from));
    }
    code
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn follows_rfc_4648() {
        for (start, code) in [([0_u8; 5], "AAAA-AAAA"), ([0xff; 5], "7777-7777"), (*b"fooba", "MZXW-6YTB")] {
            let mut bytes = [7; 32];
            bytes[..5].copy_from_slice(&start);
            assert_eq!(short_code(&Digest::from_bytes(bytes)), code);
        }
    }
}
