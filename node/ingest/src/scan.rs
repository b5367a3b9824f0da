//! Finds where JSON values begin and end in a stream, without building them: strings and brackets only. What lies
//! between is judged later by the JSON parser, value by value, so that one bad value does not end a file.
//!
//! Invariant: memory is bounded by the recorded bytes ([`MAX_RESOURCE_BYTES`]), whatever the file's size.

use std::io::{self, BufRead};

use crate::fault::Fault;
use crate::source::{MAX_DEPTH, MAX_RESOURCE_BYTES};

/// Why scanning stops.
#[derive(Debug)]
pub(crate) enum Stop {
    /// The input could not be read.
    Io(io::Error),
    /// From here on the text makes no sense.
    Broken(Fault),
    /// Whoever takes the items wants no more.
    Told,
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// A reader over JSON text.
pub(crate) struct Scan<R> {
    input: R,
    /// Newlines end a value (NDJSON).
    line_bound: bool,
    offset: u64,
    line: u64,
    recording: bool,
    record: Vec<u8>,
    overflow: bool,
}

/// A value in the making.
#[derive(Default)]
struct Nest {
    depth: u32,
    /// One bit per open bracket, innermost last: set for an object.
    objects: u128,
    in_string: bool,
    escaped: bool,
    scalar: bool,
    too_deep: bool,
}

/// What a byte means for a value in the making.
enum Step {
    /// Belongs to it.
    Inside,
    /// Is its last byte.
    Last,
    /// Comes after it.
    After,
}

impl Nest {
    fn step(&mut self, byte: u8) -> Result<Step, Fault> {
        if self.in_string {
            if self.escaped {
                self.escaped = false;
            } else if byte == b'\\' {
                self.escaped = true;
            } else if byte == b'"' {
                self.in_string = false;
                return Ok(self.ended());
            }
            return Ok(Step::Inside);
        }
        match byte {
            b'"' if !self.scalar => self.in_string = true,
            b'{' | b'[' if !self.scalar => self.open(byte == b'{'),
            b'}' | b']' if self.depth > 0 => return self.close(byte == b'}'),
            b',' | b':' | b'}' | b']' | b' ' | b'\t' | b'\r' | b'\n' if self.depth == 0 => {
                return if self.scalar { Ok(Step::After) } else { Err(Fault::BrokenStructure) };
            }
            _ if self.depth == 0 => self.scalar = true,
            _ => {}
        }
        Ok(Step::Inside)
    }

    fn ended(&self) -> Step {
        if self.depth == 0 { Step::Last } else { Step::Inside }
    }

    fn open(&mut self, object: bool) {
        self.depth = self.depth.saturating_add(1);
        if self.depth > MAX_DEPTH {
            self.too_deep = true;
        } else {
            self.objects = self.objects << 1 | u128::from(object);
        }
    }

    fn close(&mut self, object: bool) -> Result<Step, Fault> {
        // Deeper than the limit the kinds are no longer known; the value is refused anyway.
        if self.depth <= MAX_DEPTH {
            if (self.objects & 1 == 1) != object {
                return Err(Fault::BrokenStructure);
            }
            self.objects >>= 1;
        }
        self.depth -= 1;
        Ok(self.ended())
    }
}

impl<R: BufRead> Scan<R> {
    pub(crate) const fn new(input: R, line_bound: bool) -> Self {
        Self { input, line_bound, offset: 0, line: 1, recording: false, record: Vec::new(), overflow: false }
    }

    /// Bytes read so far.
    pub(crate) const fn offset(&self) -> u64 {
        self.offset
    }

    /// The line in reading, from 1.
    pub(crate) const fn line(&self) -> u64 {
        self.line
    }

    /// Starts keeping what is read, anew.
    pub(crate) fn start_record(&mut self) {
        self.record.clear();
        // One large scan in a file must not hold its memory to the file's end.
        self.record.shrink_to(1 << 20);
        self.recording = true;
        self.overflow = false;
    }

    /// Stops keeping what is read.
    pub(crate) const fn stop_record(&mut self) {
        self.recording = false;
    }

    pub(crate) const fn is_recording(&self) -> bool {
        self.recording
    }

    /// What was kept; not whole if it [overflowed](Self::overflowed).
    pub(crate) fn record(&self) -> &[u8] {
        &self.record
    }

    /// More was read than is kept.
    pub(crate) const fn overflowed(&self) -> bool {
        self.overflow
    }

    /// The next byte, not yet consumed.
    pub(crate) fn peek(&mut self) -> io::Result<Option<u8>> {
        loop {
            match self.input.fill_buf() {
                Ok(chunk) => return Ok(chunk.first().copied()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Reads on as long as `more` says so of the bytes at hand: it gives how many to take and whether to go on.
    /// False if the input ended first.
    fn take_while(
        &mut self,
        mut more: impl FnMut(&[u8]) -> Result<(usize, bool), Fault>,
    ) -> Result<bool, Stop> {
        loop {
            if self.peek()?.is_none() {
                return Ok(false);
            }
            let chunk = self.input.fill_buf()?;
            let (count, go_on) = more(chunk).map_err(Stop::Broken)?;
            let taken = chunk.get(..count).unwrap_or(chunk);
            self.line += taken.iter().filter(|byte| **byte == b'\n').count() as u64;
            self.offset += count as u64;
            if self.recording {
                if self.record.len() + taken.len() > MAX_RESOURCE_BYTES {
                    self.overflow = true;
                } else if !self.overflow {
                    self.record.extend_from_slice(taken);
                }
            }
            self.input.consume(count);
            if !go_on {
                return Ok(true);
            }
        }
    }

    /// Consumes one byte that was peeked.
    pub(crate) fn bump(&mut self) -> Result<(), Stop> {
        self.take_while(|_| Ok((1, false))).map(drop)
    }

    /// Consumes a byte order mark, if there is one.
    pub(crate) fn skip_mark(&mut self) -> Result<(), Stop> {
        for expected in [0xEF, 0xBB, 0xBF] {
            if self.peek()? != Some(expected) {
                break;
            }
            self.bump()?;
        }
        Ok(())
    }

    /// Consumes blanks; within a line-bound value no newline. Gives the byte that follows.
    pub(crate) fn skip_blank(&mut self, within: bool) -> Result<Option<u8>, Stop> {
        let newline = !(within && self.line_bound);
        self.take_while(|chunk| {
            let is_blank = |byte: &u8| matches!(byte, b' ' | b'\t' | b'\r') || newline && *byte == b'\n';
            let count = chunk.iter().take_while(|byte| is_blank(byte)).count();
            Ok((count, count == chunk.len()))
        })?;
        Ok(self.peek()?)
    }

    /// The next byte after blanks within a value, consumed.
    pub(crate) fn expect(&mut self) -> Result<u8, Stop> {
        match self.skip_blank(true)? {
            None => Err(Stop::Broken(Fault::EndsEarly)),
            Some(b'\n') => Err(Stop::Broken(Fault::EndsEarly)),
            Some(byte) => {
                self.bump()?;
                Ok(byte)
            }
        }
    }

    /// Consumes one value. True if it was nested too deep.
    pub(crate) fn value(&mut self) -> Result<bool, Stop> {
        let mut nest = Nest::default();
        let line_bound = self.line_bound;
        let ended = self.take_while(|chunk| {
            for (n, byte) in chunk.iter().enumerate() {
                if line_bound && *byte == b'\n' && !(nest.scalar && nest.depth == 0) {
                    return Err(Fault::EndsEarly);
                }
                match nest.step(*byte)? {
                    Step::Inside => {}
                    Step::Last => return Ok((n + 1, false)),
                    Step::After => return Ok((n, false)),
                }
            }
            Ok((chunk.len(), true))
        })?;
        if !ended && !nest.scalar {
            return Err(Stop::Broken(Fault::EndsEarly));
        }
        Ok(nest.too_deep)
    }

    /// Consumes the rest of the line.
    pub(crate) fn skip_line(&mut self) -> Result<(), Stop> {
        self.take_while(|chunk| {
            let end = chunk.iter().position(|byte| *byte == b'\n');
            Ok((end.map_or(chunk.len(), |n| n + 1), end.is_none()))
        })
        .map(drop)
    }

    /// Consumes everything.
    pub(crate) fn skip_all(&mut self) -> Result<(), Stop> {
        self.take_while(|chunk| Ok((chunk.len(), true))).map(drop)
    }
}
