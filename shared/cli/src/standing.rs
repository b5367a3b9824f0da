//! How a process says that it stands by, as it says that it is ready: a line on stdout.

use std::io::Write as _;

use serde_json::json;

/// Says on stdout that another process has the store, or that the database does not answer, and on stderr, too. What
/// it said, for who asks.
pub fn tell_standing(role: &str, store: &str, serving: Option<&str>) -> String {
    let line = json!({
        "schema": "handover/standing-by/1", "standing_by": true, "role": role, "store": store, "serving": serving,
    });
    let mut stdout = std::io::stdout().lock();
    if let Err(error) = writeln!(stdout, "{line}").and_then(|()| stdout.flush()) {
        tracing::warn!(%error, "the line that this process stands by could not be written");
    }
    let said = match serving {
        Some(serving) => {
            format!(
                "{serving} serves the store in {store}; this one stands by, and takes over when that ends or hangs"
            )
        }
        None => format!("this process stands by; the store in {store} cannot be reached at the moment"),
    };
    tracing::info!("{said}");
    said
}
