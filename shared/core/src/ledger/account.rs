//! Accounts: one per party and currency. Debits are what the party owes, credits what it is owed; the index itself
//! holds none, it clears.

use std::fmt;

use crate::codec::{DecodeError, Field, Value};
use crate::{Currency, HospitalId, PatientRef};

/// Who holds an account or pays a fee.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Holder {
    /// A hospital.
    Hospital(HospitalId),
    /// A patient, by reference only.
    Patient(PatientRef),
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Hospital(id) => id.fmt(f),
            Self::Patient(patient) => write!(f, "patient:{patient}"),
        }
    }
}

/// A hospital is its text, a patient the 32 bytes of the reference.
impl Field for Holder {
    fn to_value(&self) -> Option<Value> {
        match self {
            Self::Hospital(id) => id.to_value(),
            Self::Patient(patient) => patient.to_value(),
        }
    }

    fn from_value(value: Option<Value>) -> Result<Self, DecodeError> {
        match value {
            text @ Some(Value::Text(_)) => HospitalId::from_value(text).map(Self::Hospital),
            bytes @ Some(Value::Bytes(_)) => PatientRef::from_value(bytes).map(Self::Patient),
            _ => Err(DecodeError::value("needs a hospital or a patient reference")),
        }
    }
}

/// A party's account in one currency.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Account {
    /// Whose it is.
    pub holder: Holder,
    /// What it is kept in.
    pub currency: Currency,
}

impl fmt::Display for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.holder, self.currency)
    }
}

/// `[holder, currency]`.
impl Field for Account {
    fn to_value(&self) -> Option<Value> {
        Some(Value::Array(self.holder.to_value().into_iter().chain(self.currency.to_value()).collect()))
    }

    fn from_value(value: Option<Value>) -> Result<Self, DecodeError> {
        let Some(Value::Array(parts)) = value else { return Err(DecodeError::value("needs an account")) };
        let [holder, currency] =
            <[Value; 2]>::try_from(parts).map_err(|_| DecodeError::value("needs holder and currency"))?;
        Ok(Self { holder: Field::from_value(Some(holder))?, currency: Field::from_value(Some(currency))? })
    }
}
