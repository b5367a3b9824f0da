//! An emergency: clinicians of a hospital read a patient's records at another one without the patient, an officer
//! reviews that, and everybody is told of it.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use handover_core::artefact::break_glass::{
    BreakGlass, BreakGlassDetails, BreakGlassMore, BreakGlassReading, EmergencyPurpose, EmergencyScope,
    ReviewVerdict,
};
use handover_core::artefact::{Payload, Verified};
use handover_core::codec::{self, Extensions};
use handover_core::message::break_glass_binding;
use handover_core::time::DAY_MS;
use handover_core::{BreakGlassId, Code, Digest, Random as _, Timestamp};
use handover_exchange::{ExchangeError, GlassView, Opened};
use handover_patient::{Wallet, notices};
use handover_records::{Action, AuditEntry};
use handover_seal::part::seal_part;
use handover_seal::{RsaPublicKey, Secret32, SigningKey};
use handover_tests::fixture::Seeded;
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::ground::{Held, Person, home, name};
use crate::places::{IndexSeat, Node};
use crate::plot::INDEX;
use crate::trying::Trying;

/// How long what came may be read.
const WINDOW: Duration = Duration::from_secs(600);
const OFFICER: &str = "officer";
const FIRST: &str = "Dr. Mira Vale";
const SECOND: &str = "Dr. Noor Hale";

/// An emergency as it is planned.
#[derive(Clone, Debug)]
pub(crate) struct Emergency {
    /// Whose: they are at home at the hospital that is asked.
    pub(crate) person: usize,
    /// The hospital where they are now.
    pub(crate) at: usize,
    pub(crate) begins_after: Duration,
    /// Whether a second clinician signs for everything.
    pub(crate) is_everything: bool,
}

/// What was acknowledged of it.
#[derive(Debug, Default)]
pub(crate) struct Told {
    pub(crate) id: Option<BreakGlassId>,
    /// Until when it may be read.
    until: Option<Timestamp>,
    /// How often it was read.
    reads: u32,
}

/// Who plays an emergency, and looks at the end what became of it.
pub(crate) struct Responder<'a> {
    pub(crate) plan: &'a Emergency,
    pub(crate) trying: Trying<'a>,
    pub(crate) person: &'a Person,
    /// What a clerk says is another patient's.
    pub(crate) misfiled: Option<String>,
    pub(crate) wallet: RefCell<Wallet>,
    pub(crate) told: RefCell<Told>,
}

/// A clinician, with a certificate of their hospital.
struct Clinician {
    key: SigningKey,
    certificate: Vec<u8>,
}

impl Clinician {
    fn sign<T: Payload>(&self, claim: T) -> Verified<T> {
        Verified::sign(claim, &self.key)
    }
}

/// Whether a hospital's own desk may refuse it so, and it is begun anew.
fn begins_anew(code: Code) -> bool {
    matches!(
        code,
        // The certificate of a moment ago does not count any more: the keys were replaced.
        Code::ClinicianUnknown | Code::WrongSigner
            // It took too long.
            | Code::BreakGlassOver
            // The hospital has lost it.
            | Code::UnknownBreakGlass | Code::OutOfOrder
    )
}

impl Responder<'_> {
    fn source(&self) -> usize {
        home(self.plan.person)
    }

    /// From the clinicians' certificates to the review.
    pub(crate) async fn play(&self) -> Result<()> {
        sleep(self.plan.begins_after).await;
        let mut attempt = 0;
        while let Err(code) = self.attempt(attempt).await? {
            ensure!(begins_anew(code), "{:?} was refused: {code}", self.plan);
            attempt += 1;
            self.trying.pause(8_000).await;
        }
        Ok(())
    }

    async fn attempt(&self, number: u32) -> Result<Result<(), Code>> {
        let request = match self.certified(FIRST).await? {
            Ok(first) => self.signed(&first, number).await?,
            Err(code) => return Ok(Err(code)),
        };
        let request = match request {
            Ok(request) => request,
            Err(code) => return Ok(Err(code)),
        };
        *self.told.borrow_mut() =
            Told { id: Some(request.id), until: Some(request.until), ..Told::default() };
        let asked = request.envelope().to_vec();
        let ask = async |node: Rc<Node>| node.exchange.break_glass(asked.clone()).await;
        if let Err(code) = self.given("break the glass", EmergencyScope::Subset, ask).await? {
            return Ok(Err(code));
        }
        if self.plan.is_everything
            && let Err(code) = self.more(&request).await?
        {
            return Ok(Err(code));
        }
        if let Err(code) = self.read(request.id).await? {
            return Ok(Err(code));
        }
        self.review(request.id).await
    }

    /// A second clinician signs for everything.
    async fn more(&self, request: &Verified<BreakGlass>) -> Result<Result<(), Code>> {
        let second = match self.certified(SECOND).await? {
            Ok(second) => second,
            Err(code) => return Ok(Err(code)),
        };
        let more = BreakGlassMore {
            id: request.id,
            break_glass: request.hash(),
            certificate: second.certificate.clone().into(),
            issued: self.trying.hospital(self.plan.at)?.now(),
            extensions: Extensions::default(),
        };
        let more = second.sign(more).envelope().to_vec();
        let ask = async |node: Rc<Node>| node.exchange.break_glass_more(more.clone()).await;
        self.given("ask for more", EmergencyScope::Everything, ask).await
    }

    async fn certified(&self, name: &str) -> Result<Result<Clinician, Code>> {
        let key = || SigningKey::from_seed(&Secret32::generate(&mut Seeded::new(name)));
        let public = key().public();
        let certify = async |node: Rc<Node>| {
            let who = (name, "emergency physician");
            node.exchange.certify_clinician(OFFICER, public, who, DAY_MS).await
        };
        let certified = self.trying.at(self.plan.at, "a clinician's certificate", certify).await?;
        Ok(certified.map(|it| Clinician { key: key(), certificate: it.envelope }))
    }

    async fn signed(&self, by: &Clinician, attempt: u32) -> Result<Result<Verified<BreakGlass>, Code>> {
        let (here, there) =
            (self.trying.hospital(self.plan.at)?, self.trying.hospital(self.source())?.id.clone());
        let recipient = async |node: Rc<Node>| node.exchange.emergency_recipient(&there);
        let recipient = match self.trying.at(self.plan.at, "whom to ask", recipient).await? {
            Ok(recipient) => recipient,
            Err(code) => return Ok(Err(code)),
        };
        let mut random = Seeded::new(&format!("{} {attempt}", here.now()));
        let issued = here.now();
        let id = BreakGlassId::new(issued, random.array());
        let details = BreakGlassDetails {
            purpose: EmergencyPurpose::EmergencyTreatment,
            reason: "unconscious after a fall".to_owned(),
            demographics: None,
            salt: random.array(),
            extensions: Extensions::default(),
        };
        let plain = codec::encode(&details);
        let mut seal = |to: &RsaPublicKey| seal_part(to, &break_glass_binding(&id), &plain, &mut random);
        let request = BreakGlass {
            id,
            requesting: here.id.clone(),
            source: Some(there),
            patient: Some(self.person.patient()?),
            certificate: by.certificate.clone().into(),
            issued,
            until: issued.plus_ms(i64::try_from(WINDOW.as_millis())?),
            details: Digest::sha256(&[&plain]),
            sealed_to_source: Some(seal(&RsaPublicKey::from_spki_der(&recipient.rsa_key)?)?.into()),
            sealed_to_requesting: seal(here.keys().ring.current().public())?.into(),
            extensions: Extensions::default(),
        };
        Ok(Ok(by.sign(request)))
    }

    /// Asks until so much is given; the same again tells how it stands.
    async fn given(
        &self,
        what: &'static str,
        scope: EmergencyScope,
        ask: impl AsyncFn(Rc<Node>) -> Result<GlassView, ExchangeError>,
    ) -> Result<Result<(), Code>> {
        loop {
            match self.trying.at(self.plan.at, what, &ask).await? {
                Err(code) => return Ok(Err(code)),
                Ok(view) if view.refused.is_some() => bail!("it is refused there: {view:?}"),
                Ok(view) if view.given == Some(scope) => return Ok(Ok(())),
                Ok(_) => self.trying.pause(8_000).await,
            }
        }
    }

    /// Reads what came: all of it, and nothing else.
    async fn read(&self, id: BreakGlassId) -> Result<Result<(), Code>> {
        let opened = loop {
            let by = match self.certified(FIRST).await? {
                Ok(by) => by,
                Err(code) => return Ok(Err(code)),
            };
            match self.opened(&by, id).await? {
                // It took too long to get there.
                Err(Code::ClockOff) => {}
                Err(code) => return Ok(Err(code)),
                Ok(opened) => break opened,
            }
        };
        self.told.borrow_mut().reads += 1;
        let bundle: Value = serde_json::from_slice(&opened.bundle)?;
        let entries = bundle["entry"].as_array().context("entries")?;
        let read: BTreeSet<&str> =
            entries.iter().filter_map(|entry| entry["resource"]["id"].as_str()).collect();
        let is_subset = |it: &&Held| self.plan.is_everything || it.is_for_emergencies();
        let wanted: BTreeSet<&str> =
            self.person.records.iter().filter(is_subset).map(|it| it.id.as_str()).collect();
        // A test may have been done meanwhile.
        let later = format!("{}-later", name(self.plan.person));
        let others = read.difference(&wanted).copied().filter(|it| !self.plan.is_everything || *it != later);
        let is_left_out = |it: &&str| self.misfiled.as_deref() == Some(*it);
        let is_whole = wanted.difference(&read).all(is_left_out);
        ensure!(is_whole && others.count() == 0, "read {read:?}, there are {wanted:?}");
        Ok(Ok(()))
    }

    async fn opened(&self, by: &Clinician, id: BreakGlassId) -> Result<Result<Opened, Code>> {
        let reading = BreakGlassReading {
            id,
            certificate: by.certificate.clone().into(),
            issued: self.trying.hospital(self.plan.at)?.now(),
            extensions: Extensions::default(),
        };
        let reading = by.sign(reading).envelope().to_vec();
        let read = async |node: Rc<Node>| node.exchange.read_emergency(&reading).await;
        Ok(self.trying.at(self.plan.at, "read", read).await?.map(|(_, opened)| opened))
    }

    async fn review(&self, id: BreakGlassId) -> Result<Result<(), Code>> {
        let review = async |node: Rc<Node>| {
            let (verdict, note) = (ReviewVerdict::Justified, Some("a fall"));
            node.exchange.review_break_glass(OFFICER, id, verdict, note).await
        };
        let reviewed = self.trying.at(self.plan.at, "a review", review).await?;
        Ok(reviewed.map(drop))
    }

    /// Whether everybody knows of it who has to: both hospitals, each with its audit lines, the index and the patient. Of
    /// what somebody lost with a store nothing can be said.
    pub(crate) async fn is_known(&self, restored: &BTreeSet<usize>, index: &IndexSeat) -> Result<bool> {
        let Some(id) = self.told.borrow().id else { return Ok(false) };
        let knows = |place: &usize| !restored.contains(place);
        let hospitals = [self.plan.at, self.source()].into_iter().filter(knows);
        let is_reviewed = hospitals.clone().count() == 2;
        for at in hospitals.clone() {
            let (view, lines) = self.kept(at, id).await?;
            let count = |wanted| lines.iter().filter(|line| line.action == wanted).count();
            if at == self.plan.at {
                let reads = self.told.borrow().reads;
                ensure!(view.reads >= reads, "a read that was answered is not counted: {view:?}");
                ensure!(count(Action::BreakGlass) > 0, "no audit line of the break-glass");
                ensure!(
                    count(Action::ReadEmergency) >= usize::try_from(reads)?,
                    "a read without its audit line"
                );
            } else {
                let gifts = 1 + usize::from(self.plan.is_everything);
                ensure!(count(Action::Export) >= gifts, "given out without an audit line");
                let is_theirs = view.local.as_ref().is_some_and(|it| it.as_str() == self.person.name);
                ensure!(is_theirs, "another's: {view:?}");
            }
            ensure!(view.given == Some(self.scope()), "{view:?}");
            let is_told = self.is_told(at, id, is_reviewed).await?;
            if !is_told || (is_reviewed && view.review.is_none()) {
                return Ok(false);
            }
        }
        let notes = index.op(json!({"op": "break-glass-list"})).await?;
        let notes = notes["notes"].as_array().context("notes")?;
        let noted = notes.iter().filter(|it| it["break_glass"] == id.to_string()).count();
        Ok(!knows(&INDEX) || noted >= hospitals.count())
    }

    fn scope(&self) -> EmergencyScope {
        if self.plan.is_everything { EmergencyScope::Everything } else { EmergencyScope::Subset }
    }

    async fn kept(&self, at: usize, id: BreakGlassId) -> Result<(GlassView, Vec<AuditEntry>)> {
        let node = self.trying.hospital(at)?.node().context("it runs")?;
        Ok(node.exchange.break_glass_details(OFFICER, id).await?)
    }

    /// Whether the patient reads of it in their inbox at a hospital, and of its review.
    async fn is_told(&self, at: usize, id: BreakGlassId, is_reviewed: bool) -> Result<bool> {
        let federation = self.trying.meet(&self.wallet, at).await?;
        let Some(inbox) = self.trying.inbox(&self.wallet, at).await? else { return Ok(false) };
        let told: Vec<_> = notices(&inbox, &federation).into_iter().collect::<Result<_, _>>()?;
        let of = told.iter().find(|it| it.id == id);
        Ok(of.is_some_and(|it| it.review.is_some() || !is_reviewed))
    }

    pub(crate) fn is_open(&self) -> Result<bool> {
        let now = self.trying.hospital(self.plan.at)?.now();
        Ok(self.told.borrow().until.is_some_and(|until| now < until))
    }

    /// When the window is over, nobody reads it any more.
    pub(crate) async fn is_closed(&self) -> Result<()> {
        let Some(id) = self.told.borrow().id else { return Ok(()) };
        let Ok(clinician) = self.certified(FIRST).await? else { return Ok(()) };
        match self.opened(&clinician, id).await? {
            Err(Code::BreakGlassOver | Code::UnknownBreakGlass) => Ok(()),
            Err(code) => bail!("it is refused for another reason than its end: {code}"),
            Ok(_) => bail!("it is read after its end"),
        }
    }
}
