//! The commands of emergencies. What a clinician signs is signed here, in the command's own process.

use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use handover_cli::{CliError, new_passphrase, passphrase};
use handover_core::artefact::break_glass::{BreakGlassDetails, Demographics};
use handover_core::codec::Extensions;
use handover_core::{BreakGlassId, Code, HospitalId, Timestamp};
use handover_seal::{RsaPublicKey, SealError, SigningKey};
use serde::de::DeserializeOwned;

use super::Console;
use super::files::write_file;
use crate::args::{BreakGlassTask, ClinicianKey, ClinicianTask, Opening};
use crate::clinician::{Signing, new_key, open_key};
use crate::config::usage;
use crate::operations::{
    ClinicianShown, CliniciansListed, EmergencyWish, GlassRead, GlassShown, GlassesListed, GlassesOpened,
    Located, NotAsked, Operation, Prepared, RecipientShown,
};
use crate::show;

/// What a clinician types a passphrase at.
const PROMPT: &str = "Passphrase of the clinician's key: ";

/// What was prepared, decoded.
struct Ready {
    hospital: HospitalId,
    certificate: Vec<u8>,
    rsa_key: RsaPublicKey,
    recipients: Vec<(HospitalId, RsaPublicKey)>,
    not_asked: Vec<NotAsked>,
    hash: Option<String>,
    now: Timestamp,
}

impl Console {
    pub(super) async fn clinician(&self, task: ClinicianTask) -> Result<(), CliError> {
        let wish = match task {
            ClinicianTask::New(wanted) => {
                let secret = new_passphrase(wanted.clinician_passphrase_file.as_deref(), PROMPT)?;
                let made = show::ClinicianMade::of(&wanted.key, &new_key(&wanted.key, &secret)?.public());
                return self
                    .output
                    .emit("handover/clinician-key/1", &made, |out| show::clinician_made(out, &made));
            }
            ClinicianTask::List => {
                let listed: CliniciansListed = self.wish(EmergencyWish::Clinicians).await?;
                return self
                    .output
                    .emit("handover/clinicians/1", &listed, |out| show::clinicians(out, &listed));
            }
            ClinicianTask::Certify { public_key, name, role, days } => {
                EmergencyWish::Certify { key: public_key, name, role, days }
            }
            ClinicianTask::Withdraw { number } => EmergencyWish::Withdraw { number },
        };
        let shown: ClinicianShown = self.wish(wish).await?;
        self.output.emit("handover/clinician/1", &shown, |out| show::clinician(out, &shown))
    }

    pub(super) async fn break_glass(&self, task: BreakGlassTask) -> Result<(), CliError> {
        let wish = match task {
            BreakGlassTask::Open(opening) => return self.open_glass(opening).await,
            BreakGlassTask::More { id, by } => return self.more(id, &by).await,
            BreakGlassTask::Read { id, by, out } => return self.read_glass(id, &by, out).await,
            BreakGlassTask::List { to_review } => {
                let listed: GlassesListed = self.wish(EmergencyWish::List { to_review }).await?;
                return self
                    .output
                    .emit("handover/break-glasses/1", &listed, |out| show::glasses(out, &listed));
            }
            BreakGlassTask::Show { id, out } => {
                let wish = EmergencyWish::Show { id, file: out.is_some() };
                let mut shown: GlassShown = self.wish(wish).await?;
                if let (Some(content), Some(out)) = (shown.file.take(), out) {
                    write_file(&out, &content)?;
                }
                return self.glass(&shown);
            }
            BreakGlassTask::Review { id, verdict, note } => {
                EmergencyWish::Review { id, verdict: verdict.to_string(), note }
            }
            BreakGlassTask::Told { id } => EmergencyWish::Told { id },
        };
        let shown: GlassShown = self.wish(wish).await?;
        self.glass(&shown)
    }

    async fn wish<T: DeserializeOwned>(&self, wish: EmergencyWish) -> Result<T, CliError> {
        self.call(Operation::Emergency(wish), "").await
    }

    fn glass(&self, shown: &GlassShown) -> Result<(), CliError> {
        self.output.emit("handover/break-glass/1", shown, |out| show::glass(out, shown))
    }

    async fn open_glass(&self, opening: Opening) -> Result<(), CliError> {
        let key = clinician_key(&opening.by)?;
        let sources = match (opening.patient, opening.at.is_empty()) {
            (Some(_), true) => self.holders(&key, &opening).await?,
            (None, true) => return Err(usage("--at is needed where the patient's reference is not known")),
            _ => opening.at.clone(),
        };
        let ready = self.prepare(&key, sources, None).await?;
        let (details, times) = (details(&opening), times(&opening, ready.now));
        let mut opened = Vec::new();
        for (source, rsa) in &ready.recipients {
            let signed =
                signing(&ready, &key).break_glass(Some((source, rsa)), opening.patient, &details, times);
            let (_, content) = signed.map_err(sealing)?;
            let wish = EmergencyWish::Open { content: hex::encode(content) };
            let shown: GlassShown = self.wish(wish).await?;
            opened.push(shown);
        }
        let listed = GlassesOpened { break_glasses: opened, not_asked: ready.not_asked };
        self.output.emit("handover/break-glass-opened/1", &listed, |out| show::opened(out, &listed))?;
        if listed.break_glasses.iter().any(|it| it.scope.is_some()) {
            return Ok(());
        }
        let code = listed.break_glasses.iter().find_map(|it| it.code.as_deref()?.parse().ok());
        Err(CliError::new(code.unwrap_or(Code::Unreachable), "no hospital has given anything out"))
    }

    /// Who holds the patient's records, as the index says.
    async fn holders(&self, key: &SigningKey, opening: &Opening) -> Result<Vec<HospitalId>, CliError> {
        let ready = self.prepare(key, Vec::new(), None).await?;
        let (details, times) = (details(opening), times(opening, ready.now));
        let signed = signing(&ready, key).break_glass(None, opening.patient, &details, times);
        let (_, content) = signed.map_err(sealing)?;
        let wish = EmergencyWish::Locate { content: hex::encode(content) };
        let located: Located = self.wish(wish).await?;
        if located.hospitals.is_empty() {
            let detail = "the index knows of no other hospital that holds records of this patient";
            return Err(CliError::new(Code::NotLinked, detail)
                .with_next("If you know one, name it with --at, by name and date of birth."));
        }
        Ok(located.hospitals)
    }

    async fn more(&self, id: BreakGlassId, by: &ClinicianKey) -> Result<(), CliError> {
        let key = clinician_key(by)?;
        let ready = self.prepare(&key, Vec::new(), Some(id)).await?;
        let hash = ready.hash.as_deref().and_then(|hash| hash.parse().ok());
        let hash = hash.ok_or_else(|| CliError::from(Code::UnknownBreakGlass))?;
        let content = hex::encode(signing(&ready, &key).more(id, hash, ready.now));
        let shown: GlassShown = self.wish(EmergencyWish::More { content }).await?;
        self.glass(&shown)?;
        if shown.scope.as_deref().is_some_and(crate::operations::is_everything) {
            return Ok(());
        }
        let code = shown.code.as_deref().and_then(|code| code.parse().ok());
        Err(CliError::new(code.unwrap_or(Code::Unreachable), "more was not given out"))
    }

    async fn read_glass(
        &self,
        id: BreakGlassId,
        by: &ClinicianKey,
        out: Option<PathBuf>,
    ) -> Result<(), CliError> {
        let key = clinician_key(by)?;
        let ready = self.prepare(&key, Vec::new(), Some(id)).await?;
        let content = hex::encode(signing(&ready, &key).reading(id, ready.now));
        let wish = EmergencyWish::Read { content };
        let Some(out) = out else {
            let _: GlassRead = self.wish(wish).await?;
            let ended = writeln!(std::io::stdout().lock());
            return ended.or_else(|error| match error.kind() {
                std::io::ErrorKind::BrokenPipe => Ok(()),
                _ => Err(CliError::new(Code::Internal, format!("stdout: {error}"))),
            });
        };
        let file = new_file(&out)?;
        let read: Result<GlassRead, CliError> = self.call_into(Operation::Emergency(wish), file).await;
        if read.is_err() {
            // Nothing whole came: no half of it stays.
            let _ = std::fs::remove_file(&out);
        }
        let read = read?;
        self.output.emit("handover/break-glass-read/1", &read, |to| {
            writeln!(to, "{} of {} is in {}.", read.scope, read.hospital, out.display())
        })
    }

    async fn prepare(
        &self,
        key: &SigningKey,
        sources: Vec<HospitalId>,
        id: Option<BreakGlassId>,
    ) -> Result<Ready, CliError> {
        let wish = EmergencyWish::Prepare { key: key.public(), sources, id };
        let prepared: Prepared = self.wish(wish).await?;
        let cut = |_| CliError::new(Code::Internal, "the answer was cut");
        let rsa =
            |digits: &str| RsaPublicKey::from_spki_der(&hex::decode(digits).map_err(cut)?).map_err(sealing);
        let recipient = |it: &RecipientShown| Ok::<_, CliError>((it.hospital.clone(), rsa(&it.rsa_key)?));
        Ok(Ready {
            certificate: hex::decode(&prepared.certificate).map_err(cut)?,
            rsa_key: rsa(&prepared.rsa_key)?,
            recipients: prepared.recipients.iter().map(recipient).collect::<Result<_, _>>()?,
            not_asked: prepared.not_asked,
            hospital: prepared.hospital,
            hash: prepared.hash,
            now: Timestamp::from_millis(prepared.now_ms),
        })
    }
}

fn clinician_key(by: &ClinicianKey) -> Result<SigningKey, CliError> {
    open_key(&by.key, &passphrase(by.clinician_passphrase_file.as_deref(), PROMPT)?)
}

fn signing<'a>(ready: &'a Ready, key: &'a SigningKey) -> Signing<'a> {
    let (certificate, hospital) = (&ready.certificate, &ready.hospital);
    Signing { key, certificate, hospital, own_rsa: &ready.rsa_key }
}

fn times(opening: &Opening, now: Timestamp) -> (Timestamp, Timestamp) {
    (now, now.plus_ms(opening.window))
}

fn details(opening: &Opening) -> BreakGlassDetails {
    let person = match (&opening.family, &opening.given, &opening.birth_date) {
        (Some(family), Some(given), Some(birth_date)) => Some(Demographics {
            family: family.clone(),
            given: given.clone(),
            birth_date: birth_date.clone(),
            sex: opening.sex,
            record_number: opening.record_number.clone(),
            extensions: Extensions::default(),
        }),
        _ => None,
    };
    BreakGlassDetails {
        purpose: opening.purpose,
        reason: opening.reason.clone(),
        demographics: person,
        // Drawn anew for each hospital.
        salt: [0; 16],
        extensions: Extensions::default(),
    }
}

fn sealing(fault: SealError) -> CliError {
    CliError::new(fault.code(), fault.to_string())
}

/// For its owner only, and never over another.
fn new_file(path: &Path) -> Result<std::fs::File, CliError> {
    let made = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    made.map_err(|error| usage(format!("{}: {error}", path.display())))
}
