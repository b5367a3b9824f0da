//! Processes: commands that answer, and daemons that run until they are told to stop.
//!
//! Invariants: nothing is waited for without a limit; no process outlives its [`Daemon`] unless it is let go; what a
//! process says on stderr goes to a file that errors name. Must not know what the programs do.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use serde_json::Value;

use crate::json;
use crate::signals::{self, Signal};

/// How long a command may take that is not told how long to wait itself.
const CALL_LIMIT: Duration = Duration::from_secs(180);
/// How long a daemon may take until it is ready.
const READY_LIMIT: Duration = Duration::from_secs(60);
/// The exit code of a server whose store failed, or is another's.
const STORE_FAILED: i32 = 3;
/// How long a daemon may take to stop.
const STOP_LIMIT: Duration = Duration::from_secs(30);
/// How long a port that somebody else has is waited for, and how often it is tried.
const PORT_LIMIT: Duration = Duration::from_secs(30);
const PORT_PAUSE: Duration = Duration::from_millis(500);
/// Lines of a log that an error shows.
const LOG_LINES: usize = 12;
/// The schema of a problem on stderr.
const PROBLEM_SCHEMA: &str = "handover/problem/1";

/// The processes that run now, by their identifiers.
static RUNNING: Mutex<Vec<u32>> = Mutex::new(Vec::new());

fn running() -> MutexGuard<'static, Vec<u32>> {
    RUNNING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Kills every process that this one started and that still runs: for a handler of Ctrl-C.
pub fn kill_all() {
    for pid in std::mem::take(&mut *running()) {
        signal(pid, Signal::KILL);
    }
}

fn signal(pid: u32, signal: Signal) {
    // A process that is gone already needs no signal.
    let _ = signals::send(pid, signal);
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
        signal(pid, Signal::KILL);
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

fn is_taken(fault: &anyhow::Error) -> bool {
    format!("{fault:#}").contains("Address already in use")
}

/// A process that runs until it is told to stop.
#[derive(Debug)]
pub struct Daemon {
    name: String,
    log: PathBuf,
    child: Option<Child>,
    /// What it says on stdout, line by line.
    lines: Mutex<mpsc::Receiver<std::io::Result<String>>>,
    /// What it said when it was ready.
    pub ready: Value,
}

impl Daemon {
    /// Starts it and waits for its ready line. `apart`: in a process group of its own, to outlive this process.
    ///
    /// # Errors
    /// It ends, or is not ready within `READY_LIMIT`; the end of its log is shown.
    pub fn start(name: &str, command: Command, log: &Path, apart: bool) -> Result<Self> {
        let mut daemon = Self::launch(name, command, log, apart)?;
        daemon.ready = daemon.says("ready")?;
        Ok(daemon)
    }

    /// Starts it where it listened before. While it was down its port may have become that of somebody's connection: that
    /// passes. Its log has every try.
    ///
    /// # Errors
    /// As [`Daemon::start`].
    pub fn start_again(name: &str, command: impl Fn() -> Command, log: &Path, apart: bool) -> Result<Self> {
        let begun = Instant::now();
        loop {
            match Self::start(name, command(), log, apart) {
                Err(fault) if is_taken(&fault) && begun.elapsed() < PORT_LIMIT => thread::sleep(PORT_PAUSE),
                started => return started,
            }
        }
    }

    /// Starts it and waits until it says that it stands by.
    ///
    /// # Errors
    /// As [`Daemon::start`].
    pub fn stand_by(name: &str, command: Command, log: &Path, apart: bool) -> Result<Self> {
        let mut daemon = Self::launch(name, command, log, apart)?;
        daemon.says("standing_by")?;
        Ok(daemon)
    }

    fn launch(name: &str, mut command: Command, log: &Path, apart: bool) -> Result<Self> {
        let stderr = File::options().create(true).append(true).open(log);
        let stderr = stderr.with_context(|| format!("{} cannot be written", log.display()))?;
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(stderr);
        if apart {
            command.process_group(0);
        }
        let mut child = command.spawn().with_context(|| format!("cannot be started: {}", shown(&command)))?;
        running().push(child.id());
        let stdout = child.stdout.take();
        let (sender, lines) = mpsc::channel();
        let lines = Mutex::new(lines);
        let daemon = Self {
            name: name.to_owned(),
            log: log.to_owned(),
            child: Some(child),
            lines,
            ready: Value::Null,
        };
        let stdout = stdout.context("no pipe from its stdout")?;
        thread::spawn(move || {
            // Read on, so that it never waits for a reader.
            for line in BufReader::new(stdout).lines() {
                let _ = sender.send(line);
            }
        });
        Ok(daemon)
    }

    /// Waits for its next line, which has to say this.
    fn says(&mut self, what: &str) -> Result<Value> {
        let (name, log) = (&self.name, &self.log);
        let line = self.lines.get_mut().unwrap_or_else(PoisonError::into_inner).recv_timeout(READY_LIMIT);
        if matches!(line, Err(mpsc::RecvTimeoutError::Timeout)) {
            bail!("{name} was not {what} within {} s; its log: {}", READY_LIMIT.as_secs(), log.display());
        }
        let line = line.unwrap_or_else(|_| Ok(String::new()))?;
        let said = serde_json::from_str(&line).ok().filter(|said: &Value| json::at(said, what) == true);
        said.with_context(|| {
            let (log, tail) = (log.display(), tail(log));
            format!("expected: {name} says {what}\n  came: {line:?}\n  its log {log}:\n{tail}")
        })
    }

    /// Whether one that stood by has said in the meantime that it is ready.
    ///
    /// # Errors
    /// It has ended.
    pub fn is_ready(&mut self) -> Result<bool> {
        while self.ready.is_null() {
            match self.lines.get_mut().unwrap_or_else(PoisonError::into_inner).try_recv() {
                Ok(line) => {
                    let said: Value = serde_json::from_str(&line?)?;
                    if json::at(&said, "ready") == true {
                        self.ready = said;
                    }
                }
                Err(mpsc::TryRecvError::Empty) => return Ok(false),
                Err(mpsc::TryRecvError::Disconnected) => {
                    bail!("{} has ended; its log {}:\n{}", self.name, self.log.display(), tail(&self.log))
                }
            }
        }
        Ok(true)
    }

    /// Waits until it has ended by itself; its exit code.
    ///
    /// # Errors
    /// It does not within `STOP_LIMIT`.
    pub fn ends(&mut self) -> Result<Option<i32>> {
        let Some(child) = self.child.take() else { bail!("{} was stopped before", self.name) };
        let status = waited(child)?;
        Ok(status.with_context(|| format!("{} does not end by itself", self.name))?.code())
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
        signal(pid, Signal::TERM);
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

    /// Kills it (SIGKILL) and waits until it is gone. One whose store failed, or is another's, ends by itself, and that
    /// is as good.
    ///
    /// # Errors
    /// It ended otherwise before.
    pub fn kill(&mut self) -> Result<()> {
        let Some(child) = self.child.take() else { return Ok(()) };
        signal(child.id(), Signal::KILL);
        let status = waited(child)?;
        match status.map(|status| (status.signal(), status.code())) {
            Some((Some(9), _) | (_, Some(STORE_FAILED))) => Ok(()),
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
        signal(pid, Signal::KILL);
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

    #[test]
    fn a_port_that_somebody_has_for_a_moment_is_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let (log, mark) = (folder.path().join("log"), folder.path().join("mark"));
        let script = format!(
            "if [ -e {0} ]; then echo '{{\"ready\":true}}'; exec sleep 60; else touch {0}; echo 'Address already in use' >&2; fi",
            mark.display()
        );
        let mut daemon = Daemon::start_again("one", || shell(&script), &log, false).unwrap();
        daemon.kill().unwrap();
    }
}
