//! The project's files and manifests, as text.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use toml::Table;

/// Folders that are made, not written.
const MADE: [&str; 3] = ["target", ".git", ".venv"];
/// What is read as text.
const TEXT_ENDINGS: [&str; 7] = ["rs", "toml", "md", "json", "csv", "py", "sh"];

/// The project's top folder.
pub(crate) fn top() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(1).map(Path::to_owned).unwrap_or_default()
}

/// A file of the project.
pub(crate) struct File {
    /// Its path from the top, with `/`.
    pub(crate) path: String,
    /// What stands in it.
    pub(crate) text: String,
}

impl File {
    pub(crate) fn is_rust(&self) -> bool {
        self.path.ends_with(".rs")
    }

    /// Whether it lies in a folder, or is that file.
    pub(crate) fn is_in(&self, place: &str) -> bool {
        self.path.strip_prefix(place).is_some_and(|rest| {
            rest.is_empty() || rest.starts_with('/') || (rest == ".rs" && !place.ends_with(".rs"))
        })
    }

    /// Lines of Rust without comments, numbered from 1. Good enough to find names; it is no parser.
    pub(crate) fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        let without_comment = |line| str::split_once(line, "//").map_or(line, |(code, _)| code);
        (1..).zip(self.text.lines().map(without_comment))
    }
}

/// Every text file of the project, in order.
pub(crate) fn files() -> Result<Vec<File>> {
    let (top, mut found) = (top(), Vec::new());
    collect(&top, &top, &mut found)?;
    found.sort_by(|one, other| one.path.cmp(&other.path));
    Ok(found)
}

fn collect(top: &Path, folder: &Path, found: &mut Vec<File>) -> Result<()> {
    for entry in fs::read_dir(folder).with_context(|| format!("{} cannot be read", folder.display()))? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if path.is_dir() {
            if !MADE.contains(&name) {
                collect(top, &path, found)?;
            }
        } else if is_text(&path) {
            let text = fs::read_to_string(&path).with_context(|| format!("{} is no text", path.display()))?;
            let path = path.strip_prefix(top)?.to_string_lossy().replace('\\', "/");
            found.push(File { path, text });
        }
    }
    Ok(())
}

fn is_text(path: &Path) -> bool {
    let ending = path.extension().and_then(|ending| ending.to_str());
    let is_script = path.file_name().is_some_and(|name| name == "run");
    is_script || ending.is_some_and(|ending| TEXT_ENDINGS.contains(&ending))
}

/// A package of the workspace.
pub(crate) struct Package {
    /// Its folder from the top.
    pub(crate) folder: String,
    /// Its name.
    pub(crate) name: String,
    /// Its manifest.
    pub(crate) manifest: Table,
}

impl Package {
    /// The crates that the manifest names in a section, such as `dependencies`.
    pub(crate) fn names(&self, section: &str) -> Vec<String> {
        let section = self.manifest.get(section).and_then(toml::Value::as_table);
        section.map(|table| table.keys().cloned().collect()).unwrap_or_default()
    }
}

/// The workspace's own manifest.
pub(crate) fn workspace() -> Result<Table> {
    manifest(&top())
}

/// All packages, in the workspace's order.
pub(crate) fn packages() -> Result<Vec<Package>> {
    let workspace = workspace()?;
    let members = workspace.get("workspace").and_then(|it| it.get("members")).and_then(toml::Value::as_array);
    let folders = members.into_iter().flatten().filter_map(toml::Value::as_str);
    folders
        .map(|folder| {
            let manifest = manifest(&top().join(folder))?;
            let name = manifest.get("package").and_then(|it| it.get("name")).and_then(toml::Value::as_str);
            let name = name.with_context(|| format!("{folder} has no name"))?.to_owned();
            Ok(Package { folder: folder.to_owned(), name, manifest })
        })
        .collect()
}

fn manifest(folder: &Path) -> Result<Table> {
    let path = folder.join("Cargo.toml");
    let text = fs::read_to_string(&path).with_context(|| format!("{} cannot be read", path.display()))?;
    text.parse().with_context(|| format!("{} is no TOML", path.display()))
}
