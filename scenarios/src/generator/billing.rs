//! A visit's institutional claim, the insurer's ExplanationOfBenefit that repeats it, and claims that must not
//! count: one for preauthorization, one cancelled.

use serde_json::{Map, Value, json};

use super::chart::{Charge, Chart, concept, decimal, hl7, money};
use super::visits::{Class, Line, Visit};

/// Claims of one visit.
pub(super) fn bill(chart: &mut Chart, visit: &Visit) {
    match (visit.class, visit.index % 5) {
        (Class::Inpatient, _) => decoy(chart, visit, "active", "preauthorization"),
        (_, 4) => decoy(chart, visit, "cancelled", "claim"),
        _ => {}
    }
    let billed = || visit.lines.iter().filter(|line| !matches!(line.charge, Charge::Unclaimed));
    let mut claim = header(chart, visit, "active", "claim");
    let mut items = overhead(chart, visit);
    let mut procedures = Vec::new();
    let mut information = Vec::new();
    let mut total_minor = 12_500;
    for line in billed() {
        let link = if line.kind == "Procedure" {
            procedures.push(procedure_entry(chart, line, procedures.len() + 1));
            ("procedureSequence", procedures.len())
        } else {
            information.push(information_entry(chart, line, information.len() + 1));
            ("informationSequence", information.len())
        };
        items.push(item(chart, line, link, items.len() + 1));
        total_minor += line.charge.claimed_minor().unwrap_or(0);
        // A line billed twice by mistake: one test has one charge.
        if visit.class == Class::Inpatient && link == ("procedureSequence", 1) {
            items.push(again(items.last(), items.len() + 1));
        }
    }
    set(&mut claim, "procedure", Value::Array(procedures));
    set(&mut claim, "supportingInfo", Value::Array(information));
    set(&mut claim, "item", Value::Array(items));
    set(&mut claim, "total", money(total_minor));
    let benefit = explanation(chart, visit, &claim, total_minor);
    chart.pending.push(claim);
    chart.pending.push(benefit);
}

/// What the first line of the visit would have cost by a claim that is not one.
fn decoy(chart: &mut Chart, visit: &Visit, status: &str, r#use: &str) {
    let Some(line) = visit.lines.iter().find(|line| line.kind == "Procedure") else { return };
    let price = chart.rng.range(100_000, 900_000);
    let mut claim = header(chart, visit, status, r#use);
    let line = Line { kind: line.kind, id: line.id.clone(), code: line.code, charge: Charge::Net(price) };
    set(&mut claim, "procedure", json!([procedure_entry(chart, &line, 1)]));
    let entry = item(chart, &line, ("procedureSequence", 1), 1);
    set(&mut claim, "item", json!([entry]));
    set(&mut claim, "total", money(price));
    chart.pending.push(claim);
}

fn header(chart: &mut Chart, visit: &Visit, status: &str, r#use: &str) -> Value {
    let diagnoses: Vec<Value> = visit
        .conditions
        .iter()
        .zip(1..)
        .map(|((id, _), sequence)| json!({ "sequence": sequence, "diagnosisReference": chart.refer("Condition", id) }))
        .collect();
    let id = chart.rng.uuid();
    json!({
        "resourceType": "Claim",
        "id": id,
        "status": status,
        "type": hl7("claim-type", "institutional"),
        "use": r#use,
        "patient": chart.subject(),
        "billablePeriod": { "start": visit.start.to_string(), "end": visit.end.to_string() },
        "created": visit.end.to_string(),
        "provider": chart.refer("Organization", &chart.organization),
        "priority": hl7("processpriority", "normal"),
        "diagnosis": diagnoses,
        "insurance": [{ "sequence": 1, "focal": true, "coverage": { "display": "private" } }],
    })
}

/// The items of the visit itself and of its diagnoses: without amounts.
fn overhead(chart: &Chart, visit: &Visit) -> Vec<Value> {
    let mut items = vec![
        json!({ "sequence": 1, "productOrService": concept(visit.kind), "encounter": [visit.reference(chart)] }),
    ];
    for ((_, code), number) in visit.conditions.iter().zip(1..) {
        let item = json!({ "sequence": number + 1, "diagnosisSequence": [number], "productOrService": concept(*code) });
        items.push(item);
    }
    items
}

fn procedure_entry(chart: &Chart, line: &Line, sequence: usize) -> Value {
    json!({ "sequence": sequence, "procedureReference": chart.refer(line.kind, &line.id) })
}

fn information_entry(chart: &Chart, line: &Line, sequence: usize) -> Value {
    json!({
        "sequence": sequence,
        "category": hl7("claiminformationcategory", "info"),
        "valueReference": chart.refer(line.kind, &line.id),
    })
}

fn item(chart: &mut Chart, line: &Line, (link, target): (&str, usize), sequence: usize) -> Value {
    let mut item = json!({ "sequence": sequence, "productOrService": concept(line.code) });
    set(&mut item, link, json!([target]));
    match line.charge {
        Charge::Net(minor) => {
            set(&mut item, "net", money(minor));
            // A list price from which a discount led to the net: the net is what counts.
            if chart.rng.one_in(3) {
                set(&mut item, "unitPrice", money(minor * 2));
                set(&mut item, "quantity", json!({ "value": 1 }));
            }
        }
        Charge::Units { unit_minor, quantity, factor_tenths } => {
            set(&mut item, "unitPrice", money(unit_minor));
            // Absent means one, for both.
            if quantity != 1 {
                set(&mut item, "quantity", json!({ "value": quantity }));
            }
            if factor_tenths != 10 {
                set(&mut item, "factor", decimal(factor_tenths, 1));
            }
        }
        Charge::CodeOnly | Charge::Unclaimed => {}
    }
    item
}

fn again(item: Option<&Value>, sequence: usize) -> Value {
    let mut copy = item.cloned().unwrap_or_default();
    set(&mut copy, "sequence", json!(sequence));
    copy
}

/// The insurer's answer: the claim's items with their amounts once more.
fn explanation(chart: &mut Chart, visit: &Visit, claim: &Value, total_minor: i64) -> Value {
    let id = chart.rng.uuid();
    let doctor = chart.doctor();
    let mut benefit: Map<String, Value> = claim.as_object().cloned().unwrap_or_default();
    let claim_id = benefit.get("id").and_then(Value::as_str).unwrap_or_default().to_owned();
    benefit.remove("priority");
    benefit.insert("resourceType".to_owned(), json!("ExplanationOfBenefit"));
    benefit.insert("id".to_owned(), json!(id));
    benefit.insert("claim".to_owned(), chart.refer("Claim", &claim_id));
    benefit.insert("outcome".to_owned(), json!("complete"));
    benefit.insert("insurer".to_owned(), json!({ "display": "private" }));
    benefit.insert("careTeam".to_owned(), json!([{ "sequence": 1, "provider": doctor }]));
    benefit.insert("created".to_owned(), json!(visit.end.plus_ms(handover_core::time::DAY_MS).to_string()));
    benefit.insert("insurance".to_owned(), json!([{ "focal": true, "coverage": { "display": "private" } }]));
    let total = json!([{ "category": hl7("adjudication", "submitted"), "amount": money(total_minor) }]);
    benefit.insert("total".to_owned(), total);
    benefit.insert("payment".to_owned(), json!({ "amount": money(total_minor * 4 / 5) }));
    Value::Object(benefit)
}

fn set(resource: &mut Value, field: &str, value: Value) {
    // FHIR has no empty arrays.
    if value.as_array().is_some_and(Vec::is_empty) {
        return;
    }
    if let Some(fields) = resource.as_object_mut() {
        fields.insert(field.to_owned(), value);
    }
}
