use std::path::Path;

use super::*;

fn faults(text: &str) -> Vec<(Option<usize>, String)> {
    let faults = parse(text, Path::new("story.toml")).unwrap_err().faults;
    faults.into_iter().map(|fault| (fault.step, fault.field)).collect()
}

#[test]
fn the_shipped_stories_can_be_played() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("stories");
    let mut count = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let story = load(&entry.unwrap().path()).unwrap_or_else(|faults| panic!("{faults}"));
        assert!(!story.steps.is_empty());
        count += 1;
    }
    assert!(count >= 3);
}

#[test]
fn every_fault_is_told_with_step_and_field() {
    let text = r#"
        title = ""
        hospitals = ["lakeside"]
        extra = 1
        [[step]]
        say = "x"
        do = "import"
        patient = "ada"
        at = "elsewhere"
        visits = "many"
        [[step]]
        say = "x"
        do = "dance"
        [[step]]
        do = "consent"
        transfer = "none"
        colour = "red"
        expect = { code = "no-such-code" }
        [[step]]
        say = "x"
        do = "wait"
        transfer = "none"
        at = "lakeside"
        phase = "happy"
    "#;
    let found = faults(text);
    for (step, field) in [
        (None, "title"),
        (None, "about"),
        (None, "extra"),
        (Some(1), "at"),
        (Some(1), "visits"),
        (Some(1), "seed"),
        (Some(2), "do"),
        (Some(3), "say"),
        (Some(3), "transfer"),
        (Some(3), "colour"),
        (Some(3), "expect.code"),
        (Some(4), "phase"),
    ] {
        assert!(found.contains(&(step, field.to_owned())), "{step:?} {field} in {found:?}");
    }
    let shown = parse(text, Path::new("story.toml")).unwrap_err().to_string();
    assert!(shown.contains("story.toml") && shown.contains("step 2, do: \"dance\" is no action"), "{shown}");
}

#[test]
fn what_is_no_toml_is_named() {
    assert_eq!(faults("title = "), [(None, String::new())]);
}
