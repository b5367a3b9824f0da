//! Procedures and imaging: tests by the catalogue, treatments that are none, tests that were not carried out, one
//! that the catalogue does not know, imaging studies and their reports.

use handover_core::time::HOUR_MS;
use serde_json::json;

use super::chart::{Charge, Chart, concept};
use super::codes::{
    Catalogue, ECG, IMAGING_REPORTS, OTHER_PROCEDURES, Service, TEST_PROCEDURES, UNCATALOGUED,
};
use super::laboratory::{Progress, report};
use super::visits::{Class, Line, Visit};

/// The procedures of a visit.
pub(super) fn perform(chart: &mut Chart, visit: &mut Visit) {
    let test = chart.rng.pick(&TEST_PROCEDURES);
    let charge = Charge::any(&mut chart.rng, 8_000, 90_000);
    procedure(chart, visit, test, "completed", charge);

    for _ in 0..chart.rng.below(2) + 1 {
        let other = chart.rng.pick(&OTHER_PROCEDURES);
        let charge = Charge::any(&mut chart.rng, 4_000, 300_000);
        procedure(chart, visit, other, "completed", charge);
    }
    match visit.index % 4 {
        1 => {
            let planned = chart.rng.pick(&TEST_PROCEDURES);
            let status = *chart.rng.pick(&["not-done", "in-progress", "entered-in-error"]);
            procedure(chart, visit, planned, status, Charge::Unclaimed);
        }
        2 => {
            let charge = Charge::Net(chart.rng.range(15_000, 30_000));
            procedure(chart, visit, &UNCATALOGUED, "completed", charge);
        }
        _ => {}
    }
    if visit.class != Class::Ambulatory {
        imaging(chart, visit);
    }
}

/// One more electrocardiogram, at a price that makes 5 % of the sum end on half a cent after an even cent: rounding
/// half to even would give a cent less.
pub(super) fn settle_on_half_a_cent(chart: &mut Chart, visit: &mut Visit) {
    let price = chart.rng.range(8_000, 12_000);
    let short = (10 - (chart.expected.basis_minor + price)).rem_euclid(40);
    procedure(chart, visit, &ECG, "completed", Charge::Net(price + short));
}

/// A procedure, its line on the claim, and its place in the tally if it is a test.
fn procedure(chart: &mut Chart, visit: &mut Visit, service: &Service, status: &str, charge: Charge) {
    let at = visit.start.plus_ms(HOUR_MS);
    if status == "completed" && service.catalogue == Catalogue::Test {
        chart.count_test(service, at, charge);
    }
    let id = chart.rng.uuid();
    let reason = visit.conditions.first().map(|(id, _)| chart.refer("Condition", id));
    let procedure = json!({
        "resourceType": "Procedure",
        "id": id,
        "status": status,
        "code": concept(service.code),
        "subject": chart.subject(),
        "encounter": visit.reference(chart),
        "performedPeriod": { "start": at.to_string(), "end": at.plus_ms(HOUR_MS / 2).to_string() },
        "reasonReference": reason.as_slice(),
    });
    visit.lines.push(Line { kind: "Procedure", id, code: service.code, charge });
    chart.pending.push(procedure);
}

/// An imaging study and the radiologist's report on it; the report is the test.
fn imaging(chart: &mut Chart, visit: &mut Visit) {
    let service = chart.rng.pick(&IMAGING_REPORTS);
    let at = visit.start.plus_ms(2 * HOUR_MS);
    let charge = Charge::any(&mut chart.rng, 12_000, 80_000);
    let id = chart.rng.uuid();
    let root = format!("2.25.{}", chart.rng.next());
    let (modality, sop_class) = match service.code.code {
        "24627-2" => ("CT", "1.2.840.10008.5.1.4.1.1.2"),
        _ => ("DX", "1.2.840.10008.5.1.4.1.1.1.1"),
    };
    let instances = [1, 2].map(|number| {
        json!({
            "uid": format!("{root}.1.{number}"),
            "sopClass": { "system": "urn:ietf:rfc:3986", "code": format!("urn:oid:{sop_class}") },
            "number": number,
        })
    });
    let study = json!({
        "resourceType": "ImagingStudy",
        "id": id,
        "identifier": [{ "system": "urn:dicom:uid", "value": format!("urn:oid:{root}") }],
        "status": "available",
        "subject": chart.subject(),
        "encounter": visit.reference(chart),
        "started": at.to_string(),
        "numberOfSeries": 1,
        "numberOfInstances": 2,
        "series": [{
            "uid": format!("{root}.1"),
            "number": 1,
            "modality": { "system": "http://dicom.nema.org/resources/ontology/DCM", "code": modality },
            "bodySite": { "system": super::codes::SNOMED, "code": "51185008", "display": "Thoracic structure" },
            "numberOfInstances": 2,
            "instance": instances,
        }],
    });
    chart.pending.push(study);

    let mut reading = report(chart, visit, service, Progress::Final, at, charge);
    if let Some(fields) = reading.as_object_mut() {
        fields.insert("imagingStudy".to_owned(), json!([chart.refer("ImagingStudy", &id)]));
        fields.insert("conclusion".to_owned(), json!("No acute cardiopulmonary abnormality."));
    }
    chart.pending.push(reading);
}
