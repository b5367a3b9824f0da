//! Questions and answers that somebody carries in files: the question goes to the hospital's desk, and the desk's
//! answer comes back.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use handover_cli::CliError;
use handover_core::artefact::Verified;
use handover_core::artefact::patient::{Ask, Holder};
use handover_core::{Code, HospitalId, Timestamp};
use handover_patient::node::MAX_ANSWER_BYTES;
use handover_patient::{Question, Wallet, make_ask, open_holders, open_inbox, own_ask};
use handover_seal::OsRandom;
use serde_json::json;

use crate::args::Questioning;
use crate::session::{Looked, Session, now, write_new};
use crate::show::line_of_files;

/// What a question's options say about files.
pub(crate) enum Carried<'a> {
    /// Nothing: it goes over the network.
    Not,
    /// The question, into this file.
    Question(&'a Path),
    /// The question that was asked, and the answer to it.
    Answer(&'a Path, &'a Path),
}

impl Questioning {
    pub(crate) fn carried(&self) -> Carried<'_> {
        match (&self.out, &self.asked, &self.answer) {
            (Some(out), ..) => Carried::Question(out),
            (None, Some(asked), Some(answer)) => Carried::Answer(asked, answer),
            _ => Carried::Not,
        }
    }
}

impl Session {
    /// Signs a question into a file.
    pub(crate) fn write_question(&self, question: Question, out: &Path) -> Result<(), CliError> {
        let ask = make_ask(&self.file.read()?.keys, question, now(), &mut OsRandom);
        write_new(out, ask.envelope())?;
        let files = [out.to_string_lossy().into_owned()];
        let data = json!({ "files": files, "expires": ask.expires.to_string() });
        self.output.emit("handover/patient-question/1", &data, |to| {
            line_of_files(to, &files)?;
            writeln!(to, "The desk takes it until {} (`patient take`) and gives a file back.", ask.expires)
        })
    }

    /// The hospitals of a carried answer, and when they were asked for.
    pub(crate) fn carried_holders(
        &self,
        asked: &Path,
        answer: &Path,
    ) -> Result<(Vec<Holder>, Timestamp), CliError> {
        let wallet = self.file.read()?;
        let ask = question(&wallet, asked)?;
        Ok((open_holders(&wallet.keys, &ask, &read(answer)?)?.hospitals, ask.issued))
    }

    /// The inbox of a carried answer, verified and remembered.
    pub(crate) fn carried_inbox(
        &self,
        asked: &Path,
        answer: &Path,
        options: &Questioning,
    ) -> Result<Looked, CliError> {
        let wallet = self.file.read()?;
        let inbox = open_inbox(&wallet.keys, &question(&wallet, asked)?, &read(answer)?)?;
        let met = options.hospital_info.as_deref().map(|path| self.meet_file(path)).transpose()?;
        self.take_inbox(&inbox, &self.federation(met)?)
    }

    /// The hospital whose desk a question is carried to.
    pub(crate) fn hospital_of(&self, options: &Questioning) -> Result<HospitalId, CliError> {
        let path = options.hospital_info.as_deref();
        let path = path.ok_or_else(|| CliError::new(Code::UsageInvalid, "--hospital-info FILE is needed"))?;
        Ok(self.meet_file(path)?.hospital)
    }
}

fn question(wallet: &Wallet, file: &Path) -> Result<Verified<Ask>, CliError> {
    Ok(own_ask(&wallet.keys, &read(file)?)?)
}

/// A carried file, whole; what is longer than any answer is not read.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>, CliError> {
    let fault =
        |fault: std::io::Error| CliError::new(Code::UsageInvalid, format!("{}: {fault}", path.display()));
    let limit = MAX_ANSWER_BYTES as u64;
    let mut bytes = Vec::new();
    File::open(path).map_err(fault)?.take(limit + 1).read_to_end(&mut bytes).map_err(fault)?;
    if bytes.len() as u64 > limit {
        return Err(CliError::new(Code::TooLarge, path.display().to_string()));
    }
    Ok(bytes)
}
