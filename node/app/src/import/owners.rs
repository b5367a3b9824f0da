//! Whose a resource is that names no patient: of the one Patient in its Bundle, or in its file for resources outside
//! Bundles. With none or several, it is the hospital's.
//!
//! Both passes over a file ask in the same order, so a Bundle is known by its number.

use handover_records::LocalPatient;

/// The patients seen in one place.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
enum Seen {
    #[default]
    None,
    One(LocalPatient),
    Several,
}

impl Seen {
    fn add(&mut self, patient: LocalPatient) {
        *self = match std::mem::take(self) {
            Self::None => Self::One(patient),
            Self::One(known) if known == patient => Self::One(known),
            Self::One(_) | Self::Several => Self::Several,
        };
    }
}

/// The owners of one file. First [`Owners::see`] in order, then [`Owners::rewind`] and [`Owners::owner`].
#[derive(Debug, Default)]
pub(super) struct Owners {
    bundles: Vec<Seen>,
    outside: Seen,
    at: usize,
}

impl Owners {
    /// An item of the first pass: its index in its Bundle, and the patient if it is a Patient.
    pub(super) fn see(&mut self, entry: Option<u64>, patient: Option<LocalPatient>) {
        if entry == Some(0) {
            self.bundles.push(Seen::None);
        }
        let Some(patient) = patient else { return };
        match entry {
            None => self.outside.add(patient),
            Some(_) => {
                if let Some(bundle) = self.bundles.last_mut() {
                    bundle.add(patient);
                }
            }
        }
    }

    /// The second pass begins.
    pub(super) fn rewind(&mut self) {
        self.at = 0;
    }

    /// The owner at an item of the second pass.
    pub(super) fn owner(&mut self, entry: Option<u64>) -> Option<LocalPatient> {
        if entry == Some(0) {
            self.at += 1;
        }
        let seen = match entry {
            None => Some(&self.outside),
            Some(_) => self.at.checked_sub(1).and_then(|at| self.bundles.get(at)),
        };
        match seen {
            Some(Seen::One(patient)) => Some(patient.clone()),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_only_patient_of_a_bundle_owns_the_rest() {
        let patient = |name: &str| Some(name.parse::<LocalPatient>().unwrap());
        let items = [
            (Some(0), patient("a")),
            (Some(1), None),
            (Some(0), None),
            (Some(1), patient("b")),
            (Some(2), patient("c")),
            (None, None),
            (None, patient("d")),
            (Some(0), None),
        ];
        let mut owners = Owners::default();
        for (entry, patient) in items.clone() {
            owners.see(entry, patient);
        }
        owners.rewind();
        let found: Vec<_> =
            items.iter().map(|(entry, _)| owners.owner(*entry).map(|it| it.to_string())).collect();
        let found: Vec<_> = found.iter().map(Option::as_deref).collect();
        assert_eq!(found, [Some("a"), Some("a"), None, None, None, Some("d"), Some("d"), None]);
    }
}
