//! Recalls on real processes: what is amended, retracted or of another patient is marked wherever it was sent to, also
//! when the index or the other hospital is away, and the fee is given back.

use anyhow::{Context as _, Result, ensure};
use handover_scenarios::signals::kill;
use handover_scenarios::world::World;
use serde_json::{Value, json};

use crate::people::{
    FIRST, PATIENT, SECOND, THIRD, allergy, answered, confirmed, filed, import, lipid, liver, mark, moved,
    pulse, quoted, recalls, record, report, text, within, world,
};

#[test]
fn what_was_wrong_is_marked_wherever_it_was_sent_to_and_paid_back() -> Result<()> {
    let mut world = world()?;
    play(&mut world).map_err(|fault| {
        let folder = world.folder().display().to_string();
        fault.context(format!("data and logs are in {folder}"))
    })?;
    for hospital in [FIRST, SECOND, THIRD] {
        let checked = world.node(hospital, &["check"])?.json()?;
        ensure!(checked["whole"] == true, "{hospital} is damaged: {checked}");
    }
    world.index(&["check"])?.done()
}

fn play(world: &mut World) -> Result<()> {
    let transfer = while_under_way(world).context("a report that is amended on its way")?;
    let onward = moved(world, SECOND, THIRD)?;
    // What was marked before it was sent on is marked where it arrives, and needs no recall.
    ensure!(mark(world, THIRD, FIRST, "pulse")? == ("amended".to_owned(), FIRST.to_owned()));
    ensure!(recalls(world, SECOND, &onward)?.is_empty(), "recalled although it was marked");
    let shown = world.node(SECOND, &["transfer", "show", &transfer])?.json()?;
    ensure!(text(&shown, "fee") == "9.89", "5 % of 197.70: {shown}");
    amended(world, &transfer, &onward).context("an amended report")?;
    retracted(world, &transfer, &onward).context("a cancelled report")?;
    by_a_clerk(world, &transfer, &onward).context("a clerk's recall")?;
    while_others_are_away(world, &transfer).context("the index and the other hospital away")?;
    narrowed(world).context("a consent that narrows")?;
    marks_travel(world).context("a marked record that is sent")?;
    its_file_verifies(world, &transfer).context("the transfer's file")?;
    with_its_files(world).context("a document with a file")?;
    merged(world).context("a patient who was replaced")?;
    after_the_wallet_is_gone(world).context("a wallet that was unlinked")
}

/// What was consented to is sent, and recalled as soon as it is filed.
fn while_under_way(world: &World) -> Result<String> {
    let transfer = quoted(world, FIRST, SECOND)?;
    import(world, &[pulse("70")])?;
    answered(world, SECOND, &transfer, "consent", &["--no-release"])?;
    world.node(FIRST, &["transfer", "show", &transfer, "--wait", "60", "--until", "delivered"])?.done()?;
    ensure!(recalls(world, FIRST, &transfer)?.is_empty(), "nobody can have marked it yet");
    answered(world, SECOND, &transfer, "release", &[])?;
    filed(world, FIRST, SECOND, &transfer)?;
    let sent = confirmed(world, FIRST, &transfer, 1)?;
    ensure!(text(&sent, "reason") == "amended" && sent["records"][0]["id"] == "pulse", "{sent}");
    ensure!(mark(world, SECOND, FIRST, "pulse")? == ("amended".to_owned(), FIRST.to_owned()));
    Ok(transfer)
}

/// A newer version at the source is enough; who had it from there is told by whom they had it from.
fn amended(world: &World, transfer: &str, onward: &str) -> Result<()> {
    let record_before = record(world, SECOND, FIRST, "lipid")?;
    import(world, &[lipid("4.7")])?;
    let sent = confirmed(world, FIRST, transfer, 2)?;
    let told = ["reason", "direction", "hospital", "fee_back"].map(|key| text(&sent, key).to_owned());
    ensure!(told == ["amended", "sent", SECOND, "0.00"], "{sent}");
    ensure!(sent["records"].as_array().is_some_and(|it| it.len() == 1 && it[0]["id"] == "lipid"), "{sent}");
    let received = confirmed(world, SECOND, transfer, 2)?;
    ensure!(text(&received, "direction") == "received" && text(&received, "hospital") == FIRST, "{received}");
    ensure!(mark(world, SECOND, FIRST, "lipid")? == ("amended".to_owned(), FIRST.to_owned()));
    ensure!(record(world, SECOND, FIRST, "lipid")? == record_before, "it was replaced");
    let shown = world.node(SECOND, &["records", "show", "--patient", PATIENT, &record_before])?;
    ensure!(String::from_utf8_lossy(&shown.stdout).contains("4.1"), "it was replaced");
    let said: Value = serde_json::from_str(shown.stderr.trim())?;
    ensure!(said["recalled"]["by"] == FIRST && said["recalled"]["replaced"].is_string(), "not said: {said}");

    let passed_on = confirmed(world, SECOND, onward, 1)?;
    ensure!(text(&passed_on, "reason") == "amended" && text(&passed_on, "fee_back") == "0.00", "{passed_on}");
    ensure!(mark(world, THIRD, FIRST, "lipid")? == ("amended".to_owned(), SECOND.to_owned()));
    // What was not recalled bears no mark, and importing it again recalls nothing.
    ensure!(mark(world, SECOND, FIRST, "thyroid")?.0.is_empty());
    import(world, &[lipid("4.7"), pulse("70")])?;
    Ok(())
}

/// A new version that says of itself that it should not stand takes the fee for it along.
/// It is imported while the node does not run.
fn retracted(world: &mut World, transfer: &str, onward: &str) -> Result<()> {
    world.stop(FIRST)?;
    import(world, &[liver("cancelled"), allergy("entered-in-error")])?;
    world.restart(FIRST)?;
    let sent = confirmed(world, FIRST, transfer, 3)?;
    ensure!(text(&sent, "reason") == "retracted", "{sent}");
    ensure!(sent["records"].as_array().is_some_and(|it| it.len() == 2), "gathered in one: {sent}");
    // 5 % of 197.70 less 5 % of 146.35, each rounded.
    ensure!(text(&sent, "fee_back") == "2.57" && sent["fee_differs"].is_null(), "{sent}");
    ensure!(mark(world, SECOND, FIRST, "nuts")?.0 == "retracted");
    for hospital in [FIRST, SECOND] {
        let told = told_to_the_patient(world, hospital, transfer, 3)?;
        let said = ["reason", "fee_back", "currency"].map(|key| text(&told, key));
        ensure!(said == ["retracted", "2.57", "USD"] && told["records"] == 2, "{hospital}: {told}");
    }
    confirmed(world, SECOND, onward, 2)?;
    ensure!(mark(world, THIRD, FIRST, "liver")? == ("retracted".to_owned(), SECOND.to_owned()));
    reversed(world, transfer, &["2.57"])
}

/// What the wallet shows of a recall, once it is marked.
fn told_to_the_patient(world: &World, hospital: &str, transfer: &str, number: u64) -> Result<Value> {
    let mut told = Value::Null;
    within(&format!("the patient to be told at {hospital}"), || {
        let shown = world.wallet_at(PATIENT, hospital, &["inbox", "--transfer", transfer])?.json()?;
        let recalls = shown["transfers"][0]["recalls"].as_array().cloned().unwrap_or_default();
        told = recalls.into_iter().find(|it| it["number"] == number).unwrap_or_default();
        Ok(told["marked"].is_string())
    })?;
    Ok(told)
}

fn by_a_clerk(world: &World, transfer: &str, onward: &str) -> Result<()> {
    let thyroid = record(world, FIRST, "local", "thyroid")?;
    let recall = |more: &[&str]| {
        let make = ["recall", "make", "--patient", PATIENT, "--record", &thyroid];
        world.node(FIRST, &[&make, more].concat())
    };
    let preview = recall(&["--reason", "wrong-patient", "--preview"])?.json()?;
    ensure!(text(&preview["hospitals"][0], "fee_back") == "4.38", "{preview}");
    ensure!(recalls(world, FIRST, transfer)?.len() == 3, "a preview recalls nothing");
    ensure!(mark(world, FIRST, "local", "thyroid")?.0.is_empty(), "a preview marks nothing");
    let unknown =
        ["recall", "make", "--patient", PATIENT, "--record", &"0".repeat(32), "--reason", "retracted"];
    ensure!(world.node(FIRST, &unknown)?.problem().as_deref() == Some("nothing-to-recall"));

    let hashes = |made: &Value| {
        made["hospitals"][0]["recalls"]
            .as_array()
            .map(|all| all.iter().map(|it| text(it, "recall").to_owned()).collect::<Vec<_>>())
    };
    let made = recall(&["--reason", "wrong-patient"])?.json()?;
    let again = recall(&["--reason", "wrong-patient"])?.json()?;
    ensure!(
        hashes(&made).is_some_and(|it| it.len() == 1) && hashes(&made) == hashes(&again),
        "{made} {again}"
    );
    let sent = confirmed(world, FIRST, transfer, 4)?;
    ensure!(text(&sent, "reason") == "wrong-patient" && text(&sent, "fee_back") == "4.38", "{sent}");
    ensure!(mark(world, SECOND, FIRST, "thyroid")?.0 == "wrong-patient");
    ensure!(mark(world, FIRST, "local", "thyroid")? == ("wrong-patient".to_owned(), FIRST.to_owned()));
    confirmed(world, SECOND, onward, 3)?;
    reversed(world, transfer, &["2.57", "4.38"])?;
    let entries = world.entries(transfer)?;
    let by = entries.last().map(|it| text(it, "recall").to_owned());
    ensure!(by.as_deref() == Some(text(&sent, "recall")), "not said by which recall: {entries:?}");
    Ok(())
}

/// Everything else is of another patient, too. The index hears of it later, the hospital when it is back.
fn while_others_are_away(world: &mut World, transfer: &str) -> Result<()> {
    kill(world.index_pid().context("the index does not run")?)?;
    let make = ["recall", "make", "--patient", PATIENT, "--reason", "wrong-patient"];
    let made = world.node(FIRST, &make)?.json()?;
    // With what was given back for the one before. The report that is wrong anyway is of another patient as well: its
    // fee was given back as retracted.
    ensure!(text(&made["hospitals"][0], "fee_back") == "7.32", "{made}");
    confirmed(world, FIRST, transfer, 5)?;
    ensure!(mark(world, SECOND, FIRST, "pulse")?.0 == "wrong-patient");
    world.restart_index(true)?;
    reversed(world, transfer, &["2.57", "4.38", "2.94"])?;

    // A newer version of what is of another patient says nothing new: it is recalled already.
    import(world, &[pulse("72")])?;
    world.stop(SECOND)?;
    let third = moved(world, FIRST, THIRD)?;
    import(world, &[pulse("73")])?;
    within("the other hospital is told while the second is away", || {
        Ok(recalls(world, FIRST, &third)?.iter().any(|it| it["marked"].is_string()))
    })?;
    world.kill(FIRST)?;
    world.restart(FIRST)?;
    world.restart(SECOND)?;
    ensure!(recalls(world, FIRST, transfer)?.len() == 5, "recalled twice");
    Ok(())
}

/// Of what was quoted, only what was consented to was sent.
fn narrowed(world: &World) -> Result<()> {
    let transfer = quoted(world, FIRST, THIRD)?;
    import(world, &[pulse("74")])?;
    answered(world, THIRD, &transfer, "consent", &["--departments", "laboratory"])?;
    filed(world, FIRST, THIRD, &transfer)?;
    import(world, &[lipid("5.1")])?;
    let sent = confirmed(world, FIRST, &transfer, 1)?;
    let records = sent["records"].as_array().context("no records")?;
    ensure!(records.len() == 1 && records[0]["id"] == "lipid", "recalled what was not sent: {sent}");
    Ok(())
}

/// What is marked where it is sent from is marked where it is filed, and nobody pays for it.
fn marks_travel(world: &World) -> Result<()> {
    let listed = world.node(THIRD, &["transfer", "list"])?.json()?;
    let all = listed["transfers"].as_array().context("no transfers")?;
    let third = all.iter().find(|it| text(it, "source") == FIRST).context("no transfer from the first")?;
    let shown = world.node(THIRD, &["transfer", "show", text(third, "transfer")])?.json()?;
    ensure!(text(&shown, "fee") == "0.00", "recalled tests are charged: {shown}");
    let listed = world.node(THIRD, &["records", "list", "--patient", PATIENT])?.json()?;
    let thyroid = listed["records"].as_array().into_iter().flatten();
    let by: Vec<&str> =
        thyroid.filter(|it| it["id"] == "thyroid").map(|it| text(&it["recalled"], "by")).collect();
    ensure!(by.len() == 2 && by.contains(&FIRST) && by.contains(&SECOND), "{listed}");
    Ok(())
}

/// What a document named as its files goes with it.
fn with_its_files(world: &World) -> Result<()> {
    let document = |status: &str| {
        json!({
            "resourceType": "DocumentReference", "id": "letter", "status": status,
            "subject": {"reference": "Patient/anna"},
            "content": [{"attachment": {"contentType": "application/pdf", "url": "letter.pdf"}}],
        })
    };
    std::fs::write(world.records_folder().join("letter.pdf"), "%PDF-1.7 of somebody else")?;
    import(world, &[document("current")])?;
    let transfer = moved(world, FIRST, SECOND)?;
    import(world, &[document("entered-in-error")])?;
    let sent = confirmed(world, FIRST, &transfer, 1)?;
    let records = sent["records"].as_array().context("no records")?;
    ensure!(text(&sent, "reason") == "retracted" && records.len() == 2, "{sent}");
    let file = records.iter().find(|it| text(it, "type") == "Binary").context("without its file")?;
    ensure!(mark(world, SECOND, FIRST, text(file, "id"))? == ("retracted".to_owned(), FIRST.to_owned()));
    Ok(())
}

/// A merge is told with what was sent before, and who recalls it; by itself it changes nothing.
fn merged(world: &World) -> Result<()> {
    let all = || world.node(FIRST, &["recall", "list"])?.json();
    let before = all()?;
    let replaces = |other: &str| {
        let link = json!([{"other": {"reference": format!("Patient/{other}")}, "type": "replaces"}]);
        json!({"resourceType": "Patient", "id": "anna-2", "link": link})
    };
    for time in ["", "again"] {
        let imported = import(world, &[replaces(PATIENT)])?;
        let told = &imported["merged"][0];
        ensure!(told["patient"] == PATIENT && told["replaced_by"] == "anna-2", "{time}: {imported}");
        let sent = told["sent"].as_array().context("nothing was sent")?;
        for hospital in [SECOND, THIRD] {
            let is_told =
                sent.iter().any(|it| it["hospital"] == hospital && it["records"].as_u64() > Some(0));
            ensure!(is_told, "not told of {hospital}: {told}");
        }
        // The command that it names is one.
        let recall: Vec<&str> = text(told, "recall").split(' ').collect();
        let preview = world.node(FIRST, &recall)?.json()?;
        ensure!(preview["preview"] == true && preview["patient"] == PATIENT, "{preview}");
    }
    let imported = import(world, &[replaces("nobody-known")])?;
    let told = &imported["merged"][0];
    ensure!(told["sent"] == json!([]) && told["recall"].is_null(), "{told}");
    ensure!(told["not_looked_up"].is_null() && imported["merged_unnamed"] == 0, "{imported}");
    ensure!(all()? == before, "something was recalled by itself");
    Ok(())
}

/// Whose a transfer was stays known, whichever wallet is linked to whom later; until the patient is forgotten.
fn after_the_wallet_is_gone(world: &World) -> Result<()> {
    let glucose = |value: &str| report("glucose", "2345-7", "final", value);
    import(world, &[glucose("5.1")])?;
    let transfer = moved(world, FIRST, SECOND)?;
    let shown = world.wallet(PATIENT, &["show"])?.json()?;
    for hospital in [FIRST, SECOND] {
        let unlink = ["patient", "unlink", PATIENT, "--wallet", text(&shown, "patient")];
        ensure!(world.node(hospital, &unlink)?.json()?["was_linked"] == true, "there was no link");
    }
    import(world, &[glucose("15.1")])?;
    let sent = confirmed(world, FIRST, &transfer, 1)?;
    ensure!(text(&sent, "reason") == "amended" && text(&sent, "patient") == PATIENT, "{sent}");
    ensure!(mark(world, SECOND, FIRST, "glucose")? == ("amended".to_owned(), FIRST.to_owned()));
    world.node(FIRST, &["patient", "forget", PATIENT])?.done()?;
    let left = recalls(world, FIRST, &transfer)?;
    ensure!(left.len() == 1 && left[0]["patient"].is_null() && left[0]["reason"].is_null(), "{left:?}");
    Ok(())
}

fn its_file_verifies(world: &World, transfer: &str) -> Result<()> {
    for at in [FIRST, SECOND] {
        let file = world.records_folder().join(format!("{at}.handover"));
        let path = file.to_str().context("a path is no UTF-8")?;
        world.node(at, &["transfer", "show", transfer, "--out", path])?.done()?;
        let verified = world.verify(&file)?.json()?;
        ensure!(verified["recalls"] == 5 && verified["fee_back"] == "9.89", "{verified}");
    }
    Ok(())
}

/// Waits for a transfer's reversals: these, in this order, of the one posted fee; and the books balance.
fn reversed(world: &World, transfer: &str, amounts: &[&str]) -> Result<()> {
    within(&format!("reversals of {amounts:?}"), || {
        let entries = world.entries(transfer)?;
        let of_kind = |kind: &str| entries.iter().filter(|it| text(it, "kind") == kind).collect::<Vec<_>>();
        let (posted, back) = (of_kind("post"), of_kind("reverse"));
        let about = posted.first().map(|it| text(it, "id")).unwrap_or_default();
        ensure!(back.iter().all(|it| text(it, "about") == about), "not about the fee: {entries:?}");
        Ok(posted.len() == 1 && back.iter().map(|it| text(it, "amount")).eq(amounts.iter().copied()))
    })?;
    let balances = world.index(&["ledger", "balances"])?.json()?;
    ensure!(balances["balanced"] == true, "{balances}");
    Ok(())
}
