//! A member that keeps no promise and has got hold of what others signed: it brings all of it, out of order, twice,
//! straight and by way of the index, to whom it is for and to whom it is not.

use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, ensure};
use handover_core::HospitalId;
use handover_core::codec;
use handover_core::verify::TransferFile;
use handover_net::Presented;
use handover_scenarios::programs::Programs;
use handover_tests::fixture;
use handover_tests::moves::{DESTINATION, SOURCE};
use handover_tests::rogue::{Rogue, within};

use crate::blows::Hand;
use crate::stage::Stage;

/// Transfers of which it has everything, each time.
const TRANSFERS: usize = 5;
const FILE_MAX_BYTES: usize = 16 << 20;
const LIMIT: Duration = Duration::from_secs(60);

/// It is a member; it speaks each time from a process of its own, as it were.
pub(crate) struct Replayer {
    root: String,
    index: Vec<String>,
}

impl Replayer {
    /// Is admitted.
    pub(crate) fn join(stage: &Stage) -> Result<Self> {
        let world = stage.world();
        let index = serde_json::from_value(world.index_ready()["net"].clone())?;
        let replayer = Self { root: world.root().to_owned(), index };
        let rogue = replayer.rogue()?;
        rogue.refresh()?;
        rogue.join(&world, Programs::shared()?)?;
        Ok(replayer)
    }

    fn rogue(&self) -> Result<Rogue> {
        Rogue::start(&fixture::World::shared().hillcrest, self.root.parse()?, self.index.clone())
    }

    pub(crate) fn replay(&self, hand: &mut Hand<'_>) -> Result<()> {
        let mut artefacts = Vec::new();
        let mut known = hand.load.asked();
        for _ in 0..TRANSFERS.min(known.len()) {
            let transfer = known.swap_remove(hand.dice.below(known.len() as u64) as usize);
            let at = hand.dice.one_of(&[SOURCE, DESTINATION]);
            artefacts.extend(self.signed(hand, at, &transfer)?);
        }
        let rogue = self.rogue()?;
        within(LIMIT, "the directory comes", || rogue.refresh().is_ok())?;
        let hospitals: [HospitalId; 2] = [SOURCE.parse()?, DESTINATION.parse()?];
        let routes = hospitals.iter().map(|hospital| rogue.route(hospital)).collect::<Result<Vec<_>>>()?;
        for route in routes.iter().chain([&rogue.index()]) {
            within(LIMIT, &format!("{} lets the member in", route.party), || {
                rogue.renew_hello();
                rogue.connect(route) == Ok(Presented::Accepted)
            })?;
        }
        let mut letters = artefacts.clone();
        letters.extend(artefacts);
        let (mut refused, brought) = (0, letters.len() as u64);
        while !letters.is_empty() {
            let letter = letters.swap_remove(hand.dice.below(letters.len() as u64) as usize);
            let to = hand.dice.one_of(&hospitals);
            let answer = match hand.dice.below(2) {
                0 => rogue.bring(&to, &letter),
                _ => rogue.post(&to, &letter),
            };
            refused += u64::from(answer.is_err());
        }
        ensure!(brought == 0 || refused > 0, "everything is taken from somebody who signed none of it");
        hand.count("artefacts brought by the dishonest member", brought);
        hand.count("of these, refused", refused);
        Ok(())
    }

    /// What a hospital has of a transfer; nothing yet, if it was not asked for there.
    fn signed(&self, hand: &Hand<'_>, at: &str, transfer: &str) -> Result<Vec<Vec<u8>>> {
        let folder = tempfile::tempdir()?;
        let file = folder.path().join("transfer");
        let out = file.to_str().context("UTF-8")?;
        let shown = hand.stage.world().node(at, &["transfer", "show", transfer, "--out", out])?;
        if shown.exit != Some(0) || !file.exists() {
            return Ok(Vec::new());
        }
        let read: TransferFile = codec::decode(&std::fs::read(&file)?, FILE_MAX_BYTES)
            .map_err(|fault| anyhow!("the file of {transfer}: {fault}"))?;
        Ok(read.artefacts.into_iter().map(|artefact| artefact.0).collect())
    }
}
