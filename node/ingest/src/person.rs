//! Who a Patient resource is about, for finding them by what an emergency room knows. Nothing here decides who may.

use serde_json::Value;

use crate::reference::Reference;

/// The FHIR type whose resources say who a patient is.
pub const TYPE: &str = "Patient";

/// Who is looked for.
#[derive(Clone, Copy)]
pub struct Wanted<'a> {
    /// Family name.
    pub family: &'a str,
    /// Given name.
    pub given: &'a str,
    /// YYYY-MM-DD.
    pub birth_date: &'a str,
    /// A FHIR word for the sex, if known.
    pub sex: Option<&'a str>,
    /// The hospital's own number for them, if known.
    pub record_number: Option<&'a str>,
}

impl Wanted<'_> {
    /// The word by which [`found_by`] finds them.
    #[must_use]
    pub fn word(&self) -> String {
        word(self.family, self.birth_date)
    }
}

/// The words by which a resource's patient is found; none if it is no Patient resource or says too little.
#[must_use]
pub fn found_by(resource_type: &str, json: &[u8]) -> Vec<String> {
    if resource_type != TYPE {
        return Vec::new();
    }
    let Ok(resource) = serde_json::from_slice::<Value>(json) else { return Vec::new() };
    let Some(birth_date) = text(&resource, "birthDate") else { return Vec::new() };
    let mut words: Vec<String> = items(&resource, "name")
        .filter_map(|name| text(name, "family"))
        .filter(|family| !normal(family).is_empty())
        .map(|family| word(family, birth_date))
        .collect();
    words.sort();
    words.dedup();
    words
}

/// What a Patient resource says of another one: that the two were merged (FHIR R4, `Patient.link`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Merged {
    /// The other Patient.
    pub other: Reference,
    /// Whether the other one takes this one's place (`replaced-by`); else this one takes the other's (`replaces`).
    pub by_other: bool,
}

/// With which others a resource says that its patient was merged; none if it is no Patient resource. `refer` and
/// `seealso` say that two Patients are about one person, and take neither away.
#[must_use]
pub fn merged(resource_type: &str, json: &[u8]) -> Vec<Merged> {
    if resource_type != TYPE {
        return Vec::new();
    }
    let Ok(resource) = serde_json::from_slice::<Value>(json) else { return Vec::new() };
    let links = items(&resource, "link").filter_map(|link| {
        let by_other = match text(link, "type")? {
            "replaced-by" => true,
            "replaces" => false,
            _ => return None,
        };
        let other = Reference::parse(text(link.get("other")?, "reference")?)?;
        Some(Merged { other, by_other })
    });
    links.collect()
}

/// Whether a Patient resource is about who is wanted. What is not known on either side says nothing against it, but a
/// record number that is wanted has to be one of theirs: `number`, or one that the resource has.
#[must_use]
pub fn fits(json: &[u8], number: &str, wanted: &Wanted<'_>) -> bool {
    let Ok(resource) = serde_json::from_slice::<Value>(json) else { return false };
    let is_named = items(&resource, "name").any(|name| {
        let given = items(name, "given").filter_map(Value::as_str).flat_map(str::split_whitespace);
        let wanted_given = wanted.given.split_whitespace().next().unwrap_or_default();
        text(name, "family").is_some_and(|family| is_same(family, wanted.family))
            && given.into_iter().any(|given| is_same(given, wanted_given))
    });
    let is_sex = match (wanted.sex, text(&resource, "gender")) {
        (Some(wanted), Some(known)) if wanted != "unknown" && known != "unknown" => wanted == known,
        _ => true,
    };
    let has_number = |wanted: &str| {
        wanted == number || items(&resource, "identifier").any(|it| text(it, "value") == Some(wanted))
    };
    is_named
        && is_sex
        && text(&resource, "birthDate") == Some(wanted.birth_date)
        && wanted.record_number.is_none_or(has_number)
}

fn word(family: &str, birth_date: &str) -> String {
    format!("{} {birth_date}", normal(family))
}

/// As people compare names: no case, no blanks, hyphens or apostrophes, and of European letters the one that a keyboard
/// without them has.
fn normal(name: &str) -> String {
    let letters = name.chars().filter(|letter| letter.is_alphanumeric()).flat_map(char::to_lowercase);
    letters.fold(String::new(), |mut plain, letter| {
        match FOLDED.iter().find(|(_, from)| from.contains(letter)) {
            Some((to, _)) => plain.push_str(to),
            None => plain.push(letter),
        }
        plain
    })
}

/// Letters with marks (Unicode: Latin-1 Supplement, Latin Extended-A) by the plain one. Marks that stand by themselves are
/// no letters.
const FOLDED: [(&str, &str); 23] = [
    ("a", "àáâãäåāăą"),
    ("ae", "æ"),
    ("c", "çćĉċč"),
    ("d", "ďđð"),
    ("e", "èéêëēĕėęě"),
    ("g", "ĝğġģ"),
    ("h", "ĥħ"),
    ("i", "ìíîïĩīĭįı"),
    ("j", "ĵ"),
    ("k", "ķ"),
    ("l", "ĺļľŀł"),
    ("n", "ñńņňŉŋ"),
    ("o", "òóôõöøōŏő"),
    ("oe", "œ"),
    ("r", "ŕŗř"),
    ("s", "śŝşšș"),
    ("ss", "ß"),
    ("t", "ţťŧț"),
    ("th", "þ"),
    ("u", "ùúûüũūŭůűų"),
    ("w", "ŵ"),
    ("y", "ýÿŷ"),
    ("z", "źżž"),
];

fn is_same(one: &str, other: &str) -> bool {
    let one = normal(one);
    !one.is_empty() && one == normal(other)
}

fn items<'v>(value: &'v Value, key: &str) -> impl Iterator<Item = &'v Value> {
    value.get(key).and_then(Value::as_array).into_iter().flatten()
}

fn text<'v>(value: &'v Value, key: &str) -> Option<&'v str> {
    value.get(key).and_then(Value::as_str)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ADA: &str = r#"{"resourceType":"Patient","gender":"female","birthDate":"1980-02-29",
        "identifier":[{"value":"MRN-7"}],"name":[{"family":"Quill-Reed","given":["Ada","May"]}]}"#;

    fn wanted() -> Wanted<'static> {
        Wanted {
            family: "quill reed",
            given: "ADA",
            birth_date: "1980-02-29",
            sex: None,
            record_number: None,
        }
    }

    #[test]
    fn found_as_people_write_names() {
        assert_eq!(found_by(TYPE, ADA.as_bytes()), [wanted().word()]);
        assert!(found_by("Observation", ADA.as_bytes()).is_empty());
        assert!(found_by(TYPE, br#"{"birthDate":"1980-02-29","name":[{"family":"-"}]}"#).is_empty());
    }

    #[test]
    fn marks_on_letters_are_no_difference() {
        for (one, other) in
            [("Zoë", "Zoe"), ("Łukasz", "lukasz"), ("Strauß", "STRAUSS"), ("Zoe\u{308}", "zoe")]
        {
            assert!(is_same(one, other), "{one}");
        }
        assert!(!is_same("Zoë", "Zoa"));
    }

    #[test]
    fn one_wrong_thing_is_another_person() {
        let fits = |wanted| fits(ADA.as_bytes(), "P-1", &wanted);
        assert!(fits(wanted()));
        assert!(fits(Wanted { sex: Some("female"), record_number: Some("MRN-7"), ..wanted() }));
        assert!(fits(Wanted { sex: Some("unknown"), record_number: Some("P-1"), given: "May", ..wanted() }));
        for other in [
            Wanted { family: "Reed", ..wanted() },
            Wanted { given: "Eva", ..wanted() },
            Wanted { given: "", ..wanted() },
            Wanted { birth_date: "1980-02-28", ..wanted() },
            Wanted { sex: Some("male"), ..wanted() },
            Wanted { record_number: Some("P-2"), ..wanted() },
        ] {
            assert!(!fits(other));
        }
    }

    #[test]
    fn merges_are_read_from_either_side_and_nothing_else_is_one() {
        let link =
            |kind: &str, other: &str| format!(r#"{{"other":{{"reference":"{other}"}},"type":"{kind}"}}"#);
        for (links, expected) in [
            (link("replaced-by", "Patient/p-2"), vec![("Patient/p-2", true)]),
            (link("replaces", "http://here/fhir/Patient/p-3"), vec![("Patient/p-3", false)]),
            (link("seealso", "Patient/p-4"), Vec::new()),
            (link("refer", "Patient/p-4"), Vec::new()),
            (link("replaced-by", "#contained"), Vec::new()),
            (r#"{"type":"replaced-by"}"#.to_owned(), Vec::new()),
        ] {
            let json = format!(r#"{{"resourceType":"Patient","id":"p-1","link":[{links}]}}"#);
            let found = merged(TYPE, json.as_bytes());
            let found: Vec<_> = found.iter().map(|it| (it.other.to_string(), it.by_other)).collect();
            let expected: Vec<_> = expected.into_iter().map(|(id, by)| (id.to_owned(), by)).collect();
            assert_eq!(found, expected, "{links}");
            assert!(merged("Person", json.as_bytes()).is_empty());
        }
    }
}
