//! Over HTTPS: link codes that are guessed, questions in somebody else's name, what is too large or nothing at all.

use anyhow::{Result, ensure};
use handover_core::artefact::Verified;
use handover_core::artefact::patient::{Ask, PatientRefusal};
use handover_core::codec::MAX_MESSAGE_BYTES;
use handover_core::message::INBOX_INFO;
use handover_core::time::{DAY_MS, HOUR_MS};
use handover_core::{Code, HospitalId};
use handover_patient::node::NodeClient;
use handover_seal::hpke_open_padded;
use handover_tests::rogue::now;
use handover_tests::rogue::person::{Person, endpoint};

use super::stage::{LAKESIDE, RIVERSIDE, Stage, refused, unsigned};

/// Codes that are guessed.
const GUESSES: u32 = 8;

pub(crate) fn all(stage: &mut Stage) -> Result<()> {
    let (_, riverside) = Stage::victims();
    let node = endpoint(&stage.world, RIVERSIDE)?;
    let eve = Person::new(666, "eve-1");
    links(stage, &node, &riverside)?;
    let before = stage.witness()?;
    inboxes(stage, &node, &riverside, &eve)?;
    asks(stage, &node, &eve)?;
    bodies(&node)?;
    stage.untouched_since(&before)
}

fn links(stage: &Stage, node: &NodeClient, riverside: &HospitalId) -> Result<()> {
    let link = |envelope: &[u8]| node.link(envelope).map_err(|fault| fault.code());
    let (vic, mallory) = (Person::new(503, "vic-1"), Person::new(504, "mallory-1"));
    let code = vic.register(&stage.world, RIVERSIDE)?;
    for guess in 0..GUESSES {
        let wrong = mallory.linking(riverside, &format!("AAAA-{guess:04}"));
        refused("a guessed link code", Code::LinkCodeWrong, || link(wrong.envelope()))?;
    }
    let elsewhere = vic.linking(&LAKESIDE.parse()?, &code);
    refused("a link to another hospital", Code::AskMismatch, || link(elsewhere.envelope()))?;
    let right = vic.linking(riverside, &code);
    refused("a link whose signature fails", Code::BadSignature, || link(&unsigned(right.envelope())))?;
    let first = link(right.envelope()).map_err(|code| anyhow::anyhow!("the right code: {code}"))?;
    ensure!(link(right.envelope()) == Ok(first), "the same link again has another answer");
    let used = mallory.linking(riverside, &code);
    refused("a code that was used", Code::LinkCodeWrong, || link(used.envelope()))
}

fn inboxes(stage: &Stage, node: &NodeClient, riverside: &HospitalId, eve: &Person) -> Result<()> {
    let inbox = |envelope: &[u8]| node.inbox(envelope).map_err(|fault| fault.code());
    let pat = &stage.pat;
    let asked = pat.question(Some(riverside));
    let in_his_name = Verified::sign(asked.clone(), &eve.keys.signing);
    refused("Pat's inbox, asked for by Eve", Code::WrongSigner, || inbox(in_his_name.envelope()))?;
    let with_her_key = Ask { key_records: eve.keys.records.clone(), ..asked.clone() };
    let with_her_key = Verified::sign(with_her_key, &eve.keys.signing);
    refused("Pat's inbox under Eve's key record", Code::AskMismatch, || inbox(with_her_key.envelope()))?;
    let elsewhere = pat.signed(pat.question(Some(&LAKESIDE.parse()?)));
    refused("another hospital's inbox", Code::AskMismatch, || inbox(elsewhere.envelope()))?;
    let late = pat.signed(Ask {
        issued: now().plus_ms(-HOUR_MS),
        expires: now().plus_ms(-HOUR_MS / 2),
        ..asked.clone()
    });
    refused("an old question", Code::AskExpired, || inbox(late.envelope()))?;
    let long = pat.signed(Ask { expires: now().plus_ms(DAY_MS), ..asked.clone() });
    refused("a question that is good for a day", Code::AskExpired, || inbox(long.envelope()))?;
    // Who repeats Pat's own question gets an answer that only Pat opens.
    let own = pat.signed(asked);
    let sealed = inbox(own.envelope()).map_err(|code| anyhow::anyhow!("Pat's own question: {code}"))?;
    let binding = own.hash();
    let opened = |by: &Person| hpke_open_padded(&by.keys.sealing, INBOX_INFO, binding.as_bytes(), &sealed);
    ensure!(opened(pat).is_ok(), "Pat cannot open his own inbox");
    ensure!(opened(eve).is_err(), "Eve opens Pat's inbox");
    let locate = Verified::sign(pat.question(None), &eve.keys.signing);
    refused("Pat's holders, asked for by Eve", Code::WrongSigner, || {
        node.locate(locate.envelope()).map_err(|fault| fault.code())
    })
}

fn asks(stage: &Stage, node: &NodeClient, eve: &Person) -> Result<()> {
    let artefact = |envelope: &[u8]| node.artefact(envelope).map_err(|fault| fault.code());
    let (lakeside, riverside) = Stage::victims();
    let pat = &stage.pat;
    let stranger = eve.signed(eve.asking(&lakeside, &riverside));
    refused("an ask by somebody unlinked", Code::NotLinked, || artefact(stranger.envelope()))?;
    let ask = pat.asking(&lakeside, &riverside);
    let forged = Verified::sign(ask.clone(), &eve.keys.signing);
    refused("an ask in Pat's name", Code::WrongSigner, || artefact(forged.envelope()))?;
    let altered = unsigned(pat.signed(ask.clone()).envelope());
    refused("an ask whose signature fails", Code::BadSignature, || artefact(&altered))?;
    let backwards = pat.signed(pat.asking(&riverside, &lakeside));
    refused("an ask for another destination", Code::AskMismatch, || artefact(backwards.envelope()))?;
    let old = pat.signed(Ask {
        issued: now().plus_ms(-2 * DAY_MS),
        expires: now().plus_ms(-DAY_MS),
        ..ask.clone()
    });
    refused("an expired ask", Code::AskExpired, || artefact(old.envelope()))?;
    let nowhere = pat.signed(pat.asking(&"atlantis".parse()?, &riverside));
    refused("an ask for an unknown hospital", Code::UnknownHospital, || artefact(nowhere.envelope()))?;
    let transfer = ask.transfer.unwrap_or_else(|| unreachable!("an ask for a transfer"));
    let no = PatientRefusal {
        transfer,
        patient: pat.keys.reference(),
        issued: now(),
        extensions: handover_core::codec::Extensions::default(),
    };
    let no = Verified::sign(no, &pat.keys.signing);
    refused("a no to a transfer that is not there", Code::EvidenceMissing, || artefact(no.envelope()))
}

fn bodies(node: &NodeClient) -> Result<()> {
    let artefact = |content: &[u8]| node.artefact(content).map_err(|fault| fault.code());
    let large = vec![0xa1; MAX_MESSAGE_BYTES + 1];
    // The node stops reading: a client that is still writing may see only that the connection ends.
    let outcome = artefact(&large);
    ensure!(matches!(outcome, Err(Code::TooLarge | Code::Unreachable)), "a byte too many: {outcome:?}");
    refused("as large a body as allowed, of nothing", Code::Malformed, || artefact(&large[1..]))?;
    refused("an empty body", Code::Malformed, || artefact(&[]))?;
    refused("text", Code::Malformed, || artefact(b"give me everything"))?;
    refused("a link of nothing", Code::Malformed, || node.link(b"x").map_err(|fault| fault.code()))?;
    refused("an inbox of nothing", Code::Malformed, || node.inbox(&[0xd2]).map_err(|fault| fault.code()))
}
