//! The registry: every outstanding buffer outside the region, found by its address. Overflow, oversize, and
//! what an instrumented pool hands out in place of slots.
//!
//! The registry is the ledger of these buffers. It is divided into shards by address, each with a lock of its
//! own, held for one look-up and never while anything of the user's runs.
//!
//! A slot keeps its address when it is put, so a second put is known as such. A replacement does not: the
//! registry remembers the last ones put, as many as [`REMEMBERED`] in a shard.
//!
//! The pooled path never comes here.

use std::collections::VecDeque;
use std::ptr::NonNull;

use crate::class::ledger::Holder;
use crate::debug::Source;
use crate::os::address_map::{AddressMap, hash};
use crate::os::fork::ForkGuard;
use crate::os::lock::{Lock, Locked};
use crate::os::memory::{self, Content, OutOfMemory};

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
    /// Larger than the largest class, or aligned more strictly than any that fits; it counts as `bytes`.
    Oversize { bytes: usize },
    /// The class fits, but no slot was there.
    Overflow { class: u8 },
    /// In place of a slot that was taken for it.
    Replacement { class: u8, slot: u32 },
}

impl Role {
    /// The class that it counts for.
    pub(crate) fn class(self) -> Option<u8> {
        match self {
            Self::Oversize { .. } => None,
            Self::Overflow { class } | Self::Replacement { class, .. } => Some(class),
        }
    }
}

/// Replacements put that a shard remembers.
const REMEMBERED: usize = 4096;

/// The replacements put last: the class of each, and its number in order.
#[derive(Default)]
struct Put {
    by_address: AddressMap<(u8, u64)>,
    /// Inverted addresses, as in the map.
    in_order: VecDeque<(usize, u64)>,
    next: u64,
}

impl Put {
    fn remember(&mut self, address: usize, class: u8) {
        if self.in_order.len() == REMEMBERED {
            self.forget_oldest();
        }
        // Without memory for it a double put is called a foreign pointer: refused all the same.
        if self.by_address.try_reserve().is_ok() && self.in_order.try_reserve(1).is_ok() {
            self.by_address.insert(address, (class, self.next));
            self.in_order.push_back((!address, self.next));
            self.next += 1;
        }
    }

    fn forget_oldest(&mut self) {
        let Some((inverted, number)) = self.in_order.pop_front() else { return };
        // Not if the address was used again, and put again, since.
        if self.by_address.get(!inverted).is_some_and(|entry| entry.1 == number) {
            self.by_address.remove(!inverted);
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
struct Padded(Lock<Shard>);

/// All outstanding buffers of one pool outside its region.
pub(crate) struct Registry {
    /// Apart, as they are large.
    shards: Box<[Padded]>,
}

impl Registry {
    pub(crate) fn new() -> Result<Self, OutOfMemory> {
        Ok(Self { shards: memory::boxed_slice(SHARDS, |_| Ok::<_, OutOfMemory>(Padded::default()))? })
    }

    fn shard<'a>(&'a self, guard: &'a ForkGuard, address: usize) -> Locked<'a, Shard> {
        // The high bits choose the shard, the low ones the position in it.
        let shard = (hash(address) >> 59) as usize % SHARDS;
        self.shards[shard].0.lock(guard)
    }

    /// Allocates a buffer and enters it. In line, as checkers of memory note few callers of an allocation.
    #[inline(always)]
    pub(crate) fn allocate(
        &self,
        guard: &mut ForkGuard,
        buffer: SystemBuffer,
        content: Content,
    ) -> Result<NonNull<u8>, OutOfMemory> {
        let SystemBuffer { mut source, capacity, alignment, .. } = buffer;
        let mut allocated = source.allocate(guard, capacity, alignment, content);
        if allocated.is_err() && source == Source::Guard {
            source = Source::Allocator;
            allocated = source.allocate(guard, capacity, alignment, content);
        }
        let data = allocated?;
        let address = data.as_ptr().addr();
        let mut shard = self.shard(guard, address);
        if shard.outstanding.try_reserve().is_err() {
            drop(shard);
            // SAFETY:
            // - allocated above with these figures, and handed to nobody
            unsafe { source.free(guard, data, capacity, alignment) };
            return Err(OutOfMemory { bytes: capacity });
        }
        shard.outstanding.insert(address, SystemBuffer { source, ..buffer });
        Ok(data)
    }

    /// Gives memory back that it took for buffers that are not outstanding any more.
    pub(crate) fn shrink(&self, guard: &ForkGuard) {
        self.shards.iter().for_each(|shard| shard.0.lock(guard).outstanding.shrink());
    }

    /// What it takes of memory, in bytes.
    pub(crate) fn bytes(&self, guard: &ForkGuard) -> usize {
        let of_shard = |shard: &Padded| {
            let shard = shard.0.lock(guard);
            let in_order = shard.put.in_order.capacity() * size_of::<(usize, u64)>();
            shard.outstanding.bytes() + shard.put.by_address.bytes() + in_order
        };
        self.shards.iter().map(of_shard).sum::<usize>() + size_of_val(&*self.shards)
    }

    /// What stands at `address`, if anything.
    pub(crate) fn find(&self, guard: &ForkGuard, address: usize) -> Option<SystemBuffer> {
        self.shard(guard, address).outstanding.get(address).copied()
    }

    /// The class of the replacement that was at `address` and was put, if it is remembered.
    pub(crate) fn find_put(&self, guard: &ForkGuard, address: usize) -> Option<u8> {
        self.shard(guard, address).put.by_address.get(address).map(|entry| entry.0)
    }

    /// Passes the buffer at `address` to another holder if `check` agrees to what it finds, or takes it out: then the
    /// caller frees its memory. What was found; `None`: no such buffer.
    pub(crate) fn pass<E>(
        &self,
        guard: &ForkGuard,
        address: usize,
        check: impl FnOnce(&SystemBuffer) -> Result<(), E>,
        to: Option<Holder>,
    ) -> Option<Result<SystemBuffer, E>> {
        let mut shard = self.shard(guard, address);
        let entry = shard.outstanding.get_mut(address)?;
        let found = *entry;
        if let Err(error) = check(&found) {
            return Some(Err(error));
        }
        match (to, found.role) {
            (Some(holder), _) => entry.holder = holder,
            (None, role) => {
                shard.outstanding.remove(address);
                match role {
                    Role::Replacement { class, .. } => shard.put.remember(address, class),
                    Role::Overflow { .. } | Role::Oversize { .. } => {
                        shard.put.by_address.remove(address);
                    }
                }
            }
        }
        Some(Ok(found))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn buffer(role: Role) -> SystemBuffer {
        let source = Source::Allocator;
        SystemBuffer { role, source, capacity: 100, alignment: 64, holder: Holder::Raw(100) }
    }

    fn remove(registry: &Registry, guard: &ForkGuard, data: NonNull<u8>) -> Option<SystemBuffer> {
        registry.pass(guard, data.as_ptr().addr(), |_| Ok::<_, ()>(()), None).map(Result::unwrap)
    }

    fn free(guard: &mut ForkGuard, data: NonNull<u8>, buffer: SystemBuffer) {
        // SAFETY:
        // - tests free what they removed, once, with its own figures
        unsafe { buffer.source.free(guard, data, buffer.capacity, buffer.alignment) };
    }

    #[test]
    fn buffers_are_found_until_removed() {
        let mut guard = ForkGuard::new();
        let registry = Registry::new().unwrap();
        let data =
            registry.allocate(&mut guard, buffer(Role::Oversize { bytes: 100 }), Content::Zeros).unwrap();
        let address = data.as_ptr().addr();
        assert_eq!(registry.find(&guard, address).unwrap().capacity, 100);
        assert!(registry.find(&guard, address + 64).is_none());
        assert!(matches!(registry.pass(&guard, address, |_| Err("no"), None), Some(Err("no"))));
        assert!(registry.find(&guard, address).is_some());
        let removed = remove(&registry, &guard, data).unwrap();
        free(&mut guard, data, removed);
        assert!(remove(&registry, &guard, data).is_none());
        assert_eq!(registry.find_put(&guard, address), None, "only replacements are remembered");
    }

    #[test]
    fn the_last_replacements_put_are_remembered() {
        let mut guard = ForkGuard::new();
        let registry = Registry::new().unwrap();
        let most = SHARDS * REMEMBERED;
        let all: Vec<_> = (0..2 * most)
            .map(|slot| {
                let role = Role::Replacement { class: 3, slot: slot as u32 };
                registry.allocate(&mut guard, buffer(role), Content::Anything).unwrap()
            })
            .collect();
        let removed: Vec<_> = all.iter().map(|&data| remove(&registry, &guard, data).unwrap()).collect();
        let remembered = |data: &&NonNull<u8>| {
            registry.find_put(&guard, data.as_ptr().addr()).inspect(|c| assert_eq!(*c, 3)).is_some()
        };
        assert!(all[all.len() - most / 2..].iter().all(|data| remembered(&data)));
        assert!(all.iter().filter(remembered).count() <= most);
        all.into_iter().zip(removed).for_each(|(data, buffer)| free(&mut guard, data, buffer));
    }
}
