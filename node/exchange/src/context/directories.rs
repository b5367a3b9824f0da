//! Newer directories, as they come from the index: a head, and what is missing of its pieces when it is asked for.

use std::time::Duration;

use handover_core::Code;
use handover_core::message::{Answer, Request, Verb};
use handover_net::{Net, Route};
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

    /// Whether what was refused like this is to be judged again: its signer may be of a directory that had not got here,
    /// so the index was asked for it, and there is a newer one now.
    ///
    /// # Errors
    /// Why that is not known: what was to be judged is not refused for good.
    pub(crate) async fn has_new_signers(&self, fault: &ExchangeError) -> Result<bool, ExchangeError> {
        let Some(net) = self.net.get().filter(|_| fault.code() == Code::WrongSigner) else {
            return Ok(false);
        };
        let Ok(_turn) = self.judging_again.try_lock() else { return Err(Code::Busy.into()) };
        let before = self.parts.directories.version();
        let refreshed = timeout(REFRESH_LIMIT, self.refresh_directory(net, &self.route_to_index())).await;
        if self.parts.directories.version() != before {
            return Ok(true);
        }
        refreshed.map_err(|_| Code::Unreachable)?.map_err(|_| Code::Unreachable)?;
        Ok(false)
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
