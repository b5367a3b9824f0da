//! What is given and planned: medication with its pharmacy claims, immunizations, allergies, care plans.

use serde_json::json;

use super::chart::{Charge, Chart, concept, hl7, money};
use super::codes::{Code, snomed};
use super::visits::{Class, Line, Visit};

const RXNORM: &str = "http://www.nlm.nih.gov/research/umls/rxnorm";
const CVX: &str = "http://hl7.org/fhir/sid/cvx";

const DRUGS: [Code; 5] = [
    Code { system: RXNORM, code: "314076", display: "Lisinopril 10 MG Oral Tablet" },
    Code {
        system: RXNORM,
        code: "860975",
        display: "Metformin hydrochloride 500 MG Extended Release Oral Tablet",
    },
    Code { system: RXNORM, code: "308192", display: "Amoxicillin 500 MG Oral Tablet" },
    Code { system: RXNORM, code: "313782", display: "Acetaminophen 325 MG Oral Tablet" },
    Code { system: RXNORM, code: "966222", display: "Levothyroxine Sodium 0.075 MG Oral Tablet" },
];

const VACCINES: [Code; 3] = [
    Code { system: CVX, code: "140", display: "Influenza, seasonal, injectable, preservative free" },
    Code { system: CVX, code: "113", display: "Td (adult) preservative free" },
    Code { system: CVX, code: "33", display: "Pneumococcal polysaccharide vaccine, 23 valent" },
];

const ALLERGENS: [Code; 3] = [
    snomed("91936005", "Allergy to penicillin"),
    snomed("91935009", "Allergy to peanut"),
    snomed("300913006", "Allergy to shellfish"),
];

/// Medication and immunization of a visit, and a care plan after an admission.
pub(super) fn give(chart: &mut Chart, visit: &mut Visit) {
    for _ in 0..chart.rng.below(3) {
        medication(chart, visit);
    }
    if visit.class == Class::Ambulatory && visit.index.is_multiple_of(2) {
        immunization(chart, visit);
    }
    if visit.class == Class::Inpatient {
        care_plan(chart, visit);
    }
}

/// A prescription, and the pharmacy's own claim for it: never part of the fee.
fn medication(chart: &mut Chart, visit: &Visit) {
    let drug = *chart.rng.pick(&DRUGS);
    let (request, claim) = (chart.rng.uuid(), chart.rng.uuid());
    let price = chart.rng.range(400, 26_000);
    let doctor = chart.doctor();
    let resource = json!({
        "resourceType": "MedicationRequest",
        "id": request,
        "status": "completed",
        "intent": "order",
        "medicationCodeableConcept": concept(drug),
        "subject": chart.subject(),
        "encounter": visit.reference(chart),
        "authoredOn": visit.start.to_string(),
        "requester": doctor,
        "dosageInstruction": [{ "sequence": 1, "text": "Take as directed with food", "timing": { "repeat": { "frequency": 1, "period": 1, "periodUnit": "d" } } }],
    });
    chart.pending.push(resource);
    let resource = json!({
        "resourceType": "Claim",
        "id": claim,
        "status": "active",
        "type": hl7("claim-type", "pharmacy"),
        "use": "claim",
        "patient": chart.subject(),
        "billablePeriod": { "start": visit.start.to_string(), "end": visit.end.to_string() },
        "created": visit.end.to_string(),
        "provider": chart.refer("Organization", &chart.organization),
        "priority": hl7("processpriority", "normal"),
        "prescription": chart.refer("MedicationRequest", &request),
        "insurance": [{ "sequence": 1, "focal": true, "coverage": { "display": "private" } }],
        "item": [{
            "sequence": 1,
            "productOrService": concept(drug),
            "net": money(price),
            "encounter": [visit.reference(chart)],
        }],
        "total": money(price),
    });
    chart.pending.push(resource);
}

/// An immunization, billed on the visit's claim and no test.
fn immunization(chart: &mut Chart, visit: &mut Visit) {
    let vaccine = *chart.rng.pick(&VACCINES);
    let id = chart.rng.uuid();
    let resource = json!({
        "resourceType": "Immunization",
        "id": id,
        "status": "completed",
        "vaccineCode": concept(vaccine),
        "patient": chart.subject(),
        "encounter": visit.reference(chart),
        "occurrenceDateTime": visit.start.to_string(),
        "primarySource": true,
    });
    let charge = Charge::Net(chart.rng.range(9_000, 20_000));
    visit.lines.push(Line { kind: "Immunization", id, code: vaccine, charge });
    chart.pending.push(resource);
}

fn care_plan(chart: &mut Chart, visit: &Visit) {
    let addresses: Vec<_> = visit.conditions.iter().map(|(id, _)| chart.refer("Condition", id)).collect();
    let id = chart.rng.uuid();
    let activity = |code| json!({ "detail": { "code": concept(code), "status": "completed" } });
    let resource = json!({
        "resourceType": "CarePlan",
        "id": id,
        "status": "completed",
        "intent": "order",
        "category": [concept(snomed("736353004", "Inpatient care plan"))],
        "subject": chart.subject(),
        "encounter": visit.reference(chart),
        "period": { "start": visit.end.to_string() },
        "addresses": addresses,
        "activity": [
            activity(snomed("183051005", "Recommendation to rest")),
            activity(snomed("229065009", "Exercise therapy")),
        ],
    });
    chart.pending.push(resource);
}

/// One or two allergies; they belong to no visit.
pub(super) fn allergies(chart: &mut Chart) {
    for _ in 0..chart.rng.below(2) + 1 {
        let allergen = *chart.rng.pick(&ALLERGENS);
        let id = chart.rng.uuid();
        let resource = json!({
            "resourceType": "AllergyIntolerance",
            "id": id,
            "clinicalStatus": hl7("allergyintolerance-clinical", "active"),
            "verificationStatus": hl7("allergyintolerance-verification", "confirmed"),
            "type": "allergy",
            "criticality": "low",
            "code": concept(allergen),
            "patient": chart.subject(),
        });
        chart.pending.push(resource);
    }
}
