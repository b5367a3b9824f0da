//! The one CBOR codec (RFC 8949, core deterministic encoding): maps with explicit ascending integer keys, definite
//! lengths, shortest integers, no floats, no tags.
//!
//! Types are declared with [`crate::cbor_map!`] and [`crate::cbor_enum!`]; what is decoded must encode to the received bytes
//! again, else it is refused. That closes every door that a lenient decoder leaves open: other integer widths,
//! indefinite lengths, repeated or unknown keys, tags. Input is bounded before it is decoded.
//!
//! Key 0 of every map is its extension map: unknown entries are kept as they came; those with a negative key are
//! critical and refused.

use std::collections::BTreeMap;

pub use serde_cbor::Value;

use crate::id::{
    BreakGlassId, ContentRoot, Department, Digest, HospitalId, Party, PatientRef, RemoteLinkId,
    SealingPublic, SigningPublic, TransferId,
};
use crate::{Amount, Timestamp};

/// The most bytes of one artefact or control message.
pub const MAX_MESSAGE_BYTES: usize = 1024 * 1024;
/// The deepest nesting that is accepted.
pub const MAX_DEPTH: usize = 12;

/// Why bytes are not the wanted value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// More bytes than allowed; nothing was decoded.
    #[error("{bytes} bytes, at most {max} are allowed")]
    TooLarge {
        /// Received.
        bytes: usize,
        /// Allowed.
        max: usize,
    },
    /// Not well-formed CBOR, or data after its end.
    #[error("not well-formed CBOR")]
    Malformed,
    /// Well-formed, but not the one deterministic encoding of its value.
    #[error("not deterministically encoded")]
    NotCanonical,
    /// Nested more deeply than [`MAX_DEPTH`].
    #[error("nested too deeply")]
    TooDeep,
    /// A field has the wrong type or a value outside its range.
    #[error("{path}: {reason}")]
    Field {
        /// Map and field, `Consent.source`.
        path: String,
        /// What is wrong.
        reason: String,
    },
    /// An extension marked critical that this version does not know.
    #[error("critical extension {0} is not known to this version")]
    CriticalExtension(i128),
}

impl DecodeError {
    /// A fault of a value; the enclosing map adds its name.
    pub fn value(reason: impl Into<String>) -> Self {
        Self::Field { path: String::new(), reason: reason.into() }
    }

    #[doc(hidden)]
    #[must_use]
    pub fn at(self, map: &str, field: &str) -> Self {
        match self {
            Self::Field { path, reason } if path.is_empty() => {
                Self::Field { path: format!("{map}.{field}"), reason }
            }
            Self::Field { path, reason } => Self::Field { path: format!("{map}.{field} > {path}"), reason },
            other => other,
        }
    }
}

/// A value that stands in a map's field. `None` is an absent key.
pub trait Field: Sized {
    /// The value, or `None` if the key is left out.
    fn to_value(&self) -> Option<Value>;
    /// From the value under the key, or from its absence.
    ///
    /// # Errors
    /// [`DecodeError::Field`] for another type or range.
    fn from_value(value: Option<Value>) -> Result<Self, DecodeError>;
}

/// A type that is a map with integer keys; made by [`crate::cbor_map!`].
pub trait CborMap: Sized {
    /// Its entries.
    fn to_map(&self) -> BTreeMap<Value, Value>;
    /// From its entries; every key must be known or stand in the extension map.
    ///
    /// # Errors
    /// [`DecodeError`] naming map and field.
    fn from_map(map: BTreeMap<Value, Value>) -> Result<Self, DecodeError>;
}

/// Entries under key 0 that this version does not know; kept as they came.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Extensions(BTreeMap<Value, Value>);

impl Extensions {
    #[doc(hidden)]
    pub fn put(&self, map: &mut BTreeMap<Value, Value>) {
        if !self.0.is_empty() {
            map.insert(Value::Integer(0), Value::Map(self.0.clone()));
        }
    }

    /// The same with another entry, that this version knows.
    #[doc(hidden)]
    #[must_use]
    pub fn with(mut self, key: i128, value: Option<Value>) -> Self {
        if let Some(value) = value {
            self.0.insert(Value::Integer(key), value);
        }
        self
    }

    /// Takes out an entry that this version knows.
    #[doc(hidden)]
    pub fn take_one(&mut self, key: i128) -> Option<Value> {
        self.0.remove(&Value::Integer(key))
    }

    #[doc(hidden)]
    pub fn take(map: &mut BTreeMap<Value, Value>) -> Result<Self, DecodeError> {
        let entries = match map.remove(&Value::Integer(0)) {
            None => return Ok(Self::default()),
            Some(Value::Map(entries)) if !entries.is_empty() => entries,
            Some(_) => return Err(DecodeError::value("extensions must be a map with entries")),
        };
        for key in entries.keys() {
            match key {
                Value::Integer(key) if *key < 0 => return Err(DecodeError::CriticalExtension(*key)),
                Value::Integer(_) => {}
                _ => return Err(DecodeError::value("extension keys must be integers")),
            }
        }
        Ok(Self(entries))
    }
}

/// Declares a struct that is encoded as a map with the given integer keys, ascending from 1.
///
/// Fields are public; an `extensions` field is added. Optional fields are `Option<T>` and left out when `None`. What was
/// added later, and may be ignored by those who do not know it, follows under `later`, with its keys in the extension
/// map.
#[macro_export]
macro_rules! cbor_map {
    (
        $(#[$meta:meta])* $vis:vis struct $name:ident { $( $(#[$fmeta:meta])* $key:literal => $field:ident : $ty:ty ),* $(,)? }
        $( later { $( $(#[$lmeta:meta])* $lkey:literal => $lfield:ident : $lty:ty ),* $(,)? } )?
    ) => {
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq, Eq)]
        $vis struct $name {
            $( $(#[$fmeta])* $vis $field: $ty, )*
            $( $( $(#[$lmeta])* $vis $lfield: $lty, )* )?
            /// Entries of later versions, kept as they came.
            $vis extensions: $crate::codec::Extensions,
        }

        impl $crate::codec::CborMap for $name {
            fn to_map(&self) -> std::collections::BTreeMap<$crate::codec::Value, $crate::codec::Value> {
                let mut map = std::collections::BTreeMap::new();
                $( if let Some(value) = $crate::codec::Field::to_value(&self.$field) {
                    map.insert($crate::codec::Value::Integer($key), value);
                } )*
                let extensions = self.extensions.clone();
                $( $( let extensions = extensions.with($lkey, $crate::codec::Field::to_value(&self.$lfield)); )* )?
                extensions.put(&mut map);
                map
            }

            fn from_map(
                mut map: std::collections::BTreeMap<$crate::codec::Value, $crate::codec::Value>,
            ) -> Result<Self, $crate::codec::DecodeError> {
                #[allow(unused_mut, reason = "only what was added later is taken out")]
                let mut extensions = $crate::codec::Extensions::take(&mut map)?;
                let decoded = Self {
                    $( $( $lfield: <$lty as $crate::codec::Field>::from_value(extensions.take_one($lkey))
                        .map_err(|fault| fault.at(stringify!($name), stringify!($lfield)))?, )* )?
                    $( $field: <$ty as $crate::codec::Field>::from_value(map.remove(&$crate::codec::Value::Integer($key)))
                        .map_err(|fault| fault.at(stringify!($name), stringify!($field)))?, )*
                    extensions,
                };
                match map.keys().next() {
                    None => Ok(decoded),
                    Some(_) => Err($crate::codec::DecodeError::value("unknown key").at(stringify!($name), "?")),
                }
            }
        }

        impl $crate::codec::Field for $name {
            fn to_value(&self) -> Option<$crate::codec::Value> {
                Some($crate::codec::Value::Map($crate::codec::CborMap::to_map(self)))
            }

            fn from_value(value: Option<$crate::codec::Value>) -> Result<Self, $crate::codec::DecodeError> {
                match value {
                    Some($crate::codec::Value::Map(map)) => $crate::codec::CborMap::from_map(map),
                    _ => Err($crate::codec::DecodeError::value("needs a map")),
                }
            }
        }
    };
}

/// Declares an enum that is encoded as an integer and named in text by a stable word.
#[macro_export]
macro_rules! cbor_enum {
    ($(#[$meta:meta])* $vis:vis enum $name:ident { $( $(#[$vmeta:meta])* $variant:ident = $number:literal, $word:literal );* $(;)? }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        $vis enum $name { $( $(#[$vmeta])* $variant, )* }

        impl $name {
            /// Every value, in the order of declaration.
            $vis const ALL: &'static [Self] = &[$( Self::$variant, )*];

            /// The stable word for it.
            #[must_use]
            $vis const fn as_str(self) -> &'static str {
                match self { $( Self::$variant => $word, )* }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(self.as_str())
            }
        }

        impl std::str::FromStr for $name {
            type Err = $crate::id::InvalidId;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                match text {
                    $( $word => Ok(Self::$variant), )*
                    _ => Err($crate::id::InvalidId { kind: stringify!($name), reason: "unknown word" }),
                }
            }
        }

        impl $crate::codec::Field for $name {
            fn to_value(&self) -> Option<$crate::codec::Value> {
                Some($crate::codec::Value::Integer(match self { $( Self::$variant => $number, )* }))
            }

            fn from_value(value: Option<$crate::codec::Value>) -> Result<Self, $crate::codec::DecodeError> {
                match value {
                    $( Some($crate::codec::Value::Integer($number)) => Ok(Self::$variant), )*
                    _ => Err($crate::codec::DecodeError::value("unknown value")),
                }
            }
        }
    };
}

/// The deterministic encoding of a map.
#[must_use]
pub fn encode<T: CborMap>(value: &T) -> Vec<u8> {
    encode_value(&Value::Map(value.to_map()))
}

fn encode_value(value: &Value) -> Vec<u8> {
    #[expect(
        clippy::expect_used,
        reason = "values hold no floats or custom serializers and a Vec takes every write"
    )]
    serde_cbor::to_vec(value).expect("CBOR values always encode")
}

/// Decodes a map of at most `max_bytes` bytes and checks that it was deterministically encoded.
///
/// # Errors
/// [`DecodeError`].
pub fn decode<T: CborMap>(bytes: &[u8], max_bytes: usize) -> Result<T, DecodeError> {
    if bytes.len() > max_bytes {
        return Err(DecodeError::TooLarge { bytes: bytes.len(), max: max_bytes });
    }
    // The decoder's own limit of 128 levels bounds its stack; ours is checked on what it made.
    let value: Value = serde_cbor::from_slice(bytes).map_err(|_| DecodeError::Malformed)?;
    check(&value, MAX_DEPTH)?;
    let Value::Map(map) = value else { return Err(DecodeError::value("needs a map")) };
    let decoded = T::from_map(map)?;
    if encode(&decoded) != bytes {
        return Err(DecodeError::NotCanonical);
    }
    Ok(decoded)
}

/// Depth, and that there are no floats and no tags: also not in an extension, where anything else may stand.
fn check(value: &Value, left: usize) -> Result<(), DecodeError> {
    let left = left.checked_sub(1).ok_or(DecodeError::TooDeep)?;
    match value {
        Value::Array(items) => items.iter().try_for_each(|item| check(item, left)),
        Value::Map(map) => map.iter().try_for_each(|(key, item)| {
            check(key, left)?;
            check(item, left)
        }),
        Value::Null | Value::Bool(_) | Value::Integer(_) | Value::Bytes(_) | Value::Text(_) => Ok(()),
        _ => Err(DecodeError::NotCanonical),
    }
}

/// Bytes in a field (a CBOR byte string, not an array of integers).
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Bytes(pub Vec<u8>);

impl Field for Bytes {
    fn to_value(&self) -> Option<Value> {
        Some(Value::Bytes(self.0.clone()))
    }

    fn from_value(value: Option<Value>) -> Result<Self, DecodeError> {
        match value {
            Some(Value::Bytes(bytes)) => Ok(Self(bytes)),
            _ => Err(DecodeError::value("needs a byte string")),
        }
    }
}

impl From<Vec<u8>> for Bytes {
    fn from(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }
}

impl AsRef<[u8]> for Bytes {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl<const N: usize> Field for [u8; N] {
    fn to_value(&self) -> Option<Value> {
        Some(Value::Bytes(self.to_vec()))
    }

    fn from_value(value: Option<Value>) -> Result<Self, DecodeError> {
        let Bytes(bytes) = Bytes::from_value(value)?;
        Self::try_from(bytes.as_slice()).map_err(|_| DecodeError::value(format!("needs {N} bytes")))
    }
}

impl Field for String {
    fn to_value(&self) -> Option<Value> {
        Some(Value::Text(self.clone()))
    }

    fn from_value(value: Option<Value>) -> Result<Self, DecodeError> {
        match value {
            Some(Value::Text(text)) => Ok(text),
            _ => Err(DecodeError::value("needs a text")),
        }
    }
}

impl Field for bool {
    fn to_value(&self) -> Option<Value> {
        Some(Value::Bool(*self))
    }

    fn from_value(value: Option<Value>) -> Result<Self, DecodeError> {
        match value {
            Some(Value::Bool(value)) => Ok(value),
            _ => Err(DecodeError::value("needs a boolean")),
        }
    }
}

macro_rules! integer_field {
    ($($ty:ty),*) => { $(
        impl Field for $ty {
            fn to_value(&self) -> Option<Value> {
                Some(Value::Integer(i128::from(*self)))
            }

            fn from_value(value: Option<Value>) -> Result<Self, DecodeError> {
                match value {
                    Some(Value::Integer(number)) => {
                        <$ty>::try_from(number).map_err(|_| DecodeError::value("integer out of range"))
                    }
                    _ => Err(DecodeError::value("needs an integer")),
                }
            }
        }
    )* };
}
integer_field!(u8, u16, u32, u64, i64);

impl<T: Field> Field for Option<T> {
    fn to_value(&self) -> Option<Value> {
        self.as_ref().and_then(Field::to_value)
    }

    fn from_value(value: Option<Value>) -> Result<Self, DecodeError> {
        match value {
            None => Ok(None),
            present => T::from_value(present).map(Some),
        }
    }
}

impl<T: Field> Field for Vec<T> {
    fn to_value(&self) -> Option<Value> {
        Some(Value::Array(self.iter().filter_map(Field::to_value).collect()))
    }

    fn from_value(value: Option<Value>) -> Result<Self, DecodeError> {
        match value {
            Some(Value::Array(items)) => items.into_iter().map(|item| T::from_value(Some(item))).collect(),
            _ => Err(DecodeError::value("needs an array")),
        }
    }
}

impl Field for Timestamp {
    fn to_value(&self) -> Option<Value> {
        self.as_millis().to_value()
    }

    fn from_value(value: Option<Value>) -> Result<Self, DecodeError> {
        i64::from_value(value).map(Self::from_millis)
    }
}

macro_rules! bytes_field {
    ($($ty:ty),*) => { $(
        impl Field for $ty {
            fn to_value(&self) -> Option<Value> {
                Some(Value::Bytes(self.as_bytes().to_vec()))
            }

            fn from_value(value: Option<Value>) -> Result<Self, DecodeError> {
                let Bytes(bytes) = Bytes::from_value(value)?;
                Self::try_from(bytes.as_slice()).map_err(|fault| DecodeError::value(fault.to_string()))
            }
        }
    )* };
}
bytes_field!(
    Digest,
    PatientRef,
    ContentRoot,
    SigningPublic,
    SealingPublic,
    TransferId,
    RemoteLinkId,
    BreakGlassId
);

macro_rules! text_field {
    ($($ty:ty),*) => { $(
        impl Field for $ty {
            fn to_value(&self) -> Option<Value> {
                Some(Value::Text(self.to_string()))
            }

            fn from_value(value: Option<Value>) -> Result<Self, DecodeError> {
                String::from_value(value)?.parse().map_err(|fault| DecodeError::value(format!("{fault}")))
            }
        }
    )* };
}
text_field!(HospitalId, Department, Party, crate::Currency);

/// `[minor units, currency]`.
impl Field for Amount {
    fn to_value(&self) -> Option<Value> {
        Some(Value::Array(vec![
            Value::Integer(i128::from(self.minor())),
            Value::Text(self.currency().to_string()),
        ]))
    }

    fn from_value(value: Option<Value>) -> Result<Self, DecodeError> {
        match value {
            Some(Value::Array(parts)) => match <[Value; 2]>::try_from(parts) {
                Ok([minor, currency]) => {
                    Ok(Self::from_minor(i64::from_value(Some(minor))?, Field::from_value(Some(currency))?))
                }
                Err(_) => Err(DecodeError::value("needs minor units and currency")),
            },
            _ => Err(DecodeError::value("needs minor units and currency")),
        }
    }
}

#[cfg(test)]
mod tests;
