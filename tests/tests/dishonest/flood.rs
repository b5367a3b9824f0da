//! Floods while an honest transfer goes through: a stranger who fills the doors from one address, and a member who
//! asks as often and as much as it can.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context, Result, ensure};
use handover_core::artefact::Verified;
use handover_core::message::{Request, Verb};
use handover_tests::rogue::person::Person;
use handover_tests::rogue::stranger::{Footprint, Stranger, addresses, is_served, place};
use handover_tests::rogue::{parcel, until};
use tokio::net::TcpSocket;
use tokio::runtime::Runtime;

use super::stage::{LAKESIDE, RIVERSIDE, Stage, hospital};

/// Connections that a stranger keeps open at an HTTPS door: more than it has.
const WEB: usize = 600;
/// And at a libp2p door: more than may be in their handshake at one time.
const NET: usize = 160;
/// Requests of the member that are under way at one time, far above what one peer may have.
const AT_ONCE: usize = 1_000;
/// What may stay of a flood in the index's memory, and of its connections.
const STAYS_BYTES: u64 = 64 * 1024 * 1024;
const STAYS_FILES: usize = 8;
/// The stranger's address. Everybody else comes from 127.0.0.1.
const FROM: [u8; 4] = [127, 0, 0, 2];

pub(crate) fn all(stage: &mut Stage) -> Result<()> {
    strangers(stage).context("a stranger's flood")?;
    member(stage).context("a member's flood")
}

/// Silent connections, made again as they are cut, at every door over TCP: whoever comes meanwhile is let in.
fn strangers(stage: &mut Stage) -> Result<()> {
    let runtime = Runtime::new()?;
    let held = Arc::new(AtomicUsize::new(0));
    let world = &stage.world;
    let (index, index_pid) = (world.index_ready().clone(), world.index_pid().context("no index")?);
    let before = Footprint::of(index_pid)?;
    let mut doors = vec![];
    for ready in [&index, world.ready(LAKESIDE)?, world.ready(RIVERSIDE)?] {
        doors.push((place(&addresses(ready, "tcp")?[0])?, NET));
        let web = ready["web"].as_str().context("a web address")?;
        doors.push((web.trim_start_matches("https://").trim_end_matches('/').parse()?, WEB));
    }
    for (to, count) in doors {
        runtime.spawn(flood(to, count, Arc::clone(&held)));
    }
    until("the stranger is at the doors", || held.load(Ordering::Relaxed) > NET + WEB)?;
    stage.world.restart(LAKESIDE)?;
    Stranger::new(4)?.is_answered(&addresses(&index, "tcp")?)?;
    is_served(&index, &stage.world.folder().join("federation/index/web-cert.pem"))?;
    stage.honest()?;
    runtime.shutdown_background();
    before.is_back(index_pid, STAYS_BYTES, STAYS_FILES)
}

async fn flood(to: SocketAddr, count: usize, held: Arc<AtomicUsize>) {
    let mut open = VecDeque::new();
    loop {
        let Ok(socket) = TcpSocket::new_v4() else { return };
        if socket.bind(SocketAddr::from((FROM, 0))).is_ok()
            && let Ok(stream) = socket.connect(to).await
        {
            open.push_back(stream);
            held.fetch_add(1, Ordering::Relaxed);
        }
        if open.len() > count {
            open.pop_front();
            // As fast as it likes, and the machine is left to others now and then.
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
    }
}

/// Requests for a patient whom nobody knows, straight and by way of the index.
fn member(stage: &mut Stage) -> Result<()> {
    let lakeside = hospital(LAKESIDE);
    let eve = Person::new(670, "eve-4");
    let ask = eve.signed(eve.asking(&lakeside, stage.rogue.id()));
    let request = Verified::sign(stage.rogue.request(&ask)?, &stage.rogue.keys.signing);
    let body = |to| Request::encode(Verb::Deliver, vec![parcel(to, request.envelope())]);
    let straight = stage.rogue.floods(stage.rogue.route(&lakeside)?, body(None), AT_ONCE);
    let posted = stage.rogue.floods(stage.rogue.index(), body(Some(lakeside)), AT_ONCE);
    stage.honest()?;
    for (door, answered) in [("Lakeside", straight.end()), ("the index", posted.end())] {
        ensure!(answered > 0, "{door} answers the member nothing");
    }
    Ok(())
}
