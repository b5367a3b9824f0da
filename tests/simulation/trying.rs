//! Who has something done at a hospital: they try until it is done, and again if no answer came.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use handover_core::Code;
use handover_core::message::Inbox;
use handover_core::trust::Federation;
use handover_exchange::ExchangeError;
use handover_patient::{Question, Wallet, make_ask, open_inbox, own_ask};
use handover_tests::dice::Dice;
use handover_tests::fixture::Seeded;
use tokio::time::{Instant, sleep};

use crate::people::informed;
use crate::places::{Hospital, Node};

/// Somebody with business at hospitals.
pub(crate) struct Trying<'a> {
    pub(crate) hospitals: &'a [Hospital],
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
            // Its process ends, and is started with the next keys.
            | Code::KeysOutdated
    )
}

impl<'a> Trying<'a> {
    pub(crate) fn new(hospitals: &'a [Hospital], seed: u64, until: Instant) -> Self {
        Self { hospitals, dice: RefCell::new(Dice::new(seed)), until }
    }

    pub(crate) fn hospital(&self, number: usize) -> Result<&'a Hospital> {
        self.hospitals.get(number).context("one of the hospitals")
    }

    pub(crate) async fn pause(&self, longest_ms: u64) {
        let millis = self.dice.borrow_mut().below(longest_ms);
        sleep(Duration::from_millis(millis)).await;
    }

    /// Has something done at a hospital, until it is, or is refused for good. Some answers get lost: then it is asked
    /// for a second time.
    pub(crate) async fn at<T>(
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

    /// The wallet hears what a hospital says of itself, as it does before each command.
    pub(crate) async fn meet(&self, wallet: &RefCell<Wallet>, number: usize) -> Result<Federation> {
        let now = self.hospital(number)?.now();
        let inform = async |node: Rc<Node>| {
            informed(&wallet.borrow(), &node.exchange, now).map_err(ExchangeError::from)
        };
        let info = self.at(number, "information", inform).await?;
        let info = info.map_err(|code| anyhow!("no information: {code}"))?;
        Ok(wallet.borrow_mut().take_directory(&info, now)?.0)
    }

    /// What lies in the wallet's inbox; nothing, if it took too long to ask.
    pub(crate) async fn inbox(&self, wallet: &RefCell<Wallet>, number: usize) -> Result<Option<Inbox>> {
        let hospital = self.hospital(number)?;
        let now = hospital.now();
        let question = Question::Inbox(hospital.id.clone());
        let mut random = Seeded::new(&format!("{now} {}", hospital.id));
        let envelope = make_ask(&wallet.borrow().keys, question, now, &mut random).envelope().to_vec();
        let ask = async |node: Rc<Node>| node.exchange.inbox(envelope.clone()).await;
        let sealed = match self.at(number, "the inbox", ask).await? {
            Ok(sealed) => sealed,
            Err(Code::AskExpired | Code::ClockOff) => return Ok(None),
            Err(code) => bail!("the inbox is refused: {code}"),
        };
        let wallet = wallet.borrow();
        Ok(Some(open_inbox(&wallet.keys, &own_ask(&wallet.keys, &envelope)?, &sealed)?))
    }
}
