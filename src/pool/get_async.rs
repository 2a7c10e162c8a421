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

/// The future of [`Pool::get_async`].
///
/// Dropped before it ends, it leaves the queue, and what it was granted meanwhile is the next one's. A buffer that it
/// was granted counts as outstanding from then on, so one that is not polled keeps it from others.
#[must_use = "a future does nothing unless it is polled"]
pub struct GetAsync<'a> {
    pool: &'a Pool,
    request: Request<'static>,
    progress: Progress,
}

impl Pool {
    /// A buffer of `size` bytes, with whatever it held last, or zeros, for a task of any runtime. Where the pool is at
    /// its limit, the task waits until memory is put or given back. No thread sleeps for it.
    ///
    /// It queues with those that wait by [`get_timeout`](Self::get_timeout), first come first served, from its first
    /// poll on. A deadline is the runtime's affair: a future that is dropped leaves the queue.
    ///
    /// Its waker is called by the thread that puts, as the last thing of that call and without a lock. A panic of the
    /// waker ends there. In the child of a fork a future stays in the queue; a wake-up that another thread was about to
    /// make is not made there.
    ///
    /// ```
    /// # use std::pin::pin;
    /// # use std::task::{Context, Poll, Waker};
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
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
    /// - [`GetError::Limit`]: at once, for what could never fit the limit
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
