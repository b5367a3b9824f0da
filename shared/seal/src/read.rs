//! Reading into a buffer that is used again and again.

use std::io::{self, ErrorKind, Read};

/// Fills `buffer` with the next `bytes` bytes, fewer only at the end. Not generic, so that it is compiled, and optimised,
/// here.
pub(crate) fn read_up_to(bytes: usize, from: &mut dyn Read, buffer: &mut Vec<u8>) -> io::Result<()> {
    buffer.resize(bytes, 0);
    let mut filled = 0_usize;
    while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match from.read(rest) {
            Ok(0) => break,
            Ok(read) => filled = filled.saturating_add(read),
            Err(fault) if fault.kind() == ErrorKind::Interrupted => {}
            Err(fault) => return Err(fault),
        }
    }
    buffer.truncate(filled);
    Ok(())
}
