//! What this room stores beside the directory itself.

use handover_core::cbor_map;

cbor_map! {
    /// How far versions have counted.
    pub struct Head {
        /// The newest version.
        1 => version: u64,
    }
}

cbor_map! {
    /// What the directory says of where the index is.
    pub struct Addresses {
        /// libp2p addresses.
        1 => addresses: Vec<String>,
    }
}
