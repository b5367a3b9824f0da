//! What the index asks hospitals: what they hold of it, and to give it back. Every answer is bounded, and every wait.
//!
//! Invariant: of what a hospital says nothing counts but what the index signed, marked or sealed itself.

use std::time::Duration;

use handover_core::artefact::books::LedgerPage;
use handover_core::artefact::federation::Directory;
use handover_core::artefact::{Payload as _, Signed, peek_type};
use handover_core::codec::{self, Extensions, MAX_MESSAGE_BYTES};
use handover_core::message::{
    Answer, BooksBackAnswer, BooksBackQuestion, EvidenceAnswer, EvidencePlace, EvidenceQuestion, Request,
    Tally, Verb,
};
use handover_core::trust::{Federation, Gathering, Head, TrustError};
use handover_core::{Code, HospitalId, Party, Timestamp};
use handover_dossier::tally;
use handover_net::{Net, Route};
use handover_seal::Remembered;
use tokio::sync::{Mutex, Semaphore};
use tokio::time::timeout;

use crate::desk::Desk;
use crate::directory::Current;
use crate::ledger::TreeHead;

/// How long a hospital may take to answer one question.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);

/// What the index signed, as a hospital holds it.
pub(super) struct Signatures {
    /// A directory, if it is newer than the one in force, or has what that one would take back.
    pub(super) directory: Option<Federation>,
    /// Every log that was stated.
    pub(super) trees: Vec<TreeHead>,
}

/// How long the pieces of one directory may take to come, in all; the next try goes on from there.
const GATHER_LIMIT: Duration = Duration::from_secs(60);

/// What came of a directory that is not in force here, and the last that was whole: most hospitals hold the same.
#[derive(Default)]
pub(super) struct Found {
    gathering: Gathering,
    whole: Option<Federation>,
}

/// A way to one hospital.
pub(super) struct Asking<'a> {
    pub(super) desk: &'a Desk,
    pub(super) net: &'a Net,
    /// For so many questions at a time.
    pub(super) places: &'a Semaphore,
    /// For one directory at a time.
    pub(super) found: &'a Mutex<Found>,
    pub(super) hospital: &'a HospitalId,
}

impl Asking<'_> {
    async fn ask(&self, verb: Verb, items: Vec<Vec<u8>>) -> Result<Vec<Vec<u8>>, Code> {
        let _place = self.places.acquire().await.map_err(|_| Code::Internal)?;
        let current = self.desk.current();
        let known = current.federation().member(self.hospital);
        let addresses = known.map(|member| member.profile.addresses.clone()).unwrap_or_default();
        let route = Route { party: Party::Hospital(self.hospital.clone()), addresses };
        let asked = self.net.request(&route, Request::encode(verb, items));
        let answer = timeout(ANSWER_LIMIT, asked).await.map_err(|_| Code::TimedOut)?;
        match Answer::decode(&answer.map_err(|fault| fault.code())?) {
            // One of before does not know the question, and keeps nothing that would answer it.
            Err(Code::Malformed | Code::AccessDenied) => Ok(Vec::new()),
            answer => answer,
        }
    }

    async fn ask_one(&self, verb: Verb, item: Vec<u8>) -> Result<Option<Vec<u8>>, Code> {
        Ok(self.ask(verb, vec![item]).await?.into_iter().next())
    }

    /// What the index signed last, of what is held there.
    pub(super) async fn signatures(&self) -> Result<Signatures, Code> {
        let mut held = Signatures { directory: None, trees: Vec::new() };
        for item in self.ask(Verb::Newest, Vec::new()).await? {
            match peek_type(&item).map_err(|fault| fault.code())? {
                label if label == Directory::TYPE => self.directory(&mut held, &item).await?,
                label if label == LedgerPage::TYPE => self.page(&mut held, &item),
                _ => {}
            }
        }
        Ok(held)
    }

    /// One with another version is verified, however old it is: an order that two operators gave is never taken back.
    async fn directory(&self, held: &mut Signatures, envelope: &[u8]) -> Result<(), Code> {
        let mut found = self.found.lock().await;
        // What another gave back meanwhile may be in force.
        let (current, now) = (self.desk.current(), self.desk.now());
        if envelope == current.envelope() {
            return Ok(());
        }
        let verified = match Head::verify(envelope, &self.desk.seat.root, now, &Remembered) {
            Ok(head) => self.whole(head, &mut found, &current).await?,
            Err(fault) => Err(fault),
        };
        match verified {
            Ok(federation) => {
                let directory = federation.directory();
                held.trees.push(TreeHead { size: directory.log_size, root: directory.log_root });
                let follows = current.federation().succeeds(&federation, now);
                if !matches!(follows, Ok(_) | Err(Code::DirectoryExpired)) {
                    held.directory = Some(federation);
                }
            }
            // Signed by this index's next version, before it was restored with this one.
            Err(fault) if fault.code() == Code::NewerEdition => return Err(fault.code()),
            Err(fault) => {
                tracing::warn!(hospital = %self.hospital, %fault, "holds no directory of this index")
            }
        }
        Ok(())
    }

    /// Its directory with all pieces, verified.
    async fn whole(
        &self,
        head: Head,
        found: &mut Found,
        current: &Current,
    ) -> Result<Result<Federation, TrustError>, Code> {
        let Found { gathering, whole } = found;
        let known = whole.as_ref().unwrap_or_else(|| current.federation());
        if known.directory().envelope() == head.directory().envelope() {
            return Ok(Ok(known.clone()));
        }
        gathering.turn_to(&head, &known.digests());
        timeout(GATHER_LIMIT, self.fill(gathering)).await.map_err(|_| Code::TimedOut)??;
        let verified = head.complete(&gathering.pieces(), Some(known), &Remembered);
        if let Ok(federation) = &verified {
            *whole = Some(federation.clone());
        }
        Ok(verified)
    }

    /// Asks for the pieces that are missing until none is.
    async fn fill(&self, gathering: &mut Gathering) -> Result<(), Code> {
        loop {
            let missing = gathering.missing();
            if missing.is_empty() {
                return Ok(());
            }
            let digests = missing.iter().map(|digest| digest.as_bytes().to_vec()).collect();
            gathering.take(self.ask(Verb::DirectoryPieces, digests).await?)?;
        }
    }

    fn page(&self, held: &mut Signatures, envelope: &[u8]) {
        let own = self.desk.seat.authority.key;
        let page = Signed::<LedgerPage>::read(envelope).and_then(|page| page.verify(&own, &Remembered));
        match page {
            Ok(page) => held.trees.push(TreeHead { size: page.size, root: page.root }),
            Err(fault) => tracing::warn!(hospital = %self.hospital, %fault, "holds no page of this index"),
        }
    }

    /// The highest tally that it was told.
    pub(super) async fn tally(&self) -> Result<Option<Tally>, Code> {
        match self.ask(Verb::Tally, Vec::new()).await {
            Ok(items) => Ok(tally::of_answer(&items)),
            // One of before keeps none.
            Err(Code::OlderProgram) => Ok(None),
            Err(code) => Err(code),
        }
    }

    /// What is kept there of the log, from a sequence number on, if anything is.
    pub(super) async fn books(&self, from: u64) -> Result<Option<BooksBackAnswer>, Code> {
        let question = BooksBackQuestion { from, extensions: Extensions::default() };
        let Some(answer) = self.ask_one(Verb::BooksBack, codec::encode(&question)).await? else {
            return Ok(None);
        };
        let answer: BooksBackAnswer =
            codec::decode(&answer, MAX_MESSAGE_BYTES).map_err(|_| Code::Malformed)?;
        // Else it would go on for ever.
        if answer.next.is_some_and(|next| next <= from) { Err(Code::Malformed) } else { Ok(Some(answer)) }
    }

    /// What is kept there of its transfers, if anything is.
    pub(super) async fn evidence(
        &self,
        since: Timestamp,
        after: Option<EvidencePlace>,
    ) -> Result<Option<EvidenceAnswer>, Code> {
        let place = |it: &EvidencePlace| (it.transfer, it.given.unwrap_or(u32::MAX));
        let before = after.as_ref().map(place);
        let question = EvidenceQuestion { since, after, extensions: Extensions::default() };
        let Some(answer) = self.ask_one(Verb::Evidence, codec::encode(&question)).await? else {
            return Ok(None);
        };
        let answer: EvidenceAnswer =
            codec::decode(&answer, MAX_MESSAGE_BYTES).map_err(|_| Code::Malformed)?;
        let is_over = answer.next.as_ref().is_some_and(|next| Some(place(next)) <= before);
        if is_over { Err(Code::Malformed) } else { Ok(Some(answer)) }
    }
}
