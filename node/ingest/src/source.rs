//! Reads FHIR R4 JSON: Bundles (of any kind), single resources, and NDJSON of either, one resource in memory at a
//! time, streaming over a Bundle's `entry` whatever the order of its keys.
//!
//! Nothing is lost: every entry is given as a [`Item::Resource`] or named as an [`Item::Unreadable`], with its place
//! in the file. Broken JSON ends a JSON file, or a line of NDJSON; what came before stays.
//!
//! Knows no departments and no patients: what a resource says is read by [`crate::Facts`].

use std::borrow::Cow;
use std::io::{self, BufRead};
use std::ops::ControlFlow;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::fault::Fault;
use crate::scan::{Scan, Stop};

/// The largest resource that is read, with its Bundle entry: 64 MiB.
pub const MAX_RESOURCE_BYTES: usize = 64 * 1024 * 1024;
/// The deepest nesting of a resource that is read, with its Bundle entry; below the JSON parser's own 128.
pub const MAX_DEPTH: u32 = 120;

/// How a file is laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// JSON: a Bundle or a resource, or several one after another.
    Json,
    /// A Bundle or a resource per line; a broken line ends with the line.
    NdJson,
}

impl Kind {
    /// By the file's name: `.ndjson` and `.jsonl` are NDJSON, everything else JSON.
    #[must_use]
    pub fn of_name(file_name: &str) -> Self {
        let extension = file_name.rsplit_once('.').map_or("", |(_, extension)| extension);
        let lines = ["ndjson", "jsonl"].iter().any(|known| extension.eq_ignore_ascii_case(known));
        if lines { Self::NdJson } else { Self::Json }
    }
}

/// Where something stands in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Line on which it begins, from 1.
    pub line: u64,
    /// Index in its Bundle's `entry`, from 0; `None` for a single resource or a file's rest.
    pub entry: Option<u64>,
    /// Where it begins, in bytes from the file's start.
    pub offset: u64,
    /// Its length.
    pub bytes: u64,
}

impl Place {
    /// Bytes of the file read so far: for progress.
    #[must_use]
    pub const fn consumed(&self) -> u64 {
        self.offset + self.bytes
    }
}

/// What is found in a file. Borrowed: it is gone when the next one is read.
pub enum Item<'a> {
    /// Well-formed JSON of an object that stands where a resource stands.
    Resource {
        /// Where.
        place: Place,
        /// The Bundle entry's `fullUrl`.
        full_url: Option<Cow<'a, str>>,
        /// The resource's text as it stands in the file.
        json: &'a str,
    },
    /// Something that cannot be read as a resource.
    Unreadable {
        /// Where; of a broken file or line, its rest.
        place: Place,
        /// Why.
        reason: Fault,
        /// Its bytes as they stand, to be kept aside; `None` if too large or without an end: then the bytes at
        /// `place` of the file are meant.
        raw: Option<&'a [u8]>,
    },
}

/// What was found in all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Items given as [`Item::Resource`].
    pub resources: u64,
    /// Items given as [`Item::Unreadable`].
    pub unreadable: u64,
    /// Bytes read.
    pub bytes: u64,
    /// `on_item` ended the reading before the file's end.
    pub stopped: bool,
}

/// Reads `input` to its end, or until `on_item` breaks off. A leading byte order mark is skipped.
///
/// # Errors
/// Only those of `input`; what is wrong with the content is an [`Item::Unreadable`].
pub fn read<R: BufRead>(
    input: R,
    kind: Kind,
    on_item: impl FnMut(Item<'_>) -> ControlFlow<()>,
) -> io::Result<Summary> {
    let lines = kind == Kind::NdJson;
    let start = Place { line: 1, entry: None, offset: 0, bytes: 0 };
    let mut reader = Reader {
        scan: Scan::new(input, lines),
        on_item,
        lines,
        entries: 0,
        element: start,
        summary: Summary::default(),
    };
    let outcome = reader.run();
    let mut summary = reader.summary;
    summary.bytes = reader.scan.offset();
    match outcome {
        Ok(()) => Ok(summary),
        Err(Stop::Told) => Ok(Summary { stopped: true, ..summary }),
        Err(Stop::Io(error)) => Err(error),
        Err(Stop::Broken(_)) => Err(io::ErrorKind::InvalidData.into()),
    }
}

/// What the object in reading is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Shape {
    /// Neither `resourceType` nor `entry` was seen.
    Unknown,
    /// A resource: all of it is recorded.
    Single,
    /// A Bundle: its entries are recorded one by one.
    Bundle,
}

struct Reader<R, F> {
    scan: Scan<R>,
    on_item: F,
    lines: bool,
    /// Entries of this Bundle so far.
    entries: u64,
    /// What is being read: a broken file is reported from here.
    element: Place,
    summary: Summary,
}

/// A Bundle's entry, without what it says to a server (`request`, `response`, `search`).
#[derive(Deserialize)]
struct Entry<'a> {
    #[serde(borrow, rename = "fullUrl")]
    full_url: Option<Cow<'a, str>>,
    #[serde(borrow)]
    resource: Option<&'a RawValue>,
}

impl<R: BufRead, F: FnMut(Item<'_>) -> ControlFlow<()>> Reader<R, F> {
    fn run(&mut self) -> Result<(), Stop> {
        self.scan.skip_mark()?;
        while let Some(first) = self.scan.skip_blank(false)? {
            self.element = self.here(None);
            match self.top(first) {
                Ok(()) => {}
                Err(Stop::Broken(fault)) => {
                    self.scan.stop_record();
                    if self.lines {
                        self.scan.skip_line()?
                    } else {
                        self.scan.skip_all()?
                    }
                    self.element.bytes = self.scan.offset().saturating_sub(self.element.offset);
                    self.summary.unreadable += 1;
                    let place = self.element;
                    told((self.on_item)(Item::Unreadable { place, reason: fault, raw: None }))?;
                }
                Err(other) => return Err(other),
            }
        }
        Ok(())
    }

    fn here(&self, entry: Option<u64>) -> Place {
        Place { line: self.scan.line(), entry, offset: self.scan.offset(), bytes: 0 }
    }

    /// One value of the top level.
    fn top(&mut self, first: u8) -> Result<(), Stop> {
        match first {
            b'{' => self.object(),
            b'<' => Err(Stop::Broken(Fault::Xml)),
            b'[' | b'"' | b'-' | b'0'..=b'9' | b't' | b'f' | b'n' => Err(Stop::Broken(Fault::NotAnObject)),
            _ => Err(Stop::Broken(Fault::NotJson)),
        }
    }

    fn object(&mut self) -> Result<(), Stop> {
        let start = self.element;
        let mut shape = Shape::Unknown;
        let mut too_deep = false;
        let mut called_bundle = false;
        self.entries = 0;
        self.scan.start_record();
        self.scan.bump()?;
        let mut next = self.scan.skip_blank(true)?;
        if next == Some(b'}') {
            self.scan.bump()?;
        } else {
            loop {
                if next != Some(b'"') {
                    let early = matches!(next, None | Some(b'\n'));
                    return Err(Stop::Broken(if early { Fault::EndsEarly } else { Fault::BrokenStructure }));
                }
                let key = self.text()?;
                if self.scan.expect()? != b':' {
                    return Err(Stop::Broken(Fault::BrokenStructure));
                }
                let value_begins = self.scan.skip_blank(true)?;
                match key.as_deref() {
                    Some("resourceType") if value_begins == Some(b'"') => {
                        called_bundle = self.text()?.as_deref() == Some("Bundle");
                        if shape == Shape::Unknown {
                            shape = if called_bundle { Shape::Bundle } else { Shape::Single };
                        }
                        if shape == Shape::Bundle {
                            self.scan.stop_record();
                        }
                    }
                    Some("entry") if shape != Shape::Single && value_begins == Some(b'[') => {
                        shape = self.entries(shape, &mut too_deep)?;
                    }
                    _ => too_deep |= self.scan.value()?,
                }
                match self.scan.expect()? {
                    b'}' => break,
                    b',' => next = self.scan.skip_blank(true)?,
                    _ => return Err(Stop::Broken(Fault::BrokenStructure)),
                }
            }
        }
        self.scan.stop_record();
        let mut place = start;
        place.bytes = self.scan.offset().saturating_sub(place.offset);
        self.element = self.here(None);
        match shape {
            Shape::Bundle if called_bundle => Ok(()),
            // Its entries were given; only what it calls itself is wrong.
            Shape::Bundle => self.give(Item::Unreadable { place, reason: Fault::NotABundle, raw: None }),
            _ => self.give_record(place, 0, too_deep, false),
        }
    }

    /// The array of entries. Gives back what the object turned out to be: without a `resourceType` yet, the first
    /// entry decides, since a List has an `entry` too.
    fn entries(&mut self, mut shape: Shape, too_deep: &mut bool) -> Result<Shape, Stop> {
        self.scan.bump()?;
        if self.scan.skip_blank(true)? == Some(b']') {
            self.scan.bump()?;
            return Ok(shape);
        }
        loop {
            self.scan.skip_blank(true)?;
            let mut place = self.here(Some(self.entries));
            if shape == Shape::Bundle {
                self.element = place;
                self.scan.start_record();
            }
            let from = self.scan.record().len();
            let deep = self.scan.value()?;
            place.bytes = self.scan.offset().saturating_sub(place.offset);
            *too_deep |= deep;
            if shape == Shape::Unknown {
                shape = self.shape_by_entry(from);
            }
            if shape == Shape::Bundle {
                self.scan.stop_record();
                self.entries += 1;
                self.give_record(place, from, deep, true)?;
                self.element = self.here(Some(self.entries));
            }
            match self.scan.expect()? {
                b']' => return Ok(shape),
                b',' => {}
                _ => return Err(Stop::Broken(Fault::BrokenStructure)),
            }
        }
    }

    /// Reads a string that comes next; `None` if it is none.
    fn text(&mut self) -> Result<Option<String>, Stop> {
        let own = !self.scan.is_recording();
        if own {
            self.scan.start_record();
        }
        let from = self.scan.record().len();
        self.scan.value()?;
        if own {
            self.scan.stop_record();
        }
        let raw = self.scan.record().get(from..).unwrap_or_default();
        Ok(serde_json::from_slice(raw).ok())
    }

    fn shape_by_entry(&self, from: usize) -> Shape {
        #[derive(Deserialize)]
        struct ListEntry {
            #[serde(rename = "item")]
            _item: serde::de::IgnoredAny,
        }
        let raw = self.scan.record().get(from..).unwrap_or_default();
        if serde_json::from_slice::<ListEntry>(raw).is_ok() { Shape::Single } else { Shape::Bundle }
    }

    /// Gives what was recorded from `from` on.
    fn give_record(&mut self, place: Place, from: usize, too_deep: bool, is_entry: bool) -> Result<(), Stop> {
        let overflow = self.scan.overflowed();
        let raw = self.scan.record().get(from..).unwrap_or_default();
        let parsed = match (overflow, too_deep) {
            (true, _) => Err(Fault::TooLarge),
            (_, true) => Err(Fault::TooDeep),
            _ if is_entry => parse_entry(raw),
            _ => parse_raw(raw).map(|json| (None, json)),
        };
        let item = match parsed {
            Ok((full_url, json)) => Item::Resource { place, full_url, json },
            Err(reason) => Item::Unreadable { place, reason, raw: (!overflow).then_some(raw) },
        };
        count(&mut self.summary, &item);
        told((self.on_item)(item))
    }

    fn give(&mut self, item: Item<'_>) -> Result<(), Stop> {
        count(&mut self.summary, &item);
        told((self.on_item)(item))
    }
}

const fn count(summary: &mut Summary, item: &Item<'_>) {
    match item {
        Item::Resource { .. } => summary.resources += 1,
        Item::Unreadable { .. } => summary.unreadable += 1,
    }
}

const fn told(flow: ControlFlow<()>) -> Result<(), Stop> {
    match flow {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(()) => Err(Stop::Told),
    }
}

fn parse_entry(raw: &[u8]) -> Result<(Option<Cow<'_, str>>, &str), Fault> {
    let text = std::str::from_utf8(raw).map_err(|_| Fault::NotUtf8)?;
    let entry: Entry<'_> =
        serde_json::from_str(text).map_err(|error| Fault::of_json(&error, Fault::NotAnEntry))?;
    let resource = entry.resource.ok_or(Fault::EmptyEntry)?.get();
    if resource.starts_with('{') { Ok((entry.full_url, resource)) } else { Err(Fault::NotAnObject) }
}

fn parse_raw(raw: &[u8]) -> Result<&str, Fault> {
    let text = std::str::from_utf8(raw).map_err(|_| Fault::NotUtf8)?;
    let json: &RawValue =
        serde_json::from_str(text).map_err(|error| Fault::of_json(&error, Fault::NotAnObject))?;
    Ok(json.get())
}
