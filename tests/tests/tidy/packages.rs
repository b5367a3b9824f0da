//! Packages: who imports whom, and what their manifests say.

use std::process::Command;

use anyhow::{Context, Result, ensure};
use toml::Value;

use crate::map::{self, Imports};
use crate::tree::{self, Package};

/// What no pure package may have below it, by name or by how a name ends.
const IMPURE: &[&str] = &[
    "async-std",
    "futures-executor",
    "mio",
    "smol",
    "tokio", // runtimes
    "hyper",
    "libp2p",
    "quinn",
    "reqwest",
    "rustls",
    "ureq",
    "warp", // networks
    "fjall",
    "object_store",
    "redb",
    "rusqlite",
    "sled",
    "tokio-postgres", // databases
    "aws-lc-rs",
    "bindgen",
    "cc",
    "cmake",
    "pkg-config",
    "ring", // C libraries
];
const IMPURE_ENDING: &str = "-sys";

fn row<'m>(map: &'m [Imports], package: &Package) -> Option<&'m Imports> {
    map.iter().find(|row| row.package == package.folder)
}

/// Packages without a row, and rows without a package.
pub(crate) fn missing_from_map() -> Result<Vec<String>> {
    let (map, packages) = (map::imports()?, tree::packages()?);
    let unmapped = packages.iter().filter(|package| row(&map, package).is_none());
    let mut faults: Vec<String> = unmapped
        .map(|package| format!("{}: give it a row in ARCHITECTURE.md's table of packages", package.folder))
        .collect();
    let gone = map.iter().filter(|row| packages.iter().all(|package| package.folder != row.package));
    faults.extend(gone.map(|row| format!("ARCHITECTURE.md maps {}, which is no package", row.package)));
    Ok(faults)
}

/// Imports that the map does not allow.
pub(crate) fn imports() -> Result<Vec<String>> {
    let (map, packages) = (map::imports()?, tree::packages()?);
    let mut faults = Vec::new();
    for package in &packages {
        let Some(row) = row(&map, package) else { continue };
        let named = [package.names("dependencies"), package.names("build-dependencies")].concat();
        for import in packages.iter().filter(|import| named.contains(&import.name)) {
            let is_allowed = row.may_all
                || row.may.iter().any(|may| {
                    import.folder == *may
                        || import.folder.strip_prefix(may).is_some_and(|it| it.starts_with('/'))
                });
            if !is_allowed {
                faults.push(format!(
                    "{} imports {}: ARCHITECTURE.md does not allow it; move the code, or change the map for a reason",
                    package.folder, import.folder
                ));
            }
        }
    }
    Ok(faults)
}

/// Pure packages with something impure anywhere below them.
pub(crate) fn impure() -> Result<Vec<String>> {
    let (map, packages) = (map::imports()?, tree::packages()?);
    let pure: Vec<&Package> =
        packages.iter().filter(|package| row(&map, package).is_some_and(|row| row.is_pure)).collect();
    ensure!(
        pure.iter().any(|package| package.folder == "shared/core"),
        "ARCHITECTURE.md: shared/core is pure"
    );
    let mut faults = Vec::new();
    for package in pure {
        for below in below(&package.name)? {
            if IMPURE.contains(&below.as_str()) || below.ends_with(IMPURE_ENDING) {
                faults.push(format!(
                    "{} is pure, but {below} is below it (cargo tree --package {} --invert {below})",
                    package.folder, package.name
                ));
            }
        }
    }
    Ok(faults)
}

/// The names of all crates that are linked into a package, or run when it is built.
fn below(package: &str) -> Result<Vec<String>> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["tree", "--quiet", "--locked", "--offline", "--package", package])
        .args(["--edges", "normal,build", "--prefix", "none", "--format", "{p}"])
        .current_dir(tree::top())
        .output()
        .context("cargo tree cannot be run")?;
    ensure!(output.status.success(), "cargo tree: {}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout)?;
    let mut names: Vec<String> =
        text.lines().filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect();
    names.sort();
    names.dedup();
    Ok(names)
}

/// Manifests that do not take versions and lints from the workspace.
pub(crate) fn manifests() -> Result<Vec<String>> {
    let mut faults = Vec::new();
    for package in tree::packages()? {
        let inherits = |value: Option<&Value>| {
            value.and_then(|value| value.get("workspace")).and_then(Value::as_bool) == Some(true)
        };
        if !inherits(package.manifest.get("lints")) {
            faults.push(format!("{}/Cargo.toml: add [lints] workspace = true", package.folder));
        }
        for field in ["version", "edition", "rust-version", "license", "publish"] {
            if !inherits(package.manifest.get("package").and_then(|it| it.get(field))) {
                faults.push(format!("{}/Cargo.toml: set {field}.workspace = true", package.folder));
            }
        }
        for section in ["dependencies", "dev-dependencies", "build-dependencies"] {
            let table = package.manifest.get(section).and_then(Value::as_table);
            for (name, value) in table.into_iter().flatten() {
                if !inherits(Some(value)) {
                    faults.push(format!(
                        "{}/Cargo.toml: {name} takes its version from the workspace ({name}.workspace = true)",
                        package.folder
                    ));
                }
            }
        }
    }
    Ok(faults)
}
