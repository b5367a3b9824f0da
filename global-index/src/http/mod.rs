//! The index over HTTPS: health, metrics, the newest checkpoint and the newest directory, its head and each piece by its
//! digest. All of it is public.

use handover_core::{Code, Digest};
use handover_web::{Health, Metrics, Routes, problem};
use warp::Filter;
use warp::http::{HeaderValue, header};
use warp::reply::Response;

use crate::desk::Desk;
use crate::log::Log;

fn answer(media: &'static str, body: Vec<u8>) -> Response {
    let mut response = Response::new(body.into());
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(media));
    response
}

/// All routes.
pub(crate) fn routes(desk: Desk, log: Log, health: &Health, metrics: &Metrics) -> Routes {
    let checkpoint = warp::path!("v1" / "checkpoint").and(warp::get()).then(move || {
        let log = log.clone();
        async move {
            match log.checkpoint().await {
                Ok(note) => answer("text/plain; charset=utf-8", note.into_bytes()),
                Err(fault) => problem(fault.code()),
            }
        }
    });
    let head = desk.clone();
    let directory = warp::path!("v1" / "directory").and(warp::get()).map(move || {
        answer("application/cose; cose-type=\"cose-sign1\"", head.current().envelope().to_vec())
    });
    let pieces = warp::path!("v1" / "directory" / "pieces" / Digest).and(warp::get()).map(move |digest| {
        match desk.current().federation().piece(&digest) {
            Some(piece) => answer("application/cbor", piece.to_vec()),
            None => problem(Code::DirectoryIncomplete),
        }
    });
    let books = checkpoint.or(directory).unify().or(pieces).unify();
    health.routes().or(metrics.routes()).unify().or(books).unify().boxed()
}
