//! What a wallet remembers, as it lies (encrypted) in the file. Secrets are not in here: see [`crate::Wallet`].

use handover_core::artefact::federation::WholeDirectory;
use handover_core::artefact::patient::{Ask, Consent, ConsentDetails, ShareRelease};
use handover_core::artefact::remote::{RemoteLinkDetails, RemoteLinkRequest, RemoteLinkState};
use handover_core::artefact::transfer::{NextAttempt, Quote};
use handover_core::artefact::{ArtefactError, Signed, Verified};
use handover_core::codec::{self, Bytes, MAX_MESSAGE_BYTES};
use handover_core::id::{SealingPublic, SigningPublic};
use handover_core::transfer::State;
use handover_core::{Code, Digest, HospitalId, Timestamp, TransferId, cbor_map, rules};
use handover_seal::Remembered;

use crate::{PatientKeys, WalletError};

cbor_map! {
    /// A node that the patient trusts to be reached by a URL.
    pub struct KnownNode {
        /// `https://…`, without a slash at the end.
        1 => url: String,
        /// The TLS certificate to trust there, PEM.
        2 => certificate: String,
    }
}

cbor_map! {
    /// A link to a hospital.
    pub struct KnownLink {
        /// The hospital.
        1 => hospital: HospitalId,
        /// `PatientLink` as the patient signed it.
        2 => signed: Bytes,
        /// The same, countersigned.
        3 => countersigned: Option<Bytes>,
        /// When the index was last asked and named it.
        4 => named: Option<Timestamp>,
        /// When whoever answers for the hospital said that there is no link any more, if nothing else was said since.
        5 => ended: Option<Timestamp>,
        /// When the countersigned link came.
        6 => linked: Option<Timestamp>,
    }
}

cbor_map! {
    /// A request for a remote link.
    pub struct KnownRemoteLink {
        /// The old hospital.
        1 => hospital: HospitalId,
        /// `RemoteLinkRequest` as the patient signed it.
        2 => request: Bytes,
        /// `RemoteLinkDetails`.
        3 => details: Bytes,
        /// How far it was when a hospital told last.
        4 => state: RemoteLinkState,
        /// Why not, if somebody said no.
        5 => reason: Option<Code>,
    }
}

cbor_map! {
    /// A transfer.
    pub struct KnownTransfer {
        /// The transfer.
        1 => transfer: TransferId,
        /// Who holds the records.
        2 => source: HospitalId,
        /// Who gets them.
        3 => destination: HospitalId,
        /// Thumbprint of the source's signing key when the patient asked.
        4 => source_key: Digest,
        /// Thumbprint of the destination's signing key when the patient asked.
        5 => destination_key: Digest,
        /// `Ask`.
        6 => ask: Bytes,
        /// `TransferRequest`, verified when it came.
        7 => request: Option<Bytes>,
        /// `Quote`, verified when it came.
        8 => quote: Option<Bytes>,
        /// `ConsentDetails`.
        9 => details: Option<Bytes>,
        /// `Consent`.
        10 => consent: Option<Bytes>,
        /// The newest `ShareRelease`.
        11 => release: Option<Bytes>,
        /// `PatientRefusal`.
        12 => refusal: Option<Bytes>,
        /// When the patient took the consent back.
        13 => revoked: Option<Timestamp>,
        /// The state that a hospital told last.
        14 => state: Option<State>,
        /// When that was.
        15 => seen: Option<Timestamp>,
        /// The newest `NextAttempt`, verified when it came.
        16 => next_attempt: Option<Bytes>,
    }
}

cbor_map! {
    /// Everything that is remembered beside secrets.
    pub struct WalletState {
        /// The patient's key records, the first to this device's.
        1 => key_records: Vec<Bytes>,
        /// The federation's root.
        2 => root: SigningPublic,
        /// The newest directory that verified.
        3 => directory: Option<WholeDirectory>,
        /// Nodes, by URL.
        4 => nodes: Vec<KnownNode>,
        /// Links, by hospital.
        5 => links: Vec<KnownLink>,
        /// Transfers, in the order of their identifiers.
        6 => transfers: Vec<KnownTransfer>,
        /// Why a hospital takes nothing of this device any more: another has replaced it.
        7 => replaced: Option<Code>,
        /// The newest request for a remote link to each hospital.
        50 => remote_links: Vec<KnownRemoteLink>,
    }
}

cbor_map! {
    /// A wallet file as it lies.
    pub struct SealedWallet {
        /// Format, 1.
        1 => format: u8,
        /// Key file that holds the wallet's key.
        2 => key: Bytes,
        /// The wallet, sealed under that key and bound to the key file.
        3 => cell: Bytes,
    }
}

impl KnownRemoteLink {
    /// The request.
    ///
    /// # Errors
    /// [`WalletError::Rule`] if it is none.
    pub fn request(&self) -> Result<Verified<RemoteLinkRequest>, WalletError> {
        let vouching = Signed::<RemoteLinkRequest>::read(self.request.as_ref())?.claim().vouching.clone();
        rules::remote_link_claim(self.request.as_ref(), &vouching, &Remembered)
            .map_err(WalletError::rule("the request for a remote link"))
    }

    /// Who the patient said to be.
    ///
    /// # Errors
    /// [`WalletError::Decode`].
    pub fn details(&self) -> Result<RemoteLinkDetails, WalletError> {
        Ok(codec::decode(self.details.as_ref(), MAX_MESSAGE_BYTES)?)
    }
}

impl KnownTransfer {
    /// Whether this device asked for it. Quotes for another's cannot be opened here, nor answered.
    #[must_use]
    pub fn is_asked_by(&self, keys: &PatientKeys) -> bool {
        Signed::<Ask>::read(self.ask.as_ref()).is_ok_and(|ask| ask.claim().key_records == keys.records())
    }

    /// The consent, if one was signed, with this device or one before it.
    ///
    /// # Errors
    /// [`WalletError::Artefact`] if it is not the patient's.
    pub fn consent(&self, keys: &PatientKeys) -> Result<Option<Verified<Consent>>, WalletError> {
        let Some(envelope) = &self.consent else { return Ok(None) };
        let consent = Signed::<Consent>::read(envelope.as_ref())?;
        let key = keys.own_key(consent.kid()).ok_or(ArtefactError::WrongKey)?;
        Ok(Some(consent.verify(&key, &Remembered)?))
    }

    /// What the destination asked last for another attempt with, if it did.
    ///
    /// # Errors
    /// [`WalletError::Artefact`].
    pub fn next_attempt(&self) -> Result<Option<NextAttempt>, WalletError> {
        let read = |envelope: &Bytes| Signed::<NextAttempt>::read(envelope.as_ref());
        Ok(self.next_attempt.as_ref().map(read).transpose()?.map(|next| next.claim().clone()))
    }

    /// The key that the destination asks the patient to release to, by now; none before a quote came.
    ///
    /// # Errors
    /// [`WalletError::Artefact`].
    pub fn request_key(&self) -> Result<Option<SealingPublic>, WalletError> {
        if let Some(next) = self.next_attempt()? {
            return Ok(Some(next.request_key));
        }
        let read = |envelope: &Bytes| Signed::<Quote>::read(envelope.as_ref());
        Ok(self.quote.as_ref().map(read).transpose()?.map(|quote| quote.claim().request_key))
    }

    /// The release to that key, if it was signed.
    ///
    /// # Errors
    /// [`WalletError::Artefact`].
    pub fn release(&self) -> Result<Option<&Bytes>, WalletError> {
        let Some(envelope) = &self.release else { return Ok(None) };
        let released_to = Signed::<ShareRelease>::read(envelope.as_ref())?.claim().request_key;
        Ok(Some(envelope).filter(|_| self.request_key().is_ok_and(|asked| asked == Some(released_to))))
    }

    /// What only the two hospitals read of the consent.
    ///
    /// # Errors
    /// [`WalletError::Decode`].
    pub fn details(&self) -> Result<Option<ConsentDetails>, WalletError> {
        let Some(encoded) = &self.details else { return Ok(None) };
        Ok(Some(codec::decode(encoded.as_ref(), MAX_MESSAGE_BYTES)?))
    }
}
