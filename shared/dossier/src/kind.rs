//! The places in a dossier, one for each artefact that a transfer can have. What belongs to an attempt has one in each.

use handover_core::artefact::patient::{Consent, PatientRefusal, Revocation, ShareRelease};
use handover_core::artefact::recall::{RECALLS_MAX, Recall, RecallConfirmed};
use handover_core::artefact::transfer::{
    Delivered, FeeAcceptance, KeyRelease, NextAttempt, PackageHeader, Quote, Receipt, Refusal,
    RevocationConfirmed, TransferRequest,
};
use handover_core::artefact::{ArtefactError, Payload, Signed, peek_type};
use handover_core::codec::{self, MAX_MESSAGE_BYTES};
use handover_core::transfer::{FIRST_ATTEMPT, LAST_ATTEMPT};
use handover_core::{Code, Timestamp, TransferId, cbor_enum};

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

/// What is agreed on before anything is sealed, each after those that it stands on.
const AGREED: [Kind; 5] = [Kind::Request, Kind::Quote, Kind::FeeAcceptance, Kind::Consent, Kind::FinalQuote];
/// What an attempt brings.
const OF_ATTEMPT: [Kind; 6] =
    [Kind::NextAttempt, Kind::Header, Kind::ShareRelease, Kind::Delivered, Kind::KeyRelease, Kind::Receipt];
/// How a transfer ends otherwise. Last, because each changes nothing for what went too far to be ended by it.
const ENDS: [Kind; 6] = [
    Kind::Revocation,
    Kind::EarlyRevocation,
    Kind::Refusal,
    Kind::PatientRefusal,
    Kind::ConfirmedBySource,
    Kind::ConfirmedByDestination,
];

impl Place {
    /// Every place that a transfer has for itself, in the order in which a dossier that was lost is taken back: each
    /// after those that it stands on.
    pub fn in_recovery_order() -> impl Iterator<Item = Self> {
        let attempts = FIRST_ATTEMPT..=LAST_ATTEMPT;
        let sealed = attempts.flat_map(|attempt| OF_ATTEMPT.into_iter().map(move |kind| kind.of(attempt)));
        let recalls =
            (1..=RECALLS_MAX).flat_map(|number| [Kind::Recall.of(number), Kind::RecallConfirmed.of(number)]);
        AGREED
            .into_iter()
            .map(Self::from)
            .chain(sealed)
            .chain(recalls)
            .chain(ENDS.into_iter().map(Self::from))
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
        let label = match peek_type(content) {
            Ok(label) => label,
            Err(fault @ ArtefactError::NewerEdition(_)) => return Err(fault.code()),
            Err(_) => {
                let bare = codec::decode(content, MAX_MESSAGE_BYTES).map(Self::Revocation);
                return bare.map_err(|_| Code::Malformed);
            }
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

    /// Whether it says only what is said by another envelope, which is kept in its place: that a revocation was taken in. A
    /// hospital that lost its word with a store, and has other keys since, says so again.
    pub(crate) fn says_again(&self, kept: &[u8]) -> bool {
        let Self::Confirmed(again) = self else { return false };
        let kept = Signed::<RevocationConfirmed>::read(kept);
        kept.is_ok_and(|kept| {
            *again.claim() == RevocationConfirmed { since: again.claim().since, ..kept.claim().clone() }
        })
    }

    /// The transfer that it names.
    pub(crate) fn transfer(&self) -> TransferId {
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

    /// When it says to have been made; a bare revocation does not.
    pub(crate) fn issued(&self) -> Option<Timestamp> {
        Some(match self {
            Self::Request(it) => it.claim().issued,
            Self::Quote(it) => it.claim().issued,
            Self::FeeAcceptance(it) => it.claim().issued,
            Self::Consent(it) => it.claim().issued,
            Self::Header(it) => it.claim().issued,
            Self::Delivered(it) => it.claim().issued,
            Self::KeyRelease(it) => it.claim().issued,
            Self::NextAttempt(it) => it.claim().issued,
            Self::ShareRelease(it) => it.claim().issued,
            Self::Receipt(it) => it.claim().issued,
            Self::Refusal(it) => it.claim().issued,
            Self::PatientRefusal(it) => it.claim().issued,
            Self::Confirmed(it) => it.claim().since,
            Self::Recall(it) => it.claim().issued,
            Self::RecallConfirmed(it) => it.claim().since,
            Self::Revocation(_) => return None,
        })
    }

    /// Where it may lie: in which of these, says what it stands on.
    pub(crate) fn places(&self) -> Vec<Place> {
        match self {
            Self::Request(_) => vec![Kind::Request.into()],
            Self::Quote(_) => vec![Kind::Quote.into(), Kind::FinalQuote.into()],
            Self::FeeAcceptance(_) => vec![Kind::FeeAcceptance.into()],
            Self::Consent(_) => vec![Kind::Consent.into()],
            Self::Header(it) => vec![Kind::Header.of(it.claim().attempt)],
            Self::Delivered(it) => vec![Kind::Delivered.of(it.claim().attempt)],
            Self::KeyRelease(it) => vec![Kind::KeyRelease.of(it.claim().attempt)],
            Self::NextAttempt(it) => vec![Kind::NextAttempt.of(it.claim().attempt)],
            Self::ShareRelease(_) => Kind::ShareRelease.places().collect(),
            Self::Receipt(it) => vec![Kind::Receipt.of(it.claim().attempt)],
            Self::Refusal(_) => vec![Kind::Refusal.into()],
            Self::PatientRefusal(_) => vec![Kind::PatientRefusal.into()],
            Self::Confirmed(_) => vec![Kind::ConfirmedBySource.into(), Kind::ConfirmedByDestination.into()],
            Self::Recall(it) => vec![Kind::Recall.of(it.claim().number)],
            Self::RecallConfirmed(it) => vec![Kind::RecallConfirmed.of(it.claim().number)],
            Self::Revocation(_) => vec![Kind::Revocation.into(), Kind::EarlyRevocation.into()],
        }
    }
}
