//! The web client that speaks to a bucket: the one of this tree, under TLS by rustls, with a limit on every wait.

use std::error::Error;
use std::fmt;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::Method;
pub(super) use hyper::Uri;
use hyper::body::{Body, Bytes, Frame, Incoming};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use object_store::ClientOptions;
use object_store::client::{
    HttpClient, HttpConnector as Connector, HttpError, HttpErrorKind, HttpRequest, HttpRequestBody,
    HttpResponse, HttpResponseBody, HttpService,
};
use rustls::ClientConfig;
use tokio::time::{Instant, Sleep, sleep, timeout};

/// How long one address may take to answer a connection.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);
/// How long an answer may take to begin, with what is sent for it.
const ANSWER_LIMIT: Duration = Duration::from_secs(20);
/// What is added to that for what is sent: the slowest rate that is borne with.
const SLOWEST_BYTES_PER_SECOND: u64 = 16 * 1024;
/// How long parts may take to be put together.
const COMPLETE_LIMIT: Duration = Duration::from_secs(300);
/// How long an answer may be silent.
const SILENCE_LIMIT: Duration = Duration::from_secs(20);
/// How long a connection that nobody uses is kept.
const IDLE_LIMIT: Duration = Duration::from_secs(20);

/// The client. Clones share their connections.
#[derive(Clone, Debug)]
pub(super) struct Web(Client<HttpsConnector<HttpConnector>, HttpRequestBody>);

impl Web {
    /// One that trusts whom `tls` says.
    pub(super) fn new(tls: ClientConfig) -> Self {
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_connect_timeout(Some(CONNECT_LIMIT));
        tcp.set_nodelay(true);
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(tls)
            .https_or_http()
            .enable_http1()
            .wrap_connector(tcp);
        let mut client = Client::builder(TokioExecutor::new());
        client.pool_timer(TokioTimer::new()).pool_idle_timeout(IDLE_LIMIT);
        Self(client.build(connector))
    }
}

impl Connector for Web {
    fn connect(&self, _: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(HttpClient::new(self.clone()))
    }
}

#[async_trait::async_trait]
impl HttpService for Web {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let sent = request.body().content_length() as u64;
        let is_completing = request.method() == Method::POST
            && request.uri().query().is_some_and(|query| query.contains("uploadId="));
        let begins = if is_completing { COMPLETE_LIMIT } else { ANSWER_LIMIT };
        let limit = begins.saturating_add(Duration::from_secs(sent / SLOWEST_BYTES_PER_SECOND));
        let answer = timeout(limit, self.0.request(request)).await.map_err(|_| Silent::after(limit))?;
        let answer = answer.map_err(|fault| HttpError::new(kind(&fault), fault))?;
        Ok(answer
            .map(|body| HttpResponseBody::new(Limited { body, silence: Box::pin(sleep(SILENCE_LIMIT)) })))
    }
}

/// What an error says of whether it is worth another try. Everything that is asked here can be asked twice.
fn kind(fault: &hyper_util::client::legacy::Error) -> HttpErrorKind {
    if fault.is_connect() { HttpErrorKind::Connect } else { HttpErrorKind::Interrupted }
}

/// There was no answer.
#[derive(Debug)]
pub(super) struct Silent(Duration);

impl Silent {
    fn after(limit: Duration) -> HttpError {
        HttpError::new(HttpErrorKind::Timeout, Self(limit))
    }
}

impl fmt::Display for Silent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no answer within {} s", self.0.as_secs())
    }
}

impl Error for Silent {}

/// An answer that may not be silent for long.
struct Limited {
    body: Incoming,
    silence: Pin<Box<Sleep>>,
}

impl Body for Limited {
    type Data = Bytes;
    type Error = HttpError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, HttpError>>> {
        match Pin::new(&mut self.body).poll_frame(context) {
            Poll::Ready(frame) => {
                self.silence.as_mut().reset(Instant::now() + SILENCE_LIMIT);
                Poll::Ready(
                    frame.map(|it| it.map_err(|fault| HttpError::new(HttpErrorKind::Interrupted, fault))),
                )
            }
            Poll::Pending => {
                self.silence.as_mut().poll(context).map(|()| Some(Err(Silent::after(SILENCE_LIMIT))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> hyper::body::SizeHint {
        self.body.size_hint()
    }
}

/// Why a bucket did not do what was asked, without what was asked: an object's name in a log would tell which content
/// was touched, and what a server answers repeats it.
pub(super) fn reason(error: &object_store::Error) -> String {
    use object_store::Error as Fault;
    match error {
        Fault::PermissionDenied { .. } | Fault::Unauthenticated { .. } => {
            return "it refuses these credentials: look at credentials_file, and at what they may do"
                .to_owned();
        }
        Fault::NotFound { .. } => return "there is no such bucket".to_owned(),
        _ => {}
    }
    let mut cause: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(at) = cause {
        if let Some(silent) = at.downcast_ref::<Silent>() {
            return silent.to_string();
        }
        if let Some(tls) = at.downcast_ref::<rustls::Error>() {
            return tls.to_string();
        }
        if let Some(io) = at.downcast_ref::<io::Error>() {
            // One that wraps another does not name it as its source.
            match io.get_ref() {
                None => return io.kind().to_string(),
                Some(within) => cause = Some(within),
            }
        } else {
            cause = at.source();
        }
    }
    // The words of the library around a status are fixed; what follows it is the server's.
    let said = error.to_string();
    let status = said.split("status code: ").nth(1).and_then(|rest| rest.get(..3));
    status.filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit())).map_or_else(
        || "the connection was lost".to_owned(),
        |status| format!("it answers with status {status}"),
    )
}
