//! Where resources go: a transaction Bundle or one resource a line, written one by one.

use std::collections::BTreeMap;
use std::io::{self, Write};

use serde_json::{Value, json};

use super::Form;

/// Writes one patient's resources and counts them by type.
pub(super) struct Sink<'a, W: Write> {
    out: &'a mut W,
    form: Form,
    counts: BTreeMap<String, u64>,
}

impl<'a, W: Write> Sink<'a, W> {
    /// Opens the document.
    pub(super) fn open(out: &'a mut W, form: Form) -> io::Result<Self> {
        if form == Form::Transaction {
            out.write_all(b"{\"resourceType\":\"Bundle\",\"type\":\"transaction\",\"entry\":[\n")?;
        }
        Ok(Self { out, form, counts: BTreeMap::new() })
    }

    /// Writes one resource.
    pub(super) fn write(&mut self, mut resource: Value) -> io::Result<()> {
        // Whether serde_json keeps or sorts keys depends on what else is in the build; the bytes must not.
        resource.sort_all_objects();
        let kind = text(&resource, "resourceType");
        match self.form {
            Form::Ndjson => {
                serde_json::to_writer(&mut *self.out, &resource)?;
                self.out.write_all(b"\n")?;
            }
            Form::Transaction => {
                let separator: &[u8] = if self.counts.is_empty() { b"" } else { b",\n" };
                self.out.write_all(separator)?;
                let url = json!(format!("urn:uuid:{}", text(&resource, "id")));
                write!(self.out, "{{\"fullUrl\":{url},\"resource\":")?;
                serde_json::to_writer(&mut *self.out, &resource)?;
                write!(self.out, ",\"request\":{{\"method\":\"POST\",\"url\":{}}}}}", json!(kind))?;
            }
        }
        *self.counts.entry(kind).or_default() += 1;
        Ok(())
    }

    /// Closes the document; returns how many resources of each type it holds.
    pub(super) fn close(self) -> io::Result<BTreeMap<String, u64>> {
        if self.form == Form::Transaction {
            self.out.write_all(b"\n]}\n")?;
        }
        Ok(self.counts)
    }
}

fn text(resource: &Value, field: &str) -> String {
    resource.get(field).and_then(Value::as_str).unwrap_or_default().to_owned()
}
