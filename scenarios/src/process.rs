//! Processes: commands that answer, and daemons that run until they are told to stop.
//!
//! Invariants: nothing is waited for without a limit; no process outlives its [`Daemon`] unless it is let go; what a
//! process says on stderr goes to a file that errors name. Must not know what the programs do.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Mutex, MutexGuard, mpsc};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use serde_json::Value;

use crate::json;

/// How long a command may take that is not told how long to wait itself.
const CALL_LIMIT: Duration = Duration::from_secs(180);
/// How long a daemon may take until it is ready.
const READY_LIMIT: Duration = Duration::from_secs(60);
/// How long a daemon may take to stop.
const STOP_LIMIT: Duration = Duration::from_secs(30);
/// Lines of a log that an error shows.
const LOG_LINES: usize = 12;
/// The schema of a problem on stderr.
const PROBLEM_SCHEMA: &str = "handover/problem/1";

/// The processes that run now, by their identifiers.
static RUNNING: Mutex<Vec<u32>> = Mutex::new(Vec::new());

fn running() -> MutexGuard<'static, Vec<u32>> {
    RUNNING.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Kills every process that this one started and that still runs: for a handler of Ctrl-C.
pub fn kill_all() {
    for pid in std::mem::take(&mut *running()) {
        signal(pid, "-KILL");
    }
}

fn signal(pid: u32, name: &str) {
    // A process that is gone already needs no signal.
    let _ = Command::new("kill").args([name, &pid.to_string()]).stderr(Stdio::null()).status();
}

/// What a command said.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The command, for people.
    pub command: String,
    /// Its exit code; none if a signal ended it.
    pub exit: Option<i32>,
    /// What it wrote to stdout.
    pub stdout: Vec<u8>,
    /// What it wrote to stderr.
    pub stderr: String,
}

impl Answer {
    /// The JSON object on stdout of a command that was done.
    ///
    /// # Errors
    /// It was not done, or that is no JSON.
    pub fn json(&self) -> Result<Value> {
        self.done()?;
        serde_json::from_slice(&self.stdout).with_context(|| format!("no JSON from: {}", self.command))
    }

    /// # Errors
    /// The command was not done.
    pub fn done(&self) -> Result<()> {
        if self.exit == Some(0) {
            return Ok(());
        }
        bail!("expected: exit code 0\n  came: {}\n  from: {}", self.ended(), self.command)
    }

    /// The code of the problem that it reported with `--json`.
    #[must_use]
    pub fn problem(&self) -> Option<String> {
        let problem = self.stderr.lines().rev().find_map(|line| {
            let value: Value = serde_json::from_str(line).ok()?;
            (json::text(&value, "schema") == PROBLEM_SCHEMA).then_some(value)
        })?;
        json::at(&problem, "code").as_str().map(str::to_owned)
    }

    /// How it ended, for people.
    #[must_use]
    pub fn ended(&self) -> String {
        let code =
            self.exit.map_or_else(|| "ended by a signal".to_owned(), |code| format!("exit code {code}"));
        let lines: Vec<&str> = self.stderr.lines().rev().take(LOG_LINES).collect();
        let said: Vec<&str> = lines.into_iter().rev().collect();
        if said.is_empty() { code } else { format!("{code}: {}", said.join("\n    ")) }
    }
}

/// Runs a command to its end.
///
/// # Errors
/// It cannot be started, or does not end within `CALL_LIMIT`.
pub fn call(mut command: Command) -> Result<Answer> {
    let shown = shown(&command);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = command.spawn().with_context(|| format!("cannot be started: {shown}"))?;
    let pid = child.id();
    running().push(pid);
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || sender.send(child.wait_with_output()));
    let ended = receiver.recv_timeout(CALL_LIMIT);
    if ended.is_err() {
        signal(pid, "-KILL");
    }
    running().retain(|it| *it != pid);
    let output = ended.map_err(|_| anyhow!("no end within {} s: {shown}", CALL_LIMIT.as_secs()))??;
    Ok(Answer {
        command: shown,
        exit: output.status.code(),
        stdout: output.stdout,
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    })
}

fn shown(command: &Command) -> String {
    let program =
        Path::new(command.get_program()).file_name().unwrap_or_default().to_string_lossy().into_owned();
    let quoted = command.get_args().map(|argument| {
        let text = argument.to_string_lossy();
        if text.contains([' ', '"']) { format!("'{text}'") } else { text.into_owned() }
    });
    std::iter::once(program).chain(quoted).collect::<Vec<_>>().join(" ")
}

/// The command as a line that a shell takes.
pub(crate) fn pasted(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| quoted(&word.to_string_lossy())).collect::<Vec<_>>().join(" ")
}

fn quoted(word: &str) -> String {
    let is_plain = |it: char| it.is_ascii_alphanumeric() || "/._-+:=,@".contains(it);
    if !word.is_empty() && word.chars().all(is_plain) {
        return word.to_owned();
    }
    // Within single quotes a shell reads everything as it stands, only not a single quote.
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// A process that runs until it is told to stop.
#[derive(Debug)]
pub struct Daemon {
    name: String,
    log: PathBuf,
    child: Option<Child>,
    /// What it said when it was ready.
    pub ready: Value,
}

impl Daemon {
    /// Starts it and waits for its ready line. `apart`: in a process group of its own, to outlive this process.
    ///
    /// # Errors
    /// It ends, or is not ready within `READY_LIMIT`; the end of its log is shown.
    pub fn start(name: &str, mut command: Command, log: &Path, apart: bool) -> Result<Self> {
        let stderr = File::options().create(true).append(true).open(log);
        let stderr = stderr.with_context(|| format!("{} cannot be written", log.display()))?;
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(stderr);
        if apart {
            command.process_group(0);
        }
        let mut child = command.spawn().with_context(|| format!("cannot be started: {}", shown(&command)))?;
        running().push(child.id());
        let stdout = child.stdout.take();
        let mut daemon =
            Self { name: name.to_owned(), log: log.to_owned(), child: Some(child), ready: Value::Null };
        let stdout = stdout.context("no pipe from its stdout")?;
        let (sender, receiver) = mpsc::channel();
        thread::spawn(move || {
            let mut stdout = BufReader::new(stdout);
            let mut line = String::new();
            let read = stdout.read_line(&mut line).map(|_| line);
            // Read on, so that it never waits for a reader.
            if sender.send(read).is_ok() {
                let _ = stdout.read_to_end(&mut Vec::new());
            }
        });
        let line = receiver.recv_timeout(READY_LIMIT).map_err(|_| {
            anyhow!("{name} was not ready within {} s; its log: {}", READY_LIMIT.as_secs(), log.display())
        })??;
        daemon.ready = serde_json::from_str(&line)
            .ok()
            .filter(|ready: &Value| json::at(ready, "ready") == true)
            .with_context(|| {
                format!(
                    "expected: the ready line of {name}\n  came: {line:?}\n  its log {}:\n{}",
                    log.display(),
                    tail(log)
                )
            })?;
        Ok(daemon)
    }

    /// Its process identifier, while it runs.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// Where its stderr goes.
    #[must_use]
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// Asks it to stop (SIGTERM) and waits until it has.
    ///
    /// # Errors
    /// It did not stop within `STOP_LIMIT`, or not with exit code 0.
    pub fn stop(&mut self) -> Result<()> {
        let Some(child) = self.child.take() else { return Ok(()) };
        let pid = child.id();
        signal(pid, "-TERM");
        let status = waited(child)?;
        match status {
            Some(status) if status.success() => Ok(()),
            Some(status) => {
                bail!("{} ended with {status} when told to stop; its log: {}", self.name, self.log.display())
            }
            None => bail!(
                "{} did not stop within {} s; its log: {}",
                self.name,
                STOP_LIMIT.as_secs(),
                self.log.display()
            ),
        }
    }

    /// Kills it (SIGKILL) and waits until it is gone.
    ///
    /// # Errors
    /// It ended otherwise before.
    pub fn kill(&mut self) -> Result<()> {
        let Some(child) = self.child.take() else { return Ok(()) };
        signal(child.id(), "-KILL");
        let status = waited(child)?;
        match status.and_then(|status| status.signal()) {
            Some(9) => Ok(()),
            _ => bail!(
                "{} had ended by itself; its log {}:\n{}",
                self.name,
                self.log.display(),
                tail(&self.log)
            ),
        }
    }

    /// Lets it go on when this is dropped.
    pub fn let_go(&mut self) {
        if let Some(child) = self.child.take() {
            running().retain(|pid| *pid != child.id());
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
            running().retain(|pid| *pid != child.id());
        }
    }
}

/// The status of a process that was given a signal; none, and killed, when that takes too long.
fn waited(mut child: Child) -> Result<Option<ExitStatus>> {
    let pid = child.id();
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || sender.send(child.wait()));
    let ended = receiver.recv_timeout(STOP_LIMIT);
    if ended.is_err() {
        signal(pid, "-KILL");
    }
    running().retain(|it| *it != pid);
    Ok(ended.ok().transpose()?)
}

fn tail(log: &Path) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().rev().take(LOG_LINES).collect();
    lines.into_iter().rev().map(|line| format!("    {line}")).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn an_answer_tells_its_problem() {
        let answer = call(shell(
            "echo noise >&2; echo '{\"schema\":\"handover/problem/1\",\"code\":\"busy\"}' >&2; exit 4",
        ))
        .unwrap();
        assert_eq!((answer.exit, answer.problem().as_deref()), (Some(4), Some("busy")));
        let error = answer.json().unwrap_err().to_string();
        assert!(error.contains("exit code 4") && error.contains("noise"), "{error}");
        assert_eq!(call(shell("echo '{\"a\":1}'")).unwrap().json().unwrap()["a"], 1);
    }

    #[test]
    fn a_shell_takes_what_is_to_be_pasted() {
        let words = ["plain-1.0", "two words", "it's", "", "$HOME;*", "é"];
        let mut command = Command::new("printf");
        command.arg("%s\n").args(words);
        let answer = call(shell(&pasted(&command))).unwrap();
        assert_eq!(String::from_utf8(answer.stdout).unwrap(), words.map(|word| format!("{word}\n")).concat());
    }

    #[test]
    fn a_daemon_is_ready_stopped_and_killed() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("log");
        let script = "trap 'exit 0' TERM; echo '{\"ready\":true}'; while :; do sleep 0.01; done";
        let mut daemon = Daemon::start("one", shell(script), &log, false).unwrap();
        daemon.stop().unwrap();
        assert_eq!(daemon.pid(), None);
        let mut daemon = Daemon::start("two", shell(script), &log, false).unwrap();
        daemon.kill().unwrap();
        let error = Daemon::start("three", shell("echo broken >&2"), &log, false).unwrap_err();
        assert!(format!("{error:#}").contains("broken"));
    }
}
