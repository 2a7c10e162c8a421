//! A file through io_uring's fixed buffers: the memory of a pinned pool is registered once, and every buffer lies in it.
//!
//! ```text
//! pinned_regions -> register_buffers: region 0, 1, ...
//! get -> its region's number -> ReadFixed -> completion -> every byte is checked -> put
//! ```
//!
//! Pinned slots stay where they are until the pool closes, so no registration is ever undone behind the kernel's back.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Write};
use std::os::fd::AsRawFd;
use std::path::Path;

use bytepool::{PinnedRegion, Pool, PooledBuffer, Stats};
use io_uring::{IoUring, opcode, types};

/// A buffer's size in bytes.
pub const BUFFER: usize = 64 << 10;
/// As many reads are under way at once.
pub const DEPTH: usize = 8;

/// What was done.
#[derive(Debug)]
pub enum Outcome {
    /// Every byte was read and was right: how many, and the pool's figures.
    Read {
        /// Bytes of the file.
        bytes: usize,
        /// The pool's figures at the end.
        stats: Box<Stats>,
    },
    /// The kernel has no io_uring, or forbids it: its words.
    Forbidden(io::Error),
}

/// Writes a file of so many bytes to a folder, reads it by io_uring, and checks every byte.
///
/// # Errors
/// The file or a read failed, or a byte is wrong.
pub fn run(folder: &Path, bytes: usize) -> io::Result<Outcome> {
    let ring = match IoUring::new(DEPTH as u32) {
        Ok(ring) => ring,
        Err(error) if is_forbidden(&error) => return Ok(Outcome::Forbidden(error)),
        Err(error) => return Err(error),
    };
    let pool = Pool::builder().size_class(BUFFER, DEPTH).alignment(4096).pinned(true);
    let pool = pool.build().map_err(io::Error::other)?;
    let regions: Vec<PinnedRegion> = pool.pinned_regions().collect();
    let vectors: Vec<libc::iovec> = regions
        .iter()
        .map(|region| libc::iovec { iov_base: region.start.as_ptr().cast(), iov_len: region.len })
        .collect();
    // SAFETY:
    // - the pool, which outlives the ring's use, keeps this memory where it is
    unsafe { ring.submitter().register_buffers(&vectors)? };
    let file = file_of(folder, bytes)?;
    Reads { ring, file, regions, under_way: [const { None }; DEPTH] }.read_all(&pool, bytes)?;
    Ok(Outcome::Read { bytes, stats: Box::new(pool.stats()) })
}

fn is_forbidden(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOSYS | libc::EPERM | libc::EACCES))
}

/// The byte at an offset of the file.
fn expected(offset: usize) -> u8 {
    (offset ^ offset >> 8 ^ offset >> 16) as u8
}

/// A file without a name, open to be read.
fn file_of(folder: &Path, bytes: usize) -> io::Result<File> {
    let path = folder.join(format!("bytepool-uring-{}", std::process::id()));
    let content: Vec<u8> = (0..bytes).map(expected).collect();
    let mut file = File::options().read(true).write(true).create_new(true).open(&path)?;
    fs::remove_file(&path)?;
    file.write_all(&content)?;
    Ok(file)
}

/// A read that the kernel has.
struct Read {
    buffer: PooledBuffer,
    offset: usize,
}

struct Reads {
    ring: IoUring,
    file: File,
    regions: Vec<PinnedRegion>,
    /// By the number that the kernel knows each read by.
    under_way: [Option<Read>; DEPTH],
}

impl Reads {
    fn read_all(&mut self, pool: &Pool, bytes: usize) -> io::Result<()> {
        let mut offsets = (0..bytes).step_by(BUFFER);
        for number in 0..DEPTH {
            self.start_next(pool, number, &mut offsets, bytes)?;
        }
        while self.under_way.iter().any(Option::is_some) {
            let (number, outcome) = self.wait()?;
            let Some(Read { buffer, offset }) = self.under_way[number].take() else {
                return Err(io::Error::other("a read ended twice"));
            };
            if outcome? != buffer.len() {
                return Err(ErrorKind::UnexpectedEof.into());
            }
            if let Some(wrong) = buffer.iter().zip(offset..).position(|(&byte, at)| byte != expected(at)) {
                return Err(io::Error::other(format!("the byte at {} is wrong", offset + wrong)));
            }
            drop(buffer);
            self.start_next(pool, number, &mut offsets, bytes)?;
        }
        Ok(())
    }

    /// Starts the next read, if there is one left, under this number.
    fn start_next(
        &mut self,
        pool: &Pool,
        number: usize,
        offsets: &mut impl Iterator<Item = usize>,
        bytes: usize,
    ) -> io::Result<()> {
        let Some(offset) = offsets.next() else { return Ok(()) };
        let mut buffer = pool.get(BUFFER.min(bytes - offset))?;
        // So that bytes of an earlier read are not taken for those of this one.
        buffer.fill(!expected(offset));
        let address = buffer.as_ptr().addr();
        let region = self
            .regions
            .iter()
            .position(|region| address.wrapping_sub(region.start.addr().get()) < region.len)
            .ok_or_else(|| io::Error::other("a buffer of a pinned pool lies in no region of it"))?;
        let fd = types::Fd(self.file.as_raw_fd());
        let read = opcode::ReadFixed::new(fd, buffer.as_mut_ptr(), buffer.len() as u32, region as u16);
        let read = read.offset(offset as u64).build().user_data(number as u64);
        self.under_way[number] = Some(Read { buffer, offset });
        // SAFETY:
        // - the file and the buffer stay until the read has ended: in `under_way`, and see `drop`
        unsafe { self.ring.submission().push(&read) }.map_err(io::Error::other)
    }

    /// A read that ended: its number, and how many bytes it read.
    fn wait(&mut self) -> io::Result<(usize, io::Result<usize>)> {
        self.ring.submit_and_wait(1)?;
        let ended = self.ring.completion().next().ok_or(ErrorKind::WouldBlock)?;
        let outcome =
            usize::try_from(ended.result()).map_err(|_| io::Error::from_raw_os_error(-ended.result()));
        Ok((ended.user_data() as usize, outcome))
    }
}

/// After an error the kernel may still write to the buffers that are under way.
impl Drop for Reads {
    fn drop(&mut self) {
        while self.under_way.iter().any(Option::is_some) {
            match self.wait() {
                Ok((number, _)) => self.under_way[number] = None,
                // Lost for good, as nobody knows when the kernel is through with them.
                Err(_) => return self.under_way.iter_mut().for_each(|read| std::mem::forget(read.take())),
            }
        }
    }
}
