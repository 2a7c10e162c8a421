//! Weak memory: what a thread may read of what other threads wrote.
//!
//! The views of the promising semantics, without its promises (so no load is delayed behind a later store of its
//! own thread):
//!
//! - a *location* keeps the values stored there, in the order of the stores: its *messages*
//! - a *view* says for each location which message is the oldest that may still be read
//! - each thread has a view; a load takes any message that is not older, a read-modify-write the newest
//! - a message carries a view, and an acquiring load of a releasing store takes it over
//! - SeqCst accesses and fences share one more view
//!
//! The atomics keep their newest value in their own memory, at its usual place. Memory whose value changed behind
//! this module's back was used anew, or was given back to the system: its location starts anew.

use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::sync::atomic::Ordering::{self, AcqRel, Acquire, Release, SeqCst};

/// The oldest message that may be read, for each location by its number.
#[derive(Clone, Default)]
pub(super) struct View(Vec<u32>);

impl View {
    fn get(&self, location: usize) -> u32 {
        self.0.get(location).copied().unwrap_or(0)
    }

    fn raise(&mut self, location: usize, message: u32) {
        if self.0.len() <= location {
            self.0.resize(location + 1, 0);
        }
        self.0[location] = self.0[location].max(message);
    }

    fn join(&mut self, other: &View) {
        if self.0.len() < other.0.len() {
            self.0.resize(other.0.len(), 0);
        }
        for (own, other) in self.0.iter_mut().zip(&other.0) {
            *own = (*own).max(*other);
        }
    }
}

struct Message {
    bits: u64,
    view: View,
}

/// So many messages of a location can be read; older ones are forgotten.
const KEPT: usize = 8;

struct Location {
    number: usize,
    /// The number of the first message that is kept.
    first: u32,
    messages: VecDeque<Message>,
}

impl Location {
    fn last(&self) -> u32 {
        self.first + self.messages.len() as u32 - 1
    }

    fn start_anew(&mut self, bits: u64) {
        self.first += self.messages.len() as u32;
        self.messages.clear();
        self.messages.push_back(Message { bits, view: View::default() });
    }

    fn push(&mut self, bits: u64, view: View) {
        self.messages.push_back(Message { bits, view });
        if self.messages.len() > KEPT {
            self.messages.pop_front();
            self.first += 1;
        }
    }
}

#[derive(Default)]
struct Thread {
    now: View,
    /// What an acquire fence would add.
    acquirable: View,
    /// As of the last release fence.
    released: View,
}

/// The memory of one execution.
#[derive(Default)]
struct Memory {
    locations: HashMap<usize, Location>,
    numbers: usize,
    threads: Vec<Thread>,
    sequential: View,
    /// As of the last fence on all threads.
    fenced: View,
    locks: HashMap<usize, View>,
    random: u64,
    /// Time, in nanoseconds.
    now: u64,
}

thread_local! {
    // Shuttle runs all threads of an execution on one thread of the system.
    static MEMORY: RefCell<Memory> = RefCell::default();
}

fn current_thread() -> Option<usize> {
    shuttle::current::try_get_current_task().map(usize::from)
}

/// Runs `using` with the memory and the current thread's number. `None` outside of an execution.
fn with<R>(using: impl FnOnce(&mut Memory, usize) -> R) -> Option<R> {
    let thread = current_thread()?;
    MEMORY.with_borrow_mut(|memory| {
        if memory.threads.len() <= thread {
            memory.threads.resize_with(thread + 1, Thread::default);
        }
        Some(using(memory, thread))
    })
}

/// Forgets the last execution. What the library keeps from it in statics, every thread sees.
pub(super) fn start_execution(seed: u64) {
    MEMORY.set(Memory { random: seed | 1, ..Memory::default() });
}

fn acquires(order: Ordering) -> bool {
    matches!(order, Acquire | AcqRel | SeqCst)
}

fn releases(order: Ordering) -> bool {
    matches!(order, Release | AcqRel | SeqCst)
}

impl Memory {
    /// A number below `end`.
    fn choose(&mut self, end: u32) -> u32 {
        // Xorshift: reproducible from the seed, which is part of shuttle's schedule.
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        ((self.random >> 33) % u64::from(end)) as u32
    }

    /// The location at an address, whose memory holds `bits`.
    fn location(&mut self, address: usize, bits: u64) -> &mut Location {
        let numbers = &mut self.numbers;
        let location = self.locations.entry(address).or_insert_with(|| {
            *numbers += 1;
            let message = Message { bits, view: View::default() };
            Location { number: *numbers - 1, first: 0, messages: VecDeque::from([message]) }
        });
        if location.messages.back().is_none_or(|newest| newest.bits != bits) {
            location.start_anew(bits);
        }
        location
    }

    /// Reads a message: its value becomes the oldest that this thread may read.
    fn read(&mut self, thread: usize, address: usize, message: u32, order: Ordering) -> u64 {
        let location = &self.locations[&address];
        let thread = &mut self.threads[thread];
        let Message { bits, view } = &location.messages[(message - location.first) as usize];
        thread.now.raise(location.number, message);
        thread.acquirable.join(view);
        if acquires(order) {
            thread.now.join(view);
        }
        *bits
    }

    /// Adds a message; `before` is the view of the one that a read-modify-write replaces.
    fn write(&mut self, thread: usize, address: usize, bits: u64, before: Option<View>, order: Ordering) {
        let location = self.locations.get_mut(&address).expect("it was looked at before");
        let thread = &mut self.threads[thread];
        let message = location.last() + 1;
        thread.now.raise(location.number, message);
        let mut view = if releases(order) { thread.now.clone() } else { thread.released.clone() };
        view.raise(location.number, message);
        if let Some(before) = before {
            view.join(&before);
        }
        location.push(bits, view);
        if order == SeqCst {
            self.sequential.raise(location.number, message);
        }
    }

    fn fence(&mut self, thread: usize, order: Ordering) {
        let thread = &mut self.threads[thread];
        if acquires(order) {
            thread.now.join(&thread.acquirable);
        }
        if order == SeqCst {
            thread.now.join(&self.sequential);
            self.sequential.join(&thread.now);
        }
        if releases(order) {
            thread.released = thread.now.clone();
        }
    }
}

/// Some value that a load may find at an address, whose memory holds `bits`.
pub(super) fn load(address: usize, bits: u64, order: Ordering) -> u64 {
    with(|memory, thread| {
        let location = memory.location(address, bits);
        let (number, first, last) = (location.number, location.first, location.last());
        let mut oldest = memory.threads[thread].now.get(number).max(first);
        if order == SeqCst {
            oldest = oldest.max(memory.sequential.get(number));
        }
        let stale = oldest < last && memory.choose(2) == 0;
        let message = if stale { oldest + memory.choose(last - oldest + 1) } else { last };
        memory.read(thread, address, message, order)
    })
    .unwrap_or(bits)
}

/// A store of `after` over `bits`.
pub(super) fn store(address: usize, bits: u64, after: u64, order: Ordering) {
    with(|memory, thread| {
        memory.location(address, bits);
        memory.write(thread, address, after, None, order);
    });
}

/// A read-modify-write of `bits` to what `change` says, if it does; the value found.
pub(super) fn change(
    address: usize,
    bits: u64,
    success: Ordering,
    failure: Ordering,
    change: impl FnOnce(u64) -> Option<u64>,
) -> Result<u64, u64> {
    let after = change(bits);
    with(|memory, thread| {
        let location = memory.location(address, bits);
        let last = location.last();
        let view = location.messages.back().expect("it has one").view.clone();
        match after {
            Some(after) => {
                memory.read(thread, address, last, success);
                memory.write(thread, address, after, Some(view), success);
            }
            None => {
                memory.read(thread, address, last, failure);
            }
        }
    });
    if after.is_some() { Ok(bits) } else { Err(bits) }
}

/// Whether something that may fail without a reason does, once in a while.
pub(super) fn fails_spuriously() -> bool {
    with(|memory, _| memory.choose(8) == 0).unwrap_or(false)
}

/// Whether somebody who waits for `nanoseconds` at most waits no longer; then that time has passed.
pub(super) fn times_out(nanoseconds: u64) -> bool {
    let time_out = |memory: &mut Memory, _| {
        let is_over = memory.choose(4) == 0;
        memory.now += if is_over { nanoseconds } else { 0 };
        is_over
    };
    with(time_out).unwrap_or(true)
}

pub(super) fn now() -> u64 {
    with(|memory, _| memory.now).unwrap_or(0)
}

pub(super) fn fence(order: Ordering) {
    with(|memory, thread| memory.fence(thread, order));
}

/// A full fence on every thread: what `membarrier` does.
pub(crate) fn fence_all_threads() {
    with(|memory, thread| {
        memory.fence(thread, SeqCst);
        for other in 0..memory.threads.len() {
            memory.fence(other, SeqCst);
        }
        memory.fence(thread, SeqCst);
        memory.fenced.join(&memory.threads[thread].now);
    });
}

/// The current thread was started by one that had seen `view`. A processor that takes up a thread fences.
pub(super) fn start_thread(view: &View) {
    acquire(view);
    with(|memory, thread| memory.threads[thread].now.join(&memory.fenced));
}

/// What the current thread has seen, for another one to [`acquire`].
pub(super) fn release() -> View {
    with(|memory, thread| memory.threads[thread].now.clone()).unwrap_or_default()
}

pub(super) fn acquire(view: &View) {
    with(|memory, thread| memory.threads[thread].now.join(view));
}

/// The current thread has waited for the end of another.
pub(super) fn acquire_all_of(thread: usize) {
    let view = with(|memory, _| memory.threads.get(thread).map(|ended| ended.now.clone())).flatten();
    acquire(&view.unwrap_or_default());
}

pub(super) fn acquire_lock(address: usize) {
    with(|memory, thread| {
        if let Some(view) = memory.locks.get(&address) {
            memory.threads[thread].now.join(view);
        }
    });
}

pub(super) fn release_lock(address: usize) {
    with(|memory, thread| memory.locks.entry(address).or_default().join(&memory.threads[thread].now));
}

/// Panics unless everything that was stored at an address happened before: plain memory may only be used so. Then
/// forgets what was stored, as the memory is used for something else.
pub(super) fn end_of_life(address: usize) {
    let raced = with(|memory, thread| {
        let location = memory.locations.remove(&address)?;
        Some(memory.threads[thread].now.get(location.number) < location.last())
    });
    let raced = raced.flatten().unwrap_or(false);
    assert!(!raced || std::thread::panicking(), "memory was freed that another thread used at the same time");
}

/// Plain memory, as the models' threads use it: two uses must be ordered, one before the other.
pub(crate) mod plain_memory {
    use super::{MEMORY, Ordering, end_of_life, with};
    use std::ptr::NonNull;

    /// Where models used memory, or atomics are, in `len` bytes from `start`.
    fn used(start: NonNull<u8>, len: usize) -> Vec<usize> {
        let range = start.addr().get()..start.addr().get() + len;
        MEMORY
            .with_borrow(|memory| memory.locations.keys().copied().filter(|at| range.contains(at)).collect())
    }

    /// It goes back to the allocator or the system.
    pub(crate) fn ends(start: NonNull<u8>, len: usize) {
        used(start, len).into_iter().for_each(end_of_life);
    }

    /// The system gives new pages for it.
    pub(crate) fn is_cleared(start: NonNull<u8>, len: usize) {
        used(start, len).into_iter().for_each(use_at);
    }

    /// The owner of the memory at `start` uses it.
    pub(crate) fn is_used(start: NonNull<u8>) {
        crate::models::sync::point();
        use_at(start.addr().get());
    }

    fn use_at(address: usize) {
        let raced = with(|memory, thread| {
            let location = memory.location(address, 0);
            let (number, last) = (location.number, location.last());
            let raced = memory.threads[thread].now.get(number) < last;
            memory.write(thread, address, 0, None, Ordering::Relaxed);
            raced
        });
        assert!(!raced.unwrap_or(false), "two threads use the memory at {address:#x} without an order");
    }
}
