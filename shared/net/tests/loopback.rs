//! The network room on real loopback sockets, over TCP and over QUIC. Tests wait for events only.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "the helpers of tests")]

mod common;

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use common::{Names, Process, QUIC, TCP, config, echoed, live_only};
use handover_core::{Code, Party};
use handover_net::{Inbound, Limits, MAX_BODY_BYTES, NetError, Presented, Route, start};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

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

        index.net.expel("lakeside".parse().unwrap()).await;
        assert!(index.net.connected().is_empty());
        index.gone("lakeside").await;
        hospital.gone("index").await;
        assert!(!matches!(stream.read(&mut [0; 8]).await, Ok(1..)));
        assert!(!matches!(held.read(&mut [0; 8]).await, Ok(1..)));
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
