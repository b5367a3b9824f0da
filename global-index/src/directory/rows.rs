//! What this room stores beside the directory itself.

use handover_core::{Edition, cbor_map};

cbor_map! {
    /// How far versions and editions have counted.
    pub struct Counted {
        /// The newest version.
        1 => version: u64,
    }
    later {
        /// The edition that was put in force last.
        1 => edition: Edition,
    }
}

cbor_map! {
    /// What the directory says of where the index is.
    pub struct Addresses {
        /// libp2p addresses.
        1 => addresses: Vec<String>,
    }
}
