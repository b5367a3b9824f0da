//! HTTPS: what patients' wallets use, and health and metrics for operators. Bodies are CBOR, refusals are problem
//! documents. Everything a patient sends is signed or sealed; here it is only carried in and out, within limits.

use std::sync::Arc;

use bytes::Bytes;
use handover_core::Code;
use handover_core::codec::MAX_MESSAGE_BYTES;
use handover_exchange::{Exchange, ExchangeError};
use handover_web::body::body_bytes;
use handover_web::metrics::Counter;
use handover_web::{Health, Metrics, Routes, problem};
use tokio::sync::Semaphore;
use warp::Filter;
use warp::http::{HeaderValue, header};
use warp::reply::Response;

/// Requests of patients that are answered at one time; more are told to come again.
const MAX_AT_ONCE: usize = 64;
/// Beside these, questions that are passed on to the index: while it is slow they wait, and nothing else may wait with them.
const MAX_LOCATING: usize = 32;
const CBOR: HeaderValue = HeaderValue::from_static("application/cbor");

/// What the handlers share.
#[derive(Clone)]
struct Desk {
    exchange: Exchange,
    places: Arc<Semaphore>,
    requests: Counter<2>,
}

/// All routes.
pub(crate) fn routes(exchange: Exchange, health: &Health, metrics: &Metrics) -> Routes {
    let requests = metrics.counter("patient_requests", "Requests of patients' wallets", ["route", "outcome"]);
    let desk = Desk { exchange, places: Arc::new(Semaphore::new(MAX_AT_ONCE)), requests };
    let hospital = {
        let desk = desk.clone();
        warp::path!("patient" / "v1" / "hospital").and(warp::get()).then(move || {
            let desk = desk.clone();
            async move { desk.answer("hospital", async { desk.exchange.hospital_info() }).await }
        })
    };
    let pieces =
        posted(&desk, "directory-pieces", |exchange, body| async move { exchange.directory_pieces(&body) });
    let link = posted(&desk, "link", |exchange, body| async move { exchange.link(body).await });
    let remote =
        posted(&desk, "remote-link", |exchange, body| async move { exchange.remote_link(body).await });
    let asking = Desk { places: Arc::new(Semaphore::new(MAX_LOCATING)), ..desk.clone() };
    let locate = posted(&asking, "locate", |exchange, body| async move { exchange.locate(body).await });
    let inbox = posted(&desk, "inbox", |exchange, body| async move { exchange.inbox(body).await });
    let artefact = posted(&desk, "artefact", |exchange, body| async move {
        exchange.patient_artefact(body).await.map(|()| Vec::new())
    });
    let patients = hospital
        .or(pieces)
        .unify()
        .or(link)
        .unify()
        .or(remote)
        .unify()
        .or(locate)
        .unify()
        .or(inbox)
        .unify()
        .or(artefact)
        .unify();
    patients.or(health.routes()).unify().or(metrics.routes()).unify().boxed()
}

/// `POST /patient/v1/<name>`.
fn posted<F>(
    desk: &Desk,
    name: &'static str,
    work: impl Fn(Exchange, Vec<u8>) -> F + Clone + Send + Sync + 'static,
) -> Routes
where
    F: Future<Output = Result<Vec<u8>, ExchangeError>> + Send + 'static,
{
    let desk = desk.clone();
    warp::path("patient")
        .and(warp::path("v1"))
        .and(warp::path(name))
        .and(warp::path::end())
        .and(warp::post())
        .and(body_bytes(MAX_MESSAGE_BYTES))
        .then(move |body: Bytes| {
            let (desk, work) = (desk.clone(), work.clone());
            async move { desk.answer(name, work(desk.exchange.clone(), body.to_vec())).await }
        })
        .boxed()
}

impl Desk {
    async fn answer(
        &self,
        route: &'static str,
        work: impl Future<Output = Result<Vec<u8>, ExchangeError>>,
    ) -> Response {
        let outcome = match self.places.try_acquire() {
            Ok(_place) => work.await.map_err(|fault| {
                tracing::info!(route, code = %fault.code(), "a patient's request was refused");
                fault.code()
            }),
            Err(_) => Err(Code::Busy),
        };
        self.requests.inc([route, outcome.as_ref().map_or_else(|code| code.as_str(), |_| "done")]);
        match outcome {
            Err(code) => problem(code),
            Ok(body) => {
                let mut response = Response::new(body.into());
                response.headers_mut().insert(header::CONTENT_TYPE, CBOR);
                response
            }
        }
    }
}
