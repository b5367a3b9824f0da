//! The rogue, whose package Riverside has filed, recalls what it did not send, or gives back what it did not get.

use anyhow::{Context, Result, anyhow, ensure};
use handover_core::artefact::Verified;
use handover_core::artefact::recall::{
    RECALLS_MAX, Recall, RecallConfirmed, RecallDetails, RecallReason, RecalledRecord,
};
use handover_core::artefact::transfer::OtherTests;
use handover_core::codec::{self, Extensions};
use handover_core::message::{RECALL_LABEL, part_binding};
use handover_core::{Amount, Code, Digest, TransferId};
use handover_seal::part::seal_part;
use handover_seal::{OsRandom, RsaPublicKey};
use handover_tests::fixture::altered;
use handover_tests::rogue::now;
use handover_tests::rogue::sale::{Goods, Package, Sale};

use super::stage::{RIVERSIDE, Stage, hospital, refused, taken, unsigned};

/// A recall by the rogue of these details, sealed to Riverside.
fn recall(stage: &Stage, package: &Package, details: &RecallDetails, minor: i64) -> Result<Verified<Recall>> {
    let federation = stage.rogue.federation()?;
    let riverside = federation.member(&hospital(RIVERSIDE)).map_err(|code| anyhow!("{code}"))?;
    let rsa = RsaPublicKey::from_spki_der(riverside.profile.rsa_key.as_ref())?;
    let transfer = package.header.transfer;
    let aad = part_binding(RECALL_LABEL, &transfer);
    let recall = Recall {
        transfer,
        number: 1,
        header: package.header.hash(),
        commitment: details.commitment(),
        fee_back: Amount::from_minor(minor, package.header.fee.currency()),
        sealed: seal_part(&rsa, &aad, &codec::encode(details), &mut OsRandom)?.into(),
        issued: now(),
        extensions: Extensions::default(),
    };
    Ok(Verified::sign(recall, &stage.rogue.keys.signing))
}

/// The first record of a package, retracted.
fn first_of(goods: &Goods) -> Result<RecallDetails> {
    let sent = goods.records.first().context("nothing was sent")?;
    let record = RecalledRecord {
        origin: sent.origin.clone(),
        resource_type: sent.resource_type.clone(),
        resource_id: sent.resource_id.clone(),
        content_hash: sent.content_hash,
        replaced: None,
        extensions: Extensions::default(),
    };
    Ok(RecallDetails {
        reason: RecallReason::Retracted,
        records: vec![record],
        salt: [7; 16],
        other_tests: None,
        extensions: Extensions::default(),
    })
}

/// A transfer that Riverside has filed: nothing is marked but what was sent in it, nor before it is said honestly.
pub(crate) fn all(stage: &mut Stage, sale: &Sale, package: &Package) -> Result<()> {
    let riverside = hospital(RIVERSIDE);
    let details = first_of(&stage.rogue.goods(sale)?)?;
    let honest = recall(stage, package, &details, 0)?;
    let before = stage.witness()?;
    let rogue = &stage.rogue;
    let both = |what: &str, code: Code, envelope: &[u8]| -> Result<()> {
        refused(what, code, || rogue.bring(&riverside, envelope))?;
        refused(&format!("{what}, by the index"), code, || rogue.post(&riverside, envelope))
    };
    let wrong = |change: &dyn Fn(&mut Recall)| altered(&honest, &rogue.keys.signing, |it| change(it));
    let stranger = &handover_tests::fixture::World::shared().stranger;
    both("a recall by another", Code::WrongSigner, &altered(&honest, stranger, |_| {}))?;
    both("a recall, signature failing", Code::BadSignature, &unsigned(honest.envelope()))?;
    both(
        "a recall of another package",
        Code::RecallMismatch,
        &wrong(&|it| it.header = Digest::from_bytes([7; 32])),
    )?;
    both("a recall after none", Code::EvidenceMissing, &wrong(&|it| it.number = 2))?;
    both("a recall too many", Code::RecallsExhausted, &wrong(&|it| it.number = RECALLS_MAX + 1))?;
    let back = |minor| move |it: &mut Recall| it.fee_back = Amount::from_minor(minor, it.fee_back.currency());
    both("more than the fee back", Code::RecallFee, &wrong(&back(501)))?;
    both("less than nothing back", Code::RecallFee, &wrong(&back(-1)))?;
    // Whose transfer that is, nobody knows.
    let elsewhere = wrong(&|it| it.transfer = TransferId::new(now(), [7; 10]));
    refused("a recall of an unknown transfer", Code::EvidenceMissing, || {
        rogue.bring(&riverside, &elsewhere)
    })?;

    // What only Riverside can read.
    let inside = |what: &str, code: Code, change: &dyn Fn(&mut RecallDetails), minor| -> Result<()> {
        let mut details = details.clone();
        change(&mut details);
        let recall = recall(stage, package, &details, minor)?;
        refused(what, code, || rogue.bring(&riverside, recall.envelope()))
    };
    let unknown = Code::RecallUnknownRecord;
    inside("a record never sent", unknown, &|it| it.records[0].resource_id = "r-9".to_owned(), 0)?;
    inside(
        "a version never sent",
        unknown,
        &|it| it.records[0].content_hash = Digest::from_bytes([7; 32]),
        0,
    )?;
    inside("a record of Lakeside's", unknown, &|it| it.records[0].origin = hospital("lakeside"), 0)?;
    inside("nothing recalled", Code::RecallMismatch, &|it| it.records.clear(), 0)?;
    let amended = |it: &mut RecallDetails| {
        it.reason = RecallReason::Amended;
        it.records[0].replaced = Some(now());
    };
    inside("a fee back for a test that was done", Code::RecallFee, &amended, 100)?;
    refused("other details than it commits to", Code::RecallMismatch, || {
        rogue.bring(&riverside, &wrong(&|it| it.commitment = Digest::from_bytes([7; 32])))
    })?;
    refused("details that do not open", Code::Malformed, || {
        rogue.bring(&riverside, &wrong(&|it| it.sealed = vec![7; 600].into()))
    })?;
    stage.untouched_since(&before)?;
    told(stage, sale, package, &details)
}

/// An honest one marks, also with another fee than Riverside computes, and with other tests than the fee was made of:
/// which its desk sees.
fn told(stage: &mut Stage, sale: &Sale, package: &Package, details: &RecallDetails) -> Result<()> {
    let (riverside, transfer) = (hospital(RIVERSIDE), sale.transfer());
    let (basis, extensions) = ("1.00".to_owned(), Extensions::default());
    let others = OtherTests { tests: 1, unpriced: 0, basis, extensions };
    let details = &RecallDetails { other_tests: Some(others), ..details.clone() };
    let honest = recall(stage, package, details, 100)?;
    taken("a recall", || stage.rogue.bring(&riverside, honest.envelope()))?;
    taken("the recall by the index", || stage.rogue.post(&riverside, honest.envelope()))?;
    let confirmed = stage.rogue.letter::<RecallConfirmed>(|it| it.transfer == transfer)?;
    let confirmed = stage.rogue.judge(|context| {
        handover_core::rules::recall_confirmed(confirmed.envelope(), &honest, &package.header, context)
    })?;
    ensure!(confirmed.fee_back.map(|back| back.minor()) == Some(500), "its test was charged 5.00");
    let listed = stage.world.node(RIVERSIDE, &["recall", "list"])?.json()?;
    let shown = &listed["recalls"][0];
    ensure!(
        shown["fee_back"] == "1.00" && shown["fee_differs"] == "5.00",
        "the mismatch is not told: {listed}"
    );
    let records = stage.records_of_pat()?;
    let marked: Vec<_> = records["records"].as_array().into_iter().flatten().collect();
    let marked: Vec<_> = marked.iter().filter(|it| it["recalled"].is_object()).collect();
    ensure!(
        marked.len() == 1 && marked[0]["id"] == "r-1" && marked[0]["recalled"]["reason"] == "retracted",
        "{records}"
    );
    let other = altered(&honest, &stage.rogue.keys.signing, |it| it.issued = it.issued.plus_ms(1));
    refused("another recall in its place", Code::Conflict, || stage.rogue.bring(&riverside, &other))
}
