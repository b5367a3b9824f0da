//! Reading what the processes said: a key that is not there reads as nothing.

use std::collections::BTreeMap;

use serde_json::Value;

const NULL: &Value = &Value::Null;

/// The value at `key`.
#[must_use]
pub fn at<'a>(value: &'a Value, key: &str) -> &'a Value {
    value.get(key).unwrap_or(NULL)
}

/// The text at `key`; empty if there is none.
#[must_use]
pub fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    at(value, key).as_str().unwrap_or_default()
}

/// The number at `key`; 0 if there is none.
#[must_use]
pub fn number(value: &Value, key: &str) -> u64 {
    at(value, key).as_u64().unwrap_or_default()
}

/// The entries of the list at `key`.
pub fn list<'a>(value: &'a Value, key: &str) -> impl Iterator<Item = &'a Value> + Clone {
    at(value, key).as_array().map(Vec::as_slice).unwrap_or_default().iter()
}

/// The table of counts at `key`.
#[must_use]
pub fn counts(value: &Value, key: &str) -> BTreeMap<String, u64> {
    let table = at(value, key).as_object().into_iter().flatten();
    table.map(|(name, count)| (name.clone(), count.as_u64().unwrap_or_default())).collect()
}
