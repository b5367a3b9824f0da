//! What every command needs: where the data is, the passphrase, and the way to whoever performs an operation.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use handover_cli::{CliError, Output};
use handover_core::Code;
use handover_core::id::SigningPublic;
use handover_seal::SigningKey;
use handover_store::Store;
use handover_web::control::{ControlError, call};
use serde::de::DeserializeOwned;
use serde_json::Value;
use zeroize::Zeroizing;

use super::Common;
use crate::config::Config;
use crate::desk::{Desk, Edge};
use crate::keys::{IndexKeys, KeyError, open_signing_key, write_signing_key};
use crate::ops::{Command, Operations, OpsError};
use crate::service::{self, CONTROL_SOCKET, IndexError};

/// The most bytes of a request or certificate file.
const MAX_FILE_BYTES: u64 = 64 * 1024;

/// A command's surroundings.
pub(super) struct Context {
    common: Common,
    pub(super) output: Output,
    pub(super) edge: Edge,
}

impl From<KeyError> for CliError {
    fn from(fault: KeyError) -> Self {
        Self::new(fault.code(), fault.to_string())
    }
}

impl From<IndexError> for CliError {
    fn from(fault: IndexError) -> Self {
        Self::new(fault.code(), fault.to_string())
    }
}

impl From<OpsError> for CliError {
    fn from(fault: OpsError) -> Self {
        Self::new(fault.code(), fault.to_string())
    }
}

/// A fault of a file that the command was given.
pub(super) fn file_fault(path: &Path, why: impl std::fmt::Display) -> CliError {
    CliError::new(Code::UsageInvalid, format!("{}: {why}", path.display()))
}

/// Reads a request or certificate.
pub(super) fn read_file(path: &Path) -> Result<Vec<u8>, CliError> {
    let length = fs::metadata(path).map_err(|error| file_fault(path, error))?.len();
    if length > MAX_FILE_BYTES {
        return Err(file_fault(path, "is larger than any request or certificate"));
    }
    fs::read(path).map_err(|error| file_fault(path, error))
}

/// Writes a request or certificate: nothing secret, and durable, because the index's own certificate is one.
pub(super) fn write_file(path: &Path, bytes: &[u8]) -> Result<(), CliError> {
    let write = || {
        let mut file = fs::File::create(path)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        fs::File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
    };
    write().map_err(|error: std::io::Error| file_fault(path, error))
}

impl Context {
    pub(super) fn new(common: Common) -> Self {
        let output = Output { json: common.json };
        Self { common, output, edge: Edge::system() }
    }

    /// The same with another passphrase's file, if one was named.
    pub(super) fn with_passphrase_file(mut self, named: Option<PathBuf>) -> Self {
        self.common.passphrase_file = named.or(self.common.passphrase_file);
        self
    }

    /// The configuration, if one was named.
    pub(super) fn config_if_any(&self) -> Result<Option<Config>, CliError> {
        let Some(path) = &self.common.config else { return Ok(None) };
        let mut config = Config::load(path)?;
        if let Some(data) = &self.common.data {
            if config.shared == config.data {
                config.shared.clone_from(data);
            }
            config.data.clone_from(data);
        }
        Ok(Some(config))
    }

    /// The configuration, for commands that need one.
    pub(super) fn config(&self) -> Result<Config, CliError> {
        self.config_if_any()?.ok_or_else(|| {
            CliError::new(Code::UsageInvalid, "this needs the configuration: give --config FILE")
        })
    }

    /// The data folder.
    pub(super) fn data(&self) -> Result<PathBuf, CliError> {
        if let Some(data) = &self.common.data {
            return Ok(data.clone());
        }
        self.config_if_any()?
            .map(|config| config.data)
            .ok_or_else(|| CliError::new(Code::UsageInvalid, "give --data DIR or --config FILE"))
    }

    /// The root's public key: named, or the configuration's.
    pub(super) fn root(&self, named: Option<SigningPublic>) -> Result<SigningPublic, CliError> {
        match named {
            Some(root) => Ok(root),
            None => Ok(self.config()?.root),
        }
    }

    /// The passphrase of an existing key.
    pub(super) fn passphrase(&self, prompt: &str) -> Result<Zeroizing<String>, CliError> {
        handover_cli::passphrase(self.common.passphrase_file.as_deref(), prompt)
    }

    /// The passphrase of a key that is being made.
    pub(super) fn new_passphrase(&self, prompt: &str) -> Result<Zeroizing<String>, CliError> {
        handover_cli::new_passphrase(self.common.passphrase_file.as_deref(), prompt)
    }

    /// The signing key in a file; one that is not there yet is made.
    pub(super) fn signing_key(&self, path: &Path, whose: &str) -> Result<SigningKey, CliError> {
        if path.exists() {
            let key = open_signing_key(path, &self.passphrase(&format!("Passphrase of {whose} key: "))?)?;
            self.output.note("The key is there already: nothing was changed.");
            return Ok(key);
        }
        let passphrase = self.new_passphrase(&format!("New passphrase of {whose} key: "))?;
        let mut random = (self.edge.random)();
        let key = SigningKey::generate(&mut *random);
        write_signing_key(path, &key, &passphrase, &mut *random)?;
        Ok(key)
    }

    /// Asks the running process to perform an operation, or performs it on the data folder.
    pub(super) fn perform<T: DeserializeOwned>(&self, command: &Command) -> Result<T, CliError> {
        let [answer] = <[T; 1]>::try_from(self.perform_all(std::slice::from_ref(command))?)
            .map_err(|_| CliError::from(Code::Internal))?;
        Ok(answer)
    }

    /// The same for several operations, one after another.
    pub(super) fn perform_all<T: DeserializeOwned>(&self, commands: &[Command]) -> Result<Vec<T>, CliError> {
        let runtime = runtime()?;
        let performer = runtime.block_on(Performer::find(self))?;
        let answers = runtime.block_on(async {
            let mut answers = Vec::with_capacity(commands.len());
            for command in commands {
                answers.push(performer.perform(command).await?);
            }
            Ok::<_, CliError>(answers)
        });
        runtime.block_on(performer.close());
        let read = |value| {
            serde_json::from_value(value)
                .map_err(|_| CliError::new(Code::Malformed, "the answer is of another version"))
        };
        answers?.into_iter().map(read).collect()
    }
}

/// A runtime for one command.
pub(super) fn runtime() -> Result<tokio::runtime::Runtime, CliError> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| CliError::new(Code::Internal, error.to_string()))
}

/// Who performs operations.
pub(super) enum Performer {
    /// A running process, by its control socket.
    Beside(PathBuf),
    /// This process, on the opened store.
    Alone(Box<(Operations, Store)>),
}

impl Performer {
    /// Whoever serves the data folder, else this process.
    pub(super) async fn find(context: &Context) -> Result<Self, CliError> {
        let data = context.data()?;
        let socket = data.join(CONTROL_SOCKET);
        if tokio::net::UnixStream::connect(&socket).await.is_ok() {
            return Ok(Self::Beside(socket));
        }
        let config = context.config()?;
        let keys = IndexKeys::open(&data, &context.passphrase("Passphrase of the index's keys: ")?)?;
        let seat = service::seat(&data, config.root, &keys, &context.edge)?;
        let store = service::open_store(&config, &keys).await.map_err(OpsError::from)?;
        let desk = Desk::open(store.clone(), seat, context.edge.clone()).await.map_err(OpsError::from)?;
        Ok(Self::Alone(Box::new((Operations::alone(desk, config.folders), store))))
    }

    pub(super) async fn perform(&self, command: &Command) -> Result<Value, CliError> {
        let request = serde_json::to_value(command)
            .map_err(|error| CliError::new(Code::Internal, error.to_string()))?;
        match self {
            Self::Beside(socket) => call(socket, &request, |_| {}).await.map_err(|fault| match fault {
                ControlError::Refused(problem) => {
                    CliError::new(problem.code, problem.detail.unwrap_or_default())
                }
                fault @ ControlError::Broken => CliError::new(fault.code(), fault.to_string())
                    .with_next("Look whether the index runs, then give the command again."),
                other => CliError::new(other.code(), other.to_string()),
            }),
            Self::Alone(alone) => {
                let command = serde_json::from_value(request).map_err(OpsError::Request)?;
                Ok(alone.0.perform(command).await?)
            }
        }
    }

    pub(super) async fn close(self) {
        if let Self::Alone(alone) = self {
            alone.1.close().await;
        }
    }
}
