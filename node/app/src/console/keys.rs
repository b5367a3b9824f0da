//! The keys that speak for the hospital, while the node runs or not: only their file is changed.

use std::path::Path;

use handover_cli::{CliError, passphrase};
use handover_core::time::Clock as _;
use handover_seal::{OsRandom, SystemClock};
use serde_json::json;

use super::files::write_bytes;
use super::{Console, PROMPT};
use crate::args::KeysTask;
use crate::keys::{self, Secrets};
use crate::{enrol, show};

impl Console {
    pub(super) fn keys(&self, task: KeysTask) -> Result<(), CliError> {
        match task {
            KeysTask::Renew => self.renew_keys(),
            KeysTask::Request { out } => self.request_certificate(&out),
        }
    }

    fn renew_keys(&self) -> Result<(), CliError> {
        let (file, secret) = (self.config.keys_file(), passphrase(self.passphrase_file.as_deref(), PROMPT)?);
        // Of two at once the second one would take the first one's keys away.
        let _alone = keys::alone(&file)?;
        let mut secrets = Secrets::load(&file, &secret)?;
        secrets.check_hospital(&self.config.hospital.id)?;
        secrets.renew(&mut OsRandom)?;
        secrets.replace(&file, &secret, &mut OsRandom)?;
        let made = show::Initialised::of(&self.config, &secrets)?;
        self.output.emit("handover/keys-renewed/1", &made, |out| show::renewed(out, &made))
    }

    fn request_certificate(&self, out: &Path) -> Result<(), CliError> {
        let secrets = self.unlock()?;
        secrets.check_hospital(&self.config.hospital.id)?;
        let signing = secrets.newest()?.signing();
        let request = enrol::certificate_request(&self.config.hospital, &signing, SystemClock.now());
        write_bytes(out, request.envelope())?;
        let document =
            json!({ "hospital": self.config.hospital.id, "key": signing.public(), "request": out });
        self.output.emit("handover/keys-request/1", &document, |to| writeln!(to, "{}", out.display()))
    }
}
