//! Several processes of one party over one database: one serves, the others stand by. They are killed, frozen, and lose
//! their database under patients' moves; each move ends filed, exactly once, with one fee.

mod index;
mod node;

use anyhow::Result;
use handover_cluster::Cluster;

use handover_tests::moves;

/// A configuration's part about a store in a database.
fn on(url_file: &std::path::Path, schema: &str) -> String {
    format!("\n[store]\nengine = \"postgres\"\nurl_file = {url_file:?}\nschema = \"{schema}\"\n")
}

/// The file with the URL of a primary and its standby.
fn url_file(primary: &Cluster, standby: Option<&Cluster>) -> Result<std::path::PathBuf> {
    let hosts = std::iter::once(primary).chain(standby).map(|it| format!("127.0.0.1:{}", it.port()));
    primary.file("url", &primary.url_at(&hosts.collect::<Vec<_>>().join(",")))
}
