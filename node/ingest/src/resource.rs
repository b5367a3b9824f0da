//! What is read from a resource to file it: its kind, id, patient, encounters, codes, status and date. Lenient
//! about everything that does not file it: a field of another kind than FHIR gives it counts as absent.
//!
//! Never judges whether a resource is valid FHIR, and changes nothing: the text is stored as it came.

use std::collections::HashSet;
use std::fmt;

use handover_core::Digest;
use serde::Deserialize;
use serde::de::{MapAccess, Visitor};
use serde_json::Value;
use serde_json::value::RawValue;

use crate::attachment::Attachment;
use crate::fault::Fault;
use crate::reference::{Reference, is_id};
use crate::resource_type::ResourceType;

/// A code, as a Coding or a plain `code` has it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Coding {
    /// The code system's URI; `None` for a plain `code`.
    pub system: Option<String>,
    /// The code.
    pub code: String,
    /// What it means, for people.
    pub display: Option<String>,
}

/// What files a resource. Small and owned.
#[derive(Clone, PartialEq, Eq)]
pub struct Facts {
    /// The type.
    pub resource_type: ResourceType,
    /// The id: the resource's own, or one derived from its content (see [`Facts::of`]).
    pub id: String,
    /// The patient it is about, if it says so; of a Patient, itself.
    pub patient: Option<Reference>,
    /// The encounters it belongs to; of an Encounter, the one that it is part of.
    pub encounters: Vec<Reference>,
    /// `category`.
    pub category: Vec<Coding>,
    /// `class`.
    pub class: Vec<Coding>,
    /// `serviceType`.
    pub service_type: Vec<Coding>,
    /// `type`.
    pub kind: Vec<Coding>,
    /// `code`, `vaccineCode` or `medicationCodeableConcept`: what was done, found or given.
    pub code: Vec<Coding>,
    /// The text of that code, else the display of its first coding.
    pub title: Option<String>,
    /// `status`, if it is a plain code.
    pub status: Option<String>,
    /// The clinical date as it stands: `YYYY`, `YYYY-MM`, `YYYY-MM-DD` or an instant. The first that there is of
    /// [`DATE_FIELDS`].
    pub date: Option<String>,
    /// Whether a label in `meta.security` restricts it: confidentiality R or V, or an information sensitivity policy.
    pub is_restricted: bool,
    /// Files that it refers to.
    pub attachments: Vec<Attachment>,
}

/// HL7 v3-Confidentiality: the codes above normal.
const CONFIDENTIALITY: (&str, &[&str]) =
    ("http://terminology.hl7.org/CodeSystem/v3-Confidentiality", &["R", "V"]);
/// HL7 v3-ActCode: the policies below ActInformationSensitivityPolicy.
const SENSITIVITY: (&str, &[&str]) = (
    "http://terminology.hl7.org/CodeSystem/v3-ActCode",
    &[
        "BH", "COGN", "DVD", "EMOTDIS", "ETH", "ETHUD", "GDIS", "HIV", "IDS", "MH", "MST", "OPIOIDUD",
        "PREGNANT", "PSY", "PSYTHPN", "SCA", "SDV", "SEX", "SICKLE", "SPI", "STD", "SUD", "TBOO", "VIO",
    ],
);

/// Where a clinical date is looked for, in this order; of a period its start, else its end.
pub const DATE_FIELDS: &[&str] = &[
    "effectiveDateTime",
    "effectiveInstant",
    "effectivePeriod",
    "performedDateTime",
    "performedPeriod",
    "occurrenceDateTime",
    "occurrencePeriod",
    "onsetDateTime",
    "onsetPeriod",
    "period",
    "started",
    "servicedPeriod",
    "servicedDate",
    "billablePeriod",
    "authoredOn",
    "authored",
    "issued",
    "recordedDate",
    "recorded",
    "whenHandedOver",
    "start",
    "created",
    "createdDateTime",
    "date",
    "dateTime",
    "sent",
    "assertedDate",
    "dateAsserted",
    "startDate",
    "timestamp",
];

/// Where a patient is looked for, in this order.
const PATIENT_FIELDS: &[&str] =
    &["patient", "subject", "beneficiary", "individual", "for", "candidate", "participant"];

/// The fields of an object, each as its text.
struct Fields<'a>(Vec<(String, &'a RawValue)>);

impl<'de> Deserialize<'de> for Fields<'de> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Collect;
        impl<'de> Visitor<'de> for Collect {
            type Value = Fields<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut fields = Vec::with_capacity(map.size_hint().unwrap_or(16));
                while let Some(field) = map.next_entry()? {
                    fields.push(field);
                }
                Ok(Fields(fields))
            }
        }
        deserializer.deserialize_map(Collect)
    }
}

impl Fields<'_> {
    fn value(&self, name: &str) -> Option<Value> {
        let (_, raw) = self.0.iter().find(|(key, _)| key == name)?;
        serde_json::from_str(raw.get()).ok()
    }

    fn text(&self, name: &str) -> Option<String> {
        match self.value(name)? {
            Value::String(text) => Some(text),
            _ => None,
        }
    }

    fn codings(&self, name: &str) -> Vec<Coding> {
        let mut codings = Vec::new();
        if let Some(value) = self.value(name) {
            Coding::collect(&value, &mut codings);
        }
        codings
    }
}

impl Coding {
    /// Every code in a `code`, Coding, CodeableConcept or an array of them.
    fn collect(value: &Value, into: &mut Vec<Self>) {
        match value {
            Value::String(code) => into.push(Self { system: None, code: code.clone(), display: None }),
            Value::Array(many) => many.iter().for_each(|one| Self::collect(one, into)),
            Value::Object(fields) => {
                let text = |name| fields.get(name).and_then(Value::as_str).map(str::to_owned);
                if let Some(codings @ Value::Array(_)) = fields.get("coding") {
                    Self::collect(codings, into);
                } else if let Some(code) = text("code") {
                    into.push(Self { system: text("system"), code, display: text("display") });
                }
            }
            _ => {}
        }
    }
}

impl Facts {
    /// Reads a resource's text. Without an `id`, one is derived from the hash of its content (`sha256-` and 55
    /// hexadecimal digits), so that nothing is lost and importing again finds it again.
    ///
    /// # Errors
    /// Not a JSON object, a key twice, no or an unknown `resourceType`, an `id` that FHIR does not allow.
    pub fn of(raw_json: &str) -> Result<Self, Fault> {
        let fields: Fields<'_> =
            serde_json::from_str(raw_json).map_err(|error| Fault::of_json(&error, Fault::NotAnObject))?;
        let mut seen = HashSet::with_capacity(fields.0.len());
        if !fields.0.iter().all(|(key, _)| seen.insert(key.as_str())) {
            return Err(Fault::DuplicateKey);
        }
        let resource_type: ResourceType =
            fields.text("resourceType").ok_or(Fault::NoResourceType)?.parse()?;
        let id = match fields.value("id") {
            Some(Value::String(id)) if is_id(&id) => id,
            Some(_) => return Err(Fault::BadId),
            None => derived_id(raw_json),
        };
        let (code, title) = code(&fields);
        Ok(Self {
            patient: patient(&fields, resource_type, &id),
            encounters: encounters(&fields, resource_type),
            category: fields.codings("category"),
            class: fields.codings("class"),
            service_type: fields.codings("serviceType"),
            kind: fields.codings("type"),
            code,
            title,
            status: fields.text("status"),
            attachments: attachments(&fields, resource_type),
            date: DATE_FIELDS.iter().find_map(|name| fields.value(name).as_ref().and_then(date)),
            is_restricted: is_restricted(&fields),
            resource_type,
            id,
        })
    }

    /// `Type/id`.
    #[must_use]
    pub fn reference(&self) -> String {
        format!("{}/{}", self.resource_type, self.id)
    }

    /// The day of the clinical date, or as much of it as is known: `YYYY-MM-DD`, `YYYY-MM` or `YYYY`.
    #[must_use]
    pub fn day(&self) -> Option<&str> {
        self.date.as_deref().map(|date| date.get(..10).unwrap_or(date))
    }
}

/// Tells the type only.
fn is_restricted(fields: &Fields<'_>) -> bool {
    let mut labels = Vec::new();
    if let Some(security) = fields.value("meta").as_ref().and_then(|meta| meta.get("security")) {
        Coding::collect(security, &mut labels);
    }
    labels.iter().any(|label| {
        let system = label.system.as_deref();
        [CONFIDENTIALITY, SENSITIVITY]
            .iter()
            .any(|(of, codes)| system == Some(of) && codes.contains(&label.code.as_str()))
    })
}

impl fmt::Debug for Facts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Facts({}/…)", self.resource_type)
    }
}

/// A resource's content as one hash: SHA-256 of its JSON without insignificant whitespace (RFC 8259, section 2);
/// strings and numbers count byte for byte. Two texts of the same hash say the same; importing again decides by it
/// what is unchanged. `raw_json` is well-formed; of anything else the hash means nothing, but there is one.
#[must_use]
pub fn minified_hash(raw_json: &str) -> Digest {
    let mut minified = Vec::with_capacity(raw_json.len());
    let mut in_string = false;
    let mut escaped = false;
    for byte in raw_json.bytes() {
        if in_string {
            in_string = escaped || byte != b'"';
            escaped = !escaped && byte == b'\\';
        } else if matches!(byte, b' ' | b'\t' | b'\r' | b'\n') {
            continue;
        } else {
            in_string = byte == b'"';
        }
        minified.push(byte);
    }
    Digest::sha256(&[&minified])
}

fn derived_id(raw_json: &str) -> String {
    let hash = minified_hash(raw_json).to_string();
    format!("sha256-{}", hash.get(..55).unwrap_or(&hash))
}

fn code(fields: &Fields<'_>) -> (Vec<Coding>, Option<String>) {
    let found =
        ["code", "vaccineCode", "medicationCodeableConcept"].iter().find_map(|name| fields.value(name));
    let Some(value) = found else { return (Vec::new(), None) };
    let mut codings = Vec::new();
    Coding::collect(&value, &mut codings);
    let text = value.get("text").and_then(Value::as_str).map(str::to_owned);
    let title = text.or_else(|| codings.iter().find_map(|coding| coding.display.clone()));
    (codings, title)
}

fn patient(fields: &Fields<'_>, resource_type: ResourceType, id: &str) -> Option<Reference> {
    if resource_type.as_str() == "Patient" {
        return Some(Reference::Typed { resource_type, id: id.to_owned() });
    }
    PATIENT_FIELDS.iter().find_map(|name| {
        let value = fields.value(name)?;
        let mut found = Vec::new();
        Reference::collect(&value, &mut found);
        // Appointment.participant[].actor
        for participant in value.as_array().into_iter().flatten() {
            if let Some(actor) = participant.get("actor") {
                Reference::collect(actor, &mut found);
            }
        }
        let typed = *name != "participant";
        found.into_iter().find(|one| match one {
            Reference::Typed { resource_type, .. } => resource_type.as_str() == "Patient",
            // Which of several participants is the patient, an untyped name does not tell.
            Reference::Urn(_) => typed,
        })
    })
}

fn encounters(fields: &Fields<'_>, resource_type: ResourceType) -> Vec<Reference> {
    let mut found = Vec::new();
    if resource_type.as_str() == "Encounter" {
        fields.value("partOf").iter().for_each(|value| Reference::collect(value, &mut found));
    }
    fields.value("encounter").iter().for_each(|value| Reference::collect(value, &mut found));
    if let Some(context) = fields.value("context") {
        Reference::collect(&context, &mut found);
        // DocumentReference.context.encounter
        context.get("encounter").iter().for_each(|value| Reference::collect(value, &mut found));
    }
    if matches!(resource_type.as_str(), "Claim" | "ExplanationOfBenefit") {
        for item in fields.value("item").as_ref().and_then(Value::as_array).into_iter().flatten() {
            item.get("encounter").iter().for_each(|value| Reference::collect(value, &mut found));
        }
    }
    found.retain(|one| one.of_type("Encounter").is_some());
    let mut seen = HashSet::new();
    found.retain(|one| seen.insert(one.clone()));
    found
}

fn attachments(fields: &Fields<'_>, resource_type: ResourceType) -> Vec<Attachment> {
    let name = match resource_type.as_str() {
        "DocumentReference" | "Media" => "content",
        "DiagnosticReport" => "presentedForm",
        _ => return Vec::new(),
    };
    let mut found = Vec::new();
    // One that holds its data is as long as that, and is not read a second time for nothing.
    let names_one = |(key, raw): &&(String, &RawValue)| key == name && raw.get().contains("\"url\"");
    if fields.0.iter().any(|field| names_one(&field)) {
        fields.value(name).iter().for_each(|value| Attachment::collect(value, &mut found));
    }
    found
}

/// A date out of a `date`, `dateTime`, `instant` or Period.
fn date(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => is_date(text).then(|| text.clone()),
        Value::Object(period) => ["start", "end"].iter().find_map(|end| period.get(*end).and_then(date)),
        _ => None,
    }
}

/// `YYYY`, `YYYY-MM`, `YYYY-MM-DD`, or the last with a time behind a `T`.
pub(crate) fn is_date(text: &str) -> bool {
    let (day, time) = text.split_once('T').map_or((text, None), |(day, time)| (day, Some(time)));
    if time.is_some() && day.len() != 10 {
        return false;
    }
    let fits = |part: Option<&str>, digits: usize, most: u32| {
        part.is_none_or(|part| {
            let number = part.parse::<u32>().is_ok_and(|number| (1..=most).contains(&number));
            part.len() == digits && part.bytes().all(|b| b.is_ascii_digit()) && number
        })
    };
    let mut parts = day.split('-');
    let (year, month, date) = (parts.next(), parts.next(), parts.next());
    fits(year, 4, 9999) && fits(month, 2, 12) && fits(date, 2, 31) && parts.next().is_none()
}
