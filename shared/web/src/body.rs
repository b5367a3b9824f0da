//! Bodies with a limit that holds while they arrive: a declared length is only a claim.

use bytes::{Buf, Bytes, BytesMut};
use futures::{Stream, StreamExt, pin_mut};
use handover_core::Code;
use serde::de::DeserializeOwned;
use warp::{Filter, Rejection, filters::BoxedFilter, http::header::CONTENT_TYPE, reject};

use crate::problem::refuse;

/// Extracts a body of at most `max_bytes`. Rejects with [`Code::TooLarge`] as soon as one byte more arrives, and
/// with [`Code::Malformed`] when the body breaks off. Use this and [`json`] instead of warp's own body filters,
/// which have no limit.
#[must_use]
pub fn body_bytes(max_bytes: usize) -> BoxedFilter<(Bytes,)> {
    warp::body::stream().and_then(move |stream| collect(stream, max_bytes)).boxed()
}

/// Extracts a JSON body of at most `max_bytes`. Its content type must say `application/json`, which also keeps
/// other sites' forms out (415 otherwise); what does not fit `T` is rejected with [`Code::Malformed`].
#[must_use]
pub fn json<T: DeserializeOwned + Send + 'static>(max_bytes: usize) -> BoxedFilter<(T,)> {
    warp::header::optional::<String>(CONTENT_TYPE.as_str())
        .and_then(|media: Option<String>| async move {
            let media = media.unwrap_or_default();
            let essence = media.split(';').next().unwrap_or_default().trim();
            if essence.eq_ignore_ascii_case("application/json") { Ok(()) } else { Err(refuse_media()) }
        })
        .untuple_one()
        .and(body_bytes(max_bytes))
        .and_then(|bytes: Bytes| async move {
            serde_json::from_slice(&bytes).map_err(|_| refuse(Code::Malformed))
        })
        .boxed()
}

/// A body of another media type than the route reads.
#[derive(Debug)]
pub(crate) struct WrongMedia;

impl reject::Reject for WrongMedia {}

fn refuse_media() -> Rejection {
    reject::custom(WrongMedia)
}

async fn collect<B: Buf>(
    stream: impl Stream<Item = Result<B, warp::Error>>,
    max_bytes: usize,
) -> Result<Bytes, Rejection> {
    pin_mut!(stream);
    let mut all = BytesMut::new();
    while let Some(part) = stream.next().await {
        let mut part = part.map_err(|_| refuse(Code::Malformed))?;
        let part_bytes = part.remaining();
        if part_bytes > max_bytes.saturating_sub(all.len()) {
            return Err(refuse(Code::TooLarge));
        }
        all.extend_from_slice(&part.copy_to_bytes(part_bytes));
    }
    Ok(all.freeze())
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn collected(parts: &[&'static [u8]], max_bytes: usize) -> Result<Bytes, Rejection> {
        let parts: Vec<_> = parts.iter().map(|part| Ok(Bytes::from_static(part))).collect();
        collect(futures::stream::iter(parts), max_bytes).await
    }

    #[tokio::test]
    async fn the_limit_is_exact_and_counts_what_arrives() {
        assert_eq!(collected(&[b"abc", b"de"], 5).await.unwrap(), "abcde");
        assert_eq!(collected(&[], 0).await.unwrap(), "");
        assert!(collected(&[b"abc", b"def"], 5).await.is_err());
    }
}
