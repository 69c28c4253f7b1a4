//! Files of the archive as others read them: DuckDB, DataFusion, pyarrow, and in the long run parquet-java. Each must see
//! the rows we wrote, whatever it filters by.

use crate::aws::{passes, python};
use crate::{process, shared_data};
use std::fs;
use std::path::Path;
use std::process::Command;
use stele::access::LogNumber;
use stele::event::{Draft, Terms};
use stele::id::TenantId;
use stele::record::Record;
use stele::segment::SegmentHeader;
use stele::time::Timestamp;
use stele::tlog::checkpoint::Origin;
use stele::tlog::tree::RightEdge;
use stele_adapters::parquet::archive::ArchiveWriter;
use stele_adapters::parquet::encode_segment;

/// Enough for a block and a part of one.
const GENERATED: &str = "40000";
const SEGMENT_LEAVES: usize = 5_000;

/// Seals events as one tenant's and writes the segments as a file of the archive.
fn archive(path: &Path, events: &str) {
    write_archive(path, &accepted(events));
}

/// The records of events, one per line, as one tenant's.
pub(crate) fn accepted(events: &str) -> Vec<Record> {
    let tenant = TenantId::parse("org_acme").unwrap();
    events
        .lines()
        .zip(0_u64..)
        .map(|(line, n)| {
            let mut event: serde_json::Value = serde_json::from_str(line).unwrap();
            let members = event.as_object_mut().unwrap();
            for name in ["organization_id", "tenant_id"] {
                members.remove(name);
            }
            let body = event.to_string();
            let draft = Draft::parse(body.as_bytes()).unwrap();
            let terms = Terms {
                tenant: &tenant,
                key_id: "k7f3a9c2",
                now: draft.occurred_at().unwrap().plus_ms(n % 500),
                id_secret: &[7; 32],
                random: u128::from(n),
                oldest: None,
            };
            draft.accept(&terms).unwrap().record
        })
        .collect()
}

/// Seals records, the tenant `org_acme`'s, and writes the segments as a file of the archive.
pub(crate) fn write_archive(path: &Path, records: &[Record]) {
    let tenant = TenantId::parse("org_acme").unwrap();
    let origin = Origin::parse("log.example/7c2e").unwrap();
    let mut writer =
        ArchiveWriter::create(path, &origin, LogNumber(0), RightEdge::empty(), Timestamp::default()).unwrap();
    let (mut edge, mut received_max) = (RightEdge::empty(), Timestamp::default());
    for records in records.chunks(SEGMENT_LEAVES) {
        let before = edge.clone();
        edge.extend(records.iter().map(|record| record.leaf_hash));
        received_max = records.iter().map(|record| record.received_at).fold(received_max, Timestamp::max);
        let header = SegmentHeader {
            origin: origin.clone(),
            log: LogNumber(0),
            before,
            after: edge.clone(),
            sealed_at: received_max.plus_ms(1_500),
            received_max,
            checkpoint_before: String::new(),
        };
        writer.append(&tenant, "segment", encode_segment(&header, records).unwrap()).unwrap();
    }
    writer.finish().unwrap();
}

#[test]
fn every_reader_sees_the_rows_of_the_archive() {
    let folder = tempfile::tempdir().unwrap();
    let generated = folder.path().join("generated.parquet");
    let generate = ["generate", "--events", GENERATED, "--tenants", "1", "--ids", "--until", "2026-05-02"];
    let output = Command::new(process::program()).args(generate).output().unwrap();
    assert!(output.status.success());
    archive(&generated, &String::from_utf8(output.stdout).unwrap());
    let mut command = Command::new(python("readers"));
    command.arg("tests/archive/readers.py").arg(&generated);
    match shared_data() {
        Some(shared) => {
            let real = folder.path().join("real.parquet");
            archive(&real, &fs::read_to_string(shared.join("saas-events.ndjson")).unwrap());
            command.arg(&real);
        }
        None => println!("real events are not read: ../shared/data is absent"),
    }
    if std::env::var_os("STELE_LONG").is_some() {
        command.arg("--java");
    }
    passes(&mut command);
}
