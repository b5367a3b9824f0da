//! Newer directories, as they come from the index: a head, and what is missing of its pieces when it is asked for.

use handover_core::message::{Answer, Request, Verb};
use handover_net::{Net, Route};

use super::Inner;
use crate::ExchangeError;

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
