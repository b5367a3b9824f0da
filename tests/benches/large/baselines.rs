//! What the same bytes take by other means on the same loopback and disk.

use std::fs::{self, File};
use std::io;
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

const SSHD: &str = "/usr/sbin/sshd";
const READY_LIMIT: Duration = Duration::from_secs(10);

/// A file over TCP into another, and fdatasync: the floor of any durable copy without encryption and hashes.
pub(super) fn bare_tcp(from: &Path, to: &Path) -> Result<Duration> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let from = from.to_owned();
    let started = Instant::now();
    let sender = std::thread::spawn(move || -> Result<u64> {
        Ok(io::copy(&mut File::open(from)?, &mut TcpStream::connect(address)?)?)
    });
    let (mut stream, _) = listener.accept()?;
    let mut file = File::create(to)?;
    let copied = io::copy(&mut stream, &mut file)?;
    file.sync_data()?;
    let time = started.elapsed();
    let sent = sender.join().map_err(|_| anyhow::anyhow!("the sender ended early"))??;
    ensure!(sent == copied, "not everything arrived");
    fs::remove_file(to)?;
    Ok(time)
}

/// `scp` to a private sshd with throw-away keys, then a sync of that one file.
pub(super) fn scp(from: &Path, folder: &Path) -> Result<Duration> {
    ensure!(Path::new(SSHD).exists(), "{SSHD} is not there (Debian: openssh-server)");
    fs::create_dir_all(folder)?;
    let (host, user) = (folder.join("host"), folder.join("user"));
    for key in [&host, &user] {
        let mut make = Command::new("ssh-keygen");
        run(make.args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(key))?;
    }
    let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    // Where sshd drops its privileges; only root has to have it.
    let _ = fs::create_dir_all("/run/sshd");
    let mut daemon = Command::new(SSHD);
    daemon.args(["-D", "-e", "-f", "/dev/null", "-p", &port.to_string(), "-h"]).arg(&host);
    for setting in [
        "ListenAddress=127.0.0.1",
        "StrictModes=no",
        "UsePAM=no",
        "PidFile=none",
        "Subsystem=sftp internal-sftp",
    ] {
        daemon.args(["-o", setting]);
    }
    daemon.arg("-o").arg(format!("AuthorizedKeysFile={}", user.with_extension("pub").display()));
    let log = File::create(folder.join("sshd.log"))?;
    let _running = Running(daemon.stdin(Stdio::null()).stderr(log).spawn().context("sshd")?);
    let ready = Instant::now();
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        ensure!(ready.elapsed() < READY_LIMIT, "sshd does not answer");
        std::thread::yield_now();
    }
    let to = folder.join("copy");
    let started = Instant::now();
    let mut copy = Command::new("scp");
    copy.args(["-q", "-c", "aes256-gcm@openssh.com", "-P", &port.to_string(), "-i"]).arg(&user);
    copy.args([
        "-o",
        "StrictHostKeyChecking=no",
        "-o",
        "UserKnownHostsFile=/dev/null",
        "-o",
        "LogLevel=ERROR",
    ]);
    run(copy.arg(from).arg(format!("127.0.0.1:{}", to.display())))?;
    File::open(&to)?.sync_all()?;
    let time = started.elapsed();
    ensure!(fs::metadata(&to)?.len() == fs::metadata(from)?.len(), "not everything arrived");
    fs::remove_file(to)?;
    Ok(time)
}

/// Ends with its owner.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn run(command: &mut Command) -> Result<()> {
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("{command:?}"))?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr).trim().to_owned());
    Ok(())
}
