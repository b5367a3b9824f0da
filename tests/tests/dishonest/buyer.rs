//! The rogue as destination of Ada's records at Lakeside.

use anyhow::{Context, Result, anyhow, ensure};
use handover_core::artefact::patient::{Ask, Consent, ConsentDetails, Scope};
use handover_core::artefact::transfer::{
    Delivered, KeyRelease, PackageHeader, PartList, Quote, QuoteBody, Receipt, Refusal, TransferRequest,
};
use handover_core::artefact::{Signed, Verified, peek_type};
use handover_core::codec::Extensions;
use handover_core::rules;
use handover_core::time::{DAY_MS, HOUR_MS};
use handover_core::{Amount, Code, Digest, TransferId};
use handover_tests::fixture::{self, altered};
use handover_tests::rogue::person::{Person, Yes};
use handover_tests::rogue::stream::Stream;
use handover_tests::rogue::wire::{Done, Have, Offer};
use handover_tests::rogue::{LIMIT, Rogue, now};

use super::claims;
use super::stage::{LAKESIDE, RIVERSIDE, Stage, hospital, refused, taken, unsigned};

/// A transfer that was quoted.
pub(crate) struct Quoted {
    pub(crate) transfer: TransferId,
    request: Verified<TransferRequest>,
    pub(crate) quote: Verified<Quote>,
    pub(crate) body: QuoteBody,
}

pub(crate) fn all(stage: &mut Stage) -> Result<()> {
    let before = stage.witness()?;
    asks(stage)?;
    stage.untouched_since(&before)?;
    a_cap_below_the_fee(stage)?;
    let first = quoted(stage)?;
    let yes = consents(stage, &first)?;
    let envelopes = to_the_receipt(stage, &first, &yes)?;
    replays(stage, &first, &envelopes)?;
    consents_that_only_the_source_can_read(stage)?;
    strangers(stage)
}

/// The key of a member that has no part in this.
fn third() -> &'static handover_seal::SigningKey {
    &fixture::World::shared().seaside.signing
}

/// Requests that do not stand on what the patient asked.
fn asks(stage: &Stage) -> Result<()> {
    let (lakeside, riverside) = Stage::victims();
    let (rogue, ada) = (&stage.rogue, &stage.ada);
    let own = &rogue.keys.signing;
    let ask = ada.signed(ada.asking(&lakeside, rogue.id()));
    let honest = rogue.request(&ask)?;
    let both = |what: &str, code: Code, envelope: &[u8]| -> Result<()> {
        refused(what, code, || rogue.bring(&lakeside, envelope))?;
        refused(&format!("{what}, by the index"), code, || rogue.post(&lakeside, envelope))
    };
    let sign = |request: TransferRequest| Verified::sign(request, own).envelope().to_vec();

    both("a request in Riverside's name", Code::WrongSigner, &{
        let mut request = honest.clone();
        request.destination = riverside.clone();
        sign(request)
    })?;
    both(
        "a request by a key that nobody knows",
        Code::WrongSigner,
        Verified::sign(honest.clone(), third()).envelope(),
    )?;
    both("a request whose signature fails", Code::BadSignature, &unsigned(&sign(honest.clone())))?;
    let with_ask = |ask: Vec<u8>| {
        let mut request = honest.clone();
        request.ask = ask.into();
        sign(request)
    };
    let change = |change: &dyn Fn(&mut Ask)| {
        let mut changed = (*ask).clone();
        change(&mut changed);
        with_ask(ada.signed(changed).envelope().to_vec())
    };
    both(
        "an ask for another transfer",
        Code::AskMismatch,
        &change(&|ask| {
            ask.transfer = Some(TransferId::new(now(), [7; 10]));
        }),
    )?;
    both(
        "an ask that names Riverside",
        Code::AskMismatch,
        &change(&|ask| {
            ask.destination = Some(hospital(RIVERSIDE));
        }),
    )?;
    both(
        "an ask for another source",
        Code::AskMismatch,
        &change(&|ask| ask.source = Some(hospital(RIVERSIDE))),
    )?;
    both(
        "an expired ask",
        Code::AskExpired,
        &change(&|ask| {
            (ask.issued, ask.expires) = (now().plus_ms(-2 * DAY_MS), now().plus_ms(-DAY_MS));
        }),
    )?;
    both("an ask from the future", Code::ClockOff, &change(&|ask| ask.issued = now().plus_ms(HOUR_MS)))?;
    both("an ask for ever", Code::AskExpired, &change(&|ask| ask.expires = now().plus_ms(100 * DAY_MS)))?;
    both("an ask whose signature fails", Code::BadSignature, &with_ask(unsigned(ask.envelope())))?;
    both("an ask that the rogue signed itself", Code::WrongSigner, &with_ask(altered(&ask, own, |_| {})))?;
    let question = ada.signed(ada.question(Some(rogue.id())));
    both("an inbox question as an ask", Code::AskMismatch, &with_ask(question.envelope().to_vec()))
}

/// An honest request, quoted.
pub(crate) fn quoted(stage: &mut Stage) -> Result<Quoted> {
    quoted_in(stage, &Scope::everything())
}

/// An honest request for so much, quoted.
fn quoted_in(stage: &mut Stage, scope: &Scope) -> Result<Quoted> {
    let lakeside = hospital(LAKESIDE);
    let ask = stage.ada.signed(stage.ada.asking(&lakeside, stage.rogue.id()));
    let request = Verified::sign(stage.rogue.request_in(&ask, scope)?, &stage.rogue.keys.signing);
    taken("an honest request", || stage.rogue.post(&lakeside, request.envelope()))?;
    let transfer = request.transfer;
    let quote = stage.rogue.letter::<Quote>(|it| it.transfer == transfer)?;
    let on = stage.rogue.judge(|context| rules::request(request.envelope(), context))?;
    let quote = stage.rogue.judge(|context| rules::quote(quote.envelope(), &on, context))?;
    let body = stage.ada.read(&quote)?;
    Ok(Quoted { transfer, request, quote, body })
}

/// Consents that are not this patient's to this quote; then hers.
fn consents(stage: &Stage, on: &Quoted) -> Result<Yes> {
    let (lakeside, riverside) = Stage::victims();
    let (rogue, ada) = (&stage.rogue, &stage.ada);
    let before = stage.witness()?;
    // The same transfer with another request: another key to seal to.
    let mut other = (*on.request).clone();
    other.request_key = handover_seal::SealingKey::generate(&mut handover_seal::OsRandom).public();
    let other = Verified::sign(other, &rogue.keys.signing);
    refused("another request for the same transfer", Code::Conflict, || {
        rogue.bring(&lakeside, other.envelope())
    })?;
    refused("the same, by the index", Code::Conflict, || rogue.post(&lakeside, other.envelope()))?;

    let federation = rogue.federation()?;
    let yes = ada.consent(&on.quote, &on.body, &federation, |_, _| {})?;
    let honest = &yes.consent;
    let both = |what: &str, code: Code, envelope: &[u8]| -> Result<()> {
        refused(what, code, || rogue.bring(&lakeside, envelope))?;
        refused(&format!("{what}, by the index"), code, || rogue.post(&lakeside, envelope))
    };
    both(
        "a consent that the rogue signed",
        Code::WrongSigner,
        &altered(honest, &rogue.keys.signing, |_| {}),
    )?;
    let eve = Person::new(667, "eve-2");
    both(
        "a consent that somebody else signed",
        Code::WrongSigner,
        &altered(honest, &eve.keys.signing, |it| {
            it.patient = eve.keys.reference();
            it.key_record = eve.keys.record.hash();
        }),
    )?;
    both("a consent whose signature fails", Code::BadSignature, &unsigned(honest.envelope()))?;
    let by_ada = |change: fn(&mut Consent)| altered(honest, &ada.keys.signing, change);
    both(
        "a consent for Riverside",
        Code::ConsentForAnother,
        &by_ada(|it| it.destination = hospital(RIVERSIDE)),
    )?;
    both("a consent for Riverside's key", Code::ConsentKey, &{
        let key = federation.member(&riverside).map_err(|code| anyhow!("{code}"))?.certificate.key;
        altered(honest, &ada.keys.signing, |it| it.destination_key = key.thumbprint())
    })?;
    both(
        "a consent for another source",
        Code::ConsentForAnother,
        &by_ada(|it| it.source = hospital(RIVERSIDE)),
    )?;
    both(
        "a consent to another quote",
        Code::QuoteMismatch,
        &by_ada(|it| it.quote = Digest::from_bytes([7; 32])),
    )?;
    both(
        "a consent for ever",
        Code::ConsentPeriod,
        &by_ada(|it| it.expires = now().plus_ms(1_000 * DAY_MS)),
    )?;
    both(
        "a consent with a cap below nothing",
        Code::Malformed,
        &by_ada(|it| {
            it.fee_cap = Amount::from_minor(-1, it.fee_cap.currency());
        }),
    )?;
    // Nothing that follows from a consent is taken before it.
    both("a receipt before everything", Code::EvidenceMissing, &{
        let receipt = Receipt {
            transfer: on.transfer,
            attempt: 1,
            header: Digest::from_bytes([1; 32]),
            consent: honest.hash(),
            record_root: Digest::from_bytes([2; 32]),
            fee: on.body.fee,
            issued: now(),
            extensions: Extensions::default(),
        };
        Verified::sign(receipt, &rogue.keys.signing).envelope().to_vec()
    })?;
    stage.untouched_since(&before)?;
    Ok(yes)
}

/// The consent is given; the rogue lies about what it has got and filed, and then says the truth.
fn to_the_receipt(stage: &mut Stage, on: &Quoted, yes: &Yes) -> Result<Vec<Vec<u8>>> {
    let consent = &yes.consent;
    let (lakeside, _) = Stage::victims();
    taken("Ada's consent", || stage.rogue.post(&lakeside, consent.envelope()))?;
    let (stream, header, _) = offered(stage, on.transfer, consent)?;
    ensure!(stage.state(LAKESIDE, on.transfer)? == "sealed", "it is not sealed");
    stage.reserved(on.transfer)?;
    let before = stage.witness()?;
    let rogue = &stage.rogue;
    let own = &rogue.keys.signing;
    let delivered = stage.rogue.delivered(&header);
    let receipt = Receipt {
        transfer: on.transfer,
        attempt: 1,
        header: header.hash(),
        consent: consent.hash(),
        record_root: header.record_root,
        fee: header.fee,
        issued: now(),
        extensions: Extensions::default(),
    };
    let receipt = Verified::sign(receipt, own);
    let told =
        |what: &str, code: Code, envelope: &[u8]| refused(what, code, || rogue.bring(&lakeside, envelope));
    told("a receipt before delivery", Code::OutOfOrder, receipt.envelope())?;
    told(
        "delivery of another header",
        Code::DeliveredMismatch,
        &altered(&delivered, own, |it| {
            it.header = Digest::from_bytes([7; 32]);
        }),
    )?;
    told(
        "delivery of another attempt",
        Code::EvidenceMissing,
        &altered(&delivered, own, |it| it.attempt = 2),
    )?;
    told(
        "delivery to Riverside",
        Code::DeliveredMismatch,
        &altered(&delivered, own, |it| {
            it.destination = hospital(RIVERSIDE);
        }),
    )?;
    told("delivery by another", Code::WrongSigner, &altered(&delivered, third(), |_| {}))?;
    told("delivery, signature failing", Code::BadSignature, &unsigned(delivered.envelope()))?;
    stage.untouched_since(&before)?;
    ensure!(!has_key(stage, on.transfer), "the key was released before delivery");

    // It wants nothing of the package, and says that it has everything. The source believes its signature, and releases
    // as soon as it knows that the patient does.
    drop(stream);
    taken("delivery", || stage.rogue.bring(&lakeside, delivered.envelope()))?;
    stage.waits_for_the_patient(on.transfer)?;
    ensure!(!has_key(stage, on.transfer), "the key was released before the patient's was");
    let share = stage.ada.release(yes, &on.quote)?;
    taken("Ada's release", || stage.rogue.bring(&lakeside, share.envelope()))?;
    let release = stage.rogue.letter::<KeyRelease>(|it| it.transfer == on.transfer)?;
    stage.comes_to(LAKESIDE, on.transfer, "released", "released")?;
    let before = stage.witness()?;
    let rogue = &stage.rogue;
    let told =
        |what: &str, code: Code, envelope: &[u8]| refused(what, code, || rogue.bring(&lakeside, envelope));
    told("a receipt by another", Code::WrongSigner, &altered(&receipt, third(), |_| {}))?;
    told("a receipt, signature failing", Code::BadSignature, &unsigned(receipt.envelope()))?;
    let wrong = |change: fn(&mut Receipt)| altered(&receipt, own, change);
    told(
        "a receipt for another root",
        Code::ReceiptMismatch,
        &wrong(|it| {
            it.record_root = Digest::from_bytes([7; 32]);
        }),
    )?;
    told(
        "a receipt for another header",
        Code::ReceiptMismatch,
        &wrong(|it| {
            it.header = Digest::from_bytes([7; 32]);
        }),
    )?;
    told(
        "a receipt for another consent",
        Code::ReceiptMismatch,
        &wrong(|it| {
            it.consent = Digest::from_bytes([7; 32]);
        }),
    )?;
    stage.untouched_since(&before)?;
    // It keeps the index's copy back; the source passes its own on, so that the late one changes nothing.
    taken("the receipt", || stage.rogue.bring(&lakeside, receipt.envelope()))?;
    stage.comes_to(LAKESIDE, on.transfer, "filed", "filed")?;
    let fee = stage.world.posted(&on.transfer.to_string(), LIMIT)?;
    ensure!(fee["proof"] == "receipt", "posted by {}", fee["proof"]);
    let before = stage.witness()?;
    taken("its copy for the index", || stage.rogue.post(&lakeside, receipt.envelope()))?;
    stage.untouched_since(&before)?;
    let late = stage.rogue.next_attempt(consent, 2);
    refused("another attempt of what is filed", Code::OutOfOrder, || {
        stage.rogue.bring(&lakeside, late.envelope())
    })?;
    Ok([
        on.request.envelope(),
        on.quote.envelope(),
        consent.envelope(),
        header.envelope(),
        delivered.envelope(),
        release.envelope(),
        receipt.envelope(),
    ]
    .map(<[u8]>::to_vec)
    .into())
}

/// Waits for the package of a transfer; its header. A source tries a package again whose stream broke, so that those
/// of others may come first.
pub(crate) fn offered(
    stage: &mut Stage,
    transfer: TransferId,
    consent: &Verified<Consent>,
) -> Result<(Stream, Verified<PackageHeader>, PartList)> {
    loop {
        let mut stream = stage.rogue.opened()?;
        let Ok(offer) = stream.get::<Offer>() else { continue };
        let header = Signed::<PackageHeader>::read(offer.header.as_ref())?;
        if header.claim().transfer == transfer {
            // Whether it is within what was signed for is asked elsewhere.
            let cover = rules::Cover { payer: header.claim().payer, cap: header.claim().fee };
            let header = stage
                .rogue
                .judge(|context| rules::header(header.envelope(), transfer, consent, &cover, context))?;
            return Ok((stream, header, offer.parts));
        }
    }
}

pub(crate) fn has_key(stage: &mut Stage, transfer: TransferId) -> bool {
    stage.rogue.has_letter::<KeyRelease>(|it| it.transfer == transfer)
}

/// Everything of an old transfer once more, also for a new one.
fn replays(stage: &mut Stage, old: &Quoted, envelopes: &[Vec<u8>]) -> Result<()> {
    let (lakeside, _) = Stage::victims();
    let fresh = quoted(stage)?;
    let before = stage.witness()?;
    let rogue = &stage.rogue;
    for envelope in envelopes {
        let label = peek_type(envelope)?;
        taken(&format!("an old {label}"), || rogue.bring(&lakeside, envelope))?;
        taken(&format!("an old {label} by the index"), || rogue.post(&lakeside, envelope))?;
    }
    let [_, _, consent, _, _, _, receipt] = envelopes else { return Err(anyhow!("seven envelopes")) };
    let consent = Signed::<Consent>::read(consent)?;
    let moved = Verified::sign(
        Consent { transfer: fresh.transfer, quote: fresh.quote.hash(), ..consent.claim().clone() },
        &rogue.keys.signing,
    );
    refused("an old consent made out to a new transfer", Code::WrongSigner, || {
        rogue.bring(&lakeside, moved.envelope())
    })?;
    let receipt = Signed::<Receipt>::read(receipt)?;
    let cheaper = Receipt { fee: Amount::zero(receipt.claim().fee.currency()), ..receipt.claim().clone() };
    let cheaper = Verified::sign(cheaper, &rogue.keys.signing);
    for told in [Rogue::bring, Rogue::post] {
        refused("another receipt for the same transfer", Code::Conflict, || {
            told(rogue, &lakeside, cheaper.envelope())
        })?;
    }
    stage.untouched_since(&before)?;
    ensure!(stage.state(LAKESIDE, fresh.transfer)? == "quoted", "the new transfer moved");
    ensure!(stage.state(LAKESIDE, old.transfer)? == "filed", "the old transfer moved");
    Ok(())
}

/// While there is a fee: the tests are charged once.
fn a_cap_below_the_fee(stage: &mut Stage) -> Result<()> {
    let (lakeside, _) = Stage::victims();
    let on = quoted(stage)?;
    let yes = stage.ada.consent(&on.quote, &on.body, stage.rogue.federation()?.as_ref(), |_, it| {
        it.fee_cap = Amount::zero(it.fee_cap.currency());
    })?;
    taken("a cap below the fee", || stage.rogue.post(&lakeside, yes.consent.envelope()))?;
    stage.comes_to(LAKESIDE, on.transfer, "sealed", "refused (cap-exceeded)")
}

/// Consents whose fault lies in what only the source can open, or in time: the source ends the transfer and says why.
fn consents_that_only_the_source_can_read(stage: &mut Stage) -> Result<()> {
    let (lakeside, _) = Stage::victims();
    type Change = fn(&mut ConsentDetails, &mut Consent);
    let cases: [(&str, Change, &str); 3] = [
        (
            "expired",
            |_, it| {
                (it.not_before, it.expires) = (now().plus_ms(-2 * HOUR_MS), now().plus_ms(-HOUR_MS));
            },
            "refused (consent-expired)",
        ),
        ("not yet valid", |_, it| it.not_before = now().plus_ms(HOUR_MS), "refused (consent-early)"),
        (
            "of an empty scope",
            |details, _| {
                details.scope = Scope { departments: Some(Vec::new()), ..Scope::everything() };
            },
            "refused (nothing-in-scope)",
        ),
    ];
    for (what, change, end) in cases {
        let on = quoted(stage)?;
        let federation = stage.rogue.federation()?;
        let yes = stage.ada.consent(&on.quote, &on.body, &federation, change)?;
        taken(what, || stage.rogue.post(&lakeside, yes.consent.envelope()))?;
        stage.comes_to(LAKESIDE, on.transfer, "sealed", end).context(what)?;
        ensure!(stage.world.entries(&on.transfer.to_string())?.is_empty(), "{what}: it stands in the books");
    }
    // More than was quoted.
    let on = quoted_in(stage, &Scope { without_restricted: true, ..Scope::everything() })?;
    let wider = |details: &mut ConsentDetails, _: &mut Consent| details.scope = Scope::everything();
    let yes = stage.ada.consent(&on.quote, &on.body, stage.rogue.federation()?.as_ref(), wider)?;
    taken("a consent to more", || stage.rogue.post(&lakeside, yes.consent.envelope()))?;
    stage.comes_to(LAKESIDE, on.transfer, "sealed", "refused (consent-wider-than-quoted)")?;
    // Sealed to nobody who could read it.
    let on = quoted(stage)?;
    let yes = stage.ada.consent(&on.quote, &on.body, stage.rogue.federation()?.as_ref(), |_, _| {})?;
    let other = altered(&yes.consent, &stage.ada.keys.signing, |it| it.details = Digest::from_bytes([7; 32]));
    taken("a consent to other details", || stage.rogue.post(&lakeside, &other))?;
    stage.comes_to(LAKESIDE, on.transfer, "sealed", "refused (consent-mismatch)")?;
    // A consent that was given ends as it should, and the rogue drops the package.
    let on = quoted(stage)?;
    let yes = stage.ada.consent(&on.quote, &on.body, stage.rogue.federation()?.as_ref(), |_, _| {})?;
    taken("a consent", || stage.rogue.post(&lakeside, yes.consent.envelope()))?;
    let (mut stream, ..) = offered(stage, on.transfer, &yes.consent)?;
    stream.put(&Have { problem: None, groups: vec![u64::MAX; 99], extensions: Extensions::default() })?;
    stage.comes_to(LAKESIDE, on.transfer, "delivered", "refused (malformed)")?;
    let on = quoted(stage)?;
    let yes = stage.ada.consent(&on.quote, &on.body, stage.rogue.federation()?.as_ref(), |_, _| {})?;
    taken("a consent", || stage.rogue.post(&lakeside, yes.consent.envelope()))?;
    let (mut stream, _, parts) = offered(stage, on.transfer, &yes.consent)?;
    let groups = vec![u64::MAX; parts.iter().count()];
    stream.put(&Have { problem: None, groups, extensions: Extensions::default() })?;
    let lie = Delivered {
        transfer: on.transfer,
        attempt: 1,
        header: Digest::from_bytes([7; 32]),
        destination: stage.rogue.id().clone(),
        issued: now(),
        extensions: Extensions::default(),
    };
    let lie = Verified::sign(lie, &stage.rogue.keys.signing).envelope().to_vec().into();
    stream.put(&Done { problem: None, delivered: Some(lie), extensions: Extensions::default() })?;
    stage.comes_to(LAKESIDE, on.transfer, "delivered", "refused (delivered-mismatch)")?;
    ensure!(!has_key(stage, on.transfer), "the key was released for another header");
    claims::damage_at_once(stage)
}

/// A patient whom the source does not know: it says so, and keeps nothing.
fn strangers(stage: &mut Stage) -> Result<()> {
    let lakeside = hospital(LAKESIDE);
    let before = stage.witness()?;
    let eve = Person::new(668, "eve-3");
    let ask = eve.signed(eve.asking(&lakeside, stage.rogue.id()));
    let request = Verified::sign(stage.rogue.request(&ask)?, &stage.rogue.keys.signing);
    refused("a stranger's request", Code::NotLinked, || stage.rogue.bring(&lakeside, request.envelope()))?;
    taken("the same by the index", || stage.rogue.post(&lakeside, request.envelope()))?;
    let no = stage.rogue.letter::<Refusal>(|it| it.transfer == request.transfer)?;
    ensure!(no.claim().code == Code::NotLinked, "refused with {}", no.claim().code);
    stage.untouched_since(&before)
}
