//! What this room stores.

use handover_core::codec::Bytes;
use handover_core::{Code, HospitalId, Timestamp, TransferId, cbor_map};
use handover_dossier::Kind;

cbor_map! {
    /// An artefact that waits for a hospital; its content lies in the transfer's dossier.
    pub struct Letter {
        /// The transfer.
        1 => transfer: TransferId,
        /// Which of its artefacts.
        2 => kind: Kind,
        /// Its number in the mailbox.
        3 => number: u64,
        /// Of which attempt; 0 for what the whole transfer has once.
        4 => attempt: u32,
    }
}

cbor_map! {
    /// A mailbox's counter.
    pub struct Head {
        /// The next letter's number.
        1 => next: u64,
    }
}

cbor_map! {
    /// An artefact that a hospital will not take.
    pub struct Dead {
        /// The hospital.
        1 => hospital: HospitalId,
        /// The transfer.
        2 => transfer: TransferId,
        /// Which of its artefacts.
        3 => kind: Kind,
        /// Why.
        4 => code: Code,
        /// When.
        5 => at: Timestamp,
    }
}

cbor_map! {
    /// What operators order about a hold.
    #[derive(Default)]
    pub struct HoldOrders {
        /// Signed by one, waiting for a second.
        1 => pending: Option<Bytes>,
        /// Signed by two, and booked.
        2 => order: Option<Bytes>,
    }
}

cbor_map! {
    /// The destination has what it signed for, and was offered both releases of it.
    pub struct Offered {
        /// The transfer.
        1 => transfer: TransferId,
        /// When the last of them came here.
        2 => at: Timestamp,
        /// The end of the silence period, by the schedule that was in force for the quote.
        3 => until: Timestamp,
    }
}
