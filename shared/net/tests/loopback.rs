//! The network room on real loopback sockets, over TCP and over QUIC. Tests wait for events only.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "the helpers of tests")]

mod common;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::{LIMIT, Names, Process, QUIC, TCP, config, echoed, live_only};
use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use handover_core::{Code, Party};
use handover_net::{Inbound, Limits, MAX_BODY_BYTES, NetError, Presented, Route, start};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UdpSocket;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

#[tokio::test(flavor = "multi_thread")]
async fn requests_go_both_ways_over_one_connection() {
    for transport in [TCP, QUIC] {
        let index = Process::start("index", 1, &[transport], Limits::default()).await;
        // Cannot be dialled at all.
        let hospital = Process::start("lakeside", 2, &[], Limits::default()).await;
        let to_index = index.route("index");
        let (index, hospital) = (index.echo().0, hospital.echo().0);

        let answer = hospital.request(&to_index, b"up".to_vec()).await.unwrap();
        assert_eq!(answer, b"lakeside:up");
        let answer = index.request(&live_only("lakeside"), b"down".to_vec()).await.unwrap();
        assert_eq!(answer, b"index:down");
        assert_eq!(hospital.connected(), [Party::Index]);
        assert_eq!(index.connected(), ["lakeside".parse().unwrap()]);

        let largest = vec![7; MAX_BODY_BYTES - b"lakeside:".len()];
        let answer = hospital.request(&to_index, largest.clone()).await.unwrap();
        assert_eq!(answer, echoed(Some(&"lakeside".parse().unwrap()), &largest));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn more_requests_at_once_than_go_out_at_once_are_all_answered() {
    let index = Process::start("index", 1, &[TCP], Limits { inbound_queue: 256, ..Limits::default() }).await;
    let hospital = Process::start("lakeside", 2, &[], Limits::default()).await;
    let route = index.route("index");
    let (_index, hospital) = (index.echo(), hospital.echo().0);
    let all = (0..200_u8).map(|number| {
        let (hospital, route) = (hospital.clone(), route.clone());
        tokio::spawn(async move { (number, hospital.request(&route, vec![number]).await) })
    });
    for one in all.collect::<Vec<_>>() {
        let (number, answer) = one.await.unwrap();
        assert_eq!(answer.unwrap(), echoed(Some(&"lakeside".parse().unwrap()), &[number]));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_not_admitted_can_ask_but_open_nothing_until_the_hello_is_renewed() {
    for transport in [TCP, QUIC] {
        let mut index = Process::start("index", 1, &[transport], Limits::default()).await;
        let newcomer = Process::start("", 2, &[], Limits::default()).await;
        let (route, names) = (index.route("index"), newcomer.names.clone());
        let newcomer = newcomer.net;

        let asking = tokio::spawn({
            let (newcomer, route) = (newcomer.clone(), route.clone());
            async move { newcomer.request(&route, b"enrol".to_vec()).await }
        });
        let Inbound::Request { peer, party, body, reply } = index.next().await else { panic!("no request") };
        assert_eq!((peer, party, body.as_slice()), (newcomer.peer_key(), None, b"enrol".as_slice()));
        reply.send(b"welcome".to_vec());
        assert_eq!(asking.await.unwrap().unwrap(), b"welcome");

        let refused = newcomer.open_package(&route).await.unwrap_err();
        assert!(matches!(refused, NetError::NotAdmittedThere(Code::NotAdmitted)), "{refused}");
        assert_eq!(newcomer.connect(&route).await.unwrap(), Presented::Refused(Code::NotAdmitted));
        let back = index.net.request(&live_only("lakeside"), vec![]).await.unwrap_err();
        assert!(matches!(back, NetError::Unreachable), "{back}");

        names.says("lakeside");
        newcomer.renew_hello().await;
        let Inbound::Connected(party) = index.next().await else { panic!("not connected") };
        assert_eq!(party.to_string(), "lakeside");
        assert_eq!(newcomer.connect(&route).await.unwrap(), Presented::Accepted);
        newcomer.open_package(&route).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_together_have_few_requests_and_members_do_not_wait_behind_them() {
    let limits = Limits { requests_of_strangers: 2, inbound_queue: 3, ..Limits::default() };
    let mut index = Process::start("index", 1, &[TCP], limits).await;
    let route = index.route("index");
    let (mut asking, mut kept) = (tokio::task::JoinSet::new(), Vec::new());
    for seed in 10..20 {
        let stranger = Process::start("", seed, &[], Limits::default()).await;
        let (net, route) = (stranger.net.clone(), route.clone());
        asking.spawn(async move { net.request(&route, vec![]).await });
        kept.push(stranger);
    }
    // Nobody has taken anything out yet: eight are told to come again, two wait for the application.
    for _ in 0..8 {
        let refused = asking.join_next().await.unwrap().unwrap();
        assert!(matches!(refused, Err(NetError::Refused(Code::Busy))), "{refused:?}");
    }
    let lakeside = Process::start("lakeside", 2, &[], Limits::default()).await;
    let member = tokio::spawn(async move { lakeside.net.request(&route, b"me".to_vec()).await });
    let mut held = Vec::new();
    let reply = loop {
        match index.next().await {
            Inbound::Request { party: Some(_), reply, .. } => break reply,
            Inbound::Request { party: None, reply, .. } => held.push(reply),
            _ => {}
        }
    };
    reply.send(b"you".to_vec());
    assert_eq!(member.await.unwrap().unwrap(), b"you");
    assert_eq!(held.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_unadmitted_have_few_requests_under_way_and_a_dropped_reply_refuses() {
    let limits = Limits { requests_unadmitted: 2, ..Limits::default() };
    let mut index = Process::start("index", 1, &[TCP], limits).await;
    let newcomer = Process::start("", 2, &[], Limits::default()).await;
    let route = index.route("index");
    let mut asking = tokio::task::JoinSet::new();
    for _ in 0..3 {
        let (newcomer, route) = (newcomer.net.clone(), route.clone());
        asking.spawn(async move { newcomer.request(&route, vec![]).await });
    }
    // Two are held by the application, so the third is the one that ends first.
    let held = [index.next().await, index.next().await];
    let first = asking.join_next().await.unwrap().unwrap();
    assert!(matches!(first, Err(NetError::Refused(Code::Busy))), "{first:?}");
    drop(held);
    while let Some(answer) = asking.join_next().await {
        assert!(matches!(answer.unwrap(), Err(NetError::Refused(Code::Internal))));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn another_party_than_wanted_is_refused() {
    for transport in [TCP, QUIC] {
        let hospital = Process::start("hillside", 1, &[transport], Limits::default()).await;
        let caller = Process::start("lakeside", 2, &[], Limits::default()).await;
        let wrong = caller.net.request(&hospital.route("harbour"), b"secret".to_vec()).await;
        assert!(matches!(wrong, Err(NetError::WrongPeer)), "{wrong:?}");

        // Another key than the address says.
        let other = Process::start("harbour", 3, &[transport], Limits::default()).await;
        let here = hospital.net.addresses().remove(0);
        let there = other.net.addresses().remove(0);
        let (socket, _) = here.split_once("/p2p/").unwrap();
        let (_, key) = there.split_once("/p2p/").unwrap();
        let route = Route {
            party: "harbour".parse().unwrap(),
            addresses: vec![format!("{socket}/p2p/{key}"), "no address".to_owned()],
        };
        let wrong = caller.net.request(&route, b"secret".to_vec()).await;
        assert!(matches!(wrong, Err(NetError::WrongPeer)), "{wrong:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_suspended_party_is_refused_here_and_readmitted_by_a_recheck() {
    let hospital = Process::start("hillside", 1, &[TCP], Limits::default()).await;
    let mut caller = Process::start("lakeside", 2, &[], Limits::default()).await;
    let route = hospital.route("hillside");
    let _hospital = hospital.echo();
    caller.net.connect(&route).await.unwrap();
    caller.names.suspended.lock().unwrap().push(route.party.clone());
    caller.net.recheck().await;
    caller.gone("hillside").await;
    let refused = caller.net.request(&route, vec![]).await;
    assert!(matches!(refused, Err(NetError::NotAdmitted(Code::HospitalSuspended))), "{refused:?}");
    caller.names.suspended.lock().unwrap().clear();
    // No recheck is needed to be asked again.
    caller.net.request(&route, vec![]).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn expelling_cuts_the_connection_and_keeps_it_cut() {
    for transport in [TCP, QUIC] {
        let mut index = Process::start("index", 1, &[transport], Limits::default()).await;
        let mut hospital = Process::start("lakeside", 2, &[], Limits::default()).await;
        let route = index.route("index");
        let mut stream = hospital.net.open_package(&route).await.unwrap();
        let mut held = index
            .wait(|event| match event {
                Inbound::Package { stream, .. } => Some(stream),
                _ => None,
            })
            .await;

        // Somebody reads there, and looks again only when woken.
        let mut reading = FuturesUnordered::from_iter([async move { held.read(&mut [0; 8]).await }]);
        assert!(futures::poll!(reading.next()).is_pending());

        index.net.expel("lakeside".parse().unwrap()).await;
        assert!(index.net.connected().is_empty());
        index.gone("lakeside").await;
        hospital.gone("index").await;
        assert!(!matches!(stream.read(&mut [0; 8]).await, Ok(1..)));
        let ended = timeout(LIMIT, reading.next()).await.expect("the reader is told");
        assert!(matches!(ended, Some(Err(_) | Ok(0))), "{ended:?}");
        let there = index.net.request(&live_only("lakeside"), vec![]).await;
        assert!(matches!(there, Err(NetError::Expelled)), "{there:?}");
        let back = hospital.net.request(&route, vec![]).await;
        assert!(matches!(back, Err(NetError::Unreachable | NetError::Interrupted)), "{back:?}");

        // Another process of the same hospital is refused at its hello.
        let other = Process::start("lakeside", 3, &[], Limits::default()).await;
        let refused = other.net.open_package(&route).await;
        assert!(refused.is_err());

        index.net.readmit("lakeside".parse().unwrap()).await;
        assert_eq!(hospital.net.connect(&route).await.unwrap(), Presented::Accepted);
    }
}

/// What is written to it lies in the system, which has no room for more.
#[test]
fn a_connection_with_somebody_who_hangs_is_closed_in_time() {
    const STREAMS: usize = 100;
    let one_thread = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (hangs, lives) = (one_thread(), tokio::runtime::Runtime::new().unwrap());
    let limits = Limits {
        packages_inbound: STREAMS,
        packages_per_party: STREAMS,
        inbound_queue: 2 * STREAMS,
        ..Limits::default()
    };
    let hospital = hangs.block_on(Process::start("lakeside", 2, &[TCP], limits));
    let index = lives.block_on(Process::start("index", 1, &[], Limits::default()));
    let (net, route) = (index.net.clone(), hospital.route("lakeside"));
    let again = route.clone();
    let opening = lives.spawn(async move {
        let mut streams = Vec::new();
        while streams.len() < STREAMS {
            streams.push(net.open_package(&route).await.unwrap());
        }
        streams
    });
    let streams = hangs.block_on(opening).unwrap();
    // From here on nobody runs the hospital.
    lives.block_on(async {
        let mut writing = tokio::task::JoinSet::new();
        for mut stream in streams {
            writing.spawn(async move { stream.write_all(&vec![0; 1 << 20]).await });
        }
        // None of them gets through.
        assert!(timeout(Duration::from_secs(1), writing.join_next()).await.is_err());
        index.net.expel("lakeside".parse().unwrap()).await;
        index.net.readmit("lakeside".parse().unwrap()).await;
        let gone =
            async { while !matches!(index.net.request(&again, vec![]).await, Err(NetError::Unreachable)) {} };
        timeout(LIMIT, gone).await.expect("nobody takes it for connected any more");
        while let Some(written) = timeout(LIMIT, writing.join_next()).await.expect("the writers are told") {
            assert!(written.unwrap().is_err());
        }
    });
}

/// Carries QUIC to and fro, but drops what comes from the side that dials before its `first`th packet.
async fn late(to: &str, first: usize) -> (String, watch::Receiver<usize>) {
    let (port, rest) = to.strip_prefix("/ip4/127.0.0.1/udp/").unwrap().split_once('/').unwrap();
    let listening: SocketAddr = format!("127.0.0.1:{port}").parse().unwrap();
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = format!("/ip4/127.0.0.1/udp/{}/{rest}", socket.local_addr().unwrap().port());
    let (count, seen) = watch::channel(0);
    tokio::spawn(async move {
        let mut buffer = vec![0; 65_536];
        let mut dials = None;
        while let Ok((length, from)) = socket.recv_from(&mut buffer).await {
            let to = if from == listening { dials } else { Some(listening) };
            if from != listening {
                dials = Some(from);
                count.send_modify(|count| *count += 1);
            }
            if let Some(to) = to
                && *count.borrow() >= first
            {
                socket.send_to(buffer.get(..length).unwrap(), to).await.unwrap();
            }
        }
    });
    (address, seen)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dial_that_takes_long_does_not_end_the_connection_made_meanwhile() {
    let index = Process::start("index", 1, &[QUIC], Limits::default()).await;
    let mut hospital = Process::start("lakeside", 2, &[TCP], Limits::default()).await;
    // A first packet is sent again after one second, and after two more.
    let (address, mut seen) = late(&index.net.addresses()[0], 3).await;
    let slow = Route { party: Party::Index, addresses: vec![address] };
    let net = hospital.net.clone();
    let dialling = tokio::spawn(async move { net.connect(&slow).await });
    timeout(LIMIT, seen.wait_for(|count| *count >= 1)).await.unwrap().unwrap();

    let mut stream = index.net.open_package(&hospital.route("lakeside")).await.unwrap();
    let mut held = hospital
        .wait(|event| match event {
            Inbound::Package { stream, .. } => Some(stream),
            _ => None,
        })
        .await;
    dialling.await.unwrap().unwrap();
    assert!(index.net.last_dialled().is_none(), "the slow dial is not through yet");
    timeout(LIMIT, async {
        while index.net.last_dialled().is_none() {
            sleep(Duration::from_millis(10)).await;
        }
    })
    .await
    .expect("the slow dial gets through");
    stream.write_all(b"goes on").await.unwrap();
    let mut buffer = [0; 7];
    timeout(LIMIT, held.read_exact(&mut buffer)).await.expect("in time").unwrap();
    assert_eq!(&buffer, b"goes on");
}

#[tokio::test(flavor = "multi_thread")]
async fn oversized_bodies_are_refused_in_both_directions() {
    let mut index = Process::start("index", 1, &[TCP], Limits::default()).await;
    let hospital = Process::start("lakeside", 2, &[], Limits::default()).await;
    let route = index.route("index");
    let too_large = hospital.net.request(&route, vec![0; MAX_BODY_BYTES + 1]).await;
    assert!(matches!(too_large, Err(NetError::TooLarge)), "{too_large:?}");
    let asking = tokio::spawn(async move { hospital.net.request(&route, vec![]).await });
    let reply = index
        .wait(|event| match event {
            Inbound::Request { reply, .. } => Some(reply),
            _ => None,
        })
        .await;
    reply.send(vec![0; MAX_BODY_BYTES + 1]);
    let answer = asking.await.unwrap();
    assert!(matches!(answer, Err(NetError::Refused(Code::TooLarge))), "{answer:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn packages_pass_whole_with_several_opened_at_once() {
    const STREAMS: usize = 6;
    const BYTES: usize = 8 * 1024 * 1024;
    for transport in [TCP, QUIC] {
        let mut sink = Process::start("hillside", 1, &[transport], Limits::default()).await;
        let source = Process::start("lakeside", 2, &[], Limits::default()).await;
        let route = sink.route("hillside");
        let content: Arc<Vec<u8>> = Arc::new((0..BYTES).map(|at| (at % 251) as u8).collect());
        let mut sending = tokio::task::JoinSet::new();
        for number in 0..STREAMS {
            let (net, route, content) = (source.net.clone(), route.clone(), content.clone());
            // One whole package; the others are short.
            let length = if number == 0 { BYTES } else { number };
            sending.spawn(async move {
                let mut stream = net.open_package(&route).await.unwrap();
                stream.write_all(&content[..length]).await.unwrap();
                stream.shutdown().await.unwrap();
                let mut echo = Vec::new();
                stream.read_to_end(&mut echo).await.unwrap();
                assert_eq!(echo, length.to_be_bytes());
            });
        }
        let mut receiving = tokio::task::JoinSet::new();
        for _ in 0..STREAMS {
            let (party, mut stream) = sink
                .wait(|event| match event {
                    Inbound::Package { party, stream } => Some((party, stream)),
                    _ => None,
                })
                .await;
            assert_eq!(party.to_string(), "lakeside");
            let content = content.clone();
            receiving.spawn(async move {
                let mut received = Vec::new();
                stream.read_to_end(&mut received).await.unwrap();
                assert!(received == content[..received.len()]);
                stream.write_all(&received.len().to_be_bytes()).await.unwrap();
                stream.shutdown().await.unwrap();
            });
        }
        receiving.join_all().await;
        sending.join_all().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn packages_beyond_the_bound_wait_for_a_place() {
    let limits = Limits { packages_inbound: 1, ..Limits::default() };
    let mut sink = Process::start("hillside", 1, &[TCP], limits).await;
    let patient = Process::start("lakeside", 2, &[], Limits::default()).await;
    let brief = Limits { package_open_ms: 100, ..Limits::default() };
    let hasty = Process::start("harbour", 3, &[], brief).await;
    let route = sink.route("hillside");
    let package = |event| match event {
        Inbound::Package { stream, .. } => Some(stream),
        _ => None,
    };
    let _first = patient.net.open_package(&route).await.unwrap();
    let held = sink.wait(package).await;
    let busy = hasty.net.open_package(&route).await;
    assert!(matches!(busy, Err(NetError::Busy)), "{busy:?}");
    let second = tokio::spawn(async move { patient.net.open_package(&route).await });
    drop(held);
    sink.wait(package).await;
    second.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn one_party_does_not_get_every_place() {
    let limits = Limits { packages_per_party: 1, ..Limits::default() };
    let mut sink = Process::start("hillside", 1, &[TCP], limits).await;
    // The first stream must come within it, too.
    let brief = Limits { package_open_ms: 3_000, ..Limits::default() };
    let silent = Process::start("lakeside", 2, &[], brief).await;
    let other = Process::start("harbour", 3, &[], Limits::default()).await;
    let route = sink.route("hillside");
    let package = |event| match event {
        Inbound::Package { stream, .. } => Some(stream),
        _ => None,
    };
    silent.net.connect(&route).await.unwrap();
    let _first = silent.net.open_package(&route).await.unwrap();
    let _held = sink.wait(package).await;
    let busy = silent.net.open_package(&route).await;
    assert!(matches!(busy, Err(NetError::Busy)), "{busy:?}");
    other.net.open_package(&route).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn quic_is_taken_when_tcp_leads_nowhere() {
    let index = Process::start("index", 1, &[QUIC], Limits::default()).await;
    let hospital = Process::start("lakeside", 2, &[], Limits::default()).await;
    let mut route = index.route("index");
    let (_, key) = route.addresses[0].split_once("/p2p/").unwrap();
    // Nothing listens on the discard port.
    route.addresses.insert(0, format!("/ip4/127.0.0.1/tcp/9/p2p/{key}"));
    let _index = index.echo();
    assert_eq!(hospital.net.request(&route, b"x".to_vec()).await.unwrap(), b"lakeside:x");
}

#[tokio::test(flavor = "multi_thread")]
async fn kept_connections_outlive_idle_ones() {
    let limits = Limits { idle_ms: 600, ..Limits::default() };
    let kept = Process::start("index", 1, &[TCP], limits.clone()).await;
    let idle = Process::start("hillside", 2, &[TCP], limits.clone()).await;
    let mut hospital = Process::start("lakeside", 3, &[], limits).await;
    let (to_kept, to_idle) = (kept.route("index"), idle.route("hillside"));
    let (_kept, _idle) = (kept.echo(), idle.echo());
    hospital.net.connect(&to_kept).await.unwrap();
    hospital.net.request(&to_idle, vec![]).await.unwrap();
    let gone = hospital
        .wait(|event| match event {
            Inbound::Disconnected(party) => Some(party),
            _ => None,
        })
        .await;
    assert_eq!(gone, to_idle.party);
    assert_eq!(hospital.net.connected(), [Party::Index]);
}

#[tokio::test(flavor = "multi_thread")]
async fn shutdown_closes_connections_and_ends_every_handle() {
    for transport in [TCP, QUIC] {
        let mut index = Process::start("index", 1, &[transport], Limits::default()).await;
        let mut hospital = Process::start("lakeside", 2, &[], Limits::default()).await;
        let route = index.route("index");
        hospital.net.connect(&route).await.unwrap();
        let handle = index.net.clone();
        index.net.shutdown().await;
        hospital.gone("index").await;
        assert!(matches!(handle.request(&live_only("lakeside"), vec![]).await, Err(NetError::Closed)));
        while index.inbound.recv().await.is_some() {}
        // A QUIC dial to nobody ends by its time limit only.
        if transport == TCP {
            let back = hospital.net.request(&route, vec![]).await;
            assert!(matches!(back, Err(NetError::Unreachable)), "{back:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn unusable_listen_addresses_are_told() {
    let names = Arc::new(Names { own: Mutex::default(), suspended: Mutex::default() });
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = format!("/ip4/127.0.0.1/tcp/{}", taken.local_addr().unwrap().port());
    let expected =
        HashMap::from([("nonsense", "invalid"), ("/memory/1", "invalid"), (taken.as_str(), "taken")]);
    for (address, fault) in expected {
        let config = config(1, &[address], Limits::default());
        match (start(config, names.clone()).await.map(drop), fault) {
            (Err(NetError::InvalidListen), "invalid") | (Err(NetError::Listen(_)), "taken") => {}
            (other, _) => panic!("{address}: {other:?}"),
        }
    }
}
