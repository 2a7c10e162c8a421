//! The registry: every outstanding overflow and oversize buffer, found by its address.
//!
//! These buffers come from the system allocator one by one, so they have no slot; the registry is their
//! ledger. It is divided into shards by address, each with a lock of its own, held for one look-up and never
//! while anything of the user's runs.
//!
//! The pooled path never comes here.

use crate::sync::{Mutex, MutexGuard, PoisonError};
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::ptr::NonNull;

use crate::fork;
use crate::ledger::Holder;
use crate::memory::{Content, OutOfMemory, allocate_buffer, free_buffer};

/// A buffer from the system allocator.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SystemBuffer {
    /// `Some` for overflow: the class it stands in for. `None` for oversize.
    pub(crate) class: Option<u8>,
    /// Its capacity in bytes: the class's buffer size, or the rounded request.
    pub(crate) capacity: usize,
    /// In bytes.
    pub(crate) alignment: usize,
    pub(crate) holder: Holder,
}

/// Spreads addresses, whose low bits are zero, over all bits.
#[derive(Default)]
struct AddressHasher(u64);

impl Hasher for AddressHasher {
    fn write(&mut self, _: &[u8]) {
        unreachable!("addresses are hashed as usize");
    }
    fn write_usize(&mut self, address: usize) {
        let mixed = (address as u64 >> 4).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        self.0 = mixed ^ mixed >> 32;
    }
    fn finish(&self) -> u64 {
        self.0
    }
}

type Shard = HashMap<usize, SystemBuffer, BuildHasherDefault<AddressHasher>>;

const SHARDS: usize = 16;

#[repr(align(128))]
#[derive(Default)]
struct Padded(Mutex<Shard>);

/// All outstanding system buffers of one pool.
#[derive(Default)]
pub(crate) struct Registry {
    shards: [Padded; SHARDS],
}

impl Registry {
    fn shard(&self, address: usize) -> MutexGuard<'_, Shard> {
        debug_assert!(fork::is_inside());
        let mut hasher = AddressHasher::default();
        hasher.write_usize(address);
        // The high bits choose the shard, the low ones the place in it.
        let shard = (hasher.finish() >> 59) as usize % SHARDS;
        self.shards[shard].0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Allocates a buffer and enters it.
    pub(crate) fn allocate(
        &self,
        buffer: SystemBuffer,
        content: Content,
    ) -> Result<NonNull<u8>, OutOfMemory> {
        let SystemBuffer { capacity, alignment, .. } = buffer;
        let data = allocate_buffer(capacity, alignment, content)?;
        let address = data.as_ptr().addr();
        let mut shard = self.shard(address);
        if shard.try_reserve(1).is_err() {
            drop(shard);
            // SAFETY:
            // - allocated above with these figures, and handed to nobody
            unsafe { free_buffer(data, capacity, alignment) };
            return Err(OutOfMemory { bytes: capacity });
        }
        shard.insert(address, buffer);
        Ok(data)
    }

    /// What stands at `address`, if anything.
    pub(crate) fn find(&self, address: usize) -> Option<SystemBuffer> {
        self.shard(address).get(&address).copied()
    }

    /// Changes the holder of the buffer at `address` if `check` agrees to what it finds. `None`: no such
    /// buffer.
    pub(crate) fn update<E>(
        &self,
        address: usize,
        check: impl FnOnce(&SystemBuffer) -> Result<Holder, E>,
    ) -> Option<Result<SystemBuffer, E>> {
        let mut shard = self.shard(address);
        let buffer = shard.get_mut(&address)?;
        Some(check(buffer).map(|holder| {
            buffer.holder = holder;
            *buffer
        }))
    }

    /// Takes the buffer at `address` out if `check` agrees to what it finds. `None`: no such buffer. The
    /// caller frees its memory.
    pub(crate) fn remove<E>(
        &self,
        address: usize,
        check: impl FnOnce(&SystemBuffer) -> Result<(), E>,
    ) -> Option<Result<SystemBuffer, E>> {
        let mut shard = self.shard(address);
        let buffer = *shard.get(&address)?;
        Some(check(&buffer).map(|()| {
            shard.remove(&address);
            buffer
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_are_found_until_removed() {
        let _section = fork::section();
        let registry = Registry::default();
        let buffer = SystemBuffer { class: None, capacity: 100, alignment: 64, holder: Holder::Raw(100) };
        let data = registry.allocate(buffer, Content::Zeros).unwrap();
        let address = data.as_ptr().addr();
        assert_eq!(registry.find(address).unwrap().capacity, 100);
        assert!(registry.find(address + 64).is_none());
        assert!(matches!(registry.remove(address, |_| Err("no")), Some(Err("no"))));
        assert!(registry.find(address).is_some());
        assert!(matches!(registry.remove(address, |_| Ok::<_, ()>(())), Some(Ok(_))));
        assert!(registry.remove(address, |_| Ok::<_, ()>(())).is_none());
        // SAFETY:
        // - just removed, and allocated with these figures
        unsafe { free_buffer(data, 100, 64) };
    }
}
