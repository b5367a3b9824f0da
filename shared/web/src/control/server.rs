//! The serving side: bind, accept, one request a connection.

use std::{
    fs, io,
    os::unix::fs::{FileTypeExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use handover_core::Code;
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, BufReader},
    net::{
        UnixListener, UnixSocket, UnixStream,
        unix::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::{Semaphore, mpsc},
    task::JoinHandle,
    time::{sleep, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    ControlError, Handler, Line, LineError, MAX_ANSWER_BYTES, MAX_REQUEST_BYTES, Problem, read_line,
};

/// Requests under way at one time; more wait in the system's queue.
const MAX_CONNECTIONS: usize = 32;
/// Connections that may wait to be accepted.
const BACKLOG: u32 = 64;
/// Events that may wait for a slow client before the handler waits too.
const MAX_EVENTS: usize = 64;
/// For the request line to arrive, and for each line to be taken.
const LINE_TIMEOUT_MS: u64 = 10_000;
/// For running requests to finish after the stop.
const DRAIN_MS: u64 = 5_000;
/// Pause after a failed accept, so that the loop does not spin.
const ACCEPT_PAUSE_MS: u64 = 100;

/// Serves the control socket at `path` until `shutdown`; running requests then have five seconds to finish. A socket
/// that a killed process left behind is replaced.
///
/// # Errors
/// Somebody already answers there, something else is there, or the socket cannot be made.
pub async fn serve(
    path: PathBuf,
    handler: Arc<dyn Handler>,
    shutdown: CancellationToken,
) -> Result<JoinHandle<()>, ControlError> {
    remove_stale(&path).await?;
    let listener = bind(&path).map_err(|source| ControlError::Socket { path: path.clone(), source })?;
    Ok(tokio::spawn(async move {
        run(&listener, handler, &shutdown).await;
        drop(listener);
        if let Err(error) = fs::remove_file(&path) {
            tracing::warn!(%error, "the control socket could not be removed");
        }
    }))
}

/// The mode is set between bind and listen: until then nobody can connect.
fn bind(path: &Path) -> io::Result<UnixListener> {
    let socket = UnixSocket::new_stream()?;
    socket.bind(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
    socket.listen(BACKLOG)
}

async fn remove_stale(path: &Path) -> Result<(), ControlError> {
    let socket = |source| ControlError::Socket { path: path.to_owned(), source };
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(socket(error)),
        Ok(metadata) if !metadata.file_type().is_socket() => {
            return Err(ControlError::NotASocket { path: path.to_owned() });
        }
        Ok(_) => {}
    }
    match UnixStream::connect(path).await {
        Ok(_) => Err(ControlError::AlreadyRunning { path: path.to_owned() }),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            fs::remove_file(path).map_err(socket)
        }
        Err(error) => Err(socket(error)),
    }
}

async fn run(listener: &UnixListener, handler: Arc<dyn Handler>, shutdown: &CancellationToken) {
    let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let requests = TaskTracker::new();
    let cut = CancellationToken::new();
    loop {
        let accept = async {
            let permit = Arc::clone(&slots).acquire_owned().await;
            (permit, listener.accept().await)
        };
        let (permit, accepted) = tokio::select! {
            biased;
            () = shutdown.cancelled() => break,
            next = accept => next,
        };
        match accepted {
            Ok((stream, _)) => {
                let handler = Arc::clone(&handler);
                let cut = cut.clone();
                requests.spawn(async move {
                    tokio::select! {
                        () = cut.cancelled() => {}
                        () = connection(stream, &*handler) => {}
                    }
                    drop(permit);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "a control connection could not be accepted");
                sleep(Duration::from_millis(ACCEPT_PAUSE_MS)).await;
            }
        }
    }
    requests.close();
    if timeout(Duration::from_millis(DRAIN_MS), requests.wait()).await.is_err() {
        tracing::warn!("control requests did not end within the limit and were cut");
        cut.cancel();
        requests.wait().await;
    }
}

async fn connection(stream: UnixStream, handler: &dyn Handler) {
    let (reader, mut writer) = stream.into_split();
    let mut reader = BufReader::new(reader);
    let line =
        timeout(Duration::from_millis(LINE_TIMEOUT_MS), read_line(&mut reader, MAX_REQUEST_BYTES)).await;
    let request = match line {
        Ok(Ok(Some(line))) => serde_json::from_slice(&line).map_err(|_| Code::Malformed),
        Ok(Err(LineError::TooLarge)) => Err(Code::TooLarge),
        Err(_) => Err(Code::TimedOut),
        // Whoever connects and goes (a start that looks for a living server does) wants no answer.
        Ok(Ok(None) | Err(_)) => return,
    };
    let answered = match request {
        Ok(request) => tokio::select! {
            answered = answer(request, handler, &mut writer) => answered,
            () = gone(reader) => return tracing::debug!("a control client went away; its request was cancelled"),
        },
        Err(code) => write_line(&mut writer, &outcome(Err(code.into()))).await,
    };
    if let Err(error) = answered {
        tracing::debug!(%error, "a control client did not take its answer");
    }
}

/// Ends when the client has closed its side. What it sends beyond its one line is thrown away.
async fn gone(mut reader: BufReader<OwnedReadHalf>) {
    let mut scrap = [0; 1024];
    while !matches!(reader.read(&mut scrap).await, Ok(0) | Err(_)) {}
}

/// Runs the handler and writes events as they come, all of them before the outcome.
async fn answer(request: Value, handler: &dyn Handler, writer: &mut OwnedWriteHalf) -> io::Result<()> {
    let (sender, mut events) = mpsc::channel(MAX_EVENTS);
    let mut work = handler.handle(request, sender);
    let finished = loop {
        tokio::select! {
            biased;
            Some(event) = events.recv() => write_line(writer, &Line::Event(event)).await?,
            finished = &mut work => break finished,
        }
    };
    // A task that the handler started may still hold a sender: only what is already there is waited for.
    events.close();
    while let Some(event) = events.recv().await {
        write_line(writer, &Line::Event(event)).await?;
    }
    write_line(writer, &outcome(finished)).await
}

fn outcome(finished: Result<Value, Problem>) -> Line {
    match finished {
        Ok(result) => Line::Result(result),
        Err(Problem { code, detail }) => Line::Problem { code: code.to_string(), detail },
    }
}

async fn write_line(writer: &mut OwnedWriteHalf, line: &Line) -> io::Result<()> {
    let mut bytes = serde_json::to_vec(line)?;
    bytes.push(b'\n');
    if bytes.len() > MAX_ANSWER_BYTES {
        bytes = serde_json::to_vec(&outcome(Err(Code::TooLarge.into())))?;
        bytes.push(b'\n');
    }
    timeout(Duration::from_millis(LINE_TIMEOUT_MS), writer.write_all(&bytes))
        .await
        .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
}
