//! What a hospital says of a package, signed, and as it would be if it were true.

use handover_core::artefact::Verified;
use handover_core::artefact::transfer::{Delivered, PackageHeader, Refusal, Step};
use handover_core::{Code, TransferId};

use super::{Rogue, none, now};

impl Rogue {
    /// That it has what a header promises.
    #[must_use]
    pub fn delivered(&self, header: &Verified<PackageHeader>) -> Verified<Delivered> {
        let delivered = Delivered {
            transfer: header.transfer,
            attempt: header.attempt,
            header: header.hash(),
            destination: self.id().clone(),
            issued: now(),
            extensions: none(),
        };
        Verified::sign(delivered, &self.keys.signing)
    }

    /// That a transfer's first attempt ends at a step.
    #[must_use]
    pub fn refusal(&self, transfer: TransferId, step: Step, code: Code) -> Verified<Refusal> {
        let refusal = Refusal { transfer, step, code, issued: now(), attempt: 1, extensions: none() };
        Verified::sign(refusal, &self.keys.signing)
    }
}
