//! A network that is not there: processes that have a seat on it reach each other after a delay, unless the line between
//! them is cut, and what is under way when a line breaks is lost, before it arrived or after. Everything follows from
//! the seed and the runtime's own clock.
//!
//! As on the real one, both ends judge each other's hello by their own admission, and nobody speaks as another.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use handover_core::id::SigningPublic;
use handover_core::{Code, Party};
use handover_net::{
    Admission, Inbound, Net, NetError, Network, PackageStream, Presented, Reply, Route, peer_id,
};
use handover_tests::dice::Dice;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::plot::Weather;
use crate::streams;

/// Events that wait for a process.
const QUEUE: usize = 256;
/// Bytes on their way in one direction of a package stream.
const WINDOW: usize = 64 * 1024;
/// As the real network's limits.
const DIAL: Duration = Duration::from_secs(15);
const REQUEST: Duration = Duration::from_secs(30);
/// Requests that are remembered for who repeats them.
const HEARD: usize = 64;

/// The network; clones are the same one.
#[derive(Clone)]
pub(crate) struct Fabric(Arc<Mutex<State>>);

struct State {
    dice: Dice,
    weather: Weather,
    seats: BTreeMap<Party, Seat>,
    lines: BTreeMap<Pair, Line>,
    /// From whom nothing gets to whom, and by how many cuts.
    cut: BTreeMap<(Party, Party), u32>,
    /// What does not get to whom.
    withheld: BTreeSet<(&'static str, Party)>,
    /// Processes that had a seat.
    lives: u64,
    heard: VecDeque<Vec<u8>>,
    carried: u64,
}

struct Seat {
    key: SigningPublic,
    /// `/p2p/…` of the key.
    peer: String,
    admission: Arc<dyn Admission>,
    inbound: mpsc::Sender<Inbound>,
    life: u64,
    expelled: BTreeSet<Party>,
}

/// Two parties, the lesser first.
type Pair = (Party, Party);

fn pair(one: &Party, other: &Party) -> Pair {
    if one < other { (one.clone(), other.clone()) } else { (other.clone(), one.clone()) }
}

struct Line {
    up: CancellationToken,
    /// How each takes the other's hello.
    judged: BTreeMap<Party, Result<(), Code>>,
}

impl State {
    fn seat(&self, party: &Party, life: u64) -> Result<&Seat, NetError> {
        self.seats.get(party).filter(|seat| seat.life == life).ok_or(NetError::Closed)
    }

    /// How `at` takes the hello that `of` presents now.
    fn judge(&self, at: &Party, of: &Party) -> Result<(), NetError> {
        let (Some(here), Some(there)) = (self.seats.get(at), self.seats.get(of)) else {
            return Err(NetError::Unreachable);
        };
        if here.expelled.contains(of) {
            return Err(NetError::Expelled);
        }
        match here.admission.admit(&there.key, &there.admission.hello()) {
            Ok(party) if party == *of => Ok(()),
            Ok(_) => Err(NetError::WrongPeer),
            Err(code) => Err(NetError::NotAdmitted(code)),
        }
    }

    /// `from` has a line to `to`, or gets one; how `to` takes it.
    fn connect(&mut self, from: &Party, to: &Party) -> Result<Presented, NetError> {
        let pair = pair(from, to);
        if let Some(presented) = self.standing(from, to) {
            return presented;
        }
        self.judge(from, to)?;
        let there = match self.judge(to, from) {
            Ok(()) => Ok(()),
            Err(NetError::NotAdmitted(code)) => Err(code),
            Err(NetError::Expelled) => return Err(NetError::Unreachable),
            Err(other) => return Err(other),
        };
        let judged = BTreeMap::from([(from.clone(), Ok(())), (to.clone(), there)]);
        self.lines.insert(pair, Line { up: CancellationToken::new(), judged });
        self.tell(from, Inbound::Connected(to.clone()));
        if there.is_ok() {
            self.tell(to, Inbound::Connected(from.clone()));
        }
        Ok(there.err().map_or(Presented::Accepted, Presented::Refused))
    }

    /// How `to` takes `from` on the line that there is; it is used only if `from` lets in who is there.
    fn standing(&self, from: &Party, to: &Party) -> Option<Result<Presented, NetError>> {
        let line = self.lines.get(&pair(from, to))?;
        let [here, there] = [from, to].map(|at| line.judged.get(at).and_then(|it| it.err()));
        if let Some(code) = here {
            return Some(Err(NetError::NotAdmitted(code)));
        }
        Some(Ok(there.map_or(Presented::Accepted, Presented::Refused)))
    }

    fn tell(&self, party: &Party, event: Inbound) {
        if let Some(seat) = self.seats.get(party) {
            let _ = seat.inbound.try_send(event);
        }
    }

    fn hang_up(&mut self, pair: &Pair) {
        let Some(line) = self.lines.remove(pair) else { return };
        line.up.cancel();
        for (at, other) in [(&pair.0, &pair.1), (&pair.1, &pair.0)] {
            if line.judged.get(at).is_some_and(Result::is_ok) {
                self.tell(at, Inbound::Disconnected(other.clone()));
            }
        }
    }

    fn lines_of(&self, party: &Party) -> Vec<Pair> {
        self.lines.keys().filter(|(one, other)| one == party || other == party).cloned().collect()
    }

    fn is_cut(&self, from: &Party, to: &Party) -> bool {
        self.cut.contains_key(&(from.clone(), to.clone()))
    }

    fn is_withheld(&self, body: &[u8], from: &Party) -> bool {
        let says = |what: &str| body.windows(what.len()).any(|bytes| bytes == what.as_bytes());
        self.withheld.iter().any(|(what, whom)| whom == from && says(what))
    }
}

/// Where a process with this key is reached.
pub(crate) fn addresses_of(key: &SigningPublic) -> Vec<String> {
    peer_id(key).map(|peer| format!("/ip4/192.0.2.1/tcp/1/p2p/{peer}")).into_iter().collect()
}

impl Fabric {
    pub(crate) fn new(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(State {
            dice: Dice::new(seed ^ 0x6e65_7477),
            weather: Weather::default(),
            seats: BTreeMap::new(),
            lines: BTreeMap::new(),
            cut: BTreeMap::new(),
            withheld: BTreeSet::new(),
            lives: 0,
            heard: VecDeque::new(),
            carried: 0,
        })))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A process sits down; whoever had the party's seat has lost it.
    pub(crate) fn sit(
        &self,
        party: &Party,
        key: SigningPublic,
        admission: Arc<dyn Admission>,
    ) -> Result<(Net, mpsc::Receiver<Inbound>), NetError> {
        self.remove(party);
        let (inbound, events) = mpsc::channel(QUEUE);
        let peer = peer_id(&key)?;
        let mut state = self.state();
        state.lives += 1;
        let life = state.lives;
        let expelled = BTreeSet::new();
        state.seats.insert(party.clone(), Seat { key, peer, admission, inbound, life, expelled });
        Ok((Net::over(Sitting { fabric: self.clone(), party: party.clone(), key, life }), events))
    }

    /// The process that has this party's seat is gone, as far as everybody else can tell.
    pub(crate) fn remove(&self, party: &Party) {
        let mut state = self.state();
        for line in state.lines_of(party) {
            state.hang_up(&line);
        }
        state.seats.remove(party);
    }

    pub(crate) fn set_weather(&self, weather: Weather) {
        self.state().weather = weather;
    }

    /// Nothing gets from one to the other any more; lines either break at once or stay silent.
    pub(crate) fn cut(&self, from: &Party, to: &Party) {
        let mut state = self.state();
        *state.cut.entry((from.clone(), to.clone())).or_default() += 1;
        if state.dice.happens(500) {
            state.hang_up(&pair(from, to));
        }
    }

    /// What this cut did is over; another one of the same may last.
    pub(crate) fn join(&self, from: &Party, to: &Party) {
        let mut state = self.state();
        let way = (from.clone(), to.clone());
        if let Some(cuts) = state.cut.get_mut(&way) {
            *cuts -= 1;
            if *cuts == 0 {
                state.cut.remove(&way);
            }
        }
    }

    /// No request with an artefact of a type gets to a party any more; answers do.
    pub(crate) fn withhold(&self, artefact: &'static str, from: &Party) {
        self.state().withheld.insert((artefact, from.clone()));
    }

    /// It gets there again.
    pub(crate) fn let_through(&self, artefact: &'static str, to: &Party) {
        self.state().withheld.remove(&(artefact, to.clone()));
    }

    /// Everybody reaches everybody, with everything.
    pub(crate) fn heal(&self) {
        let mut state = self.state();
        state.cut.clear();
        state.withheld.clear();
    }

    /// A request that somebody made, if there was one.
    pub(crate) fn overheard(&self) -> Option<Vec<u8>> {
        let mut state = self.state();
        let count = u64::try_from(state.heard.len()).ok().filter(|count| *count > 0)?;
        let at = usize::try_from(state.dice.below(count)).ok()?;
        state.heard.get(at).cloned()
    }

    /// What somebody made up is not overheard.
    pub(crate) fn forget(&self, body: &[u8]) {
        self.state().heard.retain(|heard| heard != body);
    }

    /// Requests that arrived.
    pub(crate) fn carried(&self) -> u64 {
        self.state().carried
    }

    async fn travel(&self) {
        let millis = {
            let mut state = self.state();
            if state.dice.happens(20) { 2_000 + state.dice.below(8_000) } else { 1 + state.dice.below(150) }
        };
        sleep(Duration::from_millis(millis)).await;
    }
}

/// One process's seat.
struct Sitting {
    fabric: Fabric,
    party: Party,
    key: SigningPublic,
    life: u64,
}

impl Drop for Sitting {
    fn drop(&mut self) {
        if self.is_seated() {
            self.fabric.remove(&self.party);
        }
    }
}

impl Sitting {
    fn is_seated(&self) -> bool {
        self.fabric.state().seat(&self.party, self.life).is_ok()
    }

    /// Whether nothing gets to the other, or nothing from there.
    fn is_cut_off(&self, other: &Party) -> bool {
        let state = self.fabric.state();
        state.is_cut(&self.party, other) || state.is_cut(other, &self.party)
    }

    async fn resolve(&self, to: &Route) -> Result<Presented, NetError> {
        let is_there = {
            let state = self.fabric.state();
            state.seat(&self.party, self.life)?;
            if let Some(presented) = state.standing(&self.party, &to.party) {
                return presented;
            }
            let is_known = |seat: &Seat| to.addresses.iter().any(|address| address.ends_with(&seat.peer));
            state.seats.get(&to.party).is_some_and(is_known)
        };
        if self.is_cut_off(&to.party) {
            sleep(DIAL).await;
            return Err(NetError::TimedOut);
        }
        self.fabric.travel().await;
        let mut state = self.fabric.state();
        state.seat(&self.party, self.life)?;
        if !is_there {
            return Err(NetError::Unreachable);
        }
        state.connect(&self.party, &to.party)
    }

    async fn send(&self, to: &Party, body: Vec<u8>) -> Result<Vec<u8>, NetError> {
        let pair = pair(&self.party, to);
        self.fabric.travel().await;
        let is_lost = {
            let state = self.fabric.state();
            state.is_cut(&self.party, to) || state.is_withheld(&body, to)
        };
        if is_lost {
            return self.in_vain(&pair).await;
        }
        let (up, answer, breaks_after) = {
            let mut state = self.fabric.state();
            state.seat(&self.party, self.life)?;
            let Some(line) = state.lines.get(&pair) else { return Err(NetError::Interrupted) };
            let (up, is_admitted) = (line.up.clone(), line.judged.get(to).is_some_and(Result::is_ok));
            let breaks = state.weather.breaks;
            let (before, after) = (state.dice.happens(breaks), state.dice.happens(breaks));
            if before {
                state.hang_up(&pair);
                return Err(NetError::Interrupted);
            }
            state.carried += 1;
            if state.heard.len() == HEARD {
                state.heard.pop_front();
            }
            state.heard.push_back(body.clone());
            let (answering, answer) = oneshot::channel();
            let reply = Reply::new(move |it| drop(answering.send(it)));
            let peer = state.seat(&self.party, self.life)?.key;
            let party = is_admitted.then(|| self.party.clone());
            let Some(there) = state.seats.get(to) else { return Err(NetError::Interrupted) };
            if there.inbound.try_send(Inbound::Request { peer, party, body, reply }).is_err() {
                return Err(NetError::Refused(Code::Busy));
            }
            (up, answer, after)
        };
        let answer = tokio::select! {
            biased;
            () = up.cancelled() => return Err(NetError::Interrupted),
            answer = timeout(REQUEST, answer) => {
                answer.map_err(|_| NetError::TimedOut)?.map_err(|_| NetError::Interrupted)?
            }
        };
        self.fabric.travel().await;
        if breaks_after && !up.is_cancelled() {
            self.fabric.state().hang_up(&pair);
        }
        if self.fabric.state().is_cut(to, &self.party) {
            return self.in_vain(&pair).await;
        }
        if up.is_cancelled() {
            return Err(NetError::Interrupted);
        }
        answer.map_err(NetError::Refused)
    }

    /// Nothing is heard until it is given up; then the line is known to be dead.
    async fn in_vain<T>(&self, pair: &Pair) -> Result<T, NetError> {
        sleep(REQUEST).await;
        self.fabric.state().hang_up(pair);
        Err(NetError::TimedOut)
    }

    /// Judges all lines again, at both ends.
    fn judge_again(&self) {
        let mut state = self.fabric.state();
        if state.seat(&self.party, self.life).is_err() {
            return;
        }
        for pair in state.lines_of(&self.party) {
            let both = [(&pair.0, &pair.1), (&pair.1, &pair.0)];
            let fresh = both.map(|(at, of)| (at.clone(), of.clone(), state.judge(at, of)));
            for (at, of, judged) in fresh {
                let Some(line) = state.lines.get_mut(&pair) else { break };
                let judged = match judged {
                    Ok(()) => Ok(()),
                    Err(NetError::NotAdmitted(code)) => Err(code),
                    Err(_) => Err(Code::NotAdmitted),
                };
                match (line.judged.insert(at.clone(), judged), judged) {
                    (Some(Err(_)) | None, Ok(())) => state.tell(&at, Inbound::Connected(of)),
                    (Some(Ok(())), Err(_)) => state.hang_up(&pair),
                    _ => {}
                }
            }
        }
    }
}

#[async_trait::async_trait]
impl Network for Sitting {
    fn peer_key(&self) -> SigningPublic {
        self.key
    }

    fn addresses(&self) -> Vec<String> {
        addresses_of(&self.key)
    }

    fn connected(&self) -> Vec<Party> {
        let state = self.fabric.state();
        if state.seat(&self.party, self.life).is_err() {
            return Vec::new();
        }
        let admitted = |(_, line): &(&Pair, &Line)| line.judged.get(&self.party).is_some_and(Result::is_ok);
        let others = state.lines.iter().filter(admitted).filter_map(|((one, other), _)| {
            if *one == self.party { Some(other.clone()) } else { (*other == self.party).then(|| one.clone()) }
        });
        others.collect()
    }

    async fn request(&self, to: &Route, body: Vec<u8>) -> Result<Vec<u8>, NetError> {
        self.resolve(to).await?;
        self.send(&to.party, body).await
    }

    async fn open_package(&self, to: &Route) -> Result<PackageStream, NetError> {
        if let Presented::Refused(code) = self.resolve(to).await? {
            return Err(NetError::NotAdmittedThere(code));
        }
        self.fabric.travel().await;
        let pair = pair(&self.party, &to.party);
        if self.is_cut_off(&to.party) {
            return self.in_vain(&pair).await;
        }
        let mut state = self.fabric.state();
        state.seat(&self.party, self.life)?;
        let Some(line) = state.lines.get(&pair) else { return Err(NetError::Unreachable) };
        let up = line.up.clone();
        let cuts = state.weather.cuts;
        let room = if state.dice.happens(cuts) { state.dice.below(10 * WINDOW as u64) } else { u64::MAX };
        let [here, there] = streams::pair(WINDOW, room, up);
        let Some(seat) = state.seats.get(&to.party) else { return Err(NetError::Unreachable) };
        let opened = seat.inbound.try_send(Inbound::Package { party: self.party.clone(), stream: there });
        opened.map_err(|_| NetError::Busy)?;
        Ok(here)
    }

    async fn connect(&self, to: &Route) -> Result<Presented, NetError> {
        self.resolve(to).await
    }

    async fn renew_hello(&self) {
        self.judge_again();
    }

    async fn recheck(&self) {
        self.judge_again();
    }

    async fn expel(&self, party: Party) {
        let mut state = self.fabric.state();
        if let Some(seat) = state.seats.get_mut(&self.party).filter(|seat| seat.life == self.life) {
            seat.expelled.insert(party.clone());
            state.hang_up(&pair(&self.party, &party));
        }
    }

    async fn readmit(&self, party: Party) {
        let mut state = self.fabric.state();
        if let Some(seat) = state.seats.get_mut(&self.party).filter(|seat| seat.life == self.life) {
            seat.expelled.remove(&party);
        }
    }

    async fn shutdown(&self) {
        if self.is_seated() {
            self.fabric.remove(&self.party);
        }
    }
}
