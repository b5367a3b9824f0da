//! A store that was restored from a backup, or lost something in a database, finds that out and takes back what it has lost
//! before it speaks for the index again.
//!
//! Each hospital holds what the index signed last for it: a directory, and a page of the books. After each start all that
//! can be reached are asked for these, and everybody else before they are served. One that is beyond what is here shows, by
//! the index's own signature, that the store was rolled back. Then every active hospital is asked: for the newest directory,
//! with all orders, certificates, profiles and schedules; for the log, entry by entry, up to the root of the largest that was
//! ever stated; for the evidence of its transfers.
//!
//! Invariants: until then nothing is booked, signed or handed out ([`crate::voice`]); every wait is limited, but the one for
//! a hospital that has still to tell, which people end; what was found out is durable, and goes on after any stop.

mod asking;
mod evidence;
mod log;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::StreamExt as _;
use handover_core::time::DAY_MS;
use handover_core::{Code, HospitalId, Timestamp};
use handover_net::Net;
use handover_store::{StoreError, Txn};
use handover_web::CancellationToken;

use self::asking::{Asking, Signatures};
use crate::desk::Desk;
use crate::ledger::{BooksError, TreeHead};
use crate::registry::RegistryError;
use crate::routing::RoutingError;
use crate::voice::{self, Phase};

/// Hospitals that are asked at one time.
const AT_ONCE: usize = 16;
/// How long the first round may take in all: who has not answered by then is asked before it is served.
const FIRST_ROUND_MAX: Duration = Duration::from_secs(20);
/// How long a request waits for that round.
const PATIENCE: Duration = Duration::from_secs(5);
/// How soon those are asked again that could not be.
const AGAIN: Duration = Duration::from_secs(2);
/// How much further back than this store knows of evidence is asked for: a hospital's outbox may have kept it so long.
const MARGIN_MS: i64 = 30 * DAY_MS;

/// Why something cannot be taken back.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RejoinError {
    /// A hospital cannot be asked, or says no.
    #[error("{0}")]
    Refused(Code),
    /// What is given back does not fit what is here.
    #[error(transparent)]
    Books(#[from] BooksError),
    /// An artefact, or its letter.
    #[error(transparent)]
    Routing(#[from] RoutingError),
    /// A directory.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// The store could not.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<Code> for RejoinError {
    fn from(code: Code) -> Self {
        Self::Refused(code)
    }
}

/// How what a hospital holds of the index stands to what is here.
enum Judged {
    /// Everything that it holds is known here.
    Known,
    /// It holds what is not known here.
    Ahead,
    /// It holds another log than the one that is here.
    Forked,
}

/// Asks, and takes back. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Rejoin {
    desk: Desk,
    net: Net,
    /// Who was asked since the start.
    compared: Arc<Mutex<BTreeSet<HospitalId>>>,
}

impl Rejoin {
    /// Closes the desk's voice until somebody was asked, if there is anybody.
    pub(crate) fn new(desk: Desk, net: Net) -> Self {
        let rejoin = Self { desk, net, compared: Arc::default() };
        if !rejoin.active().is_empty() {
            rejoin.desk.voice.ask();
        }
        rejoin
    }

    /// Everybody who takes part, and is waited for.
    fn active(&self) -> BTreeSet<HospitalId> {
        let (current, now) = (self.desk.current(), self.desk.now());
        let (federation, without) = (current.federation(), self.desk.voice.without());
        let all = federation.members().map(|member| &member.certificate.hospital);
        let active = all.filter(|it| federation.active(it, now).is_ok() && !without.contains(*it));
        active.cloned().collect()
    }

    /// Whether somebody takes part, and nobody was compared with yet.
    fn has_heard_nobody(&self) -> bool {
        let active = self.active();
        !active.is_empty() && !active.iter().any(|hospital| self.is_compared(hospital))
    }

    /// Refuses to go on with a hospital that people say is not waited for.
    fn is_waited_for(&self, hospital: &HospitalId) -> Result<(), RejoinError> {
        if self.desk.voice.without().contains(hospital) { Err(Code::CatchingUp.into()) } else { Ok(()) }
    }

    const fn asking<'a>(&'a self, hospital: &'a HospitalId) -> Asking<'a> {
        Asking { desk: &self.desk, net: &self.net, hospital }
    }

    fn is_compared(&self, hospital: &HospitalId) -> bool {
        self.compared.lock().unwrap_or_else(PoisonError::into_inner).contains(hospital)
    }

    /// Whether a hospital may be served: once it was asked since the start, and while the index may speak. The first round
    /// after the start is waited for a little.
    ///
    /// # Errors
    /// [`Code::CatchingUp`].
    pub(crate) async fn may_serve(&self, hospital: &HospitalId) -> Result<(), Code> {
        let mut phases = self.desk.voice.watch();
        let asked = phases.wait_for(|phase| *phase != Phase::Asking);
        // Who runs into the limit is refused by what comes next.
        let _ = tokio::time::timeout(PATIENCE, asked).await;
        self.desk.voice.may_speak()?;
        if !self.is_compared(hospital) {
            self.compare(hospital).await.map_err(|fault| {
                tracing::debug!(%hospital, %fault, "cannot be compared with yet");
                Code::CatchingUp
            })?;
        }
        self.desk.voice.may_speak()
    }

    /// Asks a hospital what it holds of the index, and begins to catch up if that is beyond what is here.
    async fn compare(&self, hospital: &HospitalId) -> Result<(), RejoinError> {
        let asking = self.asking(hospital);
        let signatures = asking.signatures().await?;
        let mut judged = self.judge(&signatures).await?;
        if matches!(judged, Judged::Ahead) && signatures.directory.is_none() {
            let size = self.desk.ledger.tree_head().await?.size;
            // Entries without the index's mark are of a log that somebody else made with its key.
            if asking.books(size).await?.is_some_and(|answer| !log::is_own(&self.desk, &answer)) {
                judged = Judged::Forked;
            }
        }
        match judged {
            Judged::Ahead => {
                tracing::warn!(%hospital, "holds what this index signed and does not know");
                self.begin().await?;
            }
            Judged::Forked => {
                tracing::error!(%hospital, "holds another log that this index signed");
            }
            Judged::Known => {}
        }
        self.compared.lock().unwrap_or_else(PoisonError::into_inner).insert(hospital.clone());
        Ok(())
    }

    async fn judge(&self, signatures: &Signatures) -> Result<Judged, RejoinError> {
        if signatures.directory.is_some() {
            return Ok(Judged::Ahead);
        }
        let (book, trees) = (self.desk.ledger.book().clone(), signatures.trees.clone());
        let judge = move |txn: &mut dyn Txn| -> Result<Judged, BooksError> {
            let size = book.tree_head(txn)?.size;
            if trees.iter().any(|tree| tree.size > size) {
                return Ok(Judged::Ahead);
            }
            for tree in &trees {
                if !book.continues(txn, tree)? {
                    return Ok(Judged::Forked);
                }
            }
            Ok(Judged::Known)
        };
        Ok(self.desk.store.read(judge).await?)
    }

    async fn begin(&self) -> Result<(), StoreError> {
        begin(&self.desk).await
    }

    /// Asks everybody who can be reached.
    async fn first_round(&self) {
        let all = self.active();
        let asked = futures::stream::iter(all).for_each_concurrent(AT_ONCE, |hospital| async move {
            if let Err(fault) = self.compare(&hospital).await {
                tracing::info!(%hospital, %fault, "cannot be compared with yet");
            }
        });
        if tokio::time::timeout(FIRST_ROUND_MAX, asked).await.is_err() {
            tracing::warn!("not all hospitals could be asked within the limit");
        }
    }

    /// Takes everything back that hospitals hold.
    async fn catch_up(&self) -> Result<(), RejoinError> {
        let current = self.desk.current();
        let directory = current.federation().directory();
        let trees = Mutex::new(vec![TreeHead { size: directory.log_size, root: directory.log_root }]);
        self.until_all_told(|hospital| self.directory_and_log(hospital, &trees)).await;
        let trees = trees.into_inner().unwrap_or_else(PoisonError::into_inner);
        if !log::put_back(&self.desk, trees).await? {
            tracing::error!("a log that was signed cannot be made whole: it goes on as another one");
        }
        self.until_all_told(|hospital| self.evidence(hospital)).await;
        evidence::pass_on(&self.desk).await?;
        let (keys, now) = (self.desk.keys.clone(), self.desk.now());
        let end = move |txn: &mut dyn Txn| voice::change_head(txn, &keys, |head| head.done = Some(now));
        self.desk.store.write(end).await?;
        *self.compared.lock().unwrap_or_else(PoisonError::into_inner) = self.active();
        tracing::info!("this store has caught up");
        Ok(())
    }

    /// Asks every active hospital until each has told, or people say that it is not waited for.
    async fn until_all_told<'a, F, T>(&'a self, ask: F)
    where
        F: Fn(HospitalId) -> T,
        T: Future<Output = Result<(), RejoinError>> + 'a,
    {
        let mut told: BTreeSet<HospitalId> = BTreeSet::new();
        loop {
            // A newer directory may have others.
            let waits_for: BTreeSet<HospitalId> = self.active().difference(&told).cloned().collect();
            self.desk.voice.set_waits_for(waits_for.clone());
            if waits_for.is_empty() {
                return;
            }
            let mut has_news = false;
            let asked = futures::stream::iter(waits_for).map(|hospital| async {
                let outcome = ask(hospital.clone()).await;
                (hospital, outcome)
            });
            let mut asked = std::pin::pin!(asked.buffer_unordered(AT_ONCE));
            while let Some((hospital, outcome)) = asked.next().await {
                match outcome {
                    Ok(()) => has_news |= told.insert(hospital),
                    Err(fault) => tracing::info!(%hospital, %fault, "has not told everything yet"),
                }
            }
            if !has_news {
                tokio::time::sleep(AGAIN).await;
            }
        }
    }

    async fn directory_and_log(
        &self,
        hospital: HospitalId,
        trees: &Mutex<Vec<TreeHead>>,
    ) -> Result<(), RejoinError> {
        let asking = self.asking(&hospital);
        let held = asking.signatures().await?;
        if let Some((envelope, federation)) = held.directory {
            self.desk.put_back(envelope, federation).await?;
        }
        let mut next = Some(self.desk.ledger.tree_head().await?.size);
        while let Some(from) = next {
            self.is_waited_for(&hospital)?;
            let Some(answer) = asking.books(from).await? else { break };
            if answer.opened.is_empty() && answer.sealed.is_empty() {
                break;
            }
            if !log::is_own(&self.desk, &answer) {
                tracing::error!(%hospital, "holds another log that this index signed");
                return Ok(());
            }
            next = answer.next;
            log::keep(&self.desk, answer).await?;
        }
        trees.lock().unwrap_or_else(PoisonError::into_inner).extend(held.trees);
        Ok(())
    }

    async fn evidence(&self, hospital: HospitalId) -> Result<(), RejoinError> {
        let keys = self.desk.keys.clone();
        let head = self.desk.store.read(move |txn| voice::head(txn, &keys)).await?;
        let since = head.map_or(Timestamp::from_millis(0), |head| head.since);
        let (asking, mut after) = (self.asking(&hospital), None);
        loop {
            self.is_waited_for(&hospital)?;
            let Some(answer) = asking.evidence(since, after).await? else { return Ok(()) };
            let contents = answer.contents.into_iter().map(|content| content.0).collect();
            evidence::take(&self.desk, &hospital, contents).await?;
            match answer.next {
                Some(next) => after = Some(next),
                None => return Ok(()),
            }
        }
    }
}

/// The store was rolled back, as somebody found or says.
pub(crate) async fn begin(desk: &Desk) -> Result<(), StoreError> {
    let since = desk.current().federation().directory().issued.plus_ms(-MARGIN_MS);
    tracing::warn!("this store was restored from a backup, or lost something: it catches up");
    desk.voice.catch_up(&desk.store, (desk.now(), since)).await
}

/// Runs until `stop`.
pub(crate) async fn run(rejoin: Rejoin, stop: CancellationToken) {
    let live = async {
        let mut phases = rejoin.desk.voice.watch();
        loop {
            let phase = *phases.borrow_and_update();
            match phase {
                Phase::Speaking => {
                    if phases.changed().await.is_err() {
                        return;
                    }
                    continue;
                }
                Phase::Asking => {
                    rejoin.first_round().await;
                    // Alone it cannot know what it has signed: the first who comes ends that.
                    if rejoin.has_heard_nobody() {
                        tokio::time::sleep(AGAIN).await;
                        continue;
                    }
                }
                Phase::CatchingUp => {
                    if let Err(fault) = rejoin.catch_up().await {
                        tracing::error!(%fault, "what was lost cannot be taken back");
                        tokio::time::sleep(AGAIN).await;
                        continue;
                    }
                }
            }
            // Somebody may have been found ahead in the round.
            rejoin.desk.voice.speak_after(phase);
        }
    };
    tokio::select! {
        () = stop.cancelled() => {}
        () = live => {}
    }
}
