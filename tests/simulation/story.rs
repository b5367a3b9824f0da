//! A story: patients move while processes are killed and lines are cut; then it gets calm, and everything has to come
//! to its end.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use futures::future::join_all;
use handover_core::Party;
use handover_patient::Wallet;
use handover_store::Unflushed;
use tokio::sync::{Mutex, MutexGuard};
use tokio::time::{Instant, sleep, timeout};

use crate::books::{Due, books_agree};
use crate::clock::Virtual;
use crate::emergency::Responder;
use crate::ground::{Ground, HOSPITALS, enrol};
use crate::model::{Played, Seen};
use crate::network::Fabric;
use crate::people::{Move, Mover};
use crate::places::{Disk, Hospital, IndexSeat};
use crate::plot::{Fault, INDEX, Plot, STORM, Weather};
use crate::trying::Trying;

/// For everything to come to its end in the calm after it.
const CALM: Duration = Duration::from_secs(3_600);
/// How long it has to stay as it is then.
const STAYS: Duration = Duration::from_secs(70);
/// How often it is looked at whether anything went back.
const LOOKS_EVERY: Duration = Duration::from_secs(5);
/// How long staff try to have keys replaced before they begin anew.
const ENROLLING: Duration = Duration::from_secs(60);
/// How long a process that is to die at a write may wait for one.
const DIES_WITHIN: Duration = Duration::from_secs(20);

/// What a story came to.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) moves: usize,
    pub(crate) filed: usize,
    pub(crate) faults: usize,
    pub(crate) carried: u64,
    pub(crate) passed: Duration,
}

impl Outcome {
    pub(crate) fn add(&mut self, other: &Self) {
        self.moves += other.moves;
        self.filed += other.filed;
        self.faults += other.faults;
        self.carried += other.carried;
        self.passed += other.passed;
    }

    pub(crate) fn said(&self) -> String {
        format!(
            "{} moves, {} of them filed, {} faults, {} requests, {} hours",
            self.moves,
            self.filed,
            self.faults,
            self.carried,
            self.passed.as_secs() / 3_600
        )
    }
}

/// The stage of one story.
pub(crate) struct Stage {
    pub(crate) fabric: Fabric,
    pub(crate) index: IndexSeat,
    pub(crate) hospitals: Vec<Hospital>,
    pub(crate) index_addresses: Vec<String>,
    seen: Seen,
    /// Whose turn it is to fall on each process.
    turns: [Mutex<()>; INDEX + 1],
    /// Whose store came from a backup.
    restored: RefCell<BTreeSet<usize>>,
    /// Who signed what is not theirs to sign.
    pub(crate) liars: RefCell<BTreeSet<Party>>,
}

impl Stage {
    /// As the ground was laid; nothing runs yet.
    fn of(ground: &Ground, seed: u64) -> Result<Self> {
        let mut hospitals = Vec::new();
        for (name, disk) in HOSPITALS.iter().zip(&ground.hospitals) {
            hospitals.push(Hospital::new(name, disk.copied()?, Virtual::at(ground.at))?);
        }
        Ok(Self {
            fabric: Fabric::new(seed),
            index: IndexSeat::new(ground.index.copied()?, Virtual::at(ground.at)),
            hospitals,
            index_addresses: ground.index_addresses.clone(),
            seen: Seen::default(),
            turns: Default::default(),
            restored: RefCell::default(),
            liars: RefCell::default(),
        })
    }

    pub(crate) fn party(&self, number: usize) -> Party {
        self.hospitals.get(number).map_or(Party::Index, Hospital::party)
    }

    async fn start(&self, number: usize) -> Result<()> {
        match self.hospitals.get(number) {
            Some(hospital) if hospital.node().is_none() => {
                hospital.start(&self.fabric, &self.index_addresses).await
            }
            None if self.index.running().is_none() => self.index.start(&self.fabric).await,
            _ => Ok(()),
        }
    }

    async fn start_all(&self) -> Result<()> {
        for number in 0..=INDEX {
            let _turn = self.turn(number).await?;
            self.start(number).await?;
        }
        Ok(())
    }

    /// One blow after the other falls on a process.
    async fn turn(&self, number: usize) -> Result<MutexGuard<'_, ()>> {
        Ok(self.turns.get(number).context("a process")?.lock().await)
    }

    async fn kill(&self, number: usize) -> Result<()> {
        match self.hospitals.get(number) {
            Some(hospital) => hospital.kill(&self.fabric).await,
            None => self.index.kill(&self.fabric).await,
        }
    }

    /// Looks whether anything went back, and starts whoever has to be started.
    async fn look(&self) -> Result<()> {
        self.seen.look(&self.hospitals).await?;
        self.supervise().await
    }

    /// Until something is seen that may not be: what that is.
    async fn watch(&self) -> anyhow::Error {
        loop {
            if let Err(fault) = self.look().await {
                return fault;
            }
            sleep(LOOKS_EVERY).await;
        }
    }

    fn disk(&self, number: usize) -> &Disk {
        self.hospitals.get(number).map_or(&self.index.disk, |hospital| &hospital.disk)
    }

    async fn befall(&self, at: Duration, fault: &Fault) -> Result<()> {
        sleep(at).await;
        match fault {
            Fault::Kill { whom, writes, is_kept, away } => {
                let _turn = self.turn(*whom).await?;
                let cells = self.disk(*whom).cells.borrow().clone();
                let unflushed = if *is_kept { Unflushed::Kept } else { Unflushed::Lost };
                cells.fail_flush_after(*writes, unflushed);
                let begun = Instant::now();
                while cells.is_serving() && begun.elapsed() < DIES_WITHIN {
                    sleep(Duration::from_millis(5)).await;
                }
                self.kill(*whom).await?;
                sleep(*away).await;
                self.start(*whom).await?;
            }
            Fault::Restore { whom, age, away } => {
                let backup = self.disk(*whom).copied()?;
                sleep(*age).await;
                let _turn = self.turn(*whom).await?;
                self.kill(*whom).await?;
                self.disk(*whom).restore(&backup)?;
                self.restored.borrow_mut().insert(*whom);
                if let Some(hospital) = self.hospitals.get(*whom) {
                    self.seen.forget(&hospital.id);
                }
                sleep(*away).await;
                self.start(*whom).await?;
            }
            Fault::Cut { from, to, both_ways, lasts } => {
                let (from, to) = (self.party(*from), self.party(*to));
                self.fabric.cut(&from, &to);
                if *both_ways {
                    self.fabric.cut(&to, &from);
                }
                sleep(*lasts).await;
                self.fabric.join(&from, &to);
                if *both_ways {
                    self.fabric.join(&to, &from);
                }
            }
            Fault::Withhold { artefact, to, lasts } => {
                let to = self.party(*to);
                self.fabric.withhold(artefact, &to);
                sleep(*lasts).await;
                self.fabric.let_through(artefact, &to);
            }
            Fault::Clock { whom, ahead, lasts } => {
                let clock = self.hospitals.get(*whom).map_or(&self.index.clock, |hospital| &hospital.clock);
                clock.set_ahead(*ahead);
                sleep(*lasts).await;
                clock.set_ahead(Duration::ZERO);
            }
            Fault::Renew { whom } => self.renew(*whom).await?,
            Fault::Lie { by, to, how } => self.lie(*by, *to, *how).await?,
        }
        Ok(())
    }

    /// A hospital's staff, the root and the operators, until the next keys speak for it.
    async fn renew(&self, number: usize) -> Result<()> {
        let hospital = self.hospitals.get(number).context("a hospital")?;
        let (begun, mut last) = (Instant::now(), None);
        while !std::ptr::eq(hospital.keys(), hospital.next) {
            ensure!(begun.elapsed() < CALM, "{} cannot replace its keys: {last:?}", hospital.id);
            // Somebody may be away, or be killed meanwhile: it is begun anew then.
            if hospital.node().is_some() && self.index.running().is_some() {
                let enrolling = enrol(hospital, hospital.next, &self.index, &self.index_addresses);
                if let Ok(Err(fault)) = timeout(ENROLLING, enrolling).await {
                    last = Some(fault);
                }
            }
            sleep(LOOKS_EVERY).await;
        }
        Ok(())
    }

    /// Whoever was started with other keys than the directory names ends, and is started with those.
    async fn supervise(&self) -> Result<()> {
        for (number, hospital) in self.hospitals.iter().enumerate() {
            // Somebody else is about to kill it, or to start it.
            let Ok(_turn) = self.turns.get(number).context("a process")?.try_lock() else { continue };
            if hospital.has_other_keys() {
                self.kill(number).await?;
                self.start(number).await?;
            }
        }
        Ok(())
    }
}

/// Plays a story to its end.
pub(crate) async fn play(ground: &Ground, plot: &Plot) -> Result<Outcome> {
    let begun = Instant::now();
    let stage = Stage::of(ground, plot.seed)?;
    for number in 0..=INDEX {
        stage.start(number).await?;
    }
    stage.fabric.set_weather(plot.weather);
    let has_losses = plot.faults.iter().any(|(_, fault)| matches!(fault, Fault::Restore { .. }));
    let patience = if has_losses { CALM / 4 } else { CALM };
    let movers: Vec<Mover<'_>> = plot
        .moves
        .iter()
        .enumerate()
        .map(|(number, plan)| {
            let person = ground.people.get(plan.person).context("a patient")?;
            Ok(Mover {
                plan,
                trying: Trying::new(
                    &stage.hospitals,
                    plot.seed.wrapping_mul(31).wrapping_add(number as u64),
                    begun + STORM + patience,
                ),
                wallet: RefCell::new(Wallet::from_bytes(&person.wallet).context("a wallet")?),
                told: RefCell::default(),
            })
        })
        .collect::<Result<_>>()?;
    let responders: Vec<Responder<'_>> = plot
        .emergencies
        .iter()
        .map(|plan| {
            let person = ground.people.get(plan.person).context("a patient")?;
            Ok(Responder {
                plan,
                trying: Trying::new(&stage.hospitals, plot.seed.wrapping_mul(37), begun + STORM + CALM),
                person,
                misfiled: plot.moves.iter().filter(|it| it.person == plan.person).find_map(Move::misfiled),
                wallet: RefCell::new(Wallet::from_bytes(&person.wallet).context("a wallet")?),
                told: RefCell::default(),
            })
        })
        .collect::<Result<_>>()?;
    let storm = async {
        let all = join_all(plot.faults.iter().map(|(at, fault)| stage.befall(*at, fault))).await;
        all.into_iter().collect::<Result<()>>()?;
        // Calm: everybody is there, and hears everybody.
        stage.fabric.heal();
        stage.fabric.set_weather(Weather::default());
        stage.start_all().await
    };
    let moving = async {
        tokio::join!(
            join_all(movers.iter().map(Mover::play)),
            join_all(responders.iter().map(Responder::play)),
        )
    };
    let (storm, (moved, responded)) = tokio::select! {
        both = async { tokio::join!(storm, moving) } => both,
        fault = stage.watch() => return Err(fault),
    };
    storm.context("the storm")?;
    // Whoever was to be started with other keys may have been ended when the watch was.
    stage.start_all().await?;
    let mut played = Vec::new();
    for (mover, moved) in movers.into_iter().zip(moved) {
        let person = ground.people.get(mover.plan.person).context("a patient")?;
        let told = mover.told.into_inner();
        let (restored, stood) = (stage.restored.borrow().clone(), RefCell::default());
        let played_one = Played { plan: mover.plan, person, told, restored, stood };
        // What is lost can be refused, or never come.
        if let Err(fault) = moved
            && !played_one.may_lack()
        {
            bail!("{fault:#}\n{}", played_one.stands(&stage.hospitals).await);
        }
        played.push(played_one);
    }
    responded.into_iter().collect::<Result<()>>().context("an emergency")?;
    let due = match settle(&stage, (&played, &responders), begun + STORM + CALM).await {
        Ok(due) => due,
        Err(fault) => {
            let said = join_all(played.iter().map(|one| one.stands(&stage.hospitals))).await;
            return Err(fault.context(said.join("\n")));
        }
    };
    if let Some(wanted) = plot.last_ends {
        for one in &played {
            one.has_ended_as(&stage.hospitals, wanted).await?;
        }
    }
    let outcome = Outcome {
        moves: played.len(),
        filed: due.iter().filter(|due| due.fee_minor.is_some()).count(),
        faults: plot.faults.len(),
        carried: stage.fabric.carried(),
        passed: begun.elapsed(),
    };
    for number in 0..=INDEX {
        stage.kill(number).await?;
    }
    Ok(outcome)
}

/// Waits until everything has come to its end, and has stayed there for a while; what has to stand in the books.
async fn settle(
    stage: &Stage,
    (played, responders): (&[Played<'_>], &[Responder<'_>]),
    until: Instant,
) -> Result<Vec<Due>> {
    let liars = stage.liars.borrow().clone();
    loop {
        come_to_rest(stage, (played, responders), &liars, until).await?;
        sleep(STAYS).await;
        stage.look().await?;
        let mut stays = true;
        for one in played {
            stays &= one.is_over(&stage.hospitals).await?;
        }
        if stays {
            let due = dues(stage, played, &liars).await?;
            books_agree(&stage.index, &due, &liars).await?;
            return Ok(due);
        }
        // A source that has lost a delivery begins it anew once it knows that.
        let may_begin = played.iter().any(Played::may_lack) && Instant::now() < until;
        ensure!(may_begin, "it does not stay over");
    }
}

/// Waits for every move to end, for whoever has to hear of emergencies, and for the books to say so.
async fn come_to_rest(
    stage: &Stage,
    (played, responders): (&[Played<'_>], &[Responder<'_>]),
    liars: &BTreeSet<Party>,
    until: Instant,
) -> Result<()> {
    for one in played {
        while !one.is_over(&stage.hospitals).await? {
            ensure!(Instant::now() < until, "it does not end");
            sleep(LOOKS_EVERY).await;
            stage.look().await?;
        }
    }
    let restored = stage.restored.borrow().clone();
    for one in responders {
        while !one.is_known(&restored, &stage.index).await? {
            ensure!(Instant::now() < until, "not everybody hears of {:?}: {:?}", one.plan, one.told);
            sleep(LOOKS_EVERY).await;
            stage.look().await?;
        }
        while one.is_open()? {
            sleep(LOOKS_EVERY).await;
            stage.look().await?;
        }
        one.is_closed().await?;
    }
    let due = dues(stage, played, liars).await?;
    // The last of the evidence gets to the index by itself.
    while let Err(fault) = books_agree(&stage.index, &due, liars).await {
        if Instant::now() >= until {
            return Err(fault);
        }
        sleep(LOOKS_EVERY).await;
        stage.look().await?;
    }
    Ok(())
}

async fn dues(stage: &Stage, played: &[Played<'_>], liars: &BTreeSet<Party>) -> Result<Vec<Due>> {
    let mut due = Vec::new();
    for one in played {
        due.extend(one.has_its_records(&stage.hospitals, liars).await?);
    }
    Ok(due)
}
