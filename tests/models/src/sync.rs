//! Replacements of the standard library's atomics, locks and threads, and for crossbeam's queue: each operation is a
//! point where shuttle may run another thread, and sees memory as [`weak`] says.
//!
//! They have the layout of what they replace, and their constructors are const: so the library's tables,
//! statics and unsafe code are checked as they are.

use std::cell::UnsafeCell;
use std::collections::VecDeque;
use std::mem::ManuallyDrop;
use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{LockResult, TryLockError};
use std::time::Duration;

pub(crate) use super::guard_depth::{skipped_forks, wake_step};
pub(crate) use super::weak::{fence_all_threads, plain_memory};
pub(crate) use super::{forks, guard_depth, refuses_fence, thread_number};
pub(crate) use shuttle::thread_local;
pub(crate) use std::sync::{Arc, PoisonError};

use super::weak;

/// Here another thread may run.
pub(super) fn point() {
    shuttle_engine::runtime::thread::switch_if_not_stopping();
}

pub(crate) mod atomic {
    use super::{point, weak};
    use std::sync::atomic;

    pub(crate) use std::sync::atomic::{Ordering, compiler_fence};

    /// As the standard library's.
    pub(crate) fn fence(order: Ordering) {
        point();
        weak::fence(order);
    }

    macro_rules! replacement {
        ($name:ident $(<$T:ident>)?, $Value:ty, $to_bits:expr, $from_bits:expr) => {
            /// As the standard library's.
            #[repr(transparent)]
            pub(crate) struct $name $(<$T>)? (atomic::$name $(<$T>)?);

            #[allow(dead_code)] // each type with the methods of all
            impl $(<$T>)? $name $(<$T>)? {
                pub(crate) const fn new(value: $Value) -> Self {
                    Self(atomic::$name::new(value))
                }

                pub(crate) const fn as_ptr(&self) -> *mut $Value {
                    self.0.as_ptr()
                }

                fn address(&self) -> usize {
                    std::ptr::from_ref(self).addr()
                }

                fn bits(&self) -> u64 {
                    $to_bits(self.0.load(Ordering::Relaxed))
                }

                fn write(&self, bits: u64) {
                    self.0.store($from_bits(bits), Ordering::Relaxed);
                }

                pub(crate) fn load(&self, order: Ordering) -> $Value {
                    point();
                    $from_bits(weak::load(self.address(), self.bits(), order))
                }

                pub(crate) fn store(&self, value: $Value, order: Ordering) {
                    point();
                    weak::store(self.address(), self.bits(), $to_bits(value), order);
                    self.write($to_bits(value));
                }

                fn change(
                    &self,
                    success: Ordering,
                    failure: Ordering,
                    change: impl Fn($Value) -> Option<$Value>,
                ) -> Result<$Value, $Value> {
                    point();
                    let change = |bits| change($from_bits(bits)).map(|after| $to_bits(after));
                    let before = self.bits();
                    let changed = weak::change(self.address(), before, success, failure, change);
                    if changed.is_ok() {
                        self.write(change(before).expect("it was changed"));
                    }
                    changed.map(|bits| $from_bits(bits)).map_err(|bits| $from_bits(bits))
                }

                fn always(&self, order: Ordering, change: impl Fn($Value) -> $Value) -> $Value {
                    let changed = self.change(order, Ordering::Relaxed, |value| Some(change(value)));
                    changed.unwrap_or_else(|_| unreachable!("it was changed"))
                }

                pub(crate) fn swap(&self, value: $Value, order: Ordering) -> $Value {
                    self.always(order, |_| value)
                }

                pub(crate) fn compare_exchange(
                    &self,
                    from: $Value,
                    to: $Value,
                    success: Ordering,
                    failure: Ordering,
                ) -> Result<$Value, $Value> {
                    self.change(success, failure, |value| (value == from).then_some(to))
                }

                pub(crate) fn compare_exchange_weak(
                    &self,
                    from: $Value,
                    to: $Value,
                    success: Ordering,
                    failure: Ordering,
                ) -> Result<$Value, $Value> {
                    let fails = weak::fails_spuriously();
                    self.change(success, failure, |value| (value == from && !fails).then_some(to))
                }

                pub(crate) fn fetch_update(
                    &self,
                    success: Ordering,
                    failure: Ordering,
                    mut change: impl FnMut($Value) -> Option<$Value>,
                ) -> Result<$Value, $Value> {
                    let mut seen = self.load(failure);
                    while let Some(after) = change(seen) {
                        match self.compare_exchange_weak(seen, after, success, failure) {
                            Ok(before) => return Ok(before),
                            Err(found) => seen = found,
                        }
                    }
                    Err(seen)
                }
            }

            impl $(<$T>)? Drop for $name $(<$T>)? {
                fn drop(&mut self) {
                    weak::end_of_life(self.address());
                }
            }
        };
    }

    macro_rules! number {
        ($name:ident, $Value:ty) => {
            replacement!($name, $Value, |value| value as u64, |bits| bits as $Value);

            impl Default for $name {
                fn default() -> Self {
                    Self::new(0)
                }
            }

            #[allow(dead_code)] // each type with the methods of all
            impl $name {
                pub(crate) fn fetch_add(&self, by: $Value, order: Ordering) -> $Value {
                    self.always(order, |value| value.wrapping_add(by))
                }
                pub(crate) fn fetch_sub(&self, by: $Value, order: Ordering) -> $Value {
                    self.always(order, |value| value.wrapping_sub(by))
                }
                pub(crate) fn fetch_or(&self, by: $Value, order: Ordering) -> $Value {
                    self.always(order, |value| value | by)
                }
                pub(crate) fn fetch_and(&self, by: $Value, order: Ordering) -> $Value {
                    self.always(order, |value| value & by)
                }
                pub(crate) fn fetch_max(&self, by: $Value, order: Ordering) -> $Value {
                    self.always(order, |value| value.max(by))
                }
                pub(crate) fn fetch_min(&self, by: $Value, order: Ordering) -> $Value {
                    self.always(order, |value| value.min(by))
                }
            }
        };
    }

    number!(AtomicI32, i32);
    number!(AtomicU8, u8);
    number!(AtomicU32, u32);
    number!(AtomicU64, u64);
    number!(AtomicUsize, usize);
    replacement!(AtomicBool, bool, u64::from, |bits| bits != 0);
    replacement!(AtomicPtr<T>, *mut T, |value: *mut T| value.expose_provenance() as u64, |bits: u64| {
        std::ptr::with_exposed_provenance_mut::<T>(bits as usize)
    });

    impl Default for AtomicBool {
        fn default() -> Self {
            Self::new(false)
        }
    }
}

/// As the standard library's. Who waits looks again and again: a deadlock is an execution that never ends, which
/// shuttle reports.
#[derive(Default)]
pub(crate) struct Mutex<T>(std::sync::Mutex<T>);

impl<T> Mutex<T> {
    pub(crate) const fn new(value: T) -> Self {
        Self(std::sync::Mutex::new(value))
    }

    fn address(&self) -> usize {
        std::ptr::from_ref(self).addr()
    }

    pub(crate) fn lock(&self) -> LockResult<MutexGuard<'_, T>> {
        loop {
            point();
            let inner = match self.0.try_lock() {
                Ok(inner) => inner,
                Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
                Err(TryLockError::WouldBlock) => {
                    thread::yield_now();
                    continue;
                }
            };
            weak::acquire_lock(self.address());
            return Ok(MutexGuard { mutex: self, inner: ManuallyDrop::new(inner) });
        }
    }
}

/// As the standard library's.
pub(crate) struct MutexGuard<'a, T> {
    mutex: &'a Mutex<T>,
    inner: ManuallyDrop<std::sync::MutexGuard<'a, T>>,
}

impl<T> Deref for MutexGuard<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.inner
    }
}

impl<T> DerefMut for MutexGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.inner
    }
}

impl<T> Drop for MutexGuard<'_, T> {
    fn drop(&mut self) {
        weak::release_lock(self.mutex.address());
        // SAFETY:
        // - once, and not used any more
        unsafe { ManuallyDrop::drop(&mut self.inner) };
    }
}

/// As the standard library's, but that nobody wakes up without a reason: a lost wake-up is an execution that never
/// ends.
pub(crate) struct Condvar(AtomicUsize);

#[allow(dead_code)] // the library needs some
impl Condvar {
    pub(crate) const fn new() -> Self {
        Self(AtomicUsize::new(0))
    }

    fn wait_while<'a, T>(
        &self,
        guard: MutexGuard<'a, T>,
        mut waits: impl FnMut() -> bool,
    ) -> (MutexGuard<'a, T>, bool) {
        let (mutex, calls) = (guard.mutex, self.0.load(Relaxed));
        drop(guard);
        let is_called = || self.0.load(Relaxed) != calls;
        while !is_called() && waits() {
            thread::yield_now();
        }
        let is_called = is_called();
        (mutex.lock().unwrap_or_else(PoisonError::into_inner), is_called)
    }

    pub(crate) fn wait<'a, T>(&self, guard: MutexGuard<'a, T>) -> LockResult<MutexGuard<'a, T>> {
        Ok(self.wait_while(guard, || true).0)
    }

    /// And whether it was called.
    pub(crate) fn wait_timeout<'a, T>(
        &self,
        guard: MutexGuard<'a, T>,
        timeout: Duration,
    ) -> LockResult<(MutexGuard<'a, T>, bool)> {
        let nanoseconds = u64::try_from(timeout.as_nanos()).unwrap_or(u64::MAX);
        Ok(self.wait_while(guard, || !weak::times_out(nanoseconds)))
    }

    /// Of the library's, each has one thread that waits.
    pub(crate) fn notify_one(&self) {
        self.notify_all();
    }

    pub(crate) fn notify_all(&self) {
        point();
        self.0.fetch_add(1, Relaxed);
    }
}

/// As the standard library's. Time passes while somebody waits with a timeout, and only then.
#[derive(Clone, Copy)]
pub(crate) struct Instant(u64);

impl Instant {
    pub(crate) fn now() -> Self {
        Self(weak::now())
    }

    pub(crate) fn checked_add(self, time: Duration) -> Option<Self> {
        self.0.checked_add(time.as_nanos().try_into().ok()?).map(Self)
    }

    pub(crate) fn saturating_duration_since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

/// As the standard library's. Setting it happens before what it was set to is got.
pub(crate) struct OnceLock<T>(std::sync::OnceLock<(T, weak::View)>);

impl<T> OnceLock<T> {
    pub(crate) const fn new() -> Self {
        Self(std::sync::OnceLock::new())
    }

    pub(crate) fn get(&self) -> Option<&T> {
        point();
        let (value, view) = self.0.get()?;
        weak::acquire(view);
        Some(value)
    }

    pub(crate) fn set(&self, value: T) -> Result<(), T> {
        point();
        self.0.set((value, weak::release())).map_err(|(value, _)| value)
    }

    /// For statics, which outlive an execution: seen by all at once. `make` must not come to a point.
    pub(crate) fn get_or_init(&self, make: impl FnOnce() -> T) -> &T {
        point();
        &self.0.get_or_init(|| (make(), weak::View::default())).0
    }
}

/// Stands in for crossbeam's queue. An element's push happens before its pop; nothing else is ordered. So a push may find
/// the queue full that is not any more, unless the pop happened before.
pub(crate) struct ArrayQueue<T> {
    elements: UnsafeCell<VecDeque<(T, weak::View)>>,
    capacity: usize,
    /// How many elements were popped.
    popped: AtomicU64,
}

// SAFETY:
// - shuttle runs one thread at a time, and none is stopped while it uses the elements
unsafe impl<T: Send> Sync for ArrayQueue<T> {}

impl<T> ArrayQueue<T> {
    pub(crate) fn new(capacity: usize) -> Self {
        let popped = AtomicU64::new(0);
        Self { elements: UnsafeCell::new(VecDeque::new()), capacity, popped }
    }

    pub(crate) fn push(&self, element: T) -> Result<(), T> {
        point();
        // SAFETY:
        // - no other thread runs until this returns
        let elements = unsafe { &mut *self.elements.get() };
        let popped = self.popped.load(Relaxed);
        let seen = weak::load(self.popped.as_ptr().addr(), popped, Relaxed);
        if elements.len() + (popped - seen) as usize >= self.capacity {
            return Err(element);
        }
        elements.push_back((element, weak::release()));
        Ok(())
    }

    pub(crate) fn pop(&self) -> Option<T> {
        point();
        // SAFETY: as in `push`.
        let elements = unsafe { &mut *self.elements.get() };
        let (element, view) = elements.pop_front()?;
        weak::acquire(&view);
        let popped = self.popped.load(Relaxed);
        _ = weak::change(self.popped.as_ptr().addr(), popped, Relaxed, Relaxed, |popped| Some(popped + 1));
        self.popped.store(popped + 1, Relaxed);
        Some(element)
    }
}

pub(crate) mod hint {
    pub(crate) fn spin_loop() {
        super::thread::yield_now();
    }
}

pub(crate) mod thread {
    use super::weak;
    use std::sync::{Arc, OnceLock};
    use std::time::Duration;

    pub(crate) fn yield_now() {
        // A model failed, and said so; unwinding waits for a thread that will not run any more.
        if std::thread::panicking() {
            std::process::abort();
        }
        if shuttle::current::try_get_current_task().is_some() {
            shuttle::thread::yield_now();
        }
    }

    /// Time has no meaning here.
    pub(crate) fn sleep(_: Duration) {
        yield_now();
    }

    /// As the standard library's.
    pub(crate) struct JoinHandle<T> {
        inner: shuttle::thread::JoinHandle<T>,
        number: Arc<OnceLock<usize>>,
    }

    impl<T> JoinHandle<T> {
        /// What the thread returned. A panic has ended the execution before.
        pub(crate) fn join(self) -> T {
            let value = self.inner.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            weak::acquire_all_of(*self.number.get().expect("it ran"));
            value
        }
    }

    /// As the standard library's.
    pub(crate) fn spawn<T: Send + 'static>(body: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
        let number = Arc::new(OnceLock::new());
        let (own_number, view) = (number.clone(), weak::release());
        let inner = shuttle::thread::spawn(move || {
            let _ = own_number.set(shuttle::current::me().into());
            weak::start_thread(&view);
            body()
        });
        JoinHandle { inner, number }
    }
}
