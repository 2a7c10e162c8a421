//! Misuse of raw pointers: refused, counted by its kind, and nothing else changes.
//!
//! Every refusal is checked the same way, by [`Scene::refuses`]: figures, usable sizes and contents before
//! and after.

use std::ptr::NonNull;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Barrier, Mutex};

use bytepool::{Misuse, Pool, PooledBuffer, ReallocError};

const SMALL: usize = 100;
const LARGE: usize = 1000;
const OVERSIZE: usize = 3000;

/// Whether classes have room beyond their capacities here, so that overflow is slots; else the system allocator serves it.
const HAS_ROOM: bool = cfg!(all(unix, not(bytepool_portable)));

/// The ways that a get can go, by the size, the pool and the number of gets that lead there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Slot,
    Overflow,
    /// Of a pinned pool, whose classes have no room beyond their capacities.
    SystemOverflow,
    Oversize,
}

impl Kind {
    const ALL: [Self; 4] = [Self::Slot, Self::Overflow, Self::SystemOverflow, Self::Oversize];

    fn overflows(self) -> bool {
        matches!(self, Self::Overflow | Self::SystemOverflow)
    }

    /// Whether it keeps its ledger entry once it was put; a system buffer leaves no trace.
    fn is_slot(self) -> bool {
        self == Self::Slot || self == Self::Overflow && HAS_ROOM
    }

    fn size(self) -> usize {
        if self == Self::Oversize { OVERSIZE } else { LARGE - 1 }
    }

    fn capacity(self) -> usize {
        if self == Self::Oversize { OVERSIZE } else { LARGE }
    }
}

/// A raw buffer and what it is filled with.
#[derive(Clone, Copy)]
struct Witness {
    data: NonNull<u8>,
    size: usize,
    mark: u8,
}

/// A pool with outstanding buffers of every kind, each filled with a mark of its own.
struct Scene {
    pool: Pool,
    witnesses: Vec<Witness>,
}

impl Scene {
    /// With classes so small that they overflow soon, and threads cache few slots of them.
    fn new() -> Self {
        Self::of(Kind::Slot)
    }

    /// The same where a buffer of this kind can be got.
    fn of(kind: Kind) -> Self {
        let builder = Pool::builder().size_class(SMALL, 2).size_class(LARGE, 4);
        Self::with_pool(builder.pinned(kind == Kind::SystemOverflow).build().unwrap())
    }

    /// With classes so large that this thread caches slots of them, which it has already.
    fn cached() -> Self {
        let pool = Pool::builder().size_class(SMALL, 400).size_class(LARGE, 400).build().unwrap();
        for size in [SMALL, LARGE].repeat(3) {
            drop([0; 50].map(|_| pool.get(size).unwrap()));
        }
        Self::with_pool(pool)
    }

    /// Each kind of buffer in all scenes that can have it.
    fn all() -> impl Iterator<Item = (Kind, Self)> {
        let small = Kind::ALL.into_iter().map(|kind| (kind, Self::of(kind)));
        small.chain([Kind::Slot, Kind::Oversize].into_iter().map(|kind| (kind, Self::cached())))
    }

    fn with_pool(pool: Pool) -> Self {
        let mut this = Self { pool, witnesses: Vec::new() };
        for size in [SMALL, 1, LARGE, LARGE - 1, OVERSIZE] {
            let data = this.get(size);
            this.witnesses.push(Witness { data, size, mark: 0x10 + this.witnesses.len() as u8 });
        }
        for &Witness { data, mark, .. } in &this.witnesses {
            this.fill(data, mark);
        }
        this
    }

    fn get(&self, size: usize) -> NonNull<u8> {
        self.pool.get_raw(size).unwrap()
    }

    /// A buffer of this kind; enough gets of its class are made that the pool has no other.
    fn get_kind(&mut self, kind: Kind) -> NonNull<u8> {
        let mark = 0x70;
        while kind.overflows() && self.pool.stats().classes[1].outstanding < 4 {
            let data = self.get(LARGE);
            self.fill(data, mark);
            self.witnesses.push(Witness { data, size: LARGE, mark });
        }
        let before = self.pool.stats();
        let data = self.get(kind.size());
        let after = self.pool.stats();
        assert_eq!(after.oversize_buffers - before.oversize_buffers, usize::from(kind == Kind::Oversize));
        let overflow = after.classes[1].overflow - before.classes[1].overflow;
        assert_eq!(overflow, usize::from(kind.overflows()));
        data
    }

    fn fill(&self, data: NonNull<u8>, mark: u8) {
        let bytes = self.pool.usable_size(data);
        // SAFETY:
        // - callers pass an outstanding buffer of theirs, which has this many bytes
        unsafe { data.as_ptr().write_bytes(mark, bytes) };
    }

    fn holds(&self, data: NonNull<u8>, mark: u8, bytes: usize) -> bool {
        // SAFETY:
        // - callers pass memory that is outstanding, or a slot, and was filled before
        unsafe { std::slice::from_raw_parts(data.as_ptr(), bytes) }.iter().all(|&byte| byte == mark)
    }

    /// Tries a put and an adoption that must both be refused, and checks that nothing but their count
    /// changed.
    fn refuses(&self, data: NonNull<u8>, size: usize) -> Misuse {
        // SAFETY:
        // - if this were accepted, the test would fail
        let put = || unsafe { self.pool.put_raw(data, size) }.expect_err("a put that is misuse was accepted");
        let adopt = || {
            // SAFETY:
            // - if this were accepted, the test would fail
            let adopted = unsafe { PooledBuffer::from_raw(&self.pool, data, size) };
            adopted.map(PooledBuffer::into_raw).expect_err("an adoption that is misuse was accepted")
        };
        let misuse = self.refuses_once(data, put);
        assert_eq!(self.refuses_once(data, adopt), misuse, "put and from_raw judge alike");
        misuse
    }

    fn refuses_once(&self, data: NonNull<u8>, attempt: impl Fn() -> Misuse) -> Misuse {
        let usable = self.pool.usable_size(data);
        let mut expected = self.pool.stats();
        expected.assert_consistent();

        let misuse = attempt();

        match misuse {
            Misuse::DoublePut { .. } => expected.double_puts += 1,
            Misuse::SizeMismatch { .. } => expected.size_mismatches += 1,
            Misuse::ForeignPointer { .. } => expected.foreign_pointers += 1,
            _ => panic!("a kind of misuse that this test does not know: {misuse:?}"),
        }
        assert_eq!(self.pool.stats(), expected, "{misuse}");
        assert_eq!(self.pool.usable_size(data), usable, "{misuse}");
        let address = format!("{:#x}", data.as_ptr().addr());
        assert!(misuse.to_string().contains(&address), "{misuse} does not name {address}");
        for witness in &self.witnesses {
            let bytes = self.pool.usable_size(witness.data);
            assert!(bytes >= witness.size && self.holds(witness.data, witness.mark, bytes), "{misuse}");
        }
        misuse
    }

    fn put(&self, data: NonNull<u8>, size: usize) {
        // SAFETY:
        // - callers put buffers of theirs, which nobody uses any more
        unsafe { self.pool.put_raw(data, size) }.unwrap();
    }

    /// The end of every test: all that is outstanding can still be put, and then nothing is.
    fn end(self) {
        self.witnesses.iter().for_each(|witness| self.put(witness.data, witness.size));
        let stats = self.pool.stats();
        stats.assert_consistent();
        assert!(stats.classes.iter().all(|class| class.outstanding + class.overflow == 0));
        assert_eq!((stats.oversize_buffers, stats.gets), (0, stats.puts));
    }
}

fn foreign(data: NonNull<u8>) -> Misuse {
    Misuse::ForeignPointer { address: data.as_ptr().addr() }
}

#[test]
fn a_buffer_put_twice_is_refused_and_keeps_its_content_and_its_place() {
    for scene in [Scene::new(), Scene::cached()] {
        put_twice(scene);
    }
}

fn put_twice(scene: Scene) {
    let idle = scene.pool.stats().classes[1].idle;
    let data = scene.get(LARGE);
    scene.fill(data, 0x42);
    scene.put(data, LARGE);
    let double = Misuse::DoublePut { address: data.as_ptr().addr(), buffer_size: LARGE };
    for size in [LARGE, LARGE - 1, SMALL, 0, OVERSIZE, usize::MAX] {
        assert_eq!(scene.refuses(data, size), double);
    }
    assert!(scene.holds(data, 0x42, LARGE), "the idle slot was written");
    assert_eq!(scene.pool.stats().classes[1].idle, idle.max(1));
    let (again, another) = (scene.get(LARGE), scene.get(LARGE));
    assert!(again == data && another != data, "one slot, one owner");
    scene.put(again, LARGE);
    scene.put(another, LARGE);
    scene.end();
}

#[test]
fn a_system_buffer_put_twice_is_no_buffer_of_the_pool_any_more() {
    for kind in Kind::ALL.into_iter().filter(|kind| !kind.is_slot()) {
        let mut scene = Scene::of(kind);
        let data = scene.get_kind(kind);
        scene.put(data, kind.size());
        assert_eq!(scene.refuses(data, kind.size()), foreign(data), "{kind:?}");
        scene.end();
    }
}

#[test]
fn a_slot_that_was_never_handed_out_cannot_be_put() {
    let scene = Scene::new();
    // Slots of a class follow one another: the third and fourth of `LARGE` are fresh.
    let second = scene.witnesses[3].data;
    let slot_size = scene.pool.stats().classes[1].slot_size;
    // SAFETY:
    // - still inside the region, which reserves all four slots
    let third = unsafe { second.add(slot_size) };
    let double = Misuse::DoublePut { address: third.as_ptr().addr(), buffer_size: LARGE };
    assert_eq!(scene.refuses(third, LARGE), double);
    assert_eq!(scene.pool.stats().classes[1].touched, 2);
    scene.end();
}

#[test]
fn a_put_with_the_size_of_another_class_is_refused_and_the_right_one_then_accepted() {
    for (kind, mut scene) in Scene::all() {
        let data = scene.get_kind(kind);
        scene.fill(data, 0x42);
        let wrong: &[usize] = match kind {
            // Of an oversize buffer only the exact size is right.
            Kind::Oversize => &[OVERSIZE - 1, OVERSIZE + 1, LARGE, SMALL, 0, usize::MAX],
            _ => &[SMALL, 1, 0, LARGE + 1, OVERSIZE, u32::MAX as usize, 1 << 32, usize::MAX],
        };
        for &size in wrong {
            let address = data.as_ptr().addr();
            let (requested, buffer_size) = (kind.size(), kind.capacity());
            let mismatch = Misuse::SizeMismatch { address, size, requested, buffer_size };
            assert_eq!(scene.refuses(data, size), mismatch, "{kind:?}");
            assert_eq!(mismatch.buffer_size(), buffer_size);
        }
        assert!(scene.holds(data, 0x42, kind.capacity()), "{kind:?} was written");
        scene.put(data, kind.size());
        scene.end();
    }
}

#[test]
fn sizes_that_differ_by_4_gib_are_told_apart() {
    // The ledger keeps sizes in 32 bits.
    for (kind, mut scene) in Scene::all() {
        let data = scene.get_kind(kind);
        for size in [kind.size() + (1 << 32), kind.size().wrapping_sub(1 << 32)] {
            assert!(matches!(scene.refuses(data, size), Misuse::SizeMismatch { .. }), "{kind:?} {size}");
        }
        scene.put(data, kind.size());
        scene.end();
    }
}

#[test]
fn every_size_of_the_same_class_puts_a_buffer_and_no_other() {
    for scene in [Scene::new(), Scene::cached()] {
        put_with_every_size(scene);
    }
}

fn put_with_every_size(scene: Scene) {
    for got in [SMALL + 1, 500, LARGE] {
        for size in (0..=LARGE + 200).step_by(7).chain([SMALL, SMALL + 1, LARGE, LARGE + 1]) {
            let data = scene.get(got);
            // SAFETY:
            // - this test's buffer
            let accepted = unsafe { scene.pool.put_raw(data, size) }.is_ok();
            assert_eq!(accepted, (SMALL + 1..=LARGE).contains(&size), "got with {got}, put with {size}");
            if !accepted {
                scene.put(data, got);
            }
        }
    }
    scene.end();
}

#[test]
fn a_pointer_into_a_buffer_is_refused() {
    for (kind, mut scene) in Scene::all() {
        let data = scene.get_kind(kind);
        scene.fill(data, 0x42);
        for offset in [1, 8, 63, 64, 128, 512, kind.size() - 1] {
            // SAFETY:
            // - inside the buffer
            let interior = unsafe { data.add(offset) };
            for size in [kind.size(), kind.size() - offset, 0] {
                assert_eq!(scene.refuses(interior, size), foreign(interior), "{kind:?}");
            }
        }
        assert!(scene.holds(data, 0x42, kind.capacity()), "{kind:?} was written");
        scene.put(data, kind.size());
        scene.end();
    }
}

#[test]
fn a_pointer_between_the_spans_or_past_the_last_slot_is_refused() {
    let scene = Scene::new();
    let first_of = |witness: usize| scene.witnesses[witness].data;
    for (first, class) in [(first_of(0), 0), (first_of(2), 1)] {
        let class = scene.pool.stats().classes[class];
        // A span is whole chunks of 64 KiB at least, which these slots are not.
        let room = if HAS_ROOM { (64 << 20) / class.slot_size } else { 0 };
        let past = (class.capacity + room) * class.slot_size;
        let past = NonNull::new(first.as_ptr().wrapping_add(past)).unwrap();
        assert_eq!(scene.refuses(past, class.buffer_size), foreign(past));
        let before = NonNull::new(first.as_ptr().wrapping_sub(64)).unwrap();
        assert_eq!(scene.refuses(before, class.buffer_size), foreign(before));
    }
    scene.end();
}

#[test]
fn pointers_that_no_pool_gave_out_are_refused() {
    let scene = Scene::new();
    let mut on_stack = [0x42u8; LARGE];
    let mut on_heap = vec![0x42u8; LARGE];
    let constant: &'static [u8] = b"a constant";
    let strays = [
        NonNull::from(&mut on_stack).cast::<u8>(),
        NonNull::new(on_heap.as_mut_ptr()).unwrap(),
        NonNull::new(constant.as_ptr().cast_mut()).unwrap(),
        NonNull::dangling(),
        NonNull::new(std::ptr::without_provenance_mut(usize::MAX)).unwrap(),
        NonNull::new(std::ptr::without_provenance_mut(1 << 47)).unwrap(),
    ];
    for stray in strays {
        for size in [0, 1, SMALL, LARGE, OVERSIZE, usize::MAX] {
            assert_eq!(scene.refuses(stray, size), foreign(stray));
            assert_eq!(foreign(stray).buffer_size(), 0, "no owner here");
        }
    }
    assert_eq!((on_stack, on_heap), ([0x42; LARGE], vec![0x42; LARGE]));
    scene.end();
}

#[test]
fn another_pools_buffer_is_refused_and_stays_that_pools() {
    for (kind, mut other) in Scene::all() {
        let scene = Scene::new();
        let data = other.get_kind(kind);
        other.fill(data, 0x42);
        let before = other.pool.stats();
        assert_eq!(scene.refuses(data, kind.size()), foreign(data), "{kind:?}");
        assert_eq!(other.pool.stats(), before, "{kind:?}: the owner did not notice");
        assert!(other.holds(data, 0x42, kind.capacity()), "{kind:?}");
        other.put(data, kind.size());
        scene.end();
        other.end();
    }
}

#[test]
fn a_buffer_that_a_pooled_buffer_owns_cannot_be_put_until_it_is_released() {
    for (kind, mut scene) in Scene::all() {
        let raw = scene.get_kind(kind);
        scene.fill(raw, 0x42);
        // SAFETY:
        // - this test's buffer, all of it written above
        let buffer = unsafe { PooledBuffer::from_raw(&scene.pool, raw, kind.size()) }.unwrap();
        let double = Misuse::DoublePut { address: raw.as_ptr().addr(), buffer_size: kind.capacity() };
        // u32::MAX - 1 is the size whose ledger entry would be the mark of a `PooledBuffer`.
        for size in [kind.size(), kind.capacity(), 0, u32::MAX as usize - 1, u32::MAX as usize, usize::MAX] {
            assert_eq!(scene.refuses(raw, size), double, "{kind:?}");
        }
        assert!(buffer.iter().all(|&byte| byte == 0x42), "{kind:?}");
        let (data, size) = buffer.into_raw();
        assert_eq!((data, size), (raw, kind.size()));
        scene.put(data, size);
        scene.end();
    }
}

#[test]
fn a_pooled_buffer_from_safe_code_cannot_be_put_through_its_pointer() {
    for kind in Kind::ALL {
        let mut scene = Scene::of(kind);
        while kind.overflows() && scene.pool.stats().classes[1].outstanding < 4 {
            let data = scene.get(LARGE);
            scene.fill(data, 0x70);
            scene.witnesses.push(Witness { data, size: LARGE, mark: 0x70 });
        }
        let mut buffer = scene.pool.get(kind.size()).unwrap();
        buffer.fill(0x42);
        let data = NonNull::new(buffer.as_mut_ptr()).unwrap();
        assert!(matches!(scene.refuses(data, kind.size()), Misuse::DoublePut { .. }), "{kind:?}");
        assert!(buffer.iter().all(|&byte| byte == 0x42), "{kind:?}");
        drop(buffer);
        scene.end();
    }
}

#[test]
fn a_released_buffer_is_put_with_its_length_at_that_time() {
    for (kind, mut scene) in Scene::all() {
        let raw = scene.get_kind(kind);
        scene.fill(raw, 0x42);
        // SAFETY:
        // - this test's buffer, all of it written above
        let mut buffer = unsafe { PooledBuffer::from_raw(&scene.pool, raw, kind.size()) }.unwrap();
        // Of the smaller class, were it got anew.
        buffer.resize(50).unwrap();
        let (data, size) = buffer.into_raw();
        assert_eq!((data, size), (raw, 50));
        let requested = 50;
        for wrong in [49, SMALL, OVERSIZE] {
            let address = data.as_ptr().addr();
            let mismatch =
                Misuse::SizeMismatch { address, size: wrong, requested, buffer_size: kind.capacity() };
            assert_eq!(scene.refuses(data, wrong), mismatch, "{kind:?}");
        }
        scene.put(data, size);
        scene.end();
    }
}

#[test]
fn misuse_is_refused_by_a_closed_pool_as_by_an_open_one() {
    let mut scene = Scene::new();
    let slot = scene.get_kind(Kind::Slot);
    let oversize = scene.get_kind(Kind::Oversize);
    scene.pool.close();
    assert!(matches!(scene.refuses(slot, SMALL), Misuse::SizeMismatch { .. }));
    assert!(matches!(scene.refuses(oversize, SMALL), Misuse::SizeMismatch { .. }));
    scene.put(slot, Kind::Slot.size());
    scene.put(oversize, OVERSIZE);
    assert!(matches!(scene.refuses(slot, LARGE), Misuse::DoublePut { .. }));
    assert_eq!(scene.refuses(oversize, OVERSIZE), foreign(oversize));
    scene.end();
}

#[test]
fn a_put_without_a_size_is_refused_for_all_that_is_no_outstanding_raw_buffer() {
    for (kind, mut scene) in Scene::all() {
        let data = scene.get_kind(kind);
        let unsized_put = |data| {
            // SAFETY:
            // - this test's buffer, or one that the pool refuses
            unsafe { scene.pool.put_raw_unsized(data) }
        };
        let refused = |data| scene.refuses_once(data, || unsized_put(data).unwrap_err());
        // SAFETY:
        // - inside the buffer
        let interior = unsafe { data.add(64) };
        assert_eq!(refused(interior), foreign(interior), "{kind:?}");
        scene.fill(data, 0x42);
        // SAFETY:
        // - this test's buffer, all of it written
        let buffer = unsafe { PooledBuffer::from_raw(&scene.pool, data, kind.size()) }.unwrap();
        assert!(matches!(refused(data), Misuse::DoublePut { .. }), "{kind:?}");
        let (data, _) = buffer.into_raw();
        unsized_put(data).unwrap();
        let after = refused(data);
        assert!(matches!(after, Misuse::DoublePut { .. }) == kind.is_slot(), "{kind:?}: {after}");
        scene.end();
    }
}

#[test]
fn a_reallocation_of_what_is_no_outstanding_raw_buffer_is_refused() {
    for (kind, mut scene) in Scene::all() {
        let data = scene.get_kind(kind);
        let refused = |data, new_size| {
            scene.refuses_once(data, || {
                // SAFETY:
                // - one that the pool refuses
                match unsafe { scene.pool.realloc_raw(data, new_size) } {
                    Err(ReallocError::Misuse(misuse)) => misuse,
                    other => panic!("{other:?} for {kind:?}"),
                }
            })
        };
        // SAFETY:
        // - inside the buffer
        let interior = unsafe { data.add(64) };
        scene.fill(data, 0x42);
        // SAFETY:
        // - this test's buffer, all of it written
        let buffer = unsafe { PooledBuffer::from_raw(&scene.pool, data, kind.size()) }.unwrap();
        for new_size in [0, kind.size(), OVERSIZE * 2] {
            assert_eq!(refused(interior, new_size), foreign(interior), "{kind:?}");
            assert!(matches!(refused(data, new_size), Misuse::DoublePut { .. }), "{kind:?}");
        }
        drop(buffer);
        let after = refused(data, LARGE);
        assert!(matches!(after, Misuse::DoublePut { .. }) == kind.is_slot(), "{kind:?}: {after}");
        scene.end();
    }
}

/// Whoever puts a buffer after its reallocation has looked at it and before it is copied: here the rounding function.
#[test]
fn a_reallocation_whose_buffer_is_put_meanwhile_is_refused_and_gets_nothing() {
    type Once = Box<dyn FnOnce() + Send>;
    for (kind, guard_every) in Kind::ALL.into_iter().flat_map(|kind| [(kind, 0), (kind, 1)]) {
        let meanwhile: Arc<Mutex<Option<Once>>> = Arc::default();
        let hook = Arc::clone(&meanwhile);
        let round = move |size| {
            let once = hook.lock().unwrap().take();
            once.into_iter().for_each(|once| once());
            size
        };
        let builder = Pool::builder().size_class(SMALL, 2).size_class(LARGE, 4).round(round);
        let builder = builder.pinned(kind == Kind::SystemOverflow);
        let mut scene = Scene::with_pool(builder.guard_every(guard_every).build().unwrap());
        for new_size in [kind.size() - 1, OVERSIZE * 2] {
            let data = scene.get_kind(kind);
            let before = scene.pool.stats();
            let (pool, address) = (scene.pool.clone(), data.as_ptr().expose_provenance());
            *meanwhile.lock().unwrap() = Some(Box::new(move || {
                let data = NonNull::new(std::ptr::with_exposed_provenance_mut(address)).unwrap();
                // SAFETY:
                // - not used by this test any more
                unsafe { pool.put_raw(data, kind.size()) }.unwrap();
            }));
            // SAFETY:
            // - one that the pool refuses, as it was put by then
            let refused = unsafe { scene.pool.realloc_raw(data, new_size) };
            assert!(matches!(refused, Err(ReallocError::Misuse(_))), "{kind:?}: {refused:?}");
            let after = scene.pool.stats();
            assert_eq!((after.gets, after.puts), (before.gets, before.puts + 1), "{kind:?}");
            let counted = |stats: &bytepool::Stats| stats.double_puts + stats.foreign_pointers;
            assert_eq!(counted(&after), counted(&before) + 1, "{kind:?}");
        }
        scene.end();
    }
}

const RACERS: usize = 16;

/// Sixteen threads at once try to take `data` back; how many succeeded, and the refusals of the rest.
fn race(
    pool: &Pool,
    data: NonNull<u8>,
    attempt: impl Fn(usize, NonNull<u8>) -> Result<(), Misuse> + Sync,
) -> (usize, Vec<Misuse>) {
    let start = Barrier::new(RACERS);
    let (wins, address) = (AtomicUsize::new(0), data.as_ptr().expose_provenance());
    let racer = |number| {
        let data = NonNull::new(std::ptr::with_exposed_provenance_mut(address)).unwrap();
        start.wait();
        match attempt(number, data) {
            Ok(()) => {
                wins.fetch_add(1, SeqCst);
                None
            }
            Err(misuse) => Some(misuse),
        }
    };
    let racer = &racer;
    let refusals: Vec<Misuse> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..RACERS).map(|number| scope.spawn(move || racer(number))).collect();
        threads.into_iter().filter_map(|thread| thread.join().unwrap()).collect()
    });
    pool.stats().assert_consistent();
    (wins.into_inner(), refusals)
}

#[test]
fn of_sixteen_racing_puts_exactly_one_wins() {
    for (kind, mut scene) in Scene::all() {
        for round in 0..50 {
            let before = scene.pool.stats();
            let data = scene.get_kind(kind);
            // Some with the size asked for, some with another of the class (if it has others).
            let other = if kind == Kind::Oversize { OVERSIZE } else { LARGE };
            let (wins, refusals) = race(&scene.pool, data, |number, data| {
                let size = if (number + round) % 3 == 0 { other } else { kind.size() };
                // SAFETY:
                // - the threads share the buffer, and at most one put is accepted
                unsafe { scene.pool.put_raw(data, size) }
            });
            assert_eq!((wins, refusals.len()), (1, RACERS - 1), "{kind:?}");
            let refusal = match kind {
                _ if kind.is_slot() => {
                    Misuse::DoublePut { address: data.as_ptr().addr(), buffer_size: LARGE }
                }
                _ => foreign(data),
            };
            assert_eq!(refusals, [refusal; RACERS - 1], "{kind:?}");
            let after = scene.pool.stats();
            assert_eq!(after.puts, before.puts + 1);
            let counted = |stats: &bytepool::Stats| stats.double_puts + stats.foreign_pointers;
            assert_eq!(counted(&after), counted(&before) + RACERS as u64 - 1);
        }
        scene.end();
    }
}

#[test]
fn of_puts_racing_with_adoptions_exactly_one_wins() {
    for (kind, mut scene) in Scene::all() {
        for _ in 0..50 {
            let data = scene.get_kind(kind);
            scene.fill(data, 0x42);
            let adopted = Mutex::new(None);
            let (wins, refusals) = race(&scene.pool, data, |number, data| {
                if number % 2 == 0 {
                    // SAFETY:
                    // - the threads share the buffer, and at most one of them gets it
                    return unsafe { scene.pool.put_raw(data, kind.size()) };
                }
                // SAFETY:
                // - as above, and all of it was written
                let buffer = unsafe { PooledBuffer::from_raw(&scene.pool, data, kind.size()) }?;
                // Kept to the end of the race: dropped, it would be a second put.
                assert!(adopted.lock().unwrap().replace(buffer).is_none(), "two owners");
                Ok(())
            });
            assert_eq!((wins, refusals.len()), (1, RACERS - 1), "{kind:?}");
            drop(adopted);
            assert_eq!(scene.pool.usable_size(data), 0, "put, one way or the other");
        }
        scene.end();
    }
}

/// As above, with threads that have caches of the pool: their puts do not go through what they share.
#[test]
fn of_sixteen_racing_puts_of_threads_with_caches_exactly_one_wins() {
    const ROUNDS: usize = 500;
    let pool = Pool::builder().size_class(LARGE, 4096).build().unwrap();
    let (start, end) = (Barrier::new(RACERS + 1), Barrier::new(RACERS + 1));
    let address = AtomicUsize::new(0);
    let racer = |number: usize| {
        for _ in 0..3 {
            drop([0; 40].map(|_| pool.get(LARGE).unwrap()));
        }
        let race = |round: usize| {
            start.wait();
            let data = std::ptr::with_exposed_provenance_mut(address.load(SeqCst));
            let size = if (number + round) % 3 == 0 { LARGE - 1 } else { LARGE };
            // SAFETY:
            // - the threads share the buffer, and at most one put is accepted
            let verdict = unsafe { pool.put_raw(NonNull::new(data).unwrap(), size) };
            end.wait();
            verdict
        };
        // Nothing may panic before the last race: the others wait for this thread.
        (0..ROUNDS).map(race).collect::<Vec<_>>()
    };
    let racer = &racer;
    let (buffers, verdicts): (Vec<_>, Vec<_>) = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..RACERS).map(|number| scope.spawn(move || racer(number))).collect();
        let one_race = |_| {
            let data = pool.get_raw(LARGE).unwrap();
            address.store(data.as_ptr().expose_provenance(), SeqCst);
            start.wait();
            end.wait();
            (data.as_ptr().addr(), pool.stats())
        };
        let buffers = (0..ROUNDS).map(one_race).collect();
        (buffers, threads.into_iter().map(|thread| thread.join().unwrap()).collect())
    });
    for (round, (address, stats)) in buffers.into_iter().enumerate() {
        let of_round: Vec<_> = verdicts.iter().map(|verdicts| verdicts[round]).collect();
        assert_eq!(of_round.iter().filter(|verdict| verdict.is_ok()).count(), 1, "{of_round:?}");
        let refusal = Misuse::DoublePut { address, buffer_size: LARGE };
        assert!(of_round.iter().all(|verdict| verdict.is_ok() || *verdict == Err(refusal)), "{of_round:?}");
        stats.assert_consistent();
        assert_eq!((stats.gets, stats.classes[0].outstanding), (stats.puts, 0));
        assert_eq!(stats.double_puts, ((round + 1) * (RACERS - 1)) as u64);
    }
}
