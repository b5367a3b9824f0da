//! Rooms: which crates are named where, and which modules import which.

use std::collections::BTreeSet;

use anyhow::Result;

use crate::map::{self, Tiers};
use crate::tree::{self, File, Package};

/// Modules that only tests are built with.
const TEST_ROOMS: [&str; 2] = ["tests", "testkit"];

/// Fenced crates in manifests and sources where they do not belong.
pub(crate) fn fences() -> Result<Vec<String>> {
    let (packages, files) = (tree::packages()?, tree::files()?);
    let mut faults = Vec::new();
    for fence in map::fences()? {
        for place in &fence.places {
            let is_there =
                tree::top().join(place).exists() || tree::top().join(format!("{place}.rs")).exists();
            if !is_there {
                faults.push(format!(
                    "ARCHITECTURE.md fences {} into {place}, which is not there",
                    fence.crates.join(", ")
                ));
            }
        }
        for name in &fence.crates {
            for package in packages.iter().filter(|package| package.names("dependencies").contains(name)) {
                let has_place = fence.places.iter().any(|place| {
                    place.split('/').zip(package.folder.split('/')).all(|(one, other)| one == other)
                });
                if !has_place {
                    faults.push(format!(
                        "{}/Cargo.toml names {name}, which belongs in {} only",
                        package.folder,
                        fence.places.join(", ")
                    ));
                }
                faults.extend(outside(package, name, &fence.places, &files));
            }
        }
    }
    Ok(faults)
}

/// Where a package's sources name a crate outside of its places.
fn outside<'f>(
    package: &'f Package,
    name: &'f str,
    places: &'f [String],
    files: &'f [File],
) -> impl Iterator<Item = String> {
    let sources = format!("{}/src", package.folder);
    let path = format!("{}::", name.replace('-', "_"));
    files
        .iter()
        .filter(move |file| file.is_rust() && file.is_in(&sources) && !is_test(file))
        .filter(move |file| !places.iter().any(|place| file.is_in(place)))
        .flat_map(move |file| {
            let path = path.clone();
            let lines = file.code().filter(move |(_, code)| names_path(code, &path));
            lines.map(move |(line, _)| {
                format!("{}:{line} names {name}, which belongs in {} only", file.path, places.join(", "))
            })
        })
}

fn is_test(file: &File) -> bool {
    file.path.split('/').any(|part| TEST_ROOMS.contains(&part.trim_end_matches(".rs")))
}

/// Whether a line names a path such as `sled::`, and not the end of a longer word.
fn names_path(code: &str, path: &str) -> bool {
    code.match_indices(path).any(|(at, _)| {
        let before = code.get(..at).and_then(|before| before.chars().next_back());
        !before.is_some_and(|letter| letter.is_alphanumeric() || letter == '_' || letter == ':')
    })
}

/// Rooms that import upwards, and rooms that the map does not name.
pub(crate) fn tiers() -> Result<Vec<String>> {
    let (packages, files) = (tree::packages()?, tree::files()?);
    let mut faults = Vec::new();
    for map in map::tiers()? {
        if !packages.iter().any(|package| package.folder == map.package) {
            faults.push(format!("ARCHITECTURE.md maps the rooms of {}, which is no package", map.package));
        }
        let sources = format!("{}/src", map.package);
        let rooms: BTreeSet<&str> = files.iter().filter_map(|file| room(file, &sources)).collect();
        for room in &rooms {
            if level(&map, room).is_none() {
                faults.push(format!("{sources}/{room}: give it a place among the rooms in ARCHITECTURE.md"));
            }
        }
        for name in map.tiers.iter().flatten().filter(|name| !rooms.contains(name.as_str())) {
            faults.push(format!("ARCHITECTURE.md names a room {name} in {sources}, which is not there"));
        }
        for file in &files {
            let Some(above) = room(file, &sources) else { continue };
            for (line, below) in imported(file) {
                let is_up = level(&map, above).zip(level(&map, &below)).is_some_and(|(from, to)| to < from);
                if is_up {
                    faults.push(format!(
                        "{}:{line} imports {below}, a room above {above}: turn it around",
                        file.path
                    ));
                }
            }
        }
    }
    Ok(faults)
}

fn level(map: &Tiers, room: &str) -> Option<usize> {
    map.tiers.iter().position(|tier| tier.iter().any(|name| name == room))
}

/// The room that a source file belongs to: the first part of its path in `src`.
fn room<'f>(file: &'f File, sources: &str) -> Option<&'f str> {
    let rest = file.path.strip_prefix(sources)?.strip_prefix('/')?;
    let first = rest.split('/').next()?;
    let room = first.strip_suffix(".rs").or_else(|| rest.contains('/').then_some(first))?;
    let is_room = !["lib", "main", "bin"].contains(&room) && !TEST_ROOMS.contains(&room);
    is_room.then_some(room)
}

/// The modules that a file takes from its own crate, with the line.
fn imported(file: &File) -> Vec<(usize, String)> {
    let code: Vec<(usize, char)> = file
        .code()
        .flat_map(|(line, code)| code.chars().chain(['\n']).map(move |letter| (line, letter)))
        .collect();
    let text: String = code.iter().map(|(_, letter)| letter).collect();
    let starts = text.match_indices("crate::").filter(|(at, _)| {
        !text
            .get(..*at)
            .is_some_and(|before| before.ends_with(|letter: char| letter.is_alphanumeric() || letter == '$'))
    });
    starts
        .flat_map(|(at, path)| {
            let line = 1 + text.get(..at).map_or(0, |before| before.matches('\n').count());
            let rest = text.get(at + path.len()..).unwrap_or_default();
            firsts(rest).into_iter().map(move |name| (line, name))
        })
        .collect()
}

/// The first names of `a::b` or of each in `{a::b, c::{d, e}}`.
fn firsts(path: &str) -> Vec<String> {
    let Some(group) = path.strip_prefix('{') else { return vec![first(path)] };
    let (mut names, mut depth) = (vec![first(group)], 1_usize);
    for (at, letter) in group.char_indices() {
        match letter {
            '{' => depth += 1,
            '}' if depth == 1 => break,
            '}' => depth -= 1,
            ',' if depth == 1 => names.push(first(group.get(at + 1..).unwrap_or_default())),
            _ => {}
        }
    }
    names.retain(|name| !name.is_empty());
    names
}

fn first(path: &str) -> String {
    path.trim_start().chars().take_while(|letter| letter.is_alphanumeric() || *letter == '_').collect()
}

#[test]
fn imports_are_found_in_groups_too() {
    let text = "use crate::one::Two;\nuse crate::{\n    three::{Four, five},\n    Six, // crate::seven\n    eight,\n};\n";
    let file = File { path: String::new(), text: text.to_owned() };
    let found: Vec<(usize, String)> = imported(&file);
    let expected = [(1, "one"), (2, "three"), (2, "Six"), (2, "eight")];
    assert_eq!(found, expected.map(|(line, name)| (line, name.to_owned())));
    assert!(names_path("use sled::Db;", "sled::") && !names_path("unsled::x", "sled::"));
}
