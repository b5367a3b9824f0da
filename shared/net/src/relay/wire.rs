//! The messages of libp2p's circuit relay (libp2p specification, relay/circuit-v2.md), as the relay reads and writes
//! them: protocol buffers, each behind its length.

use std::io;

use libp2p::{PeerId, StreamProtocol};
use prost::Message;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

/// Spoken by whoever wants something of the relay.
pub(crate) const HOP: StreamProtocol = StreamProtocol::new("/libp2p/circuit/relay/0.2.0/hop");
/// Spoken by the relay to whoever is to be reached.
pub(super) const STOP: StreamProtocol = StreamProtocol::new("/libp2p/circuit/relay/0.2.0/stop");
/// The most bytes of a message.
const MESSAGE_BYTES: usize = 4096;
/// The bits of a length's byte that count; the highest says that another one follows.
const LENGTH_BITS: u32 = 7;

/// What a message says, by its number in both protocols.
pub(super) mod kind {
    pub(in crate::relay) const HOP_RESERVE: i32 = 0;
    pub(in crate::relay) const HOP_CONNECT: i32 = 1;
    pub(in crate::relay) const HOP_STATUS: i32 = 2;
    pub(in crate::relay) const STOP_CONNECT: i32 = 0;
    pub(in crate::relay) const STOP_STATUS: i32 = 1;
}

/// The answers of both protocols.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Status {
    Ok = 100,
    ReservationRefused = 200,
    ResourceLimitExceeded = 201,
    PermissionDenied = 202,
    ConnectionFailed = 203,
    NoReservation = 204,
    MalformedMessage = 400,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Hop {
    #[prost(int32, required, tag = "1")]
    pub(super) kind: i32,
    #[prost(message, optional, tag = "2")]
    pub(super) peer: Option<Peer>,
    #[prost(message, optional, tag = "3")]
    pub(super) reservation: Option<Reservation>,
    #[prost(message, optional, tag = "4")]
    pub(super) limit: Option<Limit>,
    #[prost(int32, optional, tag = "5")]
    pub(super) status: Option<i32>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Stop {
    #[prost(int32, required, tag = "1")]
    pub(super) kind: i32,
    #[prost(message, optional, tag = "2")]
    pub(super) peer: Option<Peer>,
    #[prost(message, optional, tag = "3")]
    pub(super) limit: Option<Limit>,
    #[prost(int32, optional, tag = "4")]
    pub(super) status: Option<i32>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Peer {
    #[prost(bytes = "vec", required, tag = "1")]
    pub(super) id: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Reservation {
    /// Until when, in seconds of Unix time.
    #[prost(uint64, required, tag = "1")]
    pub(super) expire: u64,
    /// The relay's addresses, in multiaddresses' bytes.
    #[prost(bytes = "vec", repeated, tag = "2")]
    pub(super) addrs: Vec<Vec<u8>>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Limit {
    /// In seconds.
    #[prost(uint32, optional, tag = "1")]
    pub(super) duration: Option<u32>,
    /// In bytes.
    #[prost(uint64, optional, tag = "2")]
    pub(super) data: Option<u64>,
}

impl Hop {
    pub(super) fn answer(status: Status) -> Self {
        Self { kind: kind::HOP_STATUS, status: Some(status as i32), ..Self::default() }
    }
}

impl Peer {
    pub(super) fn of(peer: PeerId) -> Self {
        Self { id: peer.to_bytes() }
    }
}

/// Reads one message, and no byte beyond it.
pub(super) async fn read<M: Message + Default>(from: &mut (impl AsyncRead + Unpin)) -> io::Result<M> {
    let mut length = 0_usize;
    for shift in [0, LENGTH_BITS] {
        let byte = from.read_u8().await?;
        length |= usize::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            if length > MESSAGE_BYTES {
                break;
            }
            let mut bytes = vec![0; length];
            from.read_exact(&mut bytes).await?;
            return M::decode(bytes.as_slice()).map_err(io::Error::other);
        }
    }
    Err(io::ErrorKind::InvalidData.into())
}

/// Writes one message.
pub(super) async fn write(to: &mut (impl AsyncWrite + Unpin), message: &impl Message) -> io::Result<()> {
    to.write_all(&message.encode_length_delimited_to_vec()).await?;
    to.flush().await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_message_is_read_to_its_end_and_not_beyond() {
        let peer = PeerId::random();
        for addresses in [1, 5] {
            let reservation = Reservation { expire: 7, addrs: vec![vec![8; 30]; addresses] };
            let message =
                Hop { peer: Some(Peer::of(peer)), reservation: Some(reservation), ..Hop::answer(Status::Ok) };
            let mut bytes = Vec::new();
            write(&mut bytes, &message).await.unwrap();
            bytes.extend(b"beyond");
            let mut from = bytes.as_slice();
            assert_eq!(read::<Hop>(&mut from).await.unwrap(), message);
            assert_eq!(from, b"beyond");
        }
    }

    #[tokio::test]
    async fn what_is_too_long_or_no_message_is_refused_unread() {
        for bytes in [&[0xff, 0xff, 0x01, 0][..], &[0x81, 0x20], &[0x80, 0x80, 0], &[2, 0xff, 0xff], &[]] {
            assert!(read::<Hop>(&mut &*bytes).await.is_err(), "{bytes:?}");
        }
    }
}
