//! Opening, checking and reading files.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::{env, process};

use bytepool::{Pool, PooledBuffer};

use crate::error::Error;

/// A file to read, with its path for messages.
pub(crate) struct Source<'p> {
    file: File,
    path: &'p Path,
}

impl<'p> Source<'p> {
    pub(crate) fn open(path: &'p Path) -> Result<Self, Error> {
        let file = File::open(path).map_err(|source| Error::Read { path: path.into(), source })?;
        Ok(Self { file, path })
    }

    /// The next bytes of the file in a buffer of their length: `size` of them, or what is left, or none at the end.
    pub(crate) fn read_chunk(&mut self, pool: &Pool, size: usize) -> Result<PooledBuffer, Error> {
        let mut buffer = pool.get(size)?;
        let mut filled = 0;
        while filled < size {
            match self.file.read(&mut buffer[filled..]) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(source) => return Err(Error::Read { path: self.path.into(), source }),
            }
        }
        buffer.resize(filled).expect("fewer bytes than the buffer has");
        Ok(buffer)
    }
}

/// The size in bytes of a file that can be read twice. Anything else is refused before it is opened: a pipe would block.
pub(crate) fn size_of_regular_file(path: &Path) -> Result<u64, Error> {
    let metadata = fs::metadata(path).map_err(|source| Error::Read { path: path.into(), source })?;
    if metadata.is_file() { Ok(metadata.len()) } else { Err(Error::NotAFile(path.into())) }
}

/// Refuses an output that is the input under whatever name: writing would destroy it.
pub(crate) fn refuse_same_file(input: &Path, output: &Path) -> Result<(), Error> {
    if is_same_file(input, output).unwrap_or(false) { Err(Error::SameFile(input.into())) } else { Ok(()) }
}

/// An error means that one does not exist.
#[cfg(unix)]
fn is_same_file(a: &Path, b: &Path) -> io::Result<bool> {
    use std::os::unix::fs::MetadataExt;
    let (a, b) = (fs::metadata(a)?, fs::metadata(b)?);
    Ok((a.dev(), a.ino()) == (b.dev(), b.ino()))
}

#[cfg(not(unix))]
fn is_same_file(a: &Path, b: &Path) -> io::Result<bool> {
    Ok(fs::canonicalize(a)? == fs::canonicalize(b)?)
}

/// Where the output goes.
pub(crate) enum Output {
    /// Where the user wants it.
    Named(PathBuf),
    /// Removed when this value is dropped.
    Temporary(PathBuf),
}

impl Output {
    /// Makes an empty file in the system's folder for temporary ones.
    pub(crate) fn temporary() -> Result<Self, Error> {
        // Relaxed: only the number itself counts.
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let name = format!("relay-{}-{}.tmp", process::id(), NUMBER.fetch_add(1, Relaxed));
        let path = env::temp_dir().join(name);
        match File::create_new(&path) {
            Ok(_) => Ok(Self::Temporary(path)),
            Err(source) => Err(Error::Temporary { path, source }),
        }
    }

    pub(crate) fn path(&self) -> &Path {
        match self {
            Self::Named(path) | Self::Temporary(path) => path,
        }
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        if let Self::Temporary(path) = self {
            // Nothing is lost if it stays.
            let _ = fs::remove_file(path);
        }
    }
}
