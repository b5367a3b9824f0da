//! Vital signs: single measurements and a blood pressure with its two components.

use serde_json::json;

use super::chart::{Chart, concept, hl7, quantity};
use super::codes::loinc;
use super::visits::Visit;

/// LOINC code, name, UCUM unit, lowest and highest value, decimal places.
const SIGNS: [(&str, &str, &str, i64, i64, u32); 6] = [
    ("8302-2", "Body height", "cm", 1480, 1970, 1),
    ("29463-7", "Body weight", "kg", 460, 1240, 1),
    ("8867-4", "Heart rate", "/min", 52, 128, 0),
    ("9279-1", "Respiratory rate", "/min", 11, 26, 0),
    ("8310-5", "Body temperature", "Cel", 361, 399, 1),
    ("59408-5", "Oxygen saturation in Arterial blood by Pulse oximetry", "%", 88, 100, 0),
];

/// A blood pressure and one to three other signs.
pub(super) fn measure(chart: &mut Chart, visit: &Visit) {
    let at = visit.start.plus_ms(300_000).to_string();
    let systolic = chart.rng.range(98, 182);
    let diastolic = chart.rng.range(56, 108);
    let id = chart.rng.uuid();
    let pressure = json!({
        "resourceType": "Observation",
        "id": id,
        "status": "final",
        "category": [hl7("observation-category", "vital-signs")],
        "code": concept(loinc("85354-9", "Blood pressure panel with all children optional")),
        "subject": chart.subject(),
        "encounter": visit.reference(chart),
        "effectiveDateTime": at,
        "component": [
            { "code": concept(loinc("8480-6", "Systolic blood pressure")), "valueQuantity": quantity(systolic, 0, "mm[Hg]") },
            { "code": concept(loinc("8462-4", "Diastolic blood pressure")), "valueQuantity": quantity(diastolic, 0, "mm[Hg]") },
        ],
    });
    chart.pending.push(pressure);

    let mut signs = SIGNS;
    chart.rng.shuffle(&mut signs);
    let many = chart.rng.below(3) + 1;
    for (code, name, unit, low, high, places) in signs.into_iter().take(many) {
        let id = chart.rng.uuid();
        let value = chart.rng.range(low, high);
        let sign = json!({
            "resourceType": "Observation",
            "id": id,
            "status": "final",
            "category": [hl7("observation-category", "vital-signs")],
            "code": concept(loinc(code, name)),
            "subject": chart.subject(),
            "encounter": visit.reference(chart),
            "effectiveDateTime": at,
            "valueQuantity": quantity(value, places, unit),
        });
        chart.pending.push(sign);
    }
}
