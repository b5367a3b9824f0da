//! A node whose store was damaged while it was stopped: refused with what is wrong and what to do, then repaired.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "the helpers of tests")]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// By when who was told to end has ended.
const END_LIMIT: Duration = Duration::from_secs(20);
const LOOK_AGAIN: Duration = Duration::from_millis(10);

struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    /// A node that has imported a few patients, one after another.
    fn filled() -> Self {
        let place = Self { folder: tempfile::tempdir().unwrap() };
        place.initialise();
        place.fill();
        place
    }

    fn initialise(&self) {
        let text = format!(
            "data = \"data\"\nroot = \"{}\"\n[hospital]\nid = \"lakeside\"\nname = \"Lakeside\"\njurisdiction = \"US\"\n\
             currency = \"USD\"\n[index]\naddresses = [\"/ip4/127.0.0.1/tcp/9/p2p/12D3KooWGC6TvWhfapngX6wvJHMYvKpDMXPb3ZnCZ6dMoaMtimQ5\"]\n[net]\n\
             listen = [\"/ip4/127.0.0.1/tcp/0\"]\n[web]\nlisten = \"127.0.0.1:0\"\nnames = [\"localhost\"]\n",
            "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025"
        );
        fs::write(self.path("node.toml"), text).unwrap();
        fs::write(self.path("passphrase"), "correct horse battery staple").unwrap();
        fs::set_permissions(self.path("passphrase"), fs::Permissions::from_mode(0o600)).unwrap();
        self.done(&["init"]);
    }

    fn fill(&self) {
        for patient in 0..4 {
            let subject = json!({"reference": format!("Patient/p{patient}")});
            let lines: Vec<String> = (0..20)
                .map(|number| {
                    json!({"resourceType": "Condition", "id": format!("c{patient}-{number}"), "subject": subject,
                        "note": [{"text": "x".repeat(500)}]})
                    .to_string()
                })
                .collect();
            fs::write(self.path("in.ndjson"), lines.join("\n")).unwrap();
            self.done(&["import", "in.ndjson"]);
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_handover-node"));
        command.current_dir(self.folder.path());
        command.args(["--json", "--config", "node.toml", "--passphrase-file", "passphrase"]).args(arguments);
        command
    }

    fn done(&self, arguments: &[&str]) -> Value {
        let output = self.run(arguments);
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// A command that ends for damage; its problem.
    fn damaged(&self, arguments: &[&str]) -> Value {
        let output = self.run(arguments);
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(5), "{arguments:?}: {stderr}");
        let mut lines = stderr.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let problem = lines.find(|line| line["schema"] == "handover/problem/1").unwrap();
        assert_eq!(problem["code"], "store-damaged", "{problem}");
        problem
    }

    /// Alters the store's log: what it holds, and how much of it is written.
    fn alter(&self, alter: impl FnOnce(&mut Vec<u8>, usize)) {
        let log = self.path("data/store/db");
        let mut bytes = fs::read(&log).unwrap();
        let used = bytes.iter().rposition(|byte| *byte != 0).unwrap();
        alter(&mut bytes, used);
        fs::write(log, bytes).unwrap();
    }
}

#[test]
fn a_store_that_lost_its_end_is_refused_and_repaired() {
    let place = Place::filled();
    let before = place.done(&["check"]);
    assert_eq!((&before["whole"], &before["repairs"]), (&json!(true), &json!([])));
    place.alter(|bytes, used| bytes.truncate(used - used / 3));
    for command in ["run", "check", "check"] {
        let problem = place.damaged(&[command]);
        let detail = problem["detail"].as_str().unwrap();
        assert!(detail.contains("commits are gone"), "{detail}");
        assert!(detail.contains("put the last backup in its place, or give repair"), "{detail}");
    }
    place.damaged(&["repair", "--preview"]);
    place.damaged(&["check"]);
    let repaired = place.done(&["repair"]);
    assert!(repaired["commits_lost"].as_u64().unwrap() > 0, "{repaired}");
    assert!(fs::metadata(repaired["aside"].as_str().unwrap()).unwrap().is_dir());
    assert!(repaired["gone"][0].as_str().unwrap().contains("commits are gone"), "{repaired}");
    let after = place.done(&["check"]);
    assert_eq!(after["repairs"].as_array().unwrap().len(), 1, "{after}");
    assert!(after["records"].as_u64() < before["records"].as_u64());
    // Whoever opened it first said in the audit log who repaired it, once; each check says that it was one.
    let salvaged = repaired["kinds"]["records.audit"]["salvaged"].as_u64().unwrap();
    assert_eq!(after["audit_lines"], salvaged + 2, "{after}");
    assert_eq!(place.done(&["check"])["audit_lines"], salvaged + 3);
    // It works on.
    place.done(&["import", "in.ndjson"]);
    let again = place.done(&["repair"]);
    assert_eq!((&again["is_whole"], &again["aside"]), (&json!(true), &Value::Null));
}

#[test]
fn a_turned_bit_is_found_at_the_start() {
    let place = Place::filled();
    place.alter(|bytes, used| bytes[used / 2] ^= 4);
    let detail = place.damaged(&["run"]).to_string();
    assert!(detail.contains("repair"), "{detail}");
    place.done(&["repair"]);
    place.done(&["records", "list", "--patient", "p0"]);
}

/// Opening a large store takes long: a file that says nothing stands for it.
#[test]
fn a_node_that_is_opening_its_store_ends_at_once_when_it_is_told_to() {
    let place = Place { folder: tempfile::tempdir().unwrap() };
    place.initialise();
    place.done(&["check"]);
    let silent = place.path("data/store/snap.1");
    assert!(Command::new("mkfifo").arg(&silent).status().unwrap().success());
    let mut running = place.command(&["run"]).stderr(Stdio::piped()).spawn().unwrap();
    // Open for writing once somebody reads it.
    let held = fs::OpenOptions::new().write(true).open(&silent).unwrap();
    assert!(Command::new("kill").arg(running.id().to_string()).status().unwrap().success());
    let asked = Instant::now();
    // The file is held for as long: it would be waited for.
    let ended = loop {
        match running.try_wait().unwrap() {
            Some(ended) => break ended,
            None => assert!(asked.elapsed() < END_LIMIT, "it does not end"),
        }
        thread::sleep(LOOK_AGAIN);
    };
    assert!(ended.success(), "{ended}");
    drop(held);
    fs::remove_file(silent).unwrap();
    place.done(&["check"]);
}

#[test]
fn a_store_whose_files_are_gone_is_not_taken_for_a_new_one() {
    let place = Place::filled();
    fs::remove_file(place.path("data/store/db")).unwrap();
    let detail = place.damaged(&["run"]).to_string();
    assert!(detail.contains("missing, empty"), "{detail}");
    // The whole folder, as where its disk is not mounted.
    fs::remove_dir_all(place.path("data/store")).unwrap();
    let detail = place.damaged(&["run"]).to_string();
    assert!(detail.contains("mount its disk"), "{detail}");
}
