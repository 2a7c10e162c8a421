//! Guarded buffers. Each lies between unreadable pages. So an access beyond its ends faults at once, and so does a use
//! after its put. A line on stderr says which buffer it was.
//!
//! ```text
//! | unreadable page | opened pages      [ buffer ][ slack ] | unreadable page |
//!                                       ^ data    ^ data + size
//! ```
//!
//! The buffer ends with the opened pages, but for the *slack* that its alignment may need.
//!
//! A buffer that was put stays in quarantine for a while. It is unreadable and has no memory, and nobody else gets its
//! addresses. The process keeps the last [`QUARANTINE`] of them.
//!
//! The fault handler takes no lock. What it reads is in [`Note`]s.

use crate::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use crate::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, AtomicU64, AtomicUsize};
use std::collections::VecDeque;
use std::ffi::CStr;
use std::fmt;
use std::ptr::NonNull;

use super::fault;
use super::tracking::{Outstanding, this_thread};
use crate::os::address_map::AddressMap;
use crate::os::fork::ForkGuard;
use crate::os::lock::{Lock, Locked, Once};
use crate::os::memory::{OutOfMemory, Zeroable, zeroed_slice};
use crate::os::region::{CAN_SEAL, Region, page_size};
use crate::os::stderr::Line;

/// The most guarded buffers of a process, those in quarantine included. Each costs the system up to three mappings, and
/// it allows some tens of thousands.
const MOST: usize = 4096;
/// The most buffers in quarantine.
const QUARANTINE: usize = 256;
/// The most addresses in quarantine, in bytes.
const QUARANTINE_BYTES: usize = 64 << 20;
/// The slack is filled with this byte. At the put it must still be there.
const SLACK: u8 = 0xB9;

/// All guarded buffers of the process.
struct Guards {
    notes: Box<[Note]>,
    kept: Lock<Kept>,
}

/// Made with the first pool that guards. It is `None` if it could not be made.
static GUARDS: Once<Option<Guards>> = Once::new();

struct Kept {
    unused_notes: Vec<usize>,
    /// By the buffer's address.
    outstanding: AddressMap<Guarded>,
    quarantine: VecDeque<Guarded>,
    /// The addresses in quarantine, in bytes.
    quarantined: usize,
}

/// One guarded buffer.
struct Guarded {
    region: Region,
    /// The offset of the opened pages in the region, and their length, in bytes.
    opened: (usize, usize),
    /// The number of its note.
    note: usize,
}

/// Makes the tables for guarded buffers, and installs the fault handler. `false` means that this target or its memory
/// does not allow it.
pub(super) fn is_possible(guard: &ForkGuard) -> bool {
    let make = || Guards::new().filter(|_| CAN_SEAL && fault::install(guard));
    GUARDS.get_or_init(guard, make).is_some()
}

fn guards() -> Option<&'static Guards> {
    GUARDS.get()?.as_ref()
}

impl Guards {
    /// Makes the tables with all the memory that they will ever need.
    fn new() -> Option<Self> {
        let mut kept = Kept {
            unused_notes: Vec::new(),
            outstanding: AddressMap::default(),
            quarantine: VecDeque::new(),
            quarantined: 0,
        };
        kept.unused_notes.try_reserve_exact(MOST).ok()?;
        kept.unused_notes.extend(0..MOST);
        kept.outstanding.try_reserve_for(MOST).ok()?;
        kept.quarantine.try_reserve_exact(QUARANTINE + 1).ok()?;
        Some(Self { notes: zeroed_slice(MOST).ok()?, kept: Lock::new(kept) })
    }

    fn lock<'a>(&'a self, guard: &'a ForkGuard) -> Locked<'a, Kept> {
        self.kept.lock(guard)
    }

    /// A note for a new buffer: an unused one, or that of the buffer longest in quarantine.
    fn take_note(&self, kept: &mut Kept) -> Option<usize> {
        if kept.unused_notes.is_empty() {
            self.release_oldest(kept);
        }
        kept.unused_notes.pop()
    }

    fn release_oldest(&self, kept: &mut Kept) {
        if let Some(oldest) = kept.quarantine.pop_front() {
            kept.quarantined -= oldest.region.len();
            self.release(kept, oldest);
        }
    }

    /// Gives a buffer's addresses back to the system.
    fn release(&self, kept: &mut Kept, guarded: Guarded) {
        self.notes[guarded.note].clear();
        kept.unused_notes.push(guarded.note);
    }

    fn quarantine(&self, guard: &ForkGuard, guarded: Guarded) {
        let mut kept = self.lock(guard);
        kept.quarantined += guarded.region.len();
        kept.quarantine.push_back(guarded);
        while kept.quarantine.len() > QUARANTINE || kept.quarantined > QUARANTINE_BYTES {
            self.release_oldest(&mut kept);
        }
    }
}

/// A zeroed buffer between unreadable pages.
pub(super) fn allocate(guard: &ForkGuard, size: usize, alignment: usize) -> Result<NonNull<u8>, OutOfMemory> {
    map(guard, size, alignment).ok_or(OutOfMemory { bytes: size })
}

fn map(guard: &ForkGuard, size: usize, alignment: usize) -> Option<NonNull<u8>> {
    let page = page_size();
    // With an alignment of at most a page the buffer ends where the pages end. Otherwise it starts where they start.
    let room = size.checked_next_multiple_of(alignment.min(page))?;
    let opened = room.checked_next_multiple_of(page)?;
    let before = alignment.max(page);
    let region = Region::reserve(opened.checked_add(before + page)?, before).ok()?;
    region.open(before, opened).ok()?;
    let data = region.at(before + opened - room);
    // SAFETY:
    // - `room` bytes from `data` on were just opened, of which the buffer needs `size`
    unsafe { data.add(size).write_bytes(SLACK, room - size) };

    let guards = guards()?;
    let mut kept = guards.lock(guard);
    let note = guards.take_note(&mut kept)?;
    guards.notes[note].begin(&region, data, size);
    kept.outstanding.insert(data.addr().get(), Guarded { region, opened: (before, opened), note });
    Some(data)
}

/// Notes who gets a guarded buffer, before it is handed out. It does nothing for other buffers.
pub(super) fn describe(guard: &ForkGuard, pool: u64, buffer: &Outstanding) {
    let Some(guards) = guards() else { return };
    if let Some(guarded) = guards.lock(guard).outstanding.get(buffer.address) {
        guards.notes[guarded.note].describe(pool, buffer);
    }
}

/// Takes a buffer of `size` bytes back.
///
/// # Safety
/// - `data` came from [`allocate`] with this `size`, and was not freed since
/// - what still uses it is to fault
pub(super) unsafe fn free(guard: &mut ForkGuard, data: NonNull<u8>, size: usize) {
    let Some(guards) = guards() else { return };
    let removed = guards.lock(guard).outstanding.remove(data.addr().get());
    let Some(guarded) = removed else { return };
    let note = &guards.notes[guarded.note];
    let (offset, opened) = guarded.opened;
    let slack = guarded.region.base() + offset + opened - (data.addr().get() + size);
    // SAFETY:
    // - opened when the buffer was allocated, and in its region
    let slack = unsafe { std::slice::from_raw_parts(data.add(size).as_ptr(), slack) };
    if let Some(offset) = slack.iter().position(|&byte| byte != SLACK) {
        let mut line = Line::new();
        line.add(format_args!("bytepool: overflow found at the put: {offset} bytes after the end of {note}"));
        // The reader of stderr may be slow, or fork.
        guard.unguarded(|| line.print());
    }
    note.end();
    // SAFETY:
    // - the buffer was put: whoever uses it now shall fault
    if unsafe { guarded.region.seal(offset, opened) } {
        guards.quarantine(guard, guarded);
    } else {
        guards.release(&mut guards.lock(guard), guarded);
    }
}

/// Says on stderr which guarded buffer the fault at `address` was in or beside, once for each buffer. Returns whether
/// it said so now. The fault handler calls it.
// Without unreadable pages there is no fault to explain.
#[cfg_attr(not(all(unix, not(bytepool_portable))), allow(dead_code))]
pub(super) fn explain(address: usize) -> bool {
    let note = guards().and_then(|guards| guards.notes.iter().find(|note| note.covers(address)));
    let Some(note) = note else { return false };
    // Relaxed: a switch only.
    let is_new = !note.is_told.swap(true, Relaxed);
    if is_new {
        let (data, size) = (note.data.load(Relaxed), note.size.load(Relaxed));
        let mut line = Line::new();
        line.add(format_args!("bytepool: fault at {address:#x}, "));
        if address < data {
            line.add(format_args!("{} bytes before {note}", data - address));
        } else if address - data >= size {
            line.add(format_args!("{} bytes after the end of {note}", address - data - size));
        } else {
            line.add(format_args!("{} bytes inside {note}", address - data));
        }
        line.print();
    }
    is_new
}

/// What the fault handler knows of one guarded buffer.
///
/// A thread that faults through a buffer's address got that address after the note was written, so its Relaxed reads
/// see the whole note. A wild pointer may lead to a note while it is written. Then the line mixes two buffers, but each
/// value is good by itself.
struct Note {
    /// Where the buffer's region starts; 0 if the note is unused.
    start: AtomicUsize,
    /// The region's length in bytes.
    len: AtomicUsize,
    data: AtomicUsize,
    size: AtomicUsize,
    pool: AtomicU64,
    thread: AtomicU64,
    /// Interned, or null.
    file: AtomicPtr<u8>,
    line: AtomicU32,
    was_put: AtomicBool,
    put_by: AtomicU64,
    is_told: AtomicBool,
}

// SAFETY:
// - atomic integers, pointers and booleans have the layout of what they hold, for which zero is valid
// - it has no drop glue
unsafe impl Zeroable for Note {}

impl Note {
    fn begin(&self, region: &Region, data: NonNull<u8>, size: usize) {
        self.len.store(region.len(), Relaxed);
        self.data.store(data.addr().get(), Relaxed);
        self.size.store(size, Relaxed);
        self.was_put.store(false, Relaxed);
        self.is_told.store(false, Relaxed);
        self.file.store(std::ptr::null_mut(), Relaxed);
        // Release: partner in `covers`.
        self.start.store(region.base(), Release);
    }

    fn describe(&self, pool: u64, buffer: &Outstanding) {
        self.pool.store(pool, Relaxed);
        self.thread.store(buffer.thread, Relaxed);
        self.file.store(buffer.file_with_nul().cast_mut(), Relaxed);
        self.line.store(buffer.line, Relaxed);
    }

    fn end(&self) {
        self.put_by.store(this_thread().0, Relaxed);
        self.was_put.store(true, Relaxed);
    }

    fn clear(&self) {
        self.start.store(0, Relaxed);
    }

    fn covers(&self, address: usize) -> bool {
        // Acquire pairs with the Release in `begin`.
        let start = self.start.load(Acquire);
        start != 0 && address.wrapping_sub(start) < self.len.load(Relaxed)
    }
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (size, data) = (self.size.load(Relaxed), self.data.load(Relaxed));
        write!(f, "a guarded buffer of {size} bytes at {data:#x}")?;
        if self.was_put.load(Relaxed) {
            write!(f, " that thread {} had put", self.put_by.load(Relaxed))?;
        }
        write!(f, "; pool {}, got by thread {}", self.pool.load(Relaxed), self.thread.load(Relaxed))?;
        let file = self.file.load(Relaxed);
        if file.is_null() {
            return Ok(());
        }
        // SAFETY:
        // - interned: a string that is never freed
        let file = unsafe { CStr::from_ptr(file.cast()) };
        write!(f, " at {}:{}", file.to_str().unwrap_or("?"), self.line.load(Relaxed))
    }
}

#[cfg(all(test, unix, not(bytepool_portable)))]
mod tests {
    use super::*;

    /// One test at a time: the last one counts what there is.
    fn alone() -> std::sync::MutexGuard<'static, ()> {
        static ALONE: std::sync::Mutex<()> = std::sync::Mutex::new(());
        ALONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    #[test]
    fn a_buffer_is_aligned_zeroed_and_ends_where_its_pages_end() {
        let _alone = alone();
        let mut guard = ForkGuard::new();
        assert!(is_possible(&guard));
        let page = page_size();
        for alignment in [1, 2, 16, 64, page, 16 * page] {
            for size in [0, 1, 63, 64, 100, page - 1, page, page + 1, 5 * page + 7] {
                let data = allocate(&guard, size, alignment).unwrap();
                let address = data.addr().get();
                assert!(address % alignment == 0);
                let end = address + size.next_multiple_of(alignment.min(page));
                assert!(end % page == 0, "{size} bytes aligned to {alignment}");
                // SAFETY:
                // - just allocated with this size, and freed once
                unsafe {
                    assert!((0..size).all(|i| data.add(i).read() == 0));
                    data.write_bytes(1, size);
                    free(&mut guard, data, size);
                }
            }
        }
    }

    #[test]
    fn those_that_were_put_are_bounded() {
        let _alone = alone();
        let mut guard = ForkGuard::new();
        assert!(is_possible(&guard));
        let large = QUARANTINE_BYTES / 4;
        for size in [large, large, large, large, large].into_iter().chain([10; 2 * QUARANTINE]) {
            let data = allocate(&guard, size, 64).unwrap();
            // SAFETY:
            // - just allocated with this size, and freed once
            unsafe { free(&mut guard, data, size) };
            let kept = guards().unwrap().lock(&guard);
            assert!(kept.quarantine.len() <= QUARANTINE && kept.quarantined <= QUARANTINE_BYTES);
            assert_eq!(kept.quarantined, kept.quarantine.iter().map(|one| one.region.len()).sum::<usize>());
            assert_eq!(kept.unused_notes.len() + kept.quarantine.len() + kept.outstanding.len(), MOST);
        }
    }
}
