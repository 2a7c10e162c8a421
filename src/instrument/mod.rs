//! What happens on each get and put of a pool besides the usual. It is decided once, when the pool is made.
//!
//! An *instrumented* pool has no thread caches, so that every get and put comes through `shared/`. There a get
//! takes its slot with all its figures, limits and checks, but hands out a *stand-in*: memory from elsewhere,
//! which the [`Source`] says, of exactly the size asked for. The registry keeps track of it; the slot itself
//! stays untouched meanwhile, marked as one that no put by its own address matches.
//!
//! - [`checker`]: whether this process runs under a sanitizer or memcheck
//! - [`source`]: where buffers outside the region have their memory from

#[cfg(unix)]
mod callers;
mod checker;
#[cfg(unix)]
mod memcheck;
#[cfg(unix)]
mod sanitizer;
mod source;

#[cfg(all(unix, feature = "capi"))]
pub(crate) use self::sanitizer::written;
pub(crate) use self::source::Source;

/// As a sanitizer's; elsewhere there is none.
#[cfg(all(not(unix), feature = "capi"))]
pub(crate) fn written<T: ?Sized>(_: &mut T) {}

/// A pool's instrumentation.
pub(crate) struct Instrument {
    /// Every buffer comes from the checker's `malloc`.
    checked: bool,
}

impl Instrument {
    pub(crate) fn of_new_pool() -> Self {
        Self { checked: checker::is_there() }
    }

    /// Whether anything must happen on each get and put.
    pub(crate) fn is_on(&self) -> bool {
        self.checked
    }

    /// Whether no slot's own memory is ever handed out.
    #[inline]
    pub(crate) fn replaces_all(&self) -> bool {
        self.checked
    }

    /// Where the buffer of the next get comes from; `None`: from where buffers of pools usually do. Asked
    /// once for each get.
    #[inline]
    pub(crate) fn source(&self) -> Option<Source> {
        self.checked.then_some(Source::Checker)
    }
}
