//! The control socket: how a command talks to the process that runs beside it, over a Unix socket of mode 0600.
//!
//! One request a connection, newline-delimited JSON: the client sends one line, the server writes any number of
//! `{"event": …}` lines and then one `{"result": …}` or `{"problem": {"code", "detail"}}`.
//!
//! Invariants: the mode is set before the socket listens; lines, connections and waiting are bounded; a client that
//! goes away (or closes its sending side) cancels its request by dropping the handler's future. Who may open the
//! socket is the data folder's owner: there is no other right to check here.

mod client;
mod server;
mod standing;

use std::{io, path::PathBuf};

use handover_core::Code;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::{
    io::{AsyncBufRead, AsyncBufReadExt, AsyncReadExt},
    sync::mpsc,
};

pub use client::call;
pub use server::serve;
pub use standing::stands_by;

/// Bytes of a request line.
pub const MAX_REQUEST_BYTES: usize = 1024 * 1024;
/// Bytes of an event or result line.
pub const MAX_ANSWER_BYTES: usize = 16 * 1024 * 1024;

/// What answers requests.
#[async_trait::async_trait]
pub trait Handler: Send + Sync + 'static {
    /// Answers one request; `events` reach the client while it works. The future is dropped when the client goes
    /// away: what must not stop half way runs in a task of its own.
    ///
    /// # Errors
    /// A problem, which the client shows to the person at the terminal.
    async fn handle(&self, request: Value, events: mpsc::Sender<Value>) -> Result<Value, Problem>;
}

/// Why a request was not done. `detail` is for the operator of this very process: identifiers and reasons, no
/// secrets, no patient data.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{code}")]
pub struct Problem {
    /// The stable code.
    pub code: Code,
    /// What exactly, if more can be said.
    pub detail: Option<String>,
}

impl From<Code> for Problem {
    fn from(code: Code) -> Self {
        Self { code, detail: None }
    }
}

/// Why the control socket cannot be served or asked.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// Nobody listens: the process does not run.
    #[error("no running process answers at {path}")]
    NotRunning {
        /// The socket.
        path: PathBuf,
    },
    /// Another process already serves this socket.
    #[error("a running process already answers at {path}")]
    AlreadyRunning {
        /// The socket.
        path: PathBuf,
    },
    /// Something else than a socket is in its place.
    #[error("{path} is not a socket")]
    NotASocket {
        /// The path.
        path: PathBuf,
    },
    /// The running process said no.
    #[error("refused: {0}")]
    Refused(Problem),
    /// More bytes than a line may have.
    #[error("the message is larger than is accepted")]
    TooLarge,
    /// The other side broke off or wrote what is no answer.
    #[error("the running process broke off without an answer")]
    Broken,
    /// The socket cannot be made or used (a path over about 100 bytes is one reason).
    #[error("cannot use the socket {path}")]
    Socket {
        /// The socket.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl ControlError {
    /// The stable code.
    #[must_use]
    pub const fn code(&self) -> Code {
        match self {
            Self::NotRunning { .. } | Self::Broken => Code::Unreachable,
            Self::AlreadyRunning { .. } | Self::NotASocket { .. } | Self::Socket { .. } => {
                Code::StoreUnavailable
            }
            Self::Refused(problem) => problem.code,
            Self::TooLarge => Code::TooLarge,
        }
    }
}

/// A line from the server.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Line {
    Event(Value),
    Result(Value),
    Problem {
        code: String,
        #[serde(default)]
        detail: Option<String>,
    },
}

/// Reads a line of at most `max_bytes` (the newline included). `None` at the end of the stream.
async fn read_line(
    reader: &mut (impl AsyncBufRead + Unpin),
    max_bytes: usize,
) -> Result<Option<Vec<u8>>, LineError> {
    let mut line = Vec::new();
    let read_bytes = reader.take(max_bytes as u64).read_until(b'\n', &mut line).await?;
    match line.last() {
        None => Ok(None),
        Some(b'\n') => Ok(Some(line)),
        Some(_) if read_bytes >= max_bytes => Err(LineError::TooLarge),
        Some(_) => Err(LineError::BrokenOff),
    }
}

#[derive(Debug, thiserror::Error)]
enum LineError {
    #[error("the line is too long")]
    TooLarge,
    #[error("the line broke off")]
    BrokenOff,
    #[error("the stream failed")]
    Stream(#[from] io::Error),
}

#[cfg(test)]
mod tests;
