//! Owners in Rust, which put their buffer when they are dropped.

use std::cell::RefCell;
use std::hint::black_box;
use std::num::{NonZeroU32, NonZeroUsize};

use bytepool::{Pool, PooledBuffer};
use bytes::BytesMut;
use commonware_runtime::{BufferPool, BufferPoolConfig, BufferPooler, IoBufMut, Runner, tokio};
use zeropool::{BufUninit, ZeroPool};

use crate::measure::{Sample, Start, check_marks};
use crate::peers::{CAPACITY, SIZES};

/// Something that hands out owners. A clone is another handle of the same pool.
pub trait Owners: Clone + Send + Sync + 'static {
    /// With a buffer of at least the size asked for, which goes back on any thread.
    type Owner: Send;

    fn get(&self, size: usize) -> Self::Owner;

    /// The first byte, which may be written.
    fn data(owner: &mut Self::Owner) -> *mut u8;

    /// Gets and puts, if the pool counts them.
    fn counts(&self) -> Option<(u64, u64)> {
        None
    }
}

/// Runs `body` and proves that it made `count` gets and puts, if the pool counts.
pub fn proven<O: Owners, T>(pool: &O, count: u64, body: impl FnOnce() -> T) -> T {
    let before = pool.counts();
    let result = body();
    if let (Some(before), Some(after)) = (before, pool.counts()) {
        assert_eq!(after.0 - before.0, count, "proof failed: gets that the pool did not count");
        assert_eq!(after.1 - before.1, count, "proof failed: puts that the pool did not count");
    }
    result
}

/// Bytes of each owner, which is what moves when it is handed over.
pub fn sizes() -> [(&'static str, usize); 4] {
    [
        ("bytepool", size_of::<PooledBuffer>()),
        ("commonware", size_of::<IoBufMut>()),
        ("zeropool", size_of::<BufUninit>()),
        ("BytesMut", size_of::<BytesMut>()),
    ]
}

// ---- the pools ----

pub fn bytepool() -> Pool {
    let pool = SIZES.iter().fold(Pool::builder(), |builder, &size| builder.size_class(size, CAPACITY));
    pool.build().expect("a pool of three classes")
}

impl Owners for Pool {
    type Owner = PooledBuffer;

    #[inline(always)]
    fn get(&self, size: usize) -> PooledBuffer {
        Pool::get(self, size).expect("a buffer")
    }

    #[inline(always)]
    fn data(owner: &mut PooledBuffer) -> *mut u8 {
        owner.as_mut_ptr()
    }

    fn counts(&self) -> Option<(u64, u64)> {
        let stats = self.stats();
        Some((stats.gets, stats.puts))
    }
}

/// The pool of commonware's tokio runtime, with the classes, the capacity and the alignment that bytepool has here.
pub fn commonware() -> BufferPool {
    let number = |value: usize| NonZeroUsize::new(value).expect("not zero");
    let capacity = NonZeroU32::new(CAPACITY as u32).expect("not zero");
    let config = BufferPoolConfig::for_network()
        .with_size_classes(SIZES.map(|size| (number(size), capacity)))
        .with_alignment(number(64))
        .with_parallelism(number(2));
    let runner = tokio::Runner::new(tokio::Config::new().with_network_buffer_pool_config(config));
    runner.start(|context| async move { context.network_buffer_pool().clone() })
}

impl Owners for BufferPool {
    type Owner = IoBufMut;

    #[inline(always)]
    fn get(&self, size: usize) -> IoBufMut {
        self.try_alloc(size).expect("a buffer of the pool's")
    }

    #[inline(always)]
    fn data(owner: &mut IoBufMut) -> *mut u8 {
        owner.as_mut_ptr()
    }
}

/// Never freed, for its owners borrow it.
#[derive(Clone)]
pub struct Zero(&'static ZeroPool);

pub fn zeropool() -> Zero {
    Zero(Box::leak(Box::default()))
}

/// Unzeroed: what it has of its own that reads nothing.
impl Owners for Zero {
    type Owner = BufUninit<'static>;

    #[inline(always)]
    fn get(&self, size: usize) -> BufUninit<'static> {
        self.0.alloc_uninit(size)
    }

    #[inline(always)]
    fn data(owner: &mut BufUninit<'static>) -> *mut u8 {
        owner.as_uninit_mut().as_mut_ptr().cast()
    }
}

/// No pool: a `BytesMut` with a capacity, which comes from the global allocator, here glibc's.
#[derive(Clone)]
pub struct Bytes;

impl Owners for Bytes {
    type Owner = BytesMut;

    #[inline(always)]
    fn get(&self, size: usize) -> BytesMut {
        BytesMut::with_capacity(size)
    }

    #[inline(always)]
    fn data(owner: &mut BytesMut) -> *mut u8 {
        owner.spare_capacity_mut().as_mut_ptr().cast()
    }
}

thread_local! {
    static IDLE: RefCell<Vec<Box<[u8]>>> = const { RefCell::new(Vec::new()) };
}

/// A thread-local list of buffers of one size, with no check but Rust's own.
#[derive(Clone)]
pub struct BareList;

pub struct Bare(Option<Box<[u8]>>);

impl Drop for Bare {
    #[inline(always)]
    fn drop(&mut self) {
        if let Some(buffer) = self.0.take() {
            IDLE.with_borrow_mut(|idle| idle.push(buffer));
        }
    }
}

impl Owners for BareList {
    type Owner = Bare;

    #[inline(always)]
    fn get(&self, size: usize) -> Bare {
        let idle = IDLE.with_borrow_mut(Vec::pop);
        Bare(Some(idle.unwrap_or_else(|| vec![0; size].into_boxed_slice())))
    }

    #[inline(always)]
    fn data(owner: &mut Bare) -> *mut u8 {
        owner.0.as_mut().expect("full until dropped").as_mut_ptr()
    }
}

// ---- the cases of one thread ----

/// One owner got, touched and dropped.
pub fn pair<O: Owners>(pool: O, size: usize) -> impl FnMut(u64) -> Sample {
    move |count| {
        let (pool, size) = (black_box(&pool), black_box(size));
        proven(pool, count, || {
            let mut sum = 0;
            let start = Start::now();
            for index in 0..count {
                let mut owner = pool.get(size);
                let data = O::data(&mut owner);
                // SAFETY:
                // - the first byte of a buffer that this loop owns
                unsafe {
                    data.write_volatile(index as u8);
                    sum += u64::from(data.read_volatile());
                }
            }
            let sample = Sample::since(start, count);
            check_marks(sum, count);
            sample
        })
    }
}

/// How three owners are kept.
#[derive(Clone, Copy, PartialEq)]
pub enum Kept {
    /// Each where it was made.
    InPlace,
    /// In an array, into which each moves.
    Moved,
}

/// One of each of [`SIZES`] got, touched, and all dropped: as `cases::three_loop` does in C.
pub fn three<O: Owners>(pool: O, kept: Kept) -> impl FnMut(u64) -> Sample {
    move |count| {
        let (pool, sizes) = (black_box(&pool), black_box(SIZES));
        proven(pool, 3 * count, || {
            let (mut sum, mut wrong) = (0, 0);
            let start = Start::now();
            for index in 0..count {
                let mut large = pool.get(sizes[2]);
                let mut middle = pool.get(sizes[1]);
                let mut small = pool.get(sizes[0]);
                let mark = index as u8;
                let marks = if kept == Kept::Moved {
                    let mut owners = black_box([large, middle, small]);
                    touch_three(owners.each_mut().map(O::data), mark)
                } else {
                    touch_three([O::data(&mut large), O::data(&mut middle), O::data(&mut small)], mark)
                };
                // Of two equal buffers the first would have the second's mark.
                wrong += u64::from(marks[1] != mark.wrapping_add(1));
                sum += u64::from(marks[0]);
            }
            let sample = Sample::since(start, count);
            check_marks(sum, count);
            assert_eq!(wrong, 0, "proof failed: two owners of one buffer");
            sample
        })
    }
}

/// Writes a mark into each of three buffers, which are the caller's, and reads them back.
#[inline(always)]
fn touch_three(data: [*mut u8; 3], mark: u8) -> [u8; 3] {
    // SAFETY:
    // - the first bytes of three buffers that the caller owns
    unsafe {
        for (offset, data) in data.into_iter().enumerate() {
            data.write_volatile(mark.wrapping_add(offset as u8));
        }
        data.map(|data| data.read_volatile())
    }
}
