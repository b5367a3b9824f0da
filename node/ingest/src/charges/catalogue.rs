//! A hospital's test catalogue: which codes are tests. CSV with the columns `system`, `code`, `display`, `class`,
//! `is_test` (`Y` or `N`).

use std::collections::HashMap;

use crate::fault::FileFaults;
use crate::resource::Coding;
use crate::table::{Found, rows};

/// Which codes are tests. Empty: none is known.
#[derive(Clone, Debug, Default)]
pub struct Catalogue(HashMap<(String, String), bool>);

impl Catalogue {
    /// Reads the CSV file.
    ///
    /// # Errors
    /// Every fault of the file, with its line.
    pub fn from_csv(csv: &[u8]) -> Result<Self, FileFaults> {
        let mut found = Found::default();
        let mut known = HashMap::new();
        let columns = ["system", "code", "display", "class", "is_test"];
        rows(csv, columns, &mut found, |line, [system, code, _, _, is_test], found| {
            if system.is_empty() || code.is_empty() {
                found.add(line, "system and code are needed");
            }
            let answer = match is_test {
                "Y" | "y" => true,
                "N" | "n" => false,
                _ => return found.add(line, "is_test is Y or N"),
            };
            if known
                .insert((system.to_owned(), code.to_owned()), answer)
                .is_some_and(|before| before != answer)
            {
                found.add(line, format!("{system}|{code} stands twice, with Y and with N"));
            }
        });
        found.or("line", Self(known))
    }

    /// Whether the first of the codes that the catalogue knows is a test; `None` if it knows none of them.
    #[must_use]
    pub fn is_test(&self, codings: &[Coding]) -> Option<bool> {
        codings.iter().find_map(|coding| {
            let key = (coding.system.clone()?, coding.code.clone());
            self.0.get(&key).copied()
        })
    }

    /// How many codes it knows.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether it knows none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_faults_are_told_at_once() {
        let csv = "system,code,display,class,is_test\nhttp://loinc.org,1-8,a,b,Y\nhttp://loinc.org,1-8,a,b,N\n,,a,b,maybe\nx,y\n";
        let faults = Catalogue::from_csv(csv.as_bytes()).unwrap_err();
        let lines: Vec<_> = faults.faults.iter().map(|fault| fault.position).collect();
        assert_eq!(lines, [3, 4, 4, 5], "{faults}");
        let faults = Catalogue::from_csv(b"code,display\n1,2\n").unwrap_err();
        assert_eq!(faults.faults.len(), 3, "{faults}");
    }
}
