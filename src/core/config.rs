//! What a pool is made from, after it was found valid.

use crate::class::layout::Layout;
use crate::debug::environment::Sampling;
use crate::sync::Arc;

/// A pool's rounding function; see [`Builder::round`](crate::Builder::round).
pub(crate) type Rounding = Arc<dyn Fn(usize) -> usize + Send + Sync>;

/// The pool's switches.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Flags {
    pub(crate) thread_cache: bool,
    pub(crate) zero_on_get: bool,
    pub(crate) zero_on_put: bool,
    pub(crate) huge_pages: bool,
    pub(crate) pinned: bool,
    pub(crate) coloring: bool,
}

impl Default for Flags {
    fn default() -> Self {
        Self {
            thread_cache: true,
            zero_on_get: false,
            zero_on_put: false,
            huge_pages: false,
            pinned: false,
            coloring: false,
        }
    }
}

/// A configuration that was found valid.
pub(crate) struct Config {
    pub(crate) layout: Layout,
    pub(crate) alignment: usize,
    /// `usize::MAX` for no limit.
    pub(crate) max_bytes: usize,
    pub(crate) round: Option<Rounding>,
    pub(crate) flags: Flags,
    pub(crate) sampling: Sampling,
}
