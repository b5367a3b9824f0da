//! A source leaves a package: what it stands on is taken in as if it had come by itself, room is kept for it by a row,
//! then its parts arrive, and only when all of them are durable is it said so. Cut anywhere, it goes on from there.

use std::time::Duration;

use handover_core::artefact::Signed;
use handover_core::artefact::transfer::PackageHeader;
use handover_core::codec::Extensions;
use handover_core::message::Parcel;
use handover_core::rules::{self, Context};
use handover_core::{Code, HospitalId, TransferId};
use handover_dossier::{Dossier, Kind, transfer_of};
use handover_net::PackageStream;
use handover_parcel::wire::{self, Done, Have, Offer};
use handover_parcel::{Arriving, is_large};
use handover_seal::Remembered;
use handover_store::{KeyMaker, Txn};
use tokio::io::AsyncWriteExt as _;
use tokio::time::timeout;

use super::rows::{self, Left};
use super::{Alone, FolderError, Folders, standing};
use crate::config::FolderRules;
use crate::routing::Intake;

const OFFER_LIMIT: Duration = Duration::from_secs(30);
/// Packages in one folder, whatever their size.
const PACKAGES_MAX: u64 = 10_000;

impl Folders {
    /// Takes one package stream to its end, or says why nothing is taken from this hospital now.
    pub(crate) async fn receive(
        &self,
        from: HospitalId,
        mut stream: PackageStream,
        may_leave: Result<(), Code>,
    ) {
        let done = match self.receive_stream(&from, &mut stream, may_leave).await {
            Ok(left) => {
                tracing::info!(transfer = %left.transfer, source = %from, destination = %left.destination, "a package waits in its folder");
                self.0.instruments.packages.inc(["left"]);
                self.changed(left.destination.clone());
                Done::kept(left.expires)
            }
            Err(fault) => {
                tracing::info!(source = %from, code = %fault.code(), %fault, "a package was not left");
                self.0.instruments.packages.inc(["refused"]);
                Done::not(fault.code())
            }
        };
        // If the word does not get through, the source asks again.
        let _ = wire::put(&mut stream, &done).await;
        let _ = stream.shutdown().await;
    }

    async fn receive_stream(
        &self,
        from: &HospitalId,
        stream: &mut PackageStream,
        may_leave: Result<(), Code>,
    ) -> Result<Left, FolderError> {
        let offer: Offer = timeout(OFFER_LIMIT, wire::get(stream)).await.map_err(|_| Code::TimedOut)??;
        let begun = async {
            may_leave?;
            let transfer = transfer_of(offer.header.as_ref())?;
            let place = self.0.receiving.take(from, is_large(&offer.parts)).ok_or(Code::Busy)?;
            let alone = Alone::with(&self.0, transfer)?;
            let (left, arriving) = self.begin(from, transfer, offer).await?;
            Ok::<_, FolderError>((place, alone, left, arriving))
        };
        let (_place, _alone, left, arriving) = match begun.await {
            Ok(begun) => begun,
            Err(fault) => {
                wire::put(stream, &Have::none(fault.code())).await?;
                return Err(fault);
            }
        };
        wire::put(stream, &Have::of(arriving.groups())).await?;
        arriving.receive(stream).await?;
        let left = self.finish(left).await?;
        self.clear(&left)?;
        Ok(left)
    }

    /// Checks what a package stands on, keeps room for it and looks at what of it lies here.
    async fn begin(
        &self,
        from: &HospitalId,
        transfer: TransferId,
        offer: Offer,
    ) -> Result<(Left, Arriving), FolderError> {
        self.0.desk.voice.may_speak()?;
        let limits = self.0.rules;
        if !limits.is_on {
            return Err(Code::FoldersOff.into());
        }
        let claimed = Signed::<PackageHeader>::read(offer.header.as_ref()).map_err(|fault| fault.code())?;
        rules::parts(&offer.parts, claimed.claim())?;
        let release = offer.release.ok_or(Code::EvidenceMissing)?;
        self.0.desk.current().federation().check_edition(release.as_ref())?;
        let bytes = offer.parts.bytes();
        if bytes > limits.share_bytes() {
            return Err(Code::FolderTooLarge.into());
        }
        let free = self.0.blobs.free_bytes()?;
        for content in [Some(offer.quote), Some(offer.consent), offer.final_quote, Some(offer.header)]
            .into_iter()
            .flatten()
        {
            self.take(from, None, content.0).await?;
        }

        let names = self.0.names.lock().await;
        let (keys, current, now) = (self.0.desk.keys.clone(), self.0.desk.current(), self.0.desk.now());
        let (source, attempt, parts) = (from.clone(), claimed.claim().attempt, offer.parts.clone());
        let left = self
            .0
            .desk
            .store
            .write(move |txn| -> Result<Left, FolderError> {
                let context = Context { federation: current.federation(), verifier: &Remembered };
                let mut dossier = Dossier::of(txn, &keys, transfer);
                let header = dossier.header(attempt, context)?;
                if header.source != source {
                    return Err(Code::WrongSigner.into());
                }
                rules::parts(&parts, &header)?;
                rules::key_release(release.as_ref(), &header, context)?;
                if dossier.get(Kind::KeyRelease.of(attempt))?.is_some() {
                    return Err(Code::OutOfOrder.into());
                }
                let consent = dossier.consent(context)?;
                let left = Left {
                    transfer,
                    attempt,
                    source: source.clone(),
                    destination: header.destination.clone(),
                    header: header.hash(),
                    bytes,
                    begun: now,
                    left: None,
                    expires: consent.expires.min(now.plus_ms(limits.keep_ms)),
                    release: release.clone(),
                    extensions: Extensions::default(),
                };
                standing::check(txn, &keys, &left, context, now)?;
                if let Some(known) = rows::again(txn, &keys, &left)? {
                    return if known.release == release { Ok(known) } else { Err(Code::Conflict.into()) };
                }
                has_room(txn, &keys, &limits, &left, free)?;
                rows::put(txn, &keys, &left)?;
                rows::put_parts(txn, &keys, &left, &parts)?;
                Ok(left)
            })
            .await?;
        // Named now: nobody sweeps what comes.
        drop(names);
        let folder = self.incoming(&left);
        let arriving = Arriving::find(&self.0.blobs, &folder, transfer, offer.parts).await?;
        Ok((left, arriving))
    }

    /// Everything lies here: from now on it waits for its destination; again changes nothing.
    async fn finish(&self, left: Left) -> Result<Left, FolderError> {
        let (keys, current, now) = (self.0.desk.keys.clone(), self.0.desk.current(), self.0.desk.now());
        self.0
            .desk
            .store
            .write(move |txn| {
                let context = Context { federation: current.federation(), verifier: &Remembered };
                // It may have been withdrawn, or have ended, while it came.
                standing::check(txn, &keys, &left, context, now)?;
                let mut left = rows::again(txn, &keys, &left)?.ok_or(Code::OutOfOrder)?;
                if left.left.is_none() {
                    left.left = Some(now);
                    rows::put(txn, &keys, &left)?;
                }
                Ok(left)
            })
            .await
    }

    /// Takes an artefact in as if a hospital had sent it.
    pub(super) async fn take(
        &self,
        sender: &HospitalId,
        to: Option<HospitalId>,
        content: Vec<u8>,
    ) -> Result<(), FolderError> {
        let desk = &self.0.desk;
        let intake = Intake {
            keys: desk.keys.clone(),
            book: desk.ledger.book().clone(),
            current: desk.current(),
            sender: sender.clone(),
            now: desk.now(),
        };
        let parcel = Parcel { to, content: content.into(), extensions: Extensions::default() };
        let seed = desk.random_32();
        let passed = desk.store.write(move |txn| intake.take(txn, &parcel, seed)).await?;
        for hospital in passed.to {
            self.0.courier.mail(hospital).await;
        }
        Ok(())
    }
}

/// Whether a folder has room: for the whole of it, for its source's share, and on the disk.
fn has_room(
    txn: &mut dyn Txn,
    keys: &KeyMaker,
    limits: &FolderRules,
    left: &Left,
    free: u64,
) -> Result<(), FolderError> {
    let kept = rows::of_hospital(txn, keys, &left.destination)?;
    let used = Used::of(kept.iter());
    let by_source = Used::of(kept.iter().filter(|other| other.source == left.source));
    let share = PACKAGES_MAX.saturating_mul(u64::from(limits.share_percent)) / 100;
    let is_full = used.bytes.saturating_add(left.bytes) > limits.quota_bytes
        || by_source.bytes.saturating_add(left.bytes) > limits.share_bytes()
        || used.packages >= PACKAGES_MAX
        || by_source.packages >= share;
    if is_full {
        return Err(Code::FolderFull.into());
    }
    // What has begun to arrive has its place on the disk, too.
    let arriving = rows::all(txn, keys)?.into_iter().filter(|other| other.left.is_none());
    let promised = arriving.fold(left.bytes, |sum, other| sum.saturating_add(other.bytes));
    if free.saturating_sub(promised) < limits.free_bytes {
        return Err(Code::FolderDiskFull.into());
    }
    Ok(())
}

/// What some packages take up.
#[derive(Default)]
struct Used {
    packages: u64,
    bytes: u64,
}

impl Used {
    fn of<'l>(packages: impl Iterator<Item = &'l Left>) -> Self {
        packages.fold(Self::default(), |used, left| Self {
            packages: used.packages.saturating_add(1),
            bytes: used.bytes.saturating_add(left.bytes),
        })
    }
}
