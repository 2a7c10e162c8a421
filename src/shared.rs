//! What all handles of a pool share, and the story of get and put.
//!
//! ```text
//! get(size) -> size class -> shelf -> (none idle) fresh slot -> (none fresh) overflow
//!                         no class fits -> oversize
//! put(ptr)  -> offset in the region -> chunk gives the class, one multiplication the slot
//!              -> ledger: outstanding -> idle (one compare-exchange) -> shelf
//!              outside the region -> registry of overflow and oversize buffers -> (not there) foreign pointer
//! ```
//!
//! Any thread may call anything at any time. No lock is held while the user's rounding function runs. References are the caller's
//! affair: who calls has one, leaves one to each buffer it gets, and takes one over from each buffer it puts.

use std::ptr::NonNull;
use std::sync::atomic::Ordering::{Acquire, Relaxed, SeqCst};
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::sync::{Mutex, PoisonError};

use crate::anchor::Home;
use crate::class::Class;
use crate::config::{Config, Flags, Rounding};
use crate::error::{BuildError, GetError, Misuse, ReallocError};
use crate::handle::Handles;
use crate::ledger::Holder;
use crate::limit::MappedBytes;
use crate::memory::{self, Content, free_buffer};
use crate::region::Region;
use crate::registry::{Registry, SystemBuffer};
use crate::size_class::SizeClassIndex;
use crate::stats::{PoolCounters, Stats};

/// Everything a pool is, but its handles.
pub(crate) struct Shared {
    index: SizeClassIndex,
    region: Region,
    chunk_shift: u32,
    class_of_chunk: Box<[u8]>,
    /// Ascending by buffer size.
    classes: Box<[Class]>,
    alignment: usize,
    flags: Flags,
    round: Option<Rounding>,
    closed: AtomicBool,

    registry: Registry,
    mapped: MappedBytes,
    /// Held while idle slots are given back to the system: by trim, by close, and by a get at the limit.
    reclaiming: Mutex<()>,
    counters: PoolCounters,

    /// Rust pools and live contexts; at zero the pool closes.
    open_handles: AtomicUsize,
    handles: Handles,
    home: Home,
}

/// Where an outstanding buffer is kept track of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Slot {
        class: u8,
        slot: u32,
    },
    /// In the registry.
    System,
}

/// A buffer just got.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Buffer {
    pub(crate) data: NonNull<u8>,
    pub(crate) capacity: usize,
    pub(crate) place: Place,
}

/// What a buffer must hold when it is handed out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fill {
    /// Whatever was there, for C.
    Anything,
    /// Whatever was there, but initialised: safe Rust may read it.
    Initialised,
    /// Zeros in the first bytes, as many as asked for.
    Zeros,
}

/// The size given with a put.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PutSize {
    Sized(usize),
    /// The caller does not know; the ledger does.
    Unsized,
}

/// A slot taken from a shelf.
struct Taken {
    slot: u32,
    /// It reads as zeros.
    fresh: bool,
}

impl Shared {
    pub(crate) fn new(config: Config, home: Home) -> Result<Self, BuildError> {
        let Config { layout, alignment, max_bytes, round, flags } = config;
        let region = Region::reserve(layout.len, layout.base_alignment)
            .map_err(|source| BuildError::Reserve { bytes: layout.len, source })?;
        if flags.huge_pages {
            region.advise_huge_pages();
        }
        let sizes: Vec<usize> = layout.spans.iter().map(|span| span.buffer_size).collect();
        let classes: Result<Box<[Class]>, _> =
            layout.spans.into_iter().map(|span| Class::new(span, flags.huge_pages)).collect();
        Ok(Self {
            index: SizeClassIndex::new(&sizes),
            region,
            chunk_shift: layout.chunk_shift,
            class_of_chunk: layout.class_of_chunk,
            classes: classes.map_err(|error| BuildError::OutOfMemory { bytes: error.bytes })?,
            alignment,
            flags,
            round,
            closed: AtomicBool::new(false),
            registry: Registry::default(),
            mapped: MappedBytes::new(max_bytes),
            reclaiming: Mutex::new(()),
            counters: PoolCounters::default(),
            open_handles: AtomicUsize::new(1),
            handles: Handles::new(),
            home,
        })
    }

    pub(crate) fn home(&self) -> &Home {
        &self.home
    }

    pub(crate) fn handles(&self) -> &Handles {
        &self.handles
    }

    pub(crate) fn alignment(&self) -> usize {
        self.alignment
    }

    pub(crate) fn is_closed(&self) -> bool {
        // Acquire pairs with the SeqCst swap in `close`.
        self.closed.load(Acquire)
    }

    #[inline]
    fn rounded(&self, size: usize) -> usize {
        match &self.round {
            None => size,
            Some(round) => round(size).max(size),
        }
    }
}

/// Get.
impl Shared {
    /// A buffer of at least `size` bytes for `holder`.
    #[inline]
    pub(crate) fn get(&self, size: usize, holder: Holder, fill: Fill) -> Result<Buffer, GetError> {
        if self.is_closed() {
            return Err(GetError::Closed);
        }
        let rounded = self.rounded(size);
        let Some(class) = self.index.class_of(rounded) else {
            return self.get_oversize(rounded, self.alignment, size, holder, fill);
        };
        match self.take_slot(&self.classes[class])? {
            Some(taken) => Ok(self.hand_out(class, taken, size, holder, fill)),
            None => self.get_overflow(class, size, holder, fill),
        }
    }

    /// As [`get`](Self::get), at a multiple of `alignment` bytes. Above the pool's own alignment it is oversize.
    pub(crate) fn get_aligned(
        &self,
        alignment: usize,
        size: usize,
        holder: Holder,
    ) -> Result<Buffer, GetError> {
        if !alignment.is_power_of_two() {
            return Err(GetError::Alignment { alignment });
        }
        if alignment <= self.alignment {
            return self.get(size, holder, Fill::Anything);
        }
        if self.is_closed() {
            return Err(GetError::Closed);
        }
        self.get_oversize(self.rounded(size), alignment, size, holder, Fill::Anything)
    }

    #[inline]
    fn take_slot(&self, class: &Class) -> Result<Option<Taken>, GetError> {
        match class.shelf.take_idle() {
            Some(slot) => Ok(Some(Taken { slot, fresh: false })),
            None => self.take_fresh(class),
        }
    }

    /// A slot that was never handed out; `None` if all were.
    #[cold]
    fn take_fresh(&self, class: &Class) -> Result<Option<Taken>, GetError> {
        let bytes = class.slot_size();
        while class.shelf.fresh() > 0 {
            if let Room::Idle(slot) = self.make_room(bytes, Some(class))? {
                return Ok(Some(Taken { slot, fresh: false }));
            }
            let Some(slot) = class.shelf.take_fresh() else {
                self.mapped.release(bytes);
                continue;
            };
            if class.open(&self.region, slot).is_err() {
                class.shelf.untake_fresh(slot);
                self.mapped.release(bytes);
                return Err(GetError::OutOfMemory { requested: bytes });
            }
            return Ok(Some(Taken { slot, fresh: true }));
        }
        // Another thread may have put one since.
        Ok(class.shelf.take_idle().map(|slot| Taken { slot, fresh: false }))
    }

    #[inline]
    fn hand_out(&self, class_number: usize, taken: Taken, size: usize, holder: Holder, fill: Fill) -> Buffer {
        let class = &self.classes[class_number];
        let Taken { slot, fresh } = taken;
        class.ledger.set(slot, Some(holder));
        let data = self.region.at(class.offset_of(slot));
        if !fresh && (fill == Fill::Zeros || self.flags.zero_on_get) {
            let bytes = if self.flags.zero_on_get { class.buffer_size() } else { size };
            // SAFETY:
            // - the slot was just taken, so nobody else uses it; it is open and has at least `bytes` bytes
            unsafe { data.as_ptr().write_bytes(0, bytes) };
        }
        Buffer { data, capacity: class.buffer_size(), place: Place::Slot { class: class_number as u8, slot } }
    }

    /// The class fits, but all its slots are out: the system allocator stands in.
    #[cold]
    fn get_overflow(
        &self,
        class_number: usize,
        size: usize,
        holder: Holder,
        fill: Fill,
    ) -> Result<Buffer, GetError> {
        let class = &self.classes[class_number];
        if let Room::Idle(slot) = self.make_room(class.slot_size(), Some(class))? {
            return Ok(self.hand_out(class_number, Taken { slot, fresh: false }, size, holder, fill));
        }
        let buffer = SystemBuffer {
            class: Some(class_number as u8),
            capacity: class.buffer_size(),
            alignment: self.alignment,
            holder,
        };
        let buffer = self.get_system(buffer, class.slot_size(), fill)?;
        class.counters.overflow.fetch_add(1, Relaxed);
        class.counters.overflow_gets.fetch_add(1, Relaxed);
        Ok(buffer)
    }

    /// Larger than the largest class, or aligned more strictly than the pool.
    #[cold]
    fn get_oversize(
        &self,
        capacity: usize,
        alignment: usize,
        size: usize,
        holder: Holder,
        fill: Fill,
    ) -> Result<Buffer, GetError> {
        debug_assert!(capacity >= size);
        if capacity > isize::MAX as usize - alignment {
            return Err(GetError::OutOfMemory { requested: capacity });
        }
        self.make_room(capacity, None)?;
        let buffer =
            self.get_system(SystemBuffer { class: None, capacity, alignment, holder }, capacity, fill)?;
        self.counters.oversize_bytes.fetch_add(capacity, Relaxed);
        self.counters.oversize_buffers.fetch_add(1, Relaxed);
        self.counters.oversize_gets.fetch_add(1, Relaxed);
        Ok(buffer)
    }

    /// `reserved` bytes were reserved for it.
    fn get_system(&self, buffer: SystemBuffer, reserved: usize, fill: Fill) -> Result<Buffer, GetError> {
        let zeros = fill != Fill::Anything || self.flags.zero_on_get;
        let content = if zeros { Content::Zeros } else { Content::Anything };
        let data = self.registry.allocate(buffer, content).map_err(|_| {
            self.mapped.release(reserved);
            GetError::OutOfMemory { requested: buffer.capacity }
        })?;
        Ok(Buffer { data, capacity: buffer.capacity, place: Place::System })
    }
}

/// How [`Shared::make_room`] found a way.
enum Room {
    /// The bytes are reserved.
    Reserved,
    /// An idle slot of the wanted class turned up and was taken instead.
    Idle(u32),
}

/// At the limit.
impl Shared {
    #[inline]
    fn make_room(&self, bytes: usize, class: Option<&Class>) -> Result<Room, GetError> {
        if self.mapped.try_reserve(bytes) { Ok(Room::Reserved) } else { self.reclaim_room(bytes, class) }
    }

    /// Takes an idle slot of the wanted class, or gives up idle slots of others, or fails.
    #[cold]
    fn reclaim_room(&self, bytes: usize, class: Option<&Class>) -> Result<Room, GetError> {
        let _reclaiming = self.reclaiming.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some(slot) = class.and_then(|class| class.shelf.take_idle()) {
                return Ok(Room::Idle(slot));
            }
            if self.mapped.try_reserve(bytes) {
                return Ok(Room::Reserved);
            }
            let (limit, mapped) = (self.mapped.limit(), self.mapped.get());
            let missing = mapped.saturating_add(bytes).saturating_sub(limit);
            // Nothing is given up for a request that can never fit.
            if bytes > limit || self.discard_idle(Discard::AtLeast(missing)) == 0 {
                self.counters.limit_failures.fetch_add(1, Relaxed);
                return Err(GetError::Limit { limit, mapped, requested: bytes });
            }
        }
    }

    /// Gives idle slots back to the system, largest classes first; the bytes by which `mapped` fell. The caller holds `reclaiming`.
    fn discard_idle(&self, wanted: Discard) -> usize {
        let mut discarded = 0;
        for class in self.classes.iter().rev() {
            let slots = match wanted {
                Discard::AtLeast(bytes) if discarded >= bytes => break,
                // Not limited to what is missing: small slots only go with all others on their page.
                Discard::AtLeast(_) => class.shelf.idle() as usize,
                Discard::AtMost(bytes) => (bytes - discarded) / class.slot_size(),
            };
            let bytes = class.discard_idle(&self.region, slots) * class.slot_size();
            self.mapped.release(bytes);
            discarded += bytes;
        }
        discarded
    }
}

/// How much [`Shared::discard_idle`] gives back, in bytes.
#[derive(Clone, Copy)]
enum Discard {
    AtLeast(usize),
    AtMost(usize),
}

/// Put.
impl Shared {
    /// Takes an outstanding raw buffer back. On success the caller takes over the buffer's reference; on misuse nothing changed but its count.
    ///
    /// # Safety
    /// - if `data` is an outstanding buffer of this pool, the caller owns it and nobody uses it any more
    #[inline]
    pub(crate) unsafe fn put(&self, data: NonNull<u8>, size: PutSize) -> Result<(), Misuse> {
        match self.slot_of(data) {
            // SAFETY:
            // - the caller owns the buffer
            Some(Ok((class, slot))) => unsafe { self.put_slot(class, slot, data, size) },
            Some(Err(misuse)) => Err(misuse),
            // SAFETY: as above
            None => unsafe { self.put_system(data, size) },
        }
        .inspect_err(|misuse| self.counters.count(misuse))
    }

    /// Takes the buffer of a `PooledBuffer` back. The caller takes over its reference.
    ///
    /// # Safety
    /// - `data` and `place` are of an outstanding buffer of this pool held as [`Holder::Owned`], which the caller owns
    #[inline]
    pub(crate) unsafe fn put_owned(&self, data: NonNull<u8>, place: Place) {
        match place {
            Place::Slot { class: number, slot } => {
                let class = &self.classes[usize::from(number)];
                debug_assert_eq!(class.ledger.holder(slot), Some(Holder::Owned));
                class.ledger.set(slot, None);
                // SAFETY:
                // - the ledger says idle now, and nobody else could have changed it: the slot is this thread's
                unsafe { self.shelve(class, slot, data) };
            }
            Place::System => {
                let removed = self.registry.remove(data.as_ptr().addr(), |_| Ok::<_, Misuse>(()));
                if let Some(Ok(buffer)) = removed {
                    // SAFETY:
                    // - just removed from the registry, so this thread alone has it
                    unsafe { self.free_system(data, buffer) };
                }
            }
        }
    }

    /// The class and slot that start at `data`: `None` outside the region, an error inside it where no slot starts.
    #[inline]
    fn slot_of(&self, data: NonNull<u8>) -> Option<Result<(&Class, u32), Misuse>> {
        let address = data.as_ptr().addr();
        let offset = self.region.offset_of(address)?;
        let class = &self.classes[usize::from(self.class_of_chunk[offset >> self.chunk_shift])];
        Some(class.slot_at(offset).map(|slot| (class, slot)).ok_or(Misuse::ForeignPointer { address }))
    }

    /// # Safety
    /// As [`put`](Self::put), for the buffer at this slot.
    #[inline]
    unsafe fn put_slot(
        &self,
        class: &Class,
        slot: u32,
        data: NonNull<u8>,
        size: PutSize,
    ) -> Result<(), Misuse> {
        match size {
            PutSize::Sized(size)
                if size <= class.buffer_size() && class.ledger.pass(slot, Holder::Raw(size), None) => {}
            _ => self.pass_inexact(class, slot, data, size, None)?,
        }
        // SAFETY:
        // - this thread's exchange took the slot from its holder: it is this thread's
        unsafe { self.shelve(class, slot, data) };
        Ok(())
    }

    /// Passes a slot whose size was not given, or was not the one asked for, to another holder.
    #[cold]
    fn pass_inexact(
        &self,
        class: &Class,
        slot: u32,
        data: NonNull<u8>,
        size: PutSize,
        to: Option<Holder>,
    ) -> Result<(), Misuse> {
        let same_class = self.is_of_class(class, size);
        loop {
            let found = class.ledger.holder(slot);
            check_put(found, data, size, same_class, class.buffer_size())?;
            if found.is_some_and(|found| class.ledger.pass(slot, found, to)) {
                return Ok(());
            }
        }
    }

    /// Whether a get of this size would come from `class`. Runs the user's rounding.
    fn is_of_class(&self, class: &Class, size: PutSize) -> bool {
        match size {
            PutSize::Sized(size) => self
                .index
                .class_of(self.rounded(size))
                .is_some_and(|number| self.classes[number].buffer_size() == class.buffer_size()),
            PutSize::Unsized => true,
        }
    }

    /// Counts a put and lays the slot on the shelf.
    ///
    /// # Safety
    /// - the slot at `data` was taken from its holder by this thread
    #[inline]
    unsafe fn shelve(&self, class: &Class, slot: u32, data: NonNull<u8>) {
        if self.flags.zero_on_put {
            // SAFETY:
            // - the slot is open, of at least this size, and this thread's (caller)
            unsafe { memory::wipe(data, class.buffer_size()) };
        }
        class.counters.puts.fetch_add(1, Relaxed);
        class.shelf.put(slot);
        // SeqCst: the order against `close` is told in `Shelf::put`.
        if self.closed.load(SeqCst) {
            self.discard_after_close(class, slot);
        }
    }

    #[cold]
    fn discard_after_close(&self, class: &Class, slot: u32) {
        let _reclaiming = self.reclaiming.lock().unwrap_or_else(PoisonError::into_inner);
        self.mapped.release(class.discard_around(&self.region, slot) * class.slot_size());
    }

    /// # Safety
    /// As [`put`](Self::put).
    #[cold]
    unsafe fn put_system(&self, data: NonNull<u8>, size: PutSize) -> Result<(), Misuse> {
        let address = data.as_ptr().addr();
        // The rounding function is the user's: it runs before the registry's lock is taken.
        let classes: u64 = self.classes_of(size);
        let check = |buffer: &SystemBuffer| {
            let same_class = buffer.class.is_some_and(|class| classes & 1 << class != 0);
            check_put(Some(buffer.holder), data, size, same_class, buffer.capacity)
        };
        let buffer = self.registry.remove(address, check).ok_or(Misuse::ForeignPointer { address })??;
        // SAFETY:
        // - just removed from the registry, so this thread alone has it
        unsafe { self.free_system(data, buffer) };
        Ok(())
    }

    /// A bit for each class that a put of this size may be for.
    fn classes_of(&self, size: PutSize) -> u64 {
        match size {
            PutSize::Sized(size) => self.index.class_of(self.rounded(size)).map_or(0, |class| 1 << class),
            PutSize::Unsized => u64::MAX,
        }
    }

    /// # Safety
    /// - `data` is a system buffer that this thread just removed from the registry
    unsafe fn free_system(&self, data: NonNull<u8>, buffer: SystemBuffer) {
        let SystemBuffer { class, capacity, alignment, .. } = buffer;
        if self.flags.zero_on_put {
            // SAFETY:
            // - the buffer has this capacity, and is this thread's
            unsafe { memory::wipe(data, capacity) };
        }
        // SAFETY:
        // - allocated with these figures (the registry keeps them), and out of the registry: freed once
        unsafe { free_buffer(data, capacity, alignment) };
        match class {
            Some(class) => {
                let class = &self.classes[usize::from(class)];
                class.counters.puts.fetch_add(1, Relaxed);
                class.counters.overflow.fetch_sub(1, Relaxed);
                self.mapped.release(class.slot_size());
            }
            None => {
                self.counters.oversize_bytes.fetch_sub(capacity, Relaxed);
                self.counters.oversize_buffers.fetch_sub(1, Relaxed);
                self.mapped.release(capacity);
            }
        }
    }
}

/// Whether a put of `size` may take a buffer from the holder that was found.
fn check_put(
    found: Option<Holder>,
    data: NonNull<u8>,
    size: PutSize,
    same_class: bool,
    buffer_size: usize,
) -> Result<(), Misuse> {
    let address = data.as_ptr().addr();
    match (found, size) {
        (None | Some(Holder::Owned), _) => Err(Misuse::DoublePut { address, buffer_size }),
        (Some(Holder::Raw(_)), PutSize::Unsized) => Ok(()),
        (Some(Holder::Raw(requested)), PutSize::Sized(size)) if size == requested || same_class => Ok(()),
        (Some(Holder::Raw(requested)), PutSize::Sized(size)) => {
            Err(Misuse::SizeMismatch { address, size, requested, buffer_size })
        }
    }
}

/// Outstanding buffers that change hands, and questions about them.
impl Shared {
    /// Passes an outstanding raw buffer to a `PooledBuffer`, which takes over its reference too.
    ///
    /// # Safety
    /// As [`put`](Self::put).
    pub(crate) unsafe fn adopt(&self, data: NonNull<u8>, size: usize) -> Result<Buffer, Misuse> {
        self.adopt_unchecked(data, PutSize::Sized(size)).inspect_err(|misuse| self.counters.count(misuse))
    }

    fn adopt_unchecked(&self, data: NonNull<u8>, size: PutSize) -> Result<Buffer, Misuse> {
        let address = data.as_ptr().addr();
        if let Some(found) = self.slot_of(data) {
            let (class, slot) = found?;
            self.pass_inexact(class, slot, data, size, Some(Holder::Owned))?;
            return Ok(Buffer { data, capacity: class.buffer_size(), place: self.place_of(class, slot) });
        }
        let classes = self.classes_of(size);
        let check = |buffer: &SystemBuffer| {
            let same_class = buffer.class.is_some_and(|class| classes & 1 << class != 0);
            check_put(Some(buffer.holder), data, size, same_class, buffer.capacity).map(|()| Holder::Owned)
        };
        let buffer = self.registry.update(address, check).ok_or(Misuse::ForeignPointer { address })??;
        Ok(Buffer { data, capacity: buffer.capacity, place: Place::System })
    }

    fn place_of(&self, class: &Class, slot: u32) -> Place {
        let class = usize::from(self.class_of_chunk[class.offset_of(slot) >> self.chunk_shift]);
        Place::Slot { class: class as u8, slot }
    }

    /// Passes the buffer of a `PooledBuffer` to the owner of a raw pointer, as if asked for with `size` bytes (at most its capacity).
    ///
    /// # Safety
    /// As [`put_owned`](Self::put_owned).
    pub(crate) unsafe fn release_owned(&self, data: NonNull<u8>, place: Place, size: usize) {
        match place {
            Place::Slot { class, slot } => {
                self.classes[usize::from(class)].ledger.set(slot, Some(Holder::Raw(size)));
            }
            Place::System => {
                self.registry.update(data.as_ptr().addr(), |_| Ok::<_, Misuse>(Holder::Raw(size)));
            }
        }
    }

    /// Who holds the buffer that starts at `data`, and its capacity in bytes; `None` if it is not outstanding here.
    pub(crate) fn find(&self, data: NonNull<u8>) -> Option<(Holder, usize)> {
        match self.slot_of(data) {
            Some(Ok((class, slot))) => Some((class.ledger.holder(slot)?, class.buffer_size())),
            Some(Err(_)) => None,
            None => self.registry.find(data.as_ptr().addr()).map(|buffer| (buffer.holder, buffer.capacity)),
        }
    }

    /// Makes an outstanding raw buffer one of `new_size` bytes: in place within its class, else in a new buffer with the old one's bytes, as many as both
    /// have. The outcome says whether a new buffer, with a reference of its own, took the place of the old, whose reference the caller takes over.
    ///
    /// # Safety
    /// As [`put`](Self::put).
    pub(crate) unsafe fn realloc(&self, data: NonNull<u8>, new_size: usize) -> Result<Realloc, ReallocError> {
        let (old_size, capacity) = self.find_raw(data).inspect_err(|misuse| self.counters.count(misuse))?;
        if self.is_closed() {
            return Err(GetError::Closed.into());
        }
        if let Some(Ok((class, slot))) = self.slot_of(data)
            && self.is_of_class(class, PutSize::Sized(new_size))
            && class.ledger.pass(slot, Holder::Raw(old_size), Some(Holder::Raw(new_size)))
        {
            return Ok(Realloc::InPlace);
        }
        let new = self.get(new_size, Holder::Raw(new_size), Fill::Anything)?;
        let bytes = old_size.min(capacity).min(new_size);
        // SAFETY:
        // - the old buffer is outstanding and the caller's, with at least `old_size` bytes
        // - the new one has at least `new_size`, and is another
        unsafe { new.data.copy_from_nonoverlapping(data, bytes) };
        // SAFETY:
        // - the caller owns the old buffer
        match unsafe { self.put(data, PutSize::Sized(old_size)) } {
            Ok(()) => Ok(Realloc::Moved(new.data)),
            Err(misuse) => {
                // Another thread put the old buffer meanwhile: give the new one back as well.
                // SAFETY:
                // - got above and handed to nobody
                let undone = unsafe { self.put(new.data, PutSize::Sized(new_size)) };
                debug_assert!(undone.is_ok());
                Err(misuse.into())
            }
        }
    }

    fn find_raw(&self, data: NonNull<u8>) -> Result<(usize, usize), Misuse> {
        let address = data.as_ptr().addr();
        match self.find(data) {
            Some((Holder::Raw(size), capacity)) => Ok((size, capacity)),
            Some((Holder::Owned, buffer_size)) => Err(Misuse::DoublePut { address, buffer_size }),
            None => match self.slot_of(data) {
                Some(Ok((class, _))) => Err(Misuse::DoublePut { address, buffer_size: class.buffer_size() }),
                _ => Err(Misuse::ForeignPointer { address }),
            },
        }
    }
}

/// What [`Shared::realloc`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Realloc {
    InPlace,
    Moved(NonNull<u8>),
}

/// Closing, trimming, statistics.
impl Shared {
    /// Refuses gets from now on and gives idle memory back. Outstanding buffers stay good and may be put. Again has no effect.
    pub(crate) fn close(&self) {
        // SeqCst: the order against puts is told in `Shelf::put`.
        if !self.closed.swap(true, SeqCst) {
            self.trim(0);
        }
    }

    /// Gives idle slots back to the system until at most `keep_idle_bytes` are left; the bytes by which `mapped_bytes` fell.
    pub(crate) fn trim(&self, keep_idle_bytes: usize) -> usize {
        let _reclaiming = self.reclaiming.lock().unwrap_or_else(PoisonError::into_inner);
        let idle: usize =
            self.classes.iter().map(|class| class.shelf.idle() as usize * class.slot_size()).sum();
        self.discard_idle(Discard::AtMost(idle.saturating_sub(keep_idle_bytes)))
    }

    pub(crate) fn stats(&self) -> Stats {
        Stats::of(&self.classes, &self.counters, self.mapped.get(), self.mapped.limit())
    }

    /// A handle more.
    pub(crate) fn open_handle(&self) {
        // Relaxed: the handle that is copied keeps the pool open meanwhile.
        self.open_handles.fetch_add(1, Relaxed);
    }

    /// A handle less; the last one's end closes the pool.
    pub(crate) fn close_handle(&self) {
        // SeqCst: what other handles did comes before the closing.
        if self.open_handles.fetch_sub(1, SeqCst) == 1 {
            self.close();
        }
    }
}
