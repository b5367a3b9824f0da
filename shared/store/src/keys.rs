//! Keys: a space's label, then parts. Identifiers stand in them as keyed hashes only, so a copied disk tells
//! neither who nor which.
//!
//! Layout: label length (1 byte, never 0), label, then for each part: a hash as its 16 bytes, a number as 8 bytes
//! big-endian, plain bytes escaped and ended (0x00 becomes 0x00 0xFF, the end is 0x00 0x01), so that keys order as
//! their parts do and none is the beginning of another by accident. A space keeps to one sequence of parts.

use std::sync::Arc;

use handover_core::Digest;
use handover_seal::Secret32;
use handover_seal::cell::keyed_hash;

/// A hashed part's length in bytes.
const HASH_BYTES: usize = 16;
const ESCAPE: u8 = 0x00;
const ESCAPED_ZERO: u8 = 0xFF;
const END: u8 = 0x01;

/// Makes keys for one store.
#[derive(Clone)]
pub struct KeyMaker {
    index_key: Arc<Secret32>,
}

impl KeyMaker {
    pub(crate) fn new(index_key: Secret32) -> Self {
        Self { index_key: Arc::new(index_key) }
    }

    /// A mark by which this store knows again what it told somebody; nobody else can make it. `label` sets it apart from
    /// other marks and from the spaces of keys.
    #[must_use]
    pub fn mark(&self, label: &'static str, what: impl AsRef<[u8]>) -> Digest {
        Digest::from_bytes(keyed_hash(&self.index_key, &[label.as_bytes(), what.as_ref()]))
    }

    /// Begins a key in a space. `label` is a short constant of the calling code, for example `transfer`; it stands
    /// readable in the key. Only its first 255 bytes count.
    #[must_use]
    pub fn space(&self, label: &'static str) -> KeyBuilder {
        let label = label.as_bytes();
        // An empty label would begin a key with the byte that is the store's own.
        let label = if label.is_empty() { b"-" } else { label };
        let length = u8::try_from(label.len()).unwrap_or(u8::MAX);
        let mut key = Vec::with_capacity(64);
        key.push(length);
        key.extend(label.iter().take(usize::from(length)));
        let label_bytes = key.len();
        KeyBuilder { index_key: Arc::clone(&self.index_key), key, label_bytes }
    }
}

/// A key being made. What is built so far is also the prefix of all keys that continue it.
#[derive(Clone)]
pub struct KeyBuilder {
    index_key: Arc<Secret32>,
    key: Vec<u8>,
    label_bytes: usize,
}

impl KeyBuilder {
    /// Adds an identifier as a keyed hash. The hash differs from space to space, so the same patient in two
    /// spaces cannot be matched on a copied disk.
    #[must_use]
    pub fn hashed(mut self, identifier: impl AsRef<[u8]>) -> Self {
        let label = self.key.get(..self.label_bytes).unwrap_or_default();
        let hash = keyed_hash(&self.index_key, &[label, identifier.as_ref()]);
        self.key.extend(hash.iter().take(HASH_BYTES));
        self
    }

    /// Adds plain bytes that keep their order. For what may stand readable on a disk: a department, a state.
    #[must_use]
    pub fn raw(mut self, bytes: impl AsRef<[u8]>) -> Self {
        for &byte in bytes.as_ref() {
            self.key.push(byte);
            if byte == ESCAPE {
                self.key.push(ESCAPED_ZERO);
            }
        }
        self.key.extend([ESCAPE, END]);
        self
    }

    /// Adds a number, in numerical order.
    #[must_use]
    pub fn u64(mut self, number: u64) -> Self {
        self.key.extend(number.to_be_bytes());
        self
    }

    /// The key, or the prefix for a scan.
    #[must_use]
    pub fn build(self) -> Vec<u8> {
        self.key
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn keys() -> KeyMaker {
        KeyMaker::new(Secret32::from_bytes([7; 32]))
    }

    #[test]
    fn identifiers_differ_by_space_and_store() {
        let hash = |keys: &KeyMaker, space| keys.space(space).hashed("p-1").build().split_off(2);
        assert_eq!(hash(&keys(), "a"), hash(&keys(), "a"));
        assert_ne!(hash(&keys(), "a"), hash(&keys(), "b"));
        assert_ne!(hash(&keys(), "a"), hash(&KeyMaker::new(Secret32::from_bytes([8; 32])), "a"));
    }

    #[test]
    fn a_part_is_no_prefix_of_a_longer_one() {
        let key = |department: &str| keys().space("record").raw(department).build();
        assert!(!key("laboratory").starts_with(&key("lab")));
        assert!(keys().space("record").raw("lab").u64(1).build().starts_with(&key("lab")));
    }

    proptest! {
        #[test]
        fn keys_order_as_their_parts(a: (Vec<u8>, u64), b: (Vec<u8>, u64)) {
            let key = |(raw, number): &(Vec<u8>, u64)| keys().space("s").raw(raw).u64(*number).build();
            prop_assert_eq!(a.cmp(&b), key(&a).cmp(&key(&b)));
        }
    }
}
