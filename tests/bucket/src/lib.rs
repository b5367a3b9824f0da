//! An S3-compatible store for one test: a process of its own on loopback, behind a gate that can be closed and that cuts
//! connections. It keeps what it has in memory, so it is gone with its owner.
//!
//! Invariants: nothing of it is left when its owner is dropped or panics, and no process when its owner is killed. Where
//! the Python that serves it is missing, the test fails and says how to install it.

mod gate;
mod wire;

use std::fs::{self, File, Permissions};
use std::io::Write as _;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use tempfile::TempDir;

pub use crate::gate::Gate;

/// The bucket that is there from the beginning.
pub const BUCKET: &str = "handover";
/// What must be seen nowhere: the secret half of its key.
pub const SECRET: &str = "a-secret-that-nobody-tells";
/// How long the server may take until it answers.
const START_LIMIT: Duration = Duration::from_secs(90);
/// What it shows under TLS, and its key. For `localhost`, and for tests only.
pub const CERTIFICATE_PEM: &str = include_str!("../../keys/database.test-only.crt.pem");
const KEY_PEM: &str = include_str!("../../keys/database.test-only.key.pem");
/// Pause between two looks whether it does.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// A store with one bucket. Dropping it stops the server.
#[derive(Debug)]
pub struct Bucket {
    server: Server,
    gate: Gate,
    address: SocketAddr,
    folder: TempDir,
}

/// A server's process, killed with its owner.
#[derive(Debug)]
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Bucket {
    /// Starts a server with an empty bucket.
    ///
    /// # Errors
    /// Its Python is not installed, or it does not start.
    pub fn start() -> Result<Self> {
        let bucket = Self::serve(&[])?;
        bucket.request("PUT", "", b"")?;
        Ok(bucket)
    }

    /// The same under TLS, without a bucket, and to be asked by its users only.
    ///
    /// # Errors
    /// As [`Bucket::start`].
    pub fn start_with_tls() -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let (certificate, key) = (folder.path().join("server.crt"), folder.path().join("server.key"));
        fs::write(&certificate, CERTIFICATE_PEM)?;
        fs::write(&key, KEY_PEM)?;
        let certificate = format!("--ssl-cert={}", certificate.display());
        Self::serve(&["--ssl", &certificate, &format!("--ssl-key={}", key.display())])
    }

    fn serve(more: &[&str]) -> Result<Self> {
        let python = python()?;
        let folder = tempfile::Builder::new().prefix("handover-bucket-").tempdir()?;
        let log = folder.path().join("log");
        let mut server = Server(spawn(python, more, File::create(&log)?)?);
        let end = Instant::now() + START_LIMIT;
        // It takes a port of its own, and says which once it has it.
        let address = loop {
            let said = fs::read_to_string(&log)?;
            if let Some(port) = said.split("://127.0.0.1:").nth(1).and_then(port) {
                break SocketAddr::from(([127, 0, 0, 1], port));
            }
            if server.0.try_wait()?.is_some() || Instant::now() > end {
                bail!("the S3 server does not start: {said}");
            }
            thread::sleep(LOOK_AGAIN);
        };
        let bucket = Self { server, gate: Gate::before(address)?, address, folder };
        bucket.write(
            "credentials",
            &format!("aws_access_key_id = tester\naws_secret_access_key = {SECRET}\n"),
        )?;
        Ok(bucket)
    }

    /// What stands between it and who uses it.
    #[must_use]
    pub const fn gate(&self) -> &Gate {
        &self.gate
    }

    /// Its URL, through the gate.
    #[must_use]
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.gate.address())
    }

    /// The private file with its key.
    #[must_use]
    pub fn credentials(&self) -> PathBuf {
        self.folder.path().join("credentials")
    }

    /// What a configuration says of it; `place` is where the blobs are, `bucket` or still `folder`.
    #[must_use]
    pub fn toml(&self, place: &str, prefix: &str) -> String {
        let (endpoint, credentials) = (self.endpoint(), self.credentials());
        format!(
            "\n[blobs]\nplace = {place:?}\nendpoint = {endpoint:?}\nbucket = {BUCKET:?}\nprefix = {prefix:?}\n\
             credentials_file = {credentials:?}\n"
        )
    }

    /// The names of all objects that begin like that.
    ///
    /// # Errors
    /// It does not answer.
    pub fn names(&self, prefix: &str) -> Result<Vec<String>> {
        let listed = self.request("GET", &format!("?list-type=2&prefix={prefix}"), b"")?;
        let listed = String::from_utf8(listed)?;
        let keys = listed.split("<Key>").skip(1).filter_map(|rest| rest.split("</Key>").next());
        Ok(keys.map(str::to_owned).collect())
    }

    /// The uploads in parts that are under way.
    ///
    /// # Errors
    /// It does not answer.
    pub fn uploads(&self) -> Result<usize> {
        let listed = String::from_utf8(self.request("GET", "?uploads", b"")?)?;
        Ok(listed.matches("<UploadId>").count())
    }

    /// Begins an upload in parts; its number.
    ///
    /// # Errors
    /// It does not answer.
    pub fn begin_upload(&self, name: &str) -> Result<String> {
        let begun = String::from_utf8(self.request("POST", &format!("/{name}?uploads"), b"")?)?;
        let id = begun.split("<UploadId>").nth(1).and_then(|rest| rest.split("</UploadId>").next());
        id.map(str::to_owned).context("no upload was begun")
    }

    /// An object's content.
    ///
    /// # Errors
    /// There is none.
    pub fn read(&self, name: &str) -> Result<Vec<u8>> {
        self.request("GET", &format!("/{name}"), b"")
    }

    /// Puts other content in an object's place.
    ///
    /// # Errors
    /// It does not answer.
    pub fn replace(&self, name: &str, content: &[u8]) -> Result<()> {
        self.request("PUT", &format!("/{name}"), content).map(drop)
    }

    /// Takes an object away.
    ///
    /// # Errors
    /// It does not answer.
    pub fn remove(&self, name: &str) -> Result<()> {
        self.request("DELETE", &format!("/{name}"), b"").map(drop)
    }

    /// Asks the server itself, past the gate.
    fn request(&self, method: &str, what: &str, content: &[u8]) -> Result<Vec<u8>> {
        wire::ask(self.address, method, &format!("/{BUCKET}{what}"), content)
    }

    fn write(&self, name: &str, text: &str) -> Result<()> {
        let path = self.folder.path().join(name);
        let mut file = File::create(&path)?;
        fs::set_permissions(&path, Permissions::from_mode(0o600))?;
        file.write_all(text.as_bytes())?;
        Ok(())
    }

    /// The server's process.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.server.0.id()
    }
}

/// The number that a text begins with, once something follows it.
fn port(text: &str) -> Option<u16> {
    text.split_once(|next: char| !next.is_ascii_digit())?.0.parse().ok()
}

/// Starts it from a thread that stays: the system takes a thread's end for its parent's death.
fn spawn(python: PathBuf, more: &[&str], log: File) -> Result<Child> {
    let more: Vec<String> = more.iter().map(|&word| word.to_owned()).collect();
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let spawned = log.try_clone().and_then(|again| {
            Command::new("setpriv")
                .args(["--pdeathsig", "KILL", "--"])
                .arg(python)
                .args(["-m", "moto.server", "-H", "127.0.0.1", "-p", "0"])
                .args(more)
                .stdin(Stdio::null())
                .stdout(again)
                .stderr(log)
                .spawn()
        });
        if sender.send(spawned).is_ok() {
            loop {
                thread::park();
            }
        }
    });
    receiver.recv()?.context("the S3 server cannot be started")
}

/// The Python that has the server's library.
fn python() -> Result<PathBuf> {
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.venv/bin/python");
    let python = std::env::var_os("HANDOVER_PYTHON").map_or(own, PathBuf::from);
    let found = Command::new(&python).args(["-c", "import moto.server"]).output();
    ensure!(
        found.is_ok_and(|found| found.status.success()),
        "{} has no moto, and this test needs it: run tests/run, which installs it, or install \
         tests/bucket/requirements.txt with pip and name that Python in HANDOVER_PYTHON",
        python.display()
    );
    Ok(python)
}
