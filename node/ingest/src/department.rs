//! Which department a record belongs to: by rules on its own type and codes; else, by whoever looks encounters up,
//! by its Encounter; else `unassigned`. Never guessed.

use std::collections::BTreeSet;

use handover_core::Department;
use toml::{Table, Value};

use crate::fault::FileFaults;
use crate::resource::{Coding, Facts};
use crate::resource_type::ResourceType;
use crate::table::Found;

/// The mapping that is shipped. A hospital's own rules are tried before it.
pub const DEFAULT_TOML: &str = include_str!("default-departments.toml");

/// The fields whose codes a rule can ask for, as a mapping file names them: FHIR's names.
const CODE_FIELDS: [&str; 4] = ["category", "class", "serviceType", "type"];

/// Rules in the order in which they are tried; the first that fits decides.
#[derive(Clone, Debug)]
pub struct Mapping(Vec<Rule>);

/// A rule fits when the type is among `resources` and each named field has one of its codes.
#[derive(Clone, Debug)]
struct Rule {
    department: Department,
    /// Empty: any.
    resources: BTreeSet<ResourceType>,
    codes: Vec<(Field, Vec<Wanted>)>,
}

#[derive(Clone, Copy, Debug)]
enum Field {
    Category,
    Class,
    ServiceType,
    Type,
}

/// `system|code` or, in any system, `code`.
#[derive(Clone, Debug)]
struct Wanted {
    system: Option<String>,
    code: String,
}

impl Mapping {
    /// The shipped mapping alone.
    ///
    /// # Errors
    /// None: a test loads it.
    pub fn shipped() -> Result<Self, FileFaults> {
        parse(DEFAULT_TOML)
    }

    /// A hospital's mapping file, tried before the shipped one.
    ///
    /// # Errors
    /// Every fault of the file.
    pub fn with_own(toml_text: &str) -> Result<Self, FileFaults> {
        let mut mapping = parse(toml_text)?;
        mapping.0.extend(Self::shipped()?.0);
        Ok(mapping)
    }

    /// The department by the record's own type and codes.
    #[must_use]
    pub fn own(&self, facts: &Facts) -> Option<&Department> {
        self.0.iter().find(|rule| rule.fits(facts)).map(|rule| &rule.department)
    }

    /// Every department that a rule names, and `unassigned`, sorted.
    #[must_use]
    pub fn departments(&self) -> Vec<Department> {
        let mut all: BTreeSet<_> = self.0.iter().map(|rule| rule.department.clone()).collect();
        all.insert(Department::unassigned());
        all.into_iter().collect()
    }
}

impl Rule {
    fn fits(&self, facts: &Facts) -> bool {
        (self.resources.is_empty() || self.resources.contains(&facts.resource_type))
            && self.codes.iter().all(|(field, wanted)| {
                let codings = match field {
                    Field::Category => &facts.category,
                    Field::Class => &facts.class,
                    Field::ServiceType => &facts.service_type,
                    Field::Type => &facts.kind,
                };
                codings.iter().any(|coding| wanted.iter().any(|one| one.fits(coding)))
            })
    }
}

impl Wanted {
    fn fits(&self, coding: &Coding) -> bool {
        self.code == coding.code && (self.system.is_none() || self.system == coding.system)
    }
}

fn parse(text: &str) -> Result<Mapping, FileFaults> {
    let mut found = Found::default();
    let mut rules = Vec::new();
    match text.parse::<Table>() {
        Err(error) => found.add(0, format!("not TOML: {}", error.message())),
        Ok(table) => {
            for key in table.keys().filter(|key| *key != "rule") {
                found.add(0, format!("unknown key {key:?}; rules stand under [[rule]]"));
            }
            match table.get("rule") {
                Some(Value::Array(given)) if !given.is_empty() => {
                    for (n, value) in (1..).zip(given) {
                        match value {
                            Value::Table(given) => rules.extend(rule(n, given, &mut found)),
                            _ => found.add(n, "is not a table"),
                        }
                    }
                }
                _ => found.add(0, "has no [[rule]]"),
            }
        }
    }
    found.or("rule", Mapping(rules))
}

fn rule(n: u64, given: &Table, found: &mut Found) -> Option<Rule> {
    for key in given.keys() {
        if !["department", "resources"].contains(&key.as_str()) && !CODE_FIELDS.contains(&key.as_str()) {
            found.add(n, format!("unknown key {key:?}"));
        }
    }
    let department = match given.get("department").and_then(Value::as_str) {
        None => {
            found.add(n, "department is missing");
            None
        }
        Some(name) => {
            let parsed = name.parse::<Department>();
            parsed.map_err(|fault| found.add(n, format!("department {name:?}: {}", fault.reason))).ok()
        }
    };
    let mut resources = BTreeSet::new();
    for name in texts(n, "resources", given, found) {
        match name.parse() {
            Ok(known) => drop(resources.insert(known)),
            Err(_) => found.add(n, format!("resources: {name:?} is no resource type of FHIR R4")),
        }
    }
    let fields = [Field::Category, Field::Class, Field::ServiceType, Field::Type];
    let mut codes = Vec::new();
    for (name, field) in CODE_FIELDS.into_iter().zip(fields) {
        let wanted: Vec<_> = texts(n, name, given, found)
            .into_iter()
            .map(|text| match text.rsplit_once('|') {
                Some((system, code)) => Wanted { system: Some(system.to_owned()), code: code.to_owned() },
                None => Wanted { system: None, code: text.to_owned() },
            })
            .collect();
        if wanted.iter().any(|one| one.code.is_empty() || one.system.as_deref() == Some("")) {
            found.add(n, format!("{name}: a code is \"code\" or \"system|code\""));
        }
        if !wanted.is_empty() {
            codes.push((field, wanted));
        }
    }
    if !given.contains_key("resources") && !CODE_FIELDS.iter().any(|name| given.contains_key(*name)) {
        found.add(n, "asks for nothing: resources, category, class, serviceType or type is needed");
    }
    Some(Rule { department: department?, resources, codes })
}

/// The texts of a list that is there.
fn texts<'a>(n: u64, name: &str, given: &'a Table, found: &mut Found) -> Vec<&'a str> {
    let Some(value) = given.get(name) else { return Vec::new() };
    let texts: Option<Vec<_>> = value.as_array().and_then(|list| list.iter().map(Value::as_str).collect());
    match texts {
        Some(texts) if !texts.is_empty() => texts,
        _ => {
            found.add(n, format!("{name} is a list of texts, at least one"));
            Vec::new()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own(mapping: &Mapping, json: &str) -> String {
        let facts = Facts::of(json).unwrap();
        mapping.own(&facts).map_or_else(|| "-".to_owned(), ToString::to_string)
    }

    #[test]
    fn the_shipped_mapping_is_sound() {
        let mapping = Mapping::shipped().unwrap();
        for (json, department) in [
            (r#"{"resourceType":"Claim"}"#, "billing"),
            (r#"{"resourceType":"Patient"}"#, "administration"),
            (r#"{"resourceType":"Condition"}"#, "-"),
            (
                r#"{"resourceType":"Observation","category":[{"coding":[{"code":"laboratory"}]}]}"#,
                "laboratory",
            ),
            (r#"{"resourceType":"Observation","category":[{"coding":[{"code":"vital-signs"}]}]}"#, "-"),
            (
                r#"{"resourceType":"Encounter","class":{"system":"http://terminology.hl7.org/CodeSystem/v3-ActCode","code":"EMER"}}"#,
                "emergency",
            ),
            (
                r#"{"resourceType":"Encounter","class":{"code":"AMB"},"type":[{"coding":[{"system":"http://snomed.info/sct","code":"424619006"}]}]}"#,
                "obstetrics",
            ),
        ] {
            assert_eq!(own(&mapping, json), department, "{json}");
        }
    }

    #[test]
    fn a_hospitals_own_rules_come_first() {
        let text = "[[rule]]\ndepartment = \"dialysis\"\nresources = [\"Encounter\"]\nclass = [\"AMB\"]\n";
        let mapping = Mapping::with_own(text).unwrap();
        assert_eq!(own(&mapping, r#"{"resourceType":"Encounter","class":{"code":"AMB"}}"#), "dialysis");
        assert_eq!(own(&mapping, r#"{"resourceType":"Claim"}"#), "billing");
    }

    #[test]
    fn all_faults_are_told_at_once() {
        let text = "[[rule]]\ndepartment = \"X\"\nresources = [\"Visit\"]\nkind = [\"a\"]\n[[rule]]\ndepartment = \"ab\"\n\
                    [[rule]]\nclass = [\"|\"]\n";
        let faults = Mapping::with_own(text).unwrap_err();
        assert_eq!(faults.faults.len(), 6, "{faults}");
        assert!(faults.to_string().contains("rule 1: unknown key \"kind\""), "{faults}");
        for bad in ["", "rule = 1", "x = [", "[other]\na = 1"] {
            assert!(Mapping::with_own(bad).is_err(), "{bad}");
        }
    }
}
