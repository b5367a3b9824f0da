//! Recalls: what was sent and was wrong is marked where it was sent to, and the fee given back. The rules, the dossiers
//! and `verify`.

#![expect(clippy::unwrap_used, reason = "a helper that fails is a failed test")]

mod rules;
