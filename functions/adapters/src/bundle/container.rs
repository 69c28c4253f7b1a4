//! How a bundle is packed: a ZIP file without compression, whose bytes follow from its entries, so that none of them can be
//! changed unseen, not even those that every other reader ignores.

use sha2::{Digest, Sha256};
use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::path::Path;
use stele::bundle::{ENTRIES, EVENTS, SUMS};
use stele::tlog::hash::Hash;
use stele::{Code, Error, Result};
use zip::write::{SimpleFileOptions, StreamWriter};
use zip::{CompressionMethod, DateTime, ZipArchive, ZipWriter};

/// Bytes of any entry but the events, at the most.
const SMALL_BYTES_MAX: u64 = 4 << 20;

fn options(name: &str) -> SimpleFileOptions {
    SimpleFileOptions::default()
        .compression_method(CompressionMethod::Stored)
        .last_modified_time(DateTime::default())
        .unix_permissions(0o644)
        .large_file(name == EVENTS)
}

/// Packs entries in their order. All but the events are small; `SHA256SUMS` is made here.
pub(super) struct Packer<W: Write> {
    zip: ZipWriter<StreamWriter<W>>,
    sums: String,
}

impl<W: Write> Packer<W> {
    /// Into a file.
    pub(super) fn new(out: W) -> Packer<W> {
        Packer { zip: ZipWriter::new_stream(out), sums: String::new() }
    }

    /// Adds an entry.
    pub(super) fn add(&mut self, name: &str, mut content: impl Read) -> Result<()> {
        self.zip.start_file(name, options(name)).map_err(failed)?;
        let mut hashed = Hashed { inner: &mut self.zip, sha256: Sha256::new() };
        io::copy(&mut content, &mut hashed).map_err(failed)?;
        let sha256 = Hash::from_bytes(hashed.sha256.finalize().into());
        self.sums.push_str(&format!("{sha256}  {name}\n"));
        Ok(())
    }

    /// Ends the file whatever becomes of it: dropped half written, the packer would complain on stderr.
    fn give_up(self) {
        drop(self.finish());
    }

    /// Adds the hashes of all entries and ends the file.
    pub(super) fn finish(mut self) -> Result<W> {
        self.zip.start_file(SUMS, options(SUMS)).map_err(failed)?;
        self.zip.write_all(self.sums.as_bytes()).map_err(failed)?;
        Ok(self.zip.finish().map_err(failed)?.into_inner())
    }
}

struct Hashed<'a, W> {
    inner: &'a mut W,
    sha256: Sha256,
}

impl<W: Write> Write for Hashed<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.sha256.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// An open bundle.
pub struct Unpacked {
    zip: ZipArchive<File>,
}

impl Unpacked {
    /// Opens a bundle and sees to it that every byte of it is what packing its entries gives, hashes included.
    ///
    /// # Errors
    /// `corrupt` for a file that is no bundle, `internal` if it can't be read.
    pub fn open(path: &Path) -> Result<Unpacked> {
        let open = || {
            File::open(path)
                .map_err(|e| Error::new(Code::Internal, format!("read `{}`", path.display())).with_source(e))
        };
        let at = path.display();
        let no_zip = |e: zip::result::ZipError| Error::corrupt(&at, "a ZIP file", e);
        let mut zip = ZipArchive::new(open()?).map_err(no_zip)?;
        let names: Vec<String> = zip
            .file_names()
            .map(|name| name.map(std::borrow::Cow::into_owned))
            .collect::<std::result::Result<_, _>>()
            .map_err(no_zip)?;
        if names.iter().map(String::as_str).ne(ENTRIES) {
            return Err(Error::corrupt(&at, format!("the entries {}", ENTRIES.join(", ")), names.join(", ")));
        }
        // Packed again, the entries give the same bytes.
        let mut packer = Packer::new(Comparing { other: open()?, buffer: Vec::new(), has_differed: false });
        let again = (|| -> std::result::Result<Vec<u8>, Error> {
            for name in &ENTRIES[..ENTRIES.len() - 1] {
                let entry = zip.by_name(name).map_err(no_zip)?;
                packer.add(name, entry)?;
            }
            let mut sums = Vec::new();
            zip.by_name(SUMS)
                .map_err(no_zip)?
                .take(SMALL_BYTES_MAX)
                .read_to_end(&mut sums)
                .map_err(failed)?;
            Ok(sums)
        })();
        let differs = |e: Error| Error::corrupt(&at, "the one way these entries are packed", e);
        let sums = match again {
            Ok(sums) => sums,
            Err(error) => {
                packer.give_up();
                return Err(differs(error));
            }
        };
        if sums != packer.sums.as_bytes() {
            packer.give_up();
            return Err(Error::corrupt(format!("{at}: {SUMS}"), "the SHA-256 of every entry", "others"));
        }
        let mut rest = packer.finish().map_err(differs)?;
        let mut more = [0];
        match rest.other.read(&mut more) {
            Ok(0) => Ok(Unpacked { zip }),
            _ => Err(Error::corrupt(&at, "the end", "more bytes")),
        }
    }

    /// A small entry, whole.
    pub fn entry(&mut self, name: &str) -> Result<Vec<u8>> {
        let entry = self.zip.by_name(name).map_err(|e| Error::corrupt(name, "an entry of a bundle", e))?;
        if entry.size() > SMALL_BYTES_MAX {
            return Err(Error::corrupt(name, format!("at most {SMALL_BYTES_MAX} bytes"), entry.size()));
        }
        let mut bytes = Vec::new();
        entry.take(SMALL_BYTES_MAX).read_to_end(&mut bytes).map_err(failed)?;
        Ok(bytes)
    }

    /// Where the events lie in the file, and how long they are: they are not compressed.
    pub fn events(&mut self, path: &Path) -> Result<Section> {
        let entry =
            self.zip.by_name(EVENTS).map_err(|e| Error::corrupt(EVENTS, "an entry of a bundle", e))?;
        let start = entry
            .data_start()
            .ok_or_else(|| Error::corrupt(EVENTS, "an entry that lies in the file", "another"))?;
        let file = File::open(path)
            .map_err(|e| Error::new(Code::Internal, format!("read `{}`", path.display())).with_source(e))?;
        Ok(Section { file, start, bytes: entry.size() })
    }
}

/// A part of a file.
pub struct Section {
    file: File,
    start: u64,
    bytes: u64,
}

impl parquet::file::reader::Length for Section {
    fn len(&self) -> u64 {
        self.bytes
    }
}

impl parquet::file::reader::ChunkReader for Section {
    type T = io::Take<File>;

    fn get_read(&self, start: u64) -> parquet::errors::Result<Self::T> {
        let mut file = self.file.try_clone()?;
        file.seek(io::SeekFrom::Start(self.start + start))?;
        Ok(file.take(self.bytes.saturating_sub(start)))
    }

    fn get_bytes(&self, start: u64, length: usize) -> parquet::errors::Result<bytes::Bytes> {
        let mut bytes = Vec::new();
        self.get_read(start)?.take(length as u64).read_to_end(&mut bytes)?;
        match bytes.len() == length {
            true => Ok(bytes.into()),
            false => Err(parquet::errors::ParquetError::EOF("the file ends before the chunk".to_owned())),
        }
    }
}

/// Takes what is written only if the other file goes on with the same bytes.
struct Comparing {
    other: File,
    buffer: Vec<u8>,
    /// Told once: what the packer still writes while it is given up goes nowhere.
    has_differed: bool,
}

impl Write for Comparing {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.has_differed {
            return Ok(bytes.len());
        }
        self.buffer.resize(bytes.len(), 0);
        let read = self.other.read_exact(&mut self.buffer);
        self.has_differed = read.is_err() || self.buffer != bytes;
        match self.has_differed {
            false => Ok(bytes.len()),
            true => Err(read.err().unwrap_or_else(|| io::Error::other("other bytes"))),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn failed(e: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::new(Code::Internal, "packing a bundle").with_source(e)
}
