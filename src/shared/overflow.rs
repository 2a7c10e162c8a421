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

use super::reclaim::Room;
use super::{Buffer, Fill, Place, PutSize, Request, Shared};
use crate::class::Class;
use crate::config::Config;
use crate::error::{GetError, Misuse};
use crate::instrument::Instrument;
use crate::layout::Layout;
use crate::memory;
use crate::region::CAN_SEAL;
use crate::registry::{Role, SystemBuffer};
use crate::size_class::MAX_CLASSES;
use crate::thread_cache::{Block, LARGE};

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
    pool: Shared,
    /// For each class the fewest idle slots there were since memory was last given back; 0 if it need not be.
    left: [AtomicU32; MAX_CLASSES],
}

impl Shared {
    #[inline]
    pub(crate) fn spare(&self) -> Option<&Spare> {
        self.spare.get().map(|spare| &**spare)
    }

    /// The spare, if the address is in its region.
    pub(super) fn spare_at(&self, data: NonNull<u8>) -> Option<&Spare> {
        self.spare().filter(|spare| spare.pool.region.offset_of(data.as_ptr().addr()).is_some())
    }

    /// The pool that has a slot at this address, if any has: this one, or its spare.
    pub(super) fn owner_of(&self, data: NonNull<u8>) -> &Shared {
        self.spare_at(data).map_or(self, |spare| &spare.pool)
    }

    /// What leads a thread to its cache of the spare.
    pub(crate) fn spare_key(&self) -> Option<u64> {
        self.spare().map(|spare| spare.pool.cache_key())
    }

    /// Ends the caches that the calling thread has of this pool, as its thread-locals are torn down.
    pub(crate) fn give_up_caches_of(&self, block: &'static Block) {
        self.give_up_cache(block);
        if let Some(spare) = self.spare() {
            spare.pool.give_up_cache(block);
        }
    }

    /// Ends the cache that the calling thread has of this pool, or of this spare, whose shelf keeps little of it.
    pub(crate) fn give_up_cache(&self, block: &'static Block) {
        self.caches.give_up(block);
        if self.home.is_of_part() {
            let too_many = |class: &&Class| class.shelf.idle() > kept_slots(class);
            self.classes.iter().filter(too_many).for_each(|class| _ = self.discard_most(class));
        }
    }

    /// Of a spare: gives idle memory of a class back to the system, but for half of what is kept; how many slots are
    /// left, those included that share a page with an outstanding one.
    fn discard_most(&self, class: &Class) -> u32 {
        let _reclaiming = self.lock_reclaiming();
        let most = class.shelf.idle().saturating_sub(kept_slots(class) / 2);
        let discarded = class.discard_idle(&self.region, most as usize);
        self.mapped.release(discarded * class.slot_size());
        class.shelf.idle()
    }

    /// The class fits, but all its slots are out.
    #[cold]
    pub(super) fn get_overflow(&self, class_number: usize, request: &Request) -> Result<Buffer, GetError> {
        if let Some(buffer) = self.spare().and_then(|spare| spare.get(class_number, request)) {
            return Ok(buffer);
        }
        let class = &self.classes[class_number];
        if let Room::Idle(slot) = self.make_room(class.slot_size(), Some(class))? {
            let taken = self.keep_idle(class, slot)?;
            return self.hand_out(class_number, taken, request);
        }
        self.get_overflow_in_room(class_number, request)
    }

    /// From the system allocator; the bytes are reserved.
    pub(super) fn get_overflow_in_room(
        &self,
        class_number: usize,
        request: &Request,
    ) -> Result<Buffer, GetError> {
        let class = &self.classes[class_number];
        let (source, capacity) = self.source_and_capacity(request.size, class.buffer_size());
        let role = Role::Overflow { class: class_number as u8 };
        let (alignment, holder) = (self.alignment, request.holder);
        let buffer = SystemBuffer { role, source, capacity, alignment, holder };
        let buffer =
            self.get_system(buffer, request).inspect_err(|_| self.release_room(class.slot_size()))?;
        class.counters.overflow.fetch_add(1, Relaxed);
        let before = class.counters.overflow_gets.fetch_add(1, Relaxed);
        if before % OFTEN == OFTEN - 1 && self.may_have_spare() {
            self.make_spare();
        }
        Ok(buffer)
    }

    fn may_have_spare(&self) -> bool {
        self.spare().is_none()
            && CAN_SEAL // else all of its region would be memory, for ever
            && self.caches.are_allowed()
            && self.mapped.limit() == usize::MAX
            && !self.rounds()
    }

    /// Without memory for it, or addresses, overflow goes on as before.
    #[cold]
    fn make_spare(&self) {
        let Some(spare) = Spare::new(self) else { return };
        // Under the lock of `close`: which finds it, or came before, and then there is none.
        let queue = self.lock_reclaiming();
        let unneeded = if self.is_closed() { Some(spare) } else { self.spare.set(spare).err() };
        drop(queue);
        drop(unneeded);
    }
}

impl Spare {
    fn new(pool: &Shared) -> Option<Box<Self>> {
        let mut classes = [(0, 0); MAX_CLASSES];
        let mut count = 0;
        // The classes ascend, so that they have the same numbers here. For large buffers the system allocator does.
        for class in pool.classes.iter().take_while(|class| class.slot_size() <= LARGE) {
            let few = MIN_SLOTS.min(MIN_BYTES / class.slot_size());
            let slots = (class.capacity() as usize).min(MAX_BYTES / class.slot_size()).max(few);
            classes[count] = (class.buffer_size(), slots);
            count += 1;
        }
        if count == 0 {
            return None;
        }
        let layout = Layout::new(&classes[..count], pool.alignment, pool.flags.huge_pages).ok()?;
        let config = Config {
            layout,
            alignment: pool.alignment,
            max_bytes: usize::MAX,
            round: None,
            flags: pool.flags,
        };
        let instrument = Instrument::none(pool.number());
        let pool = Shared::instrumented(config, pool.home.of_part(), instrument).ok()?;
        memory::boxed(Self { pool, left: [const { AtomicU32::new(0) }; MAX_CLASSES] }).ok()
    }

    pub(crate) fn pool(&self) -> &Shared {
        &self.pool
    }

    /// A slot of a class; `None` if all are out.
    fn get(&self, class: usize, request: &Request) -> Option<Buffer> {
        let slots = self.pool.classes.get(class)?;
        self.pool.attach();
        // Filled below, as in every other case.
        let unfilled = Request { fill: Fill::Anything, ..*request };
        let buffer = match self.pool.get_cached(class, &unfilled) {
            Some(buffer) => buffer,
            None => {
                let taken = self.pool.take_slot(slots).ok()??;
                self.pool.hand_out(class, taken, &unfilled).ok()?
            }
        };
        Some(buffer.of_spare().filled(request.fill))
    }

    /// # Safety
    /// As [`Shared::put`], for a pointer into the spare's region.
    pub(super) unsafe fn put(&self, data: NonNull<u8>, size: PutSize) -> Result<(), Misuse> {
        let foreign = Misuse::ForeignPointer { address: data.as_ptr().addr() };
        let (class, slot) = self.pool.slot_of(data).ok_or(foreign)??;
        // SAFETY:
        // - the caller owns the buffer
        unsafe { self.pool.put_slot(class, slot, data, size)? };
        self.pool.attach();
        self.give_back(self.pool.number_of(class));
        Ok(())
    }

    /// # Safety
    /// As [`Shared::put_owned`], for a slot of the spare.
    pub(super) unsafe fn put_owned(&self, data: NonNull<u8>, class: u8, slot: u32) {
        // SAFETY:
        // - as the caller promised
        unsafe { self.pool.put_owned(data, Place::Slot { class, slot }) };
        self.pool.attach();
        self.give_back(class.into());
    }

    /// Gives idle memory of a class back to the system if there is more than is kept. What shares a page with an
    /// outstanding slot is not tried each time.
    fn give_back(&self, class_number: usize) {
        let (class, left) = (&self.pool.classes[class_number], &self.left[class_number]);
        let (idle, kept) = (class.shelf.idle(), kept_slots(class));
        // A try looks at all of the class, and each slot put meanwhile may be the last of its page.
        let more = (kept / 4).min(16 + class.capacity() / 512);
        // Relaxed: a hint.
        let least = left.load(Relaxed).min(idle);
        let now = if idle <= kept {
            0
        } else if idle >= least + more {
            self.pool.discard_most(class)
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

impl Buffer {
    /// As the pool sees a buffer of its spare.
    pub(crate) fn of_spare(self) -> Self {
        match self.place {
            Place::Slot { class, slot } => Self { place: Place::Spare { class, slot }, ..self },
            Place::Spare { .. } | Place::System => self,
        }
    }

    /// With what it must hold, just got: overflow that is not for C reads as zeros.
    pub(crate) fn filled(self, fill: Fill) -> Self {
        if fill != Fill::Anything && matches!(self.place, Place::Spare { .. }) {
            // SAFETY:
            // - just got: this thread's, open, and of this capacity
            unsafe { self.data.as_ptr().write_bytes(0, self.capacity) };
        }
        self
    }
}
