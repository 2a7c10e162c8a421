//! What the model knows at a moment: pools, contexts, outstanding buffers; and how a call is made.

use std::cell::RefCell;
use std::ffi::c_void;
use std::sync::{Once, mpsc};
use std::thread::{self, JoinHandle};

use bytepool::ffi::capi::{bytepool_last_error, bytepool_set_misuse_handler};
use bytepool::ffi::misuse::Report;
use bytepool::ffi::status::Status;

use crate::valgrind;

use super::program::{Handle, Pointer, PutSize, Setup, Size};

pub(crate) const OK: i32 = Status::Ok as i32;

/// The largest size that is really asked for.
pub(crate) const LARGEST: usize = 1 << 20;
/// From here on, no system has the memory.
pub(crate) const HOPELESS: usize = 1 << 47;

pub(crate) struct PoolModel {
    /// Ascending, after rounding.
    pub(crate) buffer_sizes: Vec<usize>,
    pub(crate) alignment: usize,
    pub(crate) max_bytes: usize,
    pub(crate) round: Option<unsafe extern "C" fn(usize) -> usize>,
    pub(crate) zero_on_get: bool,
    pub(crate) zero_on_put: bool,
    pub(crate) is_closed: bool,
    pub(crate) gets: u64,
    pub(crate) puts: u64,
    pub(crate) misuses: u64,
    /// Whether a get_many of several failed.
    pub(crate) failed_midway: bool,
}

impl PoolModel {
    pub(crate) fn rounded(&self, size: usize) -> usize {
        // SAFETY:
        // - one of ours, which any size suits
        self.round.map_or(size, |round| unsafe { round(size) }.max(size))
    }

    pub(crate) fn class_of(&self, size: usize) -> Option<usize> {
        let rounded = self.rounded(size);
        self.buffer_sizes.iter().position(|&buffer_size| buffer_size >= rounded)
    }
}

#[derive(Clone, Copy)]
pub(crate) struct ContextModel {
    pub(crate) value: usize,
    pub(crate) pool: usize,
    pub(crate) is_live: bool,
}

/// An outstanding buffer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Held {
    pub(crate) data: usize,
    pub(crate) pool: usize,
    pub(crate) size: usize,
    pub(crate) capacity: usize,
    /// What it counts as in the pool's figures.
    pub(crate) bytes: usize,
    /// `None` if oversize.
    pub(crate) class: Option<usize>,
    mark: u8,
}

impl Held {
    /// The byte that its owner wrote.
    pub(crate) fn mark(&self) -> u8 {
        self.mark
    }

    fn ends(&self) -> [*mut [u8]; 2] {
        let len = self.capacity.min(16);
        let data = std::ptr::with_exposed_provenance_mut::<u8>(self.data);
        [data, data.wrapping_add(self.capacity - len)]
            .map(|data| std::ptr::slice_from_raw_parts_mut(data, len))
    }

    fn write(&self) {
        for end in self.ends() {
            // SAFETY:
            // - inside a buffer that the model owns, to which no reference exists
            unsafe { end.cast::<u8>().write_bytes(self.mark, end.len()) };
        }
    }

    /// Its owner's mark is where it was.
    pub(crate) fn check(&self) {
        for end in self.ends() {
            // SAFETY:
            // - inside a buffer that the model owns, written when it was got
            assert!(unsafe { &*end }.iter().all(|&byte| byte == self.mark), "{self:x?} changed");
        }
    }
}

/// What a context is, and of which pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Resolved {
    Live(usize),
    Freed(usize),
    Invalid,
}

impl Resolved {
    pub(crate) fn pool(self) -> Option<usize> {
        match self {
            Self::Live(pool) | Self::Freed(pool) => Some(pool),
            Self::Invalid => None,
        }
    }
}

/// What a call gave, and what it left behind on its thread.
pub(crate) struct Answer {
    pub(crate) value: usize,
    pub(crate) last_error: i32,
    reports: Vec<(i32, usize, usize)>,
}

impl Answer {
    /// The kind of the report with this number; `OK` if there is none.
    pub(crate) fn report(&self, number: usize) -> i32 {
        self.reports.get(number).map_or(OK, |&(kind, ..)| kind)
    }
}

#[derive(Default)]
pub(crate) struct World {
    pub(crate) pools: Vec<PoolModel>,
    pub(crate) contexts: Vec<ContextModel>,
    pub(crate) held: Vec<Held>,
    /// Addresses of buffers that were put.
    pub(crate) put: Vec<usize>,
    pub(crate) on_other_thread: bool,
    other_thread: Option<OtherThread>,
    /// Of this thread and the other.
    last_errors: [i32; 2],
    next_mark: u8,
}

impl World {
    pub(crate) fn new() -> Self {
        install_handler();
        Self { last_errors: [bytepool_last_error(), OK], ..Self::default() }
    }

    // ---- arguments ----

    pub(crate) fn context(&self, handle: Handle) -> usize {
        let known = |index: u8| match self.contexts.len() {
            0 => 0,
            count => self.contexts[usize::from(index) % count].value,
        };
        match handle {
            Handle::Known(index) => known(index),
            Handle::Changed(index, bit) => known(index) ^ (1 << (bit % 64)),
            Handle::Any(value) => value as usize,
        }
    }

    pub(crate) fn resolve(&self, context: usize) -> Resolved {
        match self.contexts.iter().rev().find(|known| known.value == context) {
            Some(known) if known.is_live => Resolved::Live(known.pool),
            Some(known) if self.exists(known.pool) => Resolved::Freed(known.pool),
            _ => Resolved::Invalid,
        }
    }

    pub(crate) fn has_handle(&self, pool: usize) -> bool {
        self.contexts.iter().any(|known| known.pool == pool && known.is_live)
    }

    /// While a handle or an outstanding buffer keeps it.
    fn exists(&self, pool: usize) -> bool {
        self.has_handle(pool) || self.held.iter().any(|held| held.pool == pool)
    }

    pub(crate) fn size(&self, size: Size, pool: Option<usize>) -> usize {
        match size {
            Size::Small(bytes) => bytes.into(),
            Size::Large(bytes) => bytes as usize % LARGEST,
            Size::Bound(class, delta) => {
                let sizes = pool.map_or(&[][..], |pool| &self.pools[pool].buffer_sizes);
                let bound = sizes.get(usize::from(class) % sizes.len().max(1)).copied().unwrap_or(0);
                bound.saturating_add_signed(delta.into())
            }
            Size::Any(bytes) => match bytes as usize {
                bytes if bytes >= HOPELESS => bytes,
                bytes => bytes % LARGEST,
            },
        }
    }

    pub(crate) fn put_size(&self, size: PutSize, data: usize, pool: Option<usize>) -> usize {
        match size {
            PutSize::Right => self.held.iter().find(|held| held.data == data).map_or(0, |held| held.size),
            PutSize::Other(size) => self.size(size, pool),
        }
    }

    pub(crate) fn pointer(&self, pointer: Pointer, pool: Option<usize>) -> usize {
        let own = |index: u16| {
            let own: Vec<&Held> = self.held.iter().filter(|held| Some(held.pool) == pool).collect();
            (!own.is_empty()).then(|| *own[usize::from(index) % own.len()])
        };
        match pointer {
            Pointer::Held(_) if self.held.is_empty() => 0,
            Pointer::Held(index) => self.held[usize::from(index) % self.held.len()].data,
            Pointer::Own(index) => own(index).map_or(0, |held| held.data),
            Pointer::Inside(index, offset) => {
                own(index).map_or(8, |held| held.data + usize::from(offset) % held.capacity.max(1))
            }
            Pointer::Put(_) if self.put.is_empty() => 0,
            Pointer::Put(index) => self.put[usize::from(index) % self.put.len()],
            Pointer::Any(address) => address as usize,
            Pointer::Null => 0,
        }
    }

    // ---- calls ----

    /// Calls on the step's thread.
    pub(crate) fn call(&mut self, call: impl FnOnce() -> usize + Send) -> Answer {
        let call = || {
            REPORTS.with_borrow_mut(Vec::clear);
            let value = call();
            Answer { value, last_error: bytepool_last_error(), reports: REPORTS.take() }
        };
        if !self.on_other_thread {
            return call();
        }
        self.other_thread.get_or_insert_with(OtherThread::start).run(call)
    }

    /// The call set the last error if it failed, and left it otherwise; each misuse of these pointers, and
    /// nothing else, was reported.
    pub(crate) fn check_answer(
        &mut self,
        answer: &Answer,
        status: i32,
        context: usize,
        misused: &[(i32, usize)],
    ) {
        let last_error = &mut self.last_errors[usize::from(self.on_other_thread)];
        if status != OK {
            *last_error = status;
        }
        assert_eq!(answer.last_error, *last_error, "last error");
        let expected: Vec<_> = misused.iter().map(|&(kind, data)| (kind, context, data)).collect();
        assert_eq!(answer.reports, expected, "reports of misuse");
    }

    /// As [`check_answer`](Self::check_answer), for a call without a pointer.
    pub(crate) fn check_status(&mut self, answer: &Answer, status: i32, context: usize) {
        let refused = status == Status::InvalidContext as i32;
        self.check_answer(
            answer,
            status,
            context,
            if refused { &[(Status::InvalidContext as i32, 0)] } else { &[] },
        );
    }

    pub(crate) fn end_other_thread(&mut self) {
        self.other_thread = None;
        self.last_errors[1] = OK;
    }

    // ---- buffers ----

    /// Enters a buffer just got.
    pub(crate) fn enter(&mut self, data: usize, pool: usize, size: usize, class: Option<usize>) {
        self.enter_over(data, pool, size, class, 0);
    }

    /// The same, where the first `kept` bytes are those of a buffer before.
    fn enter_over(&mut self, data: usize, pool: usize, size: usize, class: Option<usize>, kept: usize) {
        self.next_mark = self.next_mark % 255 + 1;
        let known = &mut self.pools[pool];
        known.gets += 1;
        let usual = class.map_or_else(|| known.rounded(size), |class| known.buffer_sizes[class]);
        let capacity = valgrind::capacity(size, usual);
        assert!(data != 0 && data % known.alignment == 0, "{data:x} is not aligned");
        let held = Held { data, pool, size, capacity, bytes: usual, class, mark: self.next_mark };
        for other in &self.held {
            let apart = other.data + other.capacity <= data || data + capacity <= other.data;
            assert!(apart && other.data != data, "{other:x?} and {held:x?} overlap");
        }
        if known.zero_on_get {
            for end in held.ends() {
                let start = kept.saturating_sub(end.cast::<u8>().addr() - data).min(end.len());
                // SAFETY:
                // - inside a buffer that the model owns, and whose pool wrote zeros
                let fresh = unsafe { &(&*end)[start..] };
                assert!(fresh.iter().all(|&byte| byte == 0), "{held:x?} is not zero");
            }
        }
        held.write();
        self.held.push(held);
    }

    /// A buffer has another size, and if it is a replacement another address.
    pub(crate) fn resized(&mut self, index: usize, data: usize, size: usize) {
        let held = &mut self.held[index];
        held.size = size;
        if held.data != data {
            (held.data, held.capacity) = (data, size);
            held.write();
        }
    }

    /// An oversize buffer has another size, and perhaps another address. What it had room for before was checked.
    pub(crate) fn resized_oversize(&mut self, index: usize, data: usize, size: usize) {
        let held = self.held.swap_remove(index);
        let (kept, before) = (held.capacity, self.pools[held.pool].gets);
        self.enter_over(data, held.pool, size, None, kept);
        self.pools[held.pool].gets = before;
    }

    /// Takes a buffer out that was put.
    pub(crate) fn leave(&mut self, index: usize) {
        let held = self.held.swap_remove(index);
        self.pools[held.pool].puts += 1;
        self.put.push(held.data);
    }

    /// As [`Held::check`], if a buffer is held there.
    pub(crate) fn check_held(&self, data: usize) {
        self.held.iter().filter(|held| held.data == data).for_each(Held::check);
    }

    pub(crate) fn check_all(&self) {
        self.held.iter().for_each(Held::check);
    }
}

/// The pool that a setup's config leads to, if it is a good one.
pub(crate) fn model_of(setup: &Setup, mut buffer_sizes: Vec<usize>, alignment: usize) -> PoolModel {
    let round = super::calls::rounding(setup.round);
    let mut pool = PoolModel {
        buffer_sizes: Vec::new(),
        alignment: if alignment == 0 { bytepool::DEFAULT_ALIGNMENT } else { alignment },
        max_bytes: setup.max_bytes.map_or(0, |bytes| bytes as usize),
        round,
        zero_on_get: setup.flags() & 1 != 0,
        zero_on_put: setup.flags() & 2 != 0,
        is_closed: false,
        gets: 0,
        puts: 0,
        misuses: 0,
        failed_midway: false,
    };
    buffer_sizes.iter_mut().for_each(|size| *size = pool.rounded(*size));
    buffer_sizes.sort_unstable();
    pool.buffer_sizes = buffer_sizes;
    pool
}

// ---- misuse ----

thread_local! {
    /// Kind, context and pointer of what was reported on this thread.
    static REPORTS: RefCell<Vec<(i32, usize, usize)>> = const { RefCell::new(Vec::new()) };
}

unsafe extern "C" fn note(report: *const Report, _: *mut c_void) {
    // SAFETY:
    // - the library passes a report that lives until this returns
    let report = unsafe { &*report };
    REPORTS.with_borrow_mut(|reports| reports.push((report.kind, report.context.addr(), report.data.addr())));
}

fn install_handler() {
    static ONCE: Once = Once::new();
    // SAFETY:
    // - it may be called on any thread, and uses no user data
    ONCE.call_once(|| unsafe { bytepool_set_misuse_handler(Some(note), std::ptr::null_mut()) });
}

// ---- the other thread ----

type Job = Box<dyn FnOnce() + Send>;

/// A second thread that makes calls, one at a time.
struct OtherThread {
    jobs: Option<mpsc::SyncSender<Job>>,
    thread: Option<JoinHandle<()>>,
}

impl OtherThread {
    fn start() -> Self {
        let (jobs, given) = mpsc::sync_channel::<Job>(1);
        let thread = thread::spawn(move || given.into_iter().for_each(|job| job()));
        Self { jobs: Some(jobs), thread: Some(thread) }
    }

    fn run(&self, call: impl FnOnce() -> Answer + Send) -> Answer {
        let (answers, answer) = mpsc::sync_channel(1);
        let job: Box<dyn FnOnce() + Send + '_> = Box::new(move || answers.send(call()).unwrap());
        // SAFETY:
        // - only the lifetime changes: the job has run, or was dropped, when `recv` returns
        let job: Job = unsafe { std::mem::transmute(job) };
        self.jobs.as_ref().unwrap().send(job).unwrap();
        answer.recv().expect("a call does not panic")
    }
}

impl Drop for OtherThread {
    fn drop(&mut self) {
        self.jobs = None;
        let ended = self.thread.take().unwrap().join();
        assert!(ended.is_ok() || thread::panicking());
    }
}
