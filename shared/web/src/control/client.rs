//! The asking side.

use std::{io, path::Path};

use handover_core::Code;
use serde_json::Value;
use tokio::{
    io::{AsyncWriteExt, BufReader},
    net::UnixStream,
};

use super::{ControlError, Line, LineError, MAX_ANSWER_BYTES, MAX_REQUEST_BYTES, Problem, read_line};

/// Sends one request to the process that serves `path` and waits for its outcome; `on_event` is called for each event
/// meanwhile. There is no limit of time here: dropping the future cancels the request.
///
/// # Errors
/// [`ControlError::NotRunning`] when nobody listens, [`ControlError::Refused`] with the process' own problem, else
/// what broke.
pub async fn call(
    path: &Path,
    request: &Value,
    mut on_event: impl FnMut(Value),
) -> Result<Value, ControlError> {
    let mut line = request.to_string().into_bytes();
    line.push(b'\n');
    if line.len() > MAX_REQUEST_BYTES {
        return Err(ControlError::TooLarge);
    }
    let stream = UnixStream::connect(path).await.map_err(|source| match source.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
            ControlError::NotRunning { path: path.to_owned() }
        }
        _ => ControlError::Socket { path: path.to_owned(), source },
    })?;
    let (reader, mut writer) = stream.into_split();
    writer.write_all(&line).await.map_err(|_| ControlError::Broken)?;
    let mut reader = BufReader::new(reader);
    loop {
        let line = match read_line(&mut reader, MAX_ANSWER_BYTES).await {
            Ok(Some(line)) => line,
            Err(LineError::TooLarge) => return Err(ControlError::TooLarge),
            Ok(None) | Err(_) => return Err(ControlError::Broken),
        };
        match serde_json::from_slice(&line).map_err(|_| ControlError::Broken)? {
            Line::Event(event) => on_event(event),
            Line::Result(result) => return Ok(result),
            Line::Problem { code, detail } => return Err(ControlError::Refused(known(&code, detail))),
        }
    }
}

/// A code that a newer process sent and this command does not know stands in the detail instead.
fn known(code: &str, detail: Option<String>) -> Problem {
    match code.parse() {
        Ok(code) => Problem { code, detail },
        Err(_) => {
            let detail = detail.map_or_else(|| code.to_owned(), |detail| format!("{code}: {detail}"));
            Problem { code: Code::Internal, detail: Some(detail) }
        }
    }
}
