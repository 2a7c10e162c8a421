//! Calls that get buffers.

use std::ptr;

use bytepool::ffi::capi::*;
use bytepool::ffi::status::Status;

use crate::valgrind::replacements;

use super::calls::{context_of, pointer_of, status_of};
use super::figures::{class_stats_of, stats_of};
use super::program::{Alignment, Handle, Pointer, Size};
use super::world::{Answer, HOPELESS, Held, OK, Resolved, World};

/// The most bytes that a program holds.
const MOST_HELD: usize = 64 << 20;

impl World {
    /// Whether the program may hold `size` more bytes.
    fn may_hold(&self, size: usize) -> bool {
        let held: usize = self.held.iter().map(|held| held.size).sum();
        size >= HOPELESS || held + size <= MOST_HELD
    }

    /// How a call that gets must fail; `OK` if it may succeed.
    fn refusal(&self, resolved: Resolved) -> i32 {
        let is_closed = resolved.pool().is_some_and(|pool| self.pools[pool].is_closed);
        status_of(resolved, if is_closed { Status::Closed as i32 } else { OK })
    }

    /// Checks why a get of `size` bytes failed; its status.
    fn check_failed(&self, resolved: Resolved, size: usize, status: i32) -> i32 {
        let refusal = self.refusal(resolved);
        if refusal != OK {
            return refusal;
        }
        let Resolved::Live(pool) = resolved else { unreachable!("others are refused") };
        let known = &self.pools[pool];
        let hopeless = known.rounded(size) >= HOPELESS && status == Status::OutOfMemory as i32;
        let limited = known.max_bytes > 0 && status == Status::Limit as i32;
        assert!(hopeless || limited, "a get of {size} bytes failed: {status}");
        status
    }

    /// Enters what a call got, or checks why it failed; whether it got a buffer.
    fn check_got(&mut self, answer: &Answer, context: usize, size: usize, class: Option<usize>) -> bool {
        let resolved = self.resolve(context);
        if answer.value == 0 {
            let status = self.check_failed(resolved, size, answer.last_error);
            self.check_status(answer, status, context);
            return false;
        }
        assert_eq!(self.refusal(resolved), OK, "a get from {resolved:?} succeeded");
        self.check_status(answer, OK, context);
        let Resolved::Live(pool) = resolved else { unreachable!("others are refused") };
        self.enter(answer.value, pool, size, class);
        true
    }

    /// A context, a size for its pool, and the class that the size belongs to.
    fn request(&self, context: Handle, size: Size) -> (usize, usize, Option<usize>) {
        let context = self.context(context);
        let pool = self.resolve(context).pool();
        let size = self.size(size, pool);
        (context, size, pool.and_then(|pool| self.pools[pool].class_of(size)))
    }

    pub(super) fn get(&mut self, context: Handle, size: Size) {
        let (context, size, class) = self.request(context, size);
        if self.may_hold(size) {
            let answer = self.call(|| bytepool_get(context_of(context), size).expose_provenance());
            self.check_got(&answer, context, size, class);
        }
    }

    /// Nobody puts meanwhile: where a get fails at the limit, the time passes.
    pub(super) fn get_timeout(&mut self, context: Handle, size: Size, nanoseconds: u16) {
        let (context, size, class) = self.request(context, size);
        if !self.may_hold(size) {
            return;
        }
        let answer = self
            .call(|| bytepool_get_timeout(context_of(context), size, nanoseconds.into()).expose_provenance());
        let timeout = Status::Timeout as i32;
        if answer.value == 0 && answer.last_error == timeout && self.refusal(self.resolve(context)) == OK {
            let pool = self.resolve(context).pool().expect("a live context has a pool");
            assert!(
                self.pools[pool].max_bytes > 0 && nanoseconds > 0,
                "a get without a reason to wait waited"
            );
            return self.check_status(&answer, timeout, context);
        }
        self.check_got(&answer, context, size, class);
    }

    /// The first class from this one on whose slots are all so aligned.
    fn aligned_class(&self, pool: usize, context: usize, from: usize, alignment: usize) -> Option<usize> {
        let mut classes = from..self.pools[pool].buffer_sizes.len();
        classes.find(|&class| class_stats_of(context, class).slot_size % alignment == 0)
    }

    pub(super) fn get_aligned(&mut self, context: Handle, alignment: Alignment, size: Size) {
        let (context, size, class) = self.request(context, size);
        let alignment = self.alignment(alignment);
        if !self.may_hold(size) {
            return;
        }
        let resolved = self.resolve(context);
        let before = if let Resolved::Live(_) = resolved { stats_of(context).oversize_buffers } else { 0 };
        let answer =
            self.call(|| bytepool_get_aligned(context_of(context), alignment, size).expose_provenance());
        let Resolved::Live(pool) = resolved else {
            self.check_got(&answer, context, size, class);
            return;
        };
        if !alignment.is_power_of_two() {
            assert_eq!(answer.value, 0);
            return self.check_status(&answer, Status::InvalidArgument as i32, context);
        }
        if alignment >= HOPELESS && answer.value == 0 && answer.last_error == Status::OutOfMemory as i32 {
            return self.check_status(&answer, Status::OutOfMemory as i32, context);
        }
        let class = if alignment > self.pools[pool].alignment {
            let aligned = class.and_then(|class| self.aligned_class(pool, context, class, alignment));
            // Where spans start the model does not know beyond a page.
            let is_slot = stats_of(context).oversize_buffers == before;
            assert!(is_slot || answer.value == 0 || aligned.is_none() || alignment > 4096, "no slot was got");
            aligned.filter(|_| is_slot)
        } else {
            class
        };
        let got = self.check_got(&answer, context, size, class);
        assert!(!got || answer.value % alignment == 0, "{:x} at {alignment}", answer.value);
    }

    pub(super) fn get_many(&mut self, context: Handle, size: Size, count: u8) {
        let (context, size, class) = self.request(context, size);
        let count = usize::from(count % 41);
        if !self.may_hold(size.saturating_mul(count)) {
            return;
        }
        let mut out = vec![usize::MAX; count + 1];
        let answer = {
            let out = out.as_mut_ptr().expose_provenance();
            // SAFETY:
            // - `out` has `count` entries of a pointer's size, and one more
            self.call(|| unsafe {
                bytepool_get_many(context_of(context), size, ptr::with_exposed_provenance_mut(out), count)
                    as usize
            })
        };
        assert_eq!(out.pop(), Some(usize::MAX), "one more than asked for was written");
        let resolved = self.resolve(context);
        if answer.value as i32 == OK {
            assert!(count == 0 && matches!(resolved, Resolved::Live(_)) || self.refusal(resolved) == OK);
            self.check_status(&answer, OK, context);
            for data in out {
                let Resolved::Live(pool) = resolved else { unreachable!("others are refused") };
                self.enter(data, pool, size, class);
            }
            return;
        }
        assert!(out.iter().all(|&data| data == 0), "a failed get_many gave some");
        let status = self.check_failed(resolved, size, answer.value as i32);
        assert_eq!(answer.value as i32, status);
        self.check_status(&answer, status, context);
        if let Resolved::Live(pool) = resolved {
            self.pools[pool].failed_midway = true;
        }
    }

    pub(super) fn calloc(&mut self, context: Handle, count: Size, size: Size) {
        let (context, size, _) = self.request(context, size);
        let pool = self.resolve(context).pool();
        let count = self.size(count, pool);
        let bytes = count.checked_mul(size);
        // Products that only fill memory are left out.
        if bytes.is_some_and(|bytes| bytes < HOPELESS && (bytes > 1 << 22 || !self.may_hold(bytes))) {
            return;
        }
        let answer = self.call(|| bytepool_calloc(context_of(context), count, size).expose_provenance());
        if answer.value != 0 {
            // SAFETY:
            // - just got, with that many bytes
            let bytes = unsafe {
                std::slice::from_raw_parts(ptr::with_exposed_provenance::<u8>(answer.value), bytes.unwrap())
            };
            assert!(bytes.iter().all(|&byte| byte == 0), "calloc gave other than zeros");
        }
        let Some(bytes) = bytes else {
            assert_eq!(answer.value, 0);
            let refusal = self.refusal(self.resolve(context));
            let status = if refusal == OK { Status::OutOfMemory as i32 } else { refusal };
            return self.check_status(&answer, status, context);
        };
        let class = pool.and_then(|pool| self.pools[pool].class_of(bytes));
        self.check_got(&answer, context, bytes, class);
    }

    pub(super) fn copy(&mut self, context: Handle, size: Size) {
        let (context, size, class) = self.request(context, size);
        if size >= HOPELESS || !self.may_hold(size) {
            // No such bytes can be: NULL is refused.
            // SAFETY:
            // - NULL is not read
            let answer =
                self.call(|| unsafe { bytepool_copy(context_of(context), ptr::null(), size) }.addr());
            assert_eq!(answer.value, 0);
            return self.check_status(&answer, Status::InvalidArgument as i32, context);
        }
        let source: Vec<u8> = (0..size).map(|index| index as u8).collect();
        let answer = {
            let source = &source;
            // SAFETY:
            // - `source` has `size` bytes
            self.call(|| unsafe {
                bytepool_copy(context_of(context), source.as_ptr().cast(), size).expose_provenance()
            })
        };
        if answer.value != 0 {
            // SAFETY:
            // - just got, with that many bytes
            let copy =
                unsafe { std::slice::from_raw_parts(ptr::with_exposed_provenance::<u8>(answer.value), size) };
            assert!(copy == source, "a copy differs");
            self.forget_zeros(answer.value, size);
        }
        self.check_got(&answer, context, size, class);
    }

    /// Writes zeros over bytes that a call filled, so that the buffer may be entered as a fresh one.
    fn forget_zeros(&self, data: usize, size: usize) {
        // SAFETY:
        // - callers just got it, with that many bytes
        unsafe { ptr::with_exposed_provenance_mut::<u8>(data).write_bytes(0, size) };
    }

    pub(super) fn realloc(&mut self, context: Handle, data: Pointer, size: Size) {
        let (context, size, class) = self.request(context, size);
        let resolved = self.resolve(context);
        let data = self.pointer(data, resolved.pool());
        if !self.may_hold(size) {
            return;
        }
        self.check_held(data);
        let gets = matches!(resolved, Resolved::Live(_)).then(|| stats_of(context).gets);
        let answer = self.call(|| {
            // SAFETY:
            // - a buffer of the model, which takes over what comes of it, or a stray pointer that is refused
            let new = unsafe { bytepool_realloc(context_of(context), pointer_of(data), size) };
            new.expose_provenance()
        });
        if data == 0 {
            self.check_got(&answer, context, size, class);
            return;
        }
        let Resolved::Live(pool) = resolved else {
            assert_eq!(answer.value, 0);
            let status = status_of(resolved, OK);
            let misused = [(status, data)];
            let reported = if resolved == Resolved::Invalid { &misused[..] } else { &[] };
            return self.check_answer(&answer, status, context, reported);
        };
        let Some(index) = self.held.iter().position(|held| held.data == data && held.pool == pool) else {
            assert_eq!(answer.value, 0, "a stray pointer was reallocated");
            return self.check_refusal(&answer, answer.last_error, context, pool, data);
        };
        let old = self.held[index];
        if answer.value == 0 {
            assert!(
                size > old.size || answer.last_error == Status::Closed as i32,
                "{old:x?} cannot shrink to {size} bytes"
            );
            let status = self.check_failed(resolved, size, answer.last_error);
            return self.check_status(&answer, status, context);
        }
        self.check_kept(answer.value, old.size.min(size), &old);
        // The system resizes it, but where its bytes are to be wiped.
        let is_oversize = class.is_none() && old.class.is_none();
        if is_oversize && !replacements() && !self.pools[pool].zero_on_put {
            assert_eq!(self.refusal(resolved), OK);
            self.check_status(&answer, OK, context);
            return self.resized_oversize(index, answer.value, size);
        }
        // A smaller one stays where it is if nothing else can be had, so that it never fails.
        let shrinks_in_place = size <= old.size && answer.value == data;
        let in_place = class.is_some() && class == old.class || shrinks_in_place;
        // A replacement is replaced, and that is no get.
        let is_replaced = replacements() && Some(stats_of(context).gets) == gets;
        if in_place && (answer.value == data || is_replaced) {
            assert_eq!(self.refusal(resolved), OK);
            self.check_status(&answer, OK, context);
            self.resized(index, answer.value, size);
            return;
        }
        self.leave(index);
        self.forget_zeros(answer.value, old.capacity.min(size));
        self.check_got(&answer, context, size, class);
    }

    /// The new buffer begins with the old one's mark, as far as both go.
    fn check_kept(&self, new: usize, bytes: usize, old: &Held) {
        let kept = bytes.min(16).min(old.capacity);
        // SAFETY:
        // - just got, with that many bytes
        let new = unsafe { std::slice::from_raw_parts(ptr::with_exposed_provenance::<u8>(new), kept) };
        assert!(new.iter().all(|&byte| byte == old.mark()), "a reallocation lost bytes of {old:x?}");
    }
}
