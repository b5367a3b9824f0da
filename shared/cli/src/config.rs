//! Configuration files (TOML) read so that every fault is reported at once, before anything is opened or bound.
//!
//! A program asks its [`Reader`] for each key by its dotted path, then [`Reader::finish_with`] either builds its
//! configuration or lists all faults: missing keys, values that do not parse or are out of range, and keys that were
//! never asked for. Faults never repeat a value of the file, which may be a secret.
//!
//! ```
//! # use handover_cli::Reader;
//! struct Config { listen: std::net::SocketAddr, peers: u16 }
//! let mut reader = Reader::from_text("[net]\nlisten = \"127.0.0.1:0\"\n").unwrap();
//! let listen = reader.required("net.listen");
//! let peers = reader.range("net.max_peers", 64, 1..=1024);
//! let config = reader.finish_with(|| Some(Config { listen: listen?, peers })).unwrap();
//! assert_eq!(config.peers, 64);
//! assert_eq!(config.listen.port(), 0);
//! ```

use std::{
    collections::BTreeSet,
    fmt,
    io::Read,
    ops::RangeInclusive,
    path::{Path, PathBuf},
    str::FromStr,
};

use handover_core::Code;
use toml::{Table, Value};

use crate::CliError;

/// Bytes of a configuration file.
pub const MAX_CONFIG_BYTES: usize = 64 * 1024;

/// One fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The key's dotted path; empty when it is the file as a whole.
    pub key: String,
    /// What is wrong with it.
    pub reason: String,
}

/// Everything that is wrong with a configuration, in the order of the keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigFaults {
    /// The file, if it is one.
    pub file: Option<PathBuf>,
    /// The faults; never empty.
    pub faults: Vec<Fault>,
}

impl fmt::Display for ConfigFaults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} in the configuration", Count(self.faults.len()))?;
        if let Some(file) = &self.file {
            write!(f, " {}", file.display())?;
        }
        for Fault { key, reason } in &self.faults {
            if key.is_empty() { write!(f, "\n{reason}")? } else { write!(f, "\n{key}: {reason}")? }
        }
        Ok(())
    }
}

struct Count(usize);

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} fault{}", self.0, if self.0 == 1 { "" } else { "s" })
    }
}

impl std::error::Error for ConfigFaults {}

impl From<ConfigFaults> for CliError {
    fn from(faults: ConfigFaults) -> Self {
        Self::new(Code::ConfigInvalid, faults.to_string())
    }
}

/// A configuration that is being read.
#[derive(Debug)]
pub struct Reader {
    file: Option<PathBuf>,
    table: Table,
    known: BTreeSet<String>,
    faults: Vec<Fault>,
}

impl Reader {
    /// Opens a file of at most [`MAX_CONFIG_BYTES`].
    ///
    /// # Errors
    /// The file is missing, cannot be read, is too large, no text or no TOML (with the line).
    pub fn from_file(path: &Path) -> Result<Self, ConfigFaults> {
        let whole = |reason: String| ConfigFaults {
            file: Some(path.to_owned()),
            faults: vec![Fault { key: String::new(), reason }],
        };
        let mut bytes = Vec::new();
        std::fs::File::open(path)
            .and_then(|file| file.take(MAX_CONFIG_BYTES as u64 + 1).read_to_end(&mut bytes))
            .map_err(|error| whole(format!("the file cannot be read: {error}")))?;
        if bytes.len() > MAX_CONFIG_BYTES {
            return Err(whole(format!("the file is larger than {MAX_CONFIG_BYTES} bytes")));
        }
        let text = String::from_utf8(bytes).map_err(|_| whole("the file is not UTF-8 text".to_owned()))?;
        let named = |faults: ConfigFaults| ConfigFaults { file: Some(path.to_owned()), ..faults };
        let reader = Self::from_text(&text).map_err(named)?;
        Ok(Self { file: Some(path.to_owned()), ..reader })
    }

    /// Reads TOML text.
    ///
    /// # Errors
    /// It is no TOML; the line is named.
    pub fn from_text(text: &str) -> Result<Self, ConfigFaults> {
        let table = text.parse().map_err(|error: toml::de::Error| {
            let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
            let line = before.matches('\n').count() + 1;
            // The error's own Display shows the line's text, which may hold a secret.
            let reason = format!("line {line}: {}", error.message());
            ConfigFaults { file: None, faults: vec![Fault { key: String::new(), reason }] }
        })?;
        Ok(Self { file: None, table, known: BTreeSet::new(), faults: Vec::new() })
    }

    /// The value of a key that has to be there. `None` means that a fault was noted.
    pub fn required<T: FromStr<Err: fmt::Display>>(&mut self, key: &str) -> Option<T> {
        let Some(value) = self.look(key) else {
            self.fault(key, "is missing");
            return None;
        };
        self.parsed(key, &value)
    }

    /// The value of a key that may be missing.
    pub fn optional<T: FromStr<Err: fmt::Display>>(&mut self, key: &str) -> Option<T> {
        let value = self.look(key)?;
        self.parsed(key, &value)
    }

    /// The value of a key, or `default` when it is missing (or at fault).
    pub fn default<T: FromStr<Err: fmt::Display>>(&mut self, key: &str, default: T) -> T {
        self.optional(key).unwrap_or(default)
    }

    /// Like [`Reader::default`], for values that have to lie in `range`.
    pub fn range<T>(&mut self, key: &str, default: T, range: RangeInclusive<T>) -> T
    where
        T: FromStr<Err: fmt::Display> + PartialOrd + fmt::Display,
    {
        let Some(value) = self.optional(key) else { return default };
        if range.contains(&value) {
            return value;
        }
        self.fault(key, format!("has to lie between {} and {}", range.start(), range.end()));
        default
    }

    /// The entries of an array; empty when the key is missing. A fault names the entry: `key.0`.
    pub fn list<T: FromStr<Err: fmt::Display>>(&mut self, key: &str) -> Vec<T> {
        match self.look(key) {
            None => Vec::new(),
            Some(Value::Array(values)) => {
                let entries = values.iter().enumerate();
                entries.filter_map(|(at, value)| self.parsed(&format!("{key}.{at}"), value)).collect()
            }
            Some(_) => {
                self.fault(key, "has to be an array");
                Vec::new()
            }
        }
    }

    /// How many entries an array of tables (`[[key]]`) has; their keys are then read as `key.0.name`.
    pub fn count(&mut self, key: &str) -> usize {
        match find(&self.table, key) {
            None => 0,
            Some(Value::Array(values)) => values.len(),
            Some(_) => {
                self.known.insert(key.to_owned());
                self.fault(key, "has to be an array of tables");
                0
            }
        }
    }

    /// The names in a table whose names are free (`[key.name]`); what they hold is then read as `key.name.…`.
    pub fn names(&mut self, key: &str) -> Vec<String> {
        match find(&self.table, key) {
            None => Vec::new(),
            Some(Value::Table(table)) => table.keys().cloned().collect(),
            Some(_) => {
                self.known.insert(key.to_owned());
                self.fault(key, "has to be a table");
                Vec::new()
            }
        }
    }

    /// Notes a fault that the program itself found, between two keys for one. `reason` must not repeat a secret.
    pub fn fault(&mut self, key: &str, reason: impl Into<String>) {
        self.faults.push(Fault { key: key.to_owned(), reason: reason.into() });
    }

    /// All faults, keys that nobody asked for among them.
    ///
    /// # Errors
    /// There are faults.
    pub fn finish(mut self) -> Result<(), ConfigFaults> {
        for (key, value) in &self.table {
            unknown(key, value, &self.known, &mut self.faults);
        }
        if self.faults.is_empty() {
            return Ok(());
        }
        self.faults.sort_by(|one, other| one.key.cmp(&other.key));
        Err(ConfigFaults { file: self.file, faults: self.faults })
    }

    /// [`Reader::finish`], then `build`, where every required value is there: `Some(Config { listen: listen?, … })`.
    ///
    /// # Errors
    /// There are faults.
    pub fn finish_with<C>(mut self, build: impl FnOnce() -> Option<C>) -> Result<C, ConfigFaults> {
        let built = build();
        if built.is_none() && self.faults.is_empty() {
            self.fault("", "the configuration is incomplete");
        }
        let file = self.file.clone();
        self.finish()?;
        built.ok_or(ConfigFaults { file, faults: Vec::new() })
    }

    fn look(&mut self, key: &str) -> Option<Value> {
        self.known.insert(key.to_owned());
        find(&self.table, key).cloned()
    }

    fn parsed<T: FromStr<Err: fmt::Display>>(&mut self, key: &str, value: &Value) -> Option<T> {
        let text = match value {
            Value::String(text) => text.clone(),
            Value::Integer(_) | Value::Float(_) | Value::Boolean(_) | Value::Datetime(_) => value.to_string(),
            Value::Array(_) | Value::Table(_) => {
                self.fault(key, "has to be a single value");
                return None;
            }
        };
        match text.parse() {
            Ok(parsed) => Some(parsed),
            Err(error) => {
                self.fault(key, error.to_string());
                None
            }
        }
    }
}

/// Follows a dotted path; a segment that is a number also counts into an array.
fn find<'a>(table: &'a Table, key: &str) -> Option<&'a Value> {
    let mut segments = key.split('.');
    let first = table.get(segments.next()?)?;
    segments.try_fold(first, |value, segment| match value {
        Value::Table(table) => table.get(segment),
        Value::Array(values) => values.get(segment.parse::<usize>().ok()?),
        _ => None,
    })
}

/// Notes every key below `path` that nobody asked for, and a whole table of such keys once.
fn unknown(path: &str, value: &Value, known: &BTreeSet<String>, faults: &mut Vec<Fault>) {
    if known.contains(path) {
        return;
    }
    let below = format!("{path}.");
    let asked_below = known.range(below.clone()..).next().is_some_and(|key| key.starts_with(&below));
    match value {
        Value::Table(table) if asked_below => {
            for (key, value) in table {
                unknown(&format!("{below}{key}"), value, known, faults);
            }
        }
        Value::Array(values) if asked_below => {
            for (at, value) in values.iter().enumerate() {
                unknown(&format!("{below}{at}"), value, known, faults);
            }
        }
        _ if asked_below => {
            faults.push(Fault { key: path.to_owned(), reason: "has to be a table".to_owned() })
        }
        _ => faults.push(Fault { key: path.to_owned(), reason: "is not known".to_owned() }),
    }
}

#[cfg(test)]
mod tests;
