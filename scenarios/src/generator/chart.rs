//! What is being written about one patient: the random stream, the buffer of resources not yet written, the tally
//! of what a transfer of it must cost; and the JSON shapes that every resource shares.
//!
//! The tally knows which tests were done and which charges were written because this code decided both; it never
//! reads back what it wrote, so that comparing a product's answer with it is a comparison of two ways.

use handover_core::time::Timestamp;
use serde_json::{Number, Value, json};

use super::codes::{Code, Service};
use super::random::Rng;
use super::{Expected, Form};

/// How a thing done is billed.
#[derive(Clone, Copy, Debug)]
pub(super) enum Charge {
    /// `Claim.item.net`, in cents.
    Net(i64),
    /// `unitPrice` (cents, a multiple of 10) × `quantity` × `factor` (tenths), without `net`.
    Units { unit_minor: i64, quantity: i64, factor_tenths: i64 },
    /// An item without any amount.
    CodeOnly,
    /// Not on any claim.
    Unclaimed,
}

impl Charge {
    /// What the claim says, in cents.
    pub(super) fn claimed_minor(self) -> Option<i64> {
        match self {
            Self::Net(minor) => Some(minor),
            Self::Units { unit_minor, quantity, factor_tenths } => {
                Some(unit_minor * quantity * factor_tenths / 10)
            }
            Self::CodeOnly | Self::Unclaimed => None,
        }
    }

    /// A charge of any kind, `low` to `high` cents where it names an amount.
    pub(super) fn any(rng: &mut Rng, low: i64, high: i64) -> Self {
        match rng.below(6) {
            0..=2 => Self::Net(rng.range(low, high)),
            3 => Self::Units {
                unit_minor: rng.range(low, high) / 10 * 10,
                quantity: rng.range(1, 3),
                factor_tenths: *rng.pick(&[10, 5, 15]),
            },
            4 => Self::CodeOnly,
            _ => Self::Unclaimed,
        }
    }
}

/// One patient in the making.
pub(super) struct Chart {
    pub(super) rng: Rng,
    pub(super) form: Form,
    pub(super) patient: String,
    pub(super) organization: String,
    pub(super) practitioners: Vec<String>,
    /// Resources made and not yet written.
    pub(super) pending: Vec<Value>,
    pub(super) expected: Expected,
}

impl Chart {
    /// A reference to a resource of this patient's file.
    pub(super) fn refer(&self, kind: &str, id: &str) -> Value {
        match self.form {
            Form::Transaction => json!({ "reference": format!("urn:uuid:{id}") }),
            Form::Ndjson => json!({ "reference": format!("{kind}/{id}") }),
        }
    }

    /// A reference to the patient.
    pub(super) fn subject(&self) -> Value {
        self.refer("Patient", &self.patient)
    }

    /// A reference to one of the hospital's practitioners.
    pub(super) fn doctor(&mut self) -> Value {
        let id = self.rng.pick(&self.practitioners).clone();
        self.refer("Practitioner", &id)
    }

    /// Notes that a test counts for the fee, with its price: the claim's, else the list's, else none.
    pub(super) fn count_test(&mut self, service: &Service, at: Timestamp, charge: Charge) {
        let price = charge.claimed_minor().or_else(|| service.listed_minor(&date(at)));
        match price {
            Some(minor) => {
                self.expected.tests_priced += 1;
                self.expected.basis_minor += minor;
            }
            None => self.expected.tests_unpriced += 1,
        }
    }
}

/// An instant's ISO date, UTC.
pub(super) fn date(at: Timestamp) -> String {
    at.to_string().chars().take(10).collect()
}

/// FHIR's `CodeableConcept`.
pub(super) fn concept(code: Code) -> Value {
    json!({ "coding": [coding(code)], "text": code.display })
}

/// FHIR's `Coding`.
pub(super) fn coding(code: Code) -> Value {
    json!({ "system": code.system, "code": code.code, "display": code.display })
}

/// A coding of one of HL7's own code systems.
pub(super) fn hl7(system: &str, code: &str) -> Value {
    json!({ "coding": [{ "system": format!("http://terminology.hl7.org/CodeSystem/{system}"), "code": code }] })
}

/// FHIR's `Money`, in US dollars.
pub(super) fn money(minor: i64) -> Value {
    json!({ "value": decimal(minor, 2), "currency": "USD" })
}

/// `scaled` / 10^`places` as a JSON number, in its shortest form. Fifteen digits are exact.
pub(super) fn decimal(scaled: i64, places: u32) -> Value {
    let unit = 10_i64.pow(places);
    let sign = if scaled < 0 { "-" } else { "" };
    let width = places as usize;
    let text = format!("{sign}{}.{:0width$}", scaled.abs() / unit, scaled.abs() % unit);
    let short = text.trim_end_matches('0').trim_end_matches('.');
    short.parse::<Number>().map_or(Value::Null, Value::Number)
}

/// FHIR's `Quantity` in a UCUM unit.
pub(super) fn quantity(scaled: i64, places: u32, unit: &str) -> Value {
    json!({ "value": decimal(scaled, places), "unit": unit, "system": "http://unitsofmeasure.org", "code": unit })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_are_exact_and_short() {
        for (scaled, places, text) in [
            (1250, 2, "12.5"),
            (1200, 2, "12"),
            (5, 2, "0.05"),
            (-7, 1, "-0.7"),
            (7, 0, "7"),
            (113_299_597, 2, "1132995.97"),
        ] {
            assert_eq!(decimal(scaled, places).to_string(), text);
        }
    }
}
