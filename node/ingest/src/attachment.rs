//! Files that a resource refers to: what is too large to stand in FHIR JSON, such as an imaging study, lies beside it,
//! named by an Attachment's `url` (FHIR R4, datatypes), as bulk exports write it.
//!
//! Only relative names are files; where they lie is the caller's to find, and to keep within its folder.

use handover_core::Digest;
use serde_json::Value;

/// What a file is filed as: FHIR's resource for content that is no FHIR.
pub const FILE_TYPE: &str = "Binary";
/// What a file is called whose resource does not say what it is.
const UNKNOWN_MEDIA_TYPE: &str = "application/octet-stream";
/// The longest name of a file.
const NAME_MAX_BYTES: usize = 1024;

/// A file that a resource refers to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attachment {
    /// Its path below the folder of the resource's own file; no part of it leads upwards.
    pub name: String,
    /// Its media type.
    pub media_type: String,
}

impl Attachment {
    /// The id that the file is filed under: always the same for a resource (`Type/id`) and a name.
    #[must_use]
    pub fn id(&self, reference: &str) -> String {
        let hash = Digest::sha256(&[reference.as_bytes(), b"\0", self.name.as_bytes()]).to_string();
        format!("file-{}", hash.get(..55).unwrap_or(&hash))
    }

    /// Whether the name is that of a resource on a server as well, so that no file may be meant.
    #[must_use]
    pub fn may_be_resource(&self) -> bool {
        self.name.starts_with("Binary/")
    }

    /// Every Attachment within a value that names a file.
    pub(crate) fn collect(value: &Value, into: &mut Vec<Self>) {
        match value {
            Value::Array(many) => many.iter().for_each(|one| Self::collect(one, into)),
            Value::Object(fields) => {
                let text = |name| fields.get(name).and_then(Value::as_str);
                if let Some(name) = text("url").filter(|url| is_relative(url)) {
                    let media_type = text("contentType").unwrap_or(UNKNOWN_MEDIA_TYPE).to_owned();
                    let found = Self { name: name.to_owned(), media_type };
                    if !into.contains(&found) {
                        into.push(found);
                    }
                }
                fields.get("attachment").iter().for_each(|one| Self::collect(one, into));
            }
            _ => {}
        }
    }
}

/// A path that leads downwards and no URL.
fn is_relative(url: &str) -> bool {
    let plain = |part: &str| !matches!(part, "" | "." | "..");
    url.len() <= NAME_MAX_BYTES
        && !url.contains([':', '\\', '?', '#'])
        && !url.chars().any(char::is_control)
        && url.split('/').all(plain)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Facts;

    #[test]
    fn only_names_that_lead_downwards_are_files() {
        for file in ["ct.zip", "study/1.dcm", "Binary/7"] {
            assert!(is_relative(file), "{file}");
        }
        for other in
            ["", "/etc/passwd", "../x", "a/../b", "a//b", "./a", "https://x/y", "urn:x", "a\\b", "a?b", "a#b"]
        {
            assert!(!is_relative(other), "{other}");
        }
    }

    #[test]
    fn attachments_are_found_where_resources_have_them() {
        let file = r#"{"contentType":"application/dicom","url":"ct.dcm"}"#;
        for resource in [
            format!(r#"{{"resourceType":"DocumentReference","content":[{{"attachment":{file}}}]}}"#),
            format!(r#"{{"resourceType":"Media","content":{file}}}"#),
            format!(r#"{{"resourceType":"DiagnosticReport","presentedForm":[{file},{file}]}}"#),
        ] {
            let facts = Facts::of(&resource).unwrap();
            let [found] = facts.attachments.as_slice() else { panic!("{resource}") };
            assert_eq!((found.name.as_str(), found.media_type.as_str()), ("ct.dcm", "application/dicom"));
            assert_eq!(found.id("Media/a").len(), 60);
            assert_ne!(found.id("Media/a"), found.id("Media/b"));
        }
        let elsewhere = r#"{"resourceType":"Media","content":{"url":"https://x.example/y","data":"AA=="}}"#;
        assert!(Facts::of(elsewhere).unwrap().attachments.is_empty());
    }
}
