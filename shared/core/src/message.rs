//! Control messages between processes: a verb and items, and an answer. What the items are, each verb says;
//! artefacts travel as whole envelopes.

use std::collections::BTreeSet;

use crate::artefact::break_glass::{EmergencyPurpose, EmergencyScope};
use crate::artefact::federation::{PIECES_MAX, WholeDirectory};
use crate::artefact::recall::RecallReason;
use crate::codec::{self, Bytes, Extensions, Field as _, MAX_MESSAGE_BYTES};
use crate::id::{BreakGlassId, Digest, HospitalId, RemoteLinkId, TransferId};
use crate::problem::Said;
use crate::transfer::State;
use crate::{Amount, Code, Timestamp, cbor_enum, cbor_map};

cbor_enum! {
    /// What a control message wants.
    pub enum Verb {
        /// Hospital to index, not yet admitted: `[EnrolmentRequest]` → `[challenge wrapped to the RSA key]`.
        Enrol = 1, "enrol";
        /// Hospital to index, not yet admitted: `[EnrolmentProof]` → `[]`.
        Prove = 2, "prove";
        /// To the index: `[version held, 8 bytes big-endian]` → `[Directory]`, or `[]` if that is the newest.
        /// From the index, unasked: `[Directory]` → `[]`. Its pieces are asked for.
        Directory = 3, "directory";
        /// Who was sent a directory, to who sent it: `[digest of a piece, 32 bytes …]` → `[DirectoryPiece …]`, as many of
        /// the newest directory's as one answer has room for.
        DirectoryPieces = 8, "directory-pieces";
        /// Artefacts of transfers: `[Parcel …]` → `[Tally]`. The index keeps the evidence and passes them on.
        Deliver = 4, "deliver";
        /// Hospital to index: `[Ask]` → `[Holders, sealed to the patient]`.
        Locate = 5, "locate";
        /// Hospital to index: `[PatientLink, countersigned]` → `[]`.
        Link = 6, "link";
        /// A patient's newest key records: `[KeyRecords]` → `[]`, or `[KeyRecords]` if better ones are held there.
        Keys = 7, "keys";
        /// Hospital to hospital: `[RemoteLinkRequest, countersigned]` → `[RemoteLinkAnswer]`, or `[]` while it waits
        /// for the desk; and `[PatientLink]`, to whose patient it was confirmed → `[PatientLink, countersigned]`.
        RemoteLink = 50, "remote-link";
        /// Source to index: `[transfer, 16 bytes; attempt, 4 bytes big-endian]` → `[]`: no `KeyRelease` of this attempt or
        /// an earlier one has left the folder or ever will; or `[Delivered, KeyRelease …]` of what was handed out.
        Withdraw = 60, "withdraw";
        /// Hospital to hospital: `[BreakGlass or BreakGlassMore, countersigned]` → `[BreakGlassAnswer]`;
        /// `[BreakGlassReview]` → `[]`. Hospital to index: `[BreakGlassNote]` → `[]`, or → `[Holders]` if it asks who
        /// holds the patient's records.
        BreakGlass = 65, "break-glass";
        /// Hospital to hospital, a piece of what an answer lists: `[identifier, hash of what was asked with, number,
        /// 4 bytes big-endian]` → `[the piece]`.
        BreakGlassPart = 66, "break-glass-part";
        /// Hospital to index: `[BooksQuestion]` → `[BooksAnswer]`: what the index's books hold that concerns it.
        Books = 75, "books";
        /// Hospital to index or hospital: `[]` → `[the artefact of a transfer that the asker signed last, of those held
        /// there]`, or `[]` if none is. Index to hospital: `[]` → `[the newest Directory, the newest LedgerPage]` that are
        /// held there. Who does not know what it signed has lost something.
        Newest = 80, "newest";
        /// Hospital or index to index or hospital: `[EvidenceQuestion]` → `[EvidenceAnswer]`: what is held there of the
        /// asker's transfers, and if a hospital answers a hospital, of those between the two. All are the index's.
        Evidence = 81, "evidence";
        /// Index to hospital: `[BooksBackQuestion]` → `[BooksBackAnswer]`: what is held there of the index's log, for an
        /// index that has lost it.
        BooksBack = 82, "books-back";
        /// To hospital or index: `[]` → `[the highest Tally of the asker's that is held there]`, or `[]` if none is. If it
        /// counts more than the asker knows of, that has lost something.
        Tally = 83, "tally";
    }
}

cbor_map! {
    /// How much the index or a hospital has taken of another party's: it bears a mark by which they alone know it again.
    pub struct Tally {
        /// Artefacts of transfers that were not there before. It grows by one with each, and by more when a store was found
        /// to have lost some.
        1 => count: u64,
        /// By a key of the taker's, over the other party and the count.
        2 => mark: Digest,
        /// What is the same in all that one store tells one party: another one does not go on with its count.
        3 => series: Digest,
    }
}

/// The most bytes of an encoded [`Tally`].
pub const TALLY_MAX_BYTES: usize = 1024;

cbor_map! {
    /// Which transfers' artefacts a hospital asks for that has lost some.
    pub struct EvidenceQuestion {
        /// Of transfers of which something came to whoever answers at or after this, by their clock.
        1 => since: Timestamp,
        /// Where the answer before ended; absent: from the beginning.
        2 => after: Option<EvidencePlace>,
    }
}

cbor_map! {
    /// How far evidence was given.
    pub struct EvidencePlace {
        /// Up to this transfer.
        1 => transfer: TransferId,
        /// How much of it, as whoever answers counts; absent: all. Only one that is too large for an answer comes in
        /// parts.
        2 => given: Option<u32>,
    }
}

cbor_map! {
    /// Artefacts of transfers, by transfer, ascending; each after those that it stands on.
    pub struct EvidenceAnswer {
        /// Envelopes, or unsigned [`crate::artefact::patient::Revocation`]s.
        1 => contents: Vec<Bytes>,
        /// Where this ends, if there may be more: to be asked with.
        2 => next: Option<EvidencePlace>,
    }
}

cbor_map! {
    /// Which part of the books a hospital asks for.
    pub struct BooksQuestion {
        /// From this sequence number on.
        1 => from: u64,
        /// How many entries the log had when this hospital was last told.
        2 => seen: u64,
    }
}

cbor_map! {
    /// What stands in that part. What is not signed proves itself against the page, which has its hash.
    pub struct BooksAnswer {
        /// [`LedgerPage`](crate::artefact::books::LedgerPage), whole.
        1 => page: Bytes,
        /// That the log continues the one that was seen (RFC 6962); empty if that was empty, or if it does not.
        2 => consistency: Vec<Digest>,
        /// The page's lines, each opened; in a file that is shown to others only those that it is about.
        3 => opened: Vec<OpenedEntry>,
        /// What to keep for the index, so that the log is never with it alone; absent in a file.
        4 => kept: Option<SealedEntries>,
    }
}

cbor_map! {
    /// Others' entries of a part of the books.
    pub struct SealedEntries {
        /// Each entry below this sequence number is with its source or its destination: sealed ones need not be kept.
        1 => held: u64,
        /// All of the part from there on that are not opened.
        2 => entries: Vec<SealedEntry>,
    }
}

cbor_map! {
    /// An entry that is others' matter, for the index alone to open should it lose its own: an [`OpenedEntry`], whose
    /// path is empty.
    pub struct SealedEntry {
        /// Its sequence number.
        1 => sequence: u64,
        /// Sealed by the index for itself.
        2 => sealed: Bytes,
    }
}

/// The most bytes of a [`SealedEntry::sealed`].
pub const SEALED_ENTRY_MAX_BYTES: usize = 32 * 1024;

cbor_map! {
    /// Which part of its own log an index asks for.
    pub struct BooksBackQuestion {
        /// From this sequence number on.
        1 => from: u64,
    }
}

cbor_map! {
    /// What a hospital holds of the log; each kind ascending.
    pub struct BooksBackAnswer {
        /// Its own, with empty paths.
        1 => opened: Vec<OpenedEntry>,
        /// Others'.
        2 => sealed: Vec<SealedEntry>,
        /// What to ask from next, if there may be more.
        3 => next: Option<u64>,
    }
}

cbor_map! {
    /// An entry with what shows that it is the one on the page and in the log.
    pub struct OpenedEntry {
        /// Its sequence number.
        1 => sequence: u64,
        /// Opens the commitment.
        2 => salt: [u8; 32],
        /// The encoded [`Entry`](crate::ledger::Entry).
        3 => entry: Bytes,
        /// That it is a leaf of the log (RFC 6962).
        4 => path: Vec<Digest>,
        /// The operators' order that it stands on, if on one: whole.
        5 => order: Option<Bytes>,
        /// By which the index knows it again, and nobody else; absent: it is from before there were any.
        6 => mark: Option<Digest>,
    }
}

cbor_map! {
    /// A control request.
    pub struct Request {
        /// What is wanted.
        1 => verb: Verb,
        /// With what.
        2 => items: Vec<Bytes>,
    }
}

cbor_map! {
    /// A control request of whatever version.
    struct Unknown {
        1 => verb: u64,
        2 => items: Vec<Bytes>,
    }
}

cbor_map! {
    /// A control answer.
    pub struct Answer {
        /// Why not, if not.
        1 => problem: Option<Said>,
        /// The answer's items.
        2 => items: Vec<Bytes>,
    }
}

cbor_map! {
    /// An artefact on its way.
    pub struct Parcel {
        /// For which hospital; absent: for the index only.
        1 => to: Option<HospitalId>,
        /// The envelope, or an unsigned [`crate::artefact::patient::Revocation`].
        2 => content: Bytes,
    }
}

cbor_map! {
    /// A patient's key records, whole, the first to the newest. They prove themselves ([`crate::KeyChain`]).
    pub struct KeyRecords {
        /// The envelopes.
        1 => records: Vec<Bytes>,
    }
}

cbor_map! {
    /// What a node tells a wallet of itself.
    pub struct HospitalInfo {
        /// The newest directory, which the wallet verifies under the root that it pins: in a file with all pieces; over
        /// the network none, the wallet asks for those that it does not hold.
        1 => directory: WholeDirectory,
        /// Which of its hospitals answers here.
        2 => hospital: HospitalId,
    }
}

cbor_map! {
    /// Which pieces of the newest directory a wallet asks a node for.
    pub struct PiecesQuestion {
        /// Their digests.
        1 => digests: Vec<Digest>,
    }
}

cbor_map! {
    /// As many of them as one answer has room for.
    pub struct PiecesAnswer {
        /// [`DirectoryPiece`](crate::artefact::federation::DirectoryPiece)s.
        1 => pieces: Vec<Bytes>,
    }
}

cbor_map! {
    /// A transfer as its patient sees it. Artefacts are whole envelopes.
    pub struct InboxItem {
        /// The transfer.
        1 => transfer: TransferId,
        /// Where it stands here.
        2 => state: State,
        /// Who holds the records.
        3 => source: HospitalId,
        /// Who gets them.
        4 => destination: HospitalId,
        /// `TransferRequest`.
        5 => request: Option<Bytes>,
        /// The first `Quote`.
        6 => quote: Option<Bytes>,
        /// The final `Quote`, if the consent narrowed.
        7 => final_quote: Option<Bytes>,
        /// `Consent`.
        8 => consent: Option<Bytes>,
        /// `RevocationConfirmed`s.
        9 => confirmations: Vec<Bytes>,
        /// When it last changed.
        10 => updated: Timestamp,
        /// The newest `NextAttempt`, if the destination asked for one.
        11 => next_attempt: Option<Bytes>,
        /// The transfer that it continues, if it is a delivery under that one's consent: request and consent are its.
        12 => continues: Option<TransferId>,
        /// The `Quote` that the consent answered, if it is a delivery.
        13 => origin_quote: Option<Bytes>,
        /// What was wrong of what was sent: the newest.
        14 => recalls: Vec<RecallNotice>,
    }
}

cbor_map! {
    /// What a patient is told of a recall: the word of the hospital that tells it.
    pub struct RecallNotice {
        /// Its number in the transfer.
        1 => number: u32,
        /// Why; absent: it is not known there any more.
        2 => reason: Option<RecallReason>,
        /// Of how many records.
        3 => records: u32,
        /// What is given back of the fee.
        4 => fee_back: Amount,
        /// When the source made it.
        5 => issued: Timestamp,
        /// Since when it is marked at the destination; absent: that has not said so.
        6 => marked: Option<Timestamp>,
        /// How many tests that were not sent, and that the fee was made of.
        7 => other_tests: u32,
        /// What the destination computes to be given back, if it has said so.
        8 => fee_computed: Option<Amount>,
    }
}

cbor_map! {
    /// What a patient is told of a break-glass. Artefacts are whole envelopes.
    pub struct BreakGlassNotice {
        /// `BreakGlass`, countersigned: who, of which hospital, when, until when.
        1 => request: Bytes,
        /// The hospital whose records it is about.
        2 => source: HospitalId,
        /// Why, as a code.
        3 => purpose: EmergencyPurpose,
        /// What was given out; absent: nothing yet.
        4 => given: Option<EmergencyScope>,
        /// `BreakGlassMore`, countersigned, if a second clinician asked for everything.
        5 => more: Option<Bytes>,
        /// `BreakGlassReview`, once there is one.
        6 => review: Option<Bytes>,
    }
}

cbor_map! {
    /// Everything that is there for a patient; travels sealed to them.
    pub struct Inbox {
        /// By transfer, ascending.
        1 => items: Vec<InboxItem>,
        /// Break-glasses that their records were opened under, the newest.
        2 => broken: Vec<BreakGlassNotice>,
    }
}

/// HPKE `info` of what is sealed to a patient: [`crate::artefact::patient::Holders`].
pub const HOLDERS_INFO: &[u8] = b"handover/holders/1";
/// HPKE `info` of an [`Inbox`].
pub const INBOX_INFO: &[u8] = b"handover/inbox/1";
/// HPKE `info` of a `QuoteBody`; the associated data is the transfer identifier.
pub const QUOTE_INFO: &[u8] = b"handover/quote/1";
/// Begins the associated data of sealed consent details; the transfer identifier follows.
pub const CONSENT_DETAILS_LABEL: &[u8] = b"handover/consent/1";
/// Begins the associated data of a sealed `FeeOffer`; the transfer identifier follows.
pub const FEE_OFFER_LABEL: &[u8] = b"handover/fee-offer/1";
/// Begins the associated data of sealed `ReferralDetails`; the patient's reference follows.
pub const REFERRAL_LABEL: &[u8] = b"handover/referral/1";
/// Begins the associated data of a sealed wish; the transfer identifier follows.
pub const REQUEST_SCOPE_LABEL: &[u8] = b"handover/transfer-request/1";
/// Begins the associated data of sealed `RecallDetails`; the transfer identifier follows.
pub const RECALL_LABEL: &[u8] = b"handover/recall/1";

/// Begins the associated data of sealed `RemoteLinkDetails`; the request's identifier follows.
pub const REMOTE_LINK_LABEL: &[u8] = b"handover/remote-link/1";

/// The associated data of sealed `RemoteLinkDetails`.
#[must_use]
pub fn remote_link_binding(id: &RemoteLinkId) -> Vec<u8> {
    [REMOTE_LINK_LABEL, id.as_bytes()].concat()
}

/// Begins the associated data of what is sealed in a break-glass; its identifier follows.
pub const BREAK_GLASS_LABEL: &[u8] = b"handover/break-glass/1";

/// The associated data of what is sealed in a break-glass.
#[must_use]
pub fn break_glass_binding(id: &BreakGlassId) -> Vec<u8> {
    [BREAK_GLASS_LABEL, id.as_bytes()].concat()
}

/// The associated data of a part that is sealed for one transfer.
#[must_use]
pub fn part_binding(label: &[u8], transfer: &TransferId) -> Vec<u8> {
    [label, transfer.as_bytes()].concat()
}

impl Request {
    /// A request, encoded.
    #[must_use]
    pub fn encode(verb: Verb, items: Vec<Vec<u8>>) -> Vec<u8> {
        let items = items.into_iter().map(Bytes).collect();
        codec::encode(&Self { verb, items, extensions: Extensions::default() })
    }

    /// Reads a request.
    ///
    /// # Errors
    /// [`Code::OlderProgram`] if this program does not know what is wanted; [`Code::Malformed`].
    pub fn decode(bytes: &[u8]) -> Result<Self, Code> {
        codec::decode(bytes, MAX_MESSAGE_BYTES).map_err(|_| {
            match codec::decode::<Unknown>(bytes, MAX_MESSAGE_BYTES) {
                Ok(it) if !Verb::ALL.iter().any(|verb| verb.to_value() == it.verb.to_value()) => {
                    Code::OlderProgram
                }
                _ => Code::Malformed,
            }
        })
    }

    /// The pieces that are asked for.
    ///
    /// # Errors
    /// [`Code::TooLarge`] for more than a directory has; [`Code::Malformed`] for what is no digest.
    pub fn digests(&self) -> Result<BTreeSet<Digest>, Code> {
        if self.items.len() > PIECES_MAX {
            return Err(Code::TooLarge);
        }
        let digests = self.items.iter().map(|item| Digest::try_from(item.as_ref()));
        digests.collect::<Result<_, _>>().map_err(|_| Code::Malformed)
    }

    /// For a question that is asked by its verb alone.
    ///
    /// # Errors
    /// [`Code::Malformed`] if there is an item.
    pub fn no_item(&self) -> Result<(), Code> {
        if self.items.is_empty() { Ok(()) } else { Err(Code::Malformed) }
    }

    /// The only item.
    ///
    /// # Errors
    /// [`Code::Malformed`] if there is none or more.
    pub fn only_item(&self) -> Result<&[u8], Code> {
        match self.items.as_slice() {
            [only] => Ok(only.as_ref()),
            _ => Err(Code::Malformed),
        }
    }
}

impl Answer {
    /// An answer, encoded.
    #[must_use]
    pub fn encode(outcome: Result<Vec<Vec<u8>>, Code>) -> Vec<u8> {
        let (problem, items) = match outcome {
            Ok(items) => (None, items),
            Err(code) => (Some(code.into()), Vec::new()),
        };
        let items = items.into_iter().map(Bytes).collect();
        codec::encode(&Self { problem, items, extensions: Extensions::default() })
    }

    /// Reads an answer: its items, or why not.
    ///
    /// # Errors
    /// The other side's [`Code`]; [`Code::Malformed`].
    pub fn decode(bytes: &[u8]) -> Result<Vec<Vec<u8>>, Code> {
        let answer: Self = codec::decode(bytes, MAX_MESSAGE_BYTES).map_err(|_| Code::Malformed)?;
        match answer.problem {
            Some(said) => Err(said.code()),
            None => Ok(answer.items.into_iter().map(|item| item.0).collect()),
        }
    }
}
