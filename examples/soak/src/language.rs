//! The three languages, and the ways to their workers.

use crate::counts::Counts;
use crate::worker;
use crate::world::{CWorld, World};

unsafe extern "C" {
    fn soak_c_worker(world: *const CWorld, seed: u64, operations: u64, counts: *mut Counts);
    fn soak_cpp_worker(world: *const CWorld, seed: u64, operations: u64, counts: *mut Counts);
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Language {
    Rust,
    C,
    Cpp,
}

impl Language {
    pub(crate) const ALL: [Self; 3] = [Self::Rust, Self::C, Self::Cpp];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Rust => "Rust",
            Self::C => "C",
            Self::Cpp => "C++",
        }
    }

    /// Works on this thread; what it counted.
    pub(crate) fn work(self, world: &World, seed: u64, operations: u64) -> Counts {
        let mut counts = Counts::default();
        let c_world = world.for_c();
        // SAFETY:
        // - the world outlives the call, and the counts are this function's
        match self {
            Self::Rust => worker::work(world, seed, operations, &mut counts),
            // SAFETY: as above
            Self::C => unsafe { soak_c_worker(&raw const c_world, seed, operations, &raw mut counts) },
            // SAFETY: as above
            Self::Cpp => unsafe { soak_cpp_worker(&raw const c_world, seed, operations, &raw mut counts) },
        }
        counts
    }
}
