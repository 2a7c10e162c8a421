//! Which peers run which cases.

use crate::allocators::{Malloc, OfCrate};
use crate::cases::{self, BATCH, BURST};
use crate::cpp::{self, Cpp};
use crate::measure::{Sample, Suite};
use crate::ours::{Functions, OtherSize, Pooled, Unsized};
use crate::owners::{self, Kept, Owners};
use crate::peers::{AvBufferPool, BareList, Mempool, Peer, Pmr, SIZES};
use crate::threads::{self, Before, Clock};
use crate::{channel, classes, misuse, packets, scale};

pub const OURS: &str = "bytepool";
pub const COLORED: &str = "bytepool, colored";
const SMALL: usize = SIZES[0];
const PAGE: usize = 4096;
const FRAME: usize = 3 << 20;

/// Shared libraries of Debian's that are allocators: peer, package, file.
const OF_DEBIAN: [(&str, &str, &str); 3] = [
    ("tcmalloc", "libtcmalloc-minimal4", "libtcmalloc_minimal.so.4"),
    ("jemalloc", "libjemalloc2", "libjemalloc.so.2"),
    ("mimalloc", "libmimalloc2.0", "libmimalloc.so.2"),
];

/// Allocators of crates: peer, crate, the library that the build script made of it.
const OF_CRATES: [(&str, &str, &str); 6] = [
    ("snmalloc", "snmalloc-sys", env!("PEERS_SNMALLOC")),
    ("mimalloc 3", "libmimalloc-sys", env!("PEERS_MIMALLOC")),
    ("rpmalloc", "rpmalloc-sys", env!("PEERS_RPMALLOC")),
    ("Google's tcmalloc", "libtcmalloc-sys", env!("PEERS_TCMALLOC")),
    ("Scudo", "scudo-sys", env!("PEERS_SCUDO")),
    ("hardened_malloc", "hardened-malloc-sys", env!("PEERS_HARDENED_MALLOC")),
];

/// A peer that could not be opened.
pub struct Missing {
    pub peer: &'static str,
    /// What brings it.
    pub source: String,
    pub why: String,
}

impl Missing {
    fn of_debian(peer: &'static str, package: &str, why: String) -> Self {
        Self { peer, source: format!("Debian package {package}"), why }
    }
}

/// Everything that is to be measured, and what cannot be.
pub fn suite() -> (Suite, Vec<Missing>) {
    let (mut suite, mut missing) = (Suite::default(), Vec::new());
    let bytepool = Functions::open();
    settle_glibc();

    // One pool for all cases but those about pools, and those of threads.
    let usual = bytepool.usual_pool();
    everywhere(&mut suite, OURS, usual, || bytepool.usual_pool(), Threads::Any);
    let bare = BareList::open().expect("the build script compiled it");
    everywhere(&mut suite, "bare list", bare, || bare, Threads::EachItsOwn);
    scale::slots(&mut suite, OURS, |slots| bytepool.pool(&[(scale::SMALL, slots)]));
    scale::slots(&mut suite, "bare list", |_| bare);
    scale::beyond_the_capacity(&mut suite, OURS, || bytepool.pool(&[scale::KEPT]));
    scale::beyond_the_capacity(&mut suite, "bare list", || bare);
    let glibc = Malloc::open("libc.so.6").expect("this program runs on glibc");
    everywhere(&mut suite, "glibc", glibc, || glibc, Threads::Any);
    packets::cases(&mut suite, "glibc", glibc);
    scale::beyond_the_capacity(&mut suite, "glibc", || glibc);
    allocators(&mut suite, &mut missing);
    pools(&mut suite, &mut missing);

    ours_alone(&mut suite, bytepool, usual);
    against_glibc(&mut suite, bytepool, glibc);
    let short = threads::short_thread(usual, PAGE);
    suite.add("short thread, CPU", OURS, short);
    suite.add("short thread, CPU", "empty thread", threads::empty_thread());
    classes::cases(&mut suite, bytepool);
    packets::cases(&mut suite, OURS, bytepool.pool(packets::CLASS));
    packets::cases(&mut suite, COLORED, bytepool.colored_pool(packets::CLASS));

    suite.add("owner in Rust", "bare list", owners::pair(owners::BareList, PAGE));
    owners_in_rust(&mut suite, OURS, owners::bytepool);
    owners_in_rust(&mut suite, "commonware", owners::commonware);
    owners_in_rust(&mut suite, "zeropool", owners::zeropool);
    owners_in_rust(&mut suite, "BytesMut", || owners::Bytes);
    for (case, which) in
        [("owner in C++", Cpp::PooledBuffer), ("memory_resource in C++", Cpp::MemoryResource)]
    {
        suite.add(case, OURS, cpp::run(&which, usual, PAGE));
        suite.add(case, "C get and put", cpp::run(&Cpp::CFunctions, usual, PAGE));
    }
    (suite, missing)
}

/// The general-purpose ones, but for glibc's.
fn allocators(suite: &mut Suite, missing: &mut Vec<Missing>) {
    for (peer, package, file) in OF_DEBIAN {
        match Malloc::open(file) {
            Ok(malloc) => allocator(suite, peer, malloc),
            Err(why) => missing.push(Missing::of_debian(peer, package, why)),
        }
    }
    for (peer, name, file) in OF_CRATES {
        match OfCrate::open(file) {
            Ok(OfCrate::Plain(malloc)) => allocator(suite, peer, malloc),
            Ok(OfCrate::Sized(malloc)) => allocator(suite, peer, malloc),
            Err(why) => missing.push(Missing { peer, source: format!("crate {name}"), why }),
        }
    }
}

fn allocator<P: Peer>(suite: &mut Suite, name: &str, malloc: P) {
    everywhere(suite, name, malloc, || malloc, Threads::Any);
    packets::cases(suite, name, malloc);
    suite.add("frame of 3 MiB", name, cases::frame(malloc, FRAME));
    suite.add("short thread, CPU", name, threads::short_thread(malloc, PAGE));
}

fn pools(suite: &mut Suite, missing: &mut Vec<Missing>) {
    let versions = ["libavutil.so.57", "libavutil.so.58", "libavutil.so.59", "libavutil.so.60"];
    match versions.iter().find_map(|file| AvBufferPool::open(file).ok()) {
        Some(av) => everywhere(suite, "FFmpeg", av, || av, Threads::Any),
        None => {
            let why = format!("none of {} can be opened", versions.join(", "));
            missing.push(Missing::of_debian("FFmpeg", "libavutil57", why));
        }
    }
    match Pmr::open() {
        Ok(pmr) => everywhere(suite, "std::pmr", pmr, || pmr, Threads::Any),
        Err(why) => missing.push(Missing::of_debian("std::pmr", "libstdc++6", why)),
    }
    match Mempool::open() {
        Ok(mempool) => {
            everywhere(suite, "DPDK", mempool, || mempool, Threads::Any);
            packets::cases(suite, "DPDK", mempool);
            for size in [SMALL, PAGE] {
                suite.add(&in_one_call(size), "DPDK", cases::many(mempool, size));
            }
        }
        Err(why) => missing.push(Missing::of_debian("DPDK", "libdpdk-dev", why)),
    }
}

/// `pool` makes one for each case, so that no case finds what another mixed.
fn owners_in_rust<O: Owners>(suite: &mut Suite, name: &str, pool: impl Fn() -> O) {
    suite.add("owner in Rust", name, owners::pair(pool(), PAGE));
    suite.add("three owners in Rust", name, owners::three(pool(), Kept::InPlace));
    suite.add("three owners, moved", name, owners::three(pool(), Kept::Moved));
    suite.add("owner through a channel, CPU", name, channel::hand_over(pool(), PAGE));
}

/// What a peer's buffers may do.
#[derive(PartialEq)]
enum Threads {
    Any,
    /// A buffer that is put by another thread than got it stays with that thread.
    EachItsOwn,
}

/// The cases that every peer has. `fresh` makes a peer like this one whose buffers no case before has mixed.
fn everywhere<P: Peer>(suite: &mut Suite, name: &str, peer: P, fresh: impl Fn() -> P, threads: Threads) {
    suite.misuse.push((name.to_owned(), misuse::try_all(fresh())));
    for size in SIZES {
        suite.add(&format!("pair of {size}"), name, cases::pair(peer, size));
    }
    for size in [PAGE, 16 << 10] {
        let burst = cases::burst::<P, BURST>(peer, size);
        suite.add(&format!("burst of 64 x {size}"), name, burst);
        let random = cases::random_replacement::<P, 256>(peer, size);
        suite.add(&format!("random 256 x {size}"), name, random);
    }
    suite.add("three buffers", name, cases::three(peer));
    one_and_two_threads(suite, name, &fresh);
    if threads == Threads::Any {
        suite.add("hand-over", name, threads::hand_over(fresh(), PAGE, Clock::Wall));
        suite.add("hand-over, CPU", name, threads::hand_over(fresh(), PAGE, Clock::Cpu));
    }
}

fn one_and_two_threads<P: Peer>(suite: &mut Suite, name: &str, fresh: &impl Fn() -> P) {
    let peer = fresh();
    for (number, word) in [(1, "one thread"), (2, "two threads")] {
        let pair = move |count| cases::pair_loop(peer, PAGE, count);
        let run = threads::at_once(peer, number, 1, Before::Nothing, pair);
        suite.add(&format!("pair, {word}, CPU"), name, run);
        let three = move |count| cases::three_loop(peer, count);
        let run = threads::at_once(peer, number, 3, Before::Nothing, three);
        suite.add(&format!("three, {word}, CPU"), name, run);
    }
    if ![OURS, "bare list", "tcmalloc", "snmalloc"].contains(&name) {
        return;
    }
    scale::threads(suite, name, fresh, PAGE);
    for (number, word, before) in
        [(1, "one thread", Before::Nothing), (2, "two threads mixed", Before::Mixing(PAGE))]
    {
        let peer = fresh();
        let burst = move |count| cases::burst_loop::<P, BURST>(peer, PAGE, count);
        let mut run = threads::at_once(peer, number, BURST as u64, before, burst);
        let run = move |count| {
            let sample = run(count);
            Sample { operations: sample.operations * BURST as u64, ..sample }
        };
        suite.add(&format!("burst of 64, {word}, CPU"), name, run);
    }
}

/// Touching 32 buffers that all start a page takes longer than getting and putting them: one set of the first-level
/// cache has all of their first bytes. Small ones show what the calls cost.
fn in_one_call(size: usize) -> String {
    format!("32 of {size} in one call, per buffer")
}

/// Bytepool's own ways against each other.
fn ours_alone(suite: &mut Suite, bytepool: Functions, usual: Pooled) {
    suite.add("put without size", OURS, cases::pair(Unsized(usual), PAGE));
    suite.add("put with other size", OURS, cases::pair(OtherSize(usual), PAGE));

    for size in [SMALL, PAGE] {
        suite.add(&in_one_call(size), OURS, cases::many(usual, size));
        let single = cases::burst::<Pooled, BATCH>(usual, size);
        suite.add(&in_one_call(size), "single calls", single);
    }
    // As DPDK lays them: not all of their first bytes in one set.
    let colored = bytepool.colored_pool(packets::CLASS);
    suite.add(&in_one_call(PAGE), COLORED, cases::many(colored, PAGE));

    for (count, name) in [(1, "1 pool in turn"), (9, "9 pools in turn"), (100, "100 pools in turn")] {
        let pools = (0..count).map(|_| bytepool.usual_pool()).collect();
        suite.add(name, OURS, cases::pools_in_turn(pools, PAGE));
    }
}

fn against_glibc(suite: &mut Suite, bytepool: Functions, glibc: Malloc) {
    let small = bytepool.pool(&[(PAGE, BURST / 2)]);
    suite.add("burst of 64, capacity 32", OURS, cases::burst::<_, BURST>(small, PAGE));
    suite.add("burst of 64, capacity 32", "glibc", cases::burst::<_, BURST>(glibc, PAGE));
    let large = bytepool.pool(&[(PAGE, 512)]);
    suite.add("1024 live, capacity 512", OURS, cases::beyond_capacity(large, PAGE, 1024));
    suite.add("1024 live, capacity 512", "glibc", cases::beyond_capacity(glibc, PAGE, 1024));

    let frames = bytepool.pool(&[(FRAME, 4)]);
    suite.add("frame of 3 MiB", OURS, cases::frame(frames, FRAME));
    suite.add("frame of 3 MiB", "glibc", cases::frame(glibc, FRAME));
    let mapped = mapped_anew(glibc, cases::frame(glibc, FRAME));
    suite.add("frame of 3 MiB", "glibc, mapped anew", mapped);
}

// ---- glibc's thresholds ----

/// What glibc itself makes of its thresholds when a first mapped block of a frame's size is freed: blocks of this size
/// are mapped from now on, and the heap's top is kept up to twice that.
const ADAPTED: usize = FRAME + 4096;

/// As after that first free, for all cases but one: glibc at its best, and what fixing the thresholds for the one case
/// would otherwise turn off.
fn settle_glibc() {
    set_thresholds(ADAPTED, 2 * ADAPTED);
}

fn set_thresholds(mmap: usize, trim: usize) {
    for (parameter, value) in [(libc::M_MMAP_THRESHOLD, mmap), (libc::M_TRIM_THRESHOLD, trim)] {
        // SAFETY:
        // - mallopt takes any parameter and value
        let set = unsafe { libc::mallopt(parameter, value as i32) };
        assert_eq!(set, 1, "glibc refused a threshold");
    }
}

/// Runs with the mapping threshold fixed at 128 KiB, so that each frame is mapped and unmapped again.
fn mapped_anew(glibc: Malloc, mut run: impl FnMut(u64) -> Sample) -> impl FnMut(u64) -> Sample {
    move |count| {
        set_thresholds(128 << 10, 128 << 10);
        // The heap may still have room for frames, which it uses first: it is filled up.
        let mut in_heap = Vec::new();
        // SAFETY:
        // - each frame is freed once, and only the size that glibc keeps before it is read
        unsafe {
            loop {
                let frame = glibc.get(FRAME);
                if is_mapped(frame) {
                    glibc.put(frame, FRAME);
                    break;
                }
                in_heap.push(frame);
                assert!(in_heap.len() < 1000, "proof failed: glibc maps no frame");
            }
            let sample = run(count);
            in_heap.into_iter().for_each(|frame| glibc.put(frame, FRAME));
            settle_glibc();
            sample
        }
    }
}

/// Whether glibc mapped this block on its own: the second bit of the size that it keeps before each.
///
/// # Safety
/// - glibc's malloc returned it, and it is not freed
unsafe fn is_mapped(block: *mut u8) -> bool {
    // SAFETY:
    // - glibc keeps a word before each block, and blocks are aligned to two words
    unsafe { block.cast::<usize>().sub(1).read() & 2 != 0 }
}
