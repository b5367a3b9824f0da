//! The index learns what its part needs and no more: everything that it stored, opened with its own keys, and
//! everything that it logged, is searched for what only patients and hospitals may know.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use handover_core::TransferId;
use handover_index::keys::IndexKeys;
use handover_scenarios::json::{list, text};
use handover_scenarios::programs::Programs;
use handover_scenarios::story::{self, Silent};
use handover_scenarios::world::{Options, World};
use handover_store::{SCAN_MAX_CELLS, Store, StoreError};
use serde_json::Value;

/// Moves, less than everything, a doctor's referral, a no, and a yes that is taken back.
const STORIES: [&str; 5] = ["move", "narrow", "patient-says-no", "referral", "revoked-consent"];
const LIMIT: Duration = Duration::from_secs(60);
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

fn files_below(folder: &Path, each: &mut dyn FnMut(&Path) -> Result<()>) -> Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() { files_below(&path, each)? } else { each(&path)? }
    }
    Ok(())
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

/// The index comes to its end; then its store opens.
fn store_of(world: &World) -> Result<Store> {
    let pid = world.index_pid().context("the index does not run")?;
    ensure!(Command::new("kill").arg("-TERM").arg(pid.to_string()).status()?.success(), "no kill");
    let secret = std::fs::read_to_string(world.folder().join("secrets/index"))?;
    let passphrase = secret.lines().next().context("an empty passphrase file")?;
    let data = world.folder().join("federation/index");
    let keys = IndexKeys::open(&data, passphrase)?;
    let begun = Instant::now();
    loop {
        match Store::sled(&data.join("store"), &keys.cell_key()) {
            Ok(store) => return Ok(store),
            Err(_) if begun.elapsed() < LIMIT => std::thread::yield_now(),
            Err(fault) => bail!("the index's store does not open: {fault}"),
        }
    }
}

/// Every key and value in the clear, in order: what lies in pieces lies together.
async fn everything(store: &Store) -> Result<(usize, Vec<u8>)> {
    let (mut cells, mut all, mut after) = (0, Vec::new(), None::<Vec<u8>>);
    loop {
        let from = after.take();
        let page = store
            .read(move |txn| -> Result<_, StoreError> { txn.scan(&[], from.as_deref(), SCAN_MAX_CELLS) });
        let page = page.await?;
        cells += page.len();
        let (keys, values): (Vec<_>, Vec<_>) = page.into_iter().unzip();
        all.extend(values.concat());
        all.extend(keys.concat());
        after = keys.into_iter().nth(SCAN_MAX_CELLS - 1);
        if after.is_none() {
            return Ok((cells, all));
        }
    }
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
