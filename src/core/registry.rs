//! The registry: every outstanding buffer outside the region, found by its address. Overflow, oversize, and
//! what an instrumented pool hands out in place of slots.
//!
//! The registry is the ledger of these buffers. It is divided into shards by address, each with a lock of its
//! own, held for one look-up and never while anything of the user's runs.
//!
//! A slot keeps its address when it is put, so a second put is known as such. A replacement does not: the
//! registry remembers the last ones put, as many as [`REMEMBERED`] in a shard.
//!
//! A buffer that is to get another size leaves the registry and comes back under its new address: the system may give
//! the old one to another thread before it says what the new one is. Nothing may fail after that, so the place it had
//! in its shard is kept meanwhile. If the shard of the new address has no memory, it returns to the old one. Then it is
//! *displaced*, and while there are such buffers a search that fails looks into all shards.
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
use crate::sync::atomic::{AtomicUsize, Ordering::Relaxed};

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
    /// Places in `outstanding` for buffers that left for a moment.
    kept: usize,
    put: Put,
}

impl Shard {
    /// Enters a buffer, unless there is no memory for its place.
    fn try_enter(&mut self, address: usize, buffer: SystemBuffer) -> Result<(), OutOfMemory> {
        self.outstanding.try_reserve_for(self.kept + 1)?;
        self.outstanding.insert(address, buffer);
        Ok(())
    }
}

const SHARDS: usize = 16;

#[repr(align(128))]
#[derive(Default)]
struct Padded(Lock<Shard>);

/// A buffer that left the registry for a moment.
#[must_use = "it has to arrive"]
pub(crate) struct Leaving {
    pub(crate) buffer: SystemBuffer,
    /// Where its place is kept.
    shard: usize,
}

/// All outstanding buffers of one pool outside its region.
pub(crate) struct Registry {
    /// Apart, as they are large.
    shards: Box<[Padded]>,
    /// Buffers that are in another address's shard. Relaxed: who has such a buffer was told its address after it was
    /// counted.
    displaced: AtomicUsize,
}

/// The high bits choose the shard, the low ones the position in it.
fn shard_of(address: usize) -> usize {
    (hash(address) >> 59) as usize % SHARDS
}

impl Registry {
    pub(crate) fn new() -> Result<Self, OutOfMemory> {
        Ok(Self {
            shards: memory::boxed_slice(SHARDS, |_| Ok::<_, OutOfMemory>(Padded::default()))?,
            displaced: AtomicUsize::new(0),
        })
    }

    fn lock<'a>(&'a self, guard: &'a ForkGuard, shard: usize) -> Locked<'a, Shard> {
        self.shards[shard].0.lock(guard)
    }

    /// The shard that has `address`, and its number. If none has it, the one where it belongs.
    fn shard<'a>(&'a self, guard: &'a ForkGuard, address: usize) -> (Locked<'a, Shard>, usize) {
        let right = shard_of(address);
        let shard = self.lock(guard, right);
        if self.displaced.load(Relaxed) == 0 || shard.outstanding.get(address).is_some() {
            return (shard, right);
        }
        drop(shard);
        let has_it = |number: usize| {
            let shard = self.lock(guard, number);
            shard.outstanding.get(address).is_some().then_some((shard, number))
        };
        (0..SHARDS).find_map(has_it).unwrap_or_else(|| (self.lock(guard, right), right))
    }

    /// Allocates a buffer and enters it. In line, as checkers of memory note few callers of an allocation.
    #[inline(always)]
    pub(crate) fn allocate(
        &self,
        guard: &mut ForkGuard,
        buffer: SystemBuffer,
        content: Content,
    ) -> Result<NonNull<u8>, OutOfMemory> {
        let SystemBuffer { source, capacity, alignment, .. } = buffer;
        let (data, source) = source.allocate(guard, capacity, alignment, content)?;
        let address = data.as_ptr().addr();
        let entered =
            self.lock(guard, shard_of(address)).try_enter(address, SystemBuffer { source, ..buffer });
        if entered.is_err() {
            // SAFETY:
            // - allocated above with these figures, and handed to nobody
            unsafe { source.free(guard, data, capacity, alignment) };
            return Err(OutOfMemory { bytes: capacity });
        }
        Ok(data)
    }

    /// Gives memory back that it took for buffers that are not outstanding any more.
    pub(crate) fn shrink(&self, guard: &ForkGuard) {
        for shard in &self.shards {
            let mut shard = shard.0.lock(guard);
            // Places are kept for those that left.
            if shard.kept == 0 {
                shard.outstanding.shrink();
            }
        }
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

    /// Takes out the buffer at `address` if `check` agrees to what it finds. It comes back by [`arrive`](Self::arrive).
    /// What was found; `None`: no such buffer.
    pub(crate) fn leave<E>(
        &self,
        guard: &ForkGuard,
        address: usize,
        check: impl FnOnce(&SystemBuffer) -> Result<(), E>,
    ) -> Option<Result<Leaving, E>> {
        let (mut shard, number) = self.shard(guard, address);
        let buffer = *shard.outstanding.get(address)?;
        if let Err(error) = check(&buffer) {
            return Some(Err(error));
        }
        shard.outstanding.remove(address);
        shard.kept += 1;
        self.count_displaced_out(address, number);
        Some(Ok(Leaving { buffer, shard: number }))
    }

    /// Enters a buffer that left, perhaps at another address and with other figures.
    pub(crate) fn arrive(&self, guard: &ForkGuard, left: Leaving, address: usize, buffer: SystemBuffer) {
        let right = shard_of(address);
        let entered = right != left.shard && self.lock(guard, right).try_enter(address, buffer).is_ok();
        let mut shard = self.lock(guard, left.shard);
        shard.kept -= 1;
        if !entered {
            shard.outstanding.insert(address, buffer);
            if right != left.shard {
                self.displaced.fetch_add(1, Relaxed);
            }
        }
    }

    /// A buffer was taken out of a shard.
    fn count_displaced_out(&self, address: usize, shard: usize) {
        if shard != shard_of(address) {
            self.displaced.fetch_sub(1, Relaxed);
        }
    }

    /// What stands at `address`, if anything.
    pub(crate) fn find(&self, guard: &ForkGuard, address: usize) -> Option<SystemBuffer> {
        self.shard(guard, address).0.outstanding.get(address).copied()
    }

    /// The class of the replacement that was at `address` and was put, if it is remembered.
    pub(crate) fn find_put(&self, guard: &ForkGuard, address: usize) -> Option<u8> {
        self.lock(guard, shard_of(address)).put.by_address.get(address).map(|entry| entry.0)
    }

    /// What `change` makes of the holder of the buffer at `address`, under its shard's lock. `None`: no such buffer.
    pub(crate) fn change_holder<R>(
        &self,
        guard: &ForkGuard,
        address: usize,
        change: impl FnOnce(&mut Holder) -> R,
    ) -> Option<R> {
        let mut shard = self.shard(guard, address).0;
        shard.outstanding.get_mut(address).map(|buffer| change(&mut buffer.holder))
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
        let (mut shard, number) = self.shard(guard, address);
        let entry = shard.outstanding.get_mut(address)?;
        let found = *entry;
        if let Err(error) = check(&found) {
            return Some(Err(error));
        }
        match (to, found.role) {
            (Some(holder), _) => entry.holder = holder,
            (None, role) => {
                shard.outstanding.remove(address);
                self.count_displaced_out(address, number);
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
        let source = Source::SYSTEM;
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

    /// The only buffer of a registry, as it leaves.
    fn leave(registry: &Registry, guard: &ForkGuard, address: usize) -> Leaving {
        registry.leave(guard, address, |_| Ok::<_, ()>(())).unwrap().unwrap()
    }

    #[test]
    fn a_buffer_that_left_is_found_where_it_arrives() {
        let guard = ForkGuard::new();
        let registry = Registry::new().unwrap();
        let oversize = buffer(Role::Oversize { bytes: 100 });
        let mut at = 64;
        registry.lock(&guard, shard_of(at)).try_enter(at, oversize).unwrap();
        assert!(matches!(registry.leave(&guard, at, |_| Err("no")), Some(Err("no"))));
        assert!(registry.leave(&guard, at + 64, |_| Ok::<_, ()>(())).is_none());
        for to in (1..1000).map(|n| n * 64) {
            let left = leave(&registry, &guard, at);
            assert!(registry.find(&guard, at).is_none() && left.buffer.capacity == 100);
            registry.arrive(&guard, left, to, oversize);
            assert!(registry.find(&guard, to).is_some() && (to == at || registry.find(&guard, at).is_none()));
            at = to;
        }
        assert_eq!(registry.displaced.load(Relaxed), 0, "there was memory");
        assert!((0..SHARDS).all(|shard| registry.lock(&guard, shard).kept == 0));
    }

    #[test]
    fn a_place_is_kept_for_a_buffer_that_left() {
        let guard = ForkGuard::new();
        let registry = Registry::new().unwrap();
        let oversize = buffer(Role::Oversize { bytes: 100 });
        let of_one_shard: Vec<usize> =
            (1..).map(|n| n * 64).filter(|&at| shard_of(at) == 3).take(13).collect();
        let enter = |at: usize| registry.lock(&guard, 3).try_enter(at, oversize).unwrap();
        of_one_shard[..12].iter().copied().for_each(enter); // as many as there is room for at first
        let left = leave(&registry, &guard, of_one_shard[0]);
        enter(of_one_shard[12]);
        // As `arrive` does: without making room.
        registry.arrive(&guard, left, of_one_shard[0], oversize);
        assert!(of_one_shard.iter().all(|&at| registry.find(&guard, at).is_some()));
    }

    #[test]
    fn a_displaced_buffer_is_found_passed_and_taken_out() {
        let guard = ForkGuard::new();
        let registry = Registry::new().unwrap();
        let oversize = buffer(Role::Oversize { bytes: 100 });
        let (at, other) = (64, (2..).map(|n| n * 64).find(|&at| shard_of(at) != shard_of(64)).unwrap());
        let displace = |at: usize| {
            registry.lock(&guard, shard_of(other)).try_enter(at, oversize).unwrap();
            registry.displaced.fetch_add(1, Relaxed);
        };
        displace(at);
        assert_eq!(registry.find(&guard, at).unwrap().holder, Holder::Raw(100));
        assert!(registry.find(&guard, other).is_none());
        let owned = registry.pass(&guard, at, |_| Ok::<_, ()>(()), Some(Holder::Owned));
        assert!(matches!(owned, Some(Ok(_))));
        assert_eq!(registry.find(&guard, at).unwrap().holder, Holder::Owned);
        // Out by a put, and out to arrive in the right shard.
        assert!(matches!(registry.pass(&guard, at, |_| Ok::<_, ()>(()), None), Some(Ok(_))));
        assert!(registry.find(&guard, at).is_none() && registry.displaced.load(Relaxed) == 0);
        displace(at);
        let left = leave(&registry, &guard, at);
        assert_eq!(registry.displaced.load(Relaxed), 0);
        registry.arrive(&guard, left, other, oversize);
        assert!(registry.find(&guard, other).is_some() && registry.displaced.load(Relaxed) == 0);
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
