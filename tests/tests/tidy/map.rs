//! The tables of `ARCHITECTURE.md` that bind. Each follows a line `<!-- tidy: NAME -->`.

use std::fs;

use anyhow::{Context, Result, ensure};

use crate::tree;

/// The rows of a table, cell by cell, without its head.
fn table(name: &str) -> Result<Vec<Vec<String>>> {
    let text =
        fs::read_to_string(tree::top().join("ARCHITECTURE.md")).context("there is no ARCHITECTURE.md")?;
    let mark = format!("<!-- tidy: {name} -->");
    let (_, after) = text.split_once(&mark).with_context(|| format!("ARCHITECTURE.md has no {mark}"))?;
    let lines = after.lines().skip_while(|line| line.trim().is_empty());
    let rows: Vec<Vec<String>> = lines
        .take_while(|line| line.starts_with('|'))
        .skip(2)
        .map(|line| line.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect())
        .collect();
    ensure!(!rows.is_empty(), "ARCHITECTURE.md has no table after {mark}");
    Ok(rows)
}

/// A cell of a row; absent cells are empty.
fn cell(row: &[String], at: usize) -> String {
    row.get(at).cloned().unwrap_or_default()
}

/// What stands between backticks.
fn names(cell: &str) -> Vec<String> {
    cell.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

/// Who may import whom.
pub(crate) struct Imports {
    /// The package's folder.
    pub(crate) package: String,
    /// Folders of packages, or of several packages.
    pub(crate) may: Vec<String>,
    /// Whether it may import everything.
    pub(crate) may_all: bool,
    /// Whether it is pure.
    pub(crate) is_pure: bool,
}

/// The table of packages.
pub(crate) fn imports() -> Result<Vec<Imports>> {
    let row = |row: Vec<String>| Imports {
        package: names(&cell(&row, 0)).concat(),
        may: names(&cell(&row, 2)),
        may_all: cell(&row, 2) == "all",
        is_pure: cell(&row, 1).contains("Pure."),
    };
    Ok(table("imports")?.into_iter().map(row).collect())
}

/// Where crates are named.
pub(crate) struct Fence {
    /// The crates, as they stand in a manifest.
    pub(crate) crates: Vec<String>,
    /// Files and folders.
    pub(crate) places: Vec<String>,
}

/// The table of fenced crates.
pub(crate) fn fences() -> Result<Vec<Fence>> {
    let row = |row: Vec<String>| Fence { crates: names(&cell(&row, 0)), places: names(&cell(&row, 1)) };
    Ok(table("fences")?.into_iter().map(row).collect())
}

/// The tests that the table of threats names, `FILE::FUNCTION`, row by row.
pub(crate) fn threats() -> Result<Vec<Vec<String>>> {
    Ok(table("threats")?.into_iter().map(|row| names(&cell(&row, 4))).collect())
}

/// A package's rooms, tier by tier.
pub(crate) struct Tiers {
    /// The package's folder.
    pub(crate) package: String,
    /// From above to below.
    pub(crate) tiers: Vec<Vec<String>>,
}

/// The table of rooms.
pub(crate) fn tiers() -> Result<Vec<Tiers>> {
    let row = |row: Vec<String>| Tiers {
        package: names(&cell(&row, 0)).concat(),
        tiers: cell(&row, 1).split('›').map(names).collect(),
    };
    Ok(table("rooms")?.into_iter().map(row).collect())
}
