//! A first pass over a file, since references may point forward in it: which encounter belongs to which department,
//! and which `urn:` names which resource.
//!
//! Small: 24 bytes per encounter, and names only of entries whose `fullUrl` is not simply their id.

use std::collections::HashMap;
use std::io::{self, BufRead};
use std::ops::ControlFlow;

use handover_core::{Department, Digest};
use serde::Deserialize;

use crate::department::Mapping;
use crate::reference::{Reference, is_id};
use crate::resource::Facts;
use crate::source::{Item, Kind, read};

/// What a file says about references within it.
#[derive(Clone, Debug, Default)]
pub struct Outline {
    departments: Vec<Department>,
    /// By the first half of the SHA-256 of `Encounter/id`: place in `departments`.
    encounters: HashMap<u128, usize>,
    /// `urn:…` → `Type/id`, where the one does not follow from the other.
    names: HashMap<String, String>,
    /// Encounters without a department of their own → the encounter that they are part of.
    parents: HashMap<String, Vec<Reference>>,
}

/// As much of a resource as a name needs.
#[derive(Deserialize)]
struct Head {
    #[serde(rename = "resourceType")]
    resource_type: String,
    id: Option<String>,
}

/// How many levels of `Encounter.partOf` are followed.
const MAX_PARENTS: usize = 8;

impl Outline {
    /// Reads a file for its outline. What cannot be read is passed over: the second pass reports it.
    ///
    /// # Errors
    /// Only those of `input`.
    pub fn of<R: BufRead>(input: R, kind: Kind, mapping: &Mapping) -> io::Result<Self> {
        let mut outline = Self::default();
        read(input, kind, |item| {
            if let Item::Resource { full_url, json, .. } = item {
                outline.add(full_url.as_deref(), json, mapping);
            }
            ControlFlow::Continue(())
        })?;
        Ok(outline)
    }

    /// Adds one resource.
    pub fn add(&mut self, full_url: Option<&str>, json: &str, mapping: &Mapping) {
        let Ok(head) = serde_json::from_str::<Head>(json) else { return };
        let is_encounter = head.resource_type == "Encounter";
        let urn = full_url.filter(|url| url.starts_with("urn:")).map(str::to_ascii_lowercase);
        let plain = urn.as_deref().and_then(|urn| urn.strip_prefix("urn:uuid:")) == head.id.as_deref();
        let named = urn.is_some() && !plain;
        if !is_encounter && !named {
            return;
        }
        let Ok(facts) = Facts::of(json) else { return };
        let reference = facts.reference();
        if is_encounter {
            if let Some(department) = mapping.own(&facts) {
                let place = self.place(department);
                self.encounters.insert(short(&reference), place);
            } else if !facts.encounters.is_empty() {
                self.parents.insert(reference.clone(), facts.encounters);
            }
        }
        if let Some(urn) = urn.filter(|_| named) {
            self.names.insert(urn, reference);
        }
    }

    /// `Type/id` of what `reference` leads to, if that may be of `expected` type. Of a `urn:uuid:X` that the file
    /// gives no other id: `expected/X`.
    #[must_use]
    pub fn resolve(&self, reference: &Reference, expected: &str) -> Option<String> {
        match reference {
            Reference::Urn(urn) => match self.names.get(urn) {
                Some(known) => {
                    known.split_once('/').is_some_and(|(t, _)| t == expected).then(|| known.clone())
                }
                None => reference
                    .of_type(expected)
                    .filter(|known| known.split_once('/').is_some_and(|(_, id)| is_id(id))),
            },
            Reference::Typed { .. } => reference.of_type(expected),
        }
    }

    /// The department of the first of a record's encounters that this file has and that has one. For encounters of
    /// other files, ask the store with [`Outline::resolve`].
    #[must_use]
    pub fn department(&self, facts: &Facts) -> Option<&Department> {
        facts.encounters.iter().find_map(|reference| self.department_of(reference, MAX_PARENTS))
    }

    fn department_of(&self, encounter: &Reference, levels: usize) -> Option<&Department> {
        let reference = self.resolve(encounter, "Encounter")?;
        if let Some(place) = self.encounters.get(&short(&reference)) {
            return self.departments.get(*place);
        }
        let left = levels.checked_sub(1)?;
        self.parents.get(&reference)?.iter().find_map(|parent| self.department_of(parent, left))
    }

    fn place(&mut self, department: &Department) -> usize {
        self.departments.iter().position(|known| known == department).unwrap_or_else(|| {
            self.departments.push(department.clone());
            self.departments.len() - 1
        })
    }
}

fn short(reference: &str) -> u128 {
    let digest = Digest::sha256(&[reference.as_bytes()]);
    digest.as_bytes().iter().take(16).fold(0, |sum, byte| sum << 8 | u128::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    const BUNDLE: &str = r#"{"resourceType":"Bundle","type":"transaction","entry":[
        {"fullUrl":"urn:uuid:aa","resource":{"resourceType":"Observation","id":"o1","encounter":{"reference":"urn:uuid:e-1"}}},
        {"fullUrl":"urn:uuid:E-1","resource":{"resourceType":"Encounter","id":"visit","class":{"code":"EMER"}}},
        {"fullUrl":"urn:uuid:e-2","resource":{"resourceType":"Encounter","id":"e-2","partOf":{"reference":"Encounter/visit"}}}]}"#;

    #[test]
    fn encounters_are_found_forward_and_under_other_names() {
        let mapping = Mapping::shipped().unwrap();
        let outline = Outline::of(BUNDLE.as_bytes(), Kind::Json, &mapping).unwrap();
        for encounter in
            ["urn:uuid:e-1", "Encounter/visit", "https://x.example/Encounter/visit", "urn:uuid:e-2"]
        {
            let json = format!(r#"{{"resourceType":"Condition","encounter":{{"reference":"{encounter}"}}}}"#);
            let facts = Facts::of(&json).unwrap();
            assert_eq!(outline.department(&facts).map(Department::as_str), Some("emergency"), "{encounter}");
        }
        let other =
            Facts::of(r#"{"resourceType":"Condition","encounter":{"reference":"Encounter/x"}}"#).unwrap();
        assert_eq!(outline.department(&other), None);
        let urn = Reference::parse("urn:uuid:aa").unwrap();
        assert_eq!(outline.resolve(&urn, "Observation").as_deref(), Some("Observation/o1"));
        assert_eq!(outline.resolve(&urn, "Patient"), None);
    }
}
