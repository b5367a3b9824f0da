//! Large content that is cut goes on at the last verified group, at either side, and nothing of it travels twice; a
//! destination that never reads holds up nobody else.

use std::fs;
use std::io::Read as _;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use handover_core::Code;
use handover_core::artefact::Verified;
use handover_core::artefact::patient::Consent;
use handover_core::codec::Extensions;
use handover_seal::tree;
use handover_tests::rogue::LIMIT;
use handover_tests::rogue::sale::{Sale, travelling};
use handover_tests::rogue::stream::Stream;
use handover_tests::rogue::wire::{Done, Have};

use super::buyer::{Quoted, offered, quoted};
use super::stage::{LAKESIDE, RIVERSIDE, Stage, hospital, taken};

/// Bytes of the large content: many groups, and a part of one.
const LARGE_BYTES: usize = 4 * 1024 * 1024 + 5;
/// Where the destination says that it goes on.
const FROM_GROUP: u64 = 40;
/// More packages than one hospital is sent at once, and than all were once sent.
const PACKAGES: usize = 17;
/// Packages that one hospital is sent at once.
const AT_ONCE: usize = 6;

pub(crate) fn all(stage: &mut Stage) -> Result<()> {
    received_to_the_end(stage).context("a destination that was cut off")?;
    sent_from_where_it_is_wanted(stage).context("a source that was cut off")?;
    read_by_nobody(stage).context("a destination that never reads")
}

fn have(groups: Vec<u64>) -> Have {
    Have { problem: None, groups, extensions: Extensions::default() }
}

/// The source sends half of a content, then the rest: the destination wants it from where it was cut.
fn received_to_the_end(stage: &mut Stage) -> Result<()> {
    let riverside = hospital(RIVERSIDE);
    let sale: Sale = stage.rogue.agreed(&stage.world, &stage.pat, RIVERSIDE)?;
    let goods = stage.rogue.goods_of(&sale, LARGE_BYTES)?;
    let package = stage.rogue.sealed(&sale, &goods, |_| {})?;
    let content = &package.parts[1];
    let all = tree::groups(content.len() as u64);
    let done = stage.rogue.deliver(&riverside, &package, |parts| {
        let half = parts[1].len() / 2;
        parts[1].truncate(half);
    })?;
    ensure!(done.problem == Some(Code::PackageTruncated), "half a content is taken: {done:?}");
    let (mut stream, have) = stage.rogue.offer(&riverside, &package.offer)?;
    let [manifest, from] = have.groups[..] else { anyhow::bail!("other parts: {have:?}") };
    ensure!(manifest == tree::groups(package.parts[0].len() as u64), "the manifest is wanted again");
    ensure!(from + 2 > all / 2, "half of {all} groups were sent, and it goes on at {from}");
    // A second cut, within the next group.
    stream.write(&travelling(content, from)?[..100_000])?;
    stream.end()?;
    let done: Done = stream.get()?;
    ensure!(done.problem == Some(Code::PackageTruncated), "a content without its end is taken: {done:?}");
    let (mut stream, have) = stage.rogue.offer(&riverside, &package.offer)?;
    ensure!(have.groups[1] > from, "what came after the first cut is wanted again: {have:?}");
    stream.write(&travelling(content, have.groups[1])?)?;
    let done: Done = stream.get()?;
    ensure!(done.delivered.is_some(), "the whole is not taken: {done:?}");
    Ok(())
}

fn agreed(stage: &mut Stage) -> Result<(Quoted, Verified<Consent>)> {
    let on = quoted(stage)?;
    let federation = stage.rogue.federation()?;
    let yes = stage.ada.consent(&on.quote, &on.body, federation.as_ref(), |_, _| {})?;
    taken("a consent", || stage.rogue.post(&hospital(LAKESIDE), yes.consent.envelope()))?;
    Ok((on, yes.consent))
}

/// The destination has a part of a file that was imported: the source sends the rest, and no byte more.
fn sent_from_where_it_is_wanted(stage: &mut Stage) -> Result<()> {
    let folder = stage.world.records_folder().join("large");
    fs::create_dir_all(&folder)?;
    let bytes: Vec<u8> = (0..LARGE_BYTES).map(|at| (at % 251) as u8 ^ (at / 65_521) as u8).collect();
    fs::write(folder.join("ct.dcm"), bytes)?;
    let document = format!(
        r#"{{"resourceType":"DocumentReference","id":"ct","status":"current","subject":{{"reference":"Patient/{}"}},
        "content":[{{"attachment":{{"contentType":"application/dicom","url":"ct.dcm"}}}}]}}"#,
        stage.ada.local
    );
    let path = folder.join("ct.json");
    fs::write(&path, document)?;
    let imported = stage.world.node(LAKESIDE, &["import", path.to_str().context("UTF-8")?])?.json()?;
    ensure!(imported["records"]["new"] == 2, "a document and its file: {imported}");

    let (on, consent) = agreed(stage)?;
    let (mut stream, _, parts) = offered(stage, on.transfer, &consent)?;
    let whole: Vec<u64> = parts.iter().map(|part| tree::groups(part.length)).collect();
    let large = parts.iter().position(|part| part.length > LARGE_BYTES as u64).context("no large part")?;
    let part = parts.iter().nth(large).context("no large part")?.clone();
    let mut groups = whole;
    groups[large] = 0;
    stream.put(&have(groups.clone()))?;
    // Cut by the destination's end, somewhere.
    stream.read_exact(&mut [0; 300_000])?;
    drop(stream);
    let (mut stream, ..) = offered(stage, on.transfer, &consent)?;
    groups[large] = FROM_GROUP;
    stream.put(&have(groups))?;
    let mut rest = Vec::new();
    tree::receive(&mut stream, &part.root, part.length, FROM_GROUP, &mut rest)?;
    ensure!(rest.len() as u64 == part.length - tree::group_offset(FROM_GROUP, part.length), "another rest");
    refuse(stream)?;
    stage.comes_to(LAKESIDE, on.transfer, "delivered", "refused (malformed)")
}

/// Ends the transfer; nothing may have come beyond what was wanted.
fn refuse(mut stream: Stream) -> Result<()> {
    stream.put(&Done {
        problem: Some(Code::Malformed),
        delivered: None,
        extensions: Extensions::default(),
    })?;
    stream.end()?;
    let mut more = Vec::new();
    // However it ends: what came counts.
    let _ = stream.read_to_end(&mut more);
    ensure!(more.is_empty(), "{} bytes more than were wanted", more.len());
    Ok(())
}

/// Many packages for a destination that takes streams and says nothing: others are sent theirs meanwhile.
fn read_by_nobody(stage: &mut Stage) -> Result<()> {
    let agreed = (0..PACKAGES).map(|_| agreed(stage)).collect::<Result<Vec<_>>>()?;
    let held = (0..AT_ONCE).map(|_| stage.rogue.opened()).collect::<Result<Vec<_>>>()?;
    stage.honest()?;
    drop(held);
    // All come again, or at last, and are ended.
    let begun = Instant::now();
    for (on, _) in agreed {
        while !stage.state(LAKESIDE, on.transfer)?.starts_with("refused") {
            ensure!(begun.elapsed() < 4 * LIMIT, "the packages do not come again");
            let Some(mut stream) = stage.rogue.opened_already() else { continue };
            let problem = Some(Code::Malformed);
            let no = Have { problem, groups: Vec::new(), extensions: Extensions::default() };
            // One that the source has given up meanwhile comes again.
            let _ = stream.put(&no).and_then(|()| stream.end());
        }
    }
    Ok(())
}
