//! Where the bytes of an input are, and how they are unpacked: gzip and zstd, known by how they begin.

use std::fs::{File, Metadata};
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom};
#[cfg(unix)]
use std::os::unix::fs::{FileExt, MetadataExt};
#[cfg(windows)]
use std::os::windows::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use flate2::bufread::MultiGzDecoder;
use zstd::stream::read::Decoder as ZstdDecoder;

/// How much is read at once.
pub(super) const BUFFER: usize = 1 << 16;
/// The memory that a zstd file may ask for, as a power of two: what the zstd command allows.
const MAX_WINDOW: u32 = 27;
/// What gzip files begin with.
const GZIP: [u8; 3] = [0x1f, 0x8b, 8];
/// What zstd files begin with.
const ZSTD: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

/// Where the bytes of an input are.
#[derive(Debug, Clone)]
pub(super) enum Origin {
    /// In a file.
    File(PathBuf),
    /// In a nameless file that standard input was written to.
    Spooled(Arc<File>),
}

/// The bytes of an input, unpacked.
pub(super) type Unpacked = BufReader<Box<dyn Read + Send>>;

impl Origin {
    /// Reads standard input to its end into a file that nobody else can open and that goes away with the
    /// process: inputs are read more than once.
    pub(super) fn spool_stdin() -> std::io::Result<Self> {
        let mut file = tempfile::tempfile()?;
        std::io::copy(&mut std::io::stdin().lock(), &mut file)?;
        Ok(Self::Spooled(Arc::new(file)))
    }

    /// The file, if it has a name.
    pub(super) fn path(&self) -> Option<&Path> {
        match self {
            Self::File(path) => Some(path),
            Self::Spooled(_) => None,
        }
    }

    /// What tells the file from another.
    pub(super) fn stamp(&self) -> std::io::Result<Stamp> {
        let metadata = match self {
            Self::File(path) => std::fs::metadata(path),
            Self::Spooled(file) => file.metadata(),
        };
        metadata.map(|metadata| Stamp::of(&metadata))
    }

    /// The bytes as they are stored.
    pub(super) fn stored(&self) -> std::io::Result<Stored> {
        let file = match self {
            Self::File(path) => Arc::new(File::open(path)?),
            Self::Spooled(file) => Arc::clone(file),
        };
        Ok(Stored { file, at: 0 })
    }

    /// The bytes, unpacked if they are packed, from an offset on. One that is packed is unpacked up to there.
    pub(super) fn open_at(&self, offset: u64) -> std::io::Result<Unpacked> {
        let mut stored = self.stored()?;
        let start = stored.first_bytes()?;
        let bytes: Box<dyn Read + Send> = match Packing::of(&start) {
            None => {
                if let Some(by) = self.cut(&start) {
                    return Err(cut(by, "its first bytes are missing"));
                }
                stored.seek(SeekFrom::Start(offset))?;
                let bytes: Box<dyn Read + Send> = Box::new(stored);
                return Ok(BufReader::with_capacity(BUFFER, bytes));
            }
            Some(Packing::Gzip) => {
                Box::new(Unpacking(MultiGzDecoder::new(stored.buffered()), "gzip"))
            }
            Some(Packing::Zstd) => {
                let mut decoder = ZstdDecoder::with_buffer(stored.buffered())?;
                decoder.window_log_max(MAX_WINDOW)?;
                Box::new(Unpacking(decoder, "zstd"))
            }
        };
        let mut bytes = BufReader::with_capacity(BUFFER, bytes);
        if is_skipped(&start) && bytes.fill_buf()?.is_empty() {
            return Err(cut("zstd", "there is nothing behind what is skipped"));
        }
        std::io::copy(&mut (&mut bytes).take(offset), &mut std::io::sink())?;
        Ok(bytes)
    }

    /// By what a file was packed that starts so and ends there, within what all such files begin with.
    fn cut(&self, start: &[u8]) -> Option<&'static str> {
        let extension = self.path().and_then(Path::extension);
        let is_named = |name: &str| extension.is_some_and(|it| it.eq_ignore_ascii_case(name));
        // Less than two bytes may be anything, unless the name says what they are.
        let is_start =
            |of: &[u8], name: &str| of.starts_with(start) && (start.len() > 1 || is_named(name));
        if is_start(&GZIP, "gz") {
            return Some("gzip");
        }
        is_start(&ZSTD, "zst").then_some("zstd")
    }

    /// The first bytes, unpacked.
    pub(super) fn start(&self, most: usize) -> std::io::Result<Vec<u8>> {
        let mut start = Vec::new();
        let bytes = self.open_at(0)?;
        bytes.take(most as u64).read_to_end(&mut start)?;
        Ok(start)
    }
}

/// A file as it is stored, with a reading position of its own: the same file may be read from several places.
pub(super) struct Stored {
    file: Arc<File>,
    at: u64,
}

impl Stored {
    /// Its length.
    pub(super) fn length(&self) -> std::io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    /// The same file from another place on.
    pub(super) fn from(&self, at: u64) -> Self {
        let file = Arc::clone(&self.file);
        Self { file, at }
    }

    /// What tells the file from another, of what is really open.
    pub(super) fn stamp(&self) -> std::io::Result<Stamp> {
        self.file.metadata().map(|metadata| Stamp::of(&metadata))
    }

    fn first_bytes(&self) -> std::io::Result<Vec<u8>> {
        let mut start = Vec::new();
        self.from(0).take(4).read_to_end(&mut start)?;
        Ok(start)
    }

    fn buffered(self) -> BufReader<Self> {
        BufReader::with_capacity(BUFFER, self)
    }
}

impl Read for Stored {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        #[cfg(unix)]
        let read = self.file.read_at(buffer, self.at)?;
        #[cfg(windows)]
        let read = self.file.seek_read(buffer, self.at)?;
        self.at += read as u64;
        Ok(read)
    }
}

impl Seek for Stored {
    fn seek(&mut self, to: SeekFrom) -> std::io::Result<u64> {
        let at = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
            SeekFrom::End(by) => self.length()?.checked_add_signed(by),
        };
        self.at = at.ok_or(std::io::ErrorKind::InvalidInput)?;
        Ok(self.at)
    }
}

/// Bytes that are unpacked, and by what. An error says so: it is hardly ever the disk's.
struct Unpacking<R>(R, &'static str);

impl<R: Read> Read for Unpacking<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let read = self.0.read(buffer);
        read.map_err(|error| cut(self.1, &error.to_string()))
    }
}

/// How a file is packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Packing {
    Gzip,
    Zstd,
}

impl Packing {
    /// By the first bytes; the name may say what it likes.
    fn of(start: &[u8]) -> Option<Self> {
        match start {
            start if start.starts_with(&GZIP) => Some(Self::Gzip),
            start if start.starts_with(&ZSTD) || is_skipped(start) => Some(Self::Zstd),
            _ => None,
        }
    }
}

/// Whether these are the first bytes of a zstd frame that a reader is to skip, with which some files begin.
fn is_skipped(start: &[u8]) -> bool {
    matches!(start, [0x50..=0x5f, 0x2a, 0x4d, 0x18])
}

/// The error of a packed file that is not whole.
fn cut(by: &str, why: &str) -> std::io::Error {
    std::io::Error::other(format!("what {by} packed is cut or damaged ({why})"))
}

/// What tells that a file is still the same. Not when its inode changed last: a link made or removed
/// elsewhere changes that too.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stamp {
    length: u64,
    modified: Option<SystemTime>,
    /// Its device and inode: another file may have the name, with the same length and time.
    #[cfg(unix)]
    file: (u64, u64),
}

impl Stamp {
    /// What a file is like now.
    fn of(metadata: &Metadata) -> Self {
        Self {
            length: metadata.len(),
            modified: metadata.modified().ok(),
            #[cfg(unix)]
            file: (metadata.dev(), metadata.ino()),
        }
    }
}

/// Skips these bytes, if it begins with them.
pub(super) fn skip_mark(bytes: &mut impl BufRead, mark: &[u8]) -> std::io::Result<()> {
    if bytes.fill_buf()?.starts_with(mark) {
        bytes.consume(mark.len());
    }
    Ok(())
}
