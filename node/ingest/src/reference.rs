//! FHIR references (<https://hl7.org/fhir/R4/references.html>) reduced to what can be looked up: `Type/id`, or the
//! `urn:` by which a Bundle names an entry that has no server yet.

use std::fmt;

use serde_json::Value;

use crate::resource_type::ResourceType;

/// The longest id (FHIR R4, datatype `id`).
const MAX_ID_CHARS: usize = 64;

/// Where a reference leads.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reference {
    /// A resource by type and id, from `Type/id` or an absolute URL that ends so.
    Typed {
        /// The type.
        resource_type: ResourceType,
        /// The id.
        id: String,
    },
    /// `urn:uuid:…` or `urn:oid:…`, in lower case: the `fullUrl` of a Bundle entry.
    Urn(String),
}

impl Reference {
    /// Reads a reference's text. Contained resources (`#x`), conditional references (`Patient?…`) and what has no
    /// type lead nowhere outside their resource: `None`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        if text.starts_with("urn:uuid:") || text.starts_with("urn:oid:") {
            return Some(Self::Urn(text.to_ascii_lowercase()));
        }
        if text.starts_with('#') || text.contains('?') {
            return None;
        }
        let unversioned = text.split_once("/_history/").map_or(text, |(head, _)| head);
        let (rest, id) = unversioned.rsplit_once('/')?;
        let resource_type = rest.rsplit('/').next()?.parse().ok()?;
        is_id(id).then(|| Self::Typed { resource_type, id: id.to_owned() })
    }

    /// `Type/id` if this may be a resource of `expected` type: of a `urn:uuid:X` the type follows from the field
    /// that it stands in, and the id is X unless the Bundle said otherwise (see [`crate::Outline::resolve`]).
    #[must_use]
    pub fn of_type(&self, expected: &str) -> Option<String> {
        match self {
            Self::Typed { resource_type, .. } => {
                (resource_type.as_str() == expected).then(|| self.to_string())
            }
            Self::Urn(urn) => urn.strip_prefix("urn:uuid:").map(|id| format!("{expected}/{id}")),
        }
    }

    /// Every reference in a `Reference` or an array of them.
    pub(crate) fn collect(value: &Value, into: &mut Vec<Self>) {
        match value {
            Value::Array(many) => many.iter().for_each(|one| Self::collect(one, into)),
            Value::Object(fields) => {
                let text = fields.get("reference").and_then(Value::as_str);
                into.extend(text.and_then(Self::parse));
            }
            _ => {}
        }
    }
}

/// FHIR R4's rule for ids: 1 to 64 of `A-Z`, `a-z`, `0-9`, `-`, `.`.
pub(crate) fn is_id(text: &str) -> bool {
    (1..=MAX_ID_CHARS).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'.')
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Typed { resource_type, id } => write!(f, "{resource_type}/{id}"),
            Self::Urn(urn) => f.write_str(urn),
        }
    }
}

/// Tells the type only: ids lead to people.
impl fmt::Debug for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Typed { resource_type, .. } => write!(f, "Reference({resource_type}/…)"),
            Self::Urn(_) => f.write_str("Reference(urn:…)"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Reference;

    #[test]
    fn references_are_reduced() {
        for (text, reduced) in [
            ("Encounter/a1", Some("Encounter/a1")),
            ("https://lakeside.example/fhir/Encounter/a1", Some("Encounter/a1")),
            ("https://lakeside.example/fhir/Encounter/a1/_history/3", Some("Encounter/a1")),
            ("urn:uuid:ABC", Some("urn:uuid:abc")),
            ("#contained", None),
            ("Patient?identifier=x|1", None),
            ("Visit/1", None),
            ("Encounter/", None),
            ("a1", None),
            ("", None),
        ] {
            assert_eq!(Reference::parse(text).map(|r| r.to_string()).as_deref(), reduced, "{text}");
        }
    }

    #[test]
    fn the_field_gives_a_urn_its_type() {
        let urn = Reference::parse("urn:uuid:a1").unwrap();
        assert_eq!(urn.of_type("Encounter").as_deref(), Some("Encounter/a1"));
        let group = Reference::parse("Group/a1").unwrap();
        assert_eq!(group.of_type("Patient"), None);
    }
}
