//! A patient who moves, and the clerk at the new hospital.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, ensure};
use handover_core::artefact::patient::Scope;
use handover_core::codec::{self, Extensions, MAX_MESSAGE_BYTES};
use handover_core::message::{HospitalInfo, PiecesAnswer, PiecesQuestion};
use handover_core::time::DAY_MS;
use handover_core::{Amount, Code, Department, Timestamp, TransferId};
use handover_exchange::{Exchange, ExchangeError};
use handover_patient::{Wallet, WalletError, Wish, make_refusal};
use handover_records::{Action, GrantRequest, LocalPatient, Purpose, Subject};
use handover_tests::fixture::Seeded;
use tokio::time::{Instant, sleep};

use crate::corrections::Correction;
use crate::ground::{DEPARTMENTS, Held, chart, name, new_record};
use crate::places::{Node, TESTS};
use crate::trying::Trying;

/// What a patient does about a quote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Decision {
    /// Consents and releases, to everything or to one department.
    Yes,
    /// The same, and takes it back at some time.
    TakenBack,
    /// Says no.
    No,
    /// Says yes to one of the hospitals, and so long after that begins no to the other.
    YesAndNo(Duration),
    /// Says nothing.
    Nothing,
}

impl Decision {
    /// Whether it is a yes, whatever comes after it.
    pub(crate) const fn begins_with_yes(self) -> bool {
        matches!(self, Self::Yes | Self::TakenBack)
    }
}

/// A move as it is planned.
#[derive(Clone, Debug)]
pub(crate) struct Move {
    /// Which of the patients.
    pub(crate) person: usize,
    pub(crate) source: usize,
    pub(crate) destination: usize,
    pub(crate) decision: Decision,
    /// What the consent is to; none: everything.
    pub(crate) departments: Option<Vec<&'static str>>,
    pub(crate) begins_after: Duration,
    /// Between the steps, and before a consent is taken back.
    pub(crate) pause: Duration,
    /// Whether the wallet speaks with the source from the quote on, and not with the destination.
    pub(crate) speaks_to_source: bool,
    /// Whether a doctor of the source sends the patient, so that the destination pays.
    pub(crate) is_referred: bool,
    /// Whether the consent is continuous. Then something new comes at the source after it was given.
    pub(crate) is_continuous: bool,
    /// What turns out after the consent was given.
    pub(crate) correction: Option<Correction>,
    /// The hospital that forgets the patient in the end.
    pub(crate) forgets: Option<usize>,
}

impl Move {
    /// The hospital that the wallet speaks with once there is a quote.
    fn speaks_to(&self) -> usize {
        if self.speaks_to_source { self.source } else { self.destination }
    }

    /// The test that is done after the consent, if nothing is corrected, and its content.
    pub(crate) fn later_test(&self) -> (Held, Vec<u8>) {
        let department = self.departments.as_ref().and_then(|few| few.first()).copied();
        let id = format!("{}-later", name(self.person));
        chart(id, department.unwrap_or(DEPARTMENTS[0]), TESTS[0], 0)
    }
}

/// How a move goes as patient and clerk see it.
#[derive(Debug, Default)]
pub(crate) struct Told {
    pub(crate) transfer: Option<TransferId>,
    /// What was acknowledged to them, in order.
    pub(crate) acknowledged: Vec<&'static str>,
    /// What was refused to them for good.
    pub(crate) refused: Option<(&'static str, Code)>,
}

/// Who plays a move.
pub(crate) struct Mover<'a> {
    pub(crate) plan: &'a Move,
    pub(crate) trying: Trying<'a>,
    pub(crate) wallet: RefCell<Wallet>,
    pub(crate) told: RefCell<Told>,
}

/// What a hospital says of itself, with its directory whole, as a wallet asks for it.
pub(crate) fn informed(wallet: &Wallet, exchange: &Exchange, now: Timestamp) -> Result<HospitalInfo, Code> {
    let info = exchange.hospital_info().map_err(|fault| fault.code())?;
    let info: HospitalInfo = codec::decode(&info, MAX_MESSAGE_BYTES).map_err(|_| Code::Malformed)?;
    let pieces = |digests| {
        let question = PiecesQuestion { digests, extensions: Extensions::default() };
        let answer = exchange.directory_pieces(&codec::encode(&question));
        let refused = |code| WalletError::Rule { what: "the pieces", code };
        let answer = answer.map_err(|fault| refused(fault.code()))?;
        let answer: PiecesAnswer = codec::decode(&answer, MAX_MESSAGE_BYTES)?;
        Ok(answer.pieces.into_iter().map(|piece| piece.0).collect())
    };
    wallet.completed(info, now, pieces).map_err(|fault| fault.code())
}

impl Mover<'_> {
    /// Has a planned step done: what was acknowledged, and what was refused, is told. Whether it was done.
    async fn step(
        &self,
        number: usize,
        what: &'static str,
        ask: impl AsyncFn(Rc<Node>) -> Result<(), ExchangeError>,
    ) -> Result<bool> {
        match self.trying.at(number, what, ask).await? {
            Ok(()) => self.told.borrow_mut().acknowledged.push(what),
            Err(code) => {
                self.told.borrow_mut().refused = Some((what, code));
                return Ok(false);
            }
        }
        Ok(true)
    }

    async fn send(&self, number: usize, what: &'static str, content: Vec<u8>) -> Result<bool> {
        let ask = async |node: Rc<Node>| node.exchange.patient_artefact(content.clone()).await;
        self.step(number, what, ask).await
    }

    /// Plays the whole move.
    pub(crate) async fn play(&self) -> Result<()> {
        let plan = self.plan;
        sleep(plan.begins_after).await;
        if plan.is_referred {
            self.refer().await?;
        }
        let mut is_asked_once = true;
        while !self.moves().await? {
            *self.told.borrow_mut() = Told::default();
            is_asked_once = false;
        }
        // What was asked for before, and given up, is over when its quote is: until then nobody is forgotten.
        match plan.forgets.filter(|_| is_asked_once) {
            Some(at) => self.forget(at).await,
            None => Ok(()),
        }
    }

    /// From the question on; false if one of the hospitals has replaced its keys since that, so that it is asked again.
    async fn moves(&self) -> Result<bool> {
        let plan = self.plan;
        let transfer = self.ask().await?;
        self.told.borrow_mut().transfer = Some(transfer);
        let request =
            async |node: Rc<Node>| node.exchange.request(transfer, Scope::everything()).await.map(drop);
        if !self.step(plan.destination, "requested", request).await? {
            return Ok(true);
        }
        let speaks_to = plan.speaks_to();
        if plan.decision == Decision::Nothing {
            return Ok(true);
        }
        self.quoted(speaks_to, transfer).await?;
        sleep(plan.pause).await;
        let now = self.trying.hospital(speaks_to)?.now();
        if plan.decision == Decision::No {
            let refusal = self.wallet.borrow_mut().refuse(&transfer, now)?;
            return self.send(speaks_to, "refused", refusal).await.map(|_| true);
        }
        let Some((consent, release)) = self.consent(transfer).await? else { return Ok(false) };
        let (yes, no) = tokio::join!(self.say_yes(consent, release), self.say_no_too(transfer));
        no?;
        if !yes? {
            return Ok(true);
        }
        if plan.is_continuous && plan.correction.is_none() {
            sleep(plan.pause).await;
            let (held, content) = plan.later_test();
            self.import("another test", &held, content).await?;
        }
        if plan.correction.is_some() {
            sleep(plan.pause).await;
            self.correct().await?;
        }
        if plan.decision == Decision::TakenBack {
            sleep(plan.pause).await;
            let revocation = self.wallet.borrow_mut().revoke(&transfer, now)?;
            self.send(speaks_to, "taken back", revocation).await?;
        }
        Ok(true)
    }

    /// Consents, and releases.
    async fn say_yes(&self, consent: Vec<u8>, release: Vec<u8>) -> Result<bool> {
        let speaks_to = self.plan.speaks_to();
        Ok(self.send(speaks_to, "consented", consent).await?
            && self.send(speaks_to, "released", release).await?)
    }

    /// What the wallet here would not sign beside a consent.
    async fn say_no_too(&self, transfer: TransferId) -> Result<()> {
        let Decision::YesAndNo(after) = self.plan.decision else { return Ok(()) };
        sleep(after).await;
        let other = self.plan.source + self.plan.destination - self.plan.speaks_to();
        let now = self.trying.hospital(other)?.now();
        let no = make_refusal(&self.wallet.borrow().keys, transfer, now).envelope().to_vec();
        self.send(other, "said no, too", no).await.map(drop)
    }

    /// Something new comes at the source, and is imported there.
    pub(crate) async fn import(&self, what: &'static str, held: &Held, content: Vec<u8>) -> Result<()> {
        let new = new_record(&name(self.plan.person), held, content)?;
        let patient: LocalPatient = name(self.plan.person).parse()?;
        let hospital = self.trying.hospital(self.plan.source)?;
        let import = async |node: Rc<Node>| {
            let subject = Subject::System("import".into());
            let request = GrantRequest::new(subject, Action::Import, Purpose::Import, None);
            let permit = node.records.audit().permit(request, hospital.now()).await?;
            node.records.import(&permit, hospital.now(), vec![new.clone()]).await?;
            node.exchange.records_changed([patient.clone()]);
            node.exchange.import_ended();
            Ok(())
        };
        let imported = self.step(self.plan.source, what, import).await?;
        ensure!(imported, "the import was refused: {:?}", self.told.borrow());
        Ok(())
    }

    /// The source's desk refers the patient to the destination.
    async fn refer(&self) -> Result<()> {
        let patient: LocalPatient = name(self.plan.person).parse()?;
        let to = &self.trying.hospital(self.plan.destination)?.id;
        let refer = async |node: Rc<Node>| {
            let doctor = ("Dr. Amara Osei", None);
            node.exchange.refer("desk", &patient, to, doctor, DAY_MS).await.map(drop)
        };
        let referred = self.step(self.plan.source, "referred", refer).await?;
        ensure!(referred, "the referral was refused: {:?}", self.told.borrow());
        Ok(())
    }

    async fn ask(&self) -> Result<TransferId> {
        let plan = self.plan;
        let federation = self.trying.meet(&self.wallet, plan.destination).await?;
        let now = self.trying.hospital(plan.destination)?.now();
        let (transfer, ask) = {
            let mut wallet = self.wallet.borrow_mut();
            let between =
                (&self.trying.hospital(plan.source)?.id, &self.trying.hospital(plan.destination)?.id);
            let mut random = Seeded::new(&format!("ask of {} to {}", plan.person, plan.destination));
            wallet.ask(None, between, &federation, now, &mut random)?
        };
        ensure!(
            self.send(plan.destination, "asked", ask).await?,
            "the ask was refused: {:?}",
            self.told.borrow()
        );
        Ok(transfer)
    }

    /// Waits for the quote to lie in the inbox.
    async fn quoted(&self, at: usize, transfer: TransferId) -> Result<()> {
        loop {
            ensure!(Instant::now() < self.trying.until, "no quote came");
            self.trying.pause(6_000).await;
            let now = self.trying.hospital(at)?.now();
            let Some(inbox) = self.trying.inbox(&self.wallet, at).await? else { continue };
            // Keys may have been replaced since the one before.
            let federation = self.trying.meet(&self.wallet, at).await?;
            let mut wallet = self.wallet.borrow_mut();
            for entry in wallet.take_inbox(&inbox, &federation, now) {
                entry.outcome.with_context(|| format!("the wallet does not believe {}", entry.transfer))?;
            }
            if wallet.quote(&transfer, &federation).is_ok() {
                return Ok(());
            }
        }
    }

    /// The consent, and the share's release; none where a hospital's key is another one than was asked under.
    async fn consent(&self, transfer: TransferId) -> Result<Option<(Vec<u8>, Vec<u8>)>> {
        let federation = self.trying.meet(&self.wallet, self.plan.speaks_to()).await?;
        let now = self.trying.hospital(self.plan.destination)?.now();
        let mut wallet = self.wallet.borrow_mut();
        let departments: Option<Result<Vec<Department>, _>> =
            self.plan.departments.as_ref().map(|several| several.iter().map(|it| it.parse()).collect());
        // More than everything costs.
        let currency = "USD".parse().map_err(|_| anyhow!("USD is a currency"))?;
        let fee_cap = self.plan.is_continuous.then(|| Amount::from_minor(1_000_000, currency));
        let continuous = self.plan.is_continuous;
        let wish = Wish { departments: departments.transpose()?, continuous, fee_cap, ..Wish::default() };
        let mut random = Seeded::new(&format!("consent to {transfer}"));
        let given = match wallet.consent(&transfer, &wish, true, &federation, now, &mut random) {
            Err(WalletError::KeyChanged(_)) => return Ok(None),
            given => given?,
        };
        Ok(Some((given.consent.envelope().to_vec(), given.release.context("a release")?)))
    }
}
