//! Files that resources refer to: each becomes a record of its own in its resource's department, of any size, in
//! constant memory.
//!
//! A file is taken only from below the folder of the resource's own file, whatever links lead elsewhere: what a
//! resource says must not bring in anything else that this process can read.

use std::path::{Path, PathBuf};

use handover_ingest::attachment::{Attachment, FILE_TYPE};
use handover_records::{BATCH_MAX_RECORDS, FileFacts, LyingFile, NewContent, NewRecord, RecordsError};

use super::Filing;
use super::reading::{Aside, Pending};
use crate::error::NodeError;

impl Filing<'_> {
    /// Files what a batch's resources refer to.
    pub(super) async fn attached(&mut self, batch: &[Pending]) -> Result<(), NodeError> {
        let mut records = Vec::new();
        for pending in batch {
            for attachment in &pending.attachments {
                records.extend(self.file_record(&pending.record, attachment).await?);
                if records.len() == BATCH_MAX_RECORDS {
                    self.records(std::mem::take(&mut records)).await?;
                }
            }
        }
        if records.is_empty() { Ok(()) } else { self.records(records).await }
    }

    /// The record of a file; nothing if there is none or it cannot be read, which is told.
    async fn file_record(
        &mut self,
        of: &NewRecord,
        attachment: &Attachment,
    ) -> Result<Option<NewRecord>, NodeError> {
        let reference = format!("{}/{}", of.resource_type, of.resource_id);
        let found = self.folder.as_deref().and_then(|folder| below(folder, &attachment.name));
        let looked = match found {
            None if attachment.may_be_resource() => return Ok(None),
            None => Err("is not there, in the folder of the file that names it or below".to_owned()),
            Some(path) => {
                let look = tokio::task::spawn_blocking(move || LyingFile::look(&path)).await?;
                look.map_err(|error: RecordsError| error.to_string())
            }
        };
        let file = match looked {
            Ok(file) => file,
            Err(reason) => {
                let (label, entry) = (self.label.clone(), format!("{reference}, file {}", attachment.name));
                self.aside(&label, Aside::lost(&entry, reason)).await?;
                return Ok(None);
            }
        };
        Ok(Some(NewRecord {
            resource_type: FILE_TYPE.to_owned(),
            resource_id: attachment.id(&reference),
            content_hash: file.hash(),
            file: Some(FileFacts {
                media_type: attachment.media_type.clone(),
                name: attachment.name.clone(),
            }),
            content: NewContent::File(file),
            found_by: Vec::new(),
            ..of.clone()
        }))
    }
}

/// The file of that name below the folder, links followed.
fn below(folder: &Path, name: &str) -> Option<PathBuf> {
    let folder = folder.canonicalize().ok()?;
    let path = folder.join(name).canonicalize().ok()?;
    (path.starts_with(&folder) && path.is_file()).then_some(path)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn nothing_outside_the_folder_is_taken() {
        let world = tempfile::tempdir().unwrap();
        let folder = world.path().join("in");
        fs::create_dir_all(folder.join("deep")).unwrap();
        fs::write(world.path().join("outside"), "x").unwrap();
        fs::write(folder.join("deep/scan"), "x").unwrap();
        symlink("deep/scan", folder.join("inside")).unwrap();
        symlink("../outside", folder.join("leads-out")).unwrap();
        assert!(below(&folder, "deep/scan").is_some());
        assert!(below(&folder, "inside").is_some());
        for not in ["leads-out", "../outside", "deep", "missing"] {
            assert!(below(&folder, not).is_none(), "{not}");
        }
    }
}
