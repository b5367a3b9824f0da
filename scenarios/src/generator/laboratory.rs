//! The laboratory: panels reported with their results, observations that belong to no report, reports that were
//! entered in error or are not finished, and doctors' notes that are reports and no tests.

use handover_core::time::{HOUR_MS, Timestamp};
use serde_json::{Value, json};

use super::chart::{Charge, Chart, coding, concept, hl7, quantity};
use super::codes::{Catalogue, NOTES, PANELS, SINGLE_LABS, Service, loinc};
use super::visits::{Line, Visit};

/// LOINC code, name, UCUM unit, lowest and highest value, decimal places.
type Analyte = (&'static str, &'static str, &'static str, i64, i64, u32);

const GLUCOSE: Analyte = ("2345-7", "Glucose [Mass/volume] in Serum or Plasma", "mg/dL", 62, 280, 0);
const UREA: Analyte = ("3094-0", "Urea nitrogen [Mass/volume] in Serum or Plasma", "mg/dL", 6, 48, 0);
const CREATININE: Analyte = ("2160-0", "Creatinine [Mass/volume] in Serum or Plasma", "mg/dL", 55, 310, 2);
const CALCIUM: Analyte = ("17861-6", "Calcium [Mass/volume] in Serum or Plasma", "mg/dL", 81, 108, 1);
const SODIUM: Analyte = ("2951-2", "Sodium [Moles/volume] in Serum or Plasma", "mmol/L", 128, 149, 0);
const POTASSIUM: Analyte = ("2823-3", "Potassium [Moles/volume] in Serum or Plasma", "mmol/L", 31, 58, 1);
const CHLORIDE: Analyte = ("2075-0", "Chloride [Moles/volume] in Serum or Plasma", "mmol/L", 94, 112, 0);
const PROTEIN: Analyte = ("2885-2", "Protein [Mass/volume] in Serum or Plasma", "g/dL", 55, 86, 1);
const ALBUMIN: Analyte = ("1751-7", "Albumin [Mass/volume] in Serum or Plasma", "g/dL", 28, 53, 1);
const BILIRUBIN: Analyte = ("1975-2", "Bilirubin.total [Mass/volume] in Serum or Plasma", "mg/dL", 2, 34, 1);
const ALT: Analyte =
    ("1742-6", "Alanine aminotransferase [Enzymatic activity/volume] in Serum or Plasma", "U/L", 7, 145, 0);
const AST: Analyte =
    ("1920-8", "Aspartate aminotransferase [Enzymatic activity/volume] in Serum or Plasma", "U/L", 9, 160, 0);

/// Results of each of `codes::PANELS`, in its order.
const RESULTS: [&[Analyte]; 9] = [
    &[GLUCOSE, UREA, CREATININE, CALCIUM, SODIUM, POTASSIUM, PROTEIN, ALBUMIN, BILIRUBIN, ALT, AST],
    &[GLUCOSE, UREA, CREATININE, CALCIUM, SODIUM, POTASSIUM, CHLORIDE],
    &[
        ("2093-3", "Cholesterol [Mass/volume] in Serum or Plasma", "mg/dL", 121, 312, 0),
        ("2571-8", "Triglyceride [Mass/volume] in Serum or Plasma", "mg/dL", 44, 420, 0),
        ("2085-9", "Cholesterol in HDL [Mass/volume] in Serum or Plasma", "mg/dL", 28, 92, 0),
        (
            "18262-6",
            "Cholesterol in LDL [Mass/volume] in Serum or Plasma by Direct assay",
            "mg/dL",
            48,
            214,
            0,
        ),
    ],
    &[
        ("6690-2", "Leukocytes [#/volume] in Blood by Automated count", "10*3/uL", 28, 192, 1),
        ("789-8", "Erythrocytes [#/volume] in Blood by Automated count", "10*6/uL", 322, 604, 2),
        ("718-7", "Hemoglobin [Mass/volume] in Blood", "g/dL", 82, 178, 1),
        ("4544-3", "Hematocrit [Volume Fraction] of Blood by Automated count", "%", 254, 529, 1),
        ("777-3", "Platelets [#/volume] in Blood by Automated count", "10*3/uL", 92, 470, 0),
    ],
    &[ALBUMIN, PROTEIN, BILIRUBIN, ALT, AST],
    &[
        ("3016-3", "Thyrotropin [Units/volume] in Serum or Plasma", "m[IU]/L", 12, 920, 2),
        ("3024-7", "Thyroxine (T4) free [Mass/volume] in Serum or Plasma", "ng/dL", 61, 212, 2),
    ],
    &[
        ("2965-2", "Specific gravity of Urine", "{ratio}", 1003, 1032, 3),
        ("2756-5", "pH of Urine", "[pH]", 48, 83, 1),
    ],
    &[
        ("2498-4", "Iron [Mass/volume] in Serum or Plasma", "ug/dL", 28, 182, 0),
        ("2500-7", "Iron binding capacity [Mass/volume] in Serum or Plasma", "ug/dL", 230, 462, 0),
    ],
    &[
        ("2744-1", "pH of Arterial blood", "[pH]", 718, 752, 2),
        ("2703-7", "Oxygen [Partial pressure] in Arterial blood", "mm[Hg]", 56, 104, 0),
        ("2019-8", "Carbon dioxide [Partial pressure] in Arterial blood", "mm[Hg]", 29, 62, 0),
    ],
];

/// How far a report got.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Progress {
    Final,
    Amended,
    Corrected,
    Preliminary,
    EnteredInError,
}

impl Progress {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Final => "final",
            Self::Amended => "amended",
            Self::Corrected => "corrected",
            Self::Preliminary => "preliminary",
            Self::EnteredInError => "entered-in-error",
        }
    }
}

/// The laboratory's part of a visit.
pub(super) fn work(chart: &mut Chart, visit: &mut Visit) {
    let progress =
        *chart.rng.pick(&[Progress::Final, Progress::Final, Progress::Amended, Progress::Corrected]);
    panel(chart, visit, progress);
    match visit.index % 4 {
        0 => standalone(chart, visit),
        1 => panel(chart, visit, Progress::EnteredInError),
        2 => panel(chart, visit, Progress::Preliminary),
        _ => {}
    }
    if visit.index % 3 == 2 {
        note(chart, visit);
    }
}

/// A panel's report and its results; counts for the fee unless wrong or unfinished.
fn panel(chart: &mut Chart, visit: &mut Visit, progress: Progress) {
    let known: Vec<(&Service, &[Analyte])> = PANELS.iter().zip(RESULTS).collect();
    let (service, analytes) = *chart.rng.pick(&known);
    let at = visit.start.plus_ms(HOUR_MS);
    let mut results = Vec::new();
    for (code, name, unit, low, high, places) in analytes.iter().copied() {
        let id = chart.rng.uuid();
        results.push(chart.refer("Observation", &id));
        let value = chart.rng.range(low, high);
        let observation = json!({
            "resourceType": "Observation",
            "id": id,
            "status": progress.as_str(),
            "category": [hl7("observation-category", "laboratory")],
            "code": concept(loinc(code, name)),
            "subject": chart.subject(),
            "encounter": visit.reference(chart),
            "effectiveDateTime": at.to_string(),
            "issued": at.plus_ms(HOUR_MS).to_string(),
            "valueQuantity": quantity(value, places, unit),
        });
        chart.pending.push(observation);
    }
    let charge = match progress {
        Progress::Preliminary => Charge::Unclaimed,
        // A claim for what was never done: it must not find its way into the fee.
        Progress::EnteredInError => Charge::Net(chart.rng.range(2_000, 9_000)),
        _ => Charge::any(&mut chart.rng, 1_500, 12_000),
    };
    let mut report = report(chart, visit, service, progress, at, charge);
    if let Some(fields) = report.as_object_mut() {
        fields.insert("issued".to_owned(), json!(at.plus_ms(HOUR_MS).to_string()));
        fields.insert("result".to_owned(), Value::Array(results));
    }
    chart.pending.push(report);
}

/// A report without results, its line on the claim, and its place in the tally if it is a test.
pub(super) fn report(
    chart: &mut Chart,
    visit: &mut Visit,
    service: &Service,
    progress: Progress,
    at: Timestamp,
    charge: Charge,
) -> Value {
    let done = !matches!(progress, Progress::Preliminary | Progress::EnteredInError);
    if done && service.catalogue != Catalogue::NotATest {
        chart.count_test(service, at, charge);
    }
    let section = match service.class {
        "lab" => "LAB",
        "imaging" => "RAD",
        _ => "OTH",
    };
    let id = chart.rng.uuid();
    visit.lines.push(Line { kind: "DiagnosticReport", id: id.clone(), code: service.code, charge });
    json!({
        "resourceType": "DiagnosticReport",
        "id": id,
        "status": progress.as_str(),
        "category": [hl7("v2-0074", section)],
        "code": concept(service.code),
        "subject": chart.subject(),
        "encounter": visit.reference(chart),
        "effectiveDateTime": at.to_string(),
        "performer": [chart.refer("Organization", &chart.organization)],
    })
}

/// A final laboratory observation that no report names: it counts like one.
fn standalone(chart: &mut Chart, visit: &mut Visit) {
    let service = chart.rng.pick(&SINGLE_LABS);
    let at = visit.start.plus_ms(HOUR_MS);
    let charge = Charge::any(&mut chart.rng, 1_500, 6_000);
    chart.count_test(service, at, charge);
    let id = chart.rng.uuid();
    let value = chart.rng.range(11, 98);
    // Laboratories often put their own code first and the standard one after it.
    let local =
        json!({ "system": "urn:oid:2.25.990001.7", "code": format!("LAB{value}"), "display": "local test" });
    let codings =
        if chart.rng.one_in(3) { vec![local, coding(service.code)] } else { vec![coding(service.code)] };
    let observation = json!({
        "resourceType": "Observation",
        "id": id,
        "status": "final",
        "category": [hl7("observation-category", "laboratory")],
        "code": { "coding": codings, "text": service.code.display },
        "subject": chart.subject(),
        "encounter": visit.reference(chart),
        "effectiveDateTime": at.to_string(),
        "issued": at.plus_ms(HOUR_MS).to_string(),
        "valueQuantity": quantity(value, 1, "%"),
    });
    visit.lines.push(Line { kind: "Observation", id, code: service.code, charge });
    chart.pending.push(observation);
}

/// A doctor's note: a final report that the catalogue says is no test, though it is billed.
fn note(chart: &mut Chart, visit: &mut Visit) {
    let service = chart.rng.pick(&NOTES);
    let charge = Charge::Net(chart.rng.range(5_000, 20_000));
    let mut note = report(chart, visit, service, Progress::Final, visit.end, charge);
    if let Some(fields) = note.as_object_mut() {
        fields.insert("conclusion".to_owned(), json!("Patient seen and examined; plan discussed."));
    }
    chart.pending.push(note);
}
