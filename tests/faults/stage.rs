//! Where it is played: three processes on disks that can fail, behind wires that can be cut, with clocks of their own.

use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow};
use handover_disk::Disk;
use handover_scenarios::programs::Programs;
use handover_scenarios::signals::kill;
use handover_scenarios::world::{Options, Place, Site, World};
use handover_tests::moves::Victim;

use crate::wires::{self, Wires};

/// The size of each disk.
const DISK_BYTES: u64 = 8 << 30;

pub(crate) struct Stage {
    world: RwLock<World>,
    pub(crate) wires: Wires,
    disks: Vec<(Victim, Disk)>,
    /// How far everybody's clock is ahead, in seconds.
    ahead: Mutex<i64>,
    /// How long processes took from their start until they were ready.
    starts: Mutex<Vec<Duration>>,
}

/// Where a process has its data, on its disk.
const DATA: &str = "data";

impl Stage {
    pub(crate) fn set() -> Result<Self> {
        wires::check()?;
        let wires = Wires::new()?;
        let mut disks = Vec::new();
        let mut options = Options { clock: true, ..Options::default() };
        for victim in Victim::ALL {
            let disk = Disk::mount_for_long(DISK_BYTES)?;
            let web = victim.hospital().map(|_| wires.door(victim)).transpose()?;
            let site = Site {
                data: Some(disk.path().join(DATA)),
                net: Some(wires.door(victim)?),
                web,
                host: Some(wires::HOST),
                ..Site::default()
            };
            match victim.hospital() {
                Some(id) => options.hospitals.push(Place { site, ..Place::named(id) }),
                None => options.index_site = site,
            }
            disks.push((victim, disk));
        }
        let world = World::start(Programs::shared()?, &options)?;
        wires.look(&world);
        let starts = Mutex::default();
        Ok(Self { world: RwLock::new(world), wires, disks, ahead: Mutex::new(0), starts })
    }

    pub(crate) fn world(&self) -> RwLockReadGuard<'_, World> {
        self.world.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn disk(&self, victim: Victim) -> Result<&Disk> {
        let found = self.disks.iter().find(|(whose, _)| *whose == victim);
        Ok(&found.with_context(|| format!("{victim:?} has no disk"))?.1)
    }

    /// A process' data folder.
    pub(crate) fn data(&self, victim: Victim) -> Result<PathBuf> {
        Ok(self.disk(victim)?.path().join(DATA))
    }

    pub(crate) fn kill(&self, victim: Victim) -> Result<()> {
        kill(victim.pid(&self.world())?)
    }

    /// Starts one that was killed.
    pub(crate) fn start(&self, victim: Victim) -> Result<()> {
        let mut world = self.world.write().unwrap_or_else(PoisonError::into_inner);
        let begun = Instant::now();
        victim.restart(&mut world)?;
        lock(&self.starts).push(begun.elapsed());
        self.wires.look(&world);
        Ok(())
    }

    pub(crate) fn starts(&self) -> Vec<Duration> {
        let mut starts = lock(&self.starts).clone();
        starts.sort_unstable();
        starts
    }

    pub(crate) fn ahead(&self) -> i64 {
        *lock(&self.ahead)
    }

    /// Everybody's clock.
    pub(crate) fn set_clocks(&self, ahead: i64) -> Result<()> {
        *lock(&self.ahead) = ahead;
        handover_tests::rogue::set_ahead_ms(ahead * 1_000);
        self.world().set_clock(ahead)
    }

    /// The world, with what lies on the disks copied into its folder if something is to be looked at.
    pub(crate) fn leave(self, keeps: bool) -> Result<World> {
        let world = self.world.into_inner().map_err(|_| anyhow!("a thread panicked"))?;
        for (victim, disk) in self.disks.iter().filter(|_| keeps) {
            disk.copy_to(&world.folder().join("disks").join(victim.name()))?;
        }
        Ok(world)
    }
}

fn lock<T>(it: &Mutex<T>) -> MutexGuard<'_, T> {
    it.lock().unwrap_or_else(PoisonError::into_inner)
}
