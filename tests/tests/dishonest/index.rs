//! An index that was broken into, with all its keys: what it can make the hospitals believe (nothing that root and
//! operators did not sign, and nothing older than what they know), and what it can stop (new work, for as long as it
//! is believed to be two).

use std::sync::Arc;

use anyhow::{Context, Result, anyhow, ensure};
use handover_core::artefact::federation::{DIRECTORY_LIFE_MS, DirectoryEntry, HospitalCertificate};
use handover_core::artefact::transfer::{Quote, Receipt, TransferRequest};
use handover_core::artefact::{Payload as _, Signed, Verified, peek_type};
use handover_core::codec::{self, Bytes};
use handover_core::message::Verb;
use handover_core::time::DAY_MS;
use handover_core::trust::Federation;
use handover_core::verify::TransferFile;
use handover_core::{Code, HospitalId, rules};
use handover_net::Presented;
use handover_scenarios::story::Order;
use handover_tests::fixture::{Draft, World, altered};
use handover_tests::rogue::index::FalseIndex;
use handover_tests::rogue::person::endpoint;
use handover_tests::rogue::sale::{Package, Sale, carry};
use handover_tests::rogue::wire::Have;
use handover_tests::rogue::{LIMIT, now, until};

use super::stage::{LAKESIDE, RIVERSIDE, Stage, refused, taken};

pub(crate) fn all(stage: &mut Stage) -> Result<()> {
    let before = stage.rogue.federation()?;
    changes(stage)?;
    let held = stage.rogue.federation()?;
    stage.ada.link(&stage.world, RIVERSIDE)?;
    // Two moves that the patient has said yes to: one will be taken back, the other goes on.
    let back = stage.rogue.agreed(&stage.world, &stage.pat, RIVERSIDE)?;
    let on = stage.rogue.agreed(&stage.world, &stage.pat, RIVERSIDE)?;
    // And one whose package lies in Riverside's folder, say.
    let kept = stage.rogue.agreed(&stage.world, &stage.pat, RIVERSIDE)?;
    stage.kill_index()?;
    let (lakeside, riverside) = Stage::victims();
    let index = FalseIndex::start(&stage.world, &held, &[&lakeside, &riverside])?;
    let witness = stage.witness()?;
    lies(&index, &before, &held)?;
    replays(stage, &index)?;
    stage.untouched_since(&witness)?;
    drops(stage, &index, &back, &on)?;
    let unknown = swallows(stage)?;
    carries(stage, &index, &kept)?;
    fork(stage, &index)?;
    index.end();
    stage.world.restart_index(true)?;
    // Whatever is changed next makes a version above everything that was signed until now.
    stage.world.order(stage.rogue.id().as_str(), Order::Suspend)?;
    stage.rogue.approved(&stage.world)?;
    for hospital in [LAKESIDE, RIVERSIDE] {
        let asked = || asked(stage, hospital);
        until(&format!("{hospital} works again"), || asked().is_ok_and(|code| code != DIRECTORY_FORKED))?;
    }
    // The index that is itself again has not heard of the move that was made behind its back.
    ensure!(stage.world.entries(&unknown)?.is_empty(), "the fee of a transfer that it never heard of");
    stage.world.node(LAKESIDE, &["transfer", "resend", &unknown, "--all"])?.done()?;
    stage.world.posted(&unknown, LIMIT)?;
    stage.rogue.meets_everybody()
}

const DIRECTORY_FORKED: &str = "directory-forked";

/// What the directory has of the rogue changes, so that there is something to go back to: it is suspended, admitted
/// again, and has a newer profile.
fn changes(stage: &Stage) -> Result<()> {
    let rogue = &stage.rogue;
    stage.world.order(rogue.id().as_str(), Order::Suspend)?;
    for hospital in [LAKESIDE, RIVERSIDE] {
        let route = rogue.route(&hospital.parse()?)?;
        until(&format!("{hospital} refuses it by name"), || {
            rogue.renew_hello();
            rogue.connect(&route) == Ok(Presented::Refused(Code::HospitalSuspended))
        })?;
        refused("a package", Code::HospitalSuspended, || {
            rogue.open(&hospital.parse().expect("known")).map(drop)
        })?;
    }
    rogue.approved(&stage.world)?;
    rogue.meets_everybody()?;
    rogue.renew_profile(7)?;
    let is_renewed = || {
        let profile = |it: &Federation| it.member(rogue.id()).map(|member| member.profile.number);
        rogue.refresh().is_ok() && rogue.federation().is_ok_and(|it| profile(&it) == Ok(7))
    };
    until("the newer profile is in the directory", is_renewed)?;
    rogue.meets_everybody()
}

/// Where a hospital stands in a directory.
fn entry<'a>(of: &'a mut Draft, hospital: &str) -> &'a mut DirectoryEntry {
    let is_of = |entry: &&mut DirectoryEntry| {
        let read = Signed::<HospitalCertificate>::read(entry.certificate.as_ref());
        read.is_ok_and(|it| it.claim().hospital.as_str() == hospital)
    };
    of.hospitals.iter_mut().find(is_of).expect("it is a member")
}

fn lies(index: &FalseIndex, before: &Arc<Federation>, held: &Arc<Federation>) -> Result<()> {
    let world = World::shared();
    let mut old = Draft::of(before);
    let rogue = entry(&mut old, world.hillcrest.id.as_str()).clone();
    let version = held.directory().version;
    let newer = |change: &dyn Fn(&mut Draft)| {
        index.forged(|it| {
            (it.version, it.issued) = (version + 1, now());
            it.expires = it.issued.plus_ms(DIRECTORY_LIFE_MS);
            change(it);
        })
    };
    let of = |it: &mut Draft, change: &dyn Fn(&mut DirectoryEntry)| {
        change(entry(it, world.hillcrest.id.as_str()));
    };
    let invented = || {
        let certificate = altered(&world.lakeside.certificate, &world.stranger, |it| {
            it.hospital = "seaside".parse().expect("an identifier");
        });
        DirectoryEntry { certificate: Bytes(certificate), ..rogue.clone() }
    };
    let foreign = || Bytes(altered(&world.lakeside.profile, &world.hillcrest.signing, |_| {}));
    for (what, code, envelope) in [
        ("an older directory", Code::DirectoryRollback, before.directory().envelope().to_vec()),
        ("an older version with new content", Code::DirectoryRollback, index.forged(|it| it.version -= 1)),
        ("a member left out", Code::DirectoryTakesBack, newer(&|it| it.hospitals.truncate(2))),
        (
            "an order with a lower number",
            Code::DirectoryTakesBack,
            newer(&|it| {
                of(it, &|entry| entry.status = rogue.status.clone());
            }),
        ),
        (
            "an older profile",
            Code::DirectoryTakesBack,
            newer(&|it| {
                of(it, &|entry| entry.profile = rogue.profile.clone());
            }),
        ),
        ("no fee schedule", Code::DirectoryTakesBack, newer(&|it| it.schedules.clear())),
        ("an invented hospital", Code::WrongSigner, newer(&|it| it.hospitals.push(invented()))),
        (
            "a foreign RSA key",
            Code::WrongSigner,
            newer(&|it| {
                entry(it, LAKESIDE).profile = foreign();
            }),
        ),
        ("a version far ahead", Code::DirectoryAhead, newer(&|it| it.version = u64::MAX)),
        (
            "a directory for years",
            Code::DirectoryLife,
            newer(&|it| it.expires = it.issued.plus_ms(1_000 * DAY_MS)),
        ),
        ("one for a second", Code::DirectoryLife, newer(&|it| it.expires = it.issued.plus_ms(1_000))),
        // Its version says when it was made.
        (
            "one that has run out already",
            Code::DirectoryAhead,
            newer(&|it| (it.issued, it.expires) = (it.issued.plus_ms(-DIRECTORY_LIFE_MS), it.issued)),
        ),
    ] {
        for victim in [LAKESIDE, RIVERSIDE] {
            let victim: HospitalId = victim.parse()?;
            refused(&format!("{what}, to {victim}"), code, || index.shows(&victim, &envelope))?;
        }
    }
    Ok(())
}

/// What it has seen of others' transfers, once more: the first answer, and nothing happens.
fn replays(stage: &Stage, index: &FalseIndex) -> Result<()> {
    let (lakeside, riverside) = Stage::victims();
    let listed = stage.world.node(RIVERSIDE, &["transfer", "list"])?.json()?;
    let filed = listed["transfers"].as_array().into_iter().flatten().find(|it| it["state"] == "filed");
    let id = filed.and_then(|it| it["transfer"].as_str()).context("a filed transfer")?;
    let path = stage.world.folder().join("replayed.transfer");
    let out = path.to_str().context("UTF-8")?;
    stage.world.node(RIVERSIDE, &["transfer", "show", id, "--out", out])?.done()?;
    let file: TransferFile = codec::decode(&std::fs::read(&path)?, codec::MAX_MESSAGE_BYTES)?;
    ensure!(file.artefacts.len() > 5, "a whole transfer's evidence: {}", file.artefacts.len());
    for artefact in &file.artefacts {
        for victim in [&lakeside, &riverside] {
            taken(&format!("a replay to {victim}"), || index.delivers(victim, artefact.as_ref()))?;
        }
    }
    Ok(())
}

/// It says yes to everything and passes nothing on: what the patient has been promised holds, and what was consented
/// to comes to its end between the hospitals.
fn drops(stage: &mut Stage, index: &FalseIndex, back: &Sale, on: &Sale) -> Result<()> {
    let riverside: HospitalId = RIVERSIDE.parse()?;
    let transfer = back.transfer();
    let envelope = codec::encode(&back.yes.as_ref().context("agreed")?.revocation);
    let node = endpoint(&stage.world, RIVERSIDE)?;
    taken("Pat's revocation", || node.artefact(&envelope).map_err(|fault| fault.code()))?;
    stage.rogue.revoked(transfer)?;
    until("the false index said yes to it", || {
        index.was_asked(Verb::Deliver, |item| contains(item, &envelope))
    })?;
    stage.comes_to(RIVERSIDE, transfer, "revoked", "revoked (consent-revoked)")?;

    let package = stage.rogue.sealed(on, &stage.rogue.goods(on)?, |_| {})?;
    let done = stage.rogue.deliver(&riverside, &package, |_| {})?;
    ensure!(done.delivered.is_some(), "not delivered: {:?}", done.problem);
    let key = Verified::sign(stage.rogue.key_release(&package), &stage.rogue.keys.signing);
    taken("the key", || stage.rogue.bring(&riverside, key.envelope()))?;
    stage.comes_to(RIVERSIDE, on.transfer(), "filed", "filed")?;
    stage.rogue.letter::<Receipt>(|it| it.transfer == on.transfer()).map(drop)
}

/// It says yes to all that it should pass on, from the request on: the hospitals see that nothing comes of it, and go
/// on by themselves.
fn swallows(stage: &Stage) -> Result<String> {
    let (lakeside, riverside) = Stage::victims();
    let (ada, rogue) = (&stage.ada, &stage.rogue);
    let node = endpoint(&stage.world, RIVERSIDE)?;
    let ask = ada.signed(ada.asking(&lakeside, &riverside));
    let transfer = ask.transfer.context("an ask for a transfer")?;
    let id = transfer.to_string();
    node.artefact(ask.envelope())?;
    stage.world.node(RIVERSIDE, &["transfer", "request", &id])?.done()?;
    stage.comes_to(RIVERSIDE, transfer, "quoted", "quoted")?;
    let path = stage.world.folder().join("swallowed.transfer");
    let out = path.to_str().context("UTF-8")?;
    stage.world.node(RIVERSIDE, &["transfer", "show", &id, "--out", out])?.done()?;
    let file: TransferFile = codec::decode(&std::fs::read(&path)?, codec::MAX_MESSAGE_BYTES)?;
    let find = |label: &str| {
        let artefacts = file.artefacts.iter().map(AsRef::as_ref);
        artefacts.into_iter().find(|it| peek_type(it).is_ok_and(|found| found == label)).context("not there")
    };
    let on =
        rogue.judge(|context| rules::request(find(TransferRequest::TYPE).unwrap_or_default(), context))?;
    let quote = rogue.judge(|context| rules::quote(find(Quote::TYPE).unwrap_or_default(), &on, context))?;
    let yes = ada.consent(&quote, &ada.read(&quote)?, rogue.federation()?.as_ref(), |_, _| {})?;
    node.artefact(yes.consent.envelope())?;
    node.artefact(ada.release(&yes, &quote)?.envelope())?;
    // Had it passed the consent on and kept the release to itself, the package would come all the same.
    taken("the consent", || rogue.bring(&lakeside, yes.consent.envelope()))?;
    stage.comes_to(RIVERSIDE, transfer, "filed", "filed")?;
    stage.comes_to(LAKESIDE, transfer, "filed", "filed")?;
    Ok(id)
}

/// It stands in for a source that left it a package: what it carries is the source's word, or refused; and the key that
/// it hands out before the package was signed for is not taken.
fn carries(stage: &mut Stage, index: &FalseIndex, sale: &Sale) -> Result<()> {
    let (lakeside, riverside) = Stage::victims();
    let honest = stage.rogue.sealed(sale, &stage.rogue.goods(sale)?, |_| {})?;
    let key = Verified::sign(stage.rogue.key_release(&honest), &stage.rogue.keys.signing);
    let key = key.envelope();
    refused("a key before its package", Code::EvidenceMissing, || index.delivers(&riverside, key))?;
    refused("a package under its own header", Code::WrongSigner, || {
        let mut other =
            stage.rogue.sealed(sale, &stage.rogue.goods(sale).expect("goods"), |_| {}).expect("sealed");
        let header = Verified::sign((*other.header).clone(), &index.signing);
        other.offer.header = header.envelope().to_vec().into();
        problem(index, &riverside, &other)
    })?;
    refused("a package for another", Code::UnknownTransfer, || problem(index, &lakeside, &honest))?;
    let damaged = carry(index.open(&riverside).map_err(|code| anyhow!("{code}"))?, &honest, |parts| {
        let part = parts.first_mut().expect("a manifest");
        let middle = part.len() / 2;
        part[middle] ^= 1;
    })?;
    ensure!(damaged.problem == Some(Code::ManifestDamaged), "{damaged:?}");
    refused("a key before delivery", Code::OutOfOrder, || index.delivers(&riverside, key))?;
    ensure!(stage.state(RIVERSIDE, sale.transfer())? == "sealed", "it went on");
    let done = carry(index.open(&riverside).map_err(|code| anyhow!("{code}"))?, &honest, |_| {})?;
    ensure!(done.delivered.is_some(), "not delivered: {:?}", done.problem);
    taken("the key against it", || index.delivers(&riverside, key))?;
    stage.comes_to(RIVERSIDE, sale.transfer(), "filed", "filed")
}

/// What a hospital says to a package that the index brings.
fn problem(index: &FalseIndex, to: &HospitalId, package: &Package) -> Result<(), Code> {
    let mut stream = index.open(to)?;
    let said = stream.put(&package.offer).and_then(|()| stream.get::<Have>());
    said.map_err(|_| Code::Unreachable)?.problem.map_or(Ok(()), Err)
}

fn contains(whole: &[u8], part: &[u8]) -> bool {
    whole.windows(part.len()).any(|window| window == part)
}

/// Two directories of one version: nobody starts anything on either.
fn fork(stage: &Stage, index: &FalseIndex) -> Result<()> {
    let (lakeside, riverside) = Stage::victims();
    let other = index.forged(|it| it.log_size += 1);
    for victim in [&lakeside, &riverside] {
        refused("a fork", Code::DirectoryForked, || index.shows(victim, &other))?;
        let log = std::fs::read_to_string(stage.world.logs().join(format!("{victim}.log")))?;
        ensure!(log.contains(DIRECTORY_FORKED), "{victim} says nothing of the fork");
    }
    for hospital in [LAKESIDE, RIVERSIDE] {
        let code = asked(stage, hospital)?;
        ensure!(code == DIRECTORY_FORKED, "{hospital} begins new work on a fork: {code}");
    }
    let ask = stage.ada.signed(stage.ada.asking(&lakeside, stage.rogue.id()));
    let request = Verified::sign(stage.rogue.request(&ask)?, &stage.rogue.keys.signing);
    refused("a request", Code::DirectoryForked, || stage.rogue.bring(&lakeside, request.envelope()))
}

/// How a desk's request is answered, for what a patient asks for there.
fn asked(stage: &Stage, at: &str) -> Result<String> {
    let person = if at == LAKESIDE { &stage.ada } else { &stage.pat };
    let ask = person.signed(person.asking(stage.rogue.id(), &at.parse()?));
    let transfer = ask.transfer.context("an ask for a transfer")?.to_string();
    if let Err(fault) = endpoint(&stage.world, at)?.artefact(ask.envelope()) {
        return Ok(fault.code().to_string());
    }
    let answer = stage.world.node(at, &["transfer", "request", &transfer])?;
    Ok(answer.problem().unwrap_or_default())
}
