//! What workers count. The same struct is in worker.h.

use crate::world::MAX_POOLS;

#[derive(Clone, Debug, Default)]
#[repr(C)]
pub(crate) struct Counts {
    pub(crate) operations: u64,
    pub(crate) gets: u64,
    pub(crate) bytes: u64,
    pub(crate) offered: u64,
    pub(crate) taken: u64,
    pub(crate) reallocations: u64,
    pub(crate) trims: u64,
    pub(crate) limit_failures: u64,
    pub(crate) closed_failures: u64,
    pub(crate) memory_failures: u64,
    pub(crate) size_mismatches: [u64; MAX_POOLS],
    pub(crate) foreign_pointers: [u64; MAX_POOLS],
    pub(crate) double_puts: [u64; MAX_POOLS],
    pub(crate) invalid_contexts: u64,
}

impl Counts {
    pub(crate) fn add(&mut self, other: &Self) {
        let pairs = [
            (&mut self.operations, other.operations),
            (&mut self.gets, other.gets),
            (&mut self.bytes, other.bytes),
            (&mut self.offered, other.offered),
            (&mut self.taken, other.taken),
            (&mut self.reallocations, other.reallocations),
            (&mut self.trims, other.trims),
            (&mut self.limit_failures, other.limit_failures),
            (&mut self.closed_failures, other.closed_failures),
            (&mut self.memory_failures, other.memory_failures),
            (&mut self.invalid_contexts, other.invalid_contexts),
        ];
        for (sum, more) in pairs {
            *sum += more;
        }
        for pool in 0..MAX_POOLS {
            self.size_mismatches[pool] += other.size_mismatches[pool];
            self.foreign_pointers[pool] += other.foreign_pointers[pool];
            self.double_puts[pool] += other.double_puts[pool];
        }
    }
}
