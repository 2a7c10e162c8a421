//! Tracking: where each outstanding buffer was got, by which thread, and when.
//!
//! A pool that tracks has no thread caches, so every get and put comes by here. A record is made before the buffer is
//! handed out, and removed before another thread can get the buffer. With sampling only one get in so many leaves a
//! record.
//!
//! A lock is held for one look-up, or for the copying of a list, and never while the user's code runs. Where there is
//! no memory for a record, the buffer is not tracked.

use std::collections::TryReserveError;
use std::ffi::CStr;
use std::fmt;
use std::panic::Location;
use std::ptr::NonNull;
use std::time::{Duration, Instant};

use super::Sampler;
use crate::os::address_map::AddressMap;
use crate::os::fork::ForkGuard;
use crate::os::lock::{Lock, Locked};
use crate::os::stderr::Line;

/// The language in which a buffer was got.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let pool = bytepool::Pool::builder().size_class(4096, 10).track_every(1).build()?;
/// let _buffer = pool.get(100)?;
/// assert_eq!(pool.dump_outstanding()?[0].language, bytepool::Language::Rust);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Language {
    /// By Rust code.
    Rust,
    /// By a function of `bytepool.h`, or by C++'s `allocator`.
    C,
    /// By a class of `bytepool.hpp`.
    Cpp,
}

impl fmt::Display for Language {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Rust => "Rust",
            Self::C => "C",
            Self::Cpp => "C++",
        })
    }
}

/// Who called a get, as far as its language tells.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Caller<'a> {
    Rust(&'static Location<'static>),
    #[cfg_attr(not(feature = "capi"), expect(dead_code, reason = "there is no other language"))]
    Native {
        language: Language,
        /// `None` if unknown.
        file: Option<&'a CStr>,
        line: u32,
        /// 0 if unknown.
        column: u32,
    },
}

#[cfg(feature = "capi")]
impl Caller<'_> {
    /// A caller in C or C++ who did not say where.
    pub(crate) const fn somewhere(language: Language) -> Self {
        Self::Native { language, file: None, line: 0, column: 0 }
    }
}

/// A tracked buffer that is outstanding, as [`Pool::dump_outstanding`](crate::Pool::dump_outstanding) found it.
///
/// It is a copy, and does not keep the buffer. Its text is one line.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let pool = bytepool::Pool::builder().size_class(4096, 10).track_every(1).build()?;
/// let buffer = pool.get(100)?;
/// let lost = pool.dump_outstanding()?[0];
/// assert_eq!((lost.address, lost.size, lost.buffer_size), (buffer.as_ptr().addr(), 100, 4096));
/// assert_eq!(lost.file, Some(file!()));
/// assert!(lost.to_string().contains("of 100 bytes (room for 4096)"));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Outstanding {
    /// Where it starts.
    pub address: usize,
    /// What was asked for, in bytes.
    pub size: usize,
    /// What it has room for, in bytes.
    pub buffer_size: usize,
    /// How long ago it was got.
    pub age: Duration,
    /// The system's number of the thread that got it, as `gettid` gives it on Linux. 0 if unknown.
    pub thread: u64,
    /// The source file of the get. It is `None` if the caller did not say. `BYTEPOOL_GET` says it in C, and plain
    /// `bytepool_get` does not.
    pub file: Option<&'static str>,
    /// The line of the get, from 1 on; 0 if unknown.
    pub line: u32,
    /// The column of the get, from 1 on; 0 if unknown, as in C.
    pub column: u32,
    /// The language of the get.
    pub language: Language,
    thread_name: ThreadName,
}

impl Outstanding {
    /// The name that the thread which got it had then. It is empty if the system knows none.
    pub fn thread_name(&self) -> &str {
        CStr::from_bytes_until_nul(&self.thread_name)
            .ok()
            .and_then(|name| name.to_str().ok())
            .unwrap_or_default()
    }

    /// The thread's name, ended by a zero byte.
    #[cfg(feature = "capi")]
    pub(crate) fn thread_name_with_nul(&self) -> ThreadName {
        self.thread_name
    }

    /// The source file, ended by a zero byte; null if unknown. Never freed.
    pub(crate) fn file_with_nul(&self) -> *const u8 {
        // Interned names end with a zero behind their last byte.
        self.file.map_or(std::ptr::null(), str::as_ptr)
    }
}

/// One line: which buffer, since when, and who got it where.
impl fmt::Display for Outstanding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { address, size, buffer_size, age, thread, file, line, column, language, .. } = self;
        // Floating-point numbers in text would take 14 KB more of code.
        let (seconds, milliseconds) = (age.as_secs(), age.subsec_millis());
        write!(f, "{address:#x} of {size} bytes (room for {buffer_size})")?;
        write!(f, ", got {seconds}.{milliseconds:03} s ago by thread {thread}")?;
        if !self.thread_name().is_empty() {
            write!(f, " ({})", self.thread_name())?;
        }
        match file {
            Some(file) => write!(f, " at {file}:{line}")?,
            None => write!(f, " in {language}, place unknown")?,
        }
        if *column > 0 { write!(f, ":{column}") } else { Ok(()) }
    }
}

#[derive(Clone, Copy)]
struct Record {
    got: Instant,
    /// Its age is not known yet.
    buffer: Outstanding,
}

/// The records of one pool.
pub(crate) struct Tracker {
    sampler: Sampler,
    records: Lock<AddressMap<Record>>,
}

impl Tracker {
    pub(super) fn new(sampler: Sampler) -> Self {
        Self { sampler, records: Lock::new(AddressMap::default()) }
    }

    fn lock<'a>(&'a self, guard: &'a ForkGuard) -> Locked<'a, AddressMap<Record>> {
        self.records.lock(guard)
    }

    /// Records a buffer that is about to be handed out, if it is its turn.
    pub(super) fn got(&self, guard: &ForkGuard, got: &Got<'_>) {
        if !self.sampler.chooses() {
            return;
        }
        let record = Record { got: Instant::now(), buffer: got.outstanding(guard) };
        let mut records = self.lock(guard);
        if records.try_reserve().is_ok() {
            records.insert(record.buffer.address, record);
        }
    }

    /// Notes that a recorded buffer got another size without moving.
    pub(crate) fn resized(&self, guard: &ForkGuard, data: NonNull<u8>, size: usize) {
        if let Some(record) = self.lock(guard).get_mut(data.addr().get()) {
            record.buffer.size = size;
        }
    }

    /// Forgets a buffer that was put, before anybody else can get it.
    pub(crate) fn put(&self, guard: &ForkGuard, data: NonNull<u8>) {
        self.lock(guard).remove(data.addr().get());
    }

    /// All recorded buffers, the oldest first.
    pub(crate) fn dump(&self, guard: &ForkGuard) -> Result<Vec<Outstanding>, TryReserveError> {
        let mut all = Vec::new();
        let records = self.lock(guard);
        all.try_reserve_exact(records.len())?;
        let now = Instant::now();
        let aged =
            |record: &Record| Outstanding { age: now.saturating_duration_since(record.got), ..record.buffer };
        all.extend(records.values().map(aged));
        drop(records);
        all.sort_unstable_by(|a, b| b.age.cmp(&a.age).then(a.address.cmp(&b.address)));
        Ok(all)
    }
}

/// How many buffers are reported one by one when a pool closes.
const LINES_AT_CLOSE: usize = 32;

/// Says on stderr what is still outstanding of a pool that was closed.
pub(crate) fn report_at_close(guard: &mut ForkGuard, pool: u64, tracker: &Tracker) {
    let Ok(all) = tracker.dump(guard) else { return };
    if all.is_empty() {
        return;
    }
    // The reader of stderr may be slow, or fork.
    guard.unguarded(|| {
        let mut line = Line::new();
        line.add(format_args!(
            "bytepool: pool {pool} was closed with {} tracked buffers outstanding",
            all.len()
        ));
        line.print();
        print(&all[..all.len().min(LINES_AT_CLOSE)]);
        if all.len() > LINES_AT_CLOSE {
            let mut line = Line::new();
            line.add(format_args!("bytepool: and {} more", all.len() - LINES_AT_CLOSE));
            line.print();
        }
    });
}

/// One line on stderr for each buffer.
pub(crate) fn print(all: &[Outstanding]) {
    for buffer in all {
        let mut line = Line::new();
        line.add(format_args!("bytepool: outstanding: {buffer}"));
        line.print();
    }
}

/// A buffer that is about to be handed out.
pub(crate) struct Got<'a> {
    pub(crate) data: NonNull<u8>,
    /// What it has room for, in bytes.
    pub(crate) buffer_size: usize,
    /// What was asked for, in bytes.
    pub(crate) size: usize,
    pub(crate) caller: Caller<'a>,
}

impl Got<'_> {
    /// The description of the buffer. Its age is not known yet.
    pub(super) fn outstanding(&self, guard: &ForkGuard) -> Outstanding {
        let interned = |name: &str| interned(guard, name);
        let (language, file, line, column) = match self.caller {
            Caller::Rust(place) => (Language::Rust, interned(place.file()), place.line(), place.column()),
            Caller::Native { language, file, line, column } => {
                (language, file.and_then(|file| interned(file.to_str().unwrap_or("?"))), line, column)
            }
        };
        let (thread, thread_name) = this_thread();
        let &Self { data, buffer_size, size, .. } = self;
        let (address, age) = (data.addr().get(), Duration::ZERO);
        Outstanding { address, size, buffer_size, age, thread, file, line, column, language, thread_name }
    }
}

/// The names of all files that tracked gets came from, ascending, each followed by a zero byte. They are few, and kept
/// for ever. So a record stays good when the plugin that passed the string is unloaded.
static FILE_NAMES: Lock<Vec<&'static str>> = Lock::new(Vec::new());

/// The lasting copy of a file's name; `None` if there is no memory for it.
fn interned(guard: &ForkGuard, name: &str) -> Option<&'static str> {
    let mut names = FILE_NAMES.lock(guard);
    let without_zero = |kept: &'static str| &kept[..kept.len() - 1];
    match names.binary_search_by(|kept| without_zero(kept).cmp(name)) {
        Ok(index) => Some(without_zero(names[index])),
        Err(index) => {
            let mut copy = String::new();
            copy.try_reserve_exact(name.len() + 1).ok()?;
            names.try_reserve(1).ok()?;
            copy.push_str(name);
            copy.push('\0');
            let copy = copy.leak();
            // C may look at it.
            #[cfg(feature = "capi")]
            super::written(copy);
            names.insert(index, copy);
            Some(without_zero(names[index]))
        }
    }
}

/// The name of a thread in the form of Linux, ended by a zero byte.
pub(crate) type ThreadName = [u8; 16];

/// The calling thread's number and name, as the system has them.
#[cfg(target_os = "linux")]
pub(super) fn this_thread() -> (u64, ThreadName) {
    let mut name = ThreadName::default();
    // SAFETY:
    // - gettid only reads; PR_GET_NAME writes at most 16 bytes, the last of them zero
    let number = unsafe {
        libc::prctl(libc::PR_GET_NAME, name.as_mut_ptr());
        libc::syscall(libc::SYS_gettid)
    };
    (u64::try_from(number).unwrap_or(0), name)
}

#[cfg(all(unix, not(target_os = "linux")))]
pub(super) fn this_thread() -> (u64, ThreadName) {
    // SAFETY:
    // - only reads
    (unsafe { libc::pthread_self() } as u64, ThreadName::default())
}

#[cfg(not(unix))]
pub(super) fn this_thread() -> (u64, ThreadName) {
    (0, ThreadName::default())
}
