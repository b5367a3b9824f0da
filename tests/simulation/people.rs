//! A patient who moves, and the clerk at the new hospital: they try until it is done, and again if no answer came.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use handover_core::artefact::patient::Scope;
use handover_core::codec::{self, Extensions, MAX_MESSAGE_BYTES};
use handover_core::message::{HospitalInfo, PiecesAnswer, PiecesQuestion};
use handover_core::time::DAY_MS;
use handover_core::{Amount, Code, Department, Timestamp, TransferId};
use handover_exchange::{Exchange, ExchangeError};
use handover_patient::{Question, Wallet, WalletError, Wish, make_ask, open_inbox, own_ask};
use handover_records::{Action, GrantRequest, LocalPatient, Purpose, Subject};
use handover_tests::dice::Dice;
use handover_tests::fixture::Seeded;
use tokio::time::{Instant, sleep};

use crate::ground::{DEPARTMENTS, Held, chart, name, new_record};
use crate::places::{Hospital, Node, TESTS};

/// What a patient does about a quote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Decision {
    /// Consents and releases, to everything or to one department.
    Yes,
    /// The same, and takes it back at some time.
    TakenBack,
    /// Says no.
    No,
    /// Says nothing.
    Nothing,
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
    /// Whether the consent is continuous. Then another test is done at the source after it was given.
    pub(crate) is_continuous: bool,
}

impl Move {
    /// The test that is done after the consent, and its content.
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
    pub(crate) hospitals: &'a [Hospital],
    pub(crate) wallet: RefCell<Wallet>,
    pub(crate) told: RefCell<Told>,
    pub(crate) dice: RefCell<Dice>,
    /// Nobody tries any longer than this.
    pub(crate) until: Instant,
}

/// What passes by itself.
fn passes(code: Code) -> bool {
    matches!(
        code,
        Code::StoreUnavailable
            | Code::AuditUnavailable
            | Code::Unreachable
            | Code::TimedOut
            | Code::Busy
            | Code::Internal
            | Code::CatchingUp
            | Code::DirectoryExpired
    )
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
    fn hospital(&self, number: usize) -> Result<&Hospital> {
        self.hospitals.get(number).context("one of the hospitals")
    }

    async fn pause(&self, longest_ms: u64) {
        let millis = self.dice.borrow_mut().below(longest_ms);
        sleep(Duration::from_millis(millis)).await;
    }

    /// Has something done at a hospital, until it is, or is refused for good. Some answers get lost: then it is asked
    /// for a second time.
    async fn at<T>(
        &self,
        number: usize,
        what: &'static str,
        ask: impl AsyncFn(Rc<Node>) -> Result<T, ExchangeError>,
    ) -> Result<Result<T, Code>> {
        let hospital = self.hospital(number)?;
        let mut last = None;
        loop {
            ensure!(Instant::now() < self.until, "{what} at {} is not done: {last:?}", hospital.id);
            if let Some(node) = hospital.node() {
                match ask(node).await.map_err(|fault| fault.code()) {
                    Ok(_) if self.dice.borrow_mut().happens(60) => {}
                    Ok(done) => return Ok(Ok(done)),
                    Err(code) if passes(code) => last = Some(code),
                    Err(code) => return Ok(Err(code)),
                }
            }
            self.pause(8_000).await;
        }
    }

    /// The same for a step that is planned: what was acknowledged, and what was refused, is told. Whether it was done.
    async fn step(
        &self,
        number: usize,
        what: &'static str,
        ask: impl AsyncFn(Rc<Node>) -> Result<(), ExchangeError>,
    ) -> Result<bool> {
        match self.at(number, what, ask).await? {
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
        let transfer = self.ask().await?;
        self.told.borrow_mut().transfer = Some(transfer);
        let request =
            async |node: Rc<Node>| node.exchange.request(transfer, Scope::everything()).await.map(drop);
        if !self.step(plan.destination, "requested", request).await? {
            return Ok(());
        }
        let speaks_to = if plan.speaks_to_source { plan.source } else { plan.destination };
        if plan.decision == Decision::Nothing {
            return Ok(());
        }
        self.quoted(speaks_to, transfer).await?;
        sleep(plan.pause).await;
        let now = self.hospital(speaks_to)?.now();
        if plan.decision == Decision::No {
            let refusal = self.wallet.borrow_mut().refuse(&transfer, now)?;
            return self.send(speaks_to, "refused", refusal).await.map(drop);
        }
        let (consent, release) = self.consent(transfer)?;
        if !self.send(speaks_to, "consented", consent).await?
            || !self.send(speaks_to, "released", release).await?
        {
            return Ok(());
        }
        if plan.is_continuous {
            sleep(plan.pause).await;
            self.another_test().await?;
        }
        if plan.decision == Decision::TakenBack {
            sleep(plan.pause).await;
            let revocation = self.wallet.borrow_mut().revoke(&transfer, now)?;
            self.send(speaks_to, "taken back", revocation).await?;
        }
        Ok(())
    }

    /// Something new is done at the source, and imported there.
    async fn another_test(&self) -> Result<()> {
        let (held, content) = self.plan.later_test();
        let new = new_record(&name(self.plan.person), &held, content)?;
        let patient: LocalPatient = name(self.plan.person).parse()?;
        let hospital = self.hospital(self.plan.source)?;
        let import = async |node: Rc<Node>| {
            let subject = Subject::System("import".into());
            let request = GrantRequest::new(subject, Action::Import, Purpose::Import, None);
            let permit = node.records.audit().permit(request, hospital.now()).await?;
            node.records.import(&permit, hospital.now(), vec![new.clone()]).await?;
            node.exchange.records_changed([patient.clone()]);
            Ok(())
        };
        let imported = self.step(self.plan.source, "another test", import).await?;
        ensure!(imported, "the import was refused: {:?}", self.told.borrow());
        Ok(())
    }

    /// The source's desk refers the patient to the destination.
    async fn refer(&self) -> Result<()> {
        let patient: LocalPatient = name(self.plan.person).parse()?;
        let to = &self.hospital(self.plan.destination)?.id;
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
        let now = self.hospital(plan.destination)?.now();
        let inform = async |node: Rc<Node>| {
            informed(&self.wallet.borrow(), &node.exchange, now).map_err(ExchangeError::from)
        };
        let info = self.at(plan.destination, "information", inform).await?;
        let info = info.map_err(|code| anyhow!("no information: {code}"))?;
        let (transfer, ask) = {
            let mut wallet = self.wallet.borrow_mut();
            let (federation, _) = wallet.take_directory(&info, now)?;
            let between = (&self.hospital(plan.source)?.id, &self.hospital(plan.destination)?.id);
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
            ensure!(Instant::now() < self.until, "no quote came");
            self.pause(6_000).await;
            let hospital = self.hospital(at)?;
            let now = hospital.now();
            let ask = make_ask(
                &self.wallet.borrow().keys,
                Question::Inbox(hospital.id.clone()),
                now,
                &mut Seeded::new(&format!("{now} {transfer}")),
            );
            let envelope = ask.envelope().to_vec();
            let inbox = async |node: Rc<Node>| node.exchange.inbox(envelope.clone()).await;
            let sealed = match self.at(at, "the inbox", inbox).await? {
                Ok(sealed) => sealed,
                // It took too long.
                Err(Code::AskExpired | Code::ClockOff) => continue,
                Err(code) => bail!("the inbox is refused: {code}"),
            };
            let mut wallet = self.wallet.borrow_mut();
            let ask = own_ask(&wallet.keys, &envelope)?;
            let inbox = open_inbox(&wallet.keys, &ask, &sealed)?;
            let federation = wallet.federation(now)?;
            for entry in wallet.take_inbox(&inbox, &federation, now) {
                entry.outcome.with_context(|| format!("the wallet does not believe {}", entry.transfer))?;
            }
            if wallet.quote(&transfer, &federation).is_ok() {
                return Ok(());
            }
        }
    }

    /// The consent, and the share's release.
    fn consent(&self, transfer: TransferId) -> Result<(Vec<u8>, Vec<u8>)> {
        let now = self.hospital(self.plan.destination)?.now();
        let mut wallet = self.wallet.borrow_mut();
        let federation = wallet.federation(now)?;
        let departments: Option<Result<Vec<Department>, _>> =
            self.plan.departments.as_ref().map(|several| several.iter().map(|it| it.parse()).collect());
        // More than everything costs.
        let currency = "USD".parse().map_err(|_| anyhow!("USD is a currency"))?;
        let fee_cap = self.plan.is_continuous.then(|| Amount::from_minor(1_000_000, currency));
        let continuous = self.plan.is_continuous;
        let wish = Wish { departments: departments.transpose()?, continuous, fee_cap, ..Wish::default() };
        let mut random = Seeded::new(&format!("consent to {transfer}"));
        let given = wallet.consent(&transfer, &wish, true, &federation, now, &mut random)?;
        Ok((given.consent.envelope().to_vec(), given.release.context("a release")?))
    }
}
