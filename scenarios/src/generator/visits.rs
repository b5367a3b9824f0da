//! Visits: the Encounter, its conditions, and in which order what was done there stands in the file.

use handover_core::time::{DAY_MS, HOUR_MS, Timestamp};
use serde_json::{Value, json};

use super::chart::{Charge, Chart, coding, concept, hl7};
use super::codes::{Code, snomed};
use super::{billing, care, laboratory, procedures, vitals};

/// 2013-01-01: before most of the price list's dates, so that its earliest prices are used too.
const FIRST_VISIT: Timestamp = Timestamp::from_millis(15_706 * DAY_MS);
/// All visits lie within this many days of the first.
const HISTORY_DAYS: i64 = 4_300;

/// HL7's v3 ActEncounterCode, as `Encounter.class` has it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Class {
    Ambulatory,
    Emergency,
    Inpatient,
}

impl Class {
    const fn code(self) -> (&'static str, &'static str) {
        match self {
            Self::Ambulatory => ("AMB", "ambulatory"),
            Self::Emergency => ("EMER", "emergency"),
            Self::Inpatient => ("IMP", "inpatient encounter"),
        }
    }
}

/// Something done that the visit's claim may bill.
pub(super) struct Line {
    /// Its resource type.
    pub(super) kind: &'static str,
    pub(super) id: String,
    pub(super) code: Code,
    pub(super) charge: Charge,
}

/// A visit in the making.
pub(super) struct Visit {
    pub(super) id: String,
    pub(super) index: usize,
    pub(super) class: Class,
    pub(super) kind: Code,
    pub(super) start: Timestamp,
    pub(super) end: Timestamp,
    pub(super) conditions: Vec<(String, Code)>,
    pub(super) lines: Vec<Line>,
}

impl Visit {
    /// A reference to the Encounter.
    pub(super) fn reference(&self, chart: &Chart) -> Value {
        chart.refer("Encounter", &self.id)
    }
}

const AMBULATORY: [Code; 4] = [
    snomed("185349003", "Encounter for check up"),
    snomed("185345009", "Encounter for symptom"),
    snomed("390906007", "Follow-up encounter"),
    snomed("308335008", "Patient encounter procedure"),
];
const EMERGENCY: Code = snomed("50849002", "Emergency room admission");
const ADMISSION: Code = snomed("32485007", "Hospital admission");

const SPECIALTIES: [Code; 7] = [
    snomed("394579002", "Cardiology"),
    snomed("394591006", "Neurology"),
    snomed("394801008", "Trauma and orthopedics"),
    snomed("394609007", "General surgery"),
    snomed("394584008", "Gastroenterology"),
    snomed("418112009", "Pulmonary medicine"),
    snomed("408443003", "General medical practice"),
];

const CONDITIONS: [Code; 10] = [
    snomed("38341003", "Hypertensive disorder"),
    snomed("44054006", "Diabetes mellitus type 2"),
    snomed("195662009", "Acute viral pharyngitis"),
    snomed("10509002", "Acute bronchitis"),
    snomed("16114001", "Fracture of ankle"),
    snomed("22298006", "Myocardial infarction"),
    snomed("74400008", "Appendicitis"),
    snomed("271737000", "Anemia"),
    snomed("40930008", "Hypothyroidism"),
    snomed("233604007", "Pneumonia"),
];

/// Puts visit `index` of `many` into the chart's buffer. `half_cent`: this visit's last charge makes the fee end
/// on half a cent.
pub(super) fn visit(chart: &mut Chart, index: usize, many: usize, half_cent: bool) -> Visit {
    let mut visit = plan(chart, index, many);
    let from = chart.pending.len();
    encounter(chart, &visit);
    conditions(chart, &mut visit);
    if visit.class != Class::Inpatient {
        vitals::measure(chart, &visit);
    }
    laboratory::work(chart, &mut visit);
    procedures::perform(chart, &mut visit);
    if half_cent {
        procedures::settle_on_half_a_cent(chart, &mut visit);
    }
    care::give(chart, &mut visit);
    billing::bill(chart, &visit);
    // Files are rarely in order: after some visits references point back, after others in every direction.
    if let Some(resources) = chart.pending.get_mut(from..) {
        match index % 3 {
            0 => {}
            1 => resources.reverse(),
            _ => chart.rng.shuffle(resources),
        }
    }
    visit
}

fn plan(chart: &mut Chart, index: usize, many: usize) -> Visit {
    let rng = &mut chart.rng;
    // The first visits have each class and leave the fifth, with its cancelled claim, ambulatory.
    let class = match if index < super::MIN_VISITS { index } else { rng.below(8) } {
        2 => Class::Emergency,
        3 => Class::Inpatient,
        _ => Class::Ambulatory,
    };
    let (kind, hours) = match class {
        Class::Ambulatory => (*rng.pick(&AMBULATORY), rng.range(3, 5)),
        Class::Emergency => (EMERGENCY, rng.range(4, 14)),
        Class::Inpatient => (ADMISSION, rng.range(40, 300)),
    };
    let step = HISTORY_DAYS / i64::try_from(many.max(1)).unwrap_or(HISTORY_DAYS);
    let day = step * i64::try_from(index).unwrap_or(0) + rng.range(0, step / 2);
    let minutes = rng.range(7 * 60, 15 * 60);
    let start = FIRST_VISIT.plus_ms(day * DAY_MS + minutes * 60_000);
    let end = start.plus_ms(hours * HOUR_MS);
    Visit { id: rng.uuid(), index, class, kind, start, end, conditions: Vec::new(), lines: Vec::new() }
}

fn encounter(chart: &mut Chart, visit: &Visit) {
    let (class, display) = visit.class.code();
    let doctor = chart.doctor();
    let mut encounter = json!({
        "resourceType": "Encounter",
        "id": visit.id,
        "status": "finished",
        "class": {
            "system": "http://terminology.hl7.org/CodeSystem/v3-ActCode",
            "code": class,
            "display": display,
        },
        "type": [concept(visit.kind)],
        "subject": chart.subject(),
        "participant": [{ "individual": doctor }],
        "period": { "start": visit.start.to_string(), "end": visit.end.to_string() },
        "serviceProvider": chart.refer("Organization", &chart.organization),
    });
    if visit.index == 1 || chart.rng.one_in(2) {
        let specialty = *chart.rng.pick(&SPECIALTIES);
        if let Some(fields) = encounter.as_object_mut() {
            fields.insert("serviceType".to_owned(), json!({ "coding": [coding(specialty)] }));
        }
    }
    chart.pending.push(encounter);
}

fn conditions(chart: &mut Chart, visit: &mut Visit) {
    for _ in 0..chart.rng.below(2) + 1 {
        let code = *chart.rng.pick(&CONDITIONS);
        let id = chart.rng.uuid();
        let active = chart.rng.one_in(2);
        let condition = json!({
            "resourceType": "Condition",
            "id": id,
            "clinicalStatus": hl7("condition-clinical", if active { "active" } else { "resolved" }),
            "verificationStatus": hl7("condition-ver-status", "confirmed"),
            "category": [hl7("condition-category", "encounter-diagnosis")],
            "code": concept(code),
            "subject": chart.subject(),
            "encounter": visit.reference(chart),
            "onsetDateTime": visit.start.to_string(),
            "recordedDate": visit.start.to_string(),
        });
        chart.pending.push(condition);
        visit.conditions.push((id, code));
    }
}
