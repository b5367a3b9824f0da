//! `handover-node`: one hospital's node, put together from its rooms.
//!
//! ```text
//!  args ─► console ──(control socket)──► operations ─► records · exchange · import
//!             └──(no process runs)── opens the folder ──┘
//!  run ─► Running: network · HTTPS for patients · control socket · health
//! ```
//!
//! Invariants: one process has the data folder open; a command does the same whether it reaches the running node or
//! opens the folder itself; nothing is bound before the whole configuration was read; logs carry no patient data.
//! warp is named in `http` only.

pub mod args;
pub mod clinician;
mod config;
mod console;
mod control;
mod endpoint;
mod enrol;
mod error;
mod health;
mod http;
mod import;
pub mod keys;
mod node;
mod operations;
mod profile;
mod running;
mod show;

pub use config::Config;
pub use console::main;
pub use error::NodeError;
pub use import::{HOSPITAL_WIDE, Imported, Merged, RecordCounts, SentBefore};
pub use node::Node;
pub use operations::{
    Carried, Checked, Command, DeliveryShown, Dismissed, EpochLine, EpochRotated, EpochsListed, Event,
    Events, FolderShown, MarkShown, Operation, OwedShown, PatientForgotten, PatientRegistered, RecallMade,
    RecallShown, RecalledFrom, RecallsListed, RecordLine, RecordNamed, RecordsListed, ReferralShown,
    ReferralWithdrawn, ReferralsListed, Resent, TransferShown, TransfersListed, perform,
};
pub use running::{Ready, Running};
