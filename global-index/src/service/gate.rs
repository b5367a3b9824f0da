//! Who speaks on a connection: judged by the directory in force.

use handover_core::artefact::Verified;
use handover_core::artefact::federation::EndpointCertificate;
use handover_core::codec::{self, Bytes, Extensions};
use handover_core::id::SigningPublic;
use handover_core::trust::{Hello, admit};
use handover_core::{Code, Party};
use handover_net::Admission;
use handover_seal::{Remembered, SigningKey};

use crate::desk::Desk;
use crate::keys::IndexKeys;

/// The index's admission.
pub(super) struct Gate {
    desk: Desk,
    hello: Vec<u8>,
}

impl Gate {
    /// Presents an endpoint certificate that is good as long as the index's own certificate.
    pub(super) fn new(desk: Desk, keys: &IndexKeys) -> Self {
        let endpoint = EndpointCertificate {
            party: Party::Index,
            key: SigningKey::from_seed(&keys.net).public(),
            not_before: desk.now(),
            not_after: desk.seat.authority.not_after,
            extensions: Extensions::default(),
        };
        // In the first edition: whoever cannot read the one in force is to hear that, and from whom.
        let signer = SigningKey::from_seed(&desk.seat.signer.seed());
        let endpoint = Verified::sign(endpoint, &signer);
        let hello = Hello {
            endpoint: Bytes(endpoint.envelope().to_vec()),
            authority: Some(Bytes(desk.seat.certificate.clone())),
            extensions: Extensions::default(),
        };
        Self { hello: codec::encode(&hello), desk }
    }
}

impl Admission for Gate {
    fn hello(&self) -> Vec<u8> {
        self.hello.clone()
    }

    fn admit(&self, peer: &SigningPublic, hello: &[u8]) -> Result<Party, Code> {
        let current = self.desk.current();
        admit(hello, peer, &self.desk.seat.root, Some(current.federation()), self.desk.now(), &Remembered)
    }
}
