//! A peer that speaks the control protocol byte by byte, and not as it should: what is announced too large is refused
//! unread, what is no frame gets no answer, and who does not finish holds nobody else up. And from where it is dialled.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "the helpers of tests"
)]

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures::{AsyncReadExt as _, AsyncWriteExt as _, StreamExt as _};
use handover_core::id::SigningPublic;
use handover_core::{Code, Party};
use handover_net::{
    Admission, Inbound, Limits, MAX_BODY_BYTES, MAX_HELLO_BYTES, Net, NetConfig, Route, start,
};
use libp2p::swarm::SwarmEvent;
use libp2p::{Multiaddr, PeerId, Stream, StreamProtocol, SwarmBuilder, tcp, tls, yamux};
use tokio::net::TcpSocket;
use tokio::time::timeout;

const CONTROL: StreamProtocol = StreamProtocol::new("/handover/control/1");
const LIMIT: Duration = Duration::from_secs(20);
/// Kinds of frames.
const HELLO: u8 = 0;
const REQUEST: u8 = 1;
const ANSWER: u8 = 3;
const REFUSED: u8 = 4;

/// Is the index and admits everybody as Lakeside who says anything.
struct Anybody(&'static str);

impl Admission for Anybody {
    fn hello(&self) -> Vec<u8> {
        self.0.as_bytes().to_vec()
    }

    fn admit(&self, _: &SigningPublic, hello: &[u8]) -> Result<Party, Code> {
        std::str::from_utf8(hello).ok().and_then(|name| name.parse().ok()).ok_or(Code::NotAdmitted)
    }
}

/// A process that answers every request with its body.
async fn process(name: &'static str, seed: u8, listen: &[&str]) -> Net {
    let config = NetConfig {
        key_seed: [seed; 32].into(),
        listen: listen.iter().map(ToString::to_string).collect(),
        relays: Vec::new(),
        relay: None,
        limits: Limits::default(),
    };
    let (net, mut inbound) = start(config, Arc::new(Anybody(name))).await.unwrap();
    tokio::spawn(async move {
        while let Some(event) = inbound.recv().await {
            if let Inbound::Request { body, reply, .. } = event {
                reply.send(body);
            }
        }
    });
    net
}

/// A connection over which streams are opened by hand.
async fn raw(address: &str) -> (libp2p_stream::Control, PeerId) {
    let mut swarm = SwarmBuilder::with_new_identity()
        .with_tokio()
        .with_tcp(tcp::Config::default(), tls::Config::new, yamux::Config::default)
        .unwrap()
        .with_behaviour(|_| libp2p_stream::Behaviour::new())
        .unwrap()
        .with_swarm_config(|config| config.with_idle_connection_timeout(LIMIT))
        .build();
    let mut control = swarm.behaviour().new_control();
    // Takes the other side's hello and never answers it: without that it is soon disconnected.
    let mut hellos = control.accept(CONTROL).unwrap();
    swarm.dial(address.parse::<Multiaddr>().unwrap()).unwrap();
    let peer = loop {
        match timeout(LIMIT, swarm.select_next_some()).await.expect("a connection in time") {
            SwarmEvent::ConnectionEstablished { peer_id, .. } => break peer_id,
            SwarmEvent::OutgoingConnectionError { error, .. } => panic!("{error}"),
            _ => {}
        }
    };
    tokio::spawn(async move {
        let mut held = Vec::new();
        loop {
            tokio::select! {
                _ = swarm.select_next_some() => {}
                Some(hello) = hellos.next() => held.push(hello),
            }
        }
    });
    (control, peer)
}

fn frame(kind: u8, length: usize, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(length).unwrap().to_be_bytes();
    [&[kind], length.as_slice(), body].concat()
}

/// Writes bytes on a stream and a connection of their own: who breaks the protocol may be cut off.
async fn said(address: &str, bytes: &[u8]) -> Stream {
    let (mut control, peer) = raw(address).await;
    let mut stream = control.open_stream(peer, CONTROL).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    stream.flush().await.unwrap();
    stream
}

/// The answer to bytes; nothing, if the stream ends without.
async fn answer(address: &str, bytes: &[u8]) -> Option<(u8, Vec<u8>)> {
    let mut stream = said(address, bytes).await;
    let mut all = Vec::new();
    // A stream that was reset is a stream without an answer.
    let _ = timeout(LIMIT, stream.read_to_end(&mut all)).await.expect("an end in time");
    let (head, body) = all.split_at_checked(5)?;
    Some((head[0], body.to_vec()))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_breaks_the_protocol_is_refused_unread_and_holds_nobody_up() {
    let index = process("index", 1, &["/ip4/127.0.0.1/tcp/0"]).await;
    let lakeside = process("lakeside", 2, &[]).await;
    let route = Route { party: Party::Index, addresses: index.addresses() };
    let address = &index.addresses()[0];
    let too_large = Some((REFUSED, Code::TooLarge.as_str().as_bytes().to_vec()));
    // By the book first: so these are the protocol's bytes.
    let honest = frame(REQUEST, 1, b"x");
    assert_eq!(answer(address, &honest).await, Some((ANSWER, b"x".to_vec())));
    // What is announced is never sent, so whoever waited for it would not answer.
    for length in [MAX_BODY_BYTES + 1, u32::MAX as usize] {
        assert_eq!(answer(address, &frame(REQUEST, length, b"")).await, too_large, "{length}");
    }
    for length in [MAX_HELLO_BYTES + 1, u32::MAX as usize] {
        // Who presents this is cut off, perhaps before the answer has reached them.
        let refused = answer(address, &frame(HELLO, length, b"")).await;
        assert!(refused.is_none() || refused == too_large, "{length}: {refused:?}");
    }
    for kind in [2, ANSWER, REFUSED, 99] {
        assert_eq!(answer(address, &frame(kind, 1, b"x")).await, None, "a frame of kind {kind}");
    }
    let mut unfinished = Vec::new();
    for _ in 0..4 {
        unfinished.push(said(address, &frame(REQUEST, MAX_BODY_BYTES, b"half")).await);
    }
    let answered = timeout(LIMIT, lakeside.request(&route, b"meanwhile".to_vec())).await;
    assert_eq!(answered.expect("an answer in time").unwrap(), b"meanwhile");
    assert_eq!(answer(address, &honest).await, Some((ANSWER, b"x".to_vec())));
}

#[tokio::test(flavor = "multi_thread")]
async fn silent_connections_of_one_address_keep_nobody_else_out() {
    let index = process("index", 1, &["/ip4/127.0.0.1/tcp/0"]).await;
    let port = index.addresses()[0].split('/').nth(4).unwrap().parse().unwrap();
    let flood = tokio::spawn(async move {
        let to = SocketAddr::from(([127, 0, 0, 1], port));
        let mut held = VecDeque::new();
        loop {
            let socket = TcpSocket::new_v4().unwrap();
            socket.bind(SocketAddr::from(([127, 0, 0, 2], 0))).unwrap();
            held.extend(socket.connect(to).await);
            // More than are let in at all; those that were cut are made again.
            if held.len() > 200 {
                held.pop_front();
                tokio::task::yield_now().await;
            }
        }
    });
    let route = Route { party: Party::Index, addresses: index.addresses() };
    for seed in 2..10 {
        let lakeside = process("lakeside", seed, &[]).await;
        let answered = timeout(LIMIT, lakeside.request(&route, vec![seed])).await;
        assert_eq!(answered.expect("an answer in time").unwrap(), [seed]);
    }
    flood.abort();
    assert!(index.turned_away() > 0, "nobody counts who is turned away");
}

/// From its listening port, it could not come back for as long as the system keeps the pair of addresses of a
/// connection that has just ended: a minute.
#[tokio::test(flavor = "multi_thread")]
async fn a_dial_comes_from_a_port_of_its_own() {
    let hospital = process("lakeside", 2, &["/ip4/127.0.0.1/tcp/0"]).await;
    let own = hospital.addresses().remove(0);
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(1).unwrap();
    let port = listener.local_addr().unwrap().port();
    let address = format!("/ip4/127.0.0.1/tcp/{port}/p2p/{}", PeerId::random());
    let route = Route { party: Party::Index, addresses: vec![address] };
    let dialling = tokio::spawn(async move { hospital.connect(&route).await });
    let (_, from) = timeout(LIMIT, listener.accept()).await.unwrap().unwrap();
    assert!(!own.contains(&format!("/tcp/{}/", from.port())), "{own} dials from {from}");
    dialling.abort();
}
