//! A rogue hospital and patients who lie, against real processes: each is refused with its own code, and an honest
//! request between the same hospitals goes through meanwhile.

use anyhow::{Context as _, Result, ensure};
use handover_core::artefact::remote::{
    REMOTE_LINK_LIFE_MS, RemoteLinkAnswer, RemoteLinkDetails, RemoteLinkRequest, RemoteLinkState,
};
use handover_core::artefact::{Countersigned, Signed, Verified};
use handover_core::codec::{self, Extensions};
use handover_core::message::{Verb, remote_link_binding};
use handover_core::time::DAY_MS;
use handover_core::{Code, Digest, HospitalId, Random as _, RemoteLinkId};
use handover_scenarios::json;
use handover_scenarios::programs::Programs;
use handover_scenarios::story::Order;
use handover_scenarios::world::World;
use handover_seal::part::seal_part;
use handover_seal::{OsRandom, RsaPublicKey};
use handover_tests::fixture;
use handover_tests::rogue::person::{Person, endpoint};
use handover_tests::rogue::{Rogue, now, until};

use super::{NEW, OLD, ask_link, confirmed, link, link_by_letter, records, refused, within};

/// What one hospital may have waiting at another.
const PER_HOSPITAL: usize = 50;
/// Wrong codes that end a request.
const TRIES: usize = 5;

struct Stage<'w> {
    world: &'w World,
    rogue: Rogue,
    old: HospitalId,
}

pub(crate) fn all(world: &mut World) -> Result<()> {
    let index = serde_json::from_value(world.index_ready()["net"].clone())?;
    let rogue = Rogue::start(&fixture::World::shared().hillcrest, world.root().parse()?, index)?;
    rogue.refresh()?;
    rogue.join(world, Programs::shared()?)?;
    let stage = Stage { world, rogue, old: OLD.parse()? };
    let (victim, _) = records(world, OLD, 31)?;
    requests(&stage)?;
    links(&stage, &victim)?;
    answers(&stage)?;
    flood(&stage, &victim)?;
    let Stage { rogue, .. } = stage;
    suspended(world, &rogue)
}

impl Stage<'_> {
    /// A request as an honest wallet makes it, with something changed.
    fn request(
        &self,
        person: &Person,
        number: &str,
        change: impl FnOnce(&mut RemoteLinkRequest),
    ) -> Result<Verified<RemoteLinkRequest>> {
        let federation = self.rogue.federation()?;
        let details = RemoteLinkDetails {
            record_number: number.to_owned(),
            name: "Mal Lory".to_owned(),
            birth_date: "1980-02-29".to_owned(),
            salt: OsRandom.array(),
            extensions: Extensions::default(),
        };
        let (id, plain) = (RemoteLinkId::new(now(), OsRandom.array()), codec::encode(&details));
        let key = |hospital: &HospitalId| -> Result<Vec<u8>> {
            let member = federation.member(hospital).map_err(|code| anyhow::anyhow!("{code}"))?;
            let key = RsaPublicKey::from_spki_der(member.profile.rsa_key.as_ref())?;
            Ok(seal_part(&key, &remote_link_binding(&id), &plain, &mut OsRandom)?)
        };
        let mut request = RemoteLinkRequest {
            id,
            patient: person.keys.reference(),
            key_records: person.keys.records.clone(),
            hospital: self.old.clone(),
            vouching: self.rogue.id().clone(),
            details: Digest::sha256(&[&plain]),
            sealed_to_hospital: key(&self.old)?.into(),
            sealed_to_vouching: key(self.rogue.id())?.into(),
            issued: now(),
            expires: now().plus_ms(REMOTE_LINK_LIFE_MS),
            extensions: Extensions::default(),
        };
        change(&mut request);
        Ok(Verified::sign(request, &person.keys.signing))
    }

    /// As the rogue vouches for it.
    fn vouched(&self, request: &Verified<RemoteLinkRequest>) -> Vec<u8> {
        Countersigned::sign(request, &self.rogue.keys.signing)
    }

    fn bring(&self, content: Vec<u8>) -> Result<Vec<Vec<u8>>, Code> {
        let route = self.rogue.route(&self.old).map_err(|_| Code::UnknownHospital)?;
        self.rogue.ask(&route, Verb::RemoteLink, vec![content])
    }

    /// Twice the same.
    fn is_refused(&self, what: &str, content: &[u8], code: Code) -> Result<()> {
        for _ in 0..2 {
            let came = self.bring(content.to_vec());
            ensure!(came == Err(code), "{what}: expected {code}, came {came:?}");
        }
        Ok(())
    }
}

fn requests(stage: &Stage<'_>) -> Result<()> {
    let mal = Person::new(901, "mal-1");
    let bring = |what: &str, code: Code, change: &dyn Fn(&mut RemoteLinkRequest)| {
        let request = stage.request(&mal, "P-1", change)?;
        stage.is_refused(what, &stage.vouched(&request), code)
    };
    bring("vouched for by another than the one named", Code::WrongSigner, &|it| {
        it.vouching = NEW.parse().unwrap_or_else(|_| unreachable!());
    })?;
    bring("to another hospital", Code::AskMismatch, &|it| {
        it.hospital = NEW.parse().unwrap_or_else(|_| unreachable!());
    })?;
    bring("expired", Code::AskExpired, &|it| {
        it.issued = now().plus_ms(-2 * DAY_MS);
        it.expires = now().plus_ms(-DAY_MS);
    })?;
    bring("of tomorrow", Code::AskExpired, &|it| {
        it.issued = now().plus_ms(DAY_MS);
        it.expires = now().plus_ms(2 * DAY_MS);
    })?;
    bring("good for a year", Code::AskExpired, &|it| it.expires = it.issued.plus_ms(365 * DAY_MS))?;
    bring("with other details than were signed", Code::AskMismatch, &|it| {
        it.details = Digest::from_bytes([1; 32]);
    })?;
    bring("sealed to nobody", Code::Malformed, &|it| it.sealed_to_hospital = vec![1; 400].into())?;
    let honest = stage.request(&mal, "P-1", |_| {})?;
    let vouched = stage.vouched(&honest);
    let mut broken = vouched.clone();
    *broken.last_mut().context("an envelope")? ^= 1;
    stage.is_refused("altered", &broken, Code::BadSignature)?;
    stage.is_refused("vouched for by nobody", honest.envelope(), Code::Malformed)?;
    let by_index = stage.rogue.ask(&stage.rogue.index(), Verb::RemoteLink, vec![vouched.clone()]);
    ensure!(by_index == Err(Code::AccessDenied), "the index takes a request: {by_index:?}");
    for _ in 0..2 {
        ensure!(stage.bring(vouched.clone()) == Ok(Vec::new()), "an honest request is not taken");
    }
    let again = stage.request(&mal, "P-2", |it| it.id = honest.id)?;
    stage.is_refused("another request under the same identifier", &stage.vouched(&again), Code::Conflict)
}

/// Codes: guessed, somebody else's, by another hospital's way.
fn links(stage: &Stage<'_>, victim: &str) -> Result<()> {
    let world = stage.world;
    let (mal, eve) = (Person::new(902, "mal-2"), Person::new(903, "eve-2"));
    let request = stage.request(&mal, victim, |_| {})?;
    let vouched = stage.vouched(&request);
    ensure!(stage.bring(vouched.clone()) == Ok(Vec::new()), "an honest request is not taken");
    let early = mal.linking(&stage.old, "AAAA-AAAA");
    stage.is_refused("a code before a clerk confirmed", early.envelope(), Code::LinkCodeWrong)?;
    let id = request.id.to_string();
    let shown = world.node(OLD, &["link-remote", "confirm", &id, "--patient", victim])?.json()?;
    let code = json::text(&shown, "link_code").to_owned();
    let stolen = eve.linking(&stage.old, &code);
    stage.is_refused("the code, by another reference", stolen.envelope(), Code::LinkCodeWrong)?;
    let over = endpoint(world, OLD)?.link(mal.linking(&stage.old, &code).envelope());
    let over = over.map_err(|fault| fault.code());
    ensure!(over == Err(Code::LinkCodeWrong), "the code at the old hospital's own door: {over:?}");
    // An honest patient, vouched for by an honest hospital: the rogue brings their link, and spends none of their tries.
    world.new_wallet("fay")?;
    link(world, "fay", NEW, "R-6")?;
    let (other, _) = records(world, OLD, 32)?;
    let (_, honest_code) = confirmed(world, "fay", &other)?;
    for _ in 0..TRIES {
        let wrong = eve.linking(&stage.old, "AAAA-AAAA");
        let came = stage.bring(wrong.envelope().to_vec());
        ensure!(came == Err(Code::LinkCodeWrong), "{came:?}");
    }
    for guess in 0..TRIES {
        let wrong = mal.linking(&stage.old, &format!("AAAA-{guess:04}"));
        let came = stage.bring(wrong.envelope().to_vec());
        ensure!(came == Err(Code::LinkCodeWrong), "a guess: {came:?}");
    }
    let late = mal.linking(&stage.old, &code);
    stage.is_refused("the right code after five wrong ones", late.envelope(), Code::LinkCodeWrong)?;
    let said = stage.bring(vouched).map_err(|code| anyhow::anyhow!("{code}"))?;
    let said = Signed::<RemoteLinkAnswer>::read(said.first().context("no answer")?)?;
    let said = (said.claim().state, said.claim().reason);
    ensure!(said == (RemoteLinkState::Refused, Some(Code::LinkCodeWrong)), "{said:?}");
    refused(&world.node(OLD, &["link-remote", "confirm", &id, "--patient", victim])?, "out-of-order")?;
    let wallets = world.node(OLD, &["patient", "wallets", victim])?.json()?;
    ensure!(json::list(&wallets, "wallets").count() == 0, "somebody is linked: {wallets}");
    link_by_letter(world, "fay", &honest_code)?.done()
}

/// Patients over HTTPS at the hospital that is to vouch.
fn answers(stage: &Stage<'_>) -> Result<()> {
    let node = endpoint(stage.world, NEW)?;
    let new: HospitalId = NEW.parse()?;
    let take = |envelope: &[u8]| node.remote_link(envelope).map(drop).map_err(|fault| fault.code());
    let (pat, stranger) = (Person::new(904, "pat-4"), Person::new(905, "stranger"));
    pat.link(stage.world, NEW)?;
    let request = |by: &Person| stage.request(by, "P-1", |it| it.vouching = new.clone());
    ensure!(take(request(&stranger)?.envelope()) == Err(Code::NotLinked), "a stranger is taken");
    ensure!(
        take(stage.request(&pat, "P-1", |_| {})?.envelope()) == Err(Code::AskMismatch),
        "for the rogue to vouch"
    );
    // Sealed to the rogue, not to the hospital that is to vouch: no desk here can read it.
    ensure!(take(request(&pat)?.envelope()).is_err(), "what cannot be read is taken");
    Ok(())
}

/// One hospital fills its places; others are served.
fn flood(stage: &Stage<'_>, victim: &str) -> Result<()> {
    let mal = Person::new(906, "mal-6");
    let mut taken = 0_usize;
    let came = loop {
        let request = stage.request(&mal, victim, |_| {})?;
        match stage.bring(stage.vouched(&request)) {
            Ok(_) => taken += 1,
            Err(code) => break code,
        }
        ensure!(taken <= PER_HOSPITAL, "a hospital has more than {PER_HOSPITAL} requests waiting");
    };
    ensure!(came == Code::Busy, "{came}");
    stage.world.new_wallet("gil")?;
    link(stage.world, "gil", NEW, "R-7")?;
    let (number, _) = records(stage.world, OLD, 33)?;
    let (_, code) = confirmed(stage.world, "gil", &number)?;
    link_by_letter(stage.world, "gil", &code)?.done()
}

/// A suspended hospital vouches for nobody, and nobody is linked by one.
fn suspended(world: &mut World, rogue: &Rogue) -> Result<()> {
    world.order(rogue.id().as_str(), Order::Suspend)?;
    let route = rogue.route(&OLD.parse()?)?;
    until("the old hospital shuts the rogue out", || {
        let asked = rogue.ask(&route, Verb::RemoteLink, vec![b"anything".to_vec()]);
        matches!(asked, Err(Code::NotAdmitted | Code::HospitalSuspended))
    })?;
    world.new_wallet("hal")?;
    link(world, "hal", NEW, "R-8")?;
    let asked = ask_link(world, "hal", "P-1")?;
    let id = json::text(&asked, "remote_link").to_owned();
    world.order(OLD, Order::Suspend)?;
    within("the new hospital hears that the old one is suspended", || {
        let other = world.wallet_at("hal", NEW, &super::asking("P-2"))?;
        Ok(other.problem().as_deref() == Some("hospital-suspended"))
    })?;
    refused(&world.node(NEW, &["link-remote", "vouch", &id])?, "hospital-suspended")
}
