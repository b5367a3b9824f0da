//! What every HTTP server here needs: TLS identity, a bounded accept loop, problem documents, bounded bodies,
//! health, metrics, and the control socket that commands use beside a running process.
//!
//! Invariants: every connection, header, request and body has a limit; an answer never carries an error's own
//! words, only a [`handover_core::Code`]. warp is named here and in the programs' HTTP rooms only. This package
//! must not know hospitals, patients, stores or the peer-to-peer network.

pub mod body;
pub mod control;
mod error;
pub mod health;
pub mod metrics;
pub mod problem;
pub mod serve;
pub mod tls;

pub use error::WebError;
pub use health::Health;
pub use metrics::Metrics;
pub use problem::{problem, recover, refuse};
pub use serve::{Limits, Peer, ServeConfig, Serving, peer, serve};
pub use tls::TlsIdentity;
/// The token that stops a server, as [`serve()`] and [`control::serve`] take it.
pub use tokio_util::sync::CancellationToken;

/// A finished route set, as [`serve()`] takes it.
pub type Routes = warp::filters::BoxedFilter<(warp::reply::Response,)>;
