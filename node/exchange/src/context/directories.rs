//! Newer directories, as they come from the index: a head, and what is missing of its pieces when it is asked for.

use std::sync::Arc;
use std::time::Duration;

use handover_core::Code;
use handover_core::message::{Answer, Request, Verb};
use handover_net::{Net, Route};
use handover_seal::{RsaPublicKey, SealError};
use tokio::time::timeout;

use super::Inner;
use crate::ExchangeError;

/// How long it may take where somebody waits for it.
const REFRESH_LIMIT: Duration = Duration::from_secs(5);

impl Inner {
    /// Takes a directory, whose pieces the index gives, and makes the network follow it at once.
    pub(crate) async fn take_directory(&self, net: &Net, envelope: Vec<u8>) -> Result<(), ExchangeError> {
        let route = self.route_to_index();
        let ask = |digests| async {
            let answer = net.request(&route, Request::encode(Verb::DirectoryPieces, digests)).await?;
            Ok(Answer::decode(&answer)?)
        };
        self.parts.directories.take(envelope, ask).await?;
        self.parts.sign_in_force();
        net.recheck().await;
        self.outbox.notify_one();
        self.jobs.notify_one();
        self.wakes.directory();
        Ok(())
    }

    /// Whether what was refused like this is to be judged again: its signer may be of a directory that was not here when it
    /// was judged, by the one of version `known`.
    ///
    /// # Errors
    /// Why that is not known: what was to be judged is not refused for good.
    pub(crate) async fn has_new_signers(
        self: &Arc<Self>,
        known: u64,
        fault: &ExchangeError,
    ) -> Result<bool, ExchangeError> {
        if fault.code() == Code::WrongSigner { self.has_newer_directory(known).await } else { Ok(false) }
    }

    /// The code of a fault. What does not open here, as it is sealed to a key that this process does not have, waits if it
    /// opens once it is started with the key that the directory names. By the one of version `known` that was not so.
    pub(crate) async fn code_of(self: &Arc<Self>, known: u64, fault: &ExchangeError) -> Code {
        match self.has_other_key(known, fault).await {
            Ok(true) => Code::KeysOutdated,
            Ok(false) => fault.code(),
            Err(unknown) => unknown.code(),
        }
    }

    async fn has_other_key(
        self: &Arc<Self>,
        known: u64,
        fault: &ExchangeError,
    ) -> Result<bool, ExchangeError> {
        let ExchangeError::Seal(SealError::UnknownKey(key)) = fault else { return Ok(false) };
        self.has_newer_directory(known).await?;
        let federation = self.federation()?;
        let named = &federation.member(self.own())?.profile.rsa_key;
        Ok(RsaPublicKey::from_spki_der(named.as_ref())?.thumbprint() == *key)
    }

    /// Asks the index for a newer directory; whether there is one now than that of version `known`.
    async fn has_newer_directory(self: &Arc<Self>, known: u64) -> Result<bool, ExchangeError> {
        let Some(net) = self.net.get() else { return Ok(false) };
        let turn = Arc::clone(&self.judging_again).try_lock_owned().map_err(|_| Code::Busy)?;
        let (inner, net) = (Arc::clone(self), net.clone());
        // In a task of its own: what is stored has to be followed, too, however long that takes.
        let refreshing = tokio::spawn(async move {
            let refreshed = inner.refresh_directory(&net, &inner.route_to_index()).await;
            drop(turn);
            refreshed.map_err(|fault| fault.code())
        });
        match timeout(REFRESH_LIMIT, refreshing).await {
            Ok(Ok(Ok(()))) => Ok(self.parts.directories.version() != known),
            Ok(Ok(Err(code))) if code.waits_for_people() => Err(code.into()),
            // It waits for the directory, and not for whoever brought it.
            Ok(_) | Err(_) => Err(Code::DirectoryIncomplete.into()),
        }
    }

    /// Takes the index's directory, if it has a newer one.
    pub(crate) async fn refresh_directory(&self, net: &Net, route: &Route) -> Result<(), ExchangeError> {
        let held = self.parts.directories.version().to_be_bytes().to_vec();
        let answer = net.request(route, Request::encode(Verb::Directory, vec![held])).await?;
        match Answer::decode(&answer)?.into_iter().next() {
            Some(envelope) => self.take_directory(net, envelope).await,
            None => Ok(()),
        }
    }
}
