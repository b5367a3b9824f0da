//! What this room stores.

use handover_core::{Amount, Code, HospitalId, Timestamp, TransferId, cbor_map};
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
    /// Nothing more is booked until people have looked: a receipt states another fee than the one reserved, or the
    /// destination refused what it had taken delivery of.
    pub struct Hold {
        /// The transfer.
        1 => transfer: TransferId,
        /// As reserved.
        2 => reserved: Amount,
        /// As the destination's receipt states it; none if it refused after delivery.
        3 => stated: Option<Amount>,
        /// When.
        4 => at: Timestamp,
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
