//! The registry: every outstanding buffer outside the region, found by its address. Overflow, oversize, and
//! what an instrumented pool hands out in place of slots.
//!
//! The registry is the ledger of these buffers. It is divided into shards by address, each with a lock of its
//! own, held for one look-up and never while anything of the user's runs.
//!
//! A slot keeps its address when it is put, so a second put is known as such. A stand-in does not: the
//! registry remembers the last ones put, as many as [`REMEMBERED`] in a shard.
//!
//! The pooled path never comes here.

use crate::sync::{Mutex, MutexGuard, PoisonError};
use std::collections::VecDeque;
use std::ptr::NonNull;

use crate::address_map::{AddressMap, hash};
use crate::fork;
use crate::instrument::Source;
use crate::ledger::Holder;
use crate::memory::{Content, OutOfMemory};

/// A buffer outside the region.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SystemBuffer {
    pub(crate) role: Role,
    pub(crate) source: Source,
    /// Its usable bytes. Usually the class's buffer size or the rounded request; in an instrumented pool the
    /// size asked for.
    pub(crate) capacity: usize,
    /// In bytes.
    pub(crate) alignment: usize,
    pub(crate) holder: Holder,
}

/// What a buffer outside the region is there for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// Larger than the largest class, or aligned more strictly than the pool; it counts as `bytes`.
    Oversize { bytes: usize },
    /// The class fits, but no slot was there.
    Overflow { class: u8 },
    /// In place of a slot that was taken for it.
    StandIn { class: u8, slot: u32 },
}

impl Role {
    /// The class that it counts for.
    pub(crate) fn class(self) -> Option<u8> {
        match self {
            Self::Oversize { .. } => None,
            Self::Overflow { class } | Self::StandIn { class, .. } => Some(class),
        }
    }
}

/// Stand-ins put that a shard remembers.
const REMEMBERED: usize = 4096;

/// The stand-ins put last: the class of each, and its number in order.
#[derive(Default)]
struct Put {
    by_address: AddressMap<(u8, u64)>,
    /// Inverted addresses, as in the map.
    in_order: VecDeque<(usize, u64)>,
    next: u64,
}

impl Put {
    fn remember(&mut self, address: usize, class: u8) {
        if self.in_order.len() == REMEMBERED
            && let Some((inverted, number)) = self.in_order.pop_front()
            // Not if the address was used again, and put again, since.
            && self.by_address.get(!inverted).is_some_and(|entry| entry.1 == number)
        {
            self.by_address.remove(!inverted);
        }
        // Without memory for it a double put is called a foreign pointer: refused all the same.
        if self.by_address.try_reserve().is_ok() && self.in_order.try_reserve(1).is_ok() {
            self.by_address.insert(address, (class, self.next));
            self.in_order.push_back((!address, self.next));
            self.next += 1;
        }
    }
}

#[derive(Default)]
struct Shard {
    outstanding: AddressMap<SystemBuffer>,
    put: Put,
}

const SHARDS: usize = 16;

#[repr(align(128))]
#[derive(Default)]
struct Padded(Mutex<Shard>);

/// All outstanding buffers of one pool outside its region.
#[derive(Default)]
pub(crate) struct Registry {
    shards: [Padded; SHARDS],
}

impl Registry {
    fn shard(&self, address: usize) -> MutexGuard<'_, Shard> {
        debug_assert!(fork::is_inside());
        // The high bits choose the shard, the low ones the place in it.
        let shard = (hash(address) >> 59) as usize % SHARDS;
        self.shards[shard].0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Allocates a buffer and enters it.
    pub(crate) fn allocate(
        &self,
        buffer: SystemBuffer,
        content: Content,
    ) -> Result<NonNull<u8>, OutOfMemory> {
        let SystemBuffer { mut source, capacity, alignment, .. } = buffer;
        let mut allocated = source.allocate(capacity, alignment, content);
        if allocated.is_err() && source == Source::Guard {
            source = Source::Allocator;
            allocated = source.allocate(capacity, alignment, content);
        }
        let data = allocated?;
        let address = data.as_ptr().addr();
        let mut shard = self.shard(address);
        if shard.outstanding.try_reserve().is_err() {
            drop(shard);
            // SAFETY:
            // - allocated above with these figures, and handed to nobody
            unsafe { source.free(data, capacity, alignment) };
            return Err(OutOfMemory { bytes: capacity });
        }
        shard.outstanding.insert(address, SystemBuffer { source, ..buffer });
        Ok(data)
    }

    /// What stands at `address`, if anything.
    pub(crate) fn find(&self, address: usize) -> Option<SystemBuffer> {
        self.shard(address).outstanding.get(address).copied()
    }

    /// The class of the stand-in that was at `address` and was put, if it is remembered.
    pub(crate) fn find_put(&self, address: usize) -> Option<u8> {
        self.shard(address).put.by_address.get(address).map(|entry| entry.0)
    }

    /// Changes the holder of the buffer at `address` if `check` agrees to what it finds. `None`: no such
    /// buffer.
    pub(crate) fn update<E>(
        &self,
        address: usize,
        check: impl FnOnce(&SystemBuffer) -> Result<Holder, E>,
    ) -> Option<Result<SystemBuffer, E>> {
        let mut shard = self.shard(address);
        let buffer = shard.outstanding.get_mut(address)?;
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
        let buffer = *shard.outstanding.get(address)?;
        Some(check(&buffer).map(|()| {
            shard.outstanding.remove(address);
            match buffer.role {
                Role::StandIn { class, .. } => shard.put.remember(address, class),
                Role::Overflow { .. } | Role::Oversize { .. } => drop(shard.put.by_address.remove(address)),
            }
            buffer
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn buffer(role: Role) -> SystemBuffer {
        let source = Source::Allocator;
        SystemBuffer { role, source, capacity: 100, alignment: 64, holder: Holder::Raw(100) }
    }

    fn remove(registry: &Registry, data: NonNull<u8>) -> Option<SystemBuffer> {
        registry.remove(data.as_ptr().addr(), |_| Ok::<_, ()>(())).map(Result::unwrap)
    }

    fn free(data: NonNull<u8>, buffer: SystemBuffer) {
        // SAFETY:
        // - tests free what they removed, once, with its own figures
        unsafe { buffer.source.free(data, buffer.capacity, buffer.alignment) };
    }

    #[test]
    fn buffers_are_found_until_removed() {
        let _section = fork::section();
        let registry = Registry::default();
        let data = registry.allocate(buffer(Role::Oversize { bytes: 100 }), Content::Zeros).unwrap();
        let address = data.as_ptr().addr();
        assert_eq!(registry.find(address).unwrap().capacity, 100);
        assert!(registry.find(address + 64).is_none());
        assert!(matches!(registry.remove(address, |_| Err("no")), Some(Err("no"))));
        assert!(registry.find(address).is_some());
        free(data, remove(&registry, data).unwrap());
        assert!(remove(&registry, data).is_none());
        assert_eq!(registry.find_put(address), None, "only stand-ins are remembered");
    }

    #[test]
    fn the_last_stand_ins_put_are_remembered() {
        let _section = fork::section();
        let registry = Registry::default();
        let most = SHARDS * REMEMBERED;
        let all: Vec<_> = (0..2 * most)
            .map(|slot| {
                let role = Role::StandIn { class: 3, slot: slot as u32 };
                registry.allocate(buffer(role), Content::Anything).unwrap()
            })
            .collect();
        let removed: Vec<_> = all.iter().map(|&data| remove(&registry, data).unwrap()).collect();
        let remembered = |data: &&NonNull<u8>| {
            registry.find_put(data.as_ptr().addr()).inspect(|c| assert_eq!(*c, 3)).is_some()
        };
        assert!(all[all.len() - most / 2..].iter().all(|data| remembered(&data)));
        assert!(all.iter().filter(remembered).count() <= most);
        all.into_iter().zip(removed).for_each(|(data, buffer)| free(data, buffer));
    }
}
