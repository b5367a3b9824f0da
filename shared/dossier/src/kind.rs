//! The places in a dossier, one for each artefact that a transfer can have. What belongs to an attempt has one in each.

use handover_core::artefact::patient::{Consent, PatientRefusal, Revocation, ShareRelease};
use handover_core::artefact::recall::{RECALLS_MAX, Recall, RecallConfirmed};
use handover_core::artefact::transfer::{
    Delivered, FeeAcceptance, KeyRelease, NextAttempt, PackageHeader, Quote, Receipt, Refusal,
    RevocationConfirmed, TransferRequest,
};
use handover_core::artefact::{Payload, Signed, peek_type};
use handover_core::codec::{self, MAX_MESSAGE_BYTES};
use handover_core::transfer::{FIRST_ATTEMPT, LAST_ATTEMPT};
use handover_core::{Code, cbor_enum};

cbor_enum! {
    /// What can lie in a dossier.
    pub enum Kind {
        /// `TransferRequest`.
        Request = 1, "request";
        /// The first `Quote`.
        Quote = 2, "quote";
        /// `Consent`.
        Consent = 3, "consent";
        /// The final `Quote`, if the consent narrows.
        FinalQuote = 4, "final-quote";
        /// `PackageHeader`.
        Header = 5, "header";
        /// `Delivered`.
        Delivered = 6, "delivered";
        /// `KeyRelease`.
        KeyRelease = 7, "key-release";
        /// `ShareRelease`.
        ShareRelease = 8, "share-release";
        /// `Receipt`.
        Receipt = 9, "receipt";
        /// A hospital's `Refusal`.
        Refusal = 10, "refusal";
        /// The patient's refusal.
        PatientRefusal = 11, "patient-refusal";
        /// `Revocation`.
        Revocation = 12, "revocation";
        /// The source's `RevocationConfirmed`.
        ConfirmedBySource = 13, "confirmed-by-source";
        /// The destination's `RevocationConfirmed`.
        ConfirmedByDestination = 14, "confirmed-by-destination";
        /// A `Revocation` that came before the consent, which alone can tell whether it is one.
        EarlyRevocation = 15, "early-revocation";
        /// `NextAttempt`.
        NextAttempt = 16, "next-attempt";
        /// `FeeAcceptance`, if the destination owes the fee.
        FeeAcceptance = 17, "fee-acceptance";
        /// In a delivery: the quote that the consent answered, of the transfer that it continues.
        OriginQuote = 40, "origin-quote";
        /// In a delivery: a `NextAttempt` of the transfer that it continues, which may have brought the key that the
        /// patient released to.
        OriginNextAttempt = 41, "origin-next-attempt";
        /// `Recall`.
        Recall = 45, "recall";
        /// The destination's `RecallConfirmed`.
        RecallConfirmed = 46, "recall-confirmed";
    }
}

/// A place in a dossier.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// What lies there.
    pub kind: Kind,
    /// Of which attempt; 0 for what the whole transfer has once. A `ShareRelease` lies with the attempt that brought
    /// the key it is sealed to, a recall and its confirmation under the recall's number.
    pub attempt: u32,
}

impl From<Kind> for Place {
    fn from(kind: Kind) -> Self {
        Self { kind, attempt: 0 }
    }
}

impl Kind {
    /// Its place in an attempt.
    #[must_use]
    pub const fn of(self, attempt: u32) -> Place {
        Place { kind: self, attempt }
    }

    const fn is_of_attempt(self) -> bool {
        matches!(
            self,
            Self::Header
                | Self::Delivered
                | Self::KeyRelease
                | Self::ShareRelease
                | Self::Receipt
                | Self::NextAttempt
                | Self::OriginNextAttempt
        )
    }

    /// What lies with the transfer that a delivery continues and counts for the delivery too: there, of which kind.
    pub(crate) const fn of_origin(self) -> Option<Self> {
        match self {
            Self::Request
            | Self::Consent
            | Self::ShareRelease
            | Self::Revocation
            | Self::ConfirmedBySource
            | Self::ConfirmedByDestination => Some(self),
            Self::OriginQuote => Some(Self::Quote),
            Self::OriginNextAttempt => Some(Self::NextAttempt),
            _ => None,
        }
    }

    /// Whether a transfer can have many, numbered from 1 without a gap.
    pub(crate) const fn is_numbered(self) -> bool {
        matches!(self, Self::Recall | Self::RecallConfirmed)
    }

    /// All its places, by attempt or number.
    pub fn places(self) -> impl Iterator<Item = Place> {
        let attempts = if self.is_of_attempt() {
            FIRST_ATTEMPT..=LAST_ATTEMPT
        } else if self.is_numbered() {
            1..=RECALLS_MAX
        } else {
            0..=0
        };
        attempts.map(move |attempt| self.of(attempt))
    }
}

/// A content that claims to be a transfer's, read far enough to know which; nothing is verified.
pub(crate) enum Claimed {
    Request(Signed<TransferRequest>),
    Quote(Signed<Quote>),
    FeeAcceptance(Signed<FeeAcceptance>),
    Consent(Signed<Consent>),
    Header(Signed<PackageHeader>),
    Delivered(Signed<Delivered>),
    KeyRelease(Signed<KeyRelease>),
    NextAttempt(Signed<NextAttempt>),
    ShareRelease(Signed<ShareRelease>),
    Receipt(Signed<Receipt>),
    Refusal(Signed<Refusal>),
    PatientRefusal(Signed<PatientRefusal>),
    Confirmed(Signed<RevocationConfirmed>),
    Recall(Signed<Recall>),
    RecallConfirmed(Signed<RecallConfirmed>),
    Revocation(Revocation),
}

fn read<T: Payload>(content: &[u8]) -> Result<Signed<T>, Code> {
    Signed::read(content).map_err(|fault| fault.code())
}

impl Claimed {
    /// Reads an envelope, or a bare revocation.
    pub(crate) fn read(content: &[u8]) -> Result<Self, Code> {
        let Ok(label) = peek_type(content) else {
            return codec::decode(content, MAX_MESSAGE_BYTES)
                .map(Self::Revocation)
                .map_err(|_| Code::Malformed);
        };
        Ok(match label.as_str() {
            TransferRequest::TYPE => Self::Request(read(content)?),
            Quote::TYPE => Self::Quote(read(content)?),
            FeeAcceptance::TYPE => Self::FeeAcceptance(read(content)?),
            Consent::TYPE => Self::Consent(read(content)?),
            PackageHeader::TYPE => Self::Header(read(content)?),
            Delivered::TYPE => Self::Delivered(read(content)?),
            KeyRelease::TYPE => Self::KeyRelease(read(content)?),
            NextAttempt::TYPE => Self::NextAttempt(read(content)?),
            ShareRelease::TYPE => Self::ShareRelease(read(content)?),
            Receipt::TYPE => Self::Receipt(read(content)?),
            Refusal::TYPE => Self::Refusal(read(content)?),
            PatientRefusal::TYPE => Self::PatientRefusal(read(content)?),
            RevocationConfirmed::TYPE => Self::Confirmed(read(content)?),
            Recall::TYPE => Self::Recall(read(content)?),
            RecallConfirmed::TYPE => Self::RecallConfirmed(read(content)?),
            _ => return Err(Code::Malformed),
        })
    }

    /// The transfer that it names.
    pub(crate) fn transfer(&self) -> handover_core::TransferId {
        match self {
            Self::Request(it) => it.claim().transfer,
            Self::Quote(it) => it.claim().transfer,
            Self::FeeAcceptance(it) => it.claim().transfer,
            Self::Consent(it) => it.claim().transfer,
            Self::Header(it) => it.claim().transfer,
            Self::Delivered(it) => it.claim().transfer,
            Self::KeyRelease(it) => it.claim().transfer,
            Self::NextAttempt(it) => it.claim().transfer,
            Self::ShareRelease(it) => it.claim().transfer,
            Self::Receipt(it) => it.claim().transfer,
            Self::Refusal(it) => it.claim().transfer,
            Self::PatientRefusal(it) => it.claim().transfer,
            Self::Confirmed(it) => it.claim().transfer,
            Self::Recall(it) => it.claim().transfer,
            Self::RecallConfirmed(it) => it.claim().transfer,
            Self::Revocation(it) => it.transfer,
        }
    }
}
