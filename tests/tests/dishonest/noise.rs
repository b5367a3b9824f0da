//! A member that sends what is no message, or a message that is not its to send.

use anyhow::{Context as _, Result, ensure};
use handover_core::artefact::Verified;
use handover_core::codec::{self, MAX_MESSAGE_BYTES};
use handover_core::message::{Request, Verb};
use handover_core::{Code, HospitalId};
use handover_net::Route;
use handover_tests::fixture;
use handover_tests::rogue::{Rogue, parcel};

use super::stage::{Stage, hospital, refused, taken};

pub(crate) fn all(stage: &mut Stage) -> Result<()> {
    let (lakeside, riverside) = Stage::victims();
    let before = stage.witness()?;
    let rogue = &stage.rogue;
    let routes = [rogue.index(), rogue.route(&lakeside)?, rogue.route(&riverside)?];
    for route in &routes {
        messages(rogue, route)?;
        artefacts(stage, route)?;
    }
    for route in &routes[1..] {
        verbs(rogue, route)?;
    }
    others(stage)?;
    stage.untouched_since(&before)
}

fn messages(rogue: &Rogue, to: &Route) -> Result<()> {
    let sent = |what: &str, code: Code, body: Vec<u8>| {
        refused(&format!("{what} to {}", to.party), code, || rogue.send(to, body.clone()))
    };
    sent("nothing", Code::Malformed, Vec::new())?;
    sent("garbage", Code::Malformed, vec![0x5a; 1_000])?;
    sent("a mebibyte of garbage", Code::Malformed, vec![0x5a; MAX_MESSAGE_BYTES])?;
    sent("a mebibyte of arrays in arrays", Code::Malformed, vec![0x81; MAX_MESSAGE_BYTES])?;
    sent("maps in maps", Code::Malformed, [0xa1, 0x01].repeat(5_000))?;
    sent(
        "a byte string longer than the message",
        Code::Malformed,
        vec![0x5b, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0],
    )?;
    sent("an array of 2^32 items", Code::Malformed, vec![0xa2, 1, 4, 2, 0x9a, 0xff, 0xff, 0xff, 0xff])?;
    let honest = Request::encode(Verb::Deliver, vec![parcel(None, b"x")]);
    ensure!(honest[0] == 0xa2, "a request is a map of two");
    sent("a request in another encoding", Code::Malformed, [&[0xb8, 2], &honest[1..]].concat())?;
    sent("a request of indefinite length", Code::Malformed, [&[0xbf], &honest[1..], &[0xff]].concat())?;
    sent("a request with a byte behind it", Code::Malformed, [&honest[..], &[0]].concat())?;
    sent("a verb that is none", Code::OlderProgram, {
        let mut other = honest.clone();
        other[2] = 0x17;
        other
    })?;
    let item = parcel(None, b"x");
    // More than a mebibyte does not leave this side's network room; its own tests say that byte by byte.
    sent("65 parcels", Code::TooLarge, Request::encode(Verb::Deliver, vec![item; 65]))
}

/// Artefacts in another form than the one accepted; what they say would be honest.
fn artefacts(stage: &Stage, to: &Route) -> Result<()> {
    let (rogue, ada) = (&stage.rogue, &stage.ada);
    let ask = ada.signed(ada.asking(&hospital("lakeside"), rogue.id()));
    let honest = Verified::sign(rogue.request(&ask)?, &rogue.keys.signing).envelope().to_vec();
    let sent = |what: &str, code: Code, content: &[u8]| {
        let body = Request::encode(Verb::Deliver, vec![parcel(Some(hospital("lakeside")), content)]);
        refused(&format!("{what} to {}", to.party), code, || rogue.send(to, body.clone()))
    };
    // COSE_Sign1: tag 18, then an array of four.
    ensure!(honest[..2] == [0xd2, 0x84], "an envelope is a tagged array of four");
    sent("an envelope without its tag", Code::Malformed, &honest[1..])?;
    sent("an envelope in another encoding", Code::Malformed, &[&[0xd2, 0x98, 4], &honest[2..]].concat())?;
    sent(
        "an envelope of indefinite length",
        Code::Malformed,
        &[&[0xd2, 0x9f], &honest[2..], &[0xff]].concat(),
    )?;
    sent("an envelope with a byte behind it", Code::Malformed, &[&honest[..], &[0]].concat())?;
    sent("an envelope in an envelope's tag", Code::Malformed, &[&[0xd2], &honest[..]].concat())?;
    sent("deep CBOR", Code::Malformed, &[0x81; 10_000])?;
    sent("an artefact of no transfer", Code::Malformed, ask.envelope())
}

fn verbs(rogue: &Rogue, to: &Route) -> Result<()> {
    for verb in [Verb::Enrol, Verb::Prove, Verb::Locate, Verb::Link, Verb::Directory, Verb::DirectoryPieces] {
        let what = format!("{verb} to {}", to.party);
        refused(&what, Code::AccessDenied, || rogue.ask(to, verb, vec![vec![0; 8]]))?;
    }
    let world = fixture::World::shared();
    let directory = world.published(&world.directory(u64::MAX, fixture::T0)).head.0;
    refused("a directory of another federation", Code::AccessDenied, || {
        rogue.ask(to, Verb::Directory, vec![directory.clone()])
    })
}

/// At the index, in somebody else's name.
fn others(stage: &Stage) -> Result<()> {
    let (lakeside, riverside) = Stage::victims();
    let rogue = &stage.rogue;
    let index = rogue.index();
    let asked = |what: &str, code: Code, verb: Verb, items: Vec<Vec<u8>>| {
        refused(what, code, || rogue.ask(&index, verb, items.clone()))
    };
    asks_to_succeed(stage, &lakeside)?;
    let question = stage.pat.question(None);
    let forged = Verified::sign(question, &rogue.keys.signing).envelope().to_vec();
    asked("a question in Pat's name", Code::WrongSigner, Verb::Locate, vec![forged])?;
    for hospital in [&lakeside, &riverside] {
        let link = stage.pat.linking(hospital, "AAAA-AAAA");
        let link = handover_core::artefact::Countersigned::sign(&link, &rogue.keys.signing);
        asked("a link to another hospital", Code::WrongSigner, Verb::Link, vec![link])?;
    }
    // An honest artefact of two others, sent by a third.
    others_artefact(stage, &riverside)
}

/// Anybody may ask to succeed anybody's key, and has nothing by it.
fn asks_to_succeed(stage: &Stage, lakeside: &HospitalId) -> Result<()> {
    let (rogue, key) = (&stage.rogue, stage.rogue.keys.signing.public().to_string());
    taken("to succeed Lakeside", || rogue.asks_to_succeed(lakeside, 1_000))?;
    let listed = stage.world.index(&["hospital", "list"])?.json()?;
    let all = listed["hospitals"].as_array().into_iter().flatten();
    let own = all.into_iter().find(|it| it["hospital"] == lakeside.as_str()).context("Lakeside is gone")?;
    ensure!(own["status"] == "active" && own["key"] != key.as_str(), "{own}");
    ensure!(own["successors"][0]["key"] == key.as_str() && own["former_keys"] == 0, "{own}");
    rogue.refresh()?;
    let speaks = rogue.federation()?.member(lakeside).map(|it| it.certificate.key.to_string() == key);
    ensure!(speaks == Ok(false), "it speaks for Lakeside");
    stage.world.index(&["hospital", "drop", lakeside.as_str(), "--successor", &key])?.done()
}

fn others_artefact(stage: &Stage, riverside: &HospitalId) -> Result<()> {
    let id = {
        let listed = stage.world.node(riverside.as_str(), &["transfer", "list"])?.json()?;
        let all = listed["transfers"].as_array().cloned().unwrap_or_default();
        let between = all.iter().find(|it| it["source"] == "lakeside");
        between.and_then(|it| it["transfer"].as_str().map(str::to_owned)).unwrap_or_default()
    };
    let file = stage.world.folder().join("of-two-others.transfer");
    let path = file.to_str().unwrap_or_default();
    stage.world.node(riverside.as_str(), &["transfer", "show", &id, "--out", path])?.done()?;
    let kept: handover_core::verify::TransferFile =
        codec::decode(&std::fs::read(&file)?, handover_core::verify::TRANSFER_FILE_MAX_BYTES)?;
    let rogue = &stage.rogue;
    for artefact in &kept.artefacts {
        refused("an artefact of two others", Code::AccessDenied, || {
            rogue.post(riverside, artefact.as_ref())
        })?;
    }
    Ok(())
}
