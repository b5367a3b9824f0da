//! The index learns what its part needs and no more: everything that it stored, opened with its own keys, what waits in
//! its folders, everything that it logged, and what its process had in memory, is searched for what only patients and
//! hospitals may know. Long texts and secrets are looked for byte by byte; short ones (codes, names, numbers, prices)
//! as values of their own, in everything that can be decoded.

#![expect(clippy::indexing_slicing, reason = "JSON values: an absent key is null")]

mod memory;
mod plays;
mod secrets;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use handover_core::problem::Code;
use handover_core::{Digest, TransferId};
use handover_node::keys::Secrets;
use handover_scenarios::json::{list, text};
use handover_scenarios::programs::Programs;
use handover_scenarios::story::{self, Silent};
use handover_scenarios::world::{Options, World};
use handover_store::Store;
use handover_tests::index_data::{self, everything, files_below, store_of};
use handover_tests::said::{Said, Wanted};
use serde_json::Value;

/// Moves, less than everything, a doctor's referral, a no, a yes that is taken back, and one that goes on.
const STORIES: [&str; 6] = ["move", "narrow", "patient-says-no", "referral", "revoked-consent", "continuous"];
/// Shorter texts stand anywhere by chance.
const MIN_CHARS: usize = 8;
/// The longest key of a cell.
const KEY_MAX_BYTES: usize = 80;
/// Bytes of a needle by which it is looked up.
const HEAD: usize = 8;
/// Bytes around what was found that are shown with it.
const AROUND: usize = 48;

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

    /// A short text as it is, if it is long enough, and its plain hash: who knows what it may be can try that out.
    fn short(&mut self, what: &str, text: &str) {
        self.text(what, text);
        for written in [text.to_owned(), text.to_lowercase(), text.to_uppercase()] {
            let hash = Digest::sha256(&[written.as_bytes()]);
            self.add(what, hash.as_bytes());
            self.add(what, hex::encode(hash.as_bytes()).as_bytes());
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

    /// What stands in `hay`, each with what is around it where it stands first.
    fn found(&self, hay: &[u8]) -> BTreeMap<String, String> {
        let mut found = BTreeMap::new();
        for at in 0..hay.len() {
            let rest = hay.get(at..).unwrap_or_default();
            let Some(head) = rest.first_chunk::<HEAD>() else { break };
            for (whole, what) in self.0.get(head).into_iter().flatten() {
                if rest.starts_with(whole) {
                    let around = at.saturating_sub(AROUND)..(at + whole.len() + AROUND).min(hay.len());
                    found
                        .entry(format!("{what}: {:?}", String::from_utf8_lossy(whole)))
                        .or_insert_with(|| hay.get(around).unwrap_or_default().escape_ascii().to_string());
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
    // A problem's name may have a word of theirs within it: directory-incomplete, a status "complete".
    of_records.retain(|it| !Code::ALL.iter().any(|code| code.as_str().contains(it.as_str())));
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
    let played = plays::all(&world)?;
    let booked = world.index(&["ledger", "entries"])?.json()?;
    let transfers: BTreeSet<&str> = list(&booked, "entries").map(|it| text(it, "transfer")).collect();
    let in_between = memory::of(world.index_pid().context("the index does not run")?)?;
    let mut short = secrets::of_ida(&played);
    let of_ida = short.len();
    secrets::of_everybody(&world, &mut short)?;
    ensure!(short.len() > of_ida + 100, "only {} short secrets", short.len());
    // Of what is left in a folder it knows which content it is, and that only.
    let mut needles = needles(&world)?;
    plays::left_in_a_folder(&mut world)?;
    short.texts().for_each(|(what, text)| needles.short(what, text));
    ensure!(needles.count() > 1_000, "only {} needles", needles.count());

    let memory = memory::of(world.index_pid().context("the index does not run")?)?;
    let store = store_of(&world)?;
    let (cells, stored) = everything(&store).await?;
    let log = std::fs::read(world.logs().join("index.log"))?;
    ensure!(cells > 150 && log.len() > 10_000, "{cells} cells, {} bytes of log", log.len());
    // What it does know is found by the same search.
    let mut known = Needles::default();
    for transfer in &transfers {
        known.add(transfer, transfer.parse::<TransferId>()?.as_bytes());
    }
    known.text("a hospital", "lakeside");
    ensure!(known.found(&log).keys().any(|it| it.starts_with("a hospital")), "the log is searched in vain");
    let files = files(&world)?;
    let places = [
        ("the index's store", &stored),
        ("its memory", &memory),
        ("its memory before", &in_between),
        ("its log", &log),
        ("its files and their names", &files),
    ];
    for (place, hay) in places.iter().take(3) {
        let seen = known.found(hay).len();
        ensure!(
            !transfers.is_empty() && seen > transfers.len() / 2,
            "{seen} of {} are found in {place}",
            transfers.len()
        );
    }

    for (place, hay) in places {
        let found = needles.found(hay);
        ensure!(found.is_empty(), "in {place}: {found:#?}");
    }

    let cells = index_data::cells(&store).await?;
    let said = at_the_index(&world, &cells)?;
    let found = short.found(&said);
    ensure!(found.is_empty(), "at the index: {found:#?}");
    it_would_be_found(&short, &cells)?;
    the_hospital_knows(&mut world, &secrets::of_ida(&played), &played).await
}

/// The index's files but its store's, each after its name.
fn files(world: &World) -> Result<Vec<u8>> {
    let folder = index_data::folder(world);
    let mut all = Vec::new();
    files_below(&folder, &mut |path| {
        if path.is_file() && !path.starts_with(folder.join("store")) {
            all.extend(path.strip_prefix(&folder)?.as_os_str().as_encoded_bytes());
            all.extend(std::fs::read(path)?);
        }
        Ok(())
    })?;
    ensure!(!all.is_empty(), "the index has no files");
    Ok(all)
}

/// Everything that can be decoded of what the index has: its store, its files with what waits in folders, its log.
fn at_the_index(world: &World, cells: &[(Vec<u8>, Vec<u8>)]) -> Result<Said> {
    let mut said = Said::default();
    // What is no row is nothing, a hash, an identifier or another cell's key.
    let unread = said.cells(cells);
    let long = unread.iter().find(|it| it.len() > KEY_MAX_BYTES);
    ensure!(long.is_none(), "a value that nobody can read: {long:x?}");
    let folder = index_data::folder(world);
    let mut packages = 0;
    files_below(&folder, &mut |path| {
        if path.is_file() && !path.starts_with(folder.join("store")) {
            packages += usize::from(path.starts_with(folder.join("blobs/content")));
            said.bytes(&std::fs::read(path)?);
        }
        Ok(())
    })?;
    ensure!(packages > 0, "nothing waits in a folder");
    said.text(&String::from_utf8_lossy(&std::fs::read(world.logs().join("index.log"))?));
    // It reads what the index may know: who exchanges with whom, and for how much.
    let mut known = Wanted::default();
    known.text("a hospital", plays::OLD);
    known.text("a currency", world.currency());
    ensure!(known.found(&said).len() == known.len(), "the search is blind: {:?}", known.found(&said));
    Ok(said)
}

/// The same search finds each of the short secrets in a row of the index, if it stands deep within one, as a field or
/// within a sentence.
fn it_would_be_found(short: &Wanted, cells: &[(Vec<u8>, Vec<u8>)]) -> Result<()> {
    let mut leaking = cells.to_vec();
    leaking.extend(short.leaking().into_iter().map(|row| (b"leak".to_vec(), row)));
    let mut said = Said::default();
    let _ = said.cells(&leaking);
    let found = short.found(&said);
    let missed: Vec<_> = short.all().filter(|it| !found.contains_key(*it)).collect();
    ensure!(missed.is_empty(), "leaks that nobody notices: {missed:#?}");
    Ok(())
}

/// And it finds them where they may be: in the hospital's store, in its records, and in what the wallet shows.
async fn the_hospital_knows(world: &mut World, of_ida: &Wanted, played: &plays::Played) -> Result<()> {
    world.stop(plays::OLD)?;
    let data = world.folder().join("hospitals").join(plays::OLD).join("data");
    let secret = std::fs::read_to_string(world.folder().join("secrets").join(plays::OLD))?;
    let keys = Secrets::load(&data.join("keys/keys.sealed"), secret.lines().next().unwrap_or_default())?;
    let store = Store::sled(&data.join("store"), &keys.cell_key())?;
    let mut said = Said::default();
    let _ = said.cells(&index_data::cells(&store).await?);
    let found = of_ida.found(&said);
    for known in [format!("a record number: {}", plays::NUMBER), format!("a clinician: {}", plays::CLINICIAN)]
    {
        ensure!(found.contains_key(&known), "not in the hospital's store: {known}; {:?}", found.keys());
    }
    let mut shown = Said::default();
    shown.text(&played.shown);
    files_below(&world.records_folder(), &mut |path| {
        shown.text(&std::fs::read_to_string(path)?);
        Ok(())
    })?;
    let found = of_ida.found(&shown);
    // Two names, the number, the birth date, seven codes and three prices, and the telephone as a whole and in part.
    ensure!(found.len() >= 16, "not in the records and the quote: {:?}", found.keys());
    Ok(())
}
