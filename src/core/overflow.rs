//! Overflow: the class fits, but all its slots are out.
//!
//! At first the system allocator serves. A pool that overflows often gets a *spare*: a part that is a pool itself, with
//! the same classes once more in a region of its own. So overflow, too, is found by address, cached by threads and
//! checked by a ledger, and costs little more than a slot of the class. Its slots count as overflow while they are out;
//! idle ones count nowhere, and few are kept.
//!
//! ```text
//! get -> all slots of the class out -> spare -> (none, or all its slots out, too) system allocator
//! put -> outside the region -> inside the spare's -> as for the pool's own slots
//! ```
//!
//! A spare has no handles and no end of its own: references to it are the pool's, and it closes and goes with the pool.
//! Pools with a limit have none, as what a spare keeps would be beyond the limit; neither have pools without thread
//! caches, which it is for, and those that round.

use crate::sync::atomic::AtomicU32;
use crate::sync::atomic::Ordering::Relaxed;
use std::ptr::NonNull;

use super::Core;
use super::config::Config;
use super::get::{Fill, Request};
use super::reclaim::Reserved;
use super::registry::{Role, SystemBuffer};
use crate::class::Class;
use crate::class::index::MAX_CLASSES;
use crate::class::layout::Layout;
use crate::class::location::{Buffer, Location};
use crate::class::quota::LARGE;
use crate::debug::Instrument;
use crate::debug::environment::Sampling;
use crate::error::GetError;
use crate::os::fork::ForkGuard;
use crate::os::memory::{self, OutOfMemory};
use crate::os::region::CAN_SEAL;
use crate::os::thread_state::ThreadState;

/// Gets that overflow one class before the pool gets a spare.
const OFTEN: u64 = if cfg!(bytepool_shuttle) { 2 } else { 64 };
/// A spare has as many slots of a class as the class has, up to so many bytes of them.
const MAX_BYTES: usize = 64 << 20;
/// Of a class that has few, it has this many, up to so many bytes.
const MIN_SLOTS: usize = if cfg!(bytepool_shuttle) { 16 } else { 1024 };
const MIN_BYTES: usize = 4 << 20;
/// What a spare's shelf keeps of a class, in bytes.
const KEPT_BYTES: usize = 2 << 20;

/// See the module documentation.
pub(crate) struct Spare {
    core: Box<Core>,
    /// For each class the fewest idle slots there were since memory was last given back; 0 if it need not be.
    left: [AtomicU32; MAX_CLASSES],
}

impl Core {
    #[inline]
    pub(crate) fn spare(&self) -> Option<&Spare> {
        self.spare.get().map(|spare| &**spare)
    }

    /// Ends the caches that the calling thread has of this pool and of its spare, as its thread-locals are torn down.
    pub(super) fn give_up_caches_of(&self, guard: &ForkGuard, state: &'static ThreadState) {
        self.give_up_cache(guard, state);
        if let Some(spare) = self.spare() {
            spare.core.give_up_cache(guard, state);
        }
    }

    /// Ends the cache that the calling thread has of this pool, or of this spare, whose shelf keeps little of it.
    pub(super) fn give_up_cache(&self, guard: &ForkGuard, state: &'static ThreadState) {
        self.caches.give_up(guard, state);
        if self.registration.is_of_part() {
            let too_many = |class: &&Class| class.shelf.idle() > kept_slots(class);
            self.classes.iter().filter(too_many).for_each(|class| _ = self.discard_most(guard, class));
        }
    }

    /// Of a spare: gives idle memory of a class back to the system, but for half of what is kept; how many slots are
    /// left, those included that share a page with an outstanding one.
    fn discard_most(&self, guard: &ForkGuard, class: &Class) -> u32 {
        let _reclaiming = self.lock_reclaiming(guard);
        let most = class.shelf.idle().saturating_sub(kept_slots(class) / 2);
        let discarded = class.discard_idle(self.classes.region(), most as usize);
        self.mapped.release(discarded * class.slot_size());
        class.shelf.idle()
    }

    /// The class fits, but all its slots are out.
    #[cold]
    pub(super) fn get_overflow(
        &self,
        guard: &mut ForkGuard,
        class: &Class,
        request: &Request,
    ) -> Result<Buffer, GetError> {
        if let Some(buffer) = self.spare().and_then(|spare| spare.get(guard, class.number(), request)) {
            return Ok(buffer);
        }
        if let Reserved::Idle(slot) = self.reserve(guard, class.slot_size(), Some(class))? {
            let taken = self.keep_idle(guard, class, slot)?;
            return self.hand_out(guard, class, taken, request);
        }
        self.get_reserved_overflow(guard, class, request)
    }

    /// From the system allocator; the bytes are reserved.
    pub(super) fn get_reserved_overflow(
        &self,
        guard: &mut ForkGuard,
        class: &Class,
        request: &Request,
    ) -> Result<Buffer, GetError> {
        let (source, capacity) = self.source_and_capacity(request.size, class.buffer_size());
        let role = Role::Overflow { class: class.number() };
        let (alignment, holder) = (self.alignment, request.holder);
        let buffer = SystemBuffer { role, source, capacity, alignment, holder };
        let got = self.get_system(guard, buffer, request);
        let buffer = got.inspect_err(|_| self.unreserve(guard, class.slot_size()))?;
        class.counters.overflow.fetch_add(1, Relaxed);
        let before = class.counters.overflow_gets.fetch_add(1, Relaxed);
        if before % OFTEN == OFTEN - 1 && self.may_have_spare() {
            self.make_spare(guard);
        }
        Ok(buffer)
    }

    fn may_have_spare(&self) -> bool {
        self.spare().is_none()
            && CAN_SEAL // else all of its region would be memory, for ever
            && self.caches.are_allowed()
            && self.mapped.limit() == usize::MAX
            && self.round.is_none()
    }

    /// Without memory for it, or addresses, overflow goes on as before.
    #[cold]
    fn make_spare(&self, guard: &ForkGuard) {
        let Some(spare) = Spare::new(self) else { return };
        let key = spare.core.own_key();
        // Under the lock of `close`: which finds it, or came before, and then there is none.
        let queue = self.lock_reclaiming(guard);
        let unneeded = if self.is_closed() { Some(spare) } else { self.spare.set(guard, spare).err() };
        drop(queue);
        if unneeded.is_none() {
            self.caches.set_spare_key(key);
        }
    }
}

impl Spare {
    fn new(pool: &Core) -> Option<Box<Self>> {
        // The classes ascend, so that they have the same numbers here. For large buffers the system allocator does.
        let count = pool.classes.partition_point(|class| class.slot_size() <= LARGE);
        if count == 0 {
            return None;
        }
        let slots_of = |class: &Class| {
            let few = MIN_SLOTS.min(MIN_BYTES / class.slot_size());
            (class.capacity() as usize).min(MAX_BYTES / class.slot_size()).max(few)
        };
        let sizes = memory::boxed_slice(count, |class| {
            let class = &pool.classes[class];
            Ok::<_, OutOfMemory>((class.buffer_size(), slots_of(class)))
        });
        let config = Config {
            layout: Layout::new(&sizes.ok()?, pool.alignment, pool.flags.huge_pages).ok()?,
            alignment: pool.alignment,
            max_bytes: usize::MAX,
            round: None,
            flags: pool.flags,
            sampling: Sampling::default(),
        };
        let instrument = Instrument::none(pool.number());
        let core =
            memory::boxed(|| Core::instrumented(config, pool.registration.of_part(), instrument)).ok()?;
        memory::boxed(|| {
            Ok::<_, OutOfMemory>(Self { core, left: [const { AtomicU32::new(0) }; MAX_CLASSES] })
        })
        .ok()
    }

    pub(crate) fn core(&self) -> &Core {
        &self.core
    }

    /// A slot of a class; `None` if all are out.
    fn get(&self, guard: &mut ForkGuard, class: u8, request: &Request) -> Option<Buffer> {
        let class = self.core.classes.get(usize::from(class))?;
        self.attach(guard);
        // Filled below, as in every other case.
        let unfilled = Request { fill: Fill::Anything, ..*request };
        let buffer = match self.core.get_cached(guard, class, &unfilled) {
            Some(buffer) => buffer,
            None => {
                let taken = self.core.take_slot(guard, class).ok()??;
                self.core.hand_out(guard, class, taken, &unfilled).ok()?
            }
        };
        let buffer = Buffer { location: buffer.location.of_spare(), ..buffer };
        fill_spare(buffer, request.fill);
        Some(buffer)
    }

    /// Lets the calling thread cache slots of the spare.
    fn attach(&self, guard: &ForkGuard) {
        self.core.attach(guard, self.core.own_key(), || true);
    }

    /// Takes a slot back, and gives memory to the system if there is more than is kept.
    ///
    /// # Safety
    /// - the slot at `data` was taken from its holder by this thread
    pub(super) unsafe fn put_slot(&self, guard: &ForkGuard, class: u8, slot: u32, data: NonNull<u8>) {
        // SAFETY:
        // - as the caller promised
        unsafe { self.core.put_slot(guard, &self.core.classes[usize::from(class)], slot, data) };
        self.attach(guard);
        self.give_memory_back(guard, class);
    }

    /// Gives idle memory of a class back to the system if there is more than is kept. What shares a page with an
    /// outstanding slot is not tried each time.
    fn give_memory_back(&self, guard: &ForkGuard, class: u8) {
        let (class, left) = (&self.core.classes[usize::from(class)], &self.left[usize::from(class)]);
        let (idle, kept) = (class.shelf.idle(), kept_slots(class));
        // A try looks at all of the class, and each slot put meanwhile may be the last of its page.
        let more = (kept / 4).min(16 + class.capacity() / 512);
        // Relaxed: a hint.
        let least = left.load(Relaxed).min(idle);
        let now = if idle <= kept {
            0
        } else if idle >= least + more {
            self.core.discard_most(guard, class)
        } else {
            least
        };
        left.store(now, Relaxed);
    }
}

/// What a spare's shelf keeps of a class.
fn kept_slots(class: &Class) -> u32 {
    (KEPT_BYTES / class.slot_size()) as u32
}

/// Writes what a buffer that was just got must hold, if it is of the spare: overflow that is not for C reads as zeros.
pub(super) fn fill_spare(buffer: Buffer, fill: Fill) {
    if fill != Fill::Anything && matches!(buffer.location, Location::Spare { .. }) {
        // SAFETY:
        // - just got: this thread's, open, and of this capacity
        unsafe { buffer.data.as_ptr().write_bytes(0, buffer.capacity) };
    }
}
