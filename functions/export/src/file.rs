//! The file of an export under way: in its format, counted and hashed as it is written.

use sha2::{Digest, Sha256};
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use stele::error::{Code, Error, Result};
use stele::export::Format;
use stele::ocsf::write_ocsf;
use stele::ports::Spooled;
use stele::query::{csv_header, csv_row};
use stele::record::Record;
use stele::tlog::hash::{Hash, LeafIndex};
use stele::wire::{Integrity, write_event};
use stele_adapters::parquet::rows::RowsWriter;

/// A place for a file, which is empty again afterwards.
pub(crate) struct Spool(PathBuf);

impl Spool {
    pub(crate) fn new(path: PathBuf) -> Spool {
        Spool(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Spool {
    fn drop(&mut self) {
        // What stays goes with the spool itself: it may never have come to be, and a bundle has parts of its own.
        let _ = fs::remove_file(&self.0);
        for part in ["events", "part"] {
            let mut name = self.0.as_os_str().to_owned();
            name.push(format!(".{part}"));
            let _ = fs::remove_file(name);
        }
    }
}

/// Bytes on their way to a file.
struct Hashed {
    file: File,
    sha256: Sha256,
    bytes: Arc<AtomicU64>,
}

impl Write for Hashed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.sha256.update(&bytes[..written]);
        self.bytes.fetch_add(written as u64, Ordering::Relaxed);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

enum Rows {
    Text { format: Format, out: BufWriter<Hashed>, line: Vec<u8> },
    Parquet(Box<RowsWriter<Hashed>>),
}

/// A file under way.
pub(crate) struct Writer {
    path: PathBuf,
    rows: Rows,
    bytes: Arc<AtomicU64>,
    /// Records in it.
    pub(crate) events: u64,
}

impl Writer {
    /// Begins a file.
    pub(crate) fn create(path: &Path, format: Format) -> Result<Writer> {
        let file = File::create(path).map_err(failed)?;
        let bytes = Arc::new(AtomicU64::new(0));
        let hashed = Hashed { file, sha256: Sha256::new(), bytes: bytes.clone() };
        let rows = match format {
            Format::Parquet => Rows::Parquet(Box::new(RowsWriter::new(hashed)?)),
            Format::Csv | Format::JsonLines | Format::Ocsf | Format::Evidence => {
                let mut line = Vec::new();
                if format == Format::Csv {
                    csv_header(&mut line);
                }
                let mut out = BufWriter::new(hashed);
                out.write_all(&line).map_err(failed)?;
                Rows::Text { format, out, line }
            }
        };
        Ok(Writer { path: path.to_owned(), rows, bytes, events: 0 })
    }

    /// Appends a record.
    pub(crate) fn push(&mut self, index: LeafIndex, record: Record, integrity: Integrity) -> Result<()> {
        self.events += 1;
        match &mut self.rows {
            Rows::Parquet(rows) => rows.push(index, record),
            Rows::Text { format, out, line } => {
                line.clear();
                match format {
                    Format::Csv => csv_row(&record, integrity, line)?,
                    Format::Ocsf => write_ocsf(&record, integrity, line)?,
                    Format::JsonLines | Format::Parquet | Format::Evidence => {
                        write_event(&record, integrity, line)?;
                    }
                }
                if *format != Format::Csv {
                    line.push(b'\n');
                }
                out.write_all(line).map_err(failed)
            }
        }
    }

    /// Bytes so far, but for what is still held.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Ends the file.
    pub(crate) fn finish(self) -> Result<Spooled> {
        let hashed = match self.rows {
            Rows::Parquet(rows) => rows.finish()?,
            Rows::Text { out, .. } => out.into_inner().map_err(|e| failed(e.into_error()))?,
        };
        let sha256 = Hash::from_bytes(hashed.sha256.finalize().into());
        Ok(Spooled { path: self.path, bytes: self.bytes.load(Ordering::Relaxed), sha256 })
    }
}

fn failed(e: io::Error) -> Error {
    match e.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::FileTooLarge => too_large("no room is left for the file"),
        _ => Error::new(Code::Internal, "writing an export").with_source(e),
    }
}

/// The failure of an export whose file is too large, with the way out.
pub(crate) fn too_large(why: &str) -> Error {
    let detail = format!("{why}: narrow it down by `from` and `to`, or choose `parquet`, which is smaller");
    Error::new(Code::ExportTooLarge, detail)
}
