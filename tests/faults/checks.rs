//! What is looked at after each fault, and in the end.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use handover_tests::index_data::files_below;
use handover_tests::moves::{DESTINATION, LIMIT, Move, SOURCE, Victim, same, text};
use handover_tests::watch::Watch;
use serde_json::Value;

use crate::desk;
use crate::load::Load;
use crate::stage::Stage;
use handover_tests::dice::Dice;

/// Records of a move whose contents are compared each time.
const CONTENTS: usize = 8;
/// The largest record whose content is compared here: others are by their length, and by their hash when filed.
const CONTENT_BYTES: u64 = 4_000_000;
/// Bytes that would tell a record in a file.
const TELLING_BYTES: usize = 16;

#[derive(Default)]
pub(crate) struct Checks {
    watch: Watch,
    pub(crate) looks: u64,
    pub(crate) records: u64,
    pub(crate) contents: u64,
    pub(crate) strangers: u64,
}

impl Checks {
    /// After each fault. A thorough look reads everything that a hospital has stored, and somebody tries to see what is
    /// another's.
    pub(crate) fn look(
        &mut self,
        stage: &Stage,
        load: &Load,
        dice: &mut Dice,
        is_thorough: bool,
    ) -> Result<()> {
        self.looks += 1;
        // The books first: what is due there has its evidence at the destination already.
        let entries = desk::entries(stage)?;
        let fees = load.fees();
        let (source, destination) =
            (desk::transfers(stage, Victim::Source)?, desk::transfers(stage, Victim::Destination)?);
        self.watch.transfers(SOURCE, &source)?;
        self.watch.transfers(DESTINATION, &destination)?;
        self.watch.ledger(&entries, &destination, &fees)?;
        let checked = desk::index(stage, "check")?;
        ensure!(checked["sound"] == true, "the index: {checked}");
        let balances = desk::index(stage, "ledger-balances")?;
        ensure!(balances["balanced"] == true, "{balances}");
        for total in balances["totals"].as_array().into_iter().flatten() {
            same("posted credits", &total["posted_debits"], &total["posted_credits"])?;
        }
        let done = load.done();
        if !done.is_empty() {
            let it = dice.one_of(&done);
            self.compare(stage, &it, Some(dice))
                .with_context(|| format!("{} of {}", it.transfer, it.wallet))?;
        }
        if is_thorough {
            let at = dice.one_of(&[Victim::Source, Victim::Destination]);
            let checked = desk::check(stage, at)?;
            ensure!(checked["whole"] == true, "check at {at:?}: {checked}");
            if done.len() > 1 {
                let (one, other) = (dice.one_of(&done), dice.one_of(&done));
                self.another_sees_nothing(stage, &one, &other)?;
            }
        }
        Ok(())
    }

    /// The records of a move that is done: the same lines at both ends, each once; some contents byte for byte, or all.
    fn compare(&mut self, stage: &Stage, it: &Move, some: Option<&mut Dice>) -> Result<()> {
        let sent = desk::records(stage, Victim::Source, &it.patient)?;
        let filed: Vec<Value> = desk::records(stage, Victim::Destination, &it.patient)?
            .into_iter()
            .filter(|it_is| !(it_is["type"] == "Provenance" && it_is["id"] == it.transfer.as_str()))
            .collect();
        same("records at the source", &(it.expected.total_resources() as usize), &sent.len())?;
        let key = |record: &Value| format!("{} {}", record["type"], record["id"]);
        let line = |record: &Value| {
            let keys = ["type", "id", "department", "date", "bytes", "version", "restricted"];
            keys.map(|key| record[key].to_string()).join(" ")
        };
        let lines = |records: &[Value]| records.iter().map(line).collect::<BTreeSet<String>>();
        same("records at the destination", &sent.len(), &filed.len())?;
        same("records at both ends", &lines(&sent), &lines(&filed))?;
        self.records += sent.len() as u64;
        let there: BTreeMap<String, &Value> = filed.iter().map(|record| (key(record), record)).collect();
        let small: Vec<&Value> = sent
            .iter()
            .filter(|it| it["bytes"].as_u64().is_some_and(|bytes| bytes <= CONTENT_BYTES))
            .collect();
        // The largest always: it is a content of its own, outside of the store.
        let largest = small.iter().max_by_key(|it| it["bytes"].as_u64()).copied();
        let picked = match some {
            Some(dice) if !small.is_empty() => {
                (0..CONTENTS).map(|_| dice.one_of(&small)).chain(largest).collect()
            }
            _ => small,
        };
        for record in picked {
            let other = there.get(&key(record)).context("it is not there")?;
            let content = |at, record: &Value| desk::content(stage, at, &it.patient, text(record, "record"));
            ensure!(
                content(Victim::Source, record)? == content(Victim::Destination, other)?,
                "the content of {} differs",
                key(record)
            );
            self.contents += 1;
        }
        Ok(())
    }

    /// Another patient's wallet asks for what is not theirs.
    fn another_sees_nothing(&mut self, stage: &Stage, one: &Move, other: &Move) -> Result<()> {
        if one.wallet == other.wallet {
            return Ok(());
        }
        let args = ["inbox", "--transfer", &other.transfer];
        let own = stage.world().wallet_at(&other.wallet, DESTINATION, &args)?.json()?;
        ensure!(own["transfers"][0]["transfer"] == other.transfer.as_str(), "its own wallet: {own}");
        let answer = stage.world().wallet_at(&one.wallet, DESTINATION, &args)?;
        let said: Value = serde_json::from_slice(&answer.stdout)?;
        let shows_nothing = said["transfers"].as_array().is_none_or(Vec::is_empty);
        let is_answer =
            said["transfers"].is_array() || answer.problem().as_deref() == Some("unknown-transfer");
        ensure!(is_answer && shows_nothing, "{} asks for {}'s transfer: {said}", one.wallet, other.wallet);
        self.strangers += 1;
        Ok(())
    }

    /// Everything has come to its end: every move filed at both ends once, every fee due once, every record compared,
    /// nothing waits, everything stored is whole.
    pub(crate) fn settle(&mut self, stage: &Stage, load: &Load, dice: &mut Dice) -> Result<()> {
        let (done, begun) = (load.done(), Instant::now());
        while let Err(fault) = self.is_settled(stage, load, &done) {
            if begun.elapsed() > LIMIT + LIMIT {
                return Err(fault.context("in the end"));
            }
            std::thread::sleep(Duration::from_millis(300));
        }
        self.look(stage, load, dice, true)?;
        for it in &done {
            self.compare(stage, it, Some(dice))
                .with_context(|| format!("{} of {}", it.transfer, it.wallet))?;
        }
        let whole = dice.one_of(&done);
        self.compare(stage, &whole, None)?;
        Ok(())
    }

    fn is_settled(&mut self, stage: &Stage, load: &Load, done: &[std::sync::Arc<Move>]) -> Result<()> {
        for at in [Victim::Source, Victim::Destination] {
            let listed = desk::transfers(stage, at)?;
            let shown: BTreeMap<&str, &Value> = listed["transfers"]
                .as_array()
                .into_iter()
                .flatten()
                .map(|shown| (text(shown, "transfer"), shown))
                .collect();
            same("transfers", &done.len(), &shown.len())?;
            for it in done {
                let shown = shown.get(it.transfer.as_str()).with_context(|| format!("no {}", it.transfer))?;
                same("a state", &"filed", &text(shown, "state"))?;
                ensure!(shown["waiting"] == 0 && shown["dead_letters"] == 0, "{at:?}: {shown}");
            }
        }
        let entries = desk::entries(stage)?;
        let listed = desk::transfers(stage, Victim::Destination)?;
        self.watch.ledger(&entries, &listed, &load.fees())?;
        same("fees due", &done.len(), &self.watch.fees_due())
    }
}

/// Nothing that a record says stands readable in any file: of a hospital, of the index, of a log.
pub(crate) fn nothing_is_readable(folders: &[&Path], moves: &[std::sync::Arc<Move>]) -> Result<(u64, usize)> {
    let mut telling: BTreeSet<Vec<u8>> = BTreeSet::new();
    for it in moves {
        telling.insert(it.patient.clone().into_bytes());
        let records: Value = serde_json::from_slice(&std::fs::read(&it.file)?)?;
        tell(&records, &mut telling);
    }
    let telling: Vec<Vec<u8>> = telling.into_iter().collect();
    ensure!(!telling.is_empty(), "no words to look for");
    // Two bytes say of nearly every place that nothing begins there.
    let mut begins = vec![false; 1 << 16];
    for words in &telling {
        if let Some(begin) =
            words.first_chunk().and_then(|two| begins.get_mut(usize::from(u16::from_le_bytes(*two))))
        {
            *begin = true;
        }
    }
    let firsts: BTreeMap<[u8; 8], Vec<&[u8]>> = telling.iter().fold(BTreeMap::new(), |mut all, words| {
        if let Some(first) = words.first_chunk::<8>() {
            all.entry(*first).or_insert_with(Vec::new).push(words.as_slice());
        }
        all
    });
    let mut bytes = 0;
    for folder in folders {
        files_below(folder, &mut |file| {
            let Ok(content) = std::fs::read(file) else { return Ok(()) };
            bytes += content.len() as u64;
            let mut two = 0_u16;
            for (behind, byte) in content.iter().enumerate() {
                two = (two >> 8) | (u16::from(*byte) << 8);
                if behind == 0 || !begins[usize::from(two)] {
                    continue;
                }
                let (at, rest) = (behind - 1, &content[behind - 1..]);
                let Some(found) = rest.first_chunk().and_then(|first| firsts.get(first)) else { continue };
                if found.iter().any(|words| rest.starts_with(words)) {
                    bail!("{} says what stands in a record, at {at}", file.display());
                }
            }
            Ok(())
        })?;
    }
    Ok((bytes, firsts.values().map(Vec::len).sum()))
}

/// Texts of a patient's own: long ones, which do not stand in every patient's records.
fn tell(value: &Value, telling: &mut BTreeSet<Vec<u8>>) {
    match value {
        Value::Object(members) => {
            for (key, member) in members {
                match member.as_str() {
                    Some(own) if ["family", "id", "data", "reference"].contains(&key.as_str()) => {
                        if own.len() >= TELLING_BYTES {
                            telling.insert(own.bytes().take(2 * TELLING_BYTES).collect());
                        }
                    }
                    _ => tell(member, telling),
                }
            }
        }
        Value::Array(members) => members.iter().for_each(|member| tell(member, telling)),
        _ => {}
    }
}
