//! Identifiers. Each is its own type, made only through `TryFrom`/`FromStr`/`from_bytes`, so that no place takes
//! a hospital for a patient or an unchecked text for either.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest as _, Sha256};

/// Why a text or bytes are no identifier of the wanted kind.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a {kind}: {reason}")]
pub struct InvalidId {
    /// The identifier's kind, for people.
    pub kind: &'static str,
    /// What is wrong with it.
    pub reason: &'static str,
}

macro_rules! serde_as_text {
    ($name:ident) => {
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

macro_rules! bytes_32 {
    ($(#[$meta:meta])* $name:ident, $kind:literal) => {
        $(#[$meta])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name([u8; 32]);

        impl $name {
            /// From its 32 bytes.
            #[must_use]
            pub const fn from_bytes(bytes: [u8; 32]) -> Self {
                Self(bytes)
            }

            /// Its 32 bytes.
            #[must_use]
            pub const fn as_bytes(&self) -> &[u8; 32] {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&hex::encode(self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), hex::encode(self.0))
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;

            fn from_str(text: &str) -> Result<Self, InvalidId> {
                let mut bytes = [0; 32];
                hex::decode_to_slice(text, &mut bytes)
                    .map_err(|_| InvalidId { kind: $kind, reason: "needs 64 hexadecimal digits" })?;
                Ok(Self(bytes))
            }
        }

        impl TryFrom<&[u8]> for $name {
            type Error = InvalidId;

            fn try_from(bytes: &[u8]) -> Result<Self, InvalidId> {
                <[u8; 32]>::try_from(bytes)
                    .map(Self)
                    .map_err(|_| InvalidId { kind: $kind, reason: "needs 32 bytes" })
            }
        }

        serde_as_text!($name);
    };
}

bytes_32!(
    /// A SHA-256 hash; of an artefact, the hash of its COSE `Sig_structure` (RFC 9052, section 4.4).
    Digest,
    "hash"
);
bytes_32!(
    /// A patient as the federation knows them: the hash of their first `PatientKeyRecord`. Says nothing about the
    /// person and proves itself.
    PatientRef,
    "patient reference"
);
bytes_32!(
    /// The BLAKE3 root of a content's ciphertext as it lies and travels.
    ContentRoot,
    "content root"
);
bytes_32!(
    /// An Ed25519 public key (RFC 8032), as claimed: whoever verifies with it refuses weak points.
    SigningPublic,
    "Ed25519 public key"
);
bytes_32!(
    /// An X25519 public key (RFC 7748).
    SealingPublic,
    "X25519 public key"
);

impl Digest {
    /// SHA-256 over the parts, one after another.
    #[must_use]
    pub fn sha256(parts: &[&[u8]]) -> Self {
        let mut hasher = Sha256::new();
        for part in parts {
            hasher.update(part);
        }
        Self(hasher.finalize().into())
    }
}

impl SigningPublic {
    /// The key's thumbprint: SHA-256 of its 32 bytes. Stands as `kid` in every artefact that it signed.
    #[must_use]
    pub fn thumbprint(&self) -> Digest {
        Digest::sha256(&[&self.0])
    }
}

macro_rules! slug {
    ($(#[$meta:meta])* $name:ident, $kind:literal, $max:literal) => {
        $(#[$meta])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(String);

        impl $name {
            /// The identifier as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.0)
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;

            fn from_str(text: &str) -> Result<Self, InvalidId> {
                let fault = |reason| InvalidId { kind: $kind, reason };
                if !(2..=$max).contains(&text.len()) {
                    return Err(fault(concat!("needs 2 to ", $max, " characters")));
                }
                if !text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-') {
                    return Err(fault("only a-z, 0-9 and '-' are allowed"));
                }
                if text.starts_with('-') || text.ends_with('-') {
                    return Err(fault("must not start or end with '-'"));
                }
                Ok(Self(text.to_owned()))
            }
        }

        serde_as_text!($name);
    };
}

slug!(
    /// A hospital's identifier in its federation, chosen at enrolment and bound to its key by the root's
    /// certificate: lower-case ASCII letters, digits and hyphens, for example `lakeside`.
    HospitalId,
    "hospital identifier",
    40
);
slug!(
    /// A department, for example `laboratory`. What no rule places is in [`Department::unassigned`].
    Department,
    "department",
    40
);

impl Department {
    /// Where records go that neither the mapping nor their encounter places.
    #[must_use]
    pub fn unassigned() -> Self {
        Self("unassigned".to_owned())
    }
}

macro_rules! uuid_7 {
    ($(#[$meta:meta])* $name:ident, $kind:literal) => {
        $(#[$meta])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(uuid::Uuid);

        impl $name {
            /// A new identifier from the time and ten random bytes.
            #[must_use]
            pub fn new(now: crate::Timestamp, random: [u8; 10]) -> Self {
                let unix_ms = u64::try_from(now.as_millis()).unwrap_or(0);
                Self(uuid::Builder::from_unix_timestamp_millis(unix_ms, &random).into_uuid())
            }

            /// Its 16 bytes.
            #[must_use]
            pub fn as_bytes(&self) -> &[u8; 16] {
                self.0.as_bytes()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.0)
            }
        }

        impl TryFrom<&[u8]> for $name {
            type Error = InvalidId;

            fn try_from(bytes: &[u8]) -> Result<Self, InvalidId> {
                let fault = |reason| InvalidId { kind: $kind, reason };
                let id = uuid::Uuid::from_slice(bytes).map_err(|_| fault("needs 16 bytes"))?;
                if id.get_version_num() != 7 {
                    return Err(fault("needs a version 7 UUID"));
                }
                Ok(Self(id))
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;

            fn from_str(text: &str) -> Result<Self, InvalidId> {
                let id = uuid::Uuid::parse_str(text)
                    .map_err(|_| InvalidId { kind: $kind, reason: "needs a UUID" })?;
                Self::try_from(id.as_bytes().as_slice())
            }
        }

        serde_as_text!($name);
    };
}

uuid_7!(
    /// A transfer's identifier: UUID version 7 (RFC 9562, section 5.7).
    TransferId,
    "transfer identifier"
);
uuid_7!(
    /// A request for a remote link: UUID version 7 (RFC 9562, section 5.7).
    RemoteLinkId,
    "remote link identifier"
);
uuid_7!(
    /// A break-glass: UUID version 7 (RFC 9562, section 5.7).
    BreakGlassId,
    "break-glass identifier"
);

/// Who speaks on a connection or stands in an account: the index or a hospital. Written `index` or the
/// hospital's identifier; no hospital may be called `index`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Party {
    /// The federation's global index.
    Index,
    /// A hospital.
    Hospital(HospitalId),
}

impl fmt::Display for Party {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Index => f.write_str("index"),
            Self::Hospital(id) => id.fmt(f),
        }
    }
}

impl FromStr for Party {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        if text == "index" { Ok(Self::Index) } else { text.parse().map(Self::Hospital) }
    }
}

serde_as_text!(Party);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slugs_are_checked() {
        assert!("lakeside".parse::<HospitalId>().is_ok());
        for bad in ["", "a", "Lakeside", "-x-", "lake side", "über", &"x".repeat(41)] {
            assert!(bad.parse::<HospitalId>().is_err(), "{bad}");
        }
    }

    #[test]
    fn transfer_ids_are_version_7_and_ordered_by_time() {
        let early = TransferId::new(crate::Timestamp::from_millis(1), [9; 10]);
        let late = TransferId::new(crate::Timestamp::from_millis(2), [0; 10]);
        assert!(early < late);
        assert_eq!(early.to_string().parse::<TransferId>(), Ok(early));
        assert!("9b2f4c3e-7a53-4b43-8d15-0d3bb7f7ad0e".parse::<TransferId>().is_err());
    }
}
