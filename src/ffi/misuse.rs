//! Refused calls from C: reported to the process's handler, and counted where no pool can.

use crate::sync::atomic::AtomicU64;
use crate::sync::atomic::Ordering::Relaxed;
use crate::sync::{Mutex, OnceLock, PoisonError};
use std::ffi::c_void;
use std::fmt;
use std::io::Write;
use std::ptr;
use std::time::Instant;

use crate::error::Misuse;
use crate::ffi::status::{Status, set_last_error};
use crate::fork;
use crate::instrument::written;

/// `bytepool_misuse`.
#[derive(Debug)]
#[repr(C)]
pub struct Report {
    /// Of this version of the library.
    pub struct_size: usize,
    /// `bytepool_status`.
    pub kind: i32,
    /// As given.
    pub context: *mut c_void,
    /// As given.
    pub data: *const c_void,
    /// As given, in bytes.
    pub size: usize,
    /// Of the class that owns `data`, in bytes; 0 if unknown.
    pub buffer_size: usize,
}

/// `bytepool_misuse_handler`.
pub type Handler = unsafe extern "C" fn(*const Report, *mut c_void);

/// What the user set. The pointer is handed back to the user's function, never used here.
struct Installed {
    handler: Option<Handler>,
    user_data: *mut c_void,
}
// SAFETY:
// - `user_data` is only passed on; that the handler may be called on any thread is the setter's contract
unsafe impl Send for Installed {}

static INSTALLED: Mutex<Installed> = Mutex::new(Installed { handler: None, user_data: ptr::null_mut() });

/// Calls refused for an invalid context, in the whole process.
static INVALID_CONTEXTS: AtomicU64 = AtomicU64::new(0);

/// Replaces the handler; `None` brings the default back.
pub(crate) fn set_handler(handler: Option<Handler>, user_data: *mut c_void) {
    *INSTALLED.lock().unwrap_or_else(PoisonError::into_inner) = Installed { handler, user_data };
}

pub(crate) fn invalid_context_count() -> u64 {
    INVALID_CONTEXTS.load(Relaxed)
}

/// Reports a call with an invalid context; its status.
#[cold]
pub(crate) fn refuse_context(context: *mut c_void, data: *const c_void, size: usize) -> Status {
    // Relaxed: a figure only.
    INVALID_CONTEXTS.fetch_add(1, Relaxed);
    report(Status::InvalidContext, context, data, size, 0)
}

/// Reports a pointer that the pool refused (and counted); its status.
#[cold]
pub(crate) fn refuse_pointer(
    misuse: &Misuse,
    context: *mut c_void,
    data: *const c_void,
    size: usize,
) -> Status {
    report(misuse.into(), context, data, size, misuse.buffer_size())
}

fn report(
    status: Status,
    context: *mut c_void,
    data: *const c_void,
    size: usize,
    buffer_size: usize,
) -> Status {
    let _section = fork::section();
    let mut report =
        Report { struct_size: size_of::<Report>(), kind: status as i32, context, data, size, buffer_size };
    written(&mut report);
    let (handler, user_data) = {
        let installed = INSTALLED.lock().unwrap_or_else(PoisonError::into_inner);
        (installed.handler, installed.user_data)
    };
    match handler {
        // SAFETY:
        // - the setter of the handler vouched that it may be called so, on any thread
        // - no lock of ours is held
        Some(handler) => fork::outside(|| unsafe { handler(&report, user_data) }),
        None => print(&report, status),
    }
    // After the handler, which may have failed in calls of its own.
    set_last_error(status);
    status
}

/// Lines the default handler prints per second.
const LINES_PER_SECOND: u64 = 10;

/// How many lines were printed in the current second, and how many were left out since the last was.
struct Throttle {
    second: u64,
    printed: u64,
    left_out: u64,
}

static THROTTLE: Mutex<Throttle> = Mutex::new(Throttle { second: 0, printed: 0, left_out: 0 });

impl Throttle {
    /// Whether to print in this second; if so, how many were left out before.
    fn admit(&mut self, second: u64) -> Option<u64> {
        if second != self.second {
            (self.second, self.printed) = (second, 0);
        }
        if self.printed == LINES_PER_SECOND {
            self.left_out += 1;
            return None;
        }
        self.printed += 1;
        Some(std::mem::take(&mut self.left_out))
    }
}

/// The default handler: one line on stderr, written in one piece.
fn print(report: &Report, status: Status) {
    static START: OnceLock<Instant> = OnceLock::new();
    let second = START.get_or_init(Instant::now).elapsed().as_secs();
    let Some(left_out) = THROTTLE.lock().unwrap_or_else(PoisonError::into_inner).admit(second) else {
        return;
    };
    let mut line = Line::default();
    // Neither a full line nor a closed stderr may fail the call that misused.
    if left_out > 0 {
        let _ = fmt::write(&mut line, format_args!("bytepool: {left_out} more misuses were not shown\n"));
    }
    let message = status.message().to_str().unwrap_or("misuse");
    let Report { context, data, size, buffer_size, .. } = *report;
    let _ = fmt::write(
        &mut line,
        format_args!(
            "bytepool: misuse refused: {message}; context {context:p}, pointer {data:p}, size {size}"
        ),
    );
    if buffer_size > 0 {
        let _ = fmt::write(&mut line, format_args!(", class of {buffer_size} bytes"));
    }
    let _ = fmt::write(&mut line, format_args!("\n"));
    let _ = fork::outside(|| write_to_stderr(line.bytes()));
}

/// Past the lock of the standard library's stderr, which another thread may hold for ever in a child of
/// `fork`.
#[cfg(unix)]
fn write_to_stderr(text: &[u8]) -> std::io::Result<()> {
    use std::os::fd::FromRawFd;
    // SAFETY:
    // - it is not closed here: the process's it stays
    let stderr = unsafe { std::fs::File::from_raw_fd(libc::STDERR_FILENO) };
    std::mem::ManuallyDrop::new(stderr).write_all(text)
}

#[cfg(not(unix))]
fn write_to_stderr(text: &[u8]) -> std::io::Result<()> {
    std::io::stderr().write_all(text)
}

/// Text on the stack: reporting must not allocate. What does not fit is cut off.
struct Line {
    text: [u8; 512],
    len: usize,
}

impl Default for Line {
    fn default() -> Self {
        Self { text: [0; 512], len: 0 }
    }
}

impl Line {
    fn bytes(&self) -> &[u8] {
        &self.text[..self.len]
    }
}

impl fmt::Write for Line {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let fits = text.len().min(self.text.len() - self.len);
        self.text[self.len..self.len + fits].copy_from_slice(&text.as_bytes()[..fits]);
        self.len += fits;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_lines_a_second_then_a_count() {
        let mut throttle = Throttle { second: 0, printed: 0, left_out: 0 };
        assert_eq!((0..10).map(|_| throttle.admit(0)).collect::<Vec<_>>(), [Some(0); 10]);
        assert_eq!((0..25).map(|_| throttle.admit(0)).collect::<Vec<_>>(), [None; 25]);
        assert_eq!(throttle.admit(1), Some(25));
        assert_eq!(throttle.admit(1), Some(0));
    }
}
