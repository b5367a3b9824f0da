//! Where the attempts are made, and how it is seen that nothing came of them.

use std::fmt::Debug;
use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use handover_core::{Code, HospitalId, TransferId};
use handover_scenarios::generator;
use handover_scenarios::programs::Programs;
use handover_scenarios::story::{self, Silent};
use handover_scenarios::world::{Options, World};
use handover_tests::fixture;
use handover_tests::rogue::person::Person;
use handover_tests::rogue::{Rogue, until};
use serde_json::{Value, json};

/// Has the records.
pub(crate) const LAKESIDE: &str = "lakeside";
/// Gets them.
pub(crate) const RIVERSIDE: &str = "riverside";
/// Who is local to Riverside only: the rogue says that it has their records.
const PAT: &str = "pat-1";

/// An honest transfer, with everything compared at the end.
const HONEST: &str = r#"
    title = "Meanwhile"
    about = "An honest move between two hospitals that somebody else has tried to harm."
    hospitals = ["lakeside", "riverside"]
    [[step]]
    say = "Import."
    do = "import"
    patient = "hana"
    at = "lakeside"
    seed = SEED
    scans = 0
    [[step]]
    say = "Link at the old hospital."
    do = "link"
    patient = "hana"
    at = "lakeside"
    [[step]]
    say = "Link at the new one."
    do = "link"
    patient = "hana"
    at = "riverside"
    [[step]]
    say = "Ask."
    do = "ask"
    transfer = "move"
    patient = "hana"
    from = "lakeside"
    to = "riverside"
    [[step]]
    say = "Request."
    do = "request"
    transfer = "move"
    [[step]]
    say = "Quote."
    do = "quote"
    transfer = "move"
    [[step]]
    say = "Consent."
    do = "consent"
    transfer = "move"
    [[step]]
    say = "Wait."
    do = "wait"
    transfer = "move"
    at = "riverside"
    phase = "filed"
    [[step]]
    say = "Compare."
    do = "compare"
    transfer = "move"
    [[step]]
    say = "The fee."
    do = "ledger"
    transfer = "move"
"#;

/// The stage. Processes end when it is dropped.
pub(crate) struct Stage {
    /// Not yet a member at first.
    pub(crate) rogue: Rogue,
    /// Linked at Lakeside, where her records are.
    pub(crate) ada: Person,
    /// Linked at Riverside, where he has none.
    pub(crate) pat: Person,
    pub(crate) world: World,
    pub(crate) programs: Programs,
    honest_moves: u64,
}

/// What the victims have: transfers at both, Pat's records, the books.
pub(crate) struct Witness(Vec<Value>);

impl Stage {
    /// A real index, two real hospitals, two patients, and a rogue that nobody knows.
    pub(crate) fn set() -> Result<Self> {
        let programs = Programs::shared()?.clone();
        let options = Options { index_patience: Some(1), ..Options::of(&[LAKESIDE, RIVERSIDE]) };
        let world = World::start(&programs, &options)?;
        let keys = &fixture::World::shared().hillcrest;
        let index = serde_json::from_value(world.index_ready()["net"].clone())?;
        let rogue = Rogue::start(keys, world.root().parse()?, index)?;
        rogue.refresh()?;
        let (ada, pat) = (patient(&world, 4_711, 501)?, Person::new(502, PAT));
        pat.link(&world, RIVERSIDE)?;
        Ok(Self { rogue, ada, pat, world, programs, honest_moves: 0 })
    }

    /// Somebody else than Ada who is linked at Lakeside, where their records are.
    pub(crate) fn patient(&self, seed: u64, number: u32) -> Result<Person> {
        patient(&self.world, seed, number)
    }

    /// Data and logs stay for whoever looks for the reason of a failure.
    pub(crate) fn keep(self) {
        println!("left for you: {}", self.world.folder().display());
        self.world.leave_folder();
    }

    /// An honest transfer between the two, from import to comparison.
    pub(crate) fn honest(&mut self) -> Result<()> {
        self.honest_moves += 1;
        let text = HONEST.replace("SEED", &(9_000 + self.honest_moves).to_string());
        let story = story::parse(&text, "honest.toml".as_ref())?;
        let outcome = story::play(&mut self.world, &story, &mut Silent).context("an honest transfer")?;
        ensure!(outcome.ledger.balanced, "the books do not balance: {outcome:?}");
        let differences = &outcome.ledger.differences;
        ensure!(differences.is_empty(), "the books are not what was signed: {differences:?}");
        Ok(())
    }

    /// Everything stored is whole.
    pub(crate) fn sound(&self) -> Result<()> {
        for hospital in [LAKESIDE, RIVERSIDE] {
            let checked = self.world.node(hospital, &["check"])?.json()?;
            ensure!(checked["whole"] == true, "{hospital} is damaged: {checked}");
        }
        self.world.index(&["check"])?.done()
    }

    /// What the victims have now.
    pub(crate) fn witness(&self) -> Result<Witness> {
        let transfers = |hospital: &str| -> Result<Value> {
            let mut listed = self.world.node(hospital, &["transfer", "list"])?.json()?;
            for transfer in listed["transfers"].as_array_mut().into_iter().flatten() {
                // Parcels leave the outbox when they leave it.
                transfer["waiting"] = json!(0);
            }
            Ok(listed)
        };
        let books = self.world.index(&["ledger", "balances"])?.json()?;
        Ok(Witness(vec![transfers(LAKESIDE)?, transfers(RIVERSIDE)?, self.records_of_pat()?, books]))
    }

    /// Waits until the index has reserved a transfer's fee: the header's copy goes there by itself.
    pub(crate) fn reserved(&self, transfer: TransferId) -> Result<()> {
        let id = transfer.to_string();
        until("its fee is reserved", || self.world.entries(&id).is_ok_and(|entries| !entries.is_empty()))
    }

    /// Nothing has changed since.
    pub(crate) fn untouched_since(&self, before: &Witness) -> Result<()> {
        let now = self.witness()?;
        for (was, is) in before.0.iter().zip(&now.0) {
            ensure!(was == is, "something changed\n  was: {was}\n  is:  {is}");
        }
        Ok(())
    }

    /// What Riverside has of Pat.
    pub(crate) fn records_of_pat(&self) -> Result<Value> {
        self.world.node(RIVERSIDE, &["records", "list", "--patient", PAT])?.json()
    }

    /// Where a transfer stands at a hospital: its state, and its reason if it has one.
    pub(crate) fn state(&self, hospital: &str, transfer: TransferId) -> Result<String> {
        let shown = self.world.node(hospital, &["transfer", "show", &transfer.to_string()])?.json()?;
        Ok(state_of(&shown))
    }

    /// Waits until a transfer has come to a state, or to its end.
    pub(crate) fn comes_to(
        &self,
        hospital: &str,
        transfer: TransferId,
        phase: &str,
        wanted: &str,
    ) -> Result<()> {
        let id = transfer.to_string();
        let args = ["transfer", "show", &id, "--wait", "30", "--until", phase];
        let answer = self.world.node(hospital, &args)?;
        let came = self.state(hospital, transfer)?;
        ensure!(came == wanted, "at {hospital}: expected {wanted}, came {came} ({})", answer.ended());
        Ok(())
    }

    /// Lakeside's package was delivered, and it keeps its share back until the patient has released theirs.
    pub(crate) fn waits_for_the_patient(&self, transfer: TransferId) -> Result<()> {
        let id = transfer.to_string();
        self.comes_to(LAKESIDE, transfer, "delivered", "delivered")?;
        until("it says that the patient's release is awaited", || {
            let shown = self.world.node(LAKESIDE, &["transfer", "show", &id]).and_then(|it| it.json());
            shown.is_ok_and(|shown| shown["waits"][0]["code"] == Code::ReleaseAwaited.as_str())
        })
    }

    /// Kills the index: somebody else takes its place.
    pub(crate) fn kill_index(&self) -> Result<()> {
        let pid = self.world.index_pid().context("the index runs")?;
        let killed = Command::new("kill").args(["-KILL", &pid.to_string()]).status()?;
        ensure!(killed.success(), "{pid} cannot be killed");
        Ok(())
    }

    /// The rogue's mates, as identifiers.
    pub(crate) fn victims() -> (HospitalId, HospitalId) {
        (hospital(LAKESIDE), hospital(RIVERSIDE))
    }
}

fn patient(world: &World, seed: u64, number: u32) -> Result<Person> {
    let path = world.records_folder().join(format!("{number}.json"));
    let options = generator::Options { scan_bytes: 100_000, ..generator::Options::default() };
    let mut file = BufWriter::new(File::create(&path)?);
    let local = generator::write_patient(seed, &options, &mut file)?.id;
    file.flush()?;
    world.node(LAKESIDE, &["import", path.to_str().context("UTF-8")?])?.done()?;
    let patient = Person::new(number, &local);
    patient.link(world, LAKESIDE)?;
    Ok(patient)
}

pub(crate) fn hospital(id: &str) -> HospitalId {
    id.parse().expect("a hospital's identifier")
}

fn state_of(shown: &Value) -> String {
    let text = |key: &str| shown[key].as_str().map(str::to_owned);
    let state = text("state").unwrap_or_default();
    text("reason").map_or(state.clone(), |reason| format!("{state} ({reason})"))
}

/// An attempt has to be refused with this code, and a second time the same.
pub(crate) fn refused<T: Debug>(what: &str, code: Code, attempt: impl Fn() -> Result<T, Code>) -> Result<()> {
    for time in ["", ", again"] {
        match attempt() {
            Err(came) if came == code => {}
            other => bail!("{what}{time}: expected {code}, came {other:?}"),
        }
    }
    Ok(())
}

/// An attempt has to be taken, and a second time the same.
pub(crate) fn taken<T: Debug>(what: &str, attempt: impl Fn() -> Result<T, Code>) -> Result<()> {
    for time in ["", ", again"] {
        if let Err(code) = attempt() {
            bail!("{what}{time}: expected yes, came {code}");
        }
    }
    Ok(())
}

/// An envelope whose signature fails.
pub(crate) fn unsigned(envelope: &[u8]) -> Vec<u8> {
    let mut other = envelope.to_vec();
    if let Some(last) = other.last_mut() {
        *last ^= 1;
    }
    other
}
