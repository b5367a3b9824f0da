//! The rogue as a hospital that asks what others hold: it is handed its own, and nothing of what is between them.

use std::collections::BTreeSet;

use anyhow::{Result, anyhow, ensure};
use handover_core::artefact::Signed;
use handover_core::artefact::transfer::{Quote, Step, TransferRequest};
use handover_core::codec::{self, Extensions, MAX_MESSAGE_BYTES};
use handover_core::message::{EvidenceAnswer, EvidenceQuestion, Verb};
use handover_core::{Code, HospitalId, Timestamp, TransferId};
use handover_dossier::transfer_of;
use handover_net::Route;
use handover_tests::rogue::Rogue;

use super::buyer::quoted;
use super::stage::{Stage, refused, taken};

pub(crate) fn all(stage: &mut Stage) -> Result<()> {
    let (lakeside, riverside) = Stage::victims();
    let on = quoted(stage)?.transfer;
    let rogue = &stage.rogue;
    let no = rogue.refusal(on, Step::Consent, Code::PatientRefused);
    taken("a no", || rogue.bring(&lakeside, no.envelope()))?;
    let routes = [rogue.route(&lakeside)?, rogue.route(&riverside)?, rogue.index()];
    for route in &routes {
        questions(rogue, route)?;
        let handed = handed(rogue, route)?;
        let (named, own) = (transfers(&handed)?, with(&handed, rogue.id()));
        ensure!(named == own, "{} handed out what is of others: {named:?}, {own:?}", route.party);
        ensure!(route.party.to_string() == "riverside" || own.contains(&on), "{} has nothing", route.party);
    }
    let newest = rogue.ask(&routes[0], Verb::Newest, vec![]).map_err(|code| anyhow!("newest: {code}"))?;
    // A no is not counted: whoever refuses what it keeps nothing of keeps only that.
    let requests = newest.iter().map(|it| Ok(Signed::<TransferRequest>::read(it)?.claim().transfer));
    let requests: Vec<TransferId> = requests.collect::<Result<_>>()?;
    ensure!(requests == [on], "the newest is of another transfer: {requests:?}");
    Ok(())
}

fn questions(rogue: &Rogue, to: &Route) -> Result<()> {
    for (verb, items) in [
        (Verb::Newest, vec![vec![0; 8]]),
        (Verb::Evidence, vec![]),
        (Verb::Evidence, vec![vec![0; 8]]),
        (Verb::Evidence, vec![vec![0; 100_000]]),
        (Verb::Evidence, vec![question(None), question(None)]),
    ] {
        refused(&format!("{verb} to {}", to.party), Code::Malformed, || rogue.ask(to, verb, items.clone()))?;
    }
    Ok(())
}

fn question(after: Option<handover_core::message::EvidencePlace>) -> Vec<u8> {
    let since = Timestamp::from_millis(0);
    codec::encode(&EvidenceQuestion { since, after, extensions: Extensions::default() })
}

fn handed(rogue: &Rogue, by: &Route) -> Result<Vec<Vec<u8>>> {
    let (mut all, mut after) = (Vec::new(), None);
    loop {
        let answer = rogue.ask(by, Verb::Evidence, vec![question(after)]);
        let answer = answer.map_err(|code| anyhow!("evidence of {}: {code}", by.party))?;
        ensure!(answer.len() == 1, "{} items", answer.len());
        let answer: EvidenceAnswer = codec::decode(&answer[0], MAX_MESSAGE_BYTES)?;
        all.extend(answer.contents.into_iter().map(|it| it.0));
        match answer.next {
            Some(next) => after = Some(next),
            None => return Ok(all),
        }
    }
}

fn transfers(contents: &[Vec<u8>]) -> Result<BTreeSet<TransferId>> {
    contents.iter().map(|it| transfer_of(it).map_err(|code| anyhow!("{code}"))).collect()
}

/// Those that a hospital takes part in.
fn with(contents: &[Vec<u8>], hospital: &HospitalId) -> BTreeSet<TransferId> {
    let of_request = |content: &Vec<u8>| {
        let request = Signed::<TransferRequest>::read(content).ok()?;
        let it = request.claim();
        Some((it.transfer, [it.source.clone(), it.destination.clone()]))
    };
    let of_quote = |content: &Vec<u8>| {
        let quote = Signed::<Quote>::read(content).ok()?;
        let it = quote.claim();
        Some((it.transfer, [it.source.clone(), it.destination.clone()]))
    };
    let named = contents.iter().filter_map(|content| of_request(content).or_else(|| of_quote(content)));
    named.filter(|(_, both)| both.contains(hospital)).map(|(transfer, _)| transfer).collect()
}
