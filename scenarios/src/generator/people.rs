//! The patient, the hospital and its practitioners.

use handover_core::time::{DAY_MS, Timestamp};
use serde_json::{Value, json};

use super::chart::{Chart, date};
use super::random::Rng;

/// Practitioners of one hospital.
const PRACTITIONERS: usize = 4;

const FAMILY: [&str; 16] = [
    "Müller",
    "Nowak",
    "Ordóñez",
    "Okafor",
    "Nguyễn",
    "Søndergaard",
    "Öztürk",
    "Kowalczyk",
    "O’Brien",
    "Żółkiewska",
    "Hernández",
    "Ivanova",
    "Σταύρου",
    "田中",
    "Lindqvist",
    "Smith",
];
const GIVEN_FEMALE: [&str; 8] =
    ["Zoë", "María José", "Aïcha", "Anneliese", "Priya", "Łucja", "Grace", "花子"];
const GIVEN_MALE: [&str; 8] = ["José", "Björn", "Emeka", "Đức", "Mehmet", "Noah", "Łukasz", "Γιάννης"];
const STREETS: [&str; 4] = ["Harbour Lane", "Kirchstraße", "Avenida del Río", "Mill Road"];
const CITIES: [&str; 4] = ["Northfield", "Königsfurt", "San Andrés", "Ashby"];

/// Who a patient is.
pub(super) struct Person {
    given: String,
    family: String,
    female: bool,
    born: Timestamp,
}

impl Person {
    /// Draws a person, born 1935 to 2005.
    pub(super) fn draw(rng: &mut Rng) -> Self {
        let female = rng.one_in(2);
        let given = rng.pick(if female { &GIVEN_FEMALE } else { &GIVEN_MALE });
        let family = rng.pick(&FAMILY);
        let born = Timestamp::from_millis(rng.range(-12_783, 12_783) * DAY_MS);
        Self { given: (*given).to_owned(), family: (*family).to_owned(), female, born }
    }

    /// Given and family name.
    pub(super) fn name(&self) -> String {
        format!("{} {}", self.given, self.family)
    }

    /// The Patient resource.
    pub(super) fn resource(&self, chart: &mut Chart) -> Value {
        let given: Vec<&str> = self.given.split(' ').collect();
        let number = chart.rng.range(1_000_000, 9_999_999);
        json!({
            "resourceType": "Patient",
            "id": chart.patient,
            "text": {
                "status": "generated",
                "div": format!("<div xmlns=\"http://www.w3.org/1999/xhtml\">{}</div>", self.name()),
            },
            "identifier": [
                { "type": super::chart::hl7("v2-0203", "MR"), "system": "urn:oid:2.25.990001", "value": format!("MRN-{number}") },
            ],
            "active": true,
            "name": [{ "use": "official", "family": self.family, "given": given }],
            "telecom": [{ "system": "phone", "value": format!("555-01{:02}", number % 100), "use": "home" }],
            "gender": if self.female { "female" } else { "male" },
            "birthDate": date(self.born),
            "address": [{
                "line": [format!("{} {}", number % 200 + 1, chart.rng.pick(&STREETS))],
                "city": chart.rng.pick(&CITIES),
                "postalCode": format!("{:05}", number % 100_000),
                "country": "US",
            }],
            "maritalStatus": super::chart::hl7("v3-MaritalStatus", if number % 2 == 0 { "M" } else { "S" }),
            "managingOrganization": chart.refer("Organization", &chart.organization),
        })
    }
}

/// The hospital's own identifiers: the same for all of its patients, as in a real export.
pub(super) fn hospital_ids(name: &str) -> (String, Vec<String>) {
    let mut rng = Rng::from_text(name);
    (rng.uuid(), (0..PRACTITIONERS).map(|_| rng.uuid()).collect())
}

/// The Organization resource.
pub(super) fn organization(id: &str, name: &str) -> Value {
    json!({
        "resourceType": "Organization",
        "id": id,
        "active": true,
        "type": [super::chart::hl7("organization-type", "prov")],
        "name": name,
        "address": [{ "line": ["1 Hospital Square"], "city": "Northfield", "country": "US" }],
    })
}

/// The Practitioner resource at `position` among the hospital's.
pub(super) fn practitioner(id: &str, position: usize) -> Value {
    let family = FAMILY.iter().rev().nth(position % FAMILY.len()).copied().unwrap_or_default();
    let given = GIVEN_FEMALE.iter().chain(&GIVEN_MALE).nth(position * 3 % 16).copied().unwrap_or_default();
    json!({
        "resourceType": "Practitioner",
        "id": id,
        "identifier": [{ "system": "http://hl7.org/fhir/sid/us-npi", "value": format!("99990000{position:02}") }],
        "active": true,
        "name": [{ "family": family, "given": [given], "prefix": ["Dr."] }],
    })
}
