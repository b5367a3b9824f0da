//! Whose programs are of which version.

use anyhow::Result;

use super::{INDEX, World};
use crate::programs::Programs;

impl World {
    /// Somebody's programs.
    pub(super) fn programs_of(&self, whose: &str) -> Programs {
        self.programs.of_version(self.upgraded.contains(whose))
    }

    /// From here on a hospital, the [`INDEX`] or a patient, by their wallet, uses programs of the next version. A process
    /// is started again.
    ///
    /// # Errors
    /// It does not stop or start.
    pub fn upgrade(&mut self, whose: &str) -> Result<()> {
        self.upgraded.insert(whose.to_owned());
        self.restart_any(whose)
    }

    /// From here on they use programs of this version again.
    ///
    /// # Errors
    /// As [`World::upgrade`].
    pub fn downgrade(&mut self, whose: &str) -> Result<()> {
        self.upgraded.remove(whose);
        self.restart_any(whose)
    }

    fn restart_any(&mut self, whose: &str) -> Result<()> {
        match whose {
            INDEX => self.restart_index(false),
            hospital if self.hospitals.contains_key(hospital) => self.restart(hospital),
            _ => Ok(()),
        }
    }
}
