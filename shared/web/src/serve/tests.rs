use bytes::Bytes;
use handover_core::Timestamp;
use http_body_util::{BodyExt, Empty, Full, StreamBody, combinators::BoxBody};
use hyper::{body::Frame, client::conn};
use rustls::pki_types::{CertificateDer, ServerName, pem::PemObject};
use tokio::{io::AsyncReadExt, net::TcpSocket, sync::Notify};
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::*;
use crate::{Health, Metrics, body};

type ClientBody = BoxBody<Bytes, Infallible>;

/// Bytes that the test's route takes, fewer than the server's own limit.
const ROUTE_BYTES: usize = 100;

struct Running {
    _folder: tempfile::TempDir,
    tls: TlsIdentity,
    serving: Serving,
    shutdown: CancellationToken,
    entered: Arc<Notify>,
    release: Arc<Notify>,
}

impl Running {
    async fn new(limits: Limits) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let names = ["localhost".to_owned()];
        // The certificate has to be valid at the client's real time.
        let unix = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        let now = Timestamp::from_millis(i64::try_from(unix.as_millis()).unwrap());
        let tls = TlsIdentity::load_or_create(folder.path(), &names, now).unwrap();
        let (entered, release) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let shutdown = CancellationToken::new();
        let config = ServeConfig { listen: SocketAddr::from(([127, 0, 0, 1], 0)), tls: tls.clone(), limits };
        let routes = routes(Arc::clone(&entered), Arc::clone(&release));
        let serving = serve(config, routes, shutdown.clone()).await.unwrap();
        Self { _folder: folder, tls, serving, shutdown, entered, release }
    }

    async fn connect(&self, protocol: &[u8]) -> TlsStream<TcpStream> {
        self.tls([127, 0, 0, 1], protocol).await.unwrap()
    }

    /// A connection from one of the loopback's many addresses.
    async fn tls(&self, from: [u8; 4], protocol: &[u8]) -> std::io::Result<TlsStream<TcpStream>> {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.tls.certificate_pem().as_bytes()).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![protocol.to_vec()];
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(SocketAddr::from((from, 0))).unwrap();
        let stream = socket.connect(self.serving.address).await?;
        let name = ServerName::try_from("localhost").unwrap();
        TlsConnector::from(Arc::new(config)).connect(name, stream).await
    }

    async fn http_2(&self, from: [u8; 4]) -> conn::http2::SendRequest<ClientBody> {
        let stream = TokioIo::new(self.tls(from, b"h2").await.unwrap());
        let (sender, connection) = conn::http2::handshake(TokioExecutor::new(), stream).await.unwrap();
        tokio::spawn(connection);
        sender
    }

    async fn http_1(&self) -> conn::http1::SendRequest<ClientBody> {
        let stream = TokioIo::new(self.connect(b"http/1.1").await);
        let (sender, connection) = conn::http1::handshake(stream).await.unwrap();
        tokio::spawn(connection);
        sender
    }
}

fn routes(entered: Arc<Notify>, release: Arc<Notify>) -> Routes {
    let hello = warp::path!("hello").and(peer()).map(|Peer(address)| text(&address.ip().to_string()));
    let put = warp::path!("put")
        .and(body::body_bytes(ROUTE_BYTES))
        .map(|bytes: Bytes| text(&bytes.len().to_string()));
    let json = warp::path!("json").and(body::json(ROUTE_BYTES)).map(|number: u32| text(&number.to_string()));
    let wait = warp::path!("wait").then(move || {
        let (entered, release) = (Arc::clone(&entered), Arc::clone(&release));
        async move {
            entered.notify_one();
            release.notified().await;
            text("released")
        }
    });
    let health = Health::new();
    health.set("store", Err(Code::StoreUnavailable));
    hello
        .or(put)
        .unify()
        .or(json)
        .unify()
        .or(wait)
        .unify()
        .or(health.routes())
        .unify()
        .or(Metrics::new("test").routes())
        .unify()
        .boxed()
}

fn text(text: &str) -> Response {
    Response::new(text.to_owned().into())
}

fn get(path: &str) -> Request<ClientBody> {
    Request::get(path).header(header::HOST, "localhost").body(Empty::new().boxed()).unwrap()
}

fn post(path: &str, media: &str, body: ClientBody) -> Request<ClientBody> {
    Request::post(path)
        .header(header::HOST, "localhost")
        .header(header::CONTENT_TYPE, media)
        .body(body)
        .unwrap()
}

fn full(bytes: impl Into<Bytes>) -> ClientBody {
    Full::new(bytes.into()).boxed()
}

async fn read(response: hyper::Response<Incoming>) -> (u16, String) {
    let status = response.status().as_u16();
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    (status, String::from_utf8(bytes.to_vec()).unwrap())
}

#[tokio::test]
async fn both_versions_of_http_over_tls() {
    let running = Running::new(Limits::default()).await;
    let response = running.http_1().await.send_request(get("/hello")).await.unwrap();
    assert_eq!(response.version(), hyper::Version::HTTP_11);
    assert_eq!(response.headers()["cache-control"], "no-store");
    assert_eq!(response.headers()["x-content-type-options"], "nosniff");
    assert_eq!(read(response).await, (200, "127.0.0.1".to_owned()));

    let stream = TokioIo::new(running.connect(b"h2").await);
    let (mut sender, connection) = conn::http2::handshake(TokioExecutor::new(), stream).await.unwrap();
    tokio::spawn(connection);
    let response = sender.send_request(get("https://localhost/hello")).await.unwrap();
    assert_eq!(response.version(), hyper::Version::HTTP_2);
    assert_eq!(read(response).await, (200, "127.0.0.1".to_owned()));
}

#[tokio::test]
async fn refusals_are_problem_documents() {
    let limits = Limits { max_body_bytes: 1000, ..Limits::default() };
    let running = Running::new(limits).await;
    let chunked = |count: usize| {
        let chunks = std::iter::repeat_n(Bytes::from_static(&[7; 50]), count);
        BodyExt::boxed(StreamBody::new(futures::stream::iter(chunks.map(|chunk| Ok(Frame::data(chunk))))))
    };
    let json = "application/json; charset=utf-8";
    for (request, status, kind) in [
        (get("/absent"), 404, "about:blank"),
        (post("/health", json, full("")), 405, "about:blank"),
        // Over the route's limit, declared and not declared; over the server's limit.
        (post("/put", "", full(vec![7; ROUTE_BYTES + 1])), 413, "urn:handover:problem:too-large"),
        (post("/put", "", chunked(3)), 413, "urn:handover:problem:too-large"),
        (post("/absent", "", full(vec![7; 1001])), 413, "urn:handover:problem:too-large"),
        (post("/json", "text/plain", full("1")), 415, "about:blank"),
        (post("/json", json, full("{}")), 400, "urn:handover:problem:malformed"),
    ] {
        let path = request.uri().clone();
        let response = running.http_1().await.send_request(request).await.unwrap();
        assert_eq!(response.headers()["content-type"], problem::PROBLEM_MEDIA_TYPE, "{path}");
        let (ended, document) = read(response).await;
        assert_eq!(ended, status, "{path}");
        let document: serde_json::Value = serde_json::from_str(&document).unwrap();
        assert_eq!(document["type"], kind, "{path}");
    }
    for (request, status, text) in [
        (post("/put", "", chunked(2)), 200, "100"),
        (post("/json", json, full("42")), 200, "42"),
        (get("/health"), 503, r#"{"components":{"store":"store-unavailable"},"status":"failing"}"#),
        (get("/metrics"), 200, "# EOF\n"),
    ] {
        let response = running.http_1().await.send_request(request).await.unwrap();
        assert_eq!(read(response).await, (status, text.to_owned()));
    }
}

/// The limits are real time here, but only the server's cut ends the test.
#[tokio::test]
async fn silent_and_slow_clients_are_cut() {
    let limits = Limits { tls_timeout_ms: 50, header_timeout_ms: 300, ..Limits::default() };
    let running = Running::new(Limits { tls_timeout_ms: 5_000, ..limits }).await;
    for protocol in [&b"http/1.1"[..], b"h2"] {
        let mut stream = running.connect(protocol).await;
        tokio::io::AsyncWriteExt::write_all(&mut stream, b"GET /hello HTTP/1.1\r\nhost: lo").await.unwrap();
        let mut answer = Vec::new();
        // Cut with or without a TLS goodbye: both end the reading.
        let _ = stream.read_to_end(&mut answer).await;
        assert!(!String::from_utf8_lossy(&answer).contains("200 OK"));
    }
    let running = Running::new(limits).await;
    let mut silent = TcpStream::connect(running.serving.address).await.unwrap();
    assert_eq!(silent.read(&mut [0; 16]).await.unwrap_or(0), 0);
}

#[tokio::test]
async fn a_request_that_takes_too_long_is_answered() {
    let running = Running::new(Limits { request_timeout_ms: 50, ..Limits::default() }).await;
    let response = running.http_1().await.send_request(get("/wait")).await.unwrap();
    let (status, document) = read(response).await;
    assert_eq!(status, 504);
    assert!(document.contains("urn:handover:problem:timed-out"));
}

#[tokio::test]
async fn the_drain_finishes_what_runs() {
    let running = Running::new(Limits::default()).await;
    let mut sender = running.http_1().await;
    let mut idle = running.connect(b"http/1.1").await;
    let waiting = tokio::spawn(async move { read(sender.send_request(get("/wait")).await.unwrap()).await });
    running.entered.notified().await;
    running.shutdown.cancel();
    // The idle connection is closed at once: by then the server has seen the stop.
    assert_eq!(idle.read(&mut [0; 16]).await.unwrap_or(0), 0);
    running.release.notify_one();
    assert_eq!(waiting.await.unwrap(), (200, "released".to_owned()));
    running.serving.join.await.unwrap();
}

#[tokio::test]
async fn the_drain_has_a_limit() {
    let running = Running::new(Limits { drain_ms: 50, ..Limits::default() }).await;
    let mut sender = running.http_1().await;
    let waiting = tokio::spawn(async move { sender.send_request(get("/wait")).await.is_err() });
    running.entered.notified().await;
    running.shutdown.cancel();
    running.serving.join.await.unwrap();
    assert!(waiting.await.unwrap());
}

/// A ward's proxy and a stranger who floods, each one address, and everybody else.
const FLOOD: [u8; 4] = [127, 0, 0, 2];
const OTHER: [u8; 4] = [127, 0, 0, 3];

#[tokio::test]
async fn connections_are_bounded() {
    let limits = Limits { max_connections: 6, max_per_address: 4, ..Limits::default() };
    let running = Running::new(limits).await;
    // One address asks once on each connection and keeps it: only its newest four live.
    let mut flood = Vec::new();
    for _ in 0..10 {
        let mut sender = running.http_2(FLOOD).await;
        assert_eq!(read(sender.send_request(get("https://localhost/hello")).await.unwrap()).await.0, 200);
        flood.push(sender);
    }
    for sender in &mut flood[..6] {
        assert!(sender.send_request(get("https://localhost/hello")).await.is_err());
    }
    assert_eq!(running.serving.turned_away.load(Ordering::Relaxed), 6);
    // While it floods, others get in, more of them than there are slots left, and stay.
    let mut others = Vec::new();
    for last in 10..13 {
        let mut sender = running.http_2([127, 0, 0, last]).await;
        assert_eq!(read(sender.send_request(get("https://localhost/hello")).await.unwrap()).await.0, 200);
        others.push(sender);
        flood.push(running.http_2(FLOOD).await);
    }
    for sender in &mut others {
        let response = sender.send_request(get("https://localhost/hello")).await.unwrap();
        assert_eq!(read(response).await.0, 200);
    }
}

#[tokio::test]
async fn requests_under_way_are_cut_for_those_who_have_fewer_only() {
    let limits = Limits { max_connections: 3, max_per_address: 2, ..Limits::default() };
    let running = Running::new(limits).await;
    let mut waiting = Vec::new();
    for _ in 0..2 {
        let mut sender = running.http_2(FLOOD).await;
        let asked = tokio::spawn(async move { sender.send_request(get("https://localhost/wait")).await });
        running.entered.notified().await;
        waiting.push(asked);
    }
    // Its own third finds nobody who is idle.
    assert!(running.tls(FLOOD, b"h2").await.is_err());
    // Another address's second takes the place of the one that waits longest.
    let _first = running.http_2(OTHER).await;
    let mut second = running.http_2([127, 0, 0, 4]).await;
    assert!(waiting.remove(0).await.unwrap().is_err());
    assert_eq!(read(second.send_request(get("https://localhost/hello")).await.unwrap()).await.0, 200);
    running.release.notify_waiters();
    assert_eq!(waiting.remove(0).await.unwrap().unwrap().status(), 200);
}

#[tokio::test]
async fn a_connection_that_asks_no_more_ends() {
    let limits = Limits { idle_timeout_ms: 100, header_timeout_ms: 5_000, ..Limits::default() };
    let running = Running::new(limits).await;
    let stream = TokioIo::new(running.connect(b"h2").await);
    let (mut sender, connection) = conn::http2::handshake(TokioExecutor::new(), stream).await.unwrap();
    let connection = tokio::spawn(connection);
    let response = sender.send_request(get("https://localhost/hello")).await.unwrap();
    assert_eq!(read(response).await.0, 200);
    // The sender is kept, so only the server ends it.
    connection.await.unwrap().unwrap();
    assert!(sender.is_closed());
}
