//! The second try at what was kept aside: by a version that reads more, mostly.
//!
//! What is read whole is filed and let go of; everything else stays as it is.

use std::ops::ControlFlow;

use handover_ingest::source::{Item, Kind, MAX_RESOURCE_BYTES, read};
use handover_records::{Action, BATCH_MAX_RECORDS, PAGE_MAX, Purpose, Quarantined};

use super::Filing;
use super::reading::{Pending, Sketch, pending};
use crate::error::NodeError;

/// What makes a Bundle of an entry that was kept as it stood in one.
const BUNDLE_BEGINS: &[u8] = br#"{"resourceType":"Bundle","entry":["#;
const BUNDLE_ENDS: &[u8] = b"]}";
/// The most bytes of one thing that is tried again; one broken file's rest can be as long.
const TRY_MAX_BYTES: u64 = MAX_RESOURCE_BYTES as u64;

pub(super) async fn run(filing: &mut Filing<'_>) -> Result<(), NodeError> {
    let node = filing.node;
    let permit = node.permit(filing.staff, Action::Quarantine, Purpose::Import, None).await?;
    let mut after = None;
    loop {
        let page = node.records.quarantined(&permit, node.now(), after, PAGE_MAX).await?;
        for one in &page {
            if node.stopping.is_cancelled() {
                return Err(NodeError::Stopping);
            }
            let content = node.records.quarantined_content(&permit, node.now(), one.id).await?;
            let bytes = content.bytes(TRY_MAX_BYTES).await?;
            let mapping = std::sync::Arc::clone(&node.mapping);
            let read = tokio::task::spawn_blocking(move || again(&bytes, &mapping)).await?;
            match read {
                None => still_aside(filing, one).await,
                Some(mut resources) => {
                    while !resources.is_empty() {
                        let rest = resources.split_off(resources.len().min(BATCH_MAX_RECORDS));
                        filing.batch(std::mem::replace(&mut resources, rest)).await?;
                    }
                    node.records.release(&permit, node.now(), one.id).await?;
                }
            }
        }
        after = page.last().map(|last| last.id);
        if page.len() < PAGE_MAX {
            return Ok(());
        }
    }
}

async fn still_aside(filing: &mut Filing<'_>, one: &Quarantined) {
    filing.imported.kept_aside += 1;
    let Quarantined { file, entry, reason, .. } = one.clone();
    let event = crate::operations::Event::KeptAside { file, entry, reason, kept: true };
    filing.events.tell(event).await;
}

/// The resources, if all of it can be read: as it stands, or as an entry of a Bundle.
fn again(bytes: &[u8], mapping: &handover_ingest::department::Mapping) -> Option<Vec<Pending>> {
    let as_entry = [BUNDLE_BEGINS, bytes, BUNDLE_ENDS].concat();
    whole(bytes, mapping).or_else(|| whole(&as_entry, mapping))
}

fn whole(bytes: &[u8], mapping: &handover_ingest::department::Mapping) -> Option<Vec<Pending>> {
    let mut sketch = Sketch::default();
    read(bytes, Kind::Json, |item| {
        sketch.see(&item, mapping);
        ControlFlow::Continue(())
    })
    .ok()?;
    sketch.rewind();
    let mut found = Vec::new();
    let mut is_whole = true;
    read(bytes, Kind::Json, |item| {
        match item {
            Item::Resource { place, json, .. } => match pending(&mut sketch, place, json, mapping) {
                Ok(resource) => found.push(resource),
                Err(_) => is_whole = false,
            },
            Item::Unreadable { .. } => is_whole = false,
        }
        if is_whole { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    })
    .ok()?;
    (is_whole && !found.is_empty()).then_some(found)
}

#[cfg(test)]
mod tests {
    use handover_ingest::department::Mapping;

    use super::*;

    #[test]
    fn resources_and_entries_are_read_whole_or_not_at_all() {
        let mapping = Mapping::shipped().unwrap();
        let patient = r#"{"resourceType":"Patient","id":"a"}"#;
        let entry = format!(r#"{{"fullUrl":"urn:uuid:a","resource":{patient}}}"#);
        let half =
            r#"{"resourceType":"Bundle","entry":[{"resource":{"resourceType":"Patient","id":"a"}},{}]}"#;
        for (text, count) in
            [(patient, Some(1)), (&entry, Some(1)), (half, None), ("<xml/>", None), ("", None)]
        {
            assert_eq!(again(text.as_bytes(), &mapping).map(|found| found.len()), count, "{text}");
        }
    }
}
