//! Answers control messages: reads the verb, asks the room, gives its answer or its code.

use std::sync::Arc;

use handover_core::codec::{self, MAX_MESSAGE_BYTES};
use handover_core::message::{Answer, BooksQuestion, EvidenceQuestion, KeyRecords, Parcel, Request, Verb};
use handover_core::{Code, HospitalId, Party, Timestamp, TransferId};
use handover_dossier::{Between, tally};
use handover_net::Net;
use tokio::sync::Mutex;

use super::instruments::Instruments;
use crate::desk::Desk;
use crate::emergency;
use crate::folders::Folders;
use crate::ledger::BooksError;
use crate::locator::{self, LocatorError};
use crate::registry::{self, Claim, RegistryError};
use crate::rejoin::Rejoin;
use crate::routing::{Courier, Intake, RoutingError};
use crate::statements;

/// Parcels of one message.
const MAX_PARCELS: usize = 64;
/// The most bytes of a question for evidence.
const QUESTION_MAX_BYTES: usize = 1024;

/// What answering needs.
#[derive(Clone)]
pub(super) struct Desks {
    pub(super) desk: Desk,
    pub(super) courier: Courier,
    pub(super) folders: Folders,
    pub(super) net: Net,
    pub(super) instruments: Instruments,
    /// When the last page of the books was dated.
    pub(super) pages: Arc<Mutex<Option<Timestamp>>>,
    pub(super) rejoin: Rejoin,
}

type Items = Result<Vec<Vec<u8>>, Code>;

/// Only hospitals that were admitted on their connection.
fn hospital(party: Option<Party>) -> Result<HospitalId, Code> {
    match party {
        Some(Party::Hospital(hospital)) => Ok(hospital),
        _ => Err(Code::NotAdmitted),
    }
}

impl Desks {
    /// Answers one message.
    pub(super) async fn answer(&self, party: Option<Party>, body: &[u8]) -> Vec<u8> {
        let (verb, outcome) = match Request::decode(body) {
            Err(code) => ("none", Err(code)),
            Ok(request) => (request.verb.as_str(), self.perform(party, request).await),
        };
        let word = outcome.as_ref().map_or_else(|code| code.as_str(), |_| "ok");
        self.instruments.requests.inc([verb, word]);
        tracing::debug!(verb, outcome = word, "answered");
        Answer::encode(outcome)
    }

    async fn perform(&self, party: Option<Party>, request: Request) -> Items {
        let current = self.desk.current();
        request.items.iter().try_for_each(|item| current.federation().check_edition(item.as_ref()))?;
        match request.verb {
            Verb::Enrol => self.enrol(request).await,
            Verb::Prove => self.prove(request).await,
            // The directory is public: a hospital that is not admitted yet, or no longer, sees by it where it stands.
            Verb::Directory => {
                let held = <[u8; 8]>::try_from(request.only_item()?).map_err(|_| Code::Malformed)?;
                let held = u64::from_be_bytes(held);
                // A member may hold what is not known here.
                if held > 0 && matches!(party, Some(Party::Hospital(_))) {
                    self.compared(party).await?;
                }
                Ok(self.directory(held))
            }
            Verb::DirectoryPieces => Ok(current.federation().pieces(&request.digests()?)),
            Verb::Deliver => self.deliver(self.compared(party).await?, request).await,
            Verb::Locate => self.locate(self.compared(party).await?, request).await,
            Verb::Link => self.link(hospital(party)?, request).await,
            Verb::Keys => self.keys(hospital(party)?, request).await,
            Verb::Withdraw => self.withdraw(self.compared(party).await?, &request).await,
            // Between hospitals only: the index need not know who looks for old records.
            Verb::RemoteLink | Verb::BreakGlassPart | Verb::BooksBack => Err(Code::AccessDenied),
            Verb::BreakGlass => self.emergency(hospital(party)?, request).await,
            Verb::Books => self.books(self.compared(party).await?, &request).await,
            Verb::Newest => self.newest(self.compared(party).await?, &request).await,
            Verb::Tally => self.tally(self.compared(party).await?, &request).await,
            Verb::Evidence => self.evidence(self.compared(party).await?, &request).await,
        }
    }

    /// The same, once it was asked what it holds of the index: a store that was rolled back serves nobody.
    async fn compared(&self, party: Option<Party>) -> Result<HospitalId, Code> {
        let hospital = hospital(party)?;
        self.rejoin.may_serve(&hospital).await?;
        Ok(hospital)
    }

    /// Whoever was suspended may see what its books say, too.
    async fn books(&self, sender: HospitalId, request: &Request) -> Items {
        let question: BooksQuestion =
            codec::decode(request.only_item()?, MAX_MESSAGE_BYTES).map_err(|_| Code::Malformed)?;
        let (book, keys) = (self.desk.ledger.book().clone(), self.desk.keys.clone());
        self.note_copy(&sender, question.from).await.map_err(|fault| logged(fault.code(), &fault))?;
        let (seat, random) = (self.desk.seat.clone(), self.desk.edge.random);
        // One after the other, and none dated before the last one: of two pages the later is never of a shorter log,
        // which would be taken for a proof that it was cut.
        let mut last = self.pages.lock().await;
        let now = self.desk.now();
        let now = last.map_or(now, |last| last.max(now));
        let told = sender.clone();
        let read = self.desk.store.read(move |txn| {
            statements::answer(txn, (&keys, &book), &sender, &question, &seat, (now, &mut *random()))
        });
        let (answer, size) = read.await.map_err(|fault: BooksError| logged(fault.code(), &fault))?;
        // Whatever becomes of the answer, no smaller log is stated to it from now on.
        self.desk.ledger.note_told(&told, size).await.map_err(|fault| logged(fault.code(), &fault))?;
        *last = Some(now);
        Ok(vec![answer])
    }

    /// Who asks from a sequence number on holds what is before it.
    async fn note_copy(&self, by: &HospitalId, until: u64) -> Result<(), BooksError> {
        let (book, hospital) = (self.desk.ledger.book().clone(), by.clone());
        if !self.desk.store.read(move |txn| book.is_copy_new(txn, &hospital, until)).await? {
            return Ok(());
        }
        let (book, hospital) = (self.desk.ledger.book().clone(), by.clone());
        self.desk.store.write(move |txn| book.put_copy(txn, &hospital, until)).await
    }

    /// What a hospital signed last, of what is held here: whoever does not know it has lost something.
    async fn newest(&self, sender: HospitalId, request: &Request) -> Items {
        request.no_item()?;
        let keys = self.desk.keys.clone();
        let newest =
            self.desk.store.read(move |txn| handover_dossier::newest_signed(txn, &keys, &sender)).await;
        Ok(newest.map_err(|fault| logged(fault.code(), &fault))?.into_iter().collect())
    }

    /// The transfers that a hospital takes part in, for it to take back what it has lost. Whoever was suspended may
    /// have its own back, too.
    async fn evidence(&self, sender: HospitalId, request: &Request) -> Items {
        let question: EvidenceQuestion =
            codec::decode(request.only_item()?, QUESTION_MAX_BYTES).map_err(|_| Code::Malformed)?;
        let keys = self.desk.keys.clone();
        let answer = self
            .desk
            .store
            .read(move |txn| handover_dossier::evidence(txn, &keys, Between::all_of(&sender), &question))
            .await;
        Ok(vec![codec::encode(&answer.map_err(|fault| logged(fault.code(), &fault))?)])
    }

    async fn enrol(&self, request: Request) -> Items {
        let now = self.desk.now();
        let claim = Claim::read(&request.items, now).map_err(refused)?;
        self.desk.current().federation().check_edition(claim.profile())?;
        let secret = self.desk.random_32();
        let wrapped =
            claim.rsa_key().wrap(&secret, &mut *(self.desk.edge.random)()).map_err(|fault| fault.code())?;
        let keys = self.desk.keys.clone();
        let answer = self
            .desk
            .change(move |txn| registry::enrol(txn, &keys, &claim, &secret, &wrapped, now))
            .await
            .map_err(refused)?;
        Ok(vec![answer])
    }

    async fn prove(&self, request: Request) -> Items {
        let (keys, now) = (self.desk.keys.clone(), self.desk.now());
        let proof = request.only_item()?.to_vec();
        self.desk
            .change(move |txn| Ok(((), registry::prove(txn, &keys, &proof, now)?)))
            .await
            .map_err(refused)?;
        Ok(Vec::new())
    }

    fn directory(&self, held: u64) -> Vec<Vec<u8>> {
        let current = self.desk.current();
        if current.version() <= held { Vec::new() } else { vec![current.envelope().to_vec()] }
    }

    async fn deliver(&self, sender: HospitalId, request: Request) -> Items {
        if request.items.len() > MAX_PARCELS {
            return Err(Code::TooLarge);
        }
        let intake = Intake {
            keys: self.desk.keys.clone(),
            book: self.desk.ledger.book().clone(),
            current: self.desk.current(),
            sender,
            now: self.desk.now(),
        };
        let mut tally = None;
        for item in &request.items {
            let parcel: Parcel =
                codec::decode(item.as_ref(), MAX_MESSAGE_BYTES).map_err(|_| Code::Malformed)?;
            let (parcel, taking, seed) = (Arc::new(parcel), intake.clone(), self.desk.random_32());
            let came = Arc::clone(&parcel);
            // Each by itself: what was taken stays taken, and the sender repeats the rest.
            let taken = self.desk.store.write(move |txn| taking.take(txn, &came, seed)).await;
            let passed = match taken {
                Ok(passed) => passed,
                Err(fault) => {
                    let fault: RoutingError = fault;
                    let code = logged(fault.code(), &fault);
                    self.incident(intake.clone(), parcel, code).await?;
                    return Err(code);
                }
            };
            self.instruments.parcels.inc([if passed.is_new { "new" } else { "repeated" }]);
            self.ring(passed.to).await;
            tally = Some(passed.tally);
            if let Some(destination) = passed.destination.filter(|_| passed.is_new) {
                self.folders.changed(destination);
            }
        }
        Ok(tally.iter().map(codec::encode).collect())
    }

    /// How much a hospital said to have taken from here.
    async fn tally(&self, sender: HospitalId, request: &Request) -> Items {
        request.no_item()?;
        let (keys, by) = (self.desk.keys.clone(), Party::Hospital(sender));
        let kept = self.desk.store.read(move |txn| tally::kept(txn, &keys, &by)).await;
        Ok(kept.map_err(|fault| logged(fault.code(), &fault))?.iter().map(codec::encode).collect())
    }

    /// Keeps what was refused, if it proves something against the hospital that signed it.
    async fn incident(&self, intake: Intake, parcel: Arc<Parcel>, code: Code) -> Result<(), Code> {
        let noted = self.desk.store.write(move |txn| intake.note(txn, &parcel, code)).await;
        if let Some(incident) = noted.map_err(|fault| logged(fault.code(), &fault))? {
            tracing::error!(
                by = %incident.by, artefact = %incident.artefact, %code, incident = %incident.id,
                "a hospital signed what it may not sign; it is kept as an incident"
            );
        }
        Ok(())
    }

    async fn withdraw(&self, sender: HospitalId, request: &Request) -> Items {
        let [transfer, attempt] = request.items.as_slice() else { return Err(Code::Malformed) };
        let transfer = TransferId::try_from(transfer.as_ref()).map_err(|_| Code::Malformed)?;
        let attempt = <[u8; 4]>::try_from(attempt.as_ref()).map_err(|_| Code::Malformed)?;
        let outcome = self.folders.withdraw(&sender, transfer, u32::from_be_bytes(attempt)).await;
        outcome.map_err(|fault| logged(fault.code(), &fault))
    }

    async fn locate(&self, sender: HospitalId, request: Request) -> Items {
        let (current, keys, now) = (self.desk.current(), self.desk.keys.clone(), self.desk.now());
        current.federation().active(&sender, now)?;
        let ask = request.only_item()?.to_vec();
        let random = self.desk.edge.random;
        let located = self.desk.store.write(move |txn| {
            locator::locate(txn, &keys, &ask, &sender, current.federation(), now, &mut *random())
        });
        let (answer, told) = located.await.map_err(|fault: LocatorError| logged(fault.code(), &fault))?;
        self.ring(told).await;
        Ok(vec![answer])
    }

    async fn link(&self, sender: HospitalId, request: Request) -> Items {
        let (current, keys, now) = (self.desk.current(), self.desk.keys.clone(), self.desk.now());
        current.federation().active(&sender, now)?;
        let link = request.only_item()?.to_vec();
        let checked = locator::check(&link, &sender, current.federation());
        checked.map_err(|fault| logged(fault.code(), &fault))?;
        let linked = self
            .desk
            .store
            .write(move |txn| locator::link(txn, &keys, &link, &sender, current.federation(), now));
        self.ring(linked.await.map_err(|fault: LocatorError| logged(fault.code(), &fault))?).await;
        Ok(Vec::new())
    }

    async fn keys(&self, sender: HospitalId, request: Request) -> Items {
        let (keys, now) = (self.desk.keys.clone(), self.desk.now());
        let current = self.desk.current();
        current.federation().active(&sender, now)?;
        let records = request.only_item()?.to_vec();
        let known: KeyRecords = codec::decode(&records, MAX_MESSAGE_BYTES).map_err(|_| Code::Malformed)?;
        known.records.iter().try_for_each(|it| current.federation().check_edition(it.as_ref()))?;
        let taken = self.desk.store.write(move |txn| locator::take_keys(txn, &keys, &records, &sender, now));
        let (better, told) = taken.await.map_err(|fault: LocatorError| logged(fault.code(), &fault))?;
        self.ring(told).await;
        Ok(better.into_iter().collect())
    }

    async fn emergency(&self, sender: HospitalId, request: Request) -> Items {
        let (current, keys, now) = (self.desk.current(), self.desk.keys.clone(), self.desk.now());
        let note = request.only_item()?.to_vec();
        let taken = self
            .desk
            .store
            .write(move |txn| emergency::take(txn, &keys, &note, &sender, current.federation(), now));
        taken.await.map_err(|fault: LocatorError| logged(fault.code(), &fault))
    }

    /// Something is new for these hospitals.
    async fn ring(&self, hospitals: Vec<HospitalId>) {
        for hospital in hospitals {
            self.courier.mail(hospital).await;
        }
    }
}

fn refused(fault: RegistryError) -> Code {
    logged(fault.code(), &fault)
}

/// The detail goes to the log only; these errors hold no artefact's content.
fn logged(code: Code, fault: &dyn std::error::Error) -> Code {
    tracing::info!(%code, %fault, "refused");
    code
}
