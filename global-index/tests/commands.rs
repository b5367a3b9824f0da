//! The program itself: every command as a person gives it, beside a running process and without one.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "tests and their helpers"
)]

mod common;

use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;

use common::Node;
use handover_core::Party;
use handover_core::id::SigningPublic;
use handover_net::Route;
use serde_json::Value;

struct Desk {
    folder: tempfile::TempDir,
}

impl Desk {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let passphrase = folder.path().join("passphrase");
        std::fs::write(&passphrase, "correct horse\n").unwrap();
        std::fs::set_permissions(&passphrase, std::fs::Permissions::from_mode(0o600)).unwrap();
        Self { folder }
    }

    /// A command without any passphrase.
    fn bare(&self, line: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_handover-index"));
        command.current_dir(self.folder.path()).args(line.split_whitespace());
        command.arg("--json").stdin(Stdio::null());
        command
    }

    fn command(&self, line: &str) -> Command {
        let mut command = self.bare(line);
        command.args(["--passphrase-file", "passphrase"]);
        command
    }

    fn run(&self, line: &str) -> Output {
        self.command(line).output().unwrap()
    }

    /// The data of a command that succeeds.
    fn data(&self, line: &str) -> Value {
        let output = self.run(line);
        let problem = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{line}: {problem}");
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// The data of a command that gives the same when it is repeated.
    fn twice(&self, line: &str) -> Value {
        let first = self.data(line);
        assert_eq!(self.data(line), first, "{line}");
        first
    }

    /// A command whose identity stands for other content: refused, and what differs is named.
    fn otherwise(&self, line: &str, differs: &str) {
        let output = self.run(line);
        let problem: Value = serde_json::from_slice(&output.stderr).unwrap();
        assert_eq!((output.status.code(), &problem["code"]), (Some(1), &Value::from("conflict")), "{line}");
        assert!(problem["detail"].as_str().unwrap().contains(differs), "{line}: {problem}");
    }

    /// Exit code and problem code of a command that does not.
    fn refusal(&self, line: &str) -> (i32, String) {
        let output = self.run(line);
        // Log lines may stand before it.
        let stderr = String::from_utf8(output.stderr).unwrap();
        let problem: Value = serde_json::from_str(stderr.lines().next_back().unwrap()).unwrap();
        (output.status.code().unwrap(), problem["code"].as_str().unwrap().to_owned())
    }
}

/// A running process, killed if the test ends early.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Running {
    fn start(desk: &Desk) -> (Self, Value) {
        let mut child = desk.command("run --config index.toml").stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        (Self(child), serde_json::from_str(&line).unwrap())
    }

    /// Asks it to end, and waits until it has.
    fn end(mut self) -> i32 {
        let pid = self.0.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
        self.0.wait().unwrap().code().unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_federation_is_founded_from_the_command_line() {
    let desk = Desk::new();
    let root = desk.data("root init --out root.key")["root"].as_str().unwrap().to_owned();
    assert_eq!(desk.data("root init --out root.key")["root"], root.as_str());
    let config = format!(
        "[index]\nname = \"index.test\"\ndata = \"data\"\nroot = \"{root}\"\n\
         [net]\nlisten = [\"/ip4/127.0.0.1/tcp/0\"]\n[web]\nlisten = \"127.0.0.1:0\"\n"
    );
    std::fs::write(desk.folder.path().join("index.toml"), config).unwrap();
    desk.twice("init --config index.toml");
    std::fs::write(desk.folder.path().join("none"), "").unwrap();
    let verified = desk.run("verify none --config index.toml");
    assert_eq!(verified.status.code(), Some(5), "the configured root is taken: {verified:?}");
    let own = "operator new --name kim --out kim.key --request-out kim.request --operator-passphrase-file";
    let mut own = desk.bare(&format!("{own} passphrase"));
    assert!(own.output().unwrap().status.success());
    desk.otherwise("init --config index.toml --name other", "--name: \"index.test\"");
    assert_eq!(desk.refusal("run --config index.toml"), (3, "config-invalid".to_owned()));
    desk.twice("root sign --root-key root.key --request data/index-request.cbor --out index.cert");
    desk.twice("init --certificate index.cert --config index.toml");
    for name in ["ann", "ben"] {
        let new =
            |called| format!("operator new --name {called} --out {name}.key --request-out {name}.request");
        desk.twice(&new(name));
        desk.otherwise(&new("eve"), "--name");
        // A key that was made without its request gets one.
        std::fs::remove_file(desk.folder.path().join(format!("{name}.request"))).unwrap();
        desk.twice(&new(name));
        let sign = format!("root sign --root-key root.key --request {name}.request --out {name}.cert");
        assert_eq!(desk.twice(&sign)["subject"], "operator");
        desk.otherwise(&format!("{sign} --days 7"), "--days");
        desk.otherwise(&sign.replace(&format!("{name}.cert"), "index.cert"), "subject, name, key");
        desk.twice(&format!("operator add --certificate {name}.cert --config index.toml"));
    }
    desk.data("root init --out other.key");
    let other = "root sign --root-key other.key --request ann.request --out ann.cert";
    desk.otherwise(other, "another root");

    let (running, ready) = Running::start(&desk);
    assert_eq!((&ready["ready"], &ready["role"]), (&Value::Bool(true), &Value::from("index")));
    assert!(Path::new(ready["control"].as_str().unwrap()).is_absolute());
    let schedule = |name| {
        format!(
            "schedule approve --preset percentage --operator-key {name}.key --operator-passphrase-file passphrase --data data"
        )
    };
    assert_eq!(desk.twice(&schedule("ann"))["outcome"], "pending");
    assert_eq!(desk.twice(&schedule("ben"))["outcome"], "effective");
    let again = desk.data(&schedule("ann"));
    assert_eq!(
        (&again["outcome"], &again["schedule"]["number"]),
        (&Value::from("effective"), &Value::from(1))
    );
    let shown = desk.data("schedule show --data data");
    assert_eq!((&shown["pending"], &shown["next"]), (&Value::Null, &Value::Null));
    let shown = &shown["in_force"];
    assert_eq!((&shown["rate_bps"], &shown["silence_ms"]), (&500.into(), &604_800_000.into()));
    assert_eq!((&shown["basis"], &shown["patient_pays"]), (&"tests-in-scope".into(), &true.into()));
    // A second operator who wants another silence period proposes, and approves nothing.
    for (name, days, outcome) in [("ann", 3, "pending"), ("ben", 2, "pending"), ("ann", 2, "effective")] {
        let own = format!("{} --jurisdiction US --silence-days {days}", schedule(name));
        assert_eq!(desk.data(&own)["outcome"], outcome, "{name} {days}");
    }
    // It follows the one for all, so hospitals have days to hear of it.
    let shown = desk.data("schedule show --jurisdiction US --data data");
    assert_eq!(
        (&shown["in_force"]["jurisdiction"], &shown["next"]["silence_ms"]),
        (&"*".into(), &172_800_000.into())
    );
    let begun = format!("{} --jurisdiction US --valid-from 2024-05-01", schedule("ann"));
    let (exit, refused) = desk.refusal(&begun);
    assert_eq!(exit, 1, "{refused:?}");
    // Without a fee for patients, or at all.
    for (preset, rate) in [("patient-pays-nothing", 500), ("none", 0)] {
        let own = format!(
            "schedule approve --preset {preset} --basis all-tests --jurisdiction DE --operator-key ann.key --operator-passphrase-file passphrase --data data"
        );
        let proposed = &desk.data(&own)["schedule"];
        assert_eq!(
            (&proposed["rate_bps"], &proposed["patient_pays"]),
            (&rate.into(), &false.into()),
            "{preset}"
        );
        assert_eq!(proposed["basis"], "all-tests");
    }
    assert_eq!(desk.refusal(&format!("{} --silence-days 31", schedule("ann"))).0, 2);

    let node = Node::start_under("lakeside", 1, root.parse::<SigningPublic>().unwrap(), Arc::default()).await;
    let addresses =
        ready["net"].as_array().unwrap().iter().map(|it| it.as_str().unwrap().to_owned()).collect();
    node.enrol_at(&Route { party: Party::Index, addresses }).await.unwrap();
    let because = |verb, name, reason| {
        format!(
            "hospital {verb} lakeside {reason} --operator-key {name}.key --operator-passphrase-file passphrase --config index.toml"
        )
    };
    let order = |verb, name| because(verb, name, "--reason test");
    assert_eq!(desk.refusal(&order("approve", "ann")), (1, "hospital-pending".to_owned()));
    desk.twice("hospital request lakeside --out lakeside.request --data data");
    desk.data("root sign --root-key root.key --request lakeside.request --out lakeside.cert --days 365");
    desk.twice("hospital certify lakeside --certificate lakeside.cert --data data");
    assert_eq!(desk.twice(&order("approve", "ann"))["outcome"], "pending");
    for name in ["ann", "ben"] {
        desk.otherwise(&because("approve", name, "--reason whim"), "--reason: \"test\"");
    }
    assert_eq!(desk.refusal(&order("approve", "other")), (1, "wrong-signer".to_owned()));
    let approved = desk.twice(&because("approve", "ben", ""));
    assert_eq!((&approved["outcome"], &approved["number"]), (&Value::from("effective"), &Value::from(1)));
    assert_eq!(desk.data(&order("approve", "ann")), approved);
    desk.otherwise(&because("approve", "ann", "--reason whim"), "--reason: \"test\"");
    assert_eq!(desk.data("hospital list --data data")["hospitals"][0]["status"], "active");
    assert_eq!(desk.data("directory show --data data")["hospitals"][0]["hospital"], "lakeside");
    assert_eq!(desk.data("ledger entries --data data")["entries"], Value::Array(vec![]));
    assert_eq!(desk.data("ledger balances --data data")["balanced"], true);
    assert_eq!(desk.data("mail --data data")["waiting"]["lakeside"], 0);
    assert_eq!(desk.data("check --data data")["sound"], true);
    assert_eq!(running.end(), 0);

    // Without a process the commands open the data folder themselves.
    assert_eq!(desk.twice(&order("suspend", "ben"))["outcome"], "pending");
    let suspended = desk.twice(&order("suspend", "ann"));
    assert_eq!((&suspended["outcome"], &suspended["number"]), (&Value::from("effective"), &Value::from(2)));
    assert_eq!(desk.data("hospital list --config index.toml")["hospitals"][0]["status"], "suspended");
    assert_eq!(desk.data("check --config index.toml")["sound"], true);
    assert_eq!(desk.refusal("hospital list").1, "usage-invalid");

    // The end of its store is cut off: refused until somebody restores or repairs it.
    let log = desk.folder.path().join("data/store/db");
    let mut bytes = std::fs::read(&log).unwrap();
    let used = bytes.iter().rposition(|byte| *byte != 0).unwrap();
    bytes.truncate(used - used / 8);
    std::fs::write(&log, bytes).unwrap();
    for command in ["run", "check", "repair --preview"] {
        let refused = desk.refusal(&format!("{command} --config index.toml"));
        assert_eq!(refused, (5, "store-damaged".to_owned()), "{command}");
    }
    let repaired = desk.data("repair --config index.toml");
    assert!(repaired["commits_lost"].as_u64().unwrap() > 0, "{repaired}");
    let checked = desk.data("check --config index.toml");
    assert_eq!((&checked["sound"], checked["repairs"].as_array().unwrap().len()), (&true.into(), 1));
}

#[test]
fn faults_of_a_configuration_come_all_at_once() {
    let desk = Desk::new();
    std::fs::write(desk.folder.path().join("index.toml"), "[index]\nname = \"\"\n[web]\nlisten = \"x\"\n")
        .unwrap();
    let output = desk.run("run --config index.toml");
    let problem: Value = serde_json::from_slice(&output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(3));
    for key in ["index.name", "index.data", "index.root", "net.listen", "web.listen"] {
        assert!(problem["detail"].as_str().unwrap().contains(key), "{key}");
    }
}
