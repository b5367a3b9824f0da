//! What patients' wallets want of a node: who it is, who holds their records, what is there for them, and taking in
//! what they signed.

use handover_core::artefact::federation::{PIECES_MAX, WholeDirectory};
use handover_core::artefact::patient::{Ask, AskKind, Consent, PatientRefusal, ShareRelease};
use handover_core::artefact::{Payload, Verified, peek_type};
use handover_core::codec::{self, Bytes, Extensions, MAX_MESSAGE_BYTES};
use handover_core::message::{
    Answer, BreakGlassNotice, HospitalInfo, INBOX_INFO, Inbox, InboxItem, PiecesAnswer, PiecesQuestion,
    Request, Verb,
};
use handover_core::rules;
use handover_core::{Code, KeyChain, PatientRef};
use handover_dossier::{Dossier, DossierError, Kind, Row};
use handover_seal::{OsRandom, Remembered, hpke_seal_padded};

use crate::context::Came;
use crate::{Exchange, ExchangeError, glass, inboxes, key_records, recalls};

impl Exchange {
    /// Which hospital this is, with the head of the directory that proves it.
    ///
    /// # Errors
    /// [`Code::DirectoryExpired`] before the first directory came.
    pub fn hospital_info(&self) -> Result<Vec<u8>, ExchangeError> {
        self.info_with(self.0.federation()?.part([]))
    }

    /// The same for a file, with the whole directory.
    ///
    /// # Errors
    /// As [`Self::hospital_info`].
    pub fn hospital_info_file(&self) -> Result<Vec<u8>, ExchangeError> {
        self.info_with(self.0.federation()?.whole())
    }

    /// Of the newest directory's pieces, those that are asked for.
    ///
    /// # Errors
    /// [`Code::Malformed`], [`Code::TooLarge`] for more than a directory has; as [`Self::hospital_info`].
    pub fn directory_pieces(&self, question: &[u8]) -> Result<Vec<u8>, ExchangeError> {
        let question: PiecesQuestion = codec::decode(question, MAX_MESSAGE_BYTES)?;
        if question.digests.len() > PIECES_MAX {
            return Err(Code::TooLarge.into());
        }
        let pieces = self.0.federation()?.pieces(&question.digests.into_iter().collect());
        let pieces = pieces.into_iter().map(Bytes).collect();
        Ok(codec::encode(&PiecesAnswer { pieces, extensions: Extensions::default() }))
    }

    fn info_with(&self, directory: WholeDirectory) -> Result<Vec<u8>, ExchangeError> {
        Ok(codec::encode(&HospitalInfo {
            directory,
            hospital: self.0.own().clone(),
            extensions: Extensions::default(),
        }))
    }

    /// Passes a patient's question on to the index; the answer is sealed to the patient.
    ///
    /// # Errors
    /// Why the question is none; [`Code::Unreachable`] without the index.
    pub async fn locate(&self, ask: Vec<u8>) -> Result<Vec<u8>, ExchangeError> {
        let checked = rules::ask(&ask, AskKind::Locate, &Remembered)?;
        rules::ask_in_time(&checked, self.0.now())?;
        self.admit_keys(KeyChain::of(&checked.key_records, &checked.patient, &Remembered)?).await?;
        let net = self.0.net.get().ok_or(Code::Unreachable)?;
        let answer = net.request(&self.0.route_to_index(), Request::encode(Verb::Locate, vec![ask])).await?;
        Answer::decode(&answer)?.into_iter().next().ok_or_else(|| Code::Malformed.into())
    }

    /// A patient's newest transfers here, sealed to them.
    ///
    /// # Errors
    /// [`Code::NotLinked`]; why the question is none.
    pub async fn inbox(&self, ask: Vec<u8>) -> Result<Vec<u8>, ExchangeError> {
        let ask = self.inbox_ask(&ask)?;
        let keys = KeyChain::of(&ask.key_records, &ask.patient, &Remembered)?;
        self.admit_keys(keys.clone()).await?;
        let inbox = Inbox {
            items: self.items(ask.patient).await?,
            broken: self.notices(ask.patient).await?,
            extensions: Extensions::default(),
        };
        let plain = codec::encode(&inbox);
        let newest = &keys.newest().sealing_key;
        Ok(hpke_seal_padded(newest, INBOX_INFO, ask.hash().as_bytes(), &plain, &mut OsRandom)?)
    }

    fn inbox_ask(&self, ask: &[u8]) -> Result<Verified<Ask>, ExchangeError> {
        let ask = rules::ask(ask, AskKind::Inbox, &Remembered)?;
        rules::ask_in_time(&ask, self.0.now())?;
        if ask.destination.as_ref() != Some(self.0.own()) {
            return Err(Code::AskMismatch.into());
        }
        Ok(ask)
    }

    async fn items(&self, patient: PatientRef) -> Result<Vec<InboxItem>, ExchangeError> {
        self.0.parts.records.by_ref(patient).await?.ok_or(Code::NotLinked)?;
        let keys = self.0.keys();
        let store = &self.0.parts.store;
        let newest = store.read(move |txn| inboxes::newest(txn, &keys, patient)).await?;
        let mut items = Vec::with_capacity(newest.len());
        for transfer in newest {
            items.push(self.item(self.0.row(transfer).await?).await?);
        }
        Ok(items)
    }

    /// Under which break-glasses their records were opened.
    async fn notices(&self, patient: PatientRef) -> Result<Vec<BreakGlassNotice>, ExchangeError> {
        let linked = self.0.parts.records.by_ref(patient).await?.ok_or(Code::NotLinked)?;
        glass::notices(&self.0, &linked.patient).await
    }

    async fn item(&self, row: Row) -> Result<InboxItem, ExchangeError> {
        let keys = self.0.keys();
        // What is damaged of a recall keeps no quote from its patient.
        let recalls = recalls::notices(&self.0, row.transfer).await.unwrap_or_else(|fault| {
            tracing::error!(transfer = %row.transfer, code = %fault.code(), "a patient is not told of recalls");
            Vec::new()
        });
        Ok(self
            .0
            .parts
            .store
            .read(move |txn| -> Result<_, DossierError> {
                let mut dossier = Dossier::of(txn, &keys, row.transfer);
                let asked = dossier.attempts_with(Kind::NextAttempt)?.pop();
                let asked = asked.map(|attempt| dossier.get(Kind::NextAttempt.of(attempt))).transpose()?;
                let origin_quote = dossier.get(Kind::OriginQuote)?.map(Bytes);
                let mut envelope = |kind: Kind| dossier.get(kind).map(|found| found.map(Bytes));
                Ok(InboxItem {
                    transfer: row.transfer,
                    state: row.state.clone(),
                    source: row.source.clone(),
                    destination: row.destination.clone(),
                    request: envelope(Kind::Request)?,
                    quote: envelope(Kind::Quote)?,
                    final_quote: envelope(Kind::FinalQuote)?,
                    consent: envelope(Kind::Consent)?,
                    confirmations: [
                        envelope(Kind::ConfirmedBySource)?,
                        envelope(Kind::ConfirmedByDestination)?,
                    ]
                    .into_iter()
                    .flatten()
                    .collect(),
                    updated: row.updated,
                    next_attempt: asked.flatten().map(Bytes),
                    continues: row.origin,
                    origin_quote,
                    recalls: recalls.clone(),
                    extensions: Extensions::default(),
                })
            })
            .await?)
    }

    /// Takes in what a patient signed: an ask for a transfer to here, a consent, a release, a refusal, a revocation,
    /// new keys.
    ///
    /// # Errors
    /// Why it is not taken.
    pub async fn patient_artefact(&self, content: Vec<u8>) -> Result<(), ExchangeError> {
        // A bare revocation has no type.
        let label = peek_type(&content).ok();
        match label.as_deref() {
            Some(Ask::TYPE) => {
                self.take_ask(content).await?;
                return Ok(());
            }
            // Nor have key records, which hold the types of what they list.
            None if let Ok(chain) = key_records::read(&content) => return self.take_keys(chain).await,
            None | Some(Consent::TYPE | ShareRelease::TYPE | PatientRefusal::TYPE) => {}
            Some(_) => return Err(Code::AccessDenied.into()),
        }
        self.0.take(content, Came::Patient).await?;
        Ok(())
    }
}
