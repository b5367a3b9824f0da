//! A folder of which one process at a time has what lies in it, without asking the other one: each opening takes it
//! over under a new name. Whoever had it before and does not know yet that it is another's finds nothing under the name
//! that it knows, so it can neither write over what goes on nor remove it.

use std::fs;
use std::path::{Path, PathBuf};

use crate::StoreError;
use crate::sled_files::{make_private_folder, sync_folder};

/// What a name begins with; its number follows.
const NAME_START: &str = "of-";

/// Takes over the folder below `parent` with all that is in it; made if there is none. Only who has the store that
/// belongs to it may do so.
///
/// # Errors
/// [`StoreError::Unavailable`].
pub fn own_folder(parent: &Path) -> Result<PathBuf, StoreError> {
    let io = StoreError::io("take over a folder");
    make_private_folder(parent)?;
    let mut numbers = Vec::new();
    for entry in fs::read_dir(parent).map_err(&io)? {
        let name = entry.map_err(&io)?.file_name();
        let number = name.to_str().and_then(|name| name.strip_prefix(NAME_START)?.parse::<u64>().ok());
        numbers.extend(number);
    }
    let path = |number: u64| parent.join(format!("{NAME_START}{number}"));
    let last = numbers.iter().max().copied();
    let own = path(last.unwrap_or_default().saturating_add(1));
    match last {
        Some(last) => fs::rename(path(last), &own).map_err(&io)?,
        None => make_private_folder(&own)?,
    }
    // Made again by who did not know: nothing in there is of use.
    for older in numbers.into_iter().filter(|number| Some(*number) != last) {
        fs::remove_dir_all(path(older)).map_err(&io)?;
    }
    sync_folder(parent)?;
    Ok(own)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lies_there_goes_to_the_next_and_out_of_the_formers_reach() {
        let parent = tempfile::tempdir().unwrap();
        let first = own_folder(parent.path()).unwrap();
        fs::write(first.join("part"), b"a").unwrap();
        let second = own_folder(parent.path()).unwrap();
        assert_eq!(fs::read(second.join("part")).unwrap(), b"a");
        assert!(fs::write(first.join("part"), b"b").is_err());
        fs::create_dir_all(first.join("again")).unwrap();
        let third = own_folder(parent.path()).unwrap();
        assert_eq!(fs::read(third.join("part")).unwrap(), b"a");
        assert!(!first.exists() && !second.exists());
    }
}
