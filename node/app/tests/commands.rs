//! The program itself, as a person uses it: `init`, `import`, `records`, `check`, with and without a running node.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "the helpers of tests")]

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use serde_json::{Value, json};

const PASSPHRASE: &str = "correct horse battery staple";

/// A node's folder with its configuration.
struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        let place = Self { folder: tempfile::tempdir().unwrap() };
        let text = format!(
            "data = \"data\"\nroot = \"{}\"\n[hospital]\nid = \"lakeside\"\nname = \"Lakeside\"\njurisdiction = \"US\"\n\
             currency = \"USD\"\n[index]\naddresses = [\"/ip4/127.0.0.1/tcp/9/p2p/12D3KooWGC6TvWhfapngX6wvJHMYvKpDMXPb3ZnCZ6dMoaMtimQ5\"]\n[net]\n\
             listen = [\"/ip4/127.0.0.1/tcp/0\"]\n[web]\nlisten = \"127.0.0.1:0\"\nnames = [\"localhost\"]\n",
            "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025"
        );
        fs::write(place.path("node.toml"), text).unwrap();
        place.passphrase("passphrase", PASSPHRASE);
        place
    }

    fn initialised() -> Self {
        let place = Self::new();
        place.done(&["init"]);
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn passphrase(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
        fs::set_permissions(self.path(name), fs::Permissions::from_mode(0o600)).unwrap();
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_handover-node"));
        command.current_dir(self.folder.path());
        command.args(["--json", "--config", "node.toml", "--passphrase-file", "passphrase"]).args(arguments);
        command
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// A command that has to be done; its answer.
    fn done(&self, arguments: &[&str]) -> Value {
        let output = self.run(arguments);
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// A command that has to end with this code; what it says on stderr.
    fn ends(&self, arguments: &[&str], exit: i32) -> String {
        let output = self.run(arguments);
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(exit), "{arguments:?}: {stderr}");
        stderr
    }

    fn start(&self) -> Process {
        let mut child = self.command(&["run"]).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let ready: Value = serde_json::from_str(&line).unwrap();
        assert_eq!((&ready["ready"], &ready["role"]), (&json!(true), &json!("node")));
        Process { child, ready }
    }
}

struct Process {
    child: Child,
    ready: Value,
}

impl Process {
    fn terminate(mut self) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
        assert!(self.child.wait().unwrap().success());
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A bundle of one patient: an encounter behind what refers to it, a report, and resources that name no patient.
fn bundle(patient: &str, note: &str) -> Value {
    let subject = json!({"reference": format!("urn:uuid:{patient}")});
    let entry = |resource: Value| {
        let url = format!("urn:uuid:{}", resource["id"].as_str().unwrap());
        json!({"fullUrl": url, "resource": resource, "request": {"method": "POST", "url": "x"}})
    };
    json!({"resourceType": "Bundle", "type": "transaction", "entry": [
        entry(json!({"resourceType": "Patient", "id": patient})),
        entry(json!({"resourceType": "Organization", "id": format!("{patient}-o")})),
        entry(json!({"resourceType": "Condition", "id": format!("{patient}-c"), "subject": subject.clone(),
            "encounter": {"reference": format!("urn:uuid:{patient}-e")}, "recordedDate": "2021-03-04",
            "note": [{"text": note}]})),
        entry(json!({"resourceType": "Encounter", "id": format!("{patient}-e"), "subject": subject.clone(),
            "status": "finished", "class": {"code": "EMER"}})),
        entry(json!({"resourceType": "DiagnosticReport", "id": format!("{patient}-r"), "subject": subject,
            "status": "final", "category": [{"coding": [
                {"system": "http://terminology.hl7.org/CodeSystem/v2-0074", "code": "LAB"}]}],
            "encounter": {"reference": format!("Encounter/{patient}-e")}})),
    ]})
}

fn write(path: &Path, value: &Value) {
    fs::write(path, serde_json::to_vec_pretty(value).unwrap()).unwrap();
}

#[test]
fn a_bundle_is_imported_once_and_listed() {
    let place = Place::initialised();
    write(&place.path("p1.json"), &bundle("p1", "first"));
    let imported = place.done(&["import", "p1.json"]);
    assert_eq!(imported["schema"], "handover/import/1");
    assert_eq!(imported["records"], json!({"new": 5, "unchanged": 0, "new_versions": 0, "current_again": 0}));
    assert_eq!((&imported["patients"], &imported["hospital_wide"]), (&json!(["p1"]), &json!(0)));
    let again = place.done(&["import", "p1.json"]);
    assert_eq!(again["records"], json!({"new": 0, "unchanged": 5, "new_versions": 0, "current_again": 0}));
    write(&place.path("p1.json"), &bundle("p1", "changed"));
    let changed = place.done(&["import", "p1.json"]);
    assert_eq!(changed["records"], json!({"new": 0, "unchanged": 4, "new_versions": 1, "current_again": 0}));

    let listed = place.done(&["records", "list", "--patient", "p1"]);
    let records = listed["records"].as_array().unwrap();
    let of = |kind: &str| records.iter().find(|record| record["type"] == kind).unwrap().clone();
    assert_eq!(of("Encounter")["department"], "emergency");
    let condition = of("Condition");
    assert_eq!((&condition["department"], &condition["version"]), (&json!("emergency"), &json!(2)));
    assert_eq!(condition["date"], "2021-03-04T00:00:00.000Z");
    assert_eq!(of("DiagnosticReport")["department"], "laboratory");

    let record = condition["record"].as_str().unwrap();
    for (name, text) in [(record.to_owned(), "changed"), (format!("{record}.1"), "first")] {
        let shown = place.done(&["records", "show", "--patient", "p1", &name]);
        assert_eq!(shown["note"][0]["text"], text);
    }
    let none = place.done(&["records", "list", "--patient", "p2"]);
    assert_eq!(none["records"], json!([]));
    assert!(place.ends(&["records", "show", "--patient", "p2", record], 1).contains("unknown-record"));
    let checked = place.done(&["check"]);
    assert_eq!((&checked["whole"], &checked["records"]), (&json!(true), &json!(5)));
}

#[test]
fn encounters_of_other_files_and_lines_place_records() {
    let place = Place::initialised();
    let encounter = json!({"resourceType": "Encounter", "id": "e", "subject": {"reference": "Patient/p"},
        "class": {"code": "EMER"}});
    let condition = json!({"resourceType": "Condition", "id": "c", "subject": {"reference": "Patient/p"},
        "encounter": {"reference": "Encounter/e"}});
    fs::write(place.path("Condition.ndjson"), format!("{condition}\n")).unwrap();
    fs::write(place.path("Encounter.ndjson"), format!("{encounter}\n")).unwrap();
    fs::write(place.path("Practitioner.ndjson"), "{\"resourceType\":\"Practitioner\",\"id\":\"x\"}\n")
        .unwrap();
    let imported = place.done(&["import", "Condition.ndjson", "Encounter.ndjson", "Practitioner.ndjson"]);
    assert_eq!(imported["departments"]["emergency"], 2);
    assert_eq!((&imported["patients"], &imported["hospital_wide"]), (&json!(["p"]), &json!(1)));
}

#[test]
fn what_cannot_be_read_is_named_and_stops_nothing_else() {
    let place = Place::initialised();
    let mut damaged = bundle("p1", "x");
    damaged["entry"][1]["resource"]["resourceType"] = json!("Organisation");
    write(&place.path("damaged.json"), &damaged);
    fs::write(place.path("c-cda.xml"), "<ClinicalDocument/>").unwrap();
    fs::write(place.path("half.json"), "{\"resourceType\":\"Bundle\",\"entry\":[").unwrap();
    let output = place.run(&["import", "damaged.json", "c-cda.xml", "half.json"]);
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    let imported: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&imported["records"]["new"], &imported["kept_aside"]), (&json!(4), &json!(3)));
    assert_eq!(imported["unreadable_files"], json!(["c-cda.xml", "half.json"]));
    let aside: Vec<Value> = stderr.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let damaged = aside.iter().find(|line| line["file"] == "damaged.json").unwrap();
    assert!(damaged["entry"].as_str().unwrap().ends_with("entry 1"), "{damaged}");
    assert!(damaged["reason"].as_str().unwrap().contains("resourceType"), "{damaged}");
    let retried = place.done(&["import", "--retry"]);
    assert_eq!((&retried["kept_aside"], &retried["records"]["new"]), (&json!(3), &json!(0)));
    let checked = place.done(&["check"]);
    assert_eq!((&checked["kept_aside"], &checked["whole"]), (&json!(3), &json!(true)));
}

#[test]
fn files_without_content_and_files_that_do_not_open_are_named_too() {
    let place = Place::initialised();
    write(&place.path("good.json"), &bundle("p1", "x"));
    fs::write(place.path("zero.json"), "").unwrap();
    fs::write(place.path("blank.ndjson"), " \n\n").unwrap();
    fs::create_dir(place.path("folder.json")).unwrap();
    let bad = ["zero.json", "blank.ndjson", "folder.json", "nosuch.json"];
    let output = place.run(&["import", bad[0], bad[1], "good.json", bad[2], bad[3]]);
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    let imported: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(imported["records"]["new"], 5, "{imported}");
    assert_eq!(imported["unreadable_files"], json!(bad));
    let lines = || stderr.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    for (file, reason) in bad.iter().zip(["no resource", "no resource", "not a file", "No such file"]) {
        let line = lines().find(|line| line["file"] == *file).unwrap();
        assert!(line["reason"].as_str().unwrap().contains(reason), "{line}");
        assert_eq!(line["kept"], false);
    }
    assert!(lines().any(|line| line["code"] == "nothing-read"), "{stderr}");
}

#[test]
fn what_creates_gives_the_same_again() {
    let place = Place::new();
    let made = place.done(&["init"]);
    assert_eq!(place.done(&["init"]), made);
    place.passphrase("passphrase", "another");
    assert!(place.ends(&["init"], 3).contains("key-unavailable"));
    place.passphrase("passphrase", PASSPHRASE);

    let register = |patient, request| place.done(&["patient", "register", patient, "--request-id", request]);
    let first = register("anna", "visit 1");
    assert_eq!(register("anna", "visit 1"), first);
    assert_ne!(register("anna", "visit 2")["link_code"], first["link_code"]);
    assert_ne!(register("bert", "visit 3")["link_code"], first["link_code"]);
    assert_ne!(place.done(&["patient", "register", "anna"]), place.done(&["patient", "register", "anna"]));
    let other = place.ends(&["patient", "register", "carl", "--request-id", "visit 1"], 1);
    assert!(other.contains("conflict") && other.contains("another patient"), "{other}");
    assert_eq!(place.done(&["check"])["patients"], 2);
    for bad in ["", "tab\there", "é", &"x".repeat(65)] {
        let refused = place.ends(&["patient", "register", "anna", "--request-id", bad], 2);
        assert!(refused.contains("--request-id"), "{refused}");
    }
    assert_eq!(place.done(&["patient", "links"]), place.done(&["patient", "links", "--resend"]));
}

#[test]
fn faults_end_with_their_exit_codes() {
    let place = Place::initialised();
    assert!(place.ends(&["enrol", "--wait", "86401"], 2).contains("at most 86400"));
    place.ends(&["nonsense"], 2);
    place.ends(&["import"], 2);
    assert!(place.ends(&["import", "absent.json"], 1).contains("absent.json"));
    assert!(place.ends(&["enrol"], 4).contains("run"));
    place.ends(&["transfer", "show", "01890000-0000-7000-8000-000000000000"], 1);
    place.passphrase("passphrase", "wrong");
    assert!(place.ends(&["check"], 3).contains("key-unavailable"));
    fs::write(place.path("node.toml"), "data = \"x\"\n").unwrap();
    let stderr = place.ends(&["check"], 3);
    for key in ["root", "hospital.id", "index.addresses", "net.listen", "web.listen"] {
        assert!(stderr.contains(key), "{key} in {stderr}");
    }
}

#[test]
fn a_node_stays_the_hospital_that_its_keys_were_made_for() {
    let place = Place::initialised();
    let text = fs::read_to_string(place.path("node.toml")).unwrap();
    fs::write(place.path("node.toml"), text.replace("id = \"lakeside\"", "id = \"riverside\"")).unwrap();
    for command in ["run", "init", "check"] {
        let stderr = place.ends(&[command], 3);
        assert!(stderr.contains("riverside") && stderr.contains("made for lakeside"), "{command}: {stderr}");
    }
}

#[test]
fn commands_reach_the_running_node() {
    let place = Place::initialised();
    let process = place.start();
    assert!(Path::new(process.ready["certificate"].as_str().unwrap()).exists());
    // No passphrase is asked for beside a running node.
    fs::remove_file(place.path("passphrase")).unwrap();
    write(&place.path("p1.json"), &bundle("p1", "x"));
    assert_eq!(place.done(&["import", "p1.json"])["records"]["new"], 5);
    let registered = place.done(&["patient", "register", "p1"]);
    assert_eq!(registered["link_code"].as_str().unwrap().len(), 9);
    assert_eq!(place.done(&["records", "list", "--patient", "p1"])["departments"]["laboratory"], 1);
    assert_eq!(place.done(&["transfer", "list"])["transfers"], json!([]));
    // A content of several pieces.
    let blob = "é".repeat(400_000);
    write(
        &place.path("scan.json"),
        &json!({"resourceType": "DocumentReference", "id": "d",
        "subject": {"reference": "Patient/p1"}, "description": blob}),
    );
    place.done(&["import", "scan.json"]);
    let listed = place.done(&["records", "list", "--patient", "p1"]);
    let records = listed["records"].as_array().unwrap();
    let scan = records.iter().find(|record| record["type"] == "DocumentReference").unwrap();
    let shown = place.done(&["records", "show", "--patient", "p1", scan["record"].as_str().unwrap()]);
    assert_eq!(shown["description"].as_str().unwrap(), blob);
    assert_eq!(place.done(&["check"])["blobs"], 1);
    process.terminate();
    assert!(!place.path("data/control.sock").exists());
}

#[test]
fn a_command_that_reaches_nobody_says_what_to_do() {
    let place = Place::new();
    let stderr = place.ends(&["check"], 3);
    assert!(stderr.contains("Run init first.") && !stderr.contains("passphrase"), "{stderr}");
    place.done(&["init"]);
    let process = place.start();
    let stderr = place.ends(&["enrol"], 4);
    assert!(stderr.contains("Give the command again") && !stderr.contains("by itself"), "{stderr}");
    process.terminate();
    // A node that breaks off, as one that is killed does.
    let listener = UnixListener::bind(place.path("data/control.sock")).unwrap();
    let killed = std::thread::spawn(move || drop(listener.accept().unwrap()));
    write(&place.path("p1.json"), &bundle("p1", "x"));
    let stderr = place.ends(&["import", "p1.json"], 4);
    killed.join().unwrap();
    assert!(stderr.contains("Look whether the node runs") && !stderr.contains("by itself"), "{stderr}");
}

#[test]
fn what_is_unknown_is_told_to_people() {
    let place = Place::initialised();
    let said = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_handover-node"));
        command.current_dir(place.folder.path());
        command.args(["--config", "node.toml", "--passphrase-file", "passphrase"]).args(arguments);
        let output = command.output().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    let unknown = "01890000-0000-7000-8000-000000000000";
    let (exit, stderr) = said(&["transfer", "show", unknown, "--wait", "1"]);
    assert_eq!(exit, Some(1), "{stderr}");
    assert!(stderr.contains(&format!("No transfer {unknown} is known here so far.")), "{stderr}");
    assert!(stderr.contains("error[unknown-transfer]"), "{stderr}");
    let (exit, stderr) = said(&["patient", "register", "p1"]);
    assert!(exit == Some(0) && stderr.contains("no records of p1 here"), "{stderr}");
    write(&place.path("p1.json"), &bundle("p1", "x"));
    let (exit, stderr) = said(&["patient", "take", "--file", "p1.json"]);
    assert!(exit != Some(0) && stderr.contains("p1.json"), "{stderr}");
    place.done(&["import", "p1.json"]);
    let (_, stderr) = said(&["patient", "register", "p1"]);
    assert!(!stderr.contains("no records"), "{stderr}");
    assert!(!stderr.contains('\u{1b}'), "colour codes: {stderr}");
}

#[test]
fn an_import_that_was_killed_is_completed_by_giving_it_again() {
    const PATIENTS: usize = 300;
    let place = Place::initialised();
    let mut lines = Vec::new();
    for number in 0..PATIENTS {
        writeln!(lines, "{}", bundle(&format!("p{number}"), "x")).unwrap();
        if number == PATIENTS / 10 {
            writeln!(lines, "broken").unwrap();
        }
    }
    fs::write(place.path("many.ndjson"), lines).unwrap();
    let mut child = place.command(&["import", "many.ndjson"]);
    let mut child = child.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    // The broken line is told when everything before it was filed and most is still to come.
    let mut said = String::new();
    BufReader::new(child.stderr.take().unwrap()).read_line(&mut said).unwrap();
    assert!(said.contains("kept-aside"), "{said}");
    child.kill().unwrap();
    child.wait().unwrap();
    let completed = place.done(&["import", "many.ndjson"]);
    let counts = &completed["records"];
    let all = counts["new"].as_u64().unwrap() + counts["unchanged"].as_u64().unwrap();
    assert_eq!(all, 5 * PATIENTS as u64, "{completed}");
    assert!(counts["unchanged"].as_u64().unwrap() >= 100, "{completed}");
    let checked = place.done(&["check"]);
    assert_eq!((&checked["records"], &checked["patients"]), (&json!(5 * PATIENTS), &json!(PATIENTS)));
    assert_eq!(checked["whole"], true);
}

fn copy_tree(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy_tree(&path, &target);
        } else {
            fs::copy(&path, &target).unwrap();
        }
    }
}

#[test]
fn a_forgotten_patient_is_gone_from_here_and_from_copies() {
    let place = Place::initialised();
    for patient in ["p1", "p2"] {
        // More than fits a row, so that there are blobs too.
        write(&place.path(&format!("{patient}.json")), &bundle(patient, &"x".repeat(100_000)));
        place.done(&["import", &format!("{patient}.json")]);
    }
    // A backup as the sample tells to make it: without the epoch keys.
    for part in ["store", "blobs", "keys"] {
        copy_tree(&place.path("data").join(part), &place.path("backup").join(part));
    }
    let process = place.start();
    assert!(place.ends(&["patient", "forget", "p3"], 1).contains("unknown-patient"));
    let before = place.done(&["epoch", "list"]);
    assert_eq!((&before["rotation_due"], &before["secrets"]["patient"]), (&json!(false), &json!(2)));
    let gone = place.done(&["patient", "forget", "p1"]);
    assert_eq!(gone["schema"], "handover/patient-forgotten/1");
    assert_eq!((&gone["records"], &gone["versions"], &gone["blobs"]), (&json!(5), &json!(5), &json!(1)));
    assert_eq!(gone["rotation_due"], true);
    assert_eq!(place.done(&["records", "list", "--patient", "p1"])["records"], json!([]));
    assert_eq!(place.done(&["epoch", "list"])["forgotten"], json!({"patient": 1}));
    let rotated = place.done(&["epoch", "rotate"]);
    assert_eq!(
        (&rotated["epoch"], &rotated["moved"], &rotated["destroyed"]),
        (&json!(2), &json!(1), &json!([1]))
    );
    let keys: Vec<_> = fs::read_dir(place.path("data/epoch-keys")).unwrap().collect();
    assert_eq!(keys.len(), 1);
    let listed = place.done(&["epoch", "list"]);
    assert_eq!((&listed["rotation_due"], &listed["epochs"][0]["secrets"]), (&json!(false), &json!(1)));
    let listed = place.done(&["records", "list", "--patient", "p2"]);
    for record in listed["records"].as_array().unwrap() {
        place.done(&["records", "show", "--patient", "p2", record["record"].as_str().unwrap()]);
    }
    let checked = place.done(&["check"]);
    assert_eq!(
        (&checked["whole"], &checked["records"], &checked["blobs"]),
        (&json!(true), &json!(5), &json!(1))
    );
    assert_eq!((&checked["patients"], &checked["secrets"]), (&json!(1), &json!(1)));
    // They come again as if for the first time.
    assert_eq!(place.done(&["import", "p1.json"])["records"]["new"], 5);
    process.terminate();

    // The backup opens neither without epoch keys nor with those that are left.
    let text = fs::read_to_string(place.path("node.toml")).unwrap();
    for (epochs, says) in
        [("backup/epoch-keys", "is missing"), ("data/epoch-keys", "destroyed by a rotation")]
    {
        let text = text.replace("data = \"data\"", &format!("data = \"backup\"\nepoch_keys = \"{epochs}\""));
        fs::write(place.path("node.toml"), text).unwrap();
        let stderr = place.ends(&["records", "list", "--patient", "p1"], 3);
        for part in ["epoch-key-unavailable", "epoch-000001.key", says] {
            assert!(stderr.contains(part), "{part} in {stderr}");
        }
    }
    assert!(!place.path("backup/epoch-keys").exists(), "none is made in its place");
}
