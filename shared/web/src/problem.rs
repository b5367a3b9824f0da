//! Problem documents (RFC 9457): what an HTTP caller is told when something is not done.
//!
//! Invariant: a document is made of a code or a status alone, so that no error's own words reach a caller.

use std::convert::Infallible;

use handover_core::{Code, problem::Outcome};
use warp::{
    Rejection,
    http::{HeaderValue, StatusCode, header},
    reject,
    reply::Response,
};

/// The media type of problem documents.
pub const PROBLEM_MEDIA_TYPE: &str = "application/problem+json";
/// What stands before the code in a document's `type`.
pub const PROBLEM_TYPE_PREFIX: &str = "urn:handover:problem:";
/// What a caller is told to wait before trying again, in seconds, where trying again can help.
const RETRY_AFTER_S: &str = "5";

/// The problem document for `code`.
#[must_use]
pub fn problem(code: Code) -> Response {
    let status = status(code);
    let document = serde_json::json!({
        "type": format!("{PROBLEM_TYPE_PREFIX}{code}"),
        "title": code.text(),
        "status": status.as_u16(),
        "code": code.as_str(),
    });
    answer(status, &document)
}

/// A document for what HTTP itself refuses (no such page, wrong method): `about:blank` with the status' own phrase,
/// as RFC 9457, 4.2.1 says.
fn plain(status: StatusCode) -> Response {
    let document = serde_json::json!({
        "type": "about:blank",
        "title": status.canonical_reason().unwrap_or("Refused"),
        "status": status.as_u16(),
    });
    answer(status, &document)
}

fn answer(status: StatusCode, document: &serde_json::Value) -> Response {
    let mut response = Response::new(document.to_string().into());
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(PROBLEM_MEDIA_TYPE));
    if status == StatusCode::SERVICE_UNAVAILABLE {
        headers.insert(header::RETRY_AFTER, HeaderValue::from_static(RETRY_AFTER_S));
    }
    response
}

/// The HTTP status of a code: named ones first, else by the kind of outcome.
#[must_use]
pub const fn status(code: Code) -> StatusCode {
    match code {
        Code::Malformed | Code::UsageInvalid => StatusCode::BAD_REQUEST,
        Code::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        Code::UnknownHospital | Code::UnknownPatient | Code::UnknownTransfer | Code::UnknownRecord => {
            StatusCode::NOT_FOUND
        }
        Code::AccessDenied | Code::NotAdmitted | Code::WrongSigner | Code::LinkCodeWrong => {
            StatusCode::FORBIDDEN
        }
        Code::Conflict | Code::OutOfOrder | Code::ConsentSpent | Code::LedgerConflict => StatusCode::CONFLICT,
        Code::TimedOut => StatusCode::GATEWAY_TIMEOUT,
        Code::AuditUnavailable => StatusCode::SERVICE_UNAVAILABLE,
        Code::Internal | Code::StoreDamaged | Code::LedgerUnbalanced => StatusCode::INTERNAL_SERVER_ERROR,
        other => match other.outcome() {
            Outcome::Refused | Outcome::Integrity => StatusCode::UNPROCESSABLE_ENTITY,
            Outcome::Usage => StatusCode::BAD_REQUEST,
            Outcome::Configuration | Outcome::Unreachable => StatusCode::SERVICE_UNAVAILABLE,
        },
    }
}

/// A code on its way out of a filter.
#[derive(Debug)]
struct Refusal(Code);

impl reject::Reject for Refusal {}

/// The rejection that [`recover`] answers with `code`'s problem document.
#[must_use]
pub fn refuse(code: Code) -> Rejection {
    reject::custom(Refusal(code))
}

/// Answers every rejection with a problem document: 404, 405, 411, 413, 415, body, header and query faults, and
/// what [`refuse`] carries. What it does not know is answered as internal. [`crate::serve()`] puts it last itself.
///
/// # Errors
/// None; the type is what warp asks for.
pub async fn recover(rejection: Rejection) -> Result<Response, Infallible> {
    // With alternatives, every one of them has left a rejection: the most telling is answered.
    let response = if let Some(Refusal(code)) = rejection.find() {
        problem(*code)
    } else if rejection.is_not_found() {
        plain(StatusCode::NOT_FOUND)
    } else if rejection.find::<reject::PayloadTooLarge>().is_some() {
        problem(Code::TooLarge)
    } else if rejection.find::<reject::UnsupportedMediaType>().is_some()
        || rejection.find::<crate::body::WrongMedia>().is_some()
    {
        plain(StatusCode::UNSUPPORTED_MEDIA_TYPE)
    } else if rejection.find::<reject::LengthRequired>().is_some() {
        plain(StatusCode::LENGTH_REQUIRED)
    } else if rejection.find::<warp::body::BodyDeserializeError>().is_some() {
        problem(Code::Malformed)
    } else if rejection.find::<reject::InvalidQuery>().is_some()
        || rejection.find::<reject::InvalidHeader>().is_some()
        || rejection.find::<reject::MissingHeader>().is_some()
        || rejection.find::<reject::MissingCookie>().is_some()
    {
        plain(StatusCode::BAD_REQUEST)
    } else if rejection.find::<reject::MethodNotAllowed>().is_some() {
        plain(StatusCode::METHOD_NOT_ALLOWED)
    } else {
        tracing::warn!("a rejection without a code was answered as internal");
        problem(Code::Internal)
    };
    Ok(response)
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;
    use warp::Filter;

    use super::*;

    async fn document(response: Response) -> serde_json::Value {
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        serde_json::from_slice(&bytes).unwrap()
    }

    #[tokio::test]
    async fn a_code_becomes_a_document() {
        let response = problem(Code::CapExceeded);
        assert_eq!(response.status(), 422);
        assert_eq!(response.headers()["content-type"], PROBLEM_MEDIA_TYPE);
        let document = document(response).await;
        assert_eq!(document["type"], "urn:handover:problem:cap-exceeded");
        assert_eq!(document["title"], Code::CapExceeded.text());
        assert_eq!(document["status"], 422);
    }

    #[test]
    fn every_code_has_an_error_status() {
        for code in Code::ALL {
            assert!(status(*code).as_u16() >= 400, "{code}");
        }
        assert_eq!(status(Code::Busy), 503);
        assert_eq!(status(Code::CatchingUp), 503);
    }

    #[tokio::test]
    async fn rejections_become_documents() {
        let known = warp::path!("known").and(warp::post()).map(|| Response::new("ok".to_owned().into()));
        let refused =
            warp::path!("refused").and_then(|| async { Err::<Response, _>(refuse(Code::AccessDenied)) });
        let service = warp::service(known.or(refused).unify().recover(recover).unify().boxed());
        let service = hyper_util::service::TowerToHyperService::new(service);
        for (method, path, status) in
            [("GET", "/absent", 404), ("GET", "/known", 405), ("GET", "/refused", 403)]
        {
            let body = http_body_util::Empty::<bytes::Bytes>::new();
            let request = warp::http::Request::builder().method(method).uri(path).body(body).unwrap();
            let response = hyper::service::Service::call(&service, request).await.unwrap();
            assert_eq!(response.status(), status, "{path}");
            assert_eq!(document(response).await["status"], status, "{path}");
        }
    }
}
