//! Exports that are rows: the leaves that match, one after the other. Memory holds a part of the log at a time.

use crate::file::{Spool, Writer, too_large};
use crate::{Stop, Work};
use stele::bundle::BundleRequest;
use stele::error::Kind;
use stele::export::{Export, ExportedFile};
use stele::limits;
use stele::ports::Spooled;
use stele::query::Filter;
use stele::record::Record;
use stele::time::Timestamp;
use stele::tlog::hash::{LeafIndex, TreeSize};
use stele::wire::Integrity;
use stele_adapters::retry::ATTEMPTS_MAX;
use stele_adapters::sealed::{Part, SealedLeaves};

impl Work<'_> {
    pub(crate) async fn rows(&mut self, spool: &Spool) -> std::result::Result<(ExportedFile, Spooled), Stop> {
        let (first, end) = (self.export.first, self.export.end);
        let filter = filter(&self.export)?;
        let sealed = SealedLeaves {
            heads: self.exporter.heads.clone(),
            archive: self.exporter.archive.clone(),
            objects: self.exporter.objects.clone(),
        };
        let mut writer = Writer::create(spool.path(), self.export.selection.format)?;
        let mut expired = 0;
        // A range of times without any time in it admits no id.
        if let Some(ids) = filter.range() {
            let mut reading = sealed.read(self.tenant, first..end, ids, self.exporter.clock.now());
            let mut attempt = 1;
            loop {
                let part = match reading.next().await {
                    Err(error) if error.kind() == Kind::Unavailable && attempt < ATTEMPTS_MAX => {
                        attempt += 1;
                        continue;
                    }
                    part => part?,
                };
                attempt = 1;
                match part {
                    None => break,
                    Some(Part::Passed(_)) => {}
                    Some(Part::Expired(leaves)) => expired += leaves,
                    Some(Part::Leaves(from, leaves)) => {
                        for (leaf, index) in leaves.into_iter().zip(from.to_u64()..) {
                            let record = Record::from_leaf(leaf)?;
                            let integrity = self.integrity(index);
                            if filter.judge(&record, Some(integrity.into()))? == Some(true) {
                                writer.push(LeafIndex::new(index), record, integrity)?;
                            }
                        }
                    }
                }
                if writer.bytes() > limits::EXPORT_FILE_BYTES_MAX {
                    return Err(Stop::Error(too_large("the file would be more than 5 GiB")));
                }
                self.say(reading.at() - first, false).await?;
            }
        }
        let events = writer.events;
        let spooled = writer.finish()?;
        if spooled.bytes > limits::EXPORT_FILE_BYTES_MAX {
            return Err(Stop::Error(too_large("the file would be more than 5 GiB")));
        }
        let sha256 = spooled.sha256.to_string();
        Ok((ExportedFile { bytes: spooled.bytes, sha256, events, first, end, expired }, spooled))
    }

    /// As it was when the export was asked for: the same leaves give the same lines.
    fn integrity(&self, index: u64) -> Integrity {
        let (leaf_index, tree_size) = (LeafIndex::new(index), TreeSize::new(self.export.end));
        match index < self.export.archived {
            true => Integrity::Archived { leaf_index, tree_size },
            false => Integrity::Sealed { leaf_index, tree_size },
        }
    }
}

/// The filter as it was when the export was asked for: times it counts from now count from then.
fn filter(export: &Export) -> stele::Result<Filter> {
    let filter = export.selection.filter.clone();
    BundleRequest { filter, ..BundleRequest::default() }.filter(Timestamp::from_ms(export.created_ms))
}
