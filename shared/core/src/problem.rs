//! Problem codes: stable words that stand in refusals, problem documents (RFC 9457), logs and metrics. What they
//! say to people is kept apart, in [`Code::text`], so that it can be translated.

macro_rules! codes {
    ($( $(#[$meta:meta])* $variant:ident = $word:literal, $exit:ident, $text:literal; )*) => {
        /// A stable problem code.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Code { $( $(#[$meta])* #[doc = $text] $variant, )* }

        impl Code {
            /// Every code.
            pub const ALL: &'static [Self] = &[$( Self::$variant, )*];

            /// The stable word.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $( Self::$variant => $word, )* }
            }

            /// What it means and what to do next, in English.
            #[must_use]
            pub const fn text(self) -> &'static str {
                match self { $( Self::$variant => $text, )* }
            }

            /// The kind of outcome, which decides a command's exit code.
            #[must_use]
            pub const fn outcome(self) -> Outcome {
                match self { $( Self::$variant => Outcome::$exit, )* }
            }
        }

        impl std::str::FromStr for Code {
            type Err = crate::id::InvalidId;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                match text {
                    $( $word => Ok(Self::$variant), )*
                    _ => Err(crate::id::InvalidId { kind: "problem code", reason: "not known to this version" }),
                }
            }
        }
    };
}

/// How a command ends. The numbers are its exit codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Outcome {
    /// The other side or a rule said no.
    Refused = 1,
    /// The command was given wrongly.
    Usage = 2,
    /// A configuration file or data folder is not usable.
    Configuration = 3,
    /// Somebody could not be reached in time.
    Unreachable = 4,
    /// Something stored or received is not what it should be.
    Integrity = 5,
}

codes! {
    Malformed = "malformed", Integrity, "What was received cannot be read: it is damaged or of another kind. Send it again from its source.";
    TooLarge = "too-large", Refused, "More than is accepted at once. Nothing was taken. Split it: a transfer by departments or periods, a file into several.";
    BadSignature = "bad-signature", Integrity, "The signature does not match. What was received was altered or signed with another key.";
    WrongSigner = "wrong-signer", Refused, "Signed, but not by the one who may sign this.";
    UnknownHospital = "unknown-hospital", Refused, "This hospital is not in the directory. It enrols first.";
    HospitalPending = "hospital-pending", Refused, "This hospital's enrolment waits for the root's certificate and two operators.";
    HospitalSuspended = "hospital-suspended", Refused, "This hospital is suspended. Ask the federation's operators.";
    HospitalRevoked = "hospital-revoked", Refused, "This hospital was revoked and takes no part any more.";
    NotAdmitted = "not-admitted", Refused, "The connection showed no valid endpoint certificate.";
    CertificateExpired = "certificate-expired", Refused, "A certificate in the chain is not valid at this time.";
    DirectoryExpired = "directory-expired", Refused, "The directory has expired: no new transfers until the index sends a fresh one.";
    DirectoryRollback = "directory-rollback", Integrity, "An older directory than the one held was offered and was refused.";
    DirectoryForked = "directory-forked", Integrity, "The index signed two directories of one version: no new transfers until a higher version comes. Both are kept as proof; tell the federation's operators.";
    DirectoryTakesBack = "directory-takes-back", Integrity, "The index offered a newer directory that leaves a hospital out or lowers the number of an order, schedule or profile. It was refused and is kept as proof; tell the federation's operators.";
    DirectoryAhead = "directory-ahead", Integrity, "A directory's version is ahead of the time at which it was issued: it would shut out every honest one after it.";
    UnknownPatient = "unknown-patient", Refused, "This patient is not known here. Register and link first.";
    UnknownTransfer = "unknown-transfer", Refused, "No transfer with this identifier is known here.";
    UnknownRecord = "unknown-record", Refused, "No such record is here, or it may not be shown.";
    NotLinked = "not-linked", Refused, "The patient has not linked themselves to this hospital.";
    LinkCodeWrong = "link-code-wrong", Refused, "The link code is wrong, used or expired. Ask the desk for a new one.";
    AskExpired = "ask-expired", Refused, "The patient's question is too old or from the future. Ask again; check the clock.";
    AskMismatch = "ask-mismatch", Refused, "The patient's question names another hospital, transfer or purpose.";
    ReferralMismatch = "referral-mismatch", Refused, "The referral is for another patient or hospital, or not valid at this time.";
    KeyRecordOutdated = "key-record-outdated", Refused, "Another device has replaced this one for the patient. Use the newest wallet; what waits for an answer is asked for again there. If you did not replace it, recover with the recovery key.";
    KeyRecordForked = "key-record-forked", Refused, "Two devices claim to follow the same one of this patient, and another than this one is known here. Recover with the recovery key: it decides.";
    QuoteExpired = "quote-expired", Refused, "The quote has expired. Ask for a new one.";
    QuoteMismatch = "quote-mismatch", Refused, "The quote is for another transfer, patient, hospital or request than this one, or what names a quote names another than was agreed. Ask for a new transfer, and the hospital that signed it.";
    ConsentMismatch = "consent-mismatch", Refused, "The consent is for another transfer or patient, or its sealed part is not the one that it commits to.";
    ConsentExpired = "consent-expired", Refused, "The consent is not valid any more. Ask the patient for a new one.";
    ConsentSpent = "consent-spent", Refused, "This one-time consent was already used.";
    ConsentRevoked = "consent-revoked", Refused, "The patient took this consent back.";
    CapExceeded = "cap-exceeded", Refused, "The fee is above what the payer signed for.";
    QuoteLost = "quote-lost", Refused, "The old hospital does not have any more what it quoted, because it was restored from a backup. Ask again: no test is charged twice.";
    FeeNotAccepted = "fee-not-accepted", Refused, "The hospital that owes the fee has not accepted it yet. A clerk there gives transfer accept or transfer refuse.";
    FeeDenied = "fee-denied", Refused, "The hospital that owes the fee does not pay it.";
    NoFeeSchedule = "no-fee-schedule", Refused, "No fee schedule holds for the source's jurisdiction. Two of the federation's operators approve one.";
    MixedCurrencies = "mixed-currencies", Refused, "The priced tests are in more than one currency; a quote holds one.";
    NothingInScope = "nothing-in-scope", Refused, "No record is in the scope that was asked for.";
    NothingRead = "nothing-read", Refused, "Nothing of these files could be read. What was wrong with them stands above; correct them and import them again.";
    PackageMismatch = "package-mismatch", Integrity, "What is in the package is not what its header or its manifest says of it. Ask the hospital that sent it; nothing of it is filed.";
    PackageDamaged = "package-damaged", Integrity, "A content of the package fails its check: it was altered, or a disk is failing. Check the disks of both hospitals; nothing of it is filed.";
    CannotOpen = "cannot-open", Integrity, "What is sealed does not open with the key for it: it is damaged, or sealed to another key. Ask the hospital that sealed it.";
    TransferOpen = "transfer-open", Refused, "The patient has a transfer that is not over. Wait for its end, or end it, then give the command again.";
    OutOfOrder = "out-of-order", Refused, "This does not follow from the state that it is in: it is not that far yet, further already, or over. Show it (show or list, beside the same command) to see how far it is; a transfer that is over can be asked for anew.";
    AttemptsExhausted = "attempts-exhausted", Refused, "The package was lost or damaged in five attempts. Check the disks of both hospitals, then ask for a new transfer.";
    Conflict = "conflict", Refused, "The same identifier was used before with other content.";
    PatientRefused = "patient-refused", Refused, "The patient said no.";
    LedgerConflict = "ledger-conflict", Integrity, "A ledger entry with this identifier but other content exists.";
    LedgerUnbalanced = "ledger-unbalanced", Integrity, "Debits and credits are not equal.";
    EvidenceMissing = "evidence-missing", Refused, "The entry's evidence is incomplete or does not verify.";
    ReleaseAwaited = "release-awaited", Refused, "The patient keeps their half of the key back. It goes on once they release it.";
    KeyAwaited = "key-awaited", Refused, "The old hospital has not released its half of the key yet. It goes on once that comes.";
    AuditUnavailable = "audit-unavailable", Refused, "The audit log cannot be written, so nothing is disclosed.";
    AccessDenied = "access-denied", Refused, "This is not allowed with the role, department or purpose given.";
    StoreUnavailable = "store-unavailable", Configuration, "The store cannot be opened or written. Check the disk or the database, and that no other process uses it.";
    StoreDamaged = "store-damaged", Integrity, "Stored data is damaged. Run check, then restore or repair.";
    KeyUnavailable = "key-unavailable", Configuration, "The key file cannot be opened.";
    EpochKeyUnavailable = "epoch-key-unavailable", Configuration, "A key of an epoch is missing or does not belong here. Put the folder of epoch keys back from its copy; nothing was changed.";
    ConfigInvalid = "config-invalid", Configuration, "The configuration file has faults; all are listed.";
    UsageInvalid = "usage-invalid", Usage, "The command was not given as it needs to be.";
    Unreachable = "unreachable", Unreachable, "The other side cannot be reached now.";
    Busy = "busy", Unreachable, "Too much is under way. Try again shortly.";
    TimedOut = "timed-out", Unreachable, "No answer within the limit.";
    ClockOff = "clock-off", Refused, "The clocks differ by more than five minutes. Set the clock.";
    CapReached = "cap-reached", Refused, "With this delivery the fees under the continuous consent would be above what the patient signed for in all. It waits: a new consent with a higher cap brings the records.";
    RevocationsStale = "revocations-stale", Refused, "What is known here of revocations is older than a day, so nothing is delivered under continuous consents. It goes on once the index sends a fresh directory.";
    ContinuousReferred = "continuous-referred", Refused, "A continuous consent is for what the patient pays; this fee is the hospital's, by a referral. Give a one-time consent.";
    UnknownRemoteLink = "unknown-remote-link", Refused, "No request for a remote link with this identifier is known here.";
    IdentityUnproven = "identity-unproven", Refused, "The hospital could not make sure that the patient is who the request names. Ask at its desk.";
    LinkedOtherwise = "linked-otherwise", Refused, "This wallet is linked to another patient number at this hospital. Link the second number with a second wallet, or have a clerk there take the older link away (patient unlink), then link again.";
    Internal = "internal", Integrity, "Something went wrong on this side. The log tells what.";
    RecallMismatch = "recall-mismatch", Refused, "The recall is about another transfer or package, or its sealed part is not the one that it commits to. Nothing was marked.";
    RecallUnknownRecord = "recall-unknown-record", Refused, "The recall names a record that this hospital was not sent in this transfer. Nothing was marked.";
    RecallFee = "recall-fee", Refused, "The recall gives back more than the fee, less than nothing, or for tests that were done. Nothing was marked.";
    RecallsExhausted = "recalls-exhausted", Refused, "A transfer is recalled a thousand times at most. Ask the other hospital's desk.";
    UnknownIncident = "unknown-incident", Refused, "No incident with this identifier is kept here. incident list names them.";
    NothingToRecall = "nothing-to-recall", Refused, "No hospital was sent these records. Nothing was marked; check patient, record and transfer.";
    FoldersOff = "folders-off", Refused, "The index keeps no packages. The source goes on trying the destination itself.";
    FolderFull = "folder-full", Refused, "The destination's folder at the index is full, or this hospital's share of it. The source goes on trying the destination itself, and the folder once there is room.";
    FolderTooLarge = "folder-too-large", Refused, "The package is larger than one hospital's share of a folder at the index. It travels only while both hospitals are there.";
    FolderDiskFull = "folder-disk-full", Refused, "The index has too little room on its disk to keep the package. The source goes on trying the destination itself; tell the federation's operators.";
    UnknownBreakGlass = "unknown-break-glass", Refused, "No break-glass with this identifier is known here.";
    ClinicianUnknown = "clinician-unknown", Refused, "No certificate of this hospital for this clinician's key is in force. Its officer gives clinician certify.";
    SamePerson = "same-person", Refused, "A second person has to sign for more: another clinician than the one who broke the glass.";
    BreakGlassUnmatched = "break-glass-unmatched", Refused, "Not one patient there is who was asked for: nobody fits, or more than one. Check what was given, or give more of it.";
    BreakGlassMismatch = "break-glass-mismatch", Refused, "It names another break-glass, hospital or window than the one that it belongs to, or what is sealed is not what was signed.";
    BreakGlassOver = "break-glass-over", Refused, "The window of this break-glass is over and what came with it is gone. If the emergency goes on, break the glass again.";
    BreakGlassThrottled = "break-glass-throttled", Refused, "The other hospital has answered as many break-glasses as it does in an hour. Reviews that are overdue make it fewer: review those first, then ask again within the hour.";
    ReviewDue = "review-due", Refused, "Break-glasses wait for their review. break-glass list --to-review names them.";
    ReviewOverdue = "review-overdue", Refused, "A break-glass was not reviewed within seven days. Other hospitals answer this one once in an hour until it is: break-glass list --to-review.";
    StoreFull = "store-full", Configuration, "The disk that the data folder lies on is full, so nothing is written; what is stored can be read. Make room on it, then try again; nothing has to be started anew.";
    StoreRepaired = "store-repaired", Integrity, "This store was repaired after damage: something that was acknowledged may be gone. check says when and how much; restore the last backup if there is one.";
    ConsentEarly = "consent-early", Refused, "The consent is not valid yet. Check the clocks; else ask for a new transfer once it begins. The patient can consent from an earlier time then.";
    ConsentPeriod = "consent-period", Refused, "The consent ends before it begins, or holds longer than the two years that one may. Ask the patient for a shorter one.";
    ConsentForAnother = "consent-for-another", Refused, "The consent names another hospital than the transfer. The patient consents to this transfer, or asks for the other one.";
    ConsentKey = "consent-key", Refused, "The consent names another key of the destination than the directory has: that was replaced since, or somebody has exchanged it. The patient compares the code on both screens, then consents anew.";
    ConsentOutOfScope = "consent-out-of-scope", Refused, "More was sent than the patient consented to. Nothing of it is taken; ask the hospital that sent it.";
    RevocationMismatch = "revocation-mismatch", Refused, "The revocation is not for this consent. Only the patient's wallet has the secret that takes it back.";
    HeaderMismatch = "header-mismatch", Integrity, "The package's header is for another transfer, consent or hospital.";
    ManifestMismatch = "manifest-mismatch", Integrity, "What is sealed in the package names another transfer, hospital, consent or quote than its header: it was made for another and signed anew. Tell the federation's operators.";
    ManifestDamaged = "manifest-damaged", Integrity, "The package's manifest fails its check: it was altered, or a disk is failing. Check the disks of both hospitals; nothing of it is filed.";
    PackageTruncated = "package-truncated", Unreachable, "The package ended before all of it was there. What came is kept, and it goes on from there by itself.";
    PackageNotAsQuoted = "package-not-as-quoted", Integrity, "Other records are in the package than were quoted, or fewer, or more. Nothing of it is filed or charged; ask the hospital that sent it.";
    SharesMismatch = "shares-mismatch", Integrity, "The shares that were released are not those that the package's header commits to. Nothing of it can be opened; ask for a new transfer, and that hospital what it sent.";
    DeliveredMismatch = "delivered-mismatch", Integrity, "Delivery is confirmed of another package than the one that was sent. The key to it is kept back.";
    ReceiptMismatch = "receipt-mismatch", Integrity, "The receipt is for another package, consent or root than the one that was sent.";
    DirectoryLife = "directory-life", Integrity, "A directory claims to hold for longer or shorter than the 72 hours that every one does. It was refused; tell the federation's operators.";
    StandingBy = "standing-by", Unreachable, "This process stands by: another one serves, and this one takes over when that one ends. Give the command on the machine of the one that serves.";
    FeePostedTwice = "fee-posted-twice", Integrity, "The index has posted the fee of one transfer more than once. Nobody owes the second: incident show --out writes the proof for the federation's operators.";
    FeeUnfounded = "fee-unfounded", Integrity, "The index has booked something that no evidence founds: its entry names artefacts that this hospital would have made or got, and has not. Compare it with the other hospital; what the index's own signature proves is among the incidents.";
    FeeDiffers = "fee-differs", Integrity, "The index has booked another amount, currency, payer or party than was signed. What its own signature proves is among the incidents: incident show --out writes it for the federation's operators.";
    FeeMissing = "fee-missing", Integrity, "The index has not booked what it has had the evidence for long enough. transfer resend ID --all gives it everything once more; if that changes nothing, ask the federation's operators.";
    NotHeld = "not-held", Refused, "This transfer's fee is not held, or no longer. ledger holds names those that are.";
    FeesHeld = "fees-held", Refused, "Destinations dispute fees, and nothing is booked for them until two operators settle each: ledger holds, then ledger settle.";
    LedgerRewritten = "ledger-rewritten", Integrity, "The index's books do not continue what it has signed before: something in them was changed or is gone. incident show --out writes both for the federation's operators.";
    ConsentWiderThanQuoted = "consent-wider-than-quoted", Refused, "The consent covers more than was quoted, so nothing is sent. Ask for a new transfer; the patient consents to what is quoted then, or to less.";
    QuoteFalse = "quote-false", Integrity, "The quote is false in itself: its price, rate, payer or sums do not follow from its lines and the fee schedule, or what it seals is not what it commits to. Nothing is charged; tell the federation's operators.";
    AttemptMismatch = "attempt-mismatch", Refused, "What asks for another attempt is for another transfer or consent, or for an attempt that cannot follow.";
    ReleaseMismatch = "release-mismatch", Refused, "The patient's share was released for another transfer, consent, patient or hospital. It opens nothing here; release it for this one.";
    LedgerStale = "ledger-stale", Integrity, "The index is connected, and has shown its books neither whole nor as of now for hours: what it has booked since is not known here. Ask the federation's operators.";
    KeyReplaced = "key-replaced", Refused, "It is signed with a key that its hospital has replaced since, and somebody else brings it: it may be a thief's. It is taken from that hospital itself, which sends it by itself.";
    KeysOutdated = "keys-outdated", Configuration, "The directory names a key for a hospital that its node does not have. Where the other hospital says so, it goes on by itself once their node is started with it. Where this one's node does: if its keys were renewed, put the newest key file in the place of this one and start again; if these are to succeed that key, root and operators have to approve them first.";
    KeyInForce = "key-in-force", Configuration, "From now on another of this node's keys speaks for its hospital. The node has ended in order: start it again, and it takes that key.";
    CatchingUp = "catching-up", Unreachable, "Whoever says this was restored from a backup, or has not yet compared what others hold of what it signed. Until it has caught up it signs and gives out nothing. It goes on by itself; a hospital's status, or rejoin --status at the index, says how far it is.";
    NewerEdition = "newer-edition", Configuration, "This is in a later edition of the formats than this program reads, or than is in force. Nothing was taken. Upgrade this program; handover-index edition says who reads which.";
    OlderEdition = "older-edition", Refused, "Somebody's programs do not read that edition of the formats. Nothing was changed. Upgrade them first; handover-index edition says who reads which.";
    OlderProgram = "older-program", Refused, "Of the two programs one is older and does not know what the other asks or answers. Nothing was done. Upgrade the older one.";
    RelayAway = "relay-away", Unreachable, "The relay cannot be reached, so hospitals that this one does not dial itself do not reach it. Look at this machine's way out to the internet, and at the relay's address in the configuration (net.relays, else index.addresses).";
    RelayFull = "relay-full", Unreachable, "The relay has no place left, so it does not reach this hospital. It is asked again by itself; name another one in net.relays, or ask whoever runs it for more.";
    DirectoryIncomplete = "directory-incomplete", Unreachable, "Not all pieces of a directory are there. Nothing was taken; what is missing is asked for again by itself. In a file: ask whoever made it for another.";
    NotARelay = "not-a-relay", Configuration, "Who is named as a relay does not serve as one. Name another one in net.relays; a hospital's node serves with net.serves_as_relay, the index with relay.enabled.";
}

impl Code {
    /// Whether it lies with the other side's people, who restore or upgrade it, however long they take: what waits for
    /// them is not given up.
    #[must_use]
    pub const fn waits_for_people(self) -> bool {
        matches!(self, Self::CatchingUp | Self::NewerEdition | Self::OlderProgram)
    }

    /// Whether the same thing may succeed later although nobody changes it: it is tried again by itself. The one
    /// place that says so; every other code is final. Somebody's own fault (a clock, a key file, a disk) is counted
    /// here too: it says nothing against what was asked, and may be mended meanwhile.
    #[must_use]
    pub const fn is_transient(self) -> bool {
        matches!(
            self,
            Self::Unreachable
                | Self::Busy
                | Self::TimedOut
                | Self::PackageTruncated
                | Self::EvidenceMissing
                | Self::FeeNotAccepted
                | Self::NoFeeSchedule
                | Self::ReleaseAwaited
                | Self::KeyAwaited
                | Self::NotAdmitted
                | Self::HospitalPending
                | Self::DirectoryExpired
                | Self::RevocationsStale
                | Self::DirectoryForked
                | Self::StoreUnavailable
                | Self::StoreDamaged
                | Self::StoreFull
                | Self::AuditUnavailable
                | Self::KeyUnavailable
                | Self::EpochKeyUnavailable
                | Self::ClockOff
                | Self::Internal
                | Self::BreakGlassThrottled
                | Self::StandingBy
                | Self::CatchingUp
                | Self::NewerEdition
                | Self::OlderProgram
                | Self::KeyInForce
                | Self::KeysOutdated
                | Self::DirectoryIncomplete
        )
    }
}

impl std::fmt::Display for Code {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.as_str())
    }
}

/// A code as another program says it, which may be of a later version and have codes that are not known here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said(String);

impl Said {
    /// What it says; [`Code::OlderProgram`], if that is not known here.
    #[must_use]
    pub fn code(&self) -> Code {
        self.0.parse().unwrap_or(Code::OlderProgram)
    }
}

impl From<Code> for Said {
    fn from(code: Code) -> Self {
        Self(code.as_str().to_owned())
    }
}

impl crate::codec::Field for Said {
    fn to_value(&self) -> Option<crate::codec::Value> {
        self.0.to_value()
    }

    fn from_value(value: Option<crate::codec::Value>) -> Result<Self, crate::codec::DecodeError> {
        String::from_value(value).map(Self)
    }
}

/// Codes are carried by their stable word.
impl crate::codec::Field for Code {
    fn to_value(&self) -> Option<crate::codec::Value> {
        Some(crate::codec::Value::Text(self.as_str().to_owned()))
    }

    fn from_value(value: Option<crate::codec::Value>) -> Result<Self, crate::codec::DecodeError> {
        String::from_value(value)?
            .parse()
            .map_err(|_| crate::codec::DecodeError::value("unknown problem code"))
    }
}
