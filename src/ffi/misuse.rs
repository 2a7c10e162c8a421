//! Refused calls from C: reported to the process's handler, and counted where no pool can.

use crate::sync::atomic::AtomicU64;
use crate::sync::atomic::Ordering::Relaxed;
use std::ffi::c_void;
use std::ptr;
use std::time::{Duration, Instant};

use crate::debug::written;
use crate::error::Misuse;
use crate::ffi::context::resolve;
use crate::ffi::last_error::{Failure, set_last_error};
use crate::ffi::status::Status;
use crate::os::caller::KeptErrno;
use crate::os::fork::ForkGuard;
use crate::os::lock::{Lock, Once};
use crate::os::stderr::Line;

/// `bytepool_misuse`: one refused call.
///
/// It is good while the handler runs.
///
/// ```
/// use bytepool::ffi::{capi, misuse::Report, status::Status};
/// use std::ffi::c_void;
///
/// unsafe extern "C" fn note(report: *const Report, kind: *mut c_void) {
///     // SAFETY:
///     // - the library passes a report, and the pointer that was set below
///     unsafe { kind.cast::<i32>().write((*report).kind) };
/// }
/// let mut kind = 0;
/// // SAFETY:
/// // - `note` may be called while `kind` is there, and does not throw
/// unsafe { capi::bytepool_set_misuse_handler(Some(note), (&raw mut kind).cast()) };
/// capi::bytepool_free(std::ptr::null_mut());
/// assert_eq!(kind, Status::InvalidContext as i32);
/// # unsafe { capi::bytepool_set_misuse_handler(None, std::ptr::null_mut()) };
/// ```
#[derive(Debug)]
#[repr(C)]
pub struct Report {
    /// The size of this struct in the library's version, in bytes. Later versions only append.
    pub struct_size: usize,
    /// The `bytepool_status` of the refused call: invalid context, foreign pointer, double put or size mismatch.
    pub kind: i32,
    /// The context that the caller gave.
    pub context: *mut c_void,
    /// The pointer that the caller gave. NULL if the function takes none.
    pub data: *const c_void,
    /// The size that the caller gave, in bytes. 0 if the function takes none.
    pub size: usize,
    /// The buffer size of the class that owns `data`, or an oversize buffer's own, in bytes. 0 if its owner is unknown.
    pub buffer_size: usize,
}

/// `bytepool_misuse_handler`: what [`bytepool_set_misuse_handler`](super::capi::bytepool_set_misuse_handler) takes.
///
/// It is called on the thread that misused, with no lock held. It must not throw.
///
/// ```
/// use bytepool::ffi::{capi, misuse::{Handler, Report}};
/// use std::ffi::c_void;
///
/// unsafe extern "C" fn end(_: *const Report, _: *mut c_void) {
///     std::process::abort();
/// }
/// let handler: Handler = end;
/// // SAFETY:
/// // - it may be called on any thread, and does not throw
/// unsafe { capi::bytepool_set_misuse_handler(Some(handler), std::ptr::null_mut()) };
/// # unsafe { capi::bytepool_set_misuse_handler(None, std::ptr::null_mut()) };
/// ```
pub type Handler = unsafe extern "C" fn(*const Report, *mut c_void);

/// What the user set. The pointer is handed back to the user's function, never used here.
struct Installed {
    handler: Option<Handler>,
    user_data: *mut c_void,
}
// SAFETY:
// - `user_data` is only passed on
// - the setter vouched that the handler may be called on any thread
unsafe impl Send for Installed {}

static INSTALLED: Lock<Installed> = Lock::new(Installed { handler: None, user_data: ptr::null_mut() });

/// Calls refused for an invalid context, in the whole process.
static INVALID_CONTEXTS: AtomicU64 = AtomicU64::new(0);

/// Replaces the handler; `None` brings the default back.
pub(crate) fn set_handler(guard: &ForkGuard, handler: Option<Handler>, user_data: *mut c_void) {
    *INSTALLED.lock(guard) = Installed { handler, user_data };
}

pub(crate) fn invalid_context_count() -> u64 {
    INVALID_CONTEXTS.load(Relaxed)
}

/// Reports a call with an invalid context. Returns its status.
#[cold]
pub(crate) fn refuse_context(
    guard: &mut ForkGuard,
    context: *mut c_void,
    data: *const c_void,
    size: usize,
) -> Status {
    // Relaxed: a figure only.
    INVALID_CONTEXTS.fetch_add(1, Relaxed);
    report(guard, Status::InvalidContext.into(), context, data, size, 0)
}

/// Reports a pointer that the pool refused and counted. Returns its status.
#[cold]
pub(crate) fn refuse_pointer(
    guard: &mut ForkGuard,
    misuse: &Misuse,
    context: *mut c_void,
    data: *const c_void,
    size: usize,
) -> Status {
    report(guard, (*misuse).into(), context, data, size, misuse.buffer_size())
}

fn report(
    guard: &mut ForkGuard,
    failure: Failure,
    context: *mut c_void,
    data: *const c_void,
    size: usize,
    buffer_size: usize,
) -> Status {
    let status = failure.status();
    // The handler may change it.
    let _errno = KeptErrno::new();
    let mut report =
        Report { struct_size: size_of::<Report>(), kind: status as i32, context, data, size, buffer_size };
    written(&mut report);
    let (handler, user_data) = {
        let installed = INSTALLED.lock(guard);
        (installed.handler, installed.user_data)
    };
    match handler {
        // SAFETY:
        // - the setter of the handler vouched that it may be called so, on any thread
        // - no lock of ours is held
        Some(handler) => guard.unguarded(|| unsafe { handler(&report, user_data) }),
        None => print(guard, &report, status),
    }
    // It is set after the handler, because calls of the handler's own may have failed.
    set_last_error(failure);
    status
}

/// The most lines the default handler prints in any second.
const LINES_PER_SECOND: usize = 10;
const SECOND: Duration = Duration::from_secs(1);

/// When the last lines were printed, and how many were left out since.
struct Throttle {
    /// Since [`START`]; the oldest at `next`.
    printed: [Option<Duration>; LINES_PER_SECOND],
    next: usize,
    left_out: u64,
}

static START: Once<Instant> = Once::new();
static THROTTLE: Lock<Throttle> = Lock::new(Throttle::new());

impl Throttle {
    const fn new() -> Self {
        Self { printed: [None; LINES_PER_SECOND], next: 0, left_out: 0 }
    }

    /// Whether to print at `now`; if so, how many were left out before.
    fn admit(&mut self, now: Duration) -> Option<u64> {
        // The tenth line before this one.
        let oldest = &mut self.printed[self.next];
        // Times are taken without the lock, so `now` may be a little before what another thread printed.
        if oldest.is_some_and(|then| now.saturating_sub(then) < SECOND) {
            self.left_out += 1;
            return None;
        }
        *oldest = Some(now);
        self.next = (self.next + 1) % LINES_PER_SECOND;
        Some(std::mem::take(&mut self.left_out))
    }
}

/// The default handler: one line on stderr, written in one piece.
fn print(guard: &mut ForkGuard, report: &Report, status: Status) {
    let now = START.get_or_init(guard, Instant::now).elapsed();
    let Some(left_out) = THROTTLE.lock(guard).admit(now) else { return };
    if left_out > 0 {
        let mut line = Line::new();
        line.add(format_args!("bytepool: {left_out} more misuses were not shown"));
        guard.unguarded(|| line.print());
    }
    let mut line = Line::new();
    let message = status.message().to_str().unwrap_or("misuse");
    let Report { context, data, size, buffer_size, .. } = *report;
    line.add(format_args!(
        "bytepool: misuse refused: {message}; context {context:p}, pointer {data:p}, size {size}"
    ));
    if buffer_size > 0 {
        line.add(format_args!(", buffer size {buffer_size}"));
    }
    // A library's hook may pass the context last, and bytepool_put takes it first.
    if status == Status::InvalidContext && resolve(guard, data.cast_mut()).is_some() {
        line.add(format_args!("; the pointer is a context: are the arguments swapped?"));
    }
    guard.unguarded(|| line.print());
}

#[cfg(test)]
mod tests {
    use super::*;

    const MILLISECOND: Duration = Duration::from_millis(1);

    #[test]
    fn ten_lines_a_second_then_a_count() {
        let mut throttle = Throttle::new();
        assert_eq!((0..10).map(|_| throttle.admit(SECOND)).collect::<Vec<_>>(), [Some(0); 10]);
        assert_eq!((0..25).map(|_| throttle.admit(2 * SECOND - MILLISECOND)).collect::<Vec<_>>(), [None; 25]);
        assert_eq!(throttle.admit(2 * SECOND), Some(25));
        assert_eq!(throttle.admit(2 * SECOND), Some(0));
    }

    #[test]
    fn no_second_has_more_than_ten_lines_wherever_it_starts() {
        let mut throttle = Throttle::new();
        // Irregular, and often at the end of one second and the start of the next.
        let times = (0..4000_u32).map(|step| MILLISECOND * (step * step % 7 + step));
        let printed: Vec<Duration> = times.filter(|&now| throttle.admit(now).is_some()).collect();
        assert!(printed.len() >= 40, "{} lines", printed.len());
        for ten_apart in printed.windows(LINES_PER_SECOND + 1) {
            assert!(ten_apart[LINES_PER_SECOND] - ten_apart[0] >= SECOND, "{ten_apart:?}");
        }
    }
}
