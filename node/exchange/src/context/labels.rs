//! Where a new artefact goes from here.

use handover_core::Timestamp;
use handover_core::transfer::Role;
use handover_dossier::{Kind, Row};

use super::Came;
use crate::outbox::Label;

/// The parcels of a new artefact.
pub(crate) fn of(kind: Kind, from: Came, row: &Row, now: Timestamp) -> Vec<Label> {
    if from == Came::Network {
        // Whom the fee is due to tells the index of all that it stands on: a destination may keep its own copies back, or
        // be cut off from the index. The index answers what it has already as it did before.
        let is_evidence = matches!(
            kind,
            Kind::Request
                | Kind::Consent
                | Kind::FeeAcceptance
                | Kind::ShareRelease
                | Kind::NextAttempt
                | Kind::Delivered
                | Kind::Receipt
                | Kind::Refusal
        );
        let is_owed = is_evidence && row.role == Role::Source;
        // A patient's no, too: what ends a transfer after its release counts beside it only.
        return if is_owed || kind == Kind::Revocation {
            vec![Label::copy(row.transfer, now)]
        } else {
            Vec::new()
        };
    }
    let other = if row.role == Role::Source { row.destination.clone() } else { row.source.clone() };
    match kind {
        // They travel with the package, and back; the index reserves the fee on the first.
        Kind::Header | Kind::Delivered => vec![Label::copy(row.transfer, now)],
        Kind::KeyRelease | Kind::Receipt => {
            vec![Label::direct(other, row.transfer, now), Label::copy(row.transfer, now)]
        }
        // A patient's no, and who holds to it, goes both ways: an index that says yes and forgets keeps it from nobody,
        // and waits for who is away. Whichever comes second changes nothing.
        Kind::Revocation
        | Kind::EarlyRevocation
        | Kind::ConfirmedBySource
        | Kind::ConfirmedByDestination
        | Kind::PatientRefusal => {
            vec![Label::direct(other.clone(), row.transfer, now), Label::via_index(other, row.transfer, now)]
        }
        _ => vec![Label::via_index(other, row.transfer, now)],
    }
}
