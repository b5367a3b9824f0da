//! The control protocol's frames: one byte of kind, four bytes of length (big-endian), the body. A frame that
//! announces more than its kind allows is reported as oversized before any of its body is read; nothing is cut. What
//! comes unasked on one connection has room for a few large bodies at a time, whoever the peer is.

use std::io;
use std::sync::Arc;

use futures::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use handover_core::Code;
use libp2p::StreamProtocol;
use libp2p::request_response::Codec;
use tokio::sync::Semaphore;

/// The most that a request or an answer holds.
pub const MAX_BODY_BYTES: usize = 1024 * 1024;
/// The most that a hello holds.
pub const MAX_HELLO_BYTES: usize = 64 * 1024;
/// Longer than any code's word.
const MAX_CODE_BYTES: usize = 64;
/// What is set aside for a body before any of it has come.
const FIRST_ALLOCATION_BYTES: usize = 64 * 1024;

/// What the bodies of a connection's requests may hold together while they come in; more wait unread.
const ROOM_KIB: usize = 4 * 1024;

/// The control protocol's name.
pub(crate) const CONTROL: StreamProtocol = StreamProtocol::new("/handover/control/1");

/// One frame. The constants below are its kinds on the wire.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Frame {
    /// Asks: this is who I am.
    Hello(Vec<u8>),
    /// Asks: the application's request.
    Request(Vec<u8>),
    /// Answers a hello: admitted.
    Accepted,
    /// Answers a request.
    Answer(Vec<u8>),
    /// Answers either: no.
    Refused(Code),
    /// Never written: what came announced more than its kind allows.
    Oversized,
}

const HELLO: u8 = 0;
const REQUEST: u8 = 1;
const ACCEPTED: u8 = 2;
const ANSWER: u8 = 3;
const REFUSED: u8 = 4;

impl Frame {
    fn parts(&self) -> Option<(u8, &[u8])> {
        Some(match self {
            Self::Hello(body) => (HELLO, body),
            Self::Request(body) => (REQUEST, body),
            Self::Accepted => (ACCEPTED, &[]),
            Self::Answer(body) => (ANSWER, body),
            Self::Refused(code) => (REFUSED, code.as_str().as_bytes()),
            Self::Oversized => return None,
        })
    }
}

fn invalid(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

async fn read_frame<T: AsyncRead + Unpin + Send>(
    io: &mut T,
    kinds: &[u8],
    room: Option<&Semaphore>,
) -> io::Result<Frame> {
    let mut kind = [0; 1];
    io.read_exact(&mut kind).await?;
    let [kind] = kind;
    if !kinds.contains(&kind) {
        return Err(invalid("unexpected kind of frame"));
    }
    let mut length = [0; 4];
    io.read_exact(&mut length).await?;
    let length_bytes = usize::try_from(u32::from_be_bytes(length)).map_err(|_| invalid("frame length"))?;
    let limit_bytes = match kind {
        REQUEST | ANSWER => MAX_BODY_BYTES,
        HELLO => MAX_HELLO_BYTES,
        REFUSED => MAX_CODE_BYTES,
        _ => 0,
    };
    if length_bytes > limit_bytes {
        return Ok(Frame::Oversized);
    }
    // Nobody closes it.
    let _room = match room {
        Some(room) => {
            room.acquire_many(u32::try_from(length_bytes.div_ceil(1024)).unwrap_or(u32::MAX)).await.ok()
        }
        None => None,
    };
    let mut body = Vec::with_capacity(length_bytes.min(FIRST_ALLOCATION_BYTES));
    io.take(length_bytes as u64).read_to_end(&mut body).await?;
    if body.len() != length_bytes {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(match kind {
        HELLO => Frame::Hello(body),
        REQUEST => Frame::Request(body),
        ACCEPTED => Frame::Accepted,
        ANSWER => Frame::Answer(body),
        // A newer peer may refuse with a word that this version does not know.
        _ => Frame::Refused(
            std::str::from_utf8(&body).ok().and_then(|word| word.parse().ok()).unwrap_or(Code::Internal),
        ),
    })
}

async fn write_frame<T: AsyncWrite + Unpin + Send>(io: &mut T, frame: &Frame) -> io::Result<()> {
    let (kind, body) = frame.parts().ok_or_else(|| invalid("not a frame to send"))?;
    let length = u32::try_from(body.len()).map_err(|_| invalid("frame length"))?;
    io.write_all(&[kind]).await?;
    io.write_all(&length.to_be_bytes()).await?;
    io.write_all(body).await?;
    io.flush().await
}

/// Reads and writes [`Frame`]s for libp2p's request-response, which clones it for each connection, and that clone for
/// each stream.
#[derive(Debug, Default)]
pub(crate) struct ControlCodec {
    /// A connection's; none before there is one.
    room: Option<Arc<Semaphore>>,
}

impl Clone for ControlCodec {
    fn clone(&self) -> Self {
        let room = self.room.clone().unwrap_or_else(|| Arc::new(Semaphore::new(ROOM_KIB)));
        Self { room: Some(room) }
    }
}

impl Codec for ControlCodec {
    type Protocol = StreamProtocol;
    type Request = Frame;
    type Response = Frame;

    async fn read_request<T>(&mut self, _: &StreamProtocol, io: &mut T) -> io::Result<Frame>
    where
        T: AsyncRead + Unpin + Send,
    {
        read_frame(io, &[HELLO, REQUEST], self.room.as_deref()).await
    }

    async fn read_response<T>(&mut self, _: &StreamProtocol, io: &mut T) -> io::Result<Frame>
    where
        T: AsyncRead + Unpin + Send,
    {
        read_frame(io, &[ACCEPTED, ANSWER, REFUSED], None).await
    }

    async fn write_request<T>(&mut self, _: &StreamProtocol, io: &mut T, frame: Frame) -> io::Result<()>
    where
        T: AsyncWrite + Unpin + Send,
    {
        write_frame(io, &frame).await
    }

    async fn write_response<T>(&mut self, _: &StreamProtocol, io: &mut T, frame: Frame) -> io::Result<()>
    where
        T: AsyncWrite + Unpin + Send,
    {
        write_frame(io, &frame).await
    }
}

#[cfg(test)]
mod tests {
    use futures::executor::block_on;
    use futures::io::Cursor;
    use futures::{FutureExt as _, TryStreamExt as _, stream};

    use super::*;

    fn read(bytes: &[u8], kinds: &[u8]) -> io::Result<Frame> {
        block_on(read_frame(&mut Cursor::new(bytes), kinds, None))
    }

    #[test]
    fn frames_return_as_they_were_sent() {
        let all = [HELLO, REQUEST, ACCEPTED, ANSWER, REFUSED];
        for frame in [
            Frame::Hello(vec![]),
            Frame::Request(vec![7; MAX_BODY_BYTES]),
            Frame::Accepted,
            Frame::Answer(b"x".to_vec()),
            Frame::Refused(Code::Busy),
        ] {
            let mut bytes = Vec::new();
            block_on(write_frame(&mut bytes, &frame)).unwrap();
            assert_eq!(read(&bytes, &all).unwrap(), frame);
            assert!(read(&bytes[..bytes.len() - 1], &all).is_err());
        }
    }

    #[test]
    fn a_frame_above_its_limit_is_reported_unread() {
        for (kind, limit) in [(REQUEST, MAX_BODY_BYTES), (HELLO, MAX_HELLO_BYTES), (ACCEPTED, 0)] {
            let mut bytes = vec![kind];
            bytes.extend(u32::try_from(limit + 1).unwrap().to_be_bytes());
            assert_eq!(read(&bytes, &[kind]).unwrap(), Frame::Oversized);
        }
    }

    #[test]
    fn kinds_stand_only_where_they_belong() {
        assert!(read(&[ANSWER, 0, 0, 0, 0], &[HELLO, REQUEST]).is_err());
        assert!(read(&[9, 0, 0, 0, 0], &[HELLO, REQUEST]).is_err());
    }

    #[test]
    fn a_connection_has_room_for_a_few_large_bodies_at_a_time() {
        let all = ControlCodec::default();
        let (connection, other) = (all.clone(), all.clone());
        let never = || {
            let body = stream::pending::<io::Result<Vec<u8>>>().into_async_read();
            Cursor::new([&[REQUEST], 0x10_0000_u32.to_be_bytes().as_slice()].concat()).chain(body)
        };
        let trickles = |codec: ControlCodec, mut io| {
            Box::pin(async move { codec.clone().read_request(&CONTROL, &mut io).await })
        };
        let mut held: Vec<_> = (0..ROOM_KIB / 1024).map(|_| trickles(connection.clone(), never())).collect();
        assert!(held.iter_mut().all(|read| read.now_or_never().is_none()));
        let read = |codec: &ControlCodec| {
            let mut io = Cursor::new([REQUEST, 0, 0, 0, 1, b'x']);
            codec.clone().read_request(&CONTROL, &mut io).now_or_never()
        };
        assert!(read(&connection).is_none(), "a fifth body has room");
        assert_eq!(read(&other).unwrap().unwrap(), Frame::Request(b"x".to_vec()));
        held.pop();
        assert_eq!(read(&connection).unwrap().unwrap(), Frame::Request(b"x".to_vec()));
    }

    #[test]
    fn golden_bytes() {
        let mut bytes = Vec::new();
        block_on(write_frame(&mut bytes, &Frame::Request(b"ab".to_vec()))).unwrap();
        assert_eq!(bytes, [1, 0, 0, 0, 2, b'a', b'b']);
    }
}
