//! From a parsed command line to its outcome. Beside a running node, commands go through its control socket; else the
//! data folder is opened here and the same operation is carried out.

mod calling;
mod emergency;
mod incidents;
mod moving;
mod remote;
mod repair;

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use handover_cli::{CliError, Output, init_logging, new_passphrase, passphrase, verify_file};
use handover_core::time::Clock as _;
use handover_core::{Code, Timestamp};
use handover_seal::{Ed25519, OsRandom, SystemClock};
use handover_web::TlsIdentity;
use handover_web::control::MAX_REQUEST_BYTES;
use tokio::signal::unix::{SignalKind, signal};

use crate::args::{
    Arguments, EpochTask, PatientTask, RecallTask, RecordsTask, ReferralTask, Task, TransferTask,
};
use crate::config::{Config, usage};
use crate::enrol::Enrolled;
use crate::import::Imported;
use crate::keys::{Secrets, make_private_folder};
use crate::node::Node;
use crate::operations::{
    Carried, Checked, Dismissed, EpochRotated, EpochsListed, LinksListed, Operation, PatientForgotten,
    PatientRegistered, RecallMade, RecallsListed, RecordLine, RecordsListed, ReferralShown,
    ReferralWithdrawn, ReferralsListed, Resent, StatusShown, TransferShown, TransfersListed,
};
use crate::running::Running;
use crate::show;

/// What a person types a passphrase at.
const PROMPT: &str = "Passphrase of this node's keys: ";
/// The most bytes of a file that a patient carries: as hexadecimal digits it fits a control request.
const CARRIED_MAX_BYTES: u64 = (MAX_REQUEST_BYTES / 2 - 4096) as u64;

/// Carries a command line out.
///
/// # Errors
/// What the process ends with.
pub fn main(arguments: Arguments) -> Result<(), CliError> {
    let output = Output { json: arguments.json };
    init_logging(arguments.json)?;
    let config = Config::load(&arguments.config)?;
    let staff = arguments.staff.unwrap_or_else(login);
    let console = Console { config, passphrase_file: arguments.passphrase_file, staff, output };
    match arguments.command {
        Task::Init => return console.init(),
        Task::Verify { file } => return console.verify(&file),
        _ => {}
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.map_err(|error| CliError::new(Code::Internal, error.to_string()))?;
    runtime.block_on(console.command(arguments.command))
}

/// The login name; who can command here could take any other, so it is a note and no proof.
fn login() -> String {
    std::env::var("USER").ok().filter(|name| !name.is_empty()).unwrap_or_else(|| "console".to_owned())
}

struct Console {
    config: Config,
    passphrase_file: Option<PathBuf>,
    staff: String,
    output: Output,
}

impl Console {
    async fn command(&self, task: Task) -> Result<(), CliError> {
        match task {
            Task::Init | Task::Verify { .. } => Ok(()),
            Task::Run => self.run().await,
            Task::Enrol { wait } => {
                let operation = Operation::Enrol { wait_ms: wait.map(ms) };
                let enrolled: Enrolled = self.call(operation, "").await?;
                self.output.emit("handover/enrolled/1", &enrolled, |out| show::enrolled(out, &enrolled))
            }
            Task::Import { files, retry } => self.import(files, retry).await,
            Task::Patient(task) => self.patient(task).await,
            Task::Records(task) => self.records(task).await,
            Task::Transfer(task) => self.transfer(task).await,
            Task::Referral(task) => self.referral(task).await,
            Task::LinkRemote(task) => self.link_remote(task).await,
            Task::Epoch(task) => self.epoch(task).await,
            Task::Recall(task) => self.recall(task).await,
            Task::Incident(task) => self.incident(task).await,
            Task::Clinician(task) => self.clinician(task).await,
            Task::BreakGlass(task) => self.break_glass(task).await,
            Task::Status => {
                let shown: StatusShown = self.call(Operation::Status, "").await?;
                self.output.emit("handover/status/1", &shown, |out| show::status(out, &shown))
            }
            Task::Check => self.check().await,
            Task::Repair { preview } => self.repair(preview).await,
            Task::Store(task) => self.store(task).await,
        }
    }

    fn init(&self) -> Result<(), CliError> {
        let (config, now) = (&self.config, SystemClock.now());
        let file = config.keys_file();
        if file.exists() {
            let secrets = Secrets::load(&file, &passphrase(self.passphrase_file.as_deref(), PROMPT)?)?;
            secrets.check_hospital(&config.hospital.id)?;
            self.output.note("Its keys are there already: nothing was changed.");
            return self.initialised(&secrets);
        }
        let passphrase = new_passphrase(self.passphrase_file.as_deref(), PROMPT)?;
        make_private_folder(&config.data)?;
        TlsIdentity::load_or_create(&config.data, &config.web_names, now)
            .map_err(|fault| CliError::new(fault.code(), fault.to_string()))?;
        let made = |fault: handover_seal::SealError| CliError::new(fault.code(), fault.to_string());
        let secrets = Secrets::generate(config.hospital.id.clone(), &mut OsRandom).map_err(made)?;
        // The keys last: with them the node is initialised.
        secrets.save(&file, &passphrase, &mut OsRandom)?;
        self.initialised(&secrets)
    }

    fn initialised(&self, secrets: &Secrets) -> Result<(), CliError> {
        let made = show::Initialised::of(&self.config, secrets)?;
        self.output.emit("handover/node-initialised/1", &made, |out| show::initialised(out, &made))
    }

    async fn run(&self) -> Result<(), CliError> {
        let mut terminate = signal(SignalKind::terminate()).map_err(signals)?;
        let mut interrupt = signal(SignalKind::interrupt()).map_err(signals)?;
        let running = Running::start(self.open().await?).await?;
        let ready = serde_json::to_string(running.ready())
            .map_err(|error| CliError::new(Code::Internal, error.to_string()))?;
        let mut stdout = std::io::stdout().lock();
        let written = writeln!(stdout, "{ready}").and_then(|()| stdout.flush());
        drop(stdout);
        if let Err(error) = written {
            tracing::warn!(%error, "the ready line could not be written");
        }
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!("stopping");
        running.stop().await;
        Ok(())
    }

    async fn open(&self) -> Result<std::sync::Arc<Node>, CliError> {
        let secret = passphrase(self.passphrase_file.as_deref(), PROMPT)?;
        Node::unlock(self.config.clone(), &secret).await
    }

    async fn import(&self, files: Vec<PathBuf>, retry: bool) -> Result<(), CliError> {
        let files = files.iter().map(|file| absolute(file)).collect::<Result<_, _>>()?;
        let imported: Imported = self.call(Operation::Import { files, retry }, "Import").await?;
        self.output.emit("handover/import/1", &imported, |out| show::imported(out, &imported))?;
        if imported.unreadable_files.is_empty() {
            return Ok(());
        }
        let files = imported.unreadable_files.join("\n");
        Err(CliError::new(Code::NothingRead, files))
    }

    async fn patient(&self, task: PatientTask) -> Result<(), CliError> {
        match task {
            PatientTask::Register { id, request_id } => {
                let operation = Operation::PatientRegister { patient: id, request: request_id };
                let registered: PatientRegistered = self.call(operation, "").await?;
                self.output.emit("handover/patient-registered/1", &registered, |out| {
                    show::registered(out, &registered)
                })
            }
            PatientTask::Links { resend } => {
                let listed: LinksListed = self.call(Operation::PatientLinks { resend }, "").await?;
                self.output.emit("handover/patient-links/1", &listed, |out| show::links(out, &listed))
            }
            PatientTask::Forget { id } => {
                let gone: PatientForgotten =
                    self.call(Operation::PatientForget { patient: id }, "Forget").await?;
                self.output.emit("handover/patient-forgotten/1", &gone, |out| show::forgotten(out, &gone))
            }
            PatientTask::Wallets { id } => self.wallets(id).await,
            PatientTask::Unlink { id, wallet } => self.unlink(id, wallet).await,
            PatientTask::Link(carried) => self.take(&carried.file, carried.out.as_deref(), true).await,
            PatientTask::Take(carried) => self.take(&carried.file, carried.out.as_deref(), false).await,
            PatientTask::Info { out } => {
                let info: Carried = self.call(Operation::PatientInfo, "").await?;
                self.carried(info, Some(&out))
            }
        }
    }

    async fn take(&self, file: &Path, out: Option<&Path>, only_link: bool) -> Result<(), CliError> {
        let content = carried_file(file)?;
        let taken = self.call(Operation::PatientTake { content, only_link }, "").await;
        self.carried(taken.map_err(|fault: CliError| of_file(file, fault))?, out)
    }

    /// Shows what was taken, and writes what goes back.
    fn carried(&self, mut taken: Carried, out: Option<&Path>) -> Result<(), CliError> {
        let written = out.filter(|_| taken.answer.is_some());
        if let (Some(answer), Some(out)) = (&taken.answer, written) {
            write_file(out, answer)?;
            taken.answer = None;
        }
        self.output.emit("handover/patient-taken/1", &taken, |to| show::taken(to, &taken, written))
    }

    async fn records(&self, task: RecordsTask) -> Result<(), CliError> {
        match task {
            RecordsTask::List { patient, departments } => {
                let listed: RecordsListed =
                    self.call(Operation::RecordsList { patient, departments }, "").await?;
                self.output.emit("handover/records/1", &listed, |out| show::records(out, &listed))
            }
            RecordsTask::Show { patient, record } => {
                let shown: RecordLine = self.call(Operation::RecordsShow { patient, record }, "").await?;
                if shown.media_type.is_some() {
                    // A file has no byte more.
                    return std::io::stdout().lock().flush().or(Ok(()));
                }
                // The content came as events and was written as it came.
                writeln!(std::io::stdout().lock()).or_else(|error| match error.kind() {
                    std::io::ErrorKind::BrokenPipe => Ok(()),
                    _ => Err(CliError::new(Code::Internal, format!("stdout: {error}"))),
                })
            }
        }
    }

    async fn transfer(&self, task: TransferTask) -> Result<(), CliError> {
        let operation = match task {
            TransferTask::Request { id, ask, departments, from, until } => {
                let transfer = match (id, ask) {
                    (Some(id), _) => id,
                    (None, Some(file)) => self.take_ask(&file).await?,
                    (None, None) => return Err(usage("a transfer or --ask FILE is needed")),
                };
                let (from_ms, until_ms) = (day("--from", from)?, day("--until", until)?);
                Operation::TransferRequest { transfer, departments, from_ms, until_ms }
            }
            TransferTask::List => {
                let listed: TransfersListed = self.call(Operation::TransferList, "").await?;
                return self
                    .output
                    .emit("handover/transfers/1", &listed, |out| show::transfers(out, &listed));
            }
            TransferTask::Show { id, wait, until, deliveries, out } => {
                let (file, wait_ms) = (out.is_some(), wait.map(ms));
                let operation = Operation::TransferShow { transfer: id, wait_ms, until, deliveries, file };
                let mut shown: TransferShown = self.call(operation, "").await?;
                if let (Some(content), Some(out)) = (shown.file.take(), out) {
                    write_file(&out, &content)?;
                }
                return self.output.emit("handover/transfer/1", &shown, |out| show::transfer(out, &shown));
            }
            TransferTask::Again { id, attempt } => Operation::TransferAgain { transfer: id, attempt },
            TransferTask::Dismiss { id } => {
                let gone: Dismissed = self.call(Operation::TransferDismiss { transfer: id }, "").await?;
                return self.output.emit("handover/dismissed/1", &gone, |out| show::dismissed(out, &gone));
            }
            TransferTask::Accept { id, max_fee } => Operation::TransferAccept { transfer: id, max_fee },
            TransferTask::Refuse { id } => Operation::TransferRefuse { transfer: id },
            TransferTask::Resend { id, all } => {
                let resent: Resent = self.call(Operation::TransferResend { transfer: id, all }, "").await?;
                return self.output.emit("handover/resent/1", &resent, |out| show::resent(out, &resent));
            }
        };
        let shown: TransferShown = self.call(operation, "").await?;
        self.output.emit("handover/transfer/1", &shown, |out| show::transfer(out, &shown))
    }

    async fn take_ask(&self, file: &Path) -> Result<handover_core::TransferId, CliError> {
        let content = carried_file(file)?;
        let taken = self.call(Operation::PatientTake { content, only_link: false }, "").await;
        let taken: Carried = taken.map_err(|fault| of_file(file, fault))?;
        let transfer = taken.transfer.as_deref().and_then(|transfer| transfer.parse().ok());
        transfer.ok_or_else(|| usage(format!("{} holds no ask for a transfer", file.display())))
    }

    async fn referral(&self, task: ReferralTask) -> Result<(), CliError> {
        match task {
            ReferralTask::Make { patient, to, doctor, reason, days } => {
                let operation = Operation::ReferralMake { patient, destination: to, doctor, reason, days };
                let made: ReferralShown = self.call(operation, "").await?;
                self.output.emit("handover/referral/1", &made, |out| show::referral(out, &made))
            }
            ReferralTask::List => {
                let listed: ReferralsListed = self.call(Operation::ReferralList, "").await?;
                self.output.emit("handover/referrals/1", &listed, |out| show::referrals(out, &listed))
            }
            ReferralTask::Withdraw { patient, to } => {
                let operation = Operation::ReferralWithdraw { patient, destination: to };
                let gone: ReferralWithdrawn = self.call(operation, "").await?;
                self.output.emit("handover/referral-withdrawn/1", &gone, |out| show::withdrawn(out, &gone))
            }
        }
    }

    async fn recall(&self, task: RecallTask) -> Result<(), CliError> {
        match task {
            RecallTask::Make { patient, records, reason, transfer, preview } => {
                let operation = Operation::RecallMake { patient, records, reason, transfer, preview };
                let made: RecallMade = self.call(operation, "").await?;
                self.output.emit("handover/recall/1", &made, |out| show::recall_made(out, &made))
            }
            RecallTask::List => {
                let listed: RecallsListed = self.call(Operation::RecallList, "").await?;
                self.output.emit("handover/recalls/1", &listed, |out| show::recalls(out, &listed))
            }
        }
    }

    async fn epoch(&self, task: EpochTask) -> Result<(), CliError> {
        match task {
            EpochTask::List => {
                let listed: EpochsListed = self.call(Operation::EpochList, "").await?;
                self.output.emit("handover/epochs/1", &listed, |out| show::epochs(out, &listed))
            }
            EpochTask::Rotate { give_up_damaged } => {
                let operation = Operation::EpochRotate { give_up_damaged };
                let rotated: EpochRotated = self.call(operation, "Rotate").await?;
                self.output.emit("handover/epoch-rotated/1", &rotated, |out| show::rotated(out, &rotated))
            }
        }
    }

    async fn check(&self) -> Result<(), CliError> {
        let checked: Checked = self.call(Operation::Check, "Check").await?;
        self.output.emit("handover/check/1", &checked, |out| show::checked(out, &checked))?;
        if checked.whole { Ok(()) } else { Err(CliError::new(Code::StoreDamaged, "see the report")) }
    }

    fn verify(&self, file: &Path) -> Result<(), CliError> {
        verify_file(file, &self.config.root, self.output, &Ed25519)
    }
}

fn ms(wait: Duration) -> u64 {
    u64::try_from(wait.as_millis()).unwrap_or(u64::MAX)
}

fn signals(error: std::io::Error) -> CliError {
    CliError::new(Code::Internal, format!("signals: {error}"))
}

/// The running node may have another working folder.
fn absolute(path: &Path) -> Result<PathBuf, CliError> {
    std::path::absolute(path).map_err(|error| usage(format!("{}: {error}", path.display())))
}

fn day(option: &str, text: Option<String>) -> Result<Option<i64>, CliError> {
    let Some(text) = text else { return Ok(None) };
    let instant = crate::import::timestamp(&text).map(Timestamp::as_millis);
    instant.map(Some).ok_or_else(|| usage(format!("{option}: a day is written YYYY-MM-DD")))
}

/// Names the file that was refused.
fn of_file(file: &Path, fault: CliError) -> CliError {
    let colon = if fault.detail.is_empty() { "" } else { ": " };
    CliError { detail: format!("{}{colon}{}", file.display(), fault.detail), ..fault }
}

/// A patient's file as hexadecimal digits.
fn carried_file(file: &Path) -> Result<String, CliError> {
    let fault = |reason: String| usage(format!("{}: {reason}", file.display()));
    let length = fs::metadata(file).map_err(|error| fault(error.to_string()))?.len();
    if length > CARRIED_MAX_BYTES {
        return Err(CliError::new(Code::TooLarge, file.display().to_string()));
    }
    Ok(hex::encode(fs::read(file).map_err(|error| fault(error.to_string()))?))
}

/// Writes what came as hexadecimal digits.
fn write_file(path: &Path, digits: &str) -> Result<(), CliError> {
    let bytes = hex::decode(digits).map_err(|_| CliError::new(Code::Internal, "the answer was cut"))?;
    fs::write(path, bytes)
        .map_err(|error| CliError::new(Code::UsageInvalid, format!("{}: {error}", path.display())))
}
