//! What a fee is made of and who owes it follows from the schedule of the source's jurisdiction, on real processes: in
//! currencies with no, two and three decimals, in one federation and one ledger.

use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use handover_core::artefact::Signed;
use handover_core::artefact::federation::{FeeBasis, FeeSchedule};
use handover_core::artefact::transfer::{OtherTests, QuoteBody};
use handover_core::codec::Extensions;
use handover_core::rules::{self, Context as Rules};
use handover_core::trust::Federation;
use handover_core::{Code, Timestamp};
use handover_scenarios::json::{at, list, text};
use handover_scenarios::programs::Programs;
use handover_scenarios::world::{Options, Place, World};
use handover_seal::Ed25519;
use handover_tests::fixture::{self, Plan, Story, T0, altered, by_two};
use serde_json::{Value, json};

const WALLET: &str = "amira";
/// Accepts a little less by itself than it comes to owe.
const CAUTIOUS: &str = "elbe";
const LIMIT: Duration = Duration::from_secs(60);
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// A hospital and what its three tests cost: two of the laboratory, one of radiology.
fn place(lists: &Path, id: &str, [jurisdiction, currency]: [&str; 2], prices: [&str; 3]) -> Result<Place> {
    let codes = ["24323-8", "57698-3", "36643-5"];
    let rows = codes.iter().zip(prices).map(|(code, price)| format!("LOINC,{code},{price},2020-01-01\n"));
    let list = lists.join(format!("{id}.csv"));
    std::fs::write(&list, format!("Code_Source,Code,Price,Price_Date\n{}", rows.collect::<String>()))?;
    Ok(Place {
        jurisdiction: jurisdiction.to_owned(),
        currency: currency.to_owned(),
        prices: Some(list),
        ..Place::named(id)
    })
}

/// A report with a priced code, of the laboratory or of radiology.
fn report(id: &str, code: &str, section: &str, status: &str) -> Value {
    json!({
        "resourceType": "DiagnosticReport", "id": id, "status": status,
        "category": [{ "coding": [{
            "system": "http://terminology.hl7.org/CodeSystem/v2-0074", "code": section }] }],
        "code": { "coding": [{ "system": "http://loinc.org", "code": code }], "text": id },
        "subject": { "reference": "Patient/amira" }, "effectiveDateTime": "2026-03-02",
    })
}

/// A patient with three reports, as FHIR R4.
fn history() -> Value {
    let report = |id, code, section| json!({ "resource": report(id, code, section, "final") });
    json!({ "resourceType": "Bundle", "type": "collection", "entry": [
        { "resource": { "resourceType": "Patient", "id": "amira", "birthDate": "1987-05-06" } },
        report("metabolic", "24323-8", "LAB"),
        report("lipids", "57698-3", "LAB"),
        report("chest", "36643-5", "RAD"),
    ] })
}

/// Asks, requests, consents, waits until it is filed; the quote that holds, and what the destination shows.
fn moved(world: &World, from: &str, to: &str, departments: Option<&str>) -> Result<(Value, Value)> {
    let asked = world.wallet_at(WALLET, to, &["ask", "--source", from])?.json()?;
    let transfer = text(&asked, "transfer").to_owned();
    world.node(to, &["transfer", "request", &transfer])?.done()?;
    let inbox = |until: &str| -> Result<Value> {
        let words = ["inbox", "--transfer", &transfer, "--until", until, "--wait", "60"];
        let shown = world.wallet_at(WALLET, to, &words)?.json()?;
        let mut items = list(&shown, "transfers").filter(|it| text(it, "transfer") == transfer);
        Ok(items.next().context("the transfer is not in the inbox")?.clone())
    };
    inbox("quoted")?;
    let mut yes = vec!["consent", "--transfer", &transfer];
    yes.extend(departments.iter().flat_map(|only| ["--departments", only]));
    world.wallet_at(WALLET, to, &yes)?.done()?;
    if to == CAUTIOUS {
        let shown = world.node(to, &["transfer", "show", &transfer])?.json()?;
        ensure!(at(at(&shown, "referral"), "accepted").is_null(), "accepted without asking anybody: {shown}");
        world.node(to, &["transfer", "accept", &transfer])?.done()?;
    }
    let filed = inbox("filed")?;
    let last = if departments.is_some() { "final_quote" } else { "quote" };
    let shown = world.node(to, &["transfer", "show", &transfer])?.json()?;
    let file = world.folder().join(format!("{transfer}.handover"));
    world.node(from, &["transfer", "show", &transfer, "--out", file.to_str().context("UTF-8")?])?.done()?;
    world.verify(&file)?.done()?;
    Ok((at(&filed, last).clone(), shown))
}

/// Rate, fee, currency and payer are these, at both ends and in the ledger, which has an entry of nothing, too.
fn costs(world: &World, (quote, shown): &(Value, Value), rate: u64, fee: &str, payer: &str) -> Result<()> {
    let (amount, currency) = fee.split_once(' ').context("amount and currency")?;
    let told =
        (at(quote, "rate_bps").as_u64(), text(quote, "fee"), text(quote, "currency"), text(quote, "payer"));
    ensure!(told == (Some(rate), amount, currency, payer), "the patient is quoted {told:?}, not {fee}");
    let told = (text(shown, "fee"), text(shown, "currency"), text(shown, "payer"));
    ensure!(told == (amount, currency, payer), "the destination computes {told:?}, not {fee}");
    let transfer = text(shown, "transfer");
    let entry = world.posted(transfer, LIMIT)?;
    let told = (text(&entry, "amount"), text(&entry, "currency"));
    ensure!(told == (amount, currency), "the ledger has {told:?}, not {fee}");
    Ok(())
}

#[test]
fn the_sources_jurisdiction_says_who_owes_how_much_of_what() -> Result<()> {
    let lists = tempfile::tempdir()?;
    let place = |id, country, prices| place(lists.path(), id, country, prices);
    let words = |line: &str| line.split(' ').map(str::to_owned).collect::<Vec<_>>();
    let accepting =
        |place: Place, fee: &str| Place { more: format!("\n[fees]\naccept_up_to = \"{fee}\"\n"), ..place };
    let options = Options {
        hospitals: vec![
            place("lakeside", ["US", "USD"], ["71.85", "20.00", "11.10"])?,
            accepting(place("sumida", ["JP", "JPY"], ["10230", "2225", "4500"])?, "1.125 KWD"),
            place("salmiya", ["KW", "KWD"], ["12.345", "3.100", "7.050"])?,
            accepting(place(CAUTIOUS, ["DE", "EUR"], ["71.85", "20.00", "11.10"])?, "1.124 KWD"),
        ],
        schedules: vec![
            words("--jurisdiction JP --basis all-tests"),
            words("--jurisdiction KW --preset patient-pays-nothing"),
            words("--jurisdiction DE --preset none"),
        ],
        ..Options::default()
    };
    let world = World::start(Programs::shared()?, &options)?;
    let records = world.records_folder().join("amira.json");
    std::fs::write(&records, history().to_string())?;
    world.new_wallet(WALLET)?;
    for hospital in ["lakeside", "sumida", "salmiya", "elbe"] {
        world.node(hospital, &["import", records.to_str().context("UTF-8")?])?.done()?;
        let registered = world.node(hospital, &["patient", "register", "amira"])?.json()?;
        world.wallet_at(WALLET, hospital, &["link", "--code", text(&registered, "link_code")])?.done()?;
    }
    // Two decimals, on what is consented to: 5 % of 91.85, which is 4.5925.
    costs(&world, &moved(&world, "lakeside", "sumida", Some("laboratory"))?, 500, "4.59 USD", "patient")?;
    // No decimals, on all tests: 5 % of 16955, which is 847.75. What radiology did is a sum, not a line.
    let all = moved(&world, "sumida", "lakeside", Some("laboratory"))?;
    costs(&world, &all, 500, "848 JPY", "patient")?;
    let (quote, shown) = &all;
    ensure!(at(quote, "other_tests") == 1 && at(shown, "other_tests") == 1, "{quote} {shown}");
    let lines: Vec<_> = list(quote, "tests").map(|line| text(line, "record").to_owned()).collect();
    ensure!(lines == ["DiagnosticReport/lipids", "DiagnosticReport/metabolic"], "{lines:?}");
    wrong_though_not_sent(&world, text(shown, "transfer"))?;
    // Three decimals: the patient may not be charged, the hospital that they are referred to is.
    costs(&world, &moved(&world, "salmiya", "lakeside", None)?, 0, "0.000 KWD", "patient")?;
    for (source, to) in [("salmiya", "sumida"), ("elbe", "sumida"), ("salmiya", CAUTIOUS)] {
        let refer = ["referral", "make", "amira", "--to", to, "--doctor", "Dr. Amara Osei"];
        world.node(source, &refer)?.done()?;
    }
    let by_itself = moved(&world, "salmiya", "sumida", None)?;
    costs(&world, &by_itself, 500, "1.125 KWD", "hospital")?;
    ensure!(text(at(&by_itself.1, "referral"), "accepted") == "1.125", "{}", by_itself.1);
    costs(&world, &moved(&world, "salmiya", CAUTIOUS, None)?, 500, "1.125 KWD", "hospital")?;
    // Where there is no fee, there is none on a referral either.
    costs(&world, &moved(&world, "elbe", "sumida", None)?, 0, "0.00 EUR", "hospital")?;
    costs(&world, &moved(&world, "elbe", "lakeside", None)?, 0, "0.00 EUR", "patient")?;
    let balances = world.index(&["ledger", "balances"])?.json()?;
    let currencies: Vec<_> = list(&balances, "totals").map(|it| text(it, "currency").to_owned()).collect();
    ensure!(currencies == ["EUR", "JPY", "KWD", "USD"], "{balances}");
    ensure!(at(&balances, "balanced") == true, "{balances}");
    Ok(())
}

/// A report that was not sent and that the fee was made of turns out to be none: its fee goes back, and nobody is told
/// which it was.
fn wrong_though_not_sent(world: &World, transfer: &str) -> Result<()> {
    let cancelled = world.records_folder().join("cancelled.json");
    std::fs::write(&cancelled, report("chest", "36643-5", "RAD", "cancelled").to_string())?;
    world.node("sumida", &["import", cancelled.to_str().context("UTF-8")?])?.done()?;
    for hospital in ["sumida", "lakeside"] {
        let told = recalled(world, hospital, transfer)?;
        // 5 % of 16955 less 5 % of 12455, each rounded.
        let fee = (text(&told, "fee_back"), at(&told, "fee_differs").is_null());
        ensure!(fee == ("225", true) && text(&told, "reason") == "retracted", "{hospital}: {told}");
        ensure!(
            at(&told, "other_tests") == 1 && list(&told, "records").next().is_none(),
            "{hospital}: {told}"
        );
        ensure!(!told.to_string().contains("chest"), "{hospital} is told which it was: {told}");
    }
    let reversed = soon(|| {
        let entries = world.entries(transfer)?;
        Ok(entries.into_iter().find(|it| text(it, "kind") == "reverse"))
    })?;
    ensure!(text(&reversed, "amount") == "225", "{reversed}");
    given_back_once(world, transfer)
}

/// A clerk who recalls the same report by name, for a graver reason, too, gives nothing back again.
fn given_back_once(world: &World, transfer: &str) -> Result<()> {
    let listed = world.node("sumida", &["records", "list", "--patient", WALLET])?.json()?;
    let mut chest =
        list(&listed, "records").filter(|it| text(it, "id") == "chest" && text(it, "origin") == "local");
    let record = text(chest.next().with_context(|| format!("no report: {listed}"))?, "record").to_owned();
    let named = ["recall", "make", "--patient", WALLET, "--record", &record, "--reason", "wrong-patient"];
    for words in [[&named[..], &["--preview"]].concat(), named.to_vec()] {
        let made = world.node("sumida", &words)?.json()?;
        let mut of_it = list(&made, "hospitals").filter(|it| text(it, "transfer") == transfer);
        ensure!(of_it.all(|it| at(it, "other_tests") == 0), "{made}");
    }
    let listed = world.node("sumida", &["recall", "list"])?.json()?;
    let of_it = list(&listed, "recalls").filter(|it| text(it, "transfer") == transfer).count();
    ensure!(of_it == 1, "it was given back twice: {listed}");
    Ok(())
}

/// The one recall of a transfer as a hospital lists it, once it is marked.
fn recalled(world: &World, hospital: &str, transfer: &str) -> Result<Value> {
    soon(|| {
        let listed = world.node(hospital, &["recall", "list"])?.json()?;
        let mut of_it = list(&listed, "recalls").filter(|it| text(it, "transfer") == transfer);
        Ok(of_it.next().filter(|told| at(told, "marked").is_string()).cloned())
    })
}

/// What is found within the limit.
fn soon(find: impl Fn() -> Result<Option<Value>>) -> Result<Value> {
    let until = Instant::now() + LIMIT;
    loop {
        if let Some(found) = find()? {
            return Ok(found);
        }
        ensure!(Instant::now() < until, "it does not come");
        thread::sleep(LOOK_AGAIN);
    }
}

/// The fixture's federation with another schedule.
fn federation(schedule: FeeSchedule) -> Federation {
    let world = fixture::World::shared();
    let mut directory = world.directory(2, T0);
    directory.schedules = vec![by_two(schedule, &world.operators[0].key, &world.operators[1].key).into()];
    world.verified(&directory)
}

#[test]
fn nobody_is_charged_otherwise_than_the_schedule_says() {
    let story = Story::tell(Plan::opaque(1).narrowed());
    let quote = story.final_quote.as_ref().unwrap();
    let body = &story.body;
    let follows = |schedule: FeeSchedule| {
        let federation = federation(schedule);
        let context = Rules { federation: &federation, verifier: &Ed25519 };
        rules::header_quote(&story.header, quote, &story.quote.hash(), context)
    };
    assert_eq!(follows(FeeSchedule::percentage(T0)), Ok(()));
    assert_eq!(follows(FeeSchedule::patient_pays_nothing(T0)), Err(Code::QuoteFalse));
    assert_eq!(follows(FeeSchedule::no_fee(T0)), Err(Code::QuoteFalse));
    let later = quote.priced.plus_ms(1);
    assert_eq!(follows(FeeSchedule::percentage(later)), Err(Code::NoFeeSchedule));

    let priced = |schedule: FeeSchedule, others: Option<OtherTests>| {
        let federation = federation(schedule);
        let context = Rules { federation: &federation, verifier: &Ed25519 };
        let body = QuoteBody { other_tests: others, ..body.clone() };
        rules::quote_rate(&story.quote, &body, context)
    };
    let others = || {
        let (tests, unpriced, basis) = (1, 0, "20.00".to_owned());
        Some(OtherTests { tests, unpriced, basis, extensions: Extensions::default() })
    };
    let all = FeeSchedule { basis: FeeBasis::AllTests, ..FeeSchedule::percentage(T0) };
    assert_eq!(priced(FeeSchedule::percentage(T0), None), Ok(()));
    assert_eq!(priced(all, others()), Ok(()));
    assert_eq!(priced(FeeSchedule::percentage(T0), others()), Err(Code::QuoteFalse), "out of scope");
    assert_eq!(priced(FeeSchedule::no_fee(T0), None), Err(Code::QuoteFalse), "another rate");

    // A quote keeps its day: a final one that is priced anew is another quote.
    let lakeside = &fixture::World::shared().lakeside.signing;
    let anew = altered(quote, lakeside, |it| it.priced = it.issued.plus_ms(1));
    let anew = Signed::read(&anew).unwrap().verify(&lakeside.public(), &Ed25519).unwrap();
    assert_eq!(rules::narrowing(&anew, &story.quote), Err(Code::QuoteMismatch));
    let on = rules::request(story.request.envelope(), fixture::World::context()).unwrap();
    for priced in [Timestamp::from_millis(0), story.quote.issued.plus_ms(1)] {
        let back_dated = altered(&story.quote, lakeside, |it| it.priced = priced);
        let refused = rules::quote(&back_dated, &on, fixture::World::context()).map(|_| ());
        assert_eq!(refused, Err(Code::QuoteMismatch));
    }
}
