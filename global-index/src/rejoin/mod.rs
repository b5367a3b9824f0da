//! A store that was restored from a backup, or lost something in a database, finds that out and takes back what it has lost
//! before it speaks for the index again.
//!
//! Each hospital holds what the index signed last for it: a directory, and a page of the books; and how much it was told
//! that the index has taken of its artefacts ([`tally`]). After each start all that can be reached are asked for these,
//! and everybody else before they are served. One that is beyond what is here shows, by the index's own signature or
//! mark, that the store was rolled back; so does a directory with an order that this store never heard of, however old
//! it is. Then every active hospital is asked: for the newest directory, with all orders, certificates, profiles and
//! schedules; once all have told, for the log, entry by entry, up to the root of the largest that was ever stated; and
//! for the evidence of its transfers.
//!
//! Invariants: until then nothing is booked, signed or handed out ([`crate::voice`]), and after a start nothing before one
//! hospital was asked, if there is any; every wait is limited, but the one for a hospital that has still to tell, which
//! people end, and nobody is asked the later for another one; what was found out is durable, and goes on after any stop.

mod asking;
mod evidence;
mod log;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use handover_core::message::Tally;
use handover_core::time::DAY_MS;
use handover_core::{Code, Digest, HospitalId, Party, Timestamp};
use handover_dossier::tally;
use handover_net::Net;
use handover_store::{StoreError, Txn};
use handover_web::CancellationToken;
use tokio::sync::Semaphore;

use self::asking::{Asking, Found, Signatures};
use crate::desk::Desk;
use crate::directory::DirectoryError;
use crate::ledger::{BooksError, TreeHead};
use crate::registry::RegistryError;
use crate::routing::RoutingError;
use crate::voice::{self, Phase};

/// Questions that are asked at one time.
const AT_ONCE: usize = 16;
/// How long the first round may take in all: who has not answered by then is asked before it is served.
const FIRST_ROUND_MAX: Duration = Duration::from_secs(20);
/// How long a request waits for that round.
const REQUEST_PATIENCE: Duration = Duration::from_secs(5);
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
    /// A directory that is put back.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// The directory that is made.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
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
    /// Directories that were put back since the start: if one of them has still what the one in force would take back, it
    /// never fits, and is not missed again.
    put_back: Arc<Mutex<BTreeSet<Digest>>>,
    /// For questions.
    places: Arc<Semaphore>,
    found: Arc<tokio::sync::Mutex<Found>>,
}

impl Rejoin {
    /// Closes the desk's voice until somebody was asked, if there is anybody.
    pub(crate) fn new(desk: Desk, net: Net) -> Self {
        let places = Arc::new(Semaphore::new(AT_ONCE));
        let rejoin = Self {
            desk,
            net,
            compared: Arc::default(),
            put_back: Arc::default(),
            places,
            found: Arc::default(),
        };
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

    /// Everybody else, of whom nobody knows what they hold.
    fn untold(&self) -> Vec<HospitalId> {
        let (current, active) = (self.desk.current(), self.active());
        let all = current.federation().members().map(|member| &member.certificate.hospital);
        all.filter(|hospital| !active.contains(*hospital)).cloned().collect()
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

    fn asking<'a>(&'a self, hospital: &'a HospitalId) -> Asking<'a> {
        Asking { desk: &self.desk, net: &self.net, places: &self.places, found: &self.found, hospital }
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
        self.desk.voice.may_soon_speak(REQUEST_PATIENCE).await?;
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
        let mut judged = self.judge(hospital, &signatures).await?;
        if matches!(judged, Judged::Ahead) && signatures.directory.is_none() {
            let from = self.desk.ledger.stated().await?.size;
            // Entries without the index's mark are of a log that somebody else made with its key.
            if let Ok(Some(answer)) = asking.books(from).await
                && log::is_foreign(&self.desk, &answer)
            {
                judged = Judged::Forked;
            }
        }
        match judged {
            Judged::Ahead => self.found_by(hospital).await?,
            Judged::Forked => tracing::error!(%hospital, "holds another log that this index signed"),
            Judged::Known => {}
        }
        if let Some(tally) = asking.tally().await?
            && self.is_beyond(hospital, tally).await?
        {
            self.found_by(hospital).await?;
        }
        // The index signed it, so it was stated; whatever this store knows of that. One of another log says nothing of this.
        let told = self.largest_of_own(signatures.trees).await?;
        self.desk.ledger.note_told(hospital, told).await?;
        self.compared.lock().unwrap_or_else(PoisonError::into_inner).insert(hospital.clone());
        Ok(())
    }

    /// How large the largest of these logs is out of which the books have grown.
    async fn largest_of_own(&self, trees: Vec<TreeHead>) -> Result<u64, BooksError> {
        let book = self.desk.ledger.book().clone();
        let largest = move |txn: &mut dyn Txn| -> Result<u64, BooksError> {
            let size = book.tree_head(txn)?.size;
            trees.iter().filter(|tree| tree.size <= size).try_fold(0, |largest, tree| {
                Ok(if book.continues(txn, tree)? { largest.max(tree.size) } else { largest })
            })
        };
        self.desk.store.read(largest).await
    }

    /// A hospital has shown that this store was rolled back.
    async fn found_by(&self, hospital: &HospitalId) -> Result<(), RejoinError> {
        tracing::warn!(%hospital, "holds what this index signed or took, and does not know");
        self.desk.voice.go_with(hospital);
        let known = self.desk.current().federation().directory().issued;
        Ok(begin(&self.desk, known.plus_ms(-MARGIN_MS)).await?)
    }

    /// Whether a hospital was told that more of its was taken than this store knows of.
    async fn is_beyond(&self, hospital: &HospitalId, shown: Tally) -> Result<bool, StoreError> {
        let (keys, of) = (self.desk.keys.clone(), Party::Hospital(hospital.clone()));
        self.desk.store.read(move |txn| tally::is_beyond(txn, &keys, &of, &shown)).await
    }

    async fn judge(&self, hospital: &HospitalId, signatures: &Signatures) -> Result<Judged, RejoinError> {
        if let Some(federation) = &signatures.directory {
            let put_back = self.put_back.lock().unwrap_or_else(PoisonError::into_inner);
            if !put_back.contains(&federation.directory().hash()) {
                return Ok(Judged::Ahead);
            }
            tracing::warn!(%hospital, "holds a directory that does not go together with the one in force");
        }
        let (book, trees) = (self.desk.ledger.book().clone(), signatures.trees.clone());
        let (keys, hospital) = (self.desk.keys.clone(), hospital.clone());
        let judge = move |txn: &mut dyn Txn| -> Result<Judged, BooksError> {
            let (size, stated) = (book.tree_head(txn)?.size, book.stated(txn)?.size);
            // Who was left out has not told what it holds of a log that was given up without it.
            let head = voice::head(txn, &keys)?.filter(|head| !head.left_out.contains(&hospital));
            let given_up = head.map_or_else(Vec::new, |head| head.given_up);
            let mut judged = Judged::Known;
            for tree in &trees {
                let is_given_up = given_up.iter().any(|it| (it.size, it.root) == (tree.size, tree.root));
                let continues = book.continues(txn, tree)?;
                // What is here instead of what was stated there may be with nobody.
                let is_ahead = if continues { tree.size > size } else { tree.size > stated };
                if is_ahead && !is_given_up {
                    return Ok(Judged::Ahead);
                }
                if is_given_up || !continues {
                    judged = Judged::Forked;
                }
            }
            Ok(judged)
        };
        Ok(self.desk.store.read(judge).await?)
    }

    /// Asks everybody who can be reached.
    async fn first_round(&self) {
        // Who is there first: those who are not keep their places for as long as one waits.
        let connected = self.net.connected();
        let mut all: Vec<HospitalId> = self.active().into_iter().collect();
        all.sort_by_key(|hospital| !connected.contains(&Party::Hospital(hospital.clone())));
        let asked = futures::stream::iter(all).for_each_concurrent(None, |hospital| async move {
            if let Err(fault) = self.compare(&hospital).await {
                tracing::info!(%hospital, %fault, "cannot be compared with yet");
            }
        });
        if tokio::time::timeout(FIRST_ROUND_MAX, asked).await.is_err() {
            tracing::warn!("not all hospitals could be asked within the limit");
        }
    }

    /// Takes everything back that hospitals hold, for as often as it was found to be lost.
    async fn catch_up(&self, begun: u64) -> Result<(), RejoinError> {
        // Directories first: whoever has but a key that was replaced since tells nothing in its hospital's place.
        self.until_all_told(|hospital| self.directory(hospital)).await;
        self.net.recheck().await;
        let current = self.desk.current();
        let directory = current.federation().directory();
        let trees = Mutex::new(vec![TreeHead { size: directory.log_size, root: directory.log_root }]);
        self.until_all_told(|hospital| self.log(hospital, &trees)).await;
        let trees = trees.into_inner().unwrap_or_else(PoisonError::into_inner);
        if !log::put_back(&self.desk, trees, self.untold()).await? {
            tracing::error!("a log that was signed cannot be made whole: it goes on as another one");
        }
        let mut before = None;
        loop {
            let round = Mutex::new(evidence::Round::default());
            self.until_all_told(|hospital| self.evidence(hospital, &round)).await;
            let round = round.into_inner().unwrap_or_else(PoisonError::into_inner);
            // What stands on something that its hospital alone may bring can be taken once that has told.
            if !round.is_to_be_repeated(before.as_ref()) {
                break;
            }
            before = Some(round);
        }
        evidence::pass_on(&self.desk).await?;
        if !self.desk.end_catching_up(begun).await? {
            return Ok(());
        }
        // Also who told everything is asked once more before it is served: what it holds is known now, or given up.
        self.compared.lock().unwrap_or_else(PoisonError::into_inner).clear();
        *self.found.lock().await = Found::default();
        tracing::info!("this store has caught up");
        Ok(())
    }

    /// Asks every active hospital until each has told, or people say that it is not waited for. Each has its own turns.
    async fn until_all_told<F, T>(&self, ask: F)
    where
        F: Fn(HospitalId) -> T,
        T: Future<Output = Result<(), RejoinError>>,
    {
        let turn = |hospital: HospitalId| async {
            let outcome = ask(hospital.clone()).await;
            if let Err(fault) = &outcome {
                tracing::info!(%hospital, %fault, "has not told everything yet");
                tokio::time::sleep(AGAIN).await;
            }
            (hospital, outcome.is_ok())
        };
        let (mut told, mut asked) = (BTreeSet::new(), BTreeSet::new());
        let mut turns = FuturesUnordered::new();
        loop {
            // A newer directory may have others.
            let waits_for: BTreeSet<HospitalId> = self.active().difference(&told).cloned().collect();
            self.desk.voice.set_waits_for(waits_for.clone());
            if waits_for.is_empty() {
                return;
            }
            for hospital in waits_for {
                if asked.insert(hospital.clone()) {
                    turns.push(turn(hospital));
                }
            }
            if let Some((hospital, has_told)) = turns.next().await {
                asked.remove(&hospital);
                if has_told {
                    told.insert(hospital);
                }
            }
        }
    }

    async fn directory(&self, hospital: HospitalId) -> Result<(), RejoinError> {
        let Some(federation) = self.asking(&hospital).signatures().await?.directory else {
            return Ok(());
        };
        let hash = federation.directory().hash();
        self.desk.put_back(federation).await?;
        self.put_back.lock().unwrap_or_else(PoisonError::into_inner).insert(hash);
        Ok(())
    }

    async fn log(&self, hospital: HospitalId, trees: &Mutex<Vec<TreeHead>>) -> Result<(), RejoinError> {
        let asking = self.asking(&hospital);
        let held = asking.signatures().await?.trees;
        let mut next = Some(self.desk.ledger.stated().await?.size);
        while let Some(from) = next {
            self.is_waited_for(&hospital)?;
            let Some(answer) = asking.books(from).await? else { break };
            next = answer.next;
            // Who gives nothing of this log could go on for ever.
            if log::keep(&self.desk, from, answer).await? == 0 {
                break;
            }
        }
        trees.lock().unwrap_or_else(PoisonError::into_inner).extend(held);
        Ok(())
    }

    async fn evidence(
        &self,
        hospital: HospitalId,
        round: &Mutex<evidence::Round>,
    ) -> Result<(), RejoinError> {
        let keys = self.desk.keys.clone();
        let head = self.desk.store.read(move |txn| voice::head(txn, &keys)).await?;
        let since = head.map_or(Timestamp::from_millis(0), |head| head.since);
        let (asking, mut after) = (self.asking(&hospital), None);
        loop {
            self.is_waited_for(&hospital)?;
            let Some(answer) = asking.evidence(since, after).await? else { break };
            let contents = answer.contents.into_iter().map(|content| content.0).collect();
            let taken = evidence::take(&self.desk, &hospital, contents).await?;
            round.lock().unwrap_or_else(PoisonError::into_inner).add(taken);
            match answer.next {
                Some(next) => after = Some(next),
                None => break,
            }
        }
        let shown = asking.tally().await?;
        let (keys, of, now) = (self.desk.keys.clone(), Party::Hospital(hospital.clone()), self.desk.now());
        Ok(self.desk.store.write(move |txn| tally::raise(txn, &keys, &of, shown.as_ref(), now)).await?)
    }
}

/// The store was rolled back, as somebody found or says; evidence is asked for from `since` on.
pub(crate) async fn begin(desk: &Desk, since: Timestamp) -> Result<(), StoreError> {
    tracing::warn!("this store was restored from a backup, or lost something: it catches up");
    desk.voice.catch_up(&desk.store, (desk.now(), since)).await
}

/// Runs until `stop`.
pub(crate) async fn run(rejoin: Rejoin, stop: CancellationToken) {
    let live = async {
        let mut phases = rejoin.desk.voice.watch();
        loop {
            let begun = rejoin.desk.voice.begun();
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
                    if let Err(fault) = rejoin.catch_up(begun).await {
                        tracing::error!(%fault, "what was lost cannot be taken back");
                        tokio::time::sleep(AGAIN).await;
                        continue;
                    }
                }
            }
            // Somebody may have been found ahead meanwhile.
            rejoin.desk.voice.speak_after(begun);
        }
    };
    tokio::select! {
        () = stop.cancelled() => {}
        () = live => {}
    }
}
