//! What the tests of this room share. The two RSA keys are made for these tests and used nowhere else.

use handover_core::Random;

use crate::RsaPrivateKey;

pub(crate) fn bytes(hexed: &str) -> Vec<u8> {
    hex::decode(hexed).unwrap()
}

pub(crate) fn hospital_one() -> RsaPrivateKey {
    RsaPrivateKey::from_pkcs8_der(include_bytes!("testdata/one.pk8")).unwrap()
}

pub(crate) fn hospital_two() -> RsaPrivateKey {
    RsaPrivateKey::from_pkcs8_der(include_bytes!("testdata/two.pk8")).unwrap()
}

/// Always the same bytes: for golden bytes and published vectors.
pub(crate) struct Fixed(pub(crate) Vec<u8>);

impl Random for Fixed {
    fn fill(&mut self, bytes: &mut [u8]) {
        for (byte, fixed) in bytes.iter_mut().zip(self.0.iter().cycle()) {
            *byte = *fixed;
        }
    }
}
