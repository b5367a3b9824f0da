//! Habits: heads, sizes, and what must not be left lying about.

use std::fs;

use anyhow::{Context, Result};

use crate::map;
use crate::tree::{self, File};

/// The most lines of a source file; most have half of that.
const MAX_LINES: usize = 500;
/// Words that mean that something is not done. Written in halves, so that this file has none of them.
const LEFT_OVERS: &[(&str, &str, &str)] = &[
    ("TO", "DO", "do it, or open an issue"),
    ("FIX", "ME", "fix it, or open an issue"),
    ("unimple", "mented!", "build it, or leave it out"),
    ("to", "do!(", "build it, or leave it out"),
    ("db", "g!(", "log with tracing, or take it out"),
    ("#[ig", "nore", "let the test run, or take it out"),
    ("allow(dead_", "code", "take the dead code out"),
];
/// How a test starts a part of itself as another process. Only such a part may be passed over in a plain run.
const STARTS_ITSELF: &str = "\"--ignored\"";
/// How a path on somebody's machine begins. In halves, as above.
const MACHINE_PATHS: &[(&str, &str)] =
    &[("/ho", "me/"), ("/ro", "ot/"), ("/Us", "ers/"), ("/wo", "rk/"), ("C:", "\\Users")];
/// What the top level holds beside dot-files.
const TOP_LEVEL: &[&str] = &[
    "ARCHITECTURE.md",
    "CHANGELOG.md",
    "Cargo.lock",
    "Cargo.toml",
    "LICENSE",
    "README.md",
    "clippy.toml",
    "deny.toml",
    "global-index",
    "node",
    "rustfmt.toml",
    "scenarios",
    "shared",
    "target",
    "tests",
];
/// What README and ARCHITECTURE.md speak of.
const PROMISED: &[&str] = &[
    ".ci/run",
    "ARCHITECTURE.md",
    "CHANGELOG.md",
    "LICENSE",
    "README.md",
    "deny.toml",
    "global-index/handover-index.sample.toml",
    "node/app/handover-node.sample.toml",
    "node/ingest/src/default-departments.toml",
    "scenarios/data/price-list.csv",
    "scenarios/data/test-catalogue.csv",
    "tests/run",
];
/// What has to be executable.
const SCRIPTS: &[&str] = &[".ci/run", "tests/run"];

/// Sources without a head, and sources that are too long.
pub(crate) fn heads_and_sizes() -> Result<Vec<String>> {
    let mut faults = Vec::new();
    for file in tree::files()?.iter().filter(|file| file.is_rust()) {
        if !file.text.starts_with("//!") && !is_test_beside(file) {
            faults
                .push(format!("{}: begin with a `//!` comment: what it is for, what holds in it", file.path));
        }
        let lines = file.text.lines().count();
        if lines > MAX_LINES {
            faults.push(format!(
                "{}: {lines} lines, more than {MAX_LINES}: two nouns share this room",
                file.path
            ));
        }
    }
    Ok(faults)
}

/// A module's own tests need no head: they are about the module beside them.
fn is_test_beside(file: &File) -> bool {
    file.path.contains("/src/") && (file.path.ends_with("tests.rs") || file.path.contains("/tests/"))
}

/// Work that was left for later.
pub(crate) fn left_overs() -> Result<Vec<String>> {
    let mut faults = Vec::new();
    for file in tree::files()?.iter().filter(|file| file.is_rust() || file.path.ends_with("run")) {
        for (line, text) in (1..).zip(file.text.lines()) {
            for (first, second, advice) in LEFT_OVERS {
                let word = format!("{first}{second}");
                if text.contains(&word) && !is_sound(file, &word) {
                    faults.push(format!("{}:{line} says {word}: {advice}", file.path));
                }
            }
        }
    }
    Ok(faults)
}

/// Tests may pass over a part that they start themselves, and share helpers of which each uses some.
fn is_sound(file: &File, word: &str) -> bool {
    let is_test = file.path.contains("/tests/");
    is_test && (word.contains("dead") || (word.starts_with('#') && file.text.contains(STARTS_ITSELF)))
}

/// Absolute paths of somebody's machine.
pub(crate) fn machine_paths() -> Result<Vec<String>> {
    let mut faults = Vec::new();
    for file in tree::files()? {
        for (line, text) in (1..).zip(file.text.lines()) {
            for (first, second) in MACHINE_PATHS {
                let path = format!("{first}{second}");
                let is_named = text.match_indices(&path).any(|(at, _)| {
                    let before = text.get(..at).and_then(|before| before.chars().next_back());
                    !before.is_some_and(|letter| letter.is_alphanumeric() || "/.:-_}".contains(letter))
                });
                if is_named {
                    faults.push(format!("{}:{line} names {path}…: nobody else has that folder", file.path));
                }
            }
        }
    }
    Ok(faults)
}

/// What does not belong at the top.
pub(crate) fn top_level() -> Result<Vec<String>> {
    let mut faults = Vec::new();
    for entry in fs::read_dir(tree::top()).context("the top folder cannot be read")? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if !name.starts_with('.') && !TOP_LEVEL.contains(&name.as_str()) {
            faults.push(format!("{name}: does not belong at the top level; move or delete it"));
        }
    }
    Ok(faults)
}

/// What is spoken of and not there.
pub(crate) fn promised() -> Result<Vec<String>> {
    let top = tree::top();
    let missing = PROMISED.iter().filter(|path| !top.join(path).is_file());
    let mut faults: Vec<String> = missing.map(|path| format!("{path}: is missing")).collect();
    let aliases = fs::read_to_string(top.join(".cargo/config.toml")).unwrap_or_default();
    if !aliases.contains("demo = ") {
        faults.push(".cargo/config.toml: has no alias for `cargo demo`".to_owned());
    }
    #[cfg(unix)]
    for script in SCRIPTS {
        use std::os::unix::fs::PermissionsExt as _;
        let is_executable =
            fs::metadata(top.join(script)).is_ok_and(|it| it.permissions().mode() & 0o111 != 0);
        if !is_executable {
            faults.push(format!("{script}: is not executable (chmod +x)"));
        }
    }
    Ok(faults)
}

/// Threats without a test, and tests of threats that are not there.
pub(crate) fn untested_threats() -> Result<Vec<String>> {
    let files = tree::files()?;
    let is_there = |name: &str| {
        let Some((path, function)) = name.split_once("::") else { return false };
        let (path, function) = (format!("/{path}"), format!("fn {function}("));
        files.iter().any(|file| format!("/{}", file.path).ends_with(&path) && file.text.contains(&function))
    };
    let mut faults = Vec::new();
    for (at, tests) in map::threats()?.into_iter().enumerate() {
        if tests.is_empty() {
            faults.push(format!("threat {} names no test", at + 1));
        }
        let missing = tests.iter().filter(|name| !is_there(name));
        faults.extend(missing.map(|name| format!("there is no test {name}")));
    }
    Ok(faults)
}
