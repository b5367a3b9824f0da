//! From a parsed command line to its outcome. Beside a running node, commands go through its control socket; else the
//! data folder is opened here and the same operation is carried out.

mod calling;
mod emergency;
mod fees;
mod files;
mod incidents;
mod keys;
mod moving;
mod patients;
mod remote;
mod repair;
mod transfers;

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use handover_cli::{CliError, Output, init_logging, new_passphrase, passphrase, verify_file};
use handover_core::Code;
use handover_core::time::Clock as _;
use handover_seal::{Ed25519, OsRandom, SystemClock};
use handover_web::TlsIdentity;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::args::{Arguments, EpochTask, Task};
use crate::config::{Config, usage};
use crate::enrol::Enrolled;
use crate::import::Imported;
use crate::keys::{Secrets, make_private_folder};
use crate::node::Node;
use crate::operations::{Checked, EpochRotated, EpochsListed, Operation, RejoinShown, StatusShown};
use crate::running::Running;
use crate::show;

/// What a person types a passphrase at.
const PROMPT: &str = "Passphrase of this node's keys: ";
/// For what is left to end at the end.
const END_LIMIT: Duration = Duration::from_secs(1);

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
        Task::Keys(task) => return console.keys(task),
        Task::Verify { file } => return console.verify(&file),
        _ => {}
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.map_err(|error| CliError::new(Code::Internal, error.to_string()))?;
    let outcome = runtime.block_on(console.command(arguments.command));
    // Nobody waits for what a store that failed still has under way.
    runtime.shutdown_timeout(END_LIMIT);
    outcome
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
            Task::Init | Task::Keys(_) | Task::Verify { .. } => Ok(()),
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
            Task::Fees(task) => self.fees(task).await,
            Task::Incident(task) => self.incident(task).await,
            Task::Clinician(task) => self.clinician(task).await,
            Task::BreakGlass(task) => self.break_glass(task).await,
            Task::Status => {
                let shown: StatusShown = self.call(Operation::Status, "").await?;
                self.output.emit("handover/status/1", &shown, |out| show::status(out, &shown))
            }
            Task::Rejoin => {
                let shown: Option<RejoinShown> = self.call(Operation::Rejoin, "").await?;
                self.output.emit("handover/rejoin/1", &shown, |out| {
                    shown.iter().try_for_each(|shown| show::rejoin(out, shown))
                })
            }
            Task::Check => self.check().await,
            Task::Repair { preview } => self.repair(preview).await,
            Task::Store(task) => self.store(task).await,
            Task::Blobs(task) => self.blobs(task).await,
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
        handover_cli::allow_open_files();
        let mut terminate = signal(SignalKind::terminate()).map_err(signals)?;
        let mut interrupt = signal(SignalKind::interrupt()).map_err(signals)?;
        let starting = async {
            let secret = passphrase(self.passphrase_file.as_deref(), PROMPT)?;
            let unlock = || Secrets::load(&self.config.keys_file(), &secret);
            let node = Node::open_or_stand_by(self.config.clone(), unlock).await?;
            Running::start(node).await
        };
        let running = tokio::select! {
            running = starting => running?,
            () = ended(&mut terminate, &mut interrupt) => {
                // Opening reads the whole store; left at any moment, it is taken back by the next one.
                tracing::info!("stopped before it was ready");
                return Ok(());
            }
        };
        let ready = serde_json::to_string(running.ready())
            .map_err(|error| CliError::new(Code::Internal, error.to_string()))?;
        let mut stdout = std::io::stdout().lock();
        let written = writeln!(stdout, "{ready}").and_then(|()| stdout.flush());
        drop(stdout);
        if let Err(error) = written {
            tracing::warn!(%error, "the ready line could not be written");
        }
        tokio::select! {
            () = ended(&mut terminate, &mut interrupt) => {}
            failure = running.failed() => return Err(CliError::new(failure.code(), failure.to_string())),
            code = running.other_keys_speak() => {
                tracing::warn!(%code, "the keys of this node do not speak for the hospital any more");
                running.stop().await;
                return Err(code.into());
            }
        }
        tracing::info!("stopping");
        running.stop().await;
        Ok(())
    }

    async fn open(&self) -> Result<std::sync::Arc<Node>, CliError> {
        Node::open(self.config.clone(), self.unlock()?).await
    }

    fn unlock(&self) -> Result<Secrets, CliError> {
        let secret = passphrase(self.passphrase_file.as_deref(), PROMPT)?;
        Secrets::load(&self.config.keys_file(), &secret)
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

/// Waits until it is told to end.
async fn ended(terminate: &mut Signal, interrupt: &mut Signal) {
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}

fn signals(error: std::io::Error) -> CliError {
    CliError::new(Code::Internal, format!("signals: {error}"))
}

/// The running node may have another working folder.
fn absolute(path: &Path) -> Result<PathBuf, CliError> {
    std::path::absolute(path).map_err(|error| usage(format!("{}: {error}", path.display())))
}
