//! What bytes say: every text and number of every CBOR value that can be read in them, however deep it is wrapped.
//!
//! So that short things (a code of five characters, a price) are found where they are said, and not by chance in what
//! is sealed: a text is compared word by word, a number as a whole.

use std::collections::{BTreeMap, BTreeSet};

use handover_core::cbor_map;
use handover_core::codec::{self, Bytes, Extensions};

/// Bytes of a piece of a large row; a shorter one is the last.
const PIECE_BYTES: usize = 64 * 1024;
/// Deeper nesting is taken for noise.
const MAX_DEPTH: usize = 24;
/// The shortest run of printable characters, among bytes that are no CBOR, that is taken for a text.
const RUN_CHARS: usize = 12;
/// The same in keys of a store, and in values that are one, which are short.
const KEY_RUN_CHARS: usize = 3;
/// The longest bytes in which a value is looked for at every place.
const SEARCHED_BYTES: usize = 4 * 1024;
/// The most words of what is looked for.
const MAX_WORDS: usize = 16;

/// What was said.
#[derive(Debug, Default)]
pub struct Said {
    /// Texts.
    pub texts: BTreeSet<String>,
    /// Numbers.
    pub numbers: BTreeSet<i128>,
    /// Bytes that could not be read any further: hashes, keys, what is sealed.
    pub opaque_bytes: usize,
}

impl Said {
    /// Reads the cells of a store; the values that are no CBOR, which are read like keys.
    #[must_use]
    pub fn cells(&mut self, cells: &[(Vec<u8>, Vec<u8>)]) -> Vec<Vec<u8>> {
        let mut unread = Vec::new();
        let mut whole = Vec::new();
        for (key, value) in cells {
            self.runs(key, KEY_RUN_CHARS);
            whole.extend_from_slice(value);
            if value.len() == PIECE_BYTES {
                continue;
            }
            if !self.value(&whole, 0) {
                self.runs(&whole, KEY_RUN_CHARS);
                unread.push(whole.clone());
            }
            whole.clear();
        }
        unread
    }

    /// Reads a text, such as a log.
    pub fn text(&mut self, text: &str) {
        self.texts.extend(text.lines().map(str::to_owned));
    }

    /// Reads bytes of any kind.
    pub fn bytes(&mut self, bytes: &[u8]) {
        self.nested(bytes, 0);
    }

    /// A CBOR value that takes all of the bytes, with or without a row's version before it.
    fn value(&mut self, bytes: &[u8], depth: usize) -> bool {
        [0, 1].into_iter().any(|skip| {
            let Some(rest) = bytes.get(skip..).filter(|rest| !rest.is_empty()) else { return false };
            let mut items = Items { rest, ..Items::default() };
            if items.item(0).is_none() || !items.rest.is_empty() {
                return false;
            }
            let Items { texts, numbers, wrapped, .. } = items;
            self.texts.extend(texts.into_iter().map(str::to_owned));
            self.numbers.extend(numbers);
            wrapped.into_iter().for_each(|bytes| self.nested(bytes, depth + 1));
            true
        })
    }

    /// What stands in a byte string: another value, a text, or nothing that can be read.
    fn nested(&mut self, bytes: &[u8], depth: usize) {
        if depth < MAX_DEPTH && self.value(bytes, depth) {
            return;
        }
        match std::str::from_utf8(bytes) {
            Ok(text) if !text.chars().any(|it| it.is_control() && !it.is_whitespace()) => self.text(text),
            _ => {
                self.within(bytes);
                self.opaque(bytes);
            }
        }
    }

    /// The texts of values that end with these bytes and have something before them: a salt, an identifier, a length.
    fn within(&mut self, bytes: &[u8]) {
        let is_searched = bytes.len() <= SEARCHED_BYTES;
        for start in (1..bytes.len()).filter(|_| is_searched) {
            let mut items = Items { rest: bytes.get(start..).unwrap_or_default(), ..Items::default() };
            if items.item(0).is_some() && items.rest.is_empty() {
                self.texts.extend(items.texts.into_iter().map(str::to_owned));
            }
        }
    }

    fn opaque(&mut self, bytes: &[u8]) {
        self.opaque_bytes += bytes.len();
        self.runs(bytes, RUN_CHARS);
    }

    fn runs(&mut self, bytes: &[u8], at_least: usize) {
        let printable = |byte: &u8| *byte == b' ' || byte.is_ascii_graphic();
        for run in bytes.split(|byte| !printable(byte)).filter(|run| run.len() >= at_least) {
            self.texts.insert(String::from_utf8_lossy(run).into_owned());
        }
    }
}

/// A walk over the items of one value.
#[derive(Default)]
struct Items<'b> {
    rest: &'b [u8],
    texts: Vec<&'b str>,
    numbers: Vec<i128>,
    wrapped: Vec<&'b [u8]>,
}

impl<'b> Items<'b> {
    fn take(&mut self, count: usize) -> Option<&'b [u8]> {
        let (taken, rest) = self.rest.split_at_checked(count)?;
        self.rest = rest;
        Some(taken)
    }

    /// RFC 8949, definite lengths.
    fn item(&mut self, depth: usize) -> Option<()> {
        let first = *self.take(1)?.first()?;
        let (major, low) = (first >> 5, first & 0x1f);
        let argument = match low {
            0..=23 => u64::from(low),
            24..=27 => self.take(1 << (low - 24))?.iter().fold(0, |all, byte| (all << 8) | u64::from(*byte)),
            _ => return None,
        };
        let count = usize::try_from(argument).ok()?;
        match major {
            0 => self.numbers.push(i128::from(argument)),
            1 => self.numbers.push(-1 - i128::from(argument)),
            2 => {
                let bytes = self.take(count)?;
                self.wrapped.push(bytes);
            }
            3 => {
                let text = std::str::from_utf8(self.take(count)?).ok()?;
                self.texts.push(text);
            }
            7 => {}
            _ => {
                let items = match major {
                    4 => count,
                    5 => count.checked_mul(2)?,
                    _ => 1,
                };
                if depth >= MAX_DEPTH || items > self.rest.len() {
                    return None;
                }
                (0..items).try_for_each(|_| self.item(depth + 1))?;
            }
        }
        Some(())
    }
}

/// What is looked for, and what each of it is.
#[derive(Debug, Default)]
pub struct Wanted {
    words: BTreeMap<String, String>,
    numbers: BTreeMap<i128, String>,
}

impl Wanted {
    /// A text of at most sixteen words; capitals, and signs before and behind it, make no difference.
    pub fn text(&mut self, what: &str, text: &str) {
        let text = text.trim_matches(|it: char| !it.is_alphanumeric());
        self.words.insert(text.to_lowercase(), format!("{what}: {text}"));
    }

    /// A number.
    pub fn number(&mut self, what: &str, number: i128) {
        self.numbers.insert(number, format!("{what}: {number}"));
    }

    /// The texts, with what they are.
    pub fn texts(&self) -> impl Iterator<Item = (&str, &str)> {
        self.words.values().filter_map(|it| it.split_once(": "))
    }

    /// Rows that say each of them where nobody should: wrapped in bytes twice, the text within a sentence.
    #[must_use]
    pub fn leaking(&self) -> Vec<Vec<u8>> {
        let texts = self.words.keys().map(|word| (format!("({word}), says a field"), 0));
        let numbers =
            self.numbers.keys().map(|number| (String::new(), i64::try_from(*number).unwrap_or_default()));
        texts.chain(numbers).map(|(text, number)| leak(text, number)).collect()
    }

    /// How many texts and numbers.
    #[must_use]
    pub fn len(&self) -> usize {
        self.words.len() + self.numbers.len()
    }

    /// Whether nothing is looked for.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Everything that is looked for.
    pub fn all(&self) -> impl Iterator<Item = &str> {
        self.words.values().chain(self.numbers.values()).map(String::as_str)
    }

    /// What of it was said, as words of their own: neither a letter nor a digit stands before or behind them.
    /// By what it is, with the text that it stands in.
    #[must_use]
    pub fn found(&self, said: &Said) -> BTreeMap<String, String> {
        let numbers = said.numbers.iter().filter_map(|it| self.numbers.get(it));
        let mut found: BTreeMap<String, String> =
            numbers.map(|what| (what.clone(), "a number".to_owned())).collect();
        for text in &said.texts {
            let text = text.to_lowercase();
            let words = words(&text);
            for (at, (start, _)) in words.iter().enumerate() {
                for (_, end) in words.iter().skip(at).take(MAX_WORDS) {
                    let piece = text.get(*start..*end).unwrap_or_default();
                    if let Some(what) = self.words.get(piece) {
                        found.insert(what.clone(), text.clone());
                    }
                }
            }
        }
        found
    }
}

/// Where the words of a text begin and end.
fn words(text: &str) -> Vec<(usize, usize)> {
    let mut words = Vec::new();
    let mut begun = None;
    for (at, char) in text.char_indices() {
        match (char.is_alphanumeric(), begun) {
            (true, None) => begun = Some(at),
            (false, Some(start)) => {
                words.push((start, at));
                begun = None;
            }
            _ => {}
        }
    }
    words.extend(begun.map(|start| (start, text.len())));
    words
}

cbor_map! {
    /// What an artefact might say.
    struct Field { 1 => text: String, 2 => number: i64 }
}
cbor_map! {
    /// What an artefact stands in.
    struct Wrap { 1 => wrapped: Bytes }
}

/// A row with an artefact that says this.
fn leak(text: String, number: i64) -> Vec<u8> {
    let wrap =
        |bytes: Vec<u8>| codec::encode(&Wrap { wrapped: bytes.into(), extensions: Extensions::default() });
    let field = Field { text, number, extensions: Extensions::default() };
    [vec![1], wrap(wrap(codec::encode(&field)))].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted() -> Wanted {
        let mut wanted = Wanted::default();
        wanted.text("a diagnosis", "E11.9");
        wanted.text("a birth date", "1957-11-23");
        wanted.number("a price", 5_875);
        wanted
    }

    fn found(text: &str, number: i64) -> usize {
        let mut said = Said::default();
        assert!(said.cells(&[(b"key".to_vec(), leak(text.to_owned(), number))]).is_empty(), "it is not read");
        wanted().found(&said).len()
    }

    #[test]
    fn words_and_numbers_are_found_however_deep_and_not_within_others() {
        for (text, number, finds) in [
            ("E11.9", 5_875, 2),
            ("born 1957-11-23, has e11.9.", 0, 2),
            ("xE11.9", 58_750, 0),
            ("E11.90", -5_875, 0),
            ("1957-11-234", 0, 0),
        ] {
            assert_eq!(found(text, number), finds, "{text}, {number}");
        }
    }

    #[test]
    fn a_value_behind_something_else_is_found() {
        let field =
            codec::encode(&Field { text: "E11.9".into(), number: 0, extensions: Extensions::default() });
        let mut said = Said::default();
        said.bytes(&[vec![0xff; 16], field].concat());
        assert_eq!(wanted().found(&said).len(), 1);
    }

    #[test]
    fn what_lies_in_pieces_is_read_as_one() {
        let text = format!("{}E11.9", "a ".repeat(40_000));
        let whole = leak(text, 0);
        let cells: Vec<_> = whole.chunks(PIECE_BYTES).map(|piece| (Vec::new(), piece.to_vec())).collect();
        let mut said = Said::default();
        assert!(cells.len() == 2 && said.cells(&cells).is_empty());
        assert_eq!(wanted().found(&said).len(), 1);
    }

    #[test]
    fn keys_and_what_is_no_cbor_are_read_by_their_printable_characters() {
        let mut said = Said::default();
        let unread = said.cells(&[(b"\x00E11.9\x00\x01".to_vec(), vec![0xff, 0xff])]);
        assert_eq!((unread.len(), wanted().found(&said).len()), (1, 1));
        let mut said = Said::default();
        said.bytes(b"\xff\xfe{\"code\":\"E11.9\"}\xff");
        assert_eq!(wanted().found(&said).len(), 1);
    }
}
