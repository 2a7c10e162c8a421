//! What a pool does for users who look for a fault of their own: tracking, guards, and buffers that checkers of memory
//! see. It is decided once, when the pool is made.
//!
//! An *instrumented* pool has no thread caches, so that every get and put comes through `core/`. There a get takes its
//! slot with all its figures, limits and checks. It may then hand out a *replacement*: memory of exactly the size asked
//! for, from a [`Source`] outside the region. The registry keeps track of it. Meanwhile nobody touches the slot, and
//! its mark matches no put by the slot's own address.
//!
//! - [`checker`]: whether this process runs under a sanitizer or memcheck
//! - `callers`, `steps`: show a sanitizer who called
//! - [`environment`]: variables that turn tracking and guards on
//! - [`fault`]: the handler that tells of guarded buffers
//! - [`guard`]: buffers between unreadable pages
//! - [`source`]: where the memory of buffers outside the region comes from
//! - [`tracking`]: where each outstanding buffer was got
//!
//! Nothing here knows what a pool is: the core says what was got and put.

#[cfg(unix)]
mod callers;
mod checker;
pub(crate) mod environment;
mod fault;
mod guard;
#[cfg(unix)]
mod memcheck;
#[cfg(unix)]
mod sanitizer;
mod source;
#[cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]
mod steps;
pub(crate) mod tracking;

use std::num::NonZeroU32;
use std::ptr::NonNull;

use self::environment::Sampling;
#[cfg(all(unix, feature = "capi"))]
pub(crate) use self::sanitizer::written;
pub(crate) use self::source::Source;
use self::tracking::{Got, Tracker};
use crate::os::fork::ForkGuard;
use crate::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

/// Without Unix there is no sanitizer to tell.
#[cfg(all(not(unix), feature = "capi"))]
pub(crate) fn written<T: ?Sized>(_: &mut T) {}

/// A pool's instrumentation.
pub(crate) struct Instrument {
    /// Every buffer comes from the checker's `malloc`.
    checked: bool,
    tracker: Option<Tracker>,
    /// Chooses the gets whose buffers are guarded.
    guard: Option<Sampler>,
    /// The number by which users are told of this pool. The first pool of the process has 1.
    number: u64,
}

impl Instrument {
    /// The instrumentation of a pool that is being made.
    pub(crate) fn new(guard: &ForkGuard, sampling: Sampling) -> Self {
        static POOLS: AtomicU64 = AtomicU64::new(0);
        // If the library itself is compiled with a sanitizer, its own slots and caches are to be checked.
        let checked = !cfg!(bytepool_sanitized) && checker::is_there();
        Self {
            checked,
            tracker: Sampler::new(sampling.track_every).map(Tracker::new),
            // No guards under a checker: it finds more, and tells more of it.
            guard: Sampler::new(sampling.guard_every).filter(|_| !checked && self::guard::is_possible(guard)),
            // Relaxed: a count only.
            number: POOLS.fetch_add(1, Relaxed) + 1,
        }
    }

    /// Whether anything must happen on each get and put.
    pub(crate) fn is_on(&self) -> bool {
        self.checked || self.tracker.is_some() || self.guard.is_some()
    }

    /// Whether no slot's own memory is ever handed out.
    #[inline]
    pub(crate) fn replaces_all(&self) -> bool {
        self.checked
    }

    /// Whether a buffer may be of exactly the size asked for, in place of a slot.
    pub(crate) fn may_replace(&self) -> bool {
        self.checked || self.guard.is_some()
    }

    /// Where the buffer of the next get comes from. `None` means a slot or the system, as in other pools. It is asked
    /// once for each get.
    #[inline]
    pub(crate) fn source(&self) -> Option<Source> {
        if self.checked {
            return Some(Source::Checker);
        }
        self.guard.as_ref().is_some_and(Sampler::chooses).then_some(Source::Guard)
    }

    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    pub(crate) fn tracker(&self) -> Option<&Tracker> {
        self.tracker.as_ref()
    }

    /// Notes a buffer that is about to be handed out: a slot, or one from `source`.
    #[inline]
    pub(crate) fn got(&self, guard: &ForkGuard, source: Option<Source>, got: &Got<'_>) {
        if source == Some(Source::Guard) {
            self::guard::describe(guard, self.number, &got.outstanding(guard));
        }
        if let Some(tracker) = &self.tracker {
            tracker.got(guard, got);
        }
    }

    /// Notes that a buffer was put. Nobody else can get it yet.
    #[inline]
    pub(crate) fn put(&self, guard: &ForkGuard, data: NonNull<u8>) {
        if let Some(tracker) = &self.tracker {
            tracker.put(guard, data);
        }
    }
}

/// Chooses one get in `every`, beginning with the first.
struct Sampler {
    every: NonZeroU32,
    gets: AtomicU32,
}

impl Sampler {
    /// `None` for 0.
    fn new(every: u32) -> Option<Self> {
        NonZeroU32::new(every).map(|every| Self { every, gets: AtomicU32::new(0) })
    }

    /// Counts a get. Returns whether it is chosen.
    fn chooses(&self) -> bool {
        // Relaxed: a count only.
        self.gets.fetch_add(1, Relaxed) % self.every.get() == 0
    }
}
