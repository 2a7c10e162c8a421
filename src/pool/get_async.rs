//! `get_async`: a get that waits as a task, for whatever runs it.

use std::fmt;
use std::future::Future;
use std::panic::Location;
use std::pin::Pin;
use std::task::{Context, Poll};

use super::Pool;
use super::buffer::PooledBuffer;
use crate::class::ledger::Holder;
use crate::core::door::{self, Refused};
use crate::core::get::Request;
use crate::core::wait_task::Progress;
use crate::debug::tracking::Caller;
use crate::error::GetError;
use crate::os::caller::KeptErrno;
use crate::os::fork::ForkGuard;

/// The future of [`Pool::get_async`]. Its output is a [`PooledBuffer`], or a [`GetError`].
///
/// A future that is dropped before it ends leaves the queue. What it was granted meanwhile goes to the next waiter. One
/// that is forgotten stays in the queue, with what it was granted, until the pool ends. From the grant on, its buffer
/// counts as outstanding. So a future that was granted a buffer and is not polled keeps it from others. While any
/// future waits, or was granted a buffer and is not polled, no thread has a cache of the pool: each get and put is
/// slower.
///
/// It may be polled and dropped on any thread.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # use std::pin::pin;
/// # use std::task::{Context, Poll, Waker};
/// let pool = bytepool::Pool::builder().size_class(4096, 100).max_bytes(4096).build()?;
/// let buffer = pool.get(4096)?;
/// {
///     let given_up = pin!(pool.get_async(4096));
///     assert!(given_up.poll(&mut Context::from_waker(Waker::noop())).is_pending());
/// } // leaves the queue
/// drop(buffer);
/// let next = pin!(pool.get_async(4096)).poll(&mut Context::from_waker(Waker::noop()));
/// assert!(matches!(next, Poll::Ready(Ok(_))));
/// # Ok(())
/// # }
/// ```
#[must_use = "a future does nothing unless it is polled"]
pub struct GetAsync<'a> {
    pool: &'a Pool,
    request: Request<'static>,
    progress: Progress,
}

impl Pool {
    /// Gets a buffer of `size` bytes for a task of any runtime. Where the pool is at its limit, the task waits until
    /// memory is put or given back, and no thread sleeps. The bytes hold what the buffer held last, or zeros.
    ///
    /// From its first poll on the task queues with those that wait by [`get_timeout`](Self::get_timeout), first come
    /// first served. It has no deadline of its own: to give up, drop the future, as a runtime's timeout does.
    ///
    /// The thread that grants the memory calls the task's waker, and no other thread does. That thread is in a put,
    /// which a drop of a buffer is, too, in a trim, a close, a get that finds too little memory or a realloc that
    /// shrinks, or an earlier waiter gives up there. It calls the waker without a lock: at the end of that call, or
    /// before the call sleeps or runs your code. A waker may itself free memory. Then the next task's waker is called
    /// after it has returned. A panic of the waker ends there.
    ///
    /// In the child of a fork a future stays in the queue. The thread that forked calls the wakers that other threads
    /// had yet to call, in its next call to any pool. A waker that another thread was calling is not called again.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use std::pin::pin;
    /// # use std::task::{Context, Poll, Waker};
    /// let pool = bytepool::Pool::builder().size_class(4096, 100).max_bytes(4096).build()?;
    /// let first = pool.get(4096)?;
    /// let mut second = pin!(pool.get_async(4096)); // or: pool.get_async(4096).await
    /// let mut context = Context::from_waker(Waker::noop());
    /// assert!(second.as_mut().poll(&mut context).is_pending());
    /// drop(first); // wakes the task
    /// let Poll::Ready(buffer) = second.poll(&mut context) else { panic!() };
    /// assert_eq!(buffer?.len(), 4096);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// - [`GetError::Limit`], in a pinned pool [`GetError::Pinned`]: at once, for what could never fit the limit
    /// - [`GetError::Closed`]: as soon as the pool closes
    /// - [`GetError::OutOfMemory`]: the system has no memory
    ///
    /// # Panics
    /// The future, if it is polled after it ended.
    #[track_caller]
    pub fn get_async(&self, size: usize) -> GetAsync<'_> {
        let request = Request::owned(size, Caller::Rust(Location::caller()));
        GetAsync { pool: self, request, progress: Progress::New }
    }
}

impl Future for GetAsync<'_> {
    type Output = Result<PooledBuffer, GetError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let Self { pool, request, progress } = &mut *self;
        let (core, size) = (pool.reference(), request.size);
        let owner = |buffer| PooledBuffer::new(core.as_pointer(), buffer, size);
        if matches!(progress, Progress::New) {
            if let Some(buffer) = door::get(core, size, Holder::Owned) {
                *progress = Progress::Ended;
                return Poll::Ready(Ok(owner(buffer)));
            }
        }
        // Cloned, and dropped, without lock and guard: both are the user's code.
        let mut waker = Some(context.waker().clone());
        match door::poll_slow(core, request, progress, &mut waker) {
            Ok(polled) => polled.map(|buffer| Ok(owner(buffer))),
            Err(refused) => Poll::Ready(Err(Refused::into_error(refused))),
        }
    }
}

impl Drop for GetAsync<'_> {
    fn drop(&mut self) {
        if let Progress::Queued { ticket, .. } = self.progress {
            let _errno = KeptErrno::new();
            // The guard ends before the waker does.
            let waker = self.pool.reference().leave_queue(&ForkGuard::new(), ticket);
            drop(waker);
        }
    }
}

impl fmt::Debug for GetAsync<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GetAsync")
            .field("size", &self.request.size)
            .field("progress", &self.progress)
            .finish()
    }
}
