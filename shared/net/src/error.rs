//! What can go wrong between this process and a peer. Carries no bodies and no addresses.

use handover_core::Code;

/// Why the network could not start or did not carry something.
#[derive(Debug, thiserror::Error)]
pub enum NetError {
    /// A listen address is no multiaddress or of a transport that is not served.
    #[error("the listen address is not usable")]
    InvalidListen,
    /// A listen address could not be bound.
    #[error("cannot listen: {0}")]
    Listen(#[source] std::io::Error),
    /// The swarm could not be set up.
    #[error("cannot set up {0}")]
    Setup(&'static str),
    /// A key that is no valid Ed25519 public key.
    #[error("not a valid Ed25519 public key")]
    InvalidKey,
    /// There is no live connection and no address led to one. Nothing was sent.
    #[error("the party cannot be reached")]
    Unreachable,
    /// Somebody else than the wanted party is at the addresses. Nothing was sent.
    #[error("another party is at this address")]
    WrongPeer,
    /// The peer's hello was refused here. Nothing was sent.
    #[error("the peer was not admitted: {0}")]
    NotAdmitted(Code),
    /// The peer did not admit this process.
    #[error("the peer does not admit this process: {0}")]
    NotAdmittedThere(Code),
    /// The party was expelled from this process.
    #[error("the party is expelled")]
    Expelled,
    /// The connection ended before the answer: the peer may have acted on the request or not.
    #[error("the connection ended before an answer")]
    Interrupted,
    /// No answer within the limit: the peer may have acted on the request or not.
    #[error("no answer within the limit")]
    TimedOut,
    /// A body above [`crate::MAX_BODY_BYTES`], here or there.
    #[error("the body is larger than allowed")]
    TooLarge,
    /// What the peer sent does not follow the protocol.
    #[error("the peer does not follow the protocol")]
    Protocol,
    /// Too much is under way here.
    #[error("too much is under way")]
    Busy,
    /// The peer's network layer refused the request; its application did not see it or did not answer.
    #[error("the peer refused: {0}")]
    Refused(Code),
    /// The network of this process is shut down.
    #[error("the network is shut down")]
    Closed,
}

impl NetError {
    /// The stable problem code.
    #[must_use]
    pub fn code(&self) -> Code {
        match self {
            Self::InvalidListen | Self::Listen(_) => Code::ConfigInvalid,
            Self::InvalidKey | Self::Protocol => Code::Malformed,
            Self::Unreachable | Self::Interrupted | Self::Closed => Code::Unreachable,
            Self::WrongPeer | Self::Expelled => Code::NotAdmitted,
            Self::NotAdmitted(code) | Self::NotAdmittedThere(code) | Self::Refused(code) => *code,
            Self::TimedOut => Code::TimedOut,
            Self::TooLarge => Code::TooLarge,
            Self::Busy => Code::Busy,
            Self::Setup(_) => Code::Internal,
        }
    }
}
