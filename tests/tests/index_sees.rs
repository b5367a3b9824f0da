//! The index learns what its part needs and no more: everything that it stored, opened with its own keys, and
//! everything that it logged, is searched for what only patients and hospitals may know.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::{Result, ensure};
use handover_core::TransferId;
use handover_scenarios::json::{list, text};
use handover_scenarios::programs::Programs;
use handover_scenarios::story::{self, Silent};
use handover_scenarios::world::{Options, World};
use handover_tests::index_data::{everything, files_below, store_of};
use serde_json::Value;

/// Moves, less than everything, a doctor's referral, a no, and a yes that is taken back.
const STORIES: [&str; 5] = ["move", "narrow", "patient-says-no", "referral", "revoked-consent"];
/// Shorter texts stand anywhere by chance.
const MIN_CHARS: usize = 8;
/// Bytes of a needle by which it is looked up.
const HEAD: usize = 8;

/// What must not be found: by its first bytes, the whole and what it is.
#[derive(Default)]
struct Needles(BTreeMap<[u8; HEAD], BTreeMap<Vec<u8>, String>>);

impl Needles {
    fn add(&mut self, what: &str, bytes: &[u8]) {
        if let Some(head) = bytes.first_chunk::<HEAD>() {
            self.0.entry(*head).or_default().insert(bytes.to_vec(), what.to_owned());
        }
    }

    /// A text as it is, and as its bytes would be printed.
    fn text(&mut self, what: &str, text: &str) {
        if text.chars().count() >= MIN_CHARS {
            self.add(what, text.as_bytes());
            self.add(what, hex::encode(text).as_bytes());
        }
    }

    /// A secret or identifier of bytes, and as it would be printed.
    fn bytes(&mut self, what: &str, printed: &str) -> Result<()> {
        self.add(what, printed.as_bytes());
        self.add(what, &hex::decode(printed)?);
        Ok(())
    }

    fn count(&self) -> usize {
        self.0.values().map(BTreeMap::len).sum()
    }

    /// What stands in `hay`.
    fn found(&self, hay: &[u8]) -> BTreeSet<String> {
        let mut found = BTreeSet::new();
        for at in 0..hay.len() {
            let rest = hay.get(at..).unwrap_or_default();
            let Some(head) = rest.first_chunk::<HEAD>() else { break };
            for (whole, what) in self.0.get(head).into_iter().flatten() {
                if rest.starts_with(whole) {
                    found.insert(format!("{what}: {:?}", String::from_utf8_lossy(whole)));
                }
            }
        }
        found
    }
}

/// Every text of patients' records: names, addresses, dates, identifiers, codes and what they are called.
fn texts(value: &Value, of: &mut BTreeSet<String>) {
    match value {
        Value::String(text) => drop(of.insert(text.clone())),
        Value::Array(values) => values.iter().for_each(|value| texts(value, of)),
        Value::Object(fields) => fields.values().for_each(|value| texts(value, of)),
        _ => {}
    }
}

/// What hospitals and patients alone know of what was played in this world.
fn needles(world: &World) -> Result<Needles> {
    let mut needles = Needles::default();
    let mut of_records = BTreeSet::new();
    files_below(&world.records_folder(), &mut |path| {
        texts(&serde_json::from_slice(&std::fs::read(path)?)?, &mut of_records);
        Ok(())
    })?;
    // The directory has the hospitals' names, and an artefact's label has this status of a condition.
    for hospital in world.hospitals() {
        of_records.remove(world.name(hospital)?);
    }
    of_records.remove("confirmed");
    of_records.iter().for_each(|it| needles.text("a text of the records", it));
    for text in ["Dr. Amara Osei", "DiagnosticReport"] {
        needles.text("a doctor or type", text);
    }
    for hospital in world.hospitals() {
        let listed = world.node(hospital, &["transfer", "list"])?.json()?;
        for transfer in list(&listed, "transfers") {
            let shown = world.node(hospital, &["transfer", "show", text(transfer, "transfer")])?.json()?;
            needles.text("the sum of the prices", text(&shown, "basis"));
            let departments = shown.get("departments").and_then(Value::as_object);
            for department in departments.into_iter().flat_map(|it| it.keys()) {
                // As artefacts have it: a text with its length before it.
                let length = u8::try_from(department.len())?;
                needles.add("a department", &[&[0x60 + length], department.as_bytes()].concat());
            }
        }
        // Which content it is would tell which study.
        files_below(&world.folder().join("hospitals").join(hospital).join("data/blobs"), &mut |path| {
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            if name.len() == 64 { needles.bytes("the root of a content", name) } else { Ok(()) }
        })?;
    }
    for folder in ["secrets", "wallets"] {
        files_below(&world.folder().join(folder), &mut |path| {
            let is_own =
                ["index", "root", "ana", "ben"].iter().any(|own| path.ends_with(Path::new(folder).join(own)));
            match std::fs::read_to_string(path) {
                Ok(secret) if !is_own => {
                    secret.lines().for_each(|line| needles.text("a passphrase or recovery text", line));
                    Ok(())
                }
                _ => Ok(()),
            }
        })?;
    }
    Ok(needles)
}

#[tokio::test]
async fn the_index_learns_what_its_part_needs_and_no_more() -> Result<()> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scenarios/stories");
    let stories = STORIES.map(|name| story::load(&folder.join(format!("{name}.toml"))));
    let stories = stories.into_iter().collect::<Result<Vec<_>, _>>()?;
    let hospitals: BTreeSet<&str> =
        stories.iter().flat_map(|story| &story.hospitals).map(String::as_str).collect();
    let options = Options {
        index_log: Some("handover=trace".to_owned()),
        ..Options::of(&hospitals.into_iter().collect::<Vec<_>>())
    };
    let mut world = World::start(Programs::shared()?, &options)?;
    for told in &stories {
        story::play(&mut world, told, &mut Silent)?;
    }
    let booked = world.index(&["ledger", "entries"])?.json()?;
    let transfers: BTreeSet<&str> = list(&booked, "entries").map(|it| text(it, "transfer")).collect();
    let needles = needles(&world)?;
    ensure!(needles.count() > 1_000, "only {} needles", needles.count());

    let (cells, stored) = everything(&store_of(&world)?).await?;
    let log = std::fs::read(world.logs().join("index.log"))?;
    ensure!(cells > 150 && log.len() > 10_000, "{cells} cells, {} bytes of log", log.len());
    // What it does know is found by the same search.
    let mut known = Needles::default();
    for transfer in &transfers {
        known.add(transfer, transfer.parse::<TransferId>()?.as_bytes());
    }
    known.text("a hospital", "lakeside");
    let seen = known.found(&stored).len();
    ensure!(!transfers.is_empty() && seen > transfers.len(), "{seen} of {} are found", transfers.len());

    for (place, hay) in [("the index's store", &stored), ("the index's log", &log)] {
        let found = needles.found(hay);
        ensure!(found.is_empty(), "in {place}: {found:#?}");
    }
    Ok(())
}
