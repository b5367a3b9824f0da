//! Reads what can be read of a damaged database: page by page, and past what cannot be.

use crate::StoreError;
use crate::meta::LAST_OWN_KEY;
use crate::sled_tree::Tree;
use crate::txn::{Cell, View as _};

/// Cells that are read in one go where nothing is damaged.
const PAGE_CELLS: usize = 500;
/// How finely the end of a damaged part is looked for, in bytes of a key behind what the keys around it share.
const FINE_BYTES: usize = 12;

/// Gives every cell that can be read to `take`. Returns how many parts, from one key to another, could not be.
pub(crate) fn each(
    tree: &Tree,
    mut take: impl FnMut(Vec<Cell>) -> Result<(), StoreError>,
) -> Result<u64, StoreError> {
    let mut gaps = 0_u64;
    let mut start = LAST_OWN_KEY.to_vec();
    loop {
        if let Ok(page) = tree.scan(&[], Some(&start), PAGE_CELLS) {
            let Some((last, _)) = page.last() else { return Ok(gaps) };
            start = last.clone();
            take(page)?;
            continue;
        }
        // One by one up to what cannot be read.
        start.push(0);
        loop {
            match tree.first_from(&start) {
                Ok(Some((key, value))) => {
                    start = [&key[..], &[0]].concat();
                    take(vec![(key, value)])?;
                }
                Ok(None) => return Ok(gaps),
                Err(_) => break,
            }
        }
        gaps = gaps.saturating_add(1);
        match past(tree, &start) {
            // What `scan` begins behind.
            Some(next) => {
                if let Ok(Some(cell)) = tree.first_from(&next) {
                    start = cell.0.clone();
                    take(vec![cell])?;
                } else {
                    start = next;
                }
            }
            None => return Ok(gaps),
        }
    }
}

/// The least key, nearly, behind `bad` from which on something can be read.
fn past(tree: &Tree, bad: &[u8]) -> Option<Vec<u8>> {
    let is_readable = |key: &[u8]| tree.first_from(key).is_ok();
    // Ever wider steps: the next key that shares less and less with the bad one.
    let mut good = (0..bad.len()).rev().find_map(|shared| {
        let next = bad.get(shared)?.checked_add(1)?;
        let key = [bad.get(..shared)?, &[next]].concat();
        is_readable(&key).then_some(key)
    })?;
    // Halve what lies between.
    let mut bad = bad.to_vec();
    for _ in 0..8 * FINE_BYTES {
        let Some(middle) = between(&bad, &good) else { break };
        if is_readable(&middle) { good = middle } else { bad = middle }
    }
    Some(good)
}

/// A key in the middle of two, if there is one that is no longer than it needs to be.
fn between(low: &[u8], high: &[u8]) -> Option<Vec<u8>> {
    let shared = low.iter().zip(high).take_while(|(low, high)| low == high).count();
    let digits = |key: &[u8]| {
        let rest = key.iter().skip(shared).copied().chain(std::iter::repeat(0));
        rest.take(FINE_BYTES).fold(0_u128, |sum, byte| (sum << 8) | u128::from(byte))
    };
    let (low_digits, high_digits) = (digits(low), digits(high));
    let middle = low_digits.checked_add(high_digits.checked_sub(low_digits)? / 2)?;
    if middle == low_digits {
        return None;
    }
    let bytes = middle.to_be_bytes();
    Some([high.get(..shared)?, bytes.get(bytes.len().checked_sub(FINE_BYTES)?..)?].concat())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_lies_between_lies_between(a: Vec<u8>, b: Vec<u8>) {
            let (low, high) = if a < b { (a, b) } else { (b, a) };
            if let Some(middle) = between(&low, &high) {
                prop_assert!(middle <= high || middle.starts_with(&high));
            }
        }
    }
}
