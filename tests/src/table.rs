//! Tables of what is tried and how it must be refused.

use std::fmt::Debug;

/// What was tried, what came of it, and the code with which it must be refused.
pub type Tried<C> = (&'static str, Result<(), C>, C);

/// Checks a whole table, and names every line that does not come out as it says.
///
/// # Panics
/// If one was accepted, or refused with another code.
pub fn all_refused<C: Copy + Debug + PartialEq>(tried: Vec<Tried<C>>) {
    let wrong: Vec<String> = tried
        .into_iter()
        .filter(|(_, found, wanted)| *found != Err(*wanted))
        .map(|(what, found, wanted)| format!("{what}: {found:?} instead of {wanted:?}"))
        .collect();
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}
