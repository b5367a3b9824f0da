//! Seeded generator of realistic FHIR R4 patients for the demo, the stories, the tests and the benchmarks.
//!
//! A seed and the options decide every byte: no clock, no randomness of the system. A patient is written resource by
//! resource, so that memory does not grow with its length. What the fee of a transfer must be is counted while the
//! charges are written, independently of any code that reads them; this module must not know the importer.
//!
//! Every patient has what a reader can get wrong: references that point forward, a laboratory observation without a
//! report, reports entered in error or unfinished, notes that are no tests, procedures outside the catalogue or
//! never carried out, charges by net, by unit price, quantity and factor, by list only or not at all, claims for
//! preauthorization, cancelled or by a pharmacy, double lines, and insurers' repetitions.

mod billing;
mod care;
mod chart;
mod codes;
mod documents;
mod laboratory;
mod many;
mod people;
mod procedures;
mod random;
mod sink;
#[cfg(test)]
mod tests;
mod visits;
mod vitals;

use std::collections::BTreeMap;
use std::io::{self, Write};

pub use many::{generate_folder, generate_ndjson};

use chart::Chart;
use random::Rng;
use sink::Sink;

/// The test catalogue of the generator's codes (CSV: system, code, display, class, is_test).
pub const TEST_CATALOGUE_CSV: &str = include_str!("../../data/test-catalogue.csv");
/// The price list of the generator's codes (CSV with the CMS columns; Price_Date is MM-DD-YYYY).
pub const PRICE_LIST_CSV: &str = include_str!("../../data/price-list.csv");

/// The fewest visits that hold everything the module's head promises.
pub const MIN_VISITS: usize = 5;

/// In which form a patient is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Form {
    /// One transaction Bundle; references are `urn:uuid:ID`.
    #[default]
    Transaction,
    /// One resource a line; references are `Type/ID`.
    Ndjson,
}

/// What a generated patient is like beyond its seed.
#[derive(Clone, Debug)]
pub struct Options {
    /// Visits, each about fifteen to twenty-five resources; at least [`MIN_VISITS`].
    pub visits: usize,
    /// Scanned documents.
    pub scans: usize,
    /// Size of each scan in bytes, before base64.
    pub scan_bytes: usize,
    /// The fee ends on half a cent. Without it one patient in three does.
    pub half_cent: bool,
    /// The hospital's name; its Organization and Practitioners have identifiers that follow from it.
    pub hospital: String,
    /// Bundle or lines.
    pub form: Form,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            visits: MIN_VISITS,
            scans: 1,
            scan_bytes: 2_000_000,
            half_cent: false,
            hospital: "Riverside General Hospital".to_owned(),
            form: Form::Transaction,
        }
    }
}

/// What a product must make of a patient: with the shipped catalogue and price list, all departments, and the
/// resources imported at the hospital that transfers them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Expected {
    /// Resources by type.
    pub resources: BTreeMap<String, u64>,
    /// Tests with a price.
    pub tests_priced: u64,
    /// Tests without one.
    pub tests_unpriced: u64,
    /// Sum of the prices, US cents. Every single price is in whole cents.
    pub basis_minor: i64,
}

impl Expected {
    /// All resources.
    #[must_use]
    pub fn total_resources(&self) -> u64 {
        self.resources.values().sum()
    }

    /// The fee in US cents: 5 %, rounded once, half up.
    #[must_use]
    pub const fn fee_minor(&self) -> i64 {
        (self.basis_minor * 5 + 50) / 100
    }

    /// Whether the exact fee lies on half a cent.
    #[must_use]
    pub const fn is_half_cent(&self) -> bool {
        self.basis_minor % 20 == 10
    }

    /// The sum of the prices in dollars, as a decimal text with two digits.
    #[must_use]
    pub fn basis(&self) -> String {
        dollars(self.basis_minor)
    }

    /// The fee in dollars, as a decimal text with two digits.
    #[must_use]
    pub fn fee(&self) -> String {
        dollars(self.fee_minor())
    }
}

fn dollars(minor: i64) -> String {
    format!("{}.{:02}", minor / 100, minor % 100)
}

/// A patient that was written somewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WrittenPatient {
    /// The Patient resource's id.
    pub id: String,
    /// Given and family name.
    pub name: String,
    /// What a product must make of it.
    pub expected: Expected,
}

/// A patient in memory.
#[derive(Clone, PartialEq, Eq)]
pub struct GeneratedPatient {
    /// The transaction Bundle, or the lines.
    pub bundle_json: String,
    /// Given and family name.
    pub name: String,
    /// The Patient resource's id.
    pub id: String,
    /// What a product must make of it.
    pub expected: Expected,
}

/// The patient of `seed`.
///
/// # Errors
/// None in practice: memory takes every write.
pub fn generate(seed: u64, options: &Options) -> io::Result<GeneratedPatient> {
    let mut bytes = Vec::new();
    let WrittenPatient { id, name, expected } = write_patient(seed, options, &mut bytes)?;
    let bundle_json = String::from_utf8(bytes).map_err(io::Error::other)?;
    Ok(GeneratedPatient { bundle_json, name, id, expected })
}

/// Writes the patient of `seed` to `out`, visit by visit. Give it a buffered writer.
///
/// # Errors
/// What `out` says.
pub fn write_patient<W: Write>(seed: u64, options: &Options, out: &mut W) -> io::Result<WrittenPatient> {
    let mut rng = Rng::new(seed);
    let (organization, practitioners) = people::hospital_ids(&options.hospital);
    let person = people::Person::draw(&mut rng);
    let patient = rng.uuid();
    let visits = options.visits.max(MIN_VISITS);
    let half_cent = rng.one_in(3) || options.half_cent;
    let mut chart = Chart {
        rng,
        form: options.form,
        patient,
        organization,
        practitioners,
        pending: Vec::new(),
        expected: Expected::default(),
    };

    let mut sink = Sink::open(out, options.form)?;
    sink.write(person.resource(&mut chart))?;
    sink.write(people::organization(&chart.organization, &options.hospital))?;
    care::allergies(&mut chart);
    let mut last = None;
    for index in 0..visits {
        let closes = half_cent && index + 1 == visits;
        last = Some(visits::visit(&mut chart, index, visits, closes));
        for resource in std::mem::take(&mut chart.pending) {
            sink.write(resource)?;
        }
    }
    for number in 0..options.scans {
        // The first scan belongs to the last visit, the others to none.
        let visit = last.as_ref().filter(|_| number == 0);
        let scan = documents::scan(&mut chart, visit, options.scan_bytes);
        sink.write(scan)?;
    }
    for (position, id) in chart.practitioners.iter().enumerate() {
        sink.write(people::practitioner(id, position))?;
    }
    let mut expected = chart.expected;
    expected.resources = sink.close()?;
    Ok(WrittenPatient { id: chart.patient, name: person.name(), expected })
}
