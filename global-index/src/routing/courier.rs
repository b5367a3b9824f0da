//! Carries letters to their hospitals: one worker for each, in order, over a live connection or one it dials. Patients'
//! newer keys go before the letters, which may be signed under them.
//!
//! A hospital that cannot be reached is tried again with doubling waits, at once when it connects. A letter that is
//! put off holds back only later letters of the same transfer. A letter that is refused for good is buried.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use handover_core::codec::{self, Bytes, Extensions};
use handover_core::message::{Answer, Parcel, Request, Tally, Verb};
use handover_core::{Code, HospitalId, Party, TransferId};
use handover_dossier::tally;
use handover_net::{Net, NetError, Route};
use handover_store::StoreError;
use handover_web::CancellationToken;
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use super::mailbox;
use super::rows::Letter;
use crate::desk::Desk;
use crate::locator;

/// The first wait after a failure, in milliseconds.
const FIRST_WAIT_MS: u64 = 500;
/// The longest wait, in milliseconds.
const LONGEST_WAIT_MS: u64 = 60_000;
/// A letter that was put off this often is buried: some three hours.
const MAX_TRIES: u32 = 200;
/// At which try the wait is the longest.
const LONGEST_WAIT_AT: u32 = 17;
/// When keys that a hospital cannot take now are tried again, in milliseconds.
const KEYS_WAIT_MS: u64 = 5_000;
/// Letters that are looked at together. What is put off lies at the front, so every page is looked at.
const LETTERS_PER_PAGE: usize = 100;
/// Calls that may wait for the courier.
const CALLS: usize = 1_024;

/// Why the courier is called.
#[derive(Debug)]
enum Call {
    /// There is a new letter.
    Mail(HospitalId),
    /// The hospital is connected.
    Connected(HospitalId),
}

/// Tells the courier what happened. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Courier {
    calls: mpsc::Sender<Call>,
}

/// What wakes a worker.
#[derive(Default)]
struct Bell {
    mail: Notify,
    connected: Notify,
}

impl Courier {
    /// Starts the courier with a worker for each hospital in the directory; it ends with `stop`.
    pub(crate) fn start(
        desk: Desk,
        net: Net,
        stop: CancellationToken,
    ) -> (Self, tokio::task::JoinHandle<()>) {
        let (calls, queue) = mpsc::channel(CALLS);
        let courier = tokio::spawn(run(desk, net, queue, stop));
        (Self { calls }, courier)
    }

    /// There is a new letter for this hospital.
    pub(crate) async fn mail(&self, hospital: HospitalId) {
        // Fails only when the courier has ended; the letter waits for the next start.
        let _ = self.calls.send(Call::Mail(hospital)).await;
    }

    /// This hospital is connected.
    pub(crate) async fn connected(&self, hospital: HospitalId) {
        let _ = self.calls.send(Call::Connected(hospital)).await;
    }
}

async fn run(desk: Desk, net: Net, mut calls: mpsc::Receiver<Call>, stop: CancellationToken) {
    let mut bells: HashMap<HospitalId, Arc<Bell>> = HashMap::new();
    let mut workers = JoinSet::new();
    let mut bell_of = |hospital: &HospitalId, workers: &mut JoinSet<()>| {
        let bell = bells.entry(hospital.clone()).or_insert_with(|| {
            let bell = Arc::<Bell>::default();
            let worker = Worker::new(desk.clone(), net.clone(), hospital.clone(), Arc::clone(&bell));
            let stop = stop.clone();
            workers.spawn(async move { worker.run(stop).await });
            bell
        });
        Arc::clone(bell)
    };
    for member in desk.current().federation().members() {
        bell_of(&member.certificate.hospital, &mut workers);
    }
    loop {
        let call = tokio::select! {
            () = stop.cancelled() => break,
            call = calls.recv() => call,
        };
        match call {
            None => break,
            Some(Call::Mail(hospital)) => bell_of(&hospital, &mut workers).mail.notify_one(),
            Some(Call::Connected(hospital)) => {
                let bell = bell_of(&hospital, &mut workers);
                bell.connected.notify_one();
                bell.mail.notify_one();
            }
        }
    }
    while workers.join_next().await.is_some() {}
}

/// Why a letter was not delivered.
enum Undelivered {
    /// The hospital cannot be reached.
    Away,
    /// It may take this letter later.
    Later(Code),
    /// It will never take it.
    Never(Code),
}

/// What one way through a mailbox has met.
#[derive(Default)]
struct Tour {
    /// Transfers with a letter that is put off.
    held: HashSet<TransferId>,
    /// When the first of them is tried again.
    next: Option<Instant>,
    /// Whether a letter left the mailbox.
    has_moved: bool,
}

impl Tour {
    fn hold(&mut self, letter: &Letter, until: Instant) {
        self.next = Some(self.next.map_or(until, |next| next.min(until)));
        self.held.insert(letter.transfer);
    }
}

fn broken(what: &str, fault: &StoreError) -> Wait {
    tracing::error!(code = %fault.code(), "{what}");
    Wait::Until(Instant::now() + Duration::from_millis(LONGEST_WAIT_MS))
}

struct Worker {
    desk: Desk,
    net: Net,
    hospital: HospitalId,
    bell: Arc<Bell>,
    /// Letters that were put off: how often, and until when.
    put_off: HashMap<u64, (u32, Instant)>,
    redial_ms: u64,
}

impl Worker {
    fn new(desk: Desk, net: Net, hospital: HospitalId, bell: Arc<Bell>) -> Self {
        Self { desk, net, hospital, bell, put_off: HashMap::new(), redial_ms: FIRST_WAIT_MS }
    }

    async fn run(mut self, stop: CancellationToken) {
        loop {
            let wait = tokio::select! {
                () = stop.cancelled() => return,
                wait = self.round() => wait,
            };
            let bell = Arc::clone(&self.bell);
            tokio::select! {
                () = stop.cancelled() => return,
                () = rest(&bell, wait) => {}
            }
        }
    }

    /// Tries every letter once, page by page; tells what to wait for.
    async fn round(&mut self) -> Wait {
        // Every mailbox is rung once it may speak.
        if self.desk.voice.may_speak().is_err() {
            return Wait::Mail;
        }
        let mut tour = Tour::default();
        if let Some(wait) = self.tell_keys(&mut tour).await {
            return wait;
        }
        let mut after = None;
        loop {
            let letters = match self.letters(after).await {
                Ok(letters) => letters,
                Err(fault) => return broken("a mailbox cannot be read", &fault),
            };
            if after.is_none() && letters.is_empty() {
                self.put_off.clear();
                break;
            }
            after = letters.last().filter(|_| letters.len() >= LETTERS_PER_PAGE).map(|last| last.number);
            for letter in letters {
                if let Some(wait) = self.attempt(&letter, &mut tour).await {
                    return wait;
                }
            }
            if after.is_none() {
                break;
            }
        }
        match tour.next {
            // More may have come meanwhile.
            _ if tour.has_moved => Wait::Nothing,
            Some(until) => Wait::Until(until),
            None => Wait::Mail,
        }
    }

    /// Tells the hospital of patients' newer keys; what to wait for if it is away.
    async fn tell_keys(&mut self, tour: &mut Tour) -> Option<Wait> {
        let (maker, hospital) = (self.desk.keys.clone(), self.hospital.clone());
        let read =
            self.desk.store.read(move |txn| locator::keys_for(txn, &maker, &hospital, LETTERS_PER_PAGE));
        let waiting = match read.await {
            Ok(waiting) => waiting,
            Err(fault) => return Some(broken("keys that wait cannot be read", &fault)),
        };
        for keys in waiting {
            match self.send(Request::encode(Verb::Keys, vec![keys.content.clone()])).await {
                Err(Undelivered::Away) => return Some(self.redial()),
                Err(Undelivered::Later(code)) => {
                    tracing::debug!(hospital = %self.hospital, %code, "a patient's keys have to wait");
                    let until = Instant::now() + Duration::from_millis(KEYS_WAIT_MS);
                    tour.next = Some(tour.next.map_or(until, |next| next.min(until)));
                    continue;
                }
                Err(Undelivered::Never(code)) => {
                    tracing::warn!(hospital = %self.hospital, %code, "a patient's keys were refused for good");
                }
                Ok(_) => {}
            }
            self.redial_ms = FIRST_WAIT_MS;
            tour.has_moved = true;
            let done = self.desk.store.write(move |txn| locator::keys_told(txn, &keys)).await;
            if let Err(fault) = done {
                return Some(broken("keys that wait cannot be written", &fault));
            }
        }
        None
    }

    /// The hospital is away: until it connects, or after doubling waits.
    fn redial(&mut self) -> Wait {
        let wait = Duration::from_millis(self.redial_ms);
        self.redial_ms = self.redial_ms.saturating_mul(2).min(LONGEST_WAIT_MS);
        Wait::Connected(Instant::now() + wait)
    }

    /// Tries a letter, unless it or one before it of the same transfer is put off; what to wait for if the tour
    /// cannot go on.
    async fn attempt(&mut self, letter: &Letter, tour: &mut Tour) -> Option<Wait> {
        if tour.held.contains(&letter.transfer) {
            return None;
        }
        if let Some((_, until)) = self.put_off.get(&letter.number)
            && *until > Instant::now()
        {
            tour.hold(letter, *until);
            return None;
        }
        let outcome = match self.deliver(letter).await {
            Err(Undelivered::Later(code)) => match self.put_off(letter, code) {
                Ok(until) => {
                    tour.hold(letter, until);
                    return None;
                }
                Err(code) => Err(Undelivered::Never(code)),
            },
            other => other,
        };
        let done = match outcome {
            Ok(tally) => self.delivered(letter, tally).await,
            Err(Undelivered::Never(code)) => self.bury(letter, code).await,
            Err(Undelivered::Away | Undelivered::Later(_)) => return Some(self.redial()),
        };
        self.redial_ms = FIRST_WAIT_MS;
        tour.has_moved = true;
        self.put_off.remove(&letter.number);
        done.err().map(|fault| broken("a mailbox cannot be written", &fault))
    }

    /// Puts a letter off; its code once it was put off too often.
    fn put_off(&mut self, letter: &Letter, code: Code) -> Result<Instant, Code> {
        let tries = self.put_off.get(&letter.number).map_or(0, |(tries, _)| *tries).saturating_add(1);
        // The waits become no longer.
        let tries = if code.waits_for_people() { tries.min(LONGEST_WAIT_AT) } else { tries };
        if tries > MAX_TRIES {
            return Err(code);
        }
        let doubled = FIRST_WAIT_MS.saturating_mul(1_u64 << tries.saturating_sub(1).min(16));
        let until = Instant::now() + Duration::from_millis(doubled.min(LONGEST_WAIT_MS));
        self.put_off.insert(letter.number, (tries, until));
        Ok(until)
    }

    async fn letters(&self, after: Option<u64>) -> Result<Vec<Letter>, StoreError> {
        let (keys, hospital) = (self.desk.keys.clone(), self.hospital.clone());
        self.desk
            .store
            .read(move |txn| mailbox::waiting(txn, &keys, &hospital, after, LETTERS_PER_PAGE))
            .await
    }

    async fn deliver(&self, letter: &Letter) -> Result<Option<Tally>, Undelivered> {
        let (keys, wanted) = (self.desk.keys.clone(), letter.clone());
        let content = self.desk.store.read(move |txn| mailbox::content(txn, &keys, &wanted)).await;
        let content = match content {
            Ok(Some(content)) => content,
            Ok(None) => return Err(Undelivered::Never(Code::StoreDamaged)),
            Err(fault) => return Err(Undelivered::Later(fault.code())),
        };
        let parcel = Parcel { to: None, content: Bytes(content), extensions: Extensions::default() };
        let answer = self.send(Request::encode(Verb::Deliver, vec![codec::encode(&parcel)])).await?;
        Ok(tally::of_answer(&answer))
    }

    async fn send(&self, body: Vec<u8>) -> Result<Vec<Vec<u8>>, Undelivered> {
        let addresses = match self.desk.current().federation().member(&self.hospital) {
            Ok(member) => member.profile.addresses.clone(),
            Err(_) => return Err(Undelivered::Away),
        };
        let route = Route { party: Party::Hospital(self.hospital.clone()), addresses };
        match self.net.request(&route, body).await {
            Ok(answer) => match Answer::decode(&answer) {
                Ok(items) => Ok(items),
                // Its hospital brings it itself.
                Err(Code::KeyReplaced) => Ok(Vec::new()),
                Err(code) if code.is_transient() => Err(Undelivered::Later(code)),
                Err(code) => Err(Undelivered::Never(code)),
            },
            Err(NetError::TooLarge) => Err(Undelivered::Never(Code::TooLarge)),
            Err(fault @ (NetError::TimedOut | NetError::Refused(_) | NetError::Protocol)) => {
                Err(Undelivered::Later(fault.code()))
            }
            Err(_) => Err(Undelivered::Away),
        }
    }

    /// Takes a letter out, and keeps how much the hospital says to have taken.
    async fn delivered(&self, letter: &Letter, tally: Option<Tally>) -> Result<(), StoreError> {
        let (keys, hospital, number) = (self.desk.keys.clone(), self.hospital.clone(), letter.number);
        let delivered = self.desk.store.write(move |txn| {
            if let Some(tally) = &tally {
                tally::keep(txn, &keys, &Party::Hospital(hospital.clone()), tally)?;
            }
            mailbox::remove(txn, &keys, &hospital, number)
        });
        delivered.await
    }

    async fn bury(&self, letter: &Letter, code: Code) -> Result<(), StoreError> {
        let (keys, hospital, letter, now) =
            (self.desk.keys.clone(), self.hospital.clone(), letter.clone(), self.desk.now());
        tracing::warn!(hospital = %hospital, kind = %letter.kind, %code, "a letter was refused for good");
        self.desk.store.write(move |txn| mailbox::bury(txn, &keys, &hospital, &letter, code, now)).await
    }
}

/// What a worker waits for.
enum Wait {
    Nothing,
    Mail,
    Connected(Instant),
    Until(Instant),
}

async fn rest(bell: &Bell, wait: Wait) {
    match wait {
        Wait::Nothing => {}
        Wait::Mail => bell.mail.notified().await,
        Wait::Until(until) => tokio::select! {
            () = sleep_until(until) => {}
            () = bell.mail.notified() => {}
        },
        Wait::Connected(until) => tokio::select! {
            () = sleep_until(until) => {}
            () = bell.connected.notified() => {}
        },
    }
}
