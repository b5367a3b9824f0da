//! A hospital with keys of its own asks for what it may not have, and an honest one says no; and what it may have opens
//! with its own share under this one label, and with nothing else.

use std::io::Read as _;

use anyhow::{Context as _, Result, anyhow, ensure};
use handover_core::artefact::break_glass::{
    BreakGlass, BreakGlassAnswer, BreakGlassDetails, BreakGlassMore, BreakGlassNote, BreakGlassReview,
    ClinicianCertificate, Demographics, EmergencyPurpose, ReviewVerdict,
};
use handover_core::artefact::{Countersigned, Verified};
use handover_core::codec::{self, Extensions};
use handover_core::message::{Verb, break_glass_binding};
use handover_core::time::{DAY_MS, HOUR_MS};
use handover_core::{
    BreakGlassId, Code, Digest, HospitalId, PatientRef, Random as _, Timestamp, TransferId, rules,
};
use handover_scenarios::json;
use handover_scenarios::programs::Programs;
use handover_scenarios::world::World;
use handover_seal::break_glass::GlassBinding;
use handover_seal::part::seal_part;
use handover_seal::shares::{Binding, Shares};
use handover_seal::stream::OpenReader;
use handover_seal::{OsRandom, RsaPublicKey, Secret32, SigningKey};
use handover_tests::fixture;
use handover_tests::rogue::{Rogue, now};

use super::people::shown;
use super::{NEW, OLD};

fn none() -> Extensions {
    Extensions::default()
}

/// The rogue, its clinicians, and whom it asks.
struct Stage {
    rogue: Rogue,
    mira: SigningKey,
    noor: SigningKey,
    old: HospitalId,
    rsa: RsaPublicKey,
}

pub(crate) fn all(world: &mut World) -> Result<()> {
    let index = serde_json::from_value(world.index_ready()["net"].clone())?;
    let rogue = Rogue::start(&fixture::World::shared().hillcrest, world.root().parse()?, index)?;
    rogue.refresh()?;
    rogue.join(world, Programs::shared()?)?;
    let old: HospitalId = OLD.parse()?;
    let federation = rogue.federation()?;
    let rsa = federation.member(&old).map_err(|code| anyhow!("{code}"))?.profile.rsa_key.clone();
    let stage = Stage {
        rogue,
        mira: SigningKey::generate(&mut OsRandom),
        noor: SigningKey::generate(&mut OsRandom),
        old,
        rsa: RsaPublicKey::from_spki_der(rsa.as_ref())?,
    };
    false_requests(&stage)?;
    located(&stage)?;
    let request = stage.honest(|_| {});
    let answer = opened(world, &stage, &request)?;
    killed(world, &stage, &request, &answer)?;
    others(world, &stage, &request)
}

impl Stage {
    fn certificate(
        &self,
        key: &SigningKey,
        name: &str,
        change: impl Fn(&mut ClinicianCertificate),
    ) -> Vec<u8> {
        let mut certificate = ClinicianCertificate {
            hospital: self.rogue.id().clone(),
            key: key.public(),
            name: name.to_owned(),
            role: "physician".to_owned(),
            number: 1,
            not_before: now().plus_ms(-DAY_MS),
            not_after: now().plus_ms(DAY_MS),
            extensions: none(),
        };
        change(&mut certificate);
        Verified::sign(certificate, &self.rogue.keys.signing).envelope().to_vec()
    }

    /// What an honest clinician asks, with something changed before it is signed.
    fn honest(&self, change: impl Fn(&mut BreakGlass)) -> Verified<BreakGlass> {
        let who = Demographics {
            family: "Quill-Reed".to_owned(),
            given: "Ada".to_owned(),
            birth_date: "1980-02-29".to_owned(),
            sex: None,
            record_number: None,
            extensions: none(),
        };
        let details = BreakGlassDetails {
            purpose: EmergencyPurpose::EmergencyTreatment,
            reason: "an emergency".to_owned(),
            demographics: Some(who),
            salt: OsRandom.array(),
            extensions: none(),
        };
        let (id, plain) = (BreakGlassId::new(now(), OsRandom.array()), codec::encode(&details));
        let sealed = seal_part(&self.rsa, &break_glass_binding(&id), &plain, &mut OsRandom).unwrap();
        let mut request = BreakGlass {
            id,
            requesting: self.rogue.id().clone(),
            source: Some(self.old.clone()),
            patient: None,
            certificate: self.certificate(&self.mira, "Dr. Mira", |_| {}).into(),
            issued: now(),
            until: now().plus_ms(HOUR_MS),
            details: Digest::sha256(&[&plain]),
            sealed_to_source: Some(sealed.into()),
            sealed_to_requesting: vec![0; 8].into(),
            extensions: none(),
        };
        change(&mut request);
        Verified::sign(request, &self.mira)
    }

    fn sign(&self, request: &Verified<BreakGlass>) -> Vec<u8> {
        Countersigned::sign(request, &self.rogue.keys.signing)
    }

    fn bring(&self, content: Vec<u8>) -> Result<Vec<Vec<u8>>, Code> {
        let route = self.rogue.route(&self.old).map_err(|_| Code::UnknownHospital)?;
        self.rogue.ask(&route, Verb::BreakGlass, vec![content])
    }

    fn piece(&self, id: &BreakGlassId, asked: &Digest, number: u32) -> Result<Vec<u8>, Code> {
        let route = self.rogue.route(&self.old).map_err(|_| Code::UnknownHospital)?;
        let items = vec![id.as_bytes().to_vec(), asked.as_bytes().to_vec(), number.to_be_bytes().to_vec()];
        let items = self.rogue.ask(&route, Verb::BreakGlassPart, items)?;
        items.into_iter().next().ok_or(Code::Malformed)
    }

    fn refused(&self, what: &str, code: Code, content: Vec<u8>) -> Result<()> {
        let came = self.bring(content).err();
        ensure!(came == Some(code), "{what}: expected {code}, came {came:?}");
        Ok(())
    }
}

fn false_requests(stage: &Stage) -> Result<()> {
    let refused =
        |what: &str, code, request: Verified<BreakGlass>| stage.refused(what, code, stage.sign(&request));
    let honest = || stage.honest(|_| {});
    stage.refused("without its hospital", Code::Malformed, honest().envelope().to_vec())?;
    let stranger = &fixture::World::shared().stranger;
    stage.refused("countersigned by another", Code::WrongSigner, Countersigned::sign(&honest(), stranger))?;
    refused(
        "for another hospital",
        Code::WrongSigner,
        stage.honest(|it| it.requesting = NEW.parse().unwrap()),
    )?;
    refused(
        "to another",
        Code::BreakGlassMismatch,
        stage.honest(|it| it.source = Some(NEW.parse().unwrap())),
    )?;
    refused(
        "of a day and more",
        Code::BreakGlassMismatch,
        stage.honest(|it| it.until = it.issued.plus_ms(DAY_MS + 1)),
    )?;
    let past = |it: &mut BreakGlass| {
        (it.issued, it.until) = (it.issued.plus_ms(-2 * HOUR_MS), it.until.plus_ms(-2 * HOUR_MS));
    };
    refused("after its window", Code::BreakGlassOver, stage.honest(past))?;
    let future = |it: &mut BreakGlass| {
        (it.issued, it.until) = (it.issued.plus_ms(HOUR_MS), it.until.plus_ms(HOUR_MS));
    };
    refused("from the future", Code::ClockOff, stage.honest(future))?;
    refused(
        "with other details",
        Code::BreakGlassMismatch,
        stage.honest(|it| it.details = Digest::from_bytes([1; 32])),
    )?;
    let mine = |change: &dyn Fn(&mut ClinicianCertificate)| {
        let certificate = stage.certificate(&stage.mira, "Dr. Mira", change);
        stage.honest(|it| it.certificate = certificate.clone().into())
    };
    let over = |it: &mut ClinicianCertificate| it.not_after = now().plus_ms(-1);
    refused("with a certificate that has ended", Code::CertificateExpired, mine(&over))?;
    let long = |it: &mut ClinicianCertificate| it.not_after = it.not_before.plus_ms(400 * DAY_MS);
    refused("with one of more than a year", Code::Malformed, mine(&long))?;
    let other = |it: &mut ClinicianCertificate| it.hospital = NEW.parse().unwrap();
    refused("with another hospital's", Code::WrongSigner, mine(&other))?;
    let else_ = |it: &mut ClinicianCertificate| it.key = stage.noor.public();
    refused("with somebody else's", Code::WrongSigner, mine(&else_))
}

/// The index locates nobody under what was signed a day ago, or is from the future.
fn located(stage: &Stage) -> Result<()> {
    let locate = |issued: Timestamp| {
        let note = BreakGlassNote {
            id: BreakGlassId::new(issued, OsRandom.array()),
            break_glass: Digest::from_bytes([1; 32]),
            requesting: stage.rogue.id().clone(),
            source: None,
            patient: Some(PatientRef::from_bytes([7; 32])),
            issued,
            extensions: none(),
        };
        let note = Verified::sign(note, &stage.rogue.keys.signing).envelope().to_vec();
        stage.rogue.ask(&stage.rogue.index(), Verb::BreakGlass, vec![note]).map(drop)
    };
    let (day, hour) = (now().plus_ms(-DAY_MS), now().plus_ms(HOUR_MS));
    ensure!(locate(now()) == Ok(()), "an honest one is refused");
    ensure!(locate(day) == Err(Code::BreakGlassOver), "located for ever");
    ensure!(locate(hour) == Err(Code::ClockOff), "located from the future");
    Ok(())
}

/// What is given out opens with the rogue's own share under the label of emergencies, and under no other.
fn opened(world: &World, stage: &Stage, request: &Verified<BreakGlass>) -> Result<Vec<u8>> {
    let bring = |content: Vec<u8>| stage.bring(content).map_err(|code| anyhow!("{code}"));
    let envelope = bring(stage.sign(request))?.into_iter().next().context("no answer")?;
    let hash = request.hash();
    let answer =
        stage.rogue.judge(|context| rules::break_glass_answer(&envelope, request, &hash, context))?;
    let given = answer.given.as_ref().context("nothing was given")?;
    let piece = stage.piece(&request.id, &hash, 0).map_err(|code| anyhow!("{code}"))?;
    ensure!(given.pieces == [Digest::sha256(&[&piece])], "another piece than the answer lists");
    ensure!(
        stage.piece(&request.id, &hash, 1) == Err(Code::UnknownBreakGlass),
        "more pieces than are listed"
    );

    let share = stage.rogue.keys.ring.find(&given.key)?.unwrap(given.share.as_ref())?;
    let share = Secret32::from_slice(&share)?;
    let binding = GlassBinding {
        source: stage.old.clone(),
        requesting: stage.rogue.id().clone(),
        id: request.id,
        asked: hash,
    };
    let secrets = binding.content_secrets(&share)?;
    secrets.check(&given.commitment)?;
    let mut bundle = String::new();
    OpenReader::new(piece.as_slice(), &secrets.cek).read_to_string(&mut bundle)?;
    ensure!(
        bundle.contains("AllergyIntolerance") && !bundle.contains("Potassium"),
        "not the subset: {bundle}"
    );

    // As if it were a transfer that somebody consented to; and as if it belonged to others.
    let consent = Binding {
        source: stage.old.clone(),
        destination: stage.rogue.id().clone(),
        consent: hash,
        transfer: TransferId::try_from(request.id.as_bytes().as_slice())?,
        attempt: 1,
    };
    let shares = Shares { hospital: share.clone(), patient: Secret32::from_bytes([0; 32]) };
    let consented = shares.content_secrets(&consent)?;
    let elsewhere = GlassBinding { requesting: NEW.parse()?, ..binding }.content_secrets(&share)?;
    for wrong in [consented, elsewhere] {
        ensure!(wrong.check(&given.commitment).is_err(), "another derivation has the same commitment");
        let opened = OpenReader::new(piece.as_slice(), &wrong.cek).read_to_end(&mut Vec::new());
        ensure!(opened.is_err(), "another derivation opens it");
    }
    let there = shown(world, OLD, &request.id.to_string())?;
    ensure!(json::list(&there, "audit").count() > 0 && there["hospital"] == "hillcrest", "{there}");
    Ok(envelope)
}

/// Killed and asked again: the same answer, and one audit line for it.
fn killed(world: &mut World, stage: &Stage, request: &Verified<BreakGlass>, answer: &[u8]) -> Result<()> {
    let id = request.id.to_string();
    let lines = |world: &World| -> Result<usize> {
        let there = shown(world, OLD, &id)?;
        Ok(json::list(&there, "audit").filter(|it| json::text(it, "action") == "export").count())
    };
    let before = lines(world)?;
    let piece = stage.piece(&request.id, &request.hash(), 0).map_err(|code| anyhow!("{code}"))?;
    world.kill(OLD)?;
    world.restart(OLD)?;
    let again = stage.bring(stage.sign(request)).map_err(|code| anyhow!("{code}"))?;
    ensure!(again == [answer.to_vec()], "the same again has another answer");
    ensure!(stage.piece(&request.id, &request.hash(), 0) == Ok(piece), "and other pieces");
    ensure!(lines(world)? == before, "and is given out twice");
    let other = stage.honest(|it| it.id = request.id);
    // The sealed part is bound to its identifier: even so, another content is named first.
    stage.refused("another under the same identifier", Code::Conflict, stage.sign(&other))
}

/// More without a second person, and what is others'.
fn others(world: &World, stage: &Stage, request: &Verified<BreakGlass>) -> Result<()> {
    let more = |key: &SigningKey, name: &str, hash: Digest| {
        let certificate = stage.certificate(key, name, |_| {});
        let more = BreakGlassMore {
            id: request.id,
            break_glass: hash,
            certificate: certificate.into(),
            issued: now(),
            extensions: none(),
        };
        Countersigned::sign(&Verified::sign(more, key), &stage.rogue.keys.signing)
    };
    let hash = request.hash();
    stage.refused("more by the first", Code::SamePerson, more(&stage.mira, "Dr. Mira", hash))?;
    stage.refused("by the first, with two keys", Code::SamePerson, more(&stage.noor, "dr.  MIRA", hash))?;
    let elsewhere = more(&stage.noor, "Dr. Noor", Digest::from_bytes([1; 32]));
    stage.refused("for another", Code::BreakGlassMismatch, elsewhere)?;
    let answer = stage.bring(more(&stage.noor, "Dr. Noor", hash)).map_err(|code| anyhow!("{code}"))?;
    let answer = handover_core::artefact::Signed::<BreakGlassAnswer>::read(&answer[0])?;
    ensure!(answer.claim().given.is_some(), "a second person gets nothing: {answer:?}");

    // One of Riverside's: neither its pieces nor its review are the rogue's.
    let listed = world.node(OLD, &["break-glass", "list"])?.json()?;
    let theirs =
        json::list(&listed, "break_glasses").find(|it| it["hospital"] == NEW && it["state"] == "given");
    let theirs: BreakGlassId = json::text(theirs.context("none of Riverside's")?, "break_glass").parse()?;
    ensure!(stage.piece(&theirs, &hash, 0) == Err(Code::UnknownBreakGlass), "pieces of others");
    let review = |id: BreakGlassId, issued: Timestamp| BreakGlassReview {
        id,
        break_glass: hash,
        hospital: stage.rogue.id().clone(),
        verdict: ReviewVerdict::Justified,
        sealed_to_source: vec![0; 8].into(),
        issued,
        extensions: none(),
    };
    let signed =
        |review: BreakGlassReview| Verified::sign(review, &stage.rogue.keys.signing).envelope().to_vec();
    stage.refused("a review of others", Code::UnknownBreakGlass, signed(review(theirs, now())))?;
    let early = signed(review(request.id, now().plus_ms(-DAY_MS)));
    stage.refused("a review before it", Code::BreakGlassMismatch, early)?;
    let good = signed(review(request.id, now()));
    ensure!(stage.bring(good.clone()).is_ok() && stage.bring(good).is_ok(), "an honest review is refused");
    let other = BreakGlassReview { verdict: ReviewVerdict::NotJustified, ..review(request.id, now()) };
    stage.refused("another review", Code::Conflict, signed(other))
}
