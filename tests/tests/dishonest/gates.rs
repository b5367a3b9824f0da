//! Packages above the gate between small and large: one that was altered in the middle and cut goes on where it was good
//! and is filed; those that are not what they say end by name and leave nothing on the disk; and a source that holds all
//! of its large places keeps neither its own small packages nor others' back.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use handover_core::Code;
use handover_core::artefact::Verified;
use handover_core::artefact::transfer::{PartList, Step};
use handover_seal::tree;
use handover_tests::rogue::sale::{Goods, Package, Sale, travelling};
use handover_tests::rogue::stream::Stream;
use handover_tests::rogue::wire::Done;
use handover_tests::rogue::{LIMIT, within};

use super::stage::{RIVERSIDE, Stage, hospital, taken};

const MIB: usize = 1024 * 1024;
/// A study, and others; what is above 16 MiB is large.
const STUDY_BYTES: usize = 48 * MIB;
const LARGE_BYTES: usize = 17 * MIB;
/// Large packages that one hospital may send at once.
const LARGE_AT_ONCE: usize = 4;
/// What the store and small records may add to the disk meanwhile.
const SMALL_BYTES: u64 = MIB as u64;

/// What is said of the parts that is not so.
type Lie = fn(&mut PartList);

pub(crate) fn all(stage: &mut Stage) -> Result<()> {
    goes_on_where_it_was_good(stage).context("a study that was altered and cut")?;
    let before = used(stage)?;
    not_what_they_say(stage).context("large packages that are not what they say")?;
    places(stage).context("all large places taken")?;
    within(LIMIT, "the disk is free again", || used(stage).is_ok_and(|now| now <= before + SMALL_BYTES))
        .with_context(|| format!("{before} bytes were used, now {:?}", used(stage)))
}

/// The bytes of packages and contents on Riverside's disk.
fn used(stage: &Stage) -> Result<u64> {
    fn below(folder: &Path) -> Result<u64> {
        let mut bytes = 0;
        for entry in std::fs::read_dir(folder)? {
            let entry = entry?;
            // What is removed while it is counted is gone.
            let Ok(meta) = entry.metadata() else { continue };
            bytes += if meta.is_dir() { below(&entry.path()).unwrap_or_default() } else { meta.len() };
        }
        Ok(bytes)
    }
    let data = stage.world.folder().join("hospitals").join(RIVERSIDE).join("data");
    Ok(below(&data.join("incoming"))? + below(&data.join("blobs"))?)
}

/// A large package of bytes that nobody will open.
fn sold(stage: &mut Stage, listing: Lie) -> Result<(Sale, Package)> {
    let sale = stage.rogue.agreed(&stage.world, &stage.pat, RIVERSIDE)?;
    // No content lies there already.
    let bytes = sale.transfer().as_bytes().iter().copied().cycle().take(LARGE_BYTES).collect();
    let goods = Goods { listing, contents: vec![bytes], ..stage.rogue.goods(&sale)? };
    let package = stage.rogue.sealed(&sale, &goods, |_| {})?;
    Ok((sale, package))
}

fn goes_on_where_it_was_good(stage: &mut Stage) -> Result<()> {
    let riverside = hospital(RIVERSIDE);
    let sale = stage.rogue.agreed(&stage.world, &stage.pat, RIVERSIDE)?;
    let package = stage.rogue.sealed(&sale, &stage.rogue.goods_of(&sale, STUDY_BYTES)?, |_| {})?;
    let rogue = &stage.rogue;
    let all = tree::groups(package.parts[1].len() as u64);
    let held = || -> Result<(Stream, u64)> {
        let (stream, have) = rogue.offer(&riverside, &package.offer)?;
        let [_, held] = have.groups[..] else { anyhow::bail!("the offer is refused: {have:?}") };
        Ok((stream, held))
    };
    let said = |what: &str, code: Code, change: &dyn Fn(&mut Vec<u8>)| -> Result<()> {
        let done = rogue.deliver(&riverside, &package, |parts| change(&mut parts[1]))?;
        ensure!(done.problem == Some(code), "{what}: expected {code}, came {done:?}");
        Ok(())
    };
    for time in ["", " again"] {
        said(&format!("altered in the middle{time}"), Code::PackageDamaged, &|part| {
            let middle = part.len() / 2;
            part[middle] ^= 1;
        })?;
    }
    // The second was altered in the middle of what was left.
    let (stream, good) = held()?;
    drop(stream);
    ensure!(good > all / 2 && good < all, "of {all} groups {good} are held, three quarters were good");
    let cut = |part: &mut Vec<u8>| part.truncate(part.len() / 2);
    within(LIMIT, "the stream that was given up is let go", || {
        said("cut", Code::PackageTruncated, &cut).is_ok()
    })?;
    let (mut stream, more) = held()?;
    ensure!(more > good, "what came before the cut is wanted again: {more} groups");
    stream.write(&travelling(&package.parts[1], more)?)?;
    let done: Done = stream.get()?;
    ensure!(done.delivered.is_some(), "the whole study is not taken: {done:?}");
    let key = Verified::sign(rogue.key_release(&package), &rogue.keys.signing);
    taken("the header for the index", || rogue.post(&riverside, package.header.envelope()))?;
    taken("the key for the index", || rogue.post(&riverside, key.envelope()))?;
    taken("the key", || rogue.bring(&riverside, key.envelope()))?;
    stage.comes_to(RIVERSIDE, sale.transfer(), "filed", "filed")
}

/// It ends at the source's word, and nothing of it stays.
fn ends(stage: &Stage, sale: &Sale) -> Result<()> {
    let refusal = stage.rogue.refusal(sale.transfer(), Step::Delivery, Code::PackageDamaged);
    taken("a refusal by the source", || stage.rogue.bring(&hospital(RIVERSIDE), refusal.envelope()))?;
    stage.comes_to(RIVERSIDE, sale.transfer(), "filed", "refused (package-damaged)")
}

fn not_what_they_say(stage: &mut Stage) -> Result<()> {
    let cases: [(&str, Lie); 3] = [
        ("it is longer than said", |it| it.contents[0].length -= MIB as u64),
        ("it is shorter than said", |it| it.contents[0].length += MIB as u64),
        ("it is another one", |it| it.contents[0].root = it.manifest.root),
    ];
    for (what, listing) in cases {
        let (sale, package) = sold(stage, listing)?;
        for _ in 0..2 {
            let done = stage.rogue.deliver(&hospital(RIVERSIDE), &package, |_| {})?;
            ensure!(done.problem == Some(Code::PackageDamaged), "{what}: {done:?}");
        }
        ends(stage, &sale)?;
    }
    Ok(())
}

/// A source offers as many large packages as it can, and sends nothing of them.
fn places(stage: &mut Stage) -> Result<()> {
    let riverside = hospital(RIVERSIDE);
    let large: Vec<_> = (0..=LARGE_AT_ONCE).map(|_| sold(stage, |_| {})).collect::<Result<_>>()?;
    let small_sale = stage.rogue.agreed(&stage.world, &stage.pat, RIVERSIDE)?;
    let small = stage.rogue.sealed(&small_sale, &stage.rogue.goods(&small_sale)?, |_| {})?;
    let mut held = Vec::new();
    for (_, package) in &large[..LARGE_AT_ONCE] {
        let (stream, have) = stage.rogue.offer(&riverside, &package.offer)?;
        ensure!(have.problem.is_none(), "a large offer is refused: {have:?}");
        held.push(stream);
    }
    let (_, last) = &large[LARGE_AT_ONCE];
    let (_, have) = stage.rogue.offer(&riverside, &last.offer)?;
    ensure!(have.problem == Some(Code::Busy), "one more large one has a place: {have:?}");
    let done = stage.rogue.deliver(&riverside, &small, |_| {})?;
    ensure!(done.delivered.is_some(), "its own small one has none: {done:?}");
    stage.honest()?;
    drop(held);
    within(LIMIT, "a large one has a place again", || {
        let done = stage.rogue.deliver(&riverside, last, |_| {});
        done.is_ok_and(|done| done.delivered.is_some())
    })?;
    large.iter().map(|(sale, _)| sale).chain([&small_sale]).try_for_each(|sale| ends(stage, sale))
}
