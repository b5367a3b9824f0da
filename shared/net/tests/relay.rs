//! Two hospitals that nobody can dial, and a relay between them: that they meet there, what it lets nobody do, and what
//! becomes of them when it goes.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "the helpers of tests")]

mod common;

use std::time::Duration;

use common::{LIMIT, Process, QUIC, TCP, config};
use handover_core::Code;
use handover_net::{AtRelay, Inbound, Limits, Net, NetError, RelayLimits, Route};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::{sleep, timeout};

/// What libp2p's own relay would let through.
const USUAL_LIMIT_BYTES: usize = 128 * 1024;

async fn index(seed: u8, listen: &[&str], limits: RelayLimits) -> Process {
    let config = config(seed, listen, Limits::default());
    Process::start_with("index", handover_net::NetConfig { relay: Some(limits), ..config }).await
}

/// A hospital that listens nowhere.
async fn hidden(name: &str, seed: u8, relay: &Net) -> Process {
    let config = config(seed, &[], Limits::default());
    Process::start_with(name, handover_net::NetConfig { relays: relay.addresses(), ..config }).await
}

async fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let looking = async {
        loop {
            match look() {
                Some(found) => return found,
                None => sleep(Duration::from_millis(20)).await,
            }
        }
    };
    timeout(LIMIT, looking).await.expect(what)
}

async fn is_reached(net: &Net) {
    until("a place at the relay", || net.at_relays().iter().find_map(|it| it.since)).await;
}

async fn has_fault(net: &Net, fault: Code) -> AtRelay {
    until("a fault", || net.at_relays().into_iter().find(|it| it.fault == Some(fault))).await
}

/// To a process by way of a relay.
fn through(relay: &Net, name: &str, to: &Net) -> Route {
    let own = handover_net::peer_id(&to.peer_key()).unwrap();
    let addresses = relay.addresses().iter().map(|it| format!("{it}/p2p-circuit/p2p/{own}")).collect();
    Route { party: name.parse().unwrap(), addresses }
}

fn package(event: Inbound) -> Option<handover_net::PackageStream> {
    match event {
        Inbound::Package { stream, .. } => Some(stream),
        _ => None,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_that_nobody_can_dial_exchange_through_a_relay() {
    const BYTES: usize = 64 * USUAL_LIMIT_BYTES;
    for transport in [TCP, QUIC] {
        let relay = index(1, &[transport], RelayLimits::default()).await;
        let mut sink = hidden("hillside", 2, &relay.net).await;
        let source = hidden("lakeside", 3, &relay.net).await;
        is_reached(&sink.net).await;
        assert!(sink.net.addresses().is_empty(), "a circuit is no address to listen on");
        let route = through(&relay.net, "hillside", &sink.net);
        let mut stream = source.net.open_package(&route).await.unwrap();
        let mut received = sink.wait(package).await;
        let sent = vec![7; BYTES];
        let sending = tokio::spawn(async move {
            stream.write_all(&sent).await.unwrap();
            stream.shutdown().await.unwrap();
            stream
        });
        let mut all = Vec::new();
        timeout(LIMIT, received.read_to_end(&mut all)).await.unwrap().unwrap();
        assert!(all == vec![7; BYTES]);
        sending.await.unwrap();
        let carried = relay.net.carried();
        assert_eq!((carried.circuits, carried.opened, carried.refused), (1, 1, 0));
        assert!(carried.bytes > u64::try_from(BYTES).unwrap() && carried.reservations >= 1, "{carried:?}");
        let counted = until("the circuit is counted", || Some(sink.net.connections()).filter(|it| it.1 > 0));
        assert_eq!(counted.await, (1, 1), "one with the relay, one through it");
        assert_eq!(sink.net.last_dialled(), None);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_can_be_dialled_is() {
    let relay = index(1, &[TCP], RelayLimits::default()).await;
    let config = config(2, &[TCP], Limits::default());
    let reached = handover_net::NetConfig { relays: relay.net.addresses(), ..config };
    let reached = Process::start_with("hillside", reached).await;
    let source = Process::start("lakeside", 3, &[], Limits::default()).await;
    is_reached(&reached.net).await;
    let mut route = through(&relay.net, "hillside", &reached.net);
    route.addresses.extend(reached.net.addresses());
    let net = reached.net.clone();
    reached.echo();
    source.net.request(&route, vec![]).await.unwrap();
    assert_eq!(relay.net.carried().opened, 0);
    until("the dial is noted", || net.last_dialled()).await;
    // Nobody answers at this one.
    let other = Process::start("harbour", 4, &[], Limits::default()).await;
    let own = handover_net::peer_id(&net.peer_key()).unwrap();
    let mut route = through(&relay.net, "hillside", &net);
    route.addresses.push(format!("/ip4/127.0.0.1/tcp/9/p2p/{own}"));
    other.net.request(&route, vec![]).await.unwrap();
    assert_eq!(relay.net.carried().opened, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_get_no_place_and_no_circuit() {
    let relay = index(1, &[TCP], RelayLimits::default()).await;
    let member = hidden("hillside", 2, &relay.net).await;
    is_reached(&member.net).await;
    // Presents nothing that is a name.
    let stranger = hidden("", 3, &relay.net).await;
    has_fault(&stranger.net, Code::NotAdmitted).await;
    let outcome = stranger.net.request(&through(&relay.net, "hillside", &member.net), vec![]).await;
    assert!(matches!(outcome, Err(NetError::Unreachable)), "{outcome:?}");
    let carried = relay.net.carried();
    assert_eq!((carried.reservations, carried.opened), (1, 0));
    assert!(carried.refused > 0);
    // Who is suspended loses the circuits that there are.
    let source = hidden("lakeside", 4, &relay.net).await;
    let net = member.net.clone();
    let mut inbound = member.inbound;
    let route = through(&relay.net, "hillside", &net);
    source.net.connect(&route).await.unwrap();
    until("the circuit", || (relay.net.carried().circuits == 1).then_some(())).await;
    relay.names.suspended.lock().unwrap().push("lakeside".parse().unwrap());
    relay.net.recheck().await;
    until("the circuit's end", || (relay.net.carried().circuits == 0).then_some(())).await;
    let gone = async {
        while let Some(event) = inbound.recv().await {
            if matches!(&event, Inbound::Disconnected(party) if party.to_string() == "lakeside") {
                return;
            }
        }
    };
    timeout(LIMIT, gone).await.expect("the other end is told");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_has_its_share_of_circuits_and_no_more() {
    let limits = RelayLimits { circuits_per_source: 1, reservations: 2, ..RelayLimits::default() };
    let relay = index(1, &[TCP], limits).await;
    let (one, two) = (hidden("hillside", 2, &relay.net).await, hidden("harbour", 3, &relay.net).await);
    is_reached(&one.net).await;
    is_reached(&two.net).await;
    let late = hidden("lakeside", 4, &relay.net).await;
    has_fault(&late.net, Code::RelayFull).await;
    late.net.connect(&through(&relay.net, "hillside", &one.net)).await.unwrap();
    let beyond = late.net.connect(&through(&relay.net, "harbour", &two.net)).await;
    assert!(matches!(beyond, Err(NetError::Unreachable)), "{beyond:?}");
    assert_eq!(relay.net.carried().circuits, 1);
    // Others have theirs.
    two.net.connect(&through(&relay.net, "hillside", &one.net)).await.unwrap();
    assert_eq!(relay.net.carried().circuits, 2);
}

/// On one thread, so that the relay is handed all of them before it can see to the first.
#[tokio::test]
async fn who_asks_at_one_moment_with_others_is_heard() {
    const SOURCES: u8 = 8;
    let relay = index(1, &[TCP], RelayLimits::default()).await;
    let sink = hidden("hillside", 2, &relay.net).await;
    is_reached(&sink.net).await;
    let route = through(&relay.net, "hillside", &sink.net);
    let mut sources = Vec::new();
    for seed in 0..SOURCES {
        let source = Process::start("lakeside", seed + 3, &[], Limits::default()).await;
        let to_relay = Route { party: "index".parse().unwrap(), addresses: relay.net.addresses() };
        source.net.connect(&to_relay).await.unwrap();
        sources.push(source);
    }
    let all = futures::future::join_all(sources.iter().map(|it| it.net.connect(&route))).await;
    assert!(all.iter().all(Result::is_ok), "{all:?}");
    assert_eq!(relay.net.carried().opened, u64::from(SOURCES));
}

#[tokio::test(flavor = "multi_thread")]
async fn one_member_does_not_get_every_place() {
    let limits = RelayLimits { reservations_per_party: 1, ..RelayLimits::default() };
    let relay = index(1, &[TCP], limits).await;
    let first = hidden("hillside", 2, &relay.net).await;
    is_reached(&first.net).await;
    let second = hidden("hillside", 3, &relay.net).await;
    has_fault(&second.net, Code::RelayFull).await;
    is_reached(&hidden("lakeside", 4, &relay.net).await.net).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_circuit_ends_by_its_bytes_and_another_goes_on() {
    let bytes = 4 * u64::try_from(USUAL_LIMIT_BYTES).unwrap();
    let relay = index(1, &[TCP], RelayLimits { circuit_bytes: bytes, ..RelayLimits::default() }).await;
    let mut sink = hidden("hillside", 2, &relay.net).await;
    let source = hidden("lakeside", 3, &relay.net).await;
    is_reached(&sink.net).await;
    let route = through(&relay.net, "hillside", &sink.net);
    for opened in 1..=2 {
        let mut stream = source.net.open_package(&route).await.unwrap();
        let received = sink.wait(package).await;
        let reading = tokio::spawn(async move {
            let (mut received, mut all) = (received, Vec::new());
            (received.read_to_end(&mut all).await, all.len())
        });
        let written = stream.write_all(&vec![7; 16 * USUAL_LIMIT_BYTES]).await;
        assert!(written.is_err(), "beyond its bytes");
        let (_, read) = reading.await.unwrap();
        assert!(read > USUAL_LIMIT_BYTES && read < 4 * USUAL_LIMIT_BYTES, "{read}");
        assert_eq!(relay.net.carried().opened, opened);
        until("the circuit's end", || (relay.net.carried().circuits == 0).then_some(())).await;
        until("it is known", || source.net.connected().len().eq(&1).then_some(())).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_circuit_that_is_held_in_silence_ends() {
    // Pings come every five seconds, so an honest pair is silent for less than the usual minute.
    let relay = index(1, &[TCP], RelayLimits { silence_ms: 3_000, ..RelayLimits::default() }).await;
    let one = hidden("hillside", 2, &relay.net).await;
    let two = hidden("lakeside", 3, &relay.net).await;
    is_reached(&one.net).await;
    two.net.connect(&through(&relay.net, "hillside", &one.net)).await.unwrap();
    until("the circuit's end", || (relay.net.carried().circuits == 0).then_some(())).await;
    assert_eq!(relay.net.carried().opened, 1);
}

/// Nor do addresses by which two are to be reached through each other.
#[tokio::test(flavor = "multi_thread")]
async fn who_is_said_to_be_reached_through_themselves_can_still_be_dialled() {
    let victim = Process::start("harbour", 2, &[TCP], Limits::default()).await;
    let source = Process::start("lakeside", 3, &[], Limits::default()).await;
    let gone = Process::start("hillside", 4, &[], Limits::default()).await;
    let [own, other] = [&victim.net, &gone.net].map(|it| handover_net::peer_id(&it.peer_key()).unwrap());
    gone.net.shutdown().await;
    let dead = "/ip4/127.0.0.1/tcp/9";
    for addresses in [
        vec![format!("{dead}/p2p/{own}/p2p-circuit/p2p/{own}")],
        vec![
            format!("{dead}/p2p/{other}"),
            format!("{dead}/p2p/{own}/p2p-circuit/p2p/{other}"),
            format!("{dead}/p2p/{other}/p2p-circuit/p2p/{own}"),
        ],
    ] {
        let route = Route { party: "nowhere".parse().unwrap(), addresses };
        assert!(matches!(source.net.connect(&route).await, Err(NetError::Unreachable)));
    }
    let route = Route { party: "harbour".parse().unwrap(), addresses: victim.net.addresses() };
    source.net.connect(&route).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_place_is_asked_for_again_after_the_relay_was_away() {
    let relay = index(1, &[TCP], RelayLimits::default()).await;
    let address = relay.net.addresses()[0].clone();
    let listen = address.split("/p2p/").next().unwrap().to_owned();
    let member = hidden("hillside", 2, &relay.net).await;
    is_reached(&member.net).await;
    relay.net.shutdown().await;
    drop(relay.inbound);
    has_fault(&member.net, Code::RelayAway).await;
    let relay = index(1, &[&listen], RelayLimits::default()).await;
    is_reached(&member.net).await;
    let source = hidden("lakeside", 3, &relay.net).await;
    let net = member.net.clone();
    let _echo = member.echo();
    source.net.request(&through(&relay.net, "hillside", &net), vec![]).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn who_serves_nobody_says_so() {
    let other = Process::start("index", 1, &[TCP], Limits::default()).await;
    let member = hidden("hillside", 2, &other.net).await;
    has_fault(&member.net, Code::NotARelay).await;
}
