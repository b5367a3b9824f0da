//! What filing a batch does, decided without a store: for each record whether it is new, unchanged, a new version,
//! or an earlier version again.
//!
//! A version is a content hash in a department, with its label. All versions ever filed are remembered, so repeating any import adds
//! nothing; which version is current is what the last import said. Knows no keys, contents or rows.

use std::collections::BTreeMap;

use handover_core::{Department, Digest};

use crate::model::Filed;

/// A content in a department, and whether it is restricted: what makes a version. Of a file, the label is that of the
/// resource which names it, so it can change while the bytes do not.
pub(crate) type Mark = (Digest, Department, bool);

/// What is known of one record.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Known {
    /// Versions by what makes them; at least all that the batch names.
    pub(crate) versions: BTreeMap<Mark, u32>,
    /// The current version; 0 for a record that is not here.
    pub(crate) current: u32,
    /// The newest version; 0 for a record that is not here.
    pub(crate) last: u32,
}

/// Files one content and says what it is. A new version's number is `known.last` afterwards.
///
/// `None`: the record has as many versions as can be counted.
pub(crate) fn file(known: &mut Known, mark: &Mark) -> Option<Filed> {
    if let Some(&version) = known.versions.get(mark) {
        if version == known.current {
            return Some(Filed::Unchanged);
        }
        known.current = version;
        return Some(Filed::CurrentAgain(version));
    }
    let is_new = known.last == 0;
    known.last = known.last.checked_add(1)?;
    known.current = known.last;
    known.versions.insert(mark.clone(), known.last);
    Some(if is_new { Filed::New } else { Filed::NewVersion(known.last) })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn mark(content: u8, department: bool) -> Mark {
        let department = if department { "laboratory" } else { "cardiology" };
        (Digest::from_bytes([content; 32]), department.parse().unwrap(), false)
    }

    #[test]
    fn a_file_whose_label_changes_is_a_new_version() {
        let (open, restricted) = (mark(1, true), (mark(1, true).0, mark(1, true).1, true));
        let mut known = Known::default();
        assert_eq!(file(&mut known, &open), Some(Filed::New));
        assert_eq!(file(&mut known, &restricted), Some(Filed::NewVersion(2)));
        assert_eq!(file(&mut known, &restricted), Some(Filed::Unchanged));
        assert_eq!(file(&mut known, &open), Some(Filed::CurrentAgain(1)));
    }

    #[test]
    fn versions_follow_content_and_department() {
        let mut known = Known::default();
        for (content, department, filed) in [
            (1, true, Filed::New),
            (1, true, Filed::Unchanged),
            (2, true, Filed::NewVersion(2)),
            (2, false, Filed::NewVersion(3)),
            (1, true, Filed::CurrentAgain(1)),
            (1, true, Filed::Unchanged),
            (3, true, Filed::NewVersion(4)),
        ] {
            assert_eq!(file(&mut known, &mark(content, department)), Some(filed));
        }
        known.last = u32::MAX;
        assert_eq!(file(&mut known, &mark(9, true)), None);
    }

    proptest! {
        #[test]
        fn repeating_an_import_ends_in_the_same_state(import in prop::collection::vec((0_u8..5, any::<bool>()), 1..30)) {
            let run = |known: &mut Known| {
                for (content, department) in &import {
                    file(known, &mark(*content, *department)).unwrap();
                }
            };
            let mut once = Known::default();
            run(&mut once);
            let mut twice = once.clone();
            run(&mut twice);
            prop_assert_eq!(&once, &twice);
            prop_assert_eq!(once.versions.len(), usize::try_from(once.last).unwrap());
        }
    }
}
