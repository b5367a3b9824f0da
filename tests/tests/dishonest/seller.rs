//! The rogue as source of Pat's records for Riverside: what it says outside of the seal.

use anyhow::{Context, Result, ensure};
use handover_core::artefact::Verified;
use handover_core::artefact::transfer::{
    KeyRelease, PackageHeader, PartList, Payer, Quote, Receipt, Refusal, Step,
};
use handover_core::codec::Extensions;
use handover_core::{Amount, Code, Digest};
use handover_seal::OsRandom;
use handover_seal::SealingKey;
use handover_tests::fixture::{self, altered};
use handover_tests::rogue::person::Person;
use handover_tests::rogue::sale::{Goods, Package, Sale, travelling};
use handover_tests::rogue::wire::{self, Done, Offer};
use handover_tests::rogue::{LIMIT, now};

use super::recaller;
use super::stage::{LAKESIDE, RIVERSIDE, Stage, hospital, refused, taken, unsigned};

/// More streams than one hospital gets.
const SILENT_STREAMS: usize = 20;

/// The key of a member that has no part in this.
fn third() -> &'static handover_seal::SigningKey {
    &fixture::World::shared().seaside.signing
}

pub(crate) fn all(stage: &mut Stage) -> Result<()> {
    let (_, mut sale) = stage.rogue.requested(&stage.world, &stage.pat, RIVERSIDE)?;
    quotes(stage, &sale)?;
    stage.rogue.agree(&stage.world, &stage.pat, &mut sale)?;
    let package = stage.rogue.sealed(&sale, &stage.rogue.goods(&sale)?, |_| {})?;
    consents(stage, &sale)?;
    offers(stage, &sale, &package)?;
    damage(stage, &sale, &package)?;
    slow(stage, &package)?;
    greedy(stage)?;
    let receipt = keys(stage, &sale, &package)?;
    replays(stage, &sale, &package, &receipt)?;
    recaller::all(stage, &sale, &package)?;
    borrowed(stage, &package)
}

fn quotes(stage: &Stage, sale: &Sale) -> Result<()> {
    let (rogue, riverside) = (&stage.rogue, hospital(RIVERSIDE));
    let before = stage.witness()?;
    let own = &rogue.keys.signing;
    let both = |what: &str, code: Code, envelope: &[u8]| -> Result<()> {
        refused(what, code, || rogue.bring(&riverside, envelope))?;
        refused(&format!("{what}, by the index"), code, || rogue.post(&riverside, envelope))
    };
    let wrong = |change: fn(&mut Quote)| altered(&sale.quote, own, change);
    both("a quote by another", Code::WrongSigner, &altered(&sale.quote, third(), |_| {}))?;
    both("a quote, signature failing", Code::BadSignature, &unsigned(sale.quote.envelope()))?;
    both(
        "a quote with a request key of its own",
        Code::QuoteMismatch,
        &wrong(|it| {
            it.request_key = SealingKey::generate(&mut OsRandom).public();
        }),
    )?;
    both(
        "a quote for another request",
        Code::QuoteMismatch,
        &wrong(|it| it.request = Digest::from_bytes([7; 32])),
    )?;
    both(
        "a quote for another patient",
        Code::QuoteMismatch,
        &wrong(|it| {
            it.patient = Person::new(669, "").keys.reference();
        }),
    )?;
    both(
        "a quote for another hospital",
        Code::QuoteMismatch,
        &wrong(|it| it.destination = hospital(LAKESIDE)),
    )?;
    both(
        "a quote at the prices of another day",
        Code::QuoteMismatch,
        &wrong(|it| it.priced = it.issued.plus_ms(-1)),
    )?;
    both(
        "a final quote before a consent",
        Code::EvidenceMissing,
        &wrong(|it| {
            it.narrows = Some(Digest::from_bytes([7; 32]));
        }),
    )?;
    // The index sees copies in any order, so it may lack the evidence; the hospital never takes it.
    let refusal = Refusal {
        transfer: sale.transfer(),
        step: Step::Quote,
        code: Code::NotLinked,
        issued: now(),
        attempt: 1,
        extensions: Extensions::default(),
    };
    both("a refusal by a third", Code::WrongSigner, Verified::sign(refusal, third()).envelope())?;
    stage.untouched_since(&before)
}

/// The source knows the consent before others and tries one of its own.
fn consents(stage: &Stage, sale: &Sale) -> Result<()> {
    let (rogue, riverside) = (&stage.rogue, hospital(RIVERSIDE));
    let before = stage.witness()?;
    let yes = sale.yes.as_ref().context("agreed")?;
    let dearer = altered(&yes.consent, &rogue.keys.signing, |it| {
        it.fee_cap = Amount::from_minor(1_000_000, it.fee_cap.currency());
    });
    refused("a consent with a higher cap", Code::WrongSigner, || rogue.bring(&riverside, &dearer))?;
    let second = stage.pat.consent(&sale.quote, &sale.body, rogue.federation()?.as_ref(), |_, _| {})?;
    refused("a second consent to the same quote", Code::Conflict, || {
        rogue.bring(&riverside, second.consent.envelope())
    })?;
    let release = sale.release.as_ref().context("agreed")?;
    let other = altered(release, &stage.pat.keys.signing, |it| it.sealed = vec![1; 80].into());
    refused("a second release", Code::Conflict, || rogue.bring(&riverside, &other))?;
    let forged = altered(release, &rogue.keys.signing, |_| {});
    refused("a release by another", Code::WrongSigner, || rogue.bring(&riverside, &forged))?;
    let mut revocation = yes.revocation.clone();
    revocation.preimage[0] ^= 1;
    let revocation = handover_core::codec::encode(&revocation);
    refused("a revocation with a guessed secret", Code::RevocationMismatch, || {
        rogue.bring(&riverside, &revocation)
    })?;
    stage.untouched_since(&before)
}

/// Offers that Riverside must not take.
fn offers(stage: &Stage, sale: &Sale, package: &Package) -> Result<()> {
    let (rogue, riverside) = (&stage.rogue, hospital(RIVERSIDE));
    let before = stage.witness()?;
    let own = &rogue.keys.signing;
    let offered = |offer: &Offer| -> Result<(), Code> {
        let (_, have) = rogue.offer(&riverside, offer).map_err(|_| Code::Internal)?;
        have.problem.map_or(Ok(()), Err)
    };
    let with_header = |header: Vec<u8>| Offer { header: header.into(), ..package.offer.clone() };
    let headers = |what: &str, code: Code, header: Vec<u8>| -> Result<()> {
        refused(what, code, || offered(&with_header(header.clone())))?;
        refused(&format!("{what}, as an artefact"), code, || rogue.bring(&riverside, &header))
    };
    let wrong = |change: fn(&mut PackageHeader)| altered(&package.header, own, change);
    headers("a header whose signature fails", Code::BadSignature, unsigned(package.header.envelope()))?;
    headers("a header by another", Code::WrongSigner, altered(&package.header, third(), |_| {}))?;
    headers(
        "a header for another consent",
        Code::HeaderMismatch,
        wrong(|it| {
            it.consent = Digest::from_bytes([7; 32]);
        }),
    )?;
    // It might be a final quote that is still on its way.
    headers(
        "a header for another quote",
        Code::EvidenceMissing,
        wrong(|it| it.quote = Digest::from_bytes([7; 32])),
    )?;
    headers("a header for Lakeside", Code::HeaderMismatch, wrong(|it| it.destination = hospital(LAKESIDE)))?;
    headers("a header by Lakeside", Code::HeaderMismatch, wrong(|it| it.source = hospital(LAKESIDE)))?;
    headers("a header that makes Riverside pay", Code::CapExceeded, wrong(|it| it.payer = Payer::Hospital))?;
    headers("a header of attempt 0", Code::HeaderMismatch, wrong(|it| it.attempt = 0))?;
    headers(
        "a fee above the cap",
        Code::CapExceeded,
        wrong(|it| {
            it.fee = Amount::from_minor(it.fee.minor() + 1, it.fee.currency());
        }),
    )?;
    headers(
        "a fee below nothing",
        Code::Malformed,
        wrong(|it| {
            it.fee = Amount::from_minor(-1, it.fee.currency());
        }),
    )?;
    headers(
        "a fee in another currency",
        Code::CapExceeded,
        wrong(|it| {
            it.fee = Amount::from_minor(1, "EUR".parse().expect("a currency"));
        }),
    )?;
    let yes = sale.yes.as_ref().context("agreed")?;
    let forged = altered(&yes.consent, own, |_| {});
    let forged = Offer { consent: forged.into(), ..package.offer.clone() };
    refused("an offer with a forged consent", Code::WrongSigner, || offered(&forged))?;
    let other = altered(&sale.quote, own, |it| {
        it.issued = now().plus_ms(1);
        it.priced = it.issued;
    });
    let other = Offer { quote: other.into(), ..package.offer.clone() };
    refused("an offer with another quote", Code::Conflict, || offered(&other))?;
    let mut unknown = package.offer.clone();
    unknown.header = wrong(|it| it.transfer = handover_core::TransferId::new(now(), [7; 10])).into();
    refused("an offer for no known transfer", Code::UnknownTransfer, || offered(&unknown))?;
    let mut relisted = package.offer.clone();
    relisted.parts.contents.pop();
    refused("an offer that lists other parts", Code::PackageMismatch, || offered(&relisted))?;
    refused("an offer of nothing", Code::Malformed, || {
        offered(&Offer { header: vec![0; 10].into(), ..package.offer.clone() })
    })?;
    // A package of two others: the rogue has got hold of a header between Lakeside and Riverside.
    let file = stage.world.folder().join("others.transfer");
    let listed = stage.world.node(RIVERSIDE, &["transfer", "list"])?.json()?;
    let between = listed["transfers"].as_array().into_iter().flatten().find(|it| it["source"] == LAKESIDE);
    let id = between.and_then(|it| it["transfer"].as_str()).context("an honest transfer")?.to_owned();
    let path = file.to_str().context("UTF-8")?;
    stage.world.node(RIVERSIDE, &["transfer", "show", &id, "--out", path])?.done()?;
    let kept: handover_core::verify::TransferFile =
        handover_core::codec::decode(&std::fs::read(&file)?, handover_core::verify::TRANSFER_FILE_MAX_BYTES)?;
    let theirs = kept
        .artefacts
        .iter()
        .find(|it| handover_core::artefact::Signed::<PackageHeader>::read(it.as_ref()).is_ok());
    let theirs = theirs.context("a header in the file")?.clone();
    refused("somebody else's package", Code::WrongSigner, || {
        offered(&Offer { header: theirs.clone(), ..package.offer.clone() })
    })?;
    raw_streams(stage, package)?;
    stage.untouched_since(&before)
}

/// What is no offer at all.
fn raw_streams(stage: &Stage, package: &Package) -> Result<()> {
    let (rogue, riverside) = (&stage.rogue, hospital(RIVERSIDE));
    let said = |bytes: &[u8]| -> Result<(), Code> {
        let mut stream = rogue.open(&riverside)?;
        stream.write(bytes).map_err(|_| Code::Internal)?;
        stream.end().map_err(|_| Code::Internal)?;
        let done: Done = stream.get().map_err(|_| Code::Internal)?;
        done.problem.map_or(Ok(()), Err)
    };
    let honest = wire::frame(&package.offer);
    refused("a frame of 4 GiB", Code::TooLarge, || said(&[0xff; 64]))?;
    refused("garbage in a frame", Code::Malformed, || said(&wire::framed(&[0x5a; 4_000])))?;
    refused("an empty frame", Code::Malformed, || said(&wire::framed(&[])))?;
    refused("deep CBOR", Code::Malformed, || said(&wire::framed(&[0x81; 100_000])))?;
    refused("an offer with a byte behind it", Code::Malformed, || {
        said(&wire::framed(&[&honest[4..], &[0]].concat()))
    })?;
    // 0xa4 is a map of four; 0xb8 0x04 is the same map, not in its shortest form.
    ensure!(honest[4] == 0xa4, "an offer is a map of four");
    refused("an offer in another encoding", Code::Malformed, || {
        said(&wire::framed(&[&[0xb8, 0x04], &honest[5..]].concat()))
    })?;
    refused("half an offer", Code::Unreachable, || said(&honest[..honest.len() / 2]))
}

/// What happens to a package's parts on their way.
type Change<'a> = &'a dyn Fn(&mut Vec<Vec<u8>>);

/// The honest offer, with parts that are not what the header says; then the whole.
fn damage(stage: &Stage, sale: &Sale, package: &Package) -> Result<()> {
    let (rogue, riverside) = (&stage.rogue, hospital(RIVERSIDE));
    let delivered = |what: &str, change: Change<'_>| -> Result<Done> {
        rogue.deliver(&riverside, package, |parts| change(parts)).context(what.to_owned())
    };
    let cases: [(&str, Change<'_>, Code); 7] = [
        ("parts in another order", &|parts| parts.swap(0, 1), Code::ManifestDamaged),
        ("a manifest with a bit flipped", &|parts| parts[0][100] ^= 1, Code::ManifestDamaged),
        ("a manifest cut", &|parts| parts.truncate(0), Code::PackageTruncated),
        ("a hash with a bit flipped", &|parts| parts[1][3] ^= 1, Code::PackageDamaged),
        // From here on Riverside has the first half of it, and wants the second only.
        (
            "a content with a bit flipped",
            &|parts| *parts[1].last_mut().expect("bytes") ^= 1,
            Code::PackageDamaged,
        ),
        (
            "a content cut",
            &|parts| {
                parts[1].pop();
            },
            Code::PackageTruncated,
        ),
        ("a part that never comes", &|parts| parts.truncate(1), Code::PackageTruncated),
    ];
    for (what, change, code) in cases {
        for _ in 0..2 {
            let done = delivered(what, change)?;
            ensure!(done.problem == Some(code), "{what}: expected {code}, came {done:?}");
        }
    }
    ensure!(stage.state(RIVERSIDE, sale.transfer())? == "sealed", "damage moved the transfer");
    Ok(())
}

/// Parts that promise more than there can be. Nothing is set aside for a promise; the transfer waits for what was
/// promised, and ends when the source says so.
fn greedy(stage: &mut Stage) -> Result<()> {
    type Promise = fn(&mut PartList);
    let cases: [(&str, Code, Promise); 4] = [
        ("a manifest without end", Code::ManifestDamaged, |it| it.manifest.length = u64::MAX),
        ("a content without end", Code::PackageDamaged, |it| it.contents[0].length = u64::MAX),
        ("a content of many terabytes", Code::PackageDamaged, |it| it.contents[0].length = 1 << 50),
        ("an empty content that is not", Code::PackageDamaged, |it| it.contents[0].length = 0),
    ];
    let riverside = hospital(RIVERSIDE);
    for (what, code, change) in cases {
        let sale = stage.rogue.agreed(&stage.world, &stage.pat, RIVERSIDE)?;
        let goods = Goods { listing: change, ..stage.rogue.goods(&sale)? };
        let package = stage.rogue.sealed(&sale, &goods, |_| {})?;
        let (mut stream, have) = stage.rogue.offer(&riverside, &package.offer)?;
        ensure!(have.problem.is_none(), "{what} is refused: {have:?}");
        for part in &package.parts {
            // The other side may have seen enough already.
            if stream.write(&travelling(part, 0)?).is_err() {
                break;
            }
        }
        let _ = stream.end();
        let done: Done = stream.get().context(what)?;
        ensure!(done.problem == Some(code), "{what}: {done:?}");
    }
    Ok(())
}

/// Streams on which nothing, or not all, comes: others go on meanwhile.
fn slow(stage: &mut Stage, package: &Package) -> Result<()> {
    let riverside = hospital(RIVERSIDE);
    let (mut half, have) = stage.rogue.offer(&riverside, &package.offer)?;
    ensure!(have.problem.is_none(), "the offer is refused");
    half.write(&package.parts[0][..10])?;
    // The same package on another stream has to wait for this one to end.
    let (_, have) = stage.rogue.offer(&riverside, &package.offer)?;
    ensure!(have.problem == Some(Code::Busy), "two streams write one transfer: {have:?}");
    // As many streams as it gets, on which it says nothing.
    let mut silent = Vec::new();
    while let Ok(stream) = stage.rogue.open(&riverside) {
        silent.push(stream);
        ensure!(silent.len() < SILENT_STREAMS, "one hospital has {SILENT_STREAMS} silent streams");
    }
    stage.honest().context("while streams are silent")?;
    drop(silent);
    half.end()?;
    let done: Done = half.get()?;
    // On a slow machine it had been silent for too long before.
    let is_refused =
        matches!(done.problem, Some(Code::PackageTruncated | Code::Unreachable | Code::TimedOut));
    ensure!(is_refused, "half a package is taken: {done:?}");
    Ok(())
}

/// Delivered whole; then keys that are not the header's, and the header's.
fn keys(stage: &mut Stage, sale: &Sale, package: &Package) -> Result<Verified<Receipt>> {
    let (riverside, transfer) = (hospital(RIVERSIDE), sale.transfer());
    let honest = Verified::sign(stage.rogue.key_release(package), &stage.rogue.keys.signing);
    let early = || stage.rogue.bring(&riverside, honest.envelope());
    refused("the key before delivery", Code::OutOfOrder, early)?;
    let other = stage.rogue.sealed(sale, &stage.rogue.goods(sale)?, |_| {})?;
    refused("another package for the same transfer", Code::Conflict, || {
        let (_, have) = stage.rogue.offer(&riverside, &other.offer).map_err(|_| Code::Internal)?;
        have.problem.map_or(Ok(()), Err)
    })?;
    // What follows the last part belongs to nothing.
    let done = stage.rogue.deliver(&riverside, package, |parts| parts.push(vec![0x5a; 5_000]))?;
    let delivered = done.delivered.with_context(|| format!("not delivered: {:?}", done.problem))?;
    stage.comes_to(RIVERSIDE, transfer, "delivered", "delivered")?;
    let before = stage.witness()?;
    let rogue = &stage.rogue;
    let told =
        |what: &str, code: Code, envelope: &[u8]| refused(what, code, || rogue.bring(&riverside, envelope));
    let wrong = |change: &dyn Fn(&mut KeyRelease)| altered(&honest, &rogue.keys.signing, |it| change(it));
    told(
        "the shares of another package",
        Code::SharesMismatch,
        &wrong(&|it| {
            it.shares = other.shares.clone().into();
        }),
    )?;
    told("shares for another header", Code::SharesMismatch, &wrong(&|it| it.header = other.header.hash()))?;
    told("shares by another", Code::WrongSigner, &altered(&honest, third(), |_| {}))?;
    told("shares, signature failing", Code::BadSignature, &unsigned(honest.envelope()))?;
    stage.untouched_since(&before)?;

    // The index has its copies from Riverside only if the rogue brings what they stand on.
    taken("the header for the index", || stage.rogue.post(&riverside, package.header.envelope()))?;
    taken("the key", || stage.rogue.bring(&riverside, honest.envelope()))?;
    taken("the key for the index", || stage.rogue.post(&riverside, honest.envelope()))?;
    stage.comes_to(RIVERSIDE, transfer, "filed", "filed")?;
    let receipt = stage.rogue.letter::<Receipt>(|it| it.transfer == transfer)?;
    let receipt = stage
        .rogue
        .judge(|context| handover_core::rules::receipt(receipt.envelope(), &package.header, context))?;
    stage.world.posted(&transfer.to_string(), LIMIT)?;
    let again = stage.rogue.deliver(&riverside, package, |_| {})?;
    ensure!(again.delivered.as_ref() == Some(&delivered), "another word for the same package: {again:?}");
    let listed = stage.records_of_pat()?;
    // Two records and the Provenance.
    ensure!(listed["records"].as_array().map(Vec::len) == Some(3), "filed: {listed}");
    Ok(receipt)
}

/// Everything once more.
fn replays(stage: &mut Stage, sale: &Sale, package: &Package, receipt: &Verified<Receipt>) -> Result<()> {
    let (riverside, rogue) = (hospital(RIVERSIDE), &stage.rogue);
    let before = stage.witness()?;
    let key = Verified::sign(rogue.key_release(package), &rogue.keys.signing);
    let yes = sale.yes.as_ref().context("agreed")?;
    let release = sale.release.as_ref().context("agreed")?;
    for (what, envelope) in [
        ("request", sale.request.request.envelope()),
        ("quote", sale.quote.envelope()),
        ("consent", yes.consent.envelope()),
        ("release", release.envelope()),
        ("header", package.header.envelope()),
        ("receipt", receipt.envelope()),
    ] {
        taken(&format!("the old {what}"), || rogue.bring(&riverside, envelope))?;
        taken(&format!("the old {what}, by the index"), || rogue.post(&riverside, envelope))?;
    }
    // Signed anew at another time it is another artefact.
    let later = altered(&key, &rogue.keys.signing, |it| it.issued = it.issued.plus_ms(1_000));
    refused("another key for the same package", Code::Conflict, || rogue.bring(&riverside, &later))?;
    let dearer = altered(&package.header, &rogue.keys.signing, |it| it.issued = it.issued.plus_ms(1));
    refused("another header for the same transfer", Code::Conflict, || rogue.bring(&riverside, &dearer))?;
    refused("the same, by the index", Code::Conflict, || rogue.post(&riverside, &dearer))?;
    let revocation = handover_core::codec::encode(&yes.revocation);
    stage.untouched_since(&before)?;
    // What is filed cannot be taken back; the revocation is kept and confirmed, nothing else changes.
    rogue.bring(&riverside, &revocation).map_err(|code| anyhow::anyhow!("a late revocation: {code}"))?;
    ensure!(stage.state(RIVERSIDE, sale.transfer())? == "filed", "a late revocation moved the transfer");
    Ok(())
}

/// A package whose manifest is said to be what Riverside keeps as a record's content already. It ends without a
/// manifest to remove: the record stays whole.
fn borrowed(stage: &mut Stage, filed: &Package) -> Result<()> {
    let riverside = hospital(RIVERSIDE);
    let sale = stage.rogue.agreed(&stage.world, &stage.pat, RIVERSIDE)?;
    let honest = stage.rogue.sealed(&sale, &stage.rogue.goods(&sale)?, |_| {})?;
    let scan = filed.offer.parts.contents.first().context("nothing large was filed")?.clone();
    let parts = PartList { manifest: scan, contents: Vec::new(), ..honest.offer.parts.clone() };
    let header = altered(&honest.header, &stage.rogue.keys.signing, |it| it.parts = parts.commitment());
    let offer = Offer { header: header.into(), parts, ..honest.offer };
    let (mut stream, have) = stage.rogue.offer(&riverside, &offer)?;
    ensure!(have.problem.is_none(), "the offer is refused: {have:?}");
    let _ = stream.end();
    let done: Done = stream.get()?;
    ensure!(done.delivered.is_some(), "it is not taken for delivered: {done:?}");
    let refusal = stage.rogue.refusal(sale.transfer(), Step::Delivery, Code::PackageDamaged);
    taken("a refusal by the source", || stage.rogue.bring(&riverside, refusal.envelope()))?;
    stage.comes_to(RIVERSIDE, sale.transfer(), "filed", "refused (package-damaged)")?;
    // Whatever it leaves behind is removed before the next transfer is through.
    stage.honest()?;
    stage.sound()
}
