//! Who may be connected at one time. A newcomer never waits: either somebody who does nothing gives way, or it is
//! told to come again by being closed.
//!
//! Invariants: no address holds more than its share, and what is more than that costs its own connections only; when
//! all slots are taken, those give way who hold the most. It must not know what is asked on a connection.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use tokio_util::sync::CancellationToken;

/// The bits of an IPv6 address that tell networks apart: whoever has one address there has all of them.
const IPV6_NETWORK: u128 = !(u64::MAX as u128);

/// The slots of one server.
#[derive(Clone, Debug)]
pub(super) struct Slots {
    table: Arc<Mutex<Table>>,
    max: usize,
    max_per_address: usize,
}

#[derive(Debug, Default)]
struct Table {
    held: HashMap<u64, Held>,
    next: u64,
}

/// One connection that has a slot.
#[derive(Debug)]
struct Held {
    address: IpAddr,
    /// When it connected or was last answered.
    since: Instant,
    asked: bool,
    /// Requests under way.
    running: usize,
    gives_way: CancellationToken,
}

impl Slots {
    pub(super) fn new(max: usize, max_per_address: usize) -> Self {
        Self { table: Arc::default(), max, max_per_address }
    }

    /// A slot for a newcomer; none if its own address has all it may have and uses it.
    pub(super) fn take(&self, address: IpAddr, now: Instant) -> Option<Slot> {
        let address = network(address);
        let mut table = self.lock();
        if let Some(reason) = table.full(address, self.max, self.max_per_address) {
            let victim = table.victim(address, reason)?;
            // Its slot is free now; the connection itself ends as soon as its task is asked.
            table.held.remove(&victim)?.gives_way.cancel();
        }
        let id = table.next;
        table.next = id.wrapping_add(1);
        let gives_way = CancellationToken::new();
        table
            .held
            .insert(id, Held { address, since: now, asked: false, running: 0, gives_way: gives_way.clone() });
        Some(Slot { slots: self.clone(), id, gives_way })
    }

    /// Nothing in the table is ever half done, so one that a panic left behind is as good as any.
    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Why a newcomer finds no free slot.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Full {
    /// Its address has its share.
    Address,
    /// All are taken.
    All,
}

impl Table {
    fn full(&self, address: IpAddr, max: usize, max_per_address: usize) -> Option<Full> {
        if self.of(address) >= max_per_address {
            Some(Full::Address)
        } else {
            (self.held.len() >= max).then_some(Full::All)
        }
    }

    fn of(&self, address: IpAddr) -> usize {
        self.held.values().filter(|held| held.address == address).count()
    }

    /// Who gives way: of those whose address holds the most, the one that has done nothing for longest. A request
    /// that is under way is only cut for an address that has fewer connections.
    fn victim(&self, newcomer: IpAddr, full: Full) -> Option<u64> {
        let mut counts: HashMap<IpAddr, usize> = HashMap::new();
        for held in self.held.values() {
            let count = counts.entry(held.address).or_default();
            *count = count.saturating_add(1);
        }
        let count = |address: &IpAddr| counts.get(address).copied().unwrap_or_default();
        let own = count(&newcomer);
        self.held
            .iter()
            .filter(|(_, held)| full == Full::All || held.address == newcomer)
            .filter(|(_, held)| held.running == 0 || count(&held.address) > own)
            .min_by_key(|(_, held)| (std::cmp::Reverse(count(&held.address)), held.running > 0, held.since))
            .map(|(id, _)| *id)
    }
}

/// A connection's place, until it is dropped.
#[derive(Debug)]
pub(super) struct Slot {
    slots: Slots,
    id: u64,
    gives_way: CancellationToken,
}

impl Slot {
    /// Ends when somebody else gets the slot.
    pub(super) fn gives_way(&self) -> CancellationToken {
        self.gives_way.clone()
    }

    /// Says that a request is under way, until what is returned is dropped.
    pub(super) fn busy(self: &Arc<Self>) -> Busy {
        self.change(|held| {
            held.asked = true;
            held.running = held.running.saturating_add(1);
        });
        Busy { slot: Arc::clone(self) }
    }

    /// Says that the handshake is done: what was waited for until then was its own limit.
    pub(super) fn begins(&self, now: Instant) {
        self.change(|held| held.since = now);
    }

    /// Whether a request has come.
    pub(super) fn was_asked(&self) -> bool {
        self.slots.lock().held.get(&self.id).is_some_and(|held| held.asked)
    }

    /// Since when nothing is under way; none while something is.
    pub(super) fn idle_since(&self) -> Option<Instant> {
        let table = self.slots.lock();
        table.held.get(&self.id).filter(|held| held.running == 0).map(|held| held.since)
    }

    fn change(&self, how: impl FnOnce(&mut Held)) {
        if let Some(held) = self.slots.lock().held.get_mut(&self.id) {
            how(held);
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.slots.lock().held.remove(&self.id);
    }
}

/// One request under way.
#[derive(Debug)]
pub(super) struct Busy {
    slot: Arc<Slot>,
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.slot.change(|held| {
            held.running = held.running.saturating_sub(1);
            held.since = Instant::now();
        });
    }
}

/// What tells clients apart.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & IPV6_NETWORK)),
        v4 => v4,
    }
}
