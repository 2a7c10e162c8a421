//! The callers of a function, in code without frame pointers, at the price of a few memory reads each.
//!
//! The unwinder finds a caller by the tables that all code has, in about 0.2 microseconds. But the way from a frame to
//! its caller's depends only on the place in the code. So a *step* is remembered for each return address. The unwinder
//! tells it once, and the next walk reads the stack instead.
//!
//! ```text
//! sized frame                                     frame with a frame pointer
//!
//! stack pointer -> [ locals ... ]                 frame pointer -> [ caller's frame pointer ]
//!   + size - n     [ caller's frame pointer ]                  + 8 [ return address         ]
//!   + size - 8     [ return address         ]
//! ```
//!
//! - A frame whose size the compiler does not know has a frame pointer. Every other frame has one size at one place.
//! - A sized frame keeps its caller's frame pointer at a place that is guessed: one that agrees with all that the
//!   unwinder said. A wrong guess leads to an unknown return address, and the unwinder is asked again.
//! - Only the thread's own stack is read. On another stack, such as a coroutine's, the unwinder is asked each time.
//!
//! Any thread may call anything. Threads share the steps, and each step is one word.

/// More callers than sanitizers note.
pub(super) const MOST: usize = 48;

/// A place that a function was called from: the return address, and the registers behind the call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub(super) struct Place {
    pub(super) return_address: usize,
    pub(super) stack_pointer: usize,
    pub(super) frame_pointer: usize,
}

/// The return addresses from `place` outwards, and how many.
///
/// # Safety
/// - a function that was called from `place` calls this
pub(super) unsafe fn callers(place: Place, return_addresses: &mut [usize; MOST]) -> usize {
    #[cfg(target_arch = "x86_64")]
    // SAFETY:
    // - as the caller promised
    if let Some(count) = unsafe { remembered::follow(place, return_addresses) } {
        return count;
    }
    let (places, count) = unwind(place);
    for (return_address, place) in return_addresses.iter_mut().zip(&places[..count]) {
        *return_address = place.return_address;
    }
    #[cfg(target_arch = "x86_64")]
    // SAFETY:
    // - the unwinder says what the stack of this thread is like
    unsafe {
        remembered::learn(&places[..count]);
    }
    count
}

/// The places from `start` outwards, by the unwinder.
#[cold]
fn unwind(start: Place) -> ([Place; MOST], usize) {
    use std::ffi::{c_int, c_void};

    /// The `_Unwind_Reason_Code`s that matter here.
    const NO_REASON: c_int = 0;
    const END_OF_STACK: c_int = 5;
    /// How tables call the frame pointer.
    const FRAME_POINTER: c_int = if cfg!(target_arch = "x86_64") { 6 } else { 29 };

    unsafe extern "C" {
        // Of the unwinder that the standard library links anyway.
        fn _Unwind_Backtrace(
            each: extern "C" fn(*mut c_void, *mut c_void) -> c_int,
            argument: *mut c_void,
        ) -> c_int;
        fn _Unwind_GetIP(context: *mut c_void) -> usize;
        fn _Unwind_GetCFA(context: *mut c_void) -> usize;
        fn _Unwind_GetGR(context: *mut c_void, register: c_int) -> usize;
    }

    struct Found {
        start: Place,
        places: [Place; MOST],
        count: usize,
    }

    extern "C" fn add(context: *mut c_void, found: *mut c_void) -> c_int {
        // SAFETY:
        // - the argument below, which nobody else uses meanwhile
        let found = unsafe { &mut *found.cast::<Found>() };
        // SAFETY:
        // - the unwinder's own context
        let (return_address, stack_pointer) = unsafe { (_Unwind_GetIP(context), _Unwind_GetCFA(context)) };
        if found.count == MOST || return_address == 0 {
            return END_OF_STACK;
        }
        // The frames of this module come first, and are left out.
        if stack_pointer >= found.start.stack_pointer {
            // SAFETY: as above
            let frame_pointer = unsafe { _Unwind_GetGR(context, FRAME_POINTER) };
            found.places[found.count] = Place { return_address, stack_pointer, frame_pointer };
            found.count += 1;
        }
        NO_REASON
    }

    #[cfg(all(test, target_arch = "x86_64"))]
    tests::UNWOUND.set(tests::UNWOUND.get() + 1);
    let mut found = Found { start, places: [Place::default(); MOST], count: 0 };
    // SAFETY:
    // - the callback takes these arguments and does not unwind
    unsafe { _Unwind_Backtrace(add, (&raw mut found).cast()) };
    (found.places, found.count)
}

/// The steps that are remembered, on x86-64 only: elsewhere a return address has no fixed place in its frame.
#[cfg(target_arch = "x86_64")]
mod remembered {
    use std::cell::Cell;
    use std::ops::Range;
    use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

    use super::{MOST, Place};

    const WORD: usize = size_of::<usize>();

    /// How to get from a frame to its caller's.
    #[derive(Clone, Copy, PartialEq, Eq)]
    enum Step {
        /// By the frame pointer. If `kept_at` is 0, the caller's stack pointer is right behind the return address.
        /// Otherwise it is stored `kept_at` words below the frame pointer.
        ByFramePointer { kept_at: usize },
        /// The frame has `words` words. The caller's frame pointer is kept at one of the places `kept`.
        Sized { words: usize, kept: Kept },
        /// There is no caller.
        End,
    }

    /// Places for a frame pointer, as bits: bit 0 for the register itself, bit `n` for `n + 1` words below the frame's
    /// end. Never 0.
    type Kept = u8;
    const MOST_KEPT: usize = 6;

    /// The entries of a bucket. With several, the return addresses of one walk seldom evict one another.
    const WAYS: usize = 4;
    const BUCKET_BITS: u32 = 12;
    static STEPS: [[AtomicU64; WAYS]; 1 << BUCKET_BITS] =
        [const { [const { AtomicU64::new(0) }; WAYS] }; 1 << BUCKET_BITS];

    /// An entry is one word: the step, and those bits of the return address that the bucket's index does not have.
    ///
    /// ```text
    /// [ 36 bits of the address, mixed | 20 bits of size | 8 bits of kind ]
    /// ```
    const ADDRESS_BITS: u32 = 48;
    const TAG_BITS: u32 = ADDRESS_BITS - BUCKET_BITS;
    const SIZE_BITS: u32 = 20;
    const KIND_BITS: u32 = 8;
    const _: () = assert!(TAG_BITS + SIZE_BITS + KIND_BITS == u64::BITS && MOST_KEPT < 7);
    const END: u64 = 0xFF;
    const BY_FRAME_POINTER: u64 = 0x80;

    impl Step {
        /// Never 0.
        fn to_bits(self) -> Option<u64> {
            let (size, kind) = match self {
                Self::End => (0, END),
                Self::ByFramePointer { kept_at } => (kept_at, BY_FRAME_POINTER),
                Self::Sized { words, kept } => (words, kept.into()),
            };
            ((size as u64) < 1 << SIZE_BITS).then_some((size as u64) << KIND_BITS | kind)
        }

        fn from_bits(bits: u64) -> Self {
            let size = (bits >> KIND_BITS) as usize % (1 << SIZE_BITS);
            match bits % (1 << KIND_BITS) {
                END => Self::End,
                BY_FRAME_POINTER => Self::ByFramePointer { kept_at: size },
                kept => Self::Sized { words: size, kept: kept as Kept },
            }
        }
    }

    /// The bucket of a return address, and its tag: the bits at the top of an entry that tell it from other addresses.
    fn bucket(return_address: usize) -> Option<(&'static [AtomicU64; WAYS], u64)> {
        if return_address >= 1 << ADDRESS_BITS {
            return None;
        }
        // One-to-one, as the factor is odd.
        let mixed = (return_address as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15) % (1 << ADDRESS_BITS);
        Some((&STEPS[(mixed >> TAG_BITS) as usize], mixed << (u64::BITS - TAG_BITS)))
    }

    fn is_of(entry: u64, tag: u64) -> bool {
        // An unused entry has no kind.
        entry != 0 && (entry ^ tag) >> (u64::BITS - TAG_BITS) == 0
    }

    fn step(return_address: usize) -> Option<Step> {
        let (bucket, tag) = bucket(return_address)?;
        // Relaxed, as everywhere here: an entry is whole in one word.
        let mut entries = bucket.iter().map(|entry| entry.load(Relaxed));
        entries.find(|&entry| is_of(entry, tag)).map(Step::from_bits)
    }

    fn remember(return_address: usize, step: Step) {
        let (Some((bucket, tag)), Some(bits)) = (bucket(return_address), step.to_bits()) else { return };
        let same = bucket.iter().find(|entry| is_of(entry.load(Relaxed), tag));
        let unused = || bucket.iter().find(|entry| entry.load(Relaxed) == 0);
        // Else evict one at random: the tag's top bits are well mixed.
        let any = || &bucket[(tag >> (u64::BITS - 2)) as usize];
        same.or_else(unused).unwrap_or_else(any).store(tag | bits, Relaxed);
    }

    /// The stack of the calling thread, as the system gave it.
    fn own_stack() -> Range<usize> {
        thread_local! {
            static STACK: Cell<(usize, usize)> = const { Cell::new((0, 0)) };
        }
        let (mut start, mut end) = STACK.get();
        if end == 0 {
            (start, end) = ask_for_stack().unwrap_or((0, 1));
            STACK.set((start, end));
        }
        start..end
    }

    #[cold]
    fn ask_for_stack() -> Option<(usize, usize)> {
        let mut attributes = std::mem::MaybeUninit::<libc::pthread_attr_t>::uninit();
        let (mut start, mut size) = (std::ptr::null_mut(), 0);
        // SAFETY:
        // - the attributes are written by the first call if it succeeds, and used and destroyed only then
        unsafe {
            if libc::pthread_getattr_np(libc::pthread_self(), attributes.as_mut_ptr()) != 0 {
                return None;
            }
            let status = libc::pthread_attr_getstack(attributes.as_ptr(), &raw mut start, &raw mut size);
            libc::pthread_attr_destroy(attributes.as_mut_ptr());
            (status == 0).then(|| (start.addr(), start.addr() + size))
        }
    }

    /// # Safety
    /// - the word is aligned, in a frame of this thread's stack that is in use
    unsafe fn read(address: usize) -> usize {
        // SAFETY:
        // - as the caller promised
        unsafe { *std::ptr::with_exposed_provenance(address) }
    }

    /// The return addresses from `place` outwards, if all steps are known.
    ///
    /// # Safety
    /// - a function that was called from `place` calls this
    pub(super) unsafe fn follow(place: Place, return_addresses: &mut [usize; MOST]) -> Option<usize> {
        let stack = own_stack();
        if !stack.contains(&place.stack_pointer) {
            return None;
        }
        let mut at = place;
        for (count, return_address) in return_addresses.iter_mut().enumerate() {
            *return_address = at.return_address;
            at = match step(at.return_address)? {
                Step::End => return Some(count + 1),
                // SAFETY:
                // - what lies between this frame and the stack's end is in use
                step => unsafe { caller(at, step, stack.end)? },
            };
        }
        Some(MOST)
    }

    /// The place from which the function around `at` was called. `None` means that the step does not fit.
    ///
    /// # Safety
    /// - from `at.stack_pointer` to `end` lie frames of this thread
    unsafe fn caller(at: Place, step: Step, end: usize) -> Option<Place> {
        let lies_between = |address: usize, words: usize| {
            address % WORD == 0
                && address >= at.stack_pointer
                && end.checked_sub(address).is_some_and(|left| left >= words * WORD)
        };
        // SAFETY:
        // - only words that lie between
        let caller = unsafe {
            match step {
                Step::End => return None,
                Step::ByFramePointer { kept_at } => {
                    let frame = at.frame_pointer;
                    let kept = frame.wrapping_sub(kept_at * WORD);
                    if !lies_between(frame, 2) || !lies_between(kept, 1) {
                        return None;
                    }
                    let behind = frame + 2 * WORD;
                    Place {
                        return_address: read(frame + WORD),
                        stack_pointer: if kept_at == 0 { behind } else { read(kept) },
                        frame_pointer: read(frame),
                    }
                }
                Step::Sized { words, kept } => {
                    if !lies_between(at.stack_pointer, words) {
                        return None;
                    }
                    let behind = at.stack_pointer + words * WORD;
                    let frame_pointer = match kept.trailing_zeros() as usize {
                        0 => at.frame_pointer,
                        kept => read(behind - (kept + 1) * WORD),
                    };
                    Place { return_address: read(behind - WORD), stack_pointer: behind, frame_pointer }
                }
            }
        };
        (caller.stack_pointer > at.stack_pointer && caller.stack_pointer <= end).then_some(caller)
    }

    /// Remembers how to get from each of these places to the next.
    ///
    /// # Safety
    /// - they are those of this thread's frames, without a gap
    /// - unless there are [`MOST`] of them, the last is the thread's outermost
    pub(super) unsafe fn learn(places: &[Place]) {
        for pair in places.windows(2) {
            // SAFETY:
            // - as the caller promised
            if let Some(step) = unsafe { step_between(pair[0], pair[1]) } {
                remember(pair[0].return_address, narrowed(pair[0].return_address, step));
            }
        }
        match places.last() {
            Some(last) if places.len() < MOST => remember(last.return_address, Step::End),
            _ => {}
        }
    }

    /// The step without the places of the frame pointer that did not agree before.
    fn narrowed(return_address: usize, found: Step) -> Step {
        match (step(return_address), found) {
            (Some(Step::Sized { words: before, kept: old }), Step::Sized { words, kept })
                if before == words && old & kept != 0 =>
            {
                Step::Sized { words, kept: old & kept }
            }
            _ => found,
        }
    }

    /// The step from a place to that of its caller. `None` means that it cannot be remembered, as from a signal's
    /// handler.
    ///
    /// # Safety
    /// - between the two lies one frame of this thread's stack
    unsafe fn step_between(at: Place, caller: Place) -> Option<Step> {
        let words = caller.stack_pointer.checked_sub(at.stack_pointer)? / WORD;
        if words == 0 || (at.stack_pointer | caller.stack_pointer) % WORD != 0 {
            return None;
        }
        let frame = at.frame_pointer;
        let lies_inside = |address: usize| {
            address >= at.stack_pointer && address < caller.stack_pointer && address % WORD == 0
        };
        // SAFETY:
        // - only words of that frame
        unsafe {
            if lies_inside(frame)
                && lies_inside(frame + WORD)
                && read(frame) == caller.frame_pointer
                && read(frame + WORD) == caller.return_address
            {
                let is_kept = |words: &usize| {
                    let kept = frame.wrapping_sub(words * WORD);
                    lies_inside(kept) && read(kept) == caller.stack_pointer
                };
                let is_behind = frame + 2 * WORD == caller.stack_pointer;
                let kept_at = if is_behind { Some(0) } else { (1..=8).find(is_kept) };
                return kept_at.map(|kept_at| Step::ByFramePointer { kept_at });
            }
            if read(caller.stack_pointer - WORD) != caller.return_address {
                return None;
            }
            let mut kept = Kept::from(frame == caller.frame_pointer);
            for place in 1..=MOST_KEPT.min(words - 1) {
                let is_kept = read(caller.stack_pointer - (place + 1) * WORD) == caller.frame_pointer;
                kept |= Kept::from(is_kept) << place;
            }
            (kept != 0).then_some(Step::Sized { words, kept })
        }
    }
}

#[cfg(all(test, target_arch = "x86_64"))]
mod tests {
    use std::arch::global_asm;
    use std::cell::Cell;
    use std::hint::black_box;
    use std::ptr;

    use super::super::callers;
    use super::MOST;

    thread_local! {
        /// How often the unwinder was asked on this thread.
        pub(super) static UNWOUND: Cell<usize> = const { Cell::new(0) };
    }

    /// What a sanitizer finds by frame pointers.
    type Noted = ([usize; MOST], usize);

    #[allow(improper_ctypes)] // both ends are Rust's, and here
    unsafe extern "C" {
        /// Stands for the sanitizer's `malloc`.
        #[link_name = "bytepool_test_note"]
        fn note(noted: *mut Noted);

        /// Calls [`note_there`] on another stack.
        #[link_name = "bytepool_test_on_stack"]
        fn on_stack(end: *mut u8, noted: &mut Vec<usize>);
    }

    global_asm!(
        ".globl bytepool_test_note",
        ".hidden bytepool_test_note",
        "bytepool_test_note:",
        "mov rsi, rbp",
        "jmp {}",
        sym note_from
    );

    global_asm!(
        ".globl bytepool_test_on_stack
         .hidden bytepool_test_on_stack
         bytepool_test_on_stack:
         .cfi_startproc
         push rbp
         .cfi_def_cfa_offset 16
         .cfi_offset rbp, -16
         mov rbp, rsp
         .cfi_def_cfa_register rbp
         mov rsp, rdi
         mov rdi, rsi
         call {}
         mov rsp, rbp
         pop rbp
         .cfi_def_cfa rsp, 8
         ret
         .cfi_endproc",
        sym note_there
    );

    extern "C" fn note_from(noted: &mut Noted, mut frame: *const (usize, usize)) {
        let (addresses, count) = noted;
        // SAFETY:
        // - of the chain of frames that lies on this thread's stack during the call
        while let Some(&(next, return_address)) = unsafe { frame.as_ref() } {
            addresses[*count] = return_address;
            *count += 1;
            frame = ptr::with_exposed_provenance(next);
        }
    }

    #[inline(never)]
    fn noted() -> Vec<usize> {
        let mut noted: Noted = ([0; MOST], 0);
        let argument = (&raw mut noted).expose_provenance();
        // SAFETY:
        // - a function of one argument, which is of its type
        unsafe { callers::call(note as *const (), [argument, 0, 0]) };
        noted.0[..noted.1].to_vec()
    }

    /// Calls `run` from so many frames further in, each with a frame pointer if its size is not known beforehand.
    #[inline(never)]
    fn deeper<R>(frames: usize, run: &mut dyn FnMut() -> R) -> R {
        let result = if frames == 0 { run() } else { deeper(frames - 1, run) };
        black_box(frames);
        result
    }

    /// A frame that is more aligned than its caller's, so it is not always of one size.
    #[inline(never)]
    fn aligned<R>(run: &mut dyn FnMut() -> R) -> R {
        #[repr(align(256))]
        struct Aligned([u8; 256]);
        let aligned = black_box(Aligned([1; 256]));
        let result = run();
        black_box(aligned.0);
        result
    }

    fn unwound() -> usize {
        UNWOUND.get()
    }

    #[test]
    fn callers_are_unwound_once_and_found_again_by_their_steps() {
        for depth in [0, 1, 7, 20, MOST] {
            let mut all = Vec::new();
            let mut first = 0;
            for round in 0..100 {
                all.push(deeper(depth, &mut || aligned(&mut || noted())));
                if round == 9 {
                    first = unwound();
                }
            }
            assert!(first > 0, "nothing was learnt");
            assert_eq!(unwound(), first, "at depth {depth} the unwinder is asked again");
            assert!(all.iter().all(|noted| *noted == all[0]), "at depth {depth}: {all:#x?}");
            assert!(all[0].len() > depth.min(MOST - 1), "{:#x?}", all[0]);
        }
    }

    /// Each step by itself, in any order of calls.
    #[test]
    fn a_new_path_of_known_steps_is_not_unwound() {
        let (mut all, mut counts) = (Vec::new(), Vec::new());
        for depth in black_box(vec![3, 5, 4]) {
            all.push(deeper(depth, &mut noted));
            counts.push(unwound());
        }
        let [short, long, between] = &all[..] else { unreachable!() };
        assert!(counts[0] > 0 && counts[2] == counts[1], "{counts:?}");
        assert_eq!((between.len(), between.len()), (short.len() + 1, long.len() - 1));
        assert_eq!((&between[..4], &between[5..]), (&short[..4], &short[4..]));
    }

    /// A stack that the system does not know of, as coroutines have.
    #[test]
    fn another_stack_is_unwound_each_time() {
        let noted_there = || {
            let mut stack = vec![0_u128; 16 << 10];
            let mut noted = Vec::new();
            // SAFETY:
            // - large enough for what runs there, which does not unwind
            unsafe { on_stack(stack.as_mut_ptr_range().end.cast(), &mut noted) };
            noted
        };
        let first = noted_there();
        let before = unwound();
        assert_eq!(noted_there()[..2], first[..2]);
        assert_eq!(unwound(), before + 1);
    }

    extern "C" fn note_there(found: &mut Vec<usize>) {
        *found = noted();
    }
}
