//! yamux, whose connections close within a time: its own closing waits until everything is written, and a peer that reads
//! nothing (it hangs, or its machine is gone) holds that up for as long as the system keeps the connection. Until then
//! the swarm would take it for connected, dial it no more, and send requests into it.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::TryFutureExt as _;
use futures::future::MapOk;
use libp2p::core::UpgradeInfo;
use libp2p::core::muxing::{StreamMuxer, StreamMuxerEvent};
use libp2p::core::upgrade::{InboundConnectionUpgrade, OutboundConnectionUpgrade};
use libp2p::yamux;
use tokio::time::{Sleep, sleep};

/// What is still to be written at the end of a connection has so long.
const CLOSES_WITHIN: Duration = Duration::from_secs(1);

/// The configuration of yamux, for connections that close in time.
#[derive(Clone)]
pub(crate) struct Bounded(yamux::Config);

impl Bounded {
    /// With so many streams on a connection.
    pub(crate) fn new(streams: usize) -> Self {
        let mut config = yamux::Config::default();
        config.set_max_num_streams(streams);
        Self(config)
    }
}

impl UpgradeInfo for Bounded {
    type Info = <yamux::Config as UpgradeInfo>::Info;
    type InfoIter = <yamux::Config as UpgradeInfo>::InfoIter;

    fn protocol_info(&self) -> Self::InfoIter {
        self.0.protocol_info()
    }
}

impl<C> InboundConnectionUpgrade<C> for Bounded
where
    yamux::Config: InboundConnectionUpgrade<C>,
{
    type Output = Closing<<yamux::Config as InboundConnectionUpgrade<C>>::Output>;
    type Error = <yamux::Config as InboundConnectionUpgrade<C>>::Error;
    type Future = MapOk<
        <yamux::Config as InboundConnectionUpgrade<C>>::Future,
        fn(<yamux::Config as InboundConnectionUpgrade<C>>::Output) -> Self::Output,
    >;

    fn upgrade_inbound(self, socket: C, info: Self::Info) -> Self::Future {
        InboundConnectionUpgrade::upgrade_inbound(self.0, socket, info).map_ok(Closing::new)
    }
}

impl<C> OutboundConnectionUpgrade<C> for Bounded
where
    yamux::Config: OutboundConnectionUpgrade<C>,
{
    type Output = Closing<<yamux::Config as OutboundConnectionUpgrade<C>>::Output>;
    type Error = <yamux::Config as OutboundConnectionUpgrade<C>>::Error;
    type Future = MapOk<
        <yamux::Config as OutboundConnectionUpgrade<C>>::Future,
        fn(<yamux::Config as OutboundConnectionUpgrade<C>>::Output) -> Self::Output,
    >;

    fn upgrade_outbound(self, socket: C, info: Self::Info) -> Self::Future {
        OutboundConnectionUpgrade::upgrade_outbound(self.0, socket, info).map_ok(Closing::new)
    }
}

/// A connection's streams.
pub(crate) struct Closing<M> {
    inner: M,
    /// Since it is being closed.
    limit: Option<Pin<Box<Sleep>>>,
}

impl<M> Closing<M> {
    fn new(inner: M) -> Self {
        Self { inner, limit: None }
    }
}

impl<M: StreamMuxer + Unpin> StreamMuxer for Closing<M> {
    type Substream = M::Substream;
    type Error = M::Error;

    fn poll_inbound(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Self::Substream, Self::Error>> {
        Pin::new(&mut self.get_mut().inner).poll_inbound(cx)
    }

    fn poll_outbound(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Self::Substream, Self::Error>> {
        Pin::new(&mut self.get_mut().inner).poll_outbound(cx)
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        let this = self.get_mut();
        if let Poll::Ready(closed) = Pin::new(&mut this.inner).poll_close(cx) {
            return Poll::Ready(closed);
        }
        // The socket goes with what is dropped then.
        let limit = this.limit.get_or_insert_with(|| Box::pin(sleep(CLOSES_WITHIN)));
        limit.as_mut().poll(cx).map(Ok)
    }

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<StreamMuxerEvent, Self::Error>> {
        Pin::new(&mut self.get_mut().inner).poll(cx)
    }
}
