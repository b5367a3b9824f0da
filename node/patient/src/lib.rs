//! The patient's wallet: keys, what was asked and consented to, and the dialogue with a hospital's node.
//!
//! Invariants: nothing is believed that does not verify up to the root that the wallet pins; what is signed is
//! stored before it is sent, so that repeating a command sends the same bytes again; private keys and consent
//! secrets lie encrypted and are never printed. Clock and randomness are parameters. The wallet must not know how a
//! node stores anything, nor see any record: it consents, it does not carry.

mod consent;
mod dialogue;
mod error;
mod file;
mod holders;
mod keys;
pub mod node;
mod notice;
mod recovery;
mod remote;
mod review;
pub mod state;
mod steps;
#[cfg(test)]
mod testkit;
mod wallet;

pub use consent::{
    ConsentDraft, ConsentSecrets, Wish, fee_cap, make_consent, make_refusal, make_revocation,
    make_share_release, narrow,
};
pub use dialogue::{Question, make_ask, make_link, open_holders, open_inbox, own_ask};
pub use error::WalletError;
pub use file::{MAX_WALLET_BYTES, WalletFile};
pub use holders::{Missing, Unnamed};
pub use keys::PatientKeys;
pub use notice::{Noticed, notices};
pub use recovery::Recovery;
pub use remote::Identity;
pub use review::{QuoteView, Reviewed, open_quote, review};
pub use steps::{Given, InboxEntry};
pub use wallet::{DirectoryNews, Wallet};
