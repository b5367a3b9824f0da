//! A hospital replaces the keys that speak for it: it makes and enrols further ones, the root certifies them, two
//! operators approve them.

use anyhow::{Context as _, Result, ensure};

use super::World;
use crate::json;

impl World {
    /// A hospital makes further keys and enrols them; the signing key. Those before still speak.
    ///
    /// # Errors
    /// They cannot be made or enrolled.
    pub fn further_keys(&mut self, hospital: &str) -> Result<String> {
        self.stop(hospital)?;
        self.node(hospital, &["keys", "renew"])?.done()?;
        self.restart(hospital)?;
        let enrolled = self.node(hospital, &["enrol"])?.json()?;
        Ok(json::text(&enrolled, "key").to_owned())
    }

    /// Root and operators let a key succeed the one that a hospital has. Its process, which knows the key, ends; how.
    ///
    /// # Errors
    /// They do not, or it does not end.
    pub fn succeed(&mut self, hospital: &str, key: &str) -> Result<i32> {
        self.let_succeed(hospital, key)?;
        self.ends(hospital)
    }

    /// The same of a hospital whose process does not run.
    ///
    /// # Errors
    /// They do not.
    pub fn let_succeed(&self, hospital: &str, key: &str) -> Result<()> {
        self.federation.succeed(&self.programs, hospital, key).map(drop)
    }

    /// Waits until a hospital's process ends by itself; how.
    ///
    /// # Errors
    /// It does not, or was killed.
    pub fn ends(&mut self, hospital: &str) -> Result<i32> {
        self.hospital_mut(hospital)?.ends()?.context("it was killed")
    }

    /// Both, and the process runs under the new keys when this returns.
    ///
    /// # Errors
    /// As [`World::further_keys`] and [`World::succeed`].
    pub fn renew_keys(&mut self, hospital: &str) -> Result<()> {
        let key = self.further_keys(hospital)?;
        let exit = self.succeed(hospital, &key)?;
        ensure!(exit != 0, "nobody would start it again");
        self.restart(hospital)
    }
}
