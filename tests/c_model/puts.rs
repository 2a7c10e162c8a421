//! Calls that put buffers, rightly and wrongly.

use std::ptr;

use bytepool::ffi::capi::*;
use bytepool::ffi::status::Status;

use super::calls::{context_of, pointer_of};
use super::program::{Handle, Pointer, PutSize};
use super::world::{Answer, Held, OK, Resolved, World};

const DOUBLE_PUT: i32 = Status::DoublePut as i32;
const FOREIGN_POINTER: i32 = Status::ForeignPointer as i32;

/// What must come of a put.
enum Verdict {
    Nothing,
    /// Of the held buffer with this index.
    Put(usize),
    SizeMismatch,
    /// A double put or a foreign pointer.
    Stray,
    InvalidContext,
}

impl World {
    /// What must come of a put; `None` for no size.
    fn judge(&self, resolved: Resolved, data: usize, size: Option<usize>) -> Verdict {
        if data == 0 {
            return Verdict::Nothing;
        }
        let Some(pool) = resolved.pool() else { return Verdict::InvalidContext };
        let Some(index) = self.held.iter().position(|held| held.data == data && held.pool == pool) else {
            return Verdict::Stray;
        };
        let held = &self.held[index];
        let same_class = |size: usize| held.class.is_some() && self.pools[pool].class_of(size) == held.class;
        match size {
            Some(size) if size != held.size && !same_class(size) => Verdict::SizeMismatch,
            _ => Verdict::Put(index),
        }
    }

    /// Follows a verdict; the status, if the model knows it, and whether it is misuse.
    fn follow(&mut self, verdict: &Verdict, resolved: Resolved) -> Option<i32> {
        match *verdict {
            Verdict::Nothing => Some(OK),
            Verdict::Put(index) => {
                self.leave(index);
                Some(OK)
            }
            Verdict::SizeMismatch => {
                self.pools[resolved.pool().unwrap()].misuses += 1;
                Some(Status::SizeMismatch as i32)
            }
            Verdict::Stray => {
                self.pools[resolved.pool().unwrap()].misuses += 1;
                None
            }
            Verdict::InvalidContext => Some(Status::InvalidContext as i32),
        }
    }

    /// The status of a stray pointer's put: which of the two is known if the pointer lies inside a buffer.
    fn check_stray(&self, status: i32, pool: usize, data: usize) {
        assert!([DOUBLE_PUT, FOREIGN_POINTER].contains(&status), "status {status} of a stray pointer");
        let inside = |held: &Held| (held.data..held.data + held.capacity.max(1)).contains(&data);
        if let Some(held) = self.held.iter().find(|held| inside(held)) {
            assert!(held.data != data || held.pool != pool, "{held:?} was refused");
            // The addresses of a closed pool, whose region is gone, may be another's by now: a put of its own was double.
            let may_be_gone = self.pools[pool].is_closed && held.pool != pool;
            assert!(status == FOREIGN_POINTER || may_be_gone, "{data:x} is in {held:x?}, yet: {status}");
        }
    }

    /// A stray pointer was refused.
    pub(super) fn check_refusal(
        &mut self,
        answer: &Answer,
        status: i32,
        context: usize,
        pool: usize,
        data: usize,
    ) {
        self.check_stray(status, pool, data);
        self.pools[pool].misuses += 1;
        self.check_answer(answer, status, context, &[(status, data)]);
    }

    /// What came of a put with one pointer.
    fn check_put(&mut self, answer: &Answer, context: usize, data: usize, size: Option<usize>) -> i32 {
        let resolved = self.resolve(context);
        let verdict = self.judge(resolved, data, size);
        let status = self.follow(&verdict, resolved).unwrap_or_else(|| {
            self.check_stray(answer.last_error, resolved.pool().unwrap(), data);
            answer.last_error
        });
        let misused = [(status, data)];
        self.check_answer(answer, status, context, if status == OK { &[] } else { &misused });
        if status != OK {
            self.check_all();
        }
        status
    }

    fn put_arguments(&self, context: Handle, data: Pointer, size: PutSize) -> (usize, usize, usize) {
        let context = self.context(context);
        let pool = self.resolve(context).pool();
        let data = self.pointer(data, pool);
        self.check_held(data);
        (context, data, self.put_size(size, data, pool))
    }

    // SAFETY (of all below):
    // - a buffer of the model, which forgets it, or a pointer that is refused

    pub(super) fn put(&mut self, context: Handle, data: Pointer, size: PutSize) {
        let (context, data, size) = self.put_arguments(context, data, size);
        let answer = self.call(|| {
            // SAFETY: as above
            unsafe { bytepool_put(context_of(context), pointer_of(data), size) };
            0
        });
        self.check_put(&answer, context, data, Some(size));
    }

    pub(super) fn put_checked(&mut self, context: Handle, data: Pointer, size: PutSize) {
        let (context, data, size) = self.put_arguments(context, data, size);
        // SAFETY: as above
        let answer = self
            .call(|| unsafe { bytepool_put_checked(context_of(context), pointer_of(data), size) } as usize);
        let status = self.check_put(&answer, context, data, Some(size));
        assert_eq!(answer.value as i32, status);
    }

    pub(super) fn put_unsized(&mut self, context: Handle, data: Pointer) {
        let (context, data, _) = self.put_arguments(context, data, PutSize::Right);
        let answer = self.call(|| {
            // SAFETY: as above
            unsafe { bytepool_put_unsized(context_of(context), pointer_of(data)) };
            0
        });
        self.check_put(&answer, context, data, None);
    }

    pub(super) fn put_many(&mut self, context: Handle, data: &[Pointer], size: PutSize) {
        let context = self.context(context);
        let resolved = self.resolve(context);
        let data: Vec<usize> =
            data.iter().take(64).map(|&pointer| self.pointer(pointer, resolved.pool())).collect();
        data.iter().for_each(|&data| self.check_held(data));
        let size = self.put_size(size, data.first().copied().unwrap_or(0), resolved.pool());
        let answer = {
            let (data, count) = (data.as_ptr().expose_provenance(), data.len());
            // SAFETY:
            // - as above; `count` entries of a pointer's size
            self.call(|| unsafe {
                bytepool_put_many(context_of(context), ptr::with_exposed_provenance(data), count, size)
                    as usize
            })
        };
        if resolved == Resolved::Invalid {
            assert_eq!(answer.value as i32, Status::InvalidContext as i32);
            return self.check_status(&answer, Status::InvalidContext as i32, context);
        }
        let (mut first, mut misused) = (OK, Vec::new());
        for data in data {
            let verdict = self.judge(resolved, data, Some(size));
            let status = self.follow(&verdict, resolved).unwrap_or_else(|| {
                // Which of the two, the report says.
                let status = answer.report(misused.len());
                self.check_stray(status, resolved.pool().unwrap(), data);
                status
            });
            if status != OK {
                misused.push((status, data));
                first = if first == OK { status } else { first };
            }
        }
        assert_eq!(answer.value as i32, first);
        self.check_many(&answer, context, &misused);
        self.check_all();
    }

    /// As `check_answer`, where the last error is the last of several, or the first.
    fn check_many(&mut self, answer: &Answer, context: usize, misused: &[(i32, usize)]) {
        let first = misused.first().map_or(OK, |&(status, _)| status);
        self.check_answer(answer, first, context, misused);
    }

    /// The right put of a held buffer, by any context that knows its pool.
    pub(super) fn put_right(&mut self, held: Held) {
        let known = self.contexts.iter().find(|known| known.pool == held.pool);
        let context = known.expect("a pool has a context").value;
        // SAFETY: as above
        let answer = self.call(|| unsafe {
            bytepool_put_checked(context_of(context), pointer_of(held.data), held.size) as usize
        });
        assert_eq!(self.check_put(&answer, context, held.data, Some(held.size)), OK, "{held:x?}");
    }
}
