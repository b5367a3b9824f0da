//! Whether a resource says of itself that it should not stand (FHIR R4: `status` and `verificationStatus`).

use serde::Deserialize;

/// The words for it: `entered-in-error` of every kind of resource, `cancelled` of a test.
const RETRACTED: [&str; 2] = ["entered-in-error", "cancelled"];

#[derive(Deserialize)]
struct Standing {
    #[serde(default)]
    status: serde_json::Value,
    #[serde(default, rename = "verificationStatus")]
    verification: Concept,
}

#[derive(Default)]
struct Concept(Vec<String>);

impl<'de> Deserialize<'de> for Concept {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = serde_json::Value::deserialize(deserializer)?;
        let codings = value.get("coding").and_then(serde_json::Value::as_array);
        let code = |coding: &serde_json::Value| Some(coding.get("code")?.as_str()?.to_owned());
        Ok(Self(codings.into_iter().flatten().filter_map(code).collect()))
    }
}

/// Whether a resource's text says so. What cannot be read says nothing.
#[must_use]
pub fn is_retracted(raw_json: &str) -> bool {
    let Ok(Standing { status, verification }) = serde_json::from_str(raw_json) else { return false };
    let is_word = |word: &str| RETRACTED.contains(&word);
    status.as_str().is_some_and(is_word) || verification.0.iter().any(|code| code == "entered-in-error")
}

#[cfg(test)]
mod tests {
    use super::is_retracted;

    #[test]
    fn what_should_not_stand_says_so() {
        for (json, retracted) in [
            (r#"{"resourceType":"DiagnosticReport","status":"final"}"#, false),
            (r#"{"resourceType":"DiagnosticReport","status":"amended"}"#, false),
            (r#"{"resourceType":"DiagnosticReport","status":"entered-in-error"}"#, true),
            (r#"{"resourceType":"Observation","status":"cancelled","note":[{"text":"x"}]}"#, true),
            (r#"{"verificationStatus":{"coding":[{"code":"entered-in-error"}]}}"#, true),
            (r#"{"verificationStatus":{"coding":[{"code":"confirmed"}]},"status":{"a":1}}"#, false),
            (r#"{"verificationStatus":"entered-in-error"}"#, false),
            ("[]", false),
            ("", false),
        ] {
            assert_eq!(is_retracted(json), retracted, "{json}");
        }
    }
}
