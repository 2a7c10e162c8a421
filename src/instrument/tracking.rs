//! Tracking: where each outstanding buffer was got, by which thread, and when.
//!
//! A pool that tracks has no thread caches, so every get and put comes by here: a record is made before the buffer is
//! anybody's, and taken away before it is anybody else's. With sampling only one get in so many leaves a record.
//!
//! The lock is held for one look-up, and never while anything of the user's runs. Where there is no memory for a
//! record, the buffer is not tracked.

use crate::sync::{Mutex, MutexGuard, PoisonError};
use std::collections::TryReserveError;
use std::ffi::{CStr, c_char};
use std::fmt;
use std::panic::Location;
use std::ptr::NonNull;
use std::time::{Duration, Instant};

use super::Sampler;
use crate::address_map::AddressMap;
use crate::fork;
use crate::line::Line;
use crate::shared::Request;

/// The language that a buffer was got in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Language {
    /// By a method of [`Pool`](crate::Pool).
    Rust,
    /// By a function of `bytepool.h`.
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
pub(crate) enum Caller {
    Rust(&'static Location<'static>),
    #[cfg(feature = "capi")]
    Native {
        language: Language,
        /// NULL if unknown, else valid during the call.
        file: *const c_char,
        line: u32,
        /// 0 if unknown.
        column: u32,
    },
}

#[cfg(feature = "capi")]
impl Caller {
    /// A caller in C or C++ who did not say where.
    pub(crate) const fn somewhere(language: Language) -> Self {
        Self::Native { language, file: std::ptr::null(), line: 0, column: 0 }
    }
}

/// A tracked buffer that is outstanding.
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
    /// The thread that got it, by the system's number: as `gettid` gives on Linux. 0 if unknown.
    pub thread: u64,
    /// The source file of the get; `None` if the caller did not say. Plain `bytepool_get` does not, `BYTEPOOL_GET`
    /// does.
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
    /// The name of the thread that got it, as the system had it then; empty if it has none.
    pub fn thread_name(&self) -> &str {
        CStr::from_bytes_until_nul(&self.thread_name)
            .ok()
            .and_then(|name| name.to_str().ok())
            .unwrap_or_default()
    }

    #[cfg(feature = "capi")]
    pub(crate) fn thread_name_for_c(&self) -> ThreadName {
        self.thread_name
    }

    /// The source file as a string for C, NULL if unknown. Never freed.
    pub(crate) fn file_for_c(&self) -> *const c_char {
        // Interned names end with a zero behind their last byte.
        self.file.map_or(std::ptr::null(), |file| file.as_ptr().cast())
    }
}

/// One line: what, since when, who and where.
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
    records: Mutex<AddressMap<Record>>,
}

impl Tracker {
    pub(super) fn new(sampler: Sampler) -> Self {
        Self { sampler, records: Mutex::new(AddressMap::default()) }
    }

    fn lock(&self) -> MutexGuard<'_, AddressMap<Record>> {
        self.records.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records a buffer that is about to be handed out, if it is its turn.
    pub(crate) fn got(&self, data: NonNull<u8>, buffer_size: usize, request: &Request) {
        if !self.sampler.chooses() {
            return;
        }
        let record = Record { got: Instant::now(), buffer: outstanding(data, buffer_size, request) };
        let mut records = self.lock();
        if records.try_reserve().is_ok() {
            records.insert(record.buffer.address, record);
        }
    }

    /// A recorded buffer was asked to be of another size in its place.
    pub(crate) fn resized(&self, data: NonNull<u8>, size: usize) {
        if let Some(record) = self.lock().get_mut(data.addr().get()) {
            record.buffer.size = size;
        }
    }

    /// Forgets a buffer that was put, before anybody else can get it.
    pub(crate) fn put(&self, data: NonNull<u8>) {
        self.lock().remove(data.addr().get());
    }

    /// All recorded buffers, the oldest first.
    pub(crate) fn dump(&self) -> Result<Vec<Outstanding>, TryReserveError> {
        let mut all = Vec::new();
        let records = self.lock();
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

/// How many buffers are told one by one when a pool closes.
const LINES_AT_CLOSE: usize = 32;

/// Says on stderr what is still outstanding of a pool that was closed.
pub(crate) fn report_at_close(pool: u64, tracker: &Tracker) {
    let Ok(all) = tracker.dump() else { return };
    if all.is_empty() {
        return;
    }
    // Whoever reads stderr may be slow, or fork.
    fork::outside(|| {
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

/// What there is to say of a buffer just got.
pub(super) fn outstanding(data: NonNull<u8>, buffer_size: usize, request: &Request) -> Outstanding {
    let (language, file, line, column) = match request.caller {
        Caller::Rust(place) => (Language::Rust, interned(place.file()), place.line(), place.column()),
        #[cfg(feature = "capi")]
        Caller::Native { language, file, line, column } => {
            // SAFETY:
            // - not NULL, so a string that is valid during the call
            let file = (!file.is_null()).then(|| unsafe { CStr::from_ptr(file) });
            (language, file.and_then(|file| interned(file.to_str().unwrap_or("?"))), line, column)
        }
    };
    let (thread, thread_name) = this_thread();
    let age = Duration::ZERO;
    let (address, size) = (data.addr().get(), request.size);
    Outstanding { address, size, buffer_size, age, thread, file, line, column, language, thread_name }
}

/// The names of all files that tracked gets came from, ascending, each followed by a zero byte: few, and kept for
/// ever. So a record stays good after the plugin is gone whose string it was.
static FILE_NAMES: Mutex<Vec<&'static str>> = Mutex::new(Vec::new());

/// The lasting copy of a file's name; `None` if there is no memory for it.
fn interned(name: &str) -> Option<&'static str> {
    let mut names = FILE_NAMES.lock().unwrap_or_else(PoisonError::into_inner);
    let without_zero = |kept: &'static str| &kept[..kept.len() - 1];
    match names.binary_search_by(|kept| without_zero(kept).cmp(name)) {
        Ok(place) => Some(without_zero(names[place])),
        Err(place) => {
            let mut copy = String::new();
            copy.try_reserve_exact(name.len() + 1).ok()?;
            names.try_reserve(1).ok()?;
            copy.push_str(name);
            copy.push('\0');
            let copy = copy.leak();
            // C may look at it.
            #[cfg(feature = "capi")]
            super::written(copy);
            names.insert(place, copy);
            Some(without_zero(names[place]))
        }
    }
}

/// As Linux has it: ended by a zero byte.
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
