//! Whether this node still speaks for its hospital.

use handover_core::trust::Federation;
use handover_core::{Code, Digest};

use super::Inner;

impl Inner {
    /// Thumbprint of this hospital's signing key.
    pub(crate) fn own_kid(&self) -> Digest {
        self.parts.identity.signing.public().thumbprint()
    }

    /// Whether this hospital takes part, by the directory that is held and under the key that it signs with.
    pub(crate) fn takes_part(&self) -> bool {
        let own = self.parts.identity.signing.public();
        self.federation()
            .is_ok_and(|held| held.active(self.own(), self.now()).is_ok_and(|it| it.certificate.key == own))
    }

    /// Refuses to sign with keys that the hospital has replaced: the node ends in order, and signs nothing more until then.
    pub(super) fn may_still_sign(&self, federation: &Federation) -> Result<(), Code> {
        if federation.is_former(&self.own_kid()) { Err(Code::KeysOutdated) } else { Ok(()) }
    }
}
