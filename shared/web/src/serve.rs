//! The HTTPS server: warp's filters behind an accept loop of our own, because warp 0.4 has neither TLS nor limits.
//!
//! Invariants: at most `max_connections` connections exist, and a newcomer never waits for one to end (`slots`); none
//! lives without progress on its handshake, its first request or its headers, nor for long after its last answer;
//! after the token is cancelled nothing new is accepted, running requests are finished, and everything is over after
//! `drain_ms`.

use std::{
    convert::Infallible,
    net::SocketAddr,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use handover_core::Code;
use http_body_util::Limited;
use hyper::{
    body::{Body, Incoming},
    service::Service,
};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
    service::TowerToHyperService,
};
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinHandle,
    time::{sleep, timeout},
};
use tokio_rustls::TlsAcceptor;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use warp::{
    Filter, Rejection,
    http::{HeaderValue, Request, header},
    reply::Response,
};

use self::slots::{Slot, Slots};
use crate::{
    Routes, WebError, problem, recover,
    tls::{ALPN_HTTP_2, TlsIdentity},
};

mod slots;

/// A connection is asked to end after this long, so that none is held for ever: ten minutes.
const CONNECTION_AGE_MS: u64 = 600_000;
/// HTTP/2 connections are pinged this often; one that does not answer within the header timeout is dropped.
const PING_INTERVAL_MS: u64 = 20_000;
/// Requests that one HTTP/2 connection may have open.
const MAX_STREAMS: u32 = 16;
/// Bytes of headers that one request may have.
const MAX_HEADER_BYTES: u32 = 32 * 1024;
/// Pause after a failed accept (out of file descriptors, mostly), so that the loop does not spin.
const ACCEPT_PAUSE_MS: u64 = 100;

/// What bounds a server.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Connections at one time; for more, the idlest of those who hold the most give way.
    pub max_connections: usize,
    /// Of these, how many one address may have (one network, with IPv6). Many patients may come from one address: a
    /// ward, a proxy.
    pub max_per_address: usize,
    /// For the TLS handshake.
    pub tls_timeout_ms: u64,
    /// For a request's headers to arrive, and between requests of an HTTP/1.1 connection.
    pub header_timeout_ms: u64,
    /// For an answer to be read, and between requests of any connection.
    pub idle_timeout_ms: u64,
    /// For a request to be answered, its body included.
    pub request_timeout_ms: u64,
    /// Bytes of any request body; routes set their own lower limits.
    pub max_body_bytes: usize,
    /// For running requests to finish after the stop.
    pub drain_ms: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_connections: 512,
            max_per_address: 256,
            tls_timeout_ms: 5_000,
            header_timeout_ms: 10_000,
            idle_timeout_ms: 60_000,
            request_timeout_ms: 30_000,
            max_body_bytes: 1024 * 1024,
            drain_ms: 30_000,
        }
    }
}

/// What a server needs.
#[derive(Clone, Debug)]
pub struct ServeConfig {
    /// Where to listen; port 0 lets the system choose.
    pub listen: SocketAddr,
    /// Certificate and key.
    pub tls: TlsIdentity,
    /// What bounds it.
    pub limits: Limits,
}

/// A running server.
#[derive(Debug)]
pub struct Serving {
    /// Where it really listens.
    pub address: SocketAddr,
    /// Ends when the server has drained.
    pub join: JoinHandle<()>,
    /// How many connections found no place, or gave theirs to others, since the start.
    pub turned_away: Arc<AtomicU64>,
}

/// Who connected, as [`peer`] extracts it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer(
    /// The other end's address.
    pub SocketAddr,
);

/// Extracts the other end's address (`warp::addr::remote` knows nothing of this accept loop).
pub fn peer() -> impl Filter<Extract = (Peer,), Error = Rejection> + Copy {
    warp::ext::get::<Peer>()
}

/// Serves `routes` over HTTPS (HTTP/1.1 and HTTP/2 by ALPN) until `shutdown`, then drains. Rejections are answered
/// by [`recover`].
///
/// # Errors
/// [`WebError::Listen`] when the address cannot be had.
pub async fn serve(
    config: ServeConfig,
    routes: Routes,
    shutdown: CancellationToken,
) -> Result<Serving, WebError> {
    let listen = |source| WebError::Listen { address: config.listen, source };
    let listener = TcpListener::bind(config.listen).await.map_err(listen)?;
    let address = listener.local_addr().map_err(listen)?;
    let routes = routes.recover(recover).unify().boxed();
    let turned_away = Arc::<AtomicU64>::default();
    let server = Arc::new(Server {
        acceptor: TlsAcceptor::from(config.tls.server_config()),
        limits: config.limits,
        routes,
        shutdown,
        turned_away: Arc::clone(&turned_away),
    });
    Ok(Serving { address, join: tokio::spawn(server.run(listener)), turned_away })
}

struct Server {
    acceptor: TlsAcceptor,
    limits: Limits,
    routes: Routes,
    shutdown: CancellationToken,
    turned_away: Arc<AtomicU64>,
}

impl Server {
    async fn run(self: Arc<Self>, listener: TcpListener) {
        let slots = Slots::new(self.limits.max_connections, self.limits.max_per_address);
        let connections = TaskTracker::new();
        while let Some((stream, peer)) = self.next(&listener).await {
            let Some(slot) = slots.take(peer.0.ip(), Instant::now()) else {
                self.turned_away.fetch_add(1, Ordering::Relaxed);
                tracing::debug!("an address has all the connections that it may have");
                continue;
            };
            let server = Arc::clone(&self);
            connections.spawn(async move {
                let gives_way = slot.gives_way();
                tokio::select! {
                    biased;
                    () = gives_way.cancelled() => {
                        server.turned_away.fetch_add(1, Ordering::Relaxed);
                        tracing::debug!("a connection gave way to another");
                    }
                    () = server.connection(stream, peer, Arc::new(slot)) => {}
                }
            });
        }
        drop(listener);
        connections.close();
        connections.wait().await;
    }

    /// The next connection; `None` after the stop.
    async fn next(&self, listener: &TcpListener) -> Option<(TcpStream, Peer)> {
        let accept = async {
            loop {
                match listener.accept().await {
                    Ok((stream, address)) => return (stream, Peer(address)),
                    Err(error) => {
                        tracing::warn!(%error, "a connection could not be accepted");
                        sleep(Duration::from_millis(ACCEPT_PAUSE_MS)).await;
                    }
                }
            }
        };
        tokio::select! {
            biased;
            () = self.shutdown.cancelled() => None,
            accepted = accept => Some(accepted),
        }
    }

    async fn connection(&self, stream: TcpStream, peer: Peer, slot: Arc<Slot>) {
        // Answers are small; waiting to fill packets only delays them.
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "no-delay was not set");
        }
        let handshake = timeout(ms(self.limits.tls_timeout_ms), self.acceptor.accept(stream));
        let stream = tokio::select! {
            () = self.shutdown.cancelled() => return,
            outcome = handshake => match outcome {
                Ok(Ok(stream)) => stream,
                Ok(Err(error)) => return tracing::debug!(%error, "TLS handshake failed"),
                Err(_) => return tracing::debug!("TLS handshake took too long"),
            },
        };
        slot.begins(Instant::now());
        // The protocol is decided by ALPN, never by waiting for a first byte: that wait has no limit.
        let is_http_2 = stream.get_ref().1.alpn_protocol() == Some(ALPN_HTTP_2);
        let asked = Arc::clone(&slot);
        let inner = TowerToHyperService::new(warp::service(self.routes.clone()));
        let limits = self.limits;
        let service = hyper::service::service_fn(move |request: Request<Incoming>| {
            let busy = asked.busy();
            let response = limited(request, peer, limits).map(|request| inner.call(request));
            async move {
                let answer = answer(response, limits).await;
                drop(busy);
                Ok::<_, Infallible>(answer)
            }
        });
        let builder = self.builder(is_http_2);
        let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service));

        let (outcome, drain_ms) = tokio::select! {
            outcome = connection.as_mut() => (Some(outcome), 0),
            () = idle(&slot, limits) => (None, limits.header_timeout_ms),
            () = self.shutdown.cancelled() => (None, limits.drain_ms),
            () = sleep(ms(CONNECTION_AGE_MS)) => (None, limits.drain_ms),
        };
        let outcome = match outcome {
            Some(outcome) => outcome,
            None => {
                connection.as_mut().graceful_shutdown();
                match timeout(ms(drain_ms), connection).await {
                    Ok(outcome) => outcome,
                    Err(_) => {
                        return tracing::debug!("a connection did not end within the limit and was cut");
                    }
                }
            }
        };
        if let Err(error) = outcome {
            tracing::debug!(error, "a connection ended early");
        }
    }

    fn builder(&self, is_http_2: bool) -> auto::Builder<TokioExecutor> {
        let mut builder = auto::Builder::new(TokioExecutor::new());
        let header_timeout = ms(self.limits.header_timeout_ms);
        builder.http1().timer(TokioTimer::new()).header_read_timeout(header_timeout);
        builder
            .http2()
            .timer(TokioTimer::new())
            .max_concurrent_streams(MAX_STREAMS)
            .max_header_list_size(MAX_HEADER_BYTES)
            .keep_alive_interval(ms(PING_INTERVAL_MS))
            .keep_alive_timeout(header_timeout);
        if is_http_2 { builder.http2_only() } else { builder.http1_only() }
    }
}

/// Ends when the connection's first request has not come within the limit for headers, or when none has been under
/// way for the idle limit.
async fn idle(slot: &Slot, limits: Limits) {
    loop {
        let limit = ms(if slot.was_asked() { limits.idle_timeout_ms } else { limits.header_timeout_ms });
        let left = slot.idle_since().map_or(limit, |since| limit.saturating_sub(since.elapsed()));
        if left.is_zero() {
            return;
        }
        sleep(left).await;
    }
}

const fn ms(span_ms: u64) -> Duration {
    Duration::from_millis(span_ms)
}

/// The request with its peer and a bounded body; refused at once if it declares more than is accepted.
fn limited(
    request: Request<Incoming>,
    peer: Peer,
    limits: Limits,
) -> Result<Request<Limited<Incoming>>, Code> {
    if request.body().size_hint().lower() > limits.max_body_bytes as u64 {
        return Err(Code::TooLarge);
    }
    let mut request = request.map(|body| Limited::new(body, limits.max_body_bytes));
    request.extensions_mut().insert(peer);
    Ok(request)
}

/// Waits for the answer within the limit and adds the headers that every answer has: nothing here may be kept by a
/// cache or taken for another type.
async fn answer<F>(response: Result<F, Code>, limits: Limits) -> Response
where
    F: Future<Output = Result<Response, Infallible>>,
{
    let mut response = match response {
        Err(code) => problem(code),
        Ok(response) => match timeout(ms(limits.request_timeout_ms), response).await {
            Ok(Ok(response)) => response,
            Err(_) => problem(Code::TimedOut),
        },
    };
    let headers = response.headers_mut();
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

#[cfg(test)]
mod tests;
