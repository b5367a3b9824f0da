//! Editions of the artefacts' formats. An artefact's label says in which one it is: `handover/consent/1`.
//!
//! A program reads every edition up to the last that it knows, and goes on reading it: evidence is old when it is needed.
//! It signs in the edition that is in force in its federation, which the directory says; operators raise that once
//! everybody reads the next. So programs of two versions work beside each other, whoever is upgraded first.
//!
//! The draft is the edition after the last one that is settled, as far as it is made. A program knows it only where it was
//! told to ([`Edition::rehearse`]), so that an upgrade can be rehearsed before there is one.

use std::fmt;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::codec::{DecodeError, Field, Value};

/// The number of an edition, from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Edition(u32);

/// What this program reads is the same for all that it does, so it is not handed from call to call.
static LAST: AtomicU32 = AtomicU32::new(Edition::SETTLED.0);

impl Edition {
    /// The first: what says nothing else is in this one.
    pub const FIRST: Self = Self(1);
    /// The last one whose formats do not change any more.
    pub const SETTLED: Self = Self(1);
    /// The one that is being made.
    pub const DRAFT: Self = Self(Self::SETTLED.0 + 1);

    /// The last one that this program reads.
    #[must_use]
    pub fn last() -> Self {
        Self(LAST.load(Ordering::Relaxed))
    }

    /// Lets this program read the draft, too. Once, at its start.
    pub fn rehearse() {
        LAST.store(Self::DRAFT.0, Ordering::Relaxed);
    }

    /// The number.
    #[must_use]
    pub const fn number(self) -> u32 {
        self.0
    }

    /// The one after it.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }

    /// A kind's label in this edition, of the one that it has in the first.
    pub(crate) fn label(self, first: &str) -> String {
        match first.rsplit_once('/') {
            Some((kind, _)) => format!("{kind}/{self}"),
            None => first.to_owned(),
        }
    }

    /// Reads a label: the one that its kind has in the first edition, by which it is known, and the edition. What is no
    /// such label is its own, and of the first.
    pub(crate) fn of_label(label: &str) -> (String, Self) {
        let (named, rest) = label.split_at(label.find('+').unwrap_or(label.len()));
        let read = named.rsplit_once('/').and_then(|(kind, number)| {
            let edition = Self(number.parse().ok()?);
            // In one form only.
            (edition >= Self::FIRST && edition.to_string() == number).then_some((kind, edition))
        });
        match read {
            Some((kind, edition)) => (format!("{kind}/{}{rest}", Self::FIRST), edition),
            None => (label.to_owned(), Self::FIRST),
        }
    }
}

impl fmt::Display for Edition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The edition that somebody signs in; it changes while they do.
#[derive(Debug)]
pub struct SignsIn(AtomicU32);

impl SignsIn {
    /// That of now.
    #[must_use]
    pub fn edition(&self) -> Edition {
        Edition(self.0.load(Ordering::Relaxed))
    }

    /// From here on in the one in force, or in the last that this program reads.
    pub fn set(&self, in_force: Edition) {
        self.0.store(in_force.min(Edition::last()).0, Ordering::Relaxed);
    }
}

impl Default for SignsIn {
    fn default() -> Self {
        Self(AtomicU32::new(Edition::FIRST.0))
    }
}

/// The first is left out: those who do not know of editions write it so.
impl Field for Edition {
    fn to_value(&self) -> Option<Value> {
        (*self != Self::FIRST).then(|| Value::Integer(self.0.into()))
    }

    fn from_value(value: Option<Value>) -> Result<Self, DecodeError> {
        match value {
            None => Ok(Self::FIRST),
            value => match u32::from_value(value)? {
                0 => Err(DecodeError::value("needs an edition, from 1")),
                number => Ok(Self(number)),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_says_kind_and_edition() {
        for (label, kind, number) in [
            ("handover/consent/1", "handover/consent/1", 1),
            ("handover/consent/12", "handover/consent/1", 12),
            ("handover/patient-link/2+countersigned", "handover/patient-link/1+countersigned", 2),
        ] {
            assert_eq!(Edition::of_label(label), (kind.to_owned(), Edition(number)), "{label}");
        }
        for other in ["", "consent", "handover/consent/", "handover/consent/0", "handover/consent/02", "x/+2"]
        {
            assert_eq!(Edition::of_label(other), (other.to_owned(), Edition::FIRST), "{other}");
        }
        assert_eq!(Edition::DRAFT.label("handover/consent/1"), "handover/consent/2");
    }
}
