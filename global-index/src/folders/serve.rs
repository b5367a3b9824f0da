//! Looks after the folders: offers what waits to hospitals that are there, exactly as a source does, hands releases out
//! against `Delivered`, and removes what nobody needs any more.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use handover_core::artefact::transfer::PartList;
use handover_core::codec::{Bytes, Extensions};
use handover_core::rules::Context;
use handover_core::{Code, HospitalId, Party, TransferId};
use handover_dossier::{Dossier, Kind};
use handover_net::{Net, Route};
use handover_parcel::wire::Offer;
use handover_parcel::{Place, Places, Sent, is_many};
use handover_seal::Remembered;
use handover_store::{KeyMaker, Txn};
use handover_web::CancellationToken;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::rows::{self, Left};
use super::standing::{self, Next};
use super::{Call, FolderError, Folders};
use crate::{routing, voice};

/// How often every folder is looked at even if nothing happened.
const ROUND: Duration = Duration::from_secs(30);
/// The pause after a package was not taken; doubles up to the longest.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// When a package is offered again.
struct Pause {
    destination: HospitalId,
    until: Instant,
    next: Duration,
}

/// What serving one package came to.
type Served = (Left, Result<(), FolderError>);

/// The packages that are being served, and those that have to wait.
struct Rounds {
    folders: Folders,
    net: Net,
    places: Places,
    serving: BTreeSet<TransferId>,
    pauses: BTreeMap<TransferId, Pause>,
    tasks: JoinSet<Served>,
}

/// Runs until `stop`.
pub(crate) async fn run(
    folders: Folders,
    net: Net,
    mut calls: mpsc::Receiver<Call>,
    stop: CancellationToken,
) {
    folders.sweep_if_due().await;
    let mut rounds = Rounds {
        folders,
        net,
        places: Places::to_send(),
        serving: BTreeSet::new(),
        pauses: BTreeMap::new(),
        tasks: JoinSet::new(),
    };
    let mut round = tokio::time::interval(ROUND);
    loop {
        let now = Instant::now();
        let wake = rounds.pauses.values().map(|pause| pause.until).filter(|until| *until > now).min();
        let whom = tokio::select! {
            () = stop.cancelled() => break,
            _ = round.tick() => {
                rounds.folders.sweep_if_due().await;
                None
            }
            () = tokio::time::sleep_until(wake.unwrap_or(now)), if wake.is_some() => None,
            call = calls.recv() => match call {
                None => break,
                Some(Call::Changed(hospital)) => Some(hospital),
                Some(Call::Connected(hospital)) => {
                    rounds.pauses.retain(|_, pause| pause.destination != hospital);
                    Some(hospital)
                }
            },
            Some(done) = rounds.tasks.join_next() => match done {
                Ok((left, outcome)) => {
                    rounds.learn(&left, outcome);
                    Some(left.destination)
                }
                Err(_) => None,
            },
        };
        if let Err(fault) = rounds.look(whom.as_ref()).await {
            tracing::error!(code = %fault.code(), %fault, "a folder cannot be looked after");
        }
    }
    rounds.tasks.shutdown().await;
}

impl Rounds {
    fn learn(&mut self, left: &Left, outcome: Result<(), FolderError>) {
        self.serving.remove(&left.transfer);
        match outcome {
            Ok(()) => drop(self.pauses.remove(&left.transfer)),
            Err(fault) => {
                tracing::info!(transfer = %left.transfer, destination = %left.destination, code = %fault.code(), %fault, "a package from a folder was not taken");
                let length = self.pauses.get(&left.transfer).map_or(FIRST_PAUSE, |pause| pause.next);
                let next = length.saturating_mul(2).min(LONGEST_PAUSE);
                let (destination, until) = (left.destination.clone(), Instant::now() + length);
                self.pauses.insert(left.transfer, Pause { destination, until, next });
            }
        }
    }

    /// Looks at one hospital's folder, or at all.
    async fn look(&mut self, whom: Option<&HospitalId>) -> Result<(), FolderError> {
        let (desk, now) = (&self.folders.0.desk, self.folders.0.desk.now());
        if desk.voice.may_speak().is_err() {
            return Ok(());
        }
        let (keys, wanted) = (desk.keys.clone(), whom.cloned());
        let packages = desk
            .store
            .read(move |txn| -> Result<_, FolderError> {
                let packages = match &wanted {
                    Some(hospital) => rows::of_hospital(txn, &keys, hospital)?,
                    None => rows::all(txn, &keys)?,
                };
                let looked_at = packages.into_iter().map(|left| {
                    let next = standing::next(txn, &keys, &left, now)?;
                    Ok((left, next))
                });
                looked_at.collect::<Result<Vec<_>, FolderError>>()
            })
            .await?;
        if whom.is_none() {
            let all: Vec<Left> = packages.iter().map(|(left, _)| left.clone()).collect();
            self.folders.0.instruments.show(&all, self.folders.has_disk());
            self.pauses.retain(|transfer, _| packages.iter().any(|(left, _)| left.transfer == *transfer));
        }
        let connected: BTreeSet<Party> = self.net.connected().into_iter().collect();
        let mut over = Vec::new();
        for (left, next) in packages {
            // Its parts are being read, or written.
            if self.serving.contains(&left.transfer) || self.folders.is_arriving(left.transfer) {
                continue;
            }
            match next {
                Next::Keep => {}
                Next::Remove(why) => {
                    tracing::info!(transfer = %left.transfer, destination = %left.destination, why, "a package leaves its folder");
                    self.folders.0.instruments.packages.inc(["removed"]);
                    over.push(left);
                }
                Next::HandOut => {
                    // One that cannot be handed out holds up no other.
                    if let Err(fault) = self.folders.hand_out(&left).await {
                        tracing::error!(transfer = %left.transfer, code = %fault.code(), %fault, "a release cannot be handed out");
                    }
                }
                Next::Offer => {
                    if connected.contains(&Party::Hospital(left.destination.clone())) {
                        self.serve(left);
                    }
                }
            }
        }
        self.folders.remove(over).await
    }

    /// Begins to serve a package, if it is its turn and a place is free.
    fn serve(&mut self, left: Left) {
        let is_held = self.pauses.get(&left.transfer).is_some_and(|pause| pause.until > Instant::now());
        if is_held {
            return;
        }
        let Some(place) = self.places.take(&left.destination, is_many(left.bytes)) else { return };
        self.serving.insert(left.transfer);
        let (folders, net) = (self.folders.clone(), self.net.clone());
        self.tasks.spawn(async move {
            let _place: Place = place;
            // In a task of its own: one that panics leaves its package to be tried again.
            let wanted = left.clone();
            let task = tokio::spawn(async move { folders.serve(&net, &wanted).await });
            let outcome = task.await.unwrap_or_else(|_| Err(Code::Internal.into()));
            (left, outcome)
        });
    }
}

impl Folders {
    /// Offers a package to its destination and takes its `Delivered` in.
    async fn serve(&self, net: &Net, left: &Left) -> Result<(), FolderError> {
        let desk = &self.0.desk;
        let (keys, current, now, wanted) = (desk.keys.clone(), desk.current(), desk.now(), left.clone());
        let offer = desk.store.read(move |txn| -> Result<_, FolderError> {
            let context = Context { federation: current.federation(), verifier: &Remembered };
            standing::check(txn, &keys, &wanted, context, now)?;
            offer(txn, &keys, &wanted)
        });
        let offer = offer.await?;
        // It is connected: nobody is dialled for a package.
        let route = Route { party: Party::Hospital(left.destination.clone()), addresses: Vec::new() };
        let mut stream = net.open_package(&route).await?;
        match handover_parcel::send(&mut stream, &self.0.blobs, &offer).await? {
            Sent::Done(done) => {
                let delivered = done.delivered.ok_or(Code::Malformed)?;
                self.take(&left.destination, Some(left.source.clone()), delivered.0).await?;
                self.hand_out(left).await
            }
            Sent::Damaged { part } => {
                tracing::error!(transfer = %left.transfer, part, "a package is damaged here, and leaves its folder; its source has it");
                // Whoever else names it would find it damaged, too; and a damaged one is not taken for a whole one again.
                if let Some(part) = offer.parts.iter().nth(part) {
                    let _names = self.0.names.lock().await;
                    self.0.blobs.delete(part.root).await?;
                }
                self.remove(vec![left.clone()]).await
            }
        }
    }

    /// Hands the release out, after a last look at everything that may forbid it; again changes nothing.
    async fn hand_out(&self, left: &Left) -> Result<(), FolderError> {
        let desk = &self.0.desk;
        desk.voice.may_speak()?;
        let (keys, current, now, left) = (desk.keys.clone(), desk.current(), desk.now(), left.clone());
        let (book, seed, transfer) = (desk.ledger.book().clone(), desk.random_32(), left.transfer);
        let handed = desk.store.write(move |txn| -> Result<_, FolderError> {
            let context = Context { federation: current.federation(), verifier: &Remembered };
            if voice::is_catching_up(txn, &keys)? {
                return Err(Code::CatchingUp.into());
            }
            // Read again: it may have been withdrawn since.
            if rows::again(txn, &keys, &left)?.is_none() {
                return Err(Code::OutOfOrder.into());
            }
            standing::check(txn, &keys, &left, context, now)?;
            if Dossier::of(txn, &keys, left.transfer).released_with(left.attempt)?.is_none() {
                return Err(Code::ReleaseAwaited.into());
            }
            Ok(routing::hand_out(
                txn,
                &keys,
                &book,
                left.attempt,
                left.release.as_ref(),
                context,
                (now, seed),
            )?)
        });
        match handed.await {
            Ok(told) => {
                tracing::info!(%transfer, "a release was handed out from a folder");
                self.0.instruments.packages.inc(["handed-out"]);
                for hospital in told {
                    self.0.courier.mail(hospital).await;
                }
                Ok(())
            }
            // It is suspended, say, or has ended: the next look says what becomes of it.
            Err(FolderError::Store(fault)) => Err(fault.into()),
            Err(fault) => {
                tracing::info!(%transfer, code = %fault.code(), %fault, "a release stays in its folder");
                Ok(())
            }
        }
    }
}

/// What a source would offer.
fn offer(txn: &mut dyn Txn, keys: &KeyMaker, left: &Left) -> Result<Offer, FolderError> {
    let parts: PartList = rows::parts(txn, keys, left)?;
    let mut dossier = Dossier::of(txn, keys, left.transfer);
    let mut envelope = |place| dossier.get(place).map(|found: Option<Vec<u8>>| found.map(Bytes));
    Ok(Offer {
        quote: envelope(Kind::Quote.into())?.ok_or(Code::EvidenceMissing)?,
        consent: envelope(Kind::Consent.into())?.ok_or(Code::EvidenceMissing)?,
        final_quote: envelope(Kind::FinalQuote.into())?,
        header: envelope(Kind::Header.of(left.attempt))?.ok_or(Code::EvidenceMissing)?,
        parts,
        release: None,
        extensions: Extensions::default(),
    })
}
