//! A line of text, made on the stack and written to stderr in one piece. It says what the user did wrong.
//!
//! On Unix nothing here allocates or locks, so a line may be made and written in a signal handler too.

use std::fmt;
#[cfg(target_os = "linux")]
use std::ptr;

#[cfg(unix)]
use super::caller::KeptErrno;

/// What does not fit is cut off.
pub(crate) struct Line {
    text: [u8; 512],
    len: usize,
}

impl Line {
    pub(crate) fn new() -> Self {
        Self { text: [0; 512], len: 0 }
    }

    /// Adds to the line.
    pub(crate) fn add(&mut self, text: fmt::Arguments<'_>) {
        let cut_off = fmt::write(self, text).is_err();
        debug_assert!(!cut_off, "Line::write_str does not fail");
    }

    /// Ends the line and writes it. It is dropped where stderr is closed, broken or full.
    pub(crate) fn print(mut self) {
        // A cut-off line ends as well.
        self.len = self.len.min(self.text.len() - 1);
        self.add(format_args!("\n"));
        write_to_stderr(&self.text[..self.len]);
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

/// Writes if that neither waits nor ends the program. Otherwise it drops the text: perhaps nobody reads stderr, or has
/// it open. It makes the system's calls itself, because `std`'s stderr has a lock and the C library's functions are
/// points of cancellation.
#[cfg(target_os = "linux")]
fn write_to_stderr(text: &[u8]) {
    let _errno = KeptErrno::new();
    let (descriptor, data, len) = (libc::STDERR_FILENO, text.as_ptr(), text.len());
    let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
    let nowhere = ptr::null::<libc::sockaddr>();
    // SAFETY:
    // - `text` is readable for its length
    // - a stat is numbers, for which zeros are valid
    unsafe {
        let mut status = std::mem::zeroed::<libc::stat>();
        if libc::fstat(descriptor, &raw mut status) == 0 && status.st_mode & libc::S_IFMT == libc::S_IFSOCK {
            // Stderr is a socket, such as a system's journal. It may take only a part of the text.
            libc::syscall(libc::SYS_sendto, descriptor, data, len, flags, nowhere, 0);
            return;
        }
        // A pipe that can be written to takes all of it.
        let mut polled = libc::pollfd { fd: descriptor, events: libc::POLLOUT, revents: 0 };
        let (at_once, mask) = (libc::timespec { tv_sec: 0, tv_nsec: 0 }, ptr::null::<libc::sigset_t>());
        let ready = libc::syscall(libc::SYS_ppoll, &raw mut polled, 1, &raw const at_once, mask, 0);
        if ready == 1 && polled.revents & libc::POLLERR == 0 {
            write_without_signal(data, len);
        }
    }
}

/// Writes to stderr. A pipe that was closed meanwhile, or a file at its limit, does not end the program, and a terminal
/// that belongs to another job does not stop it.
///
/// # Safety
/// - `data` is readable for `len` bytes
#[cfg(target_os = "linux")]
unsafe fn write_without_signal(data: *const u8, len: usize) {
    // Signal sets of the kernel's size, which the C library's type need not have.
    const fn set_of(signal: libc::c_int) -> u64 {
        1 << (signal - 1)
    }
    static BLOCKED: u64 = set_of(libc::SIGPIPE) | set_of(libc::SIGXFSZ) | set_of(libc::SIGTTOU);
    let (mut before, mut pending) = (0_u64, 0_u64);
    let size = size_of::<u64>();
    // SAFETY:
    // - all sets are of the kernel's size, and readable or writable
    // - `data` is readable for `len` bytes (caller)
    unsafe {
        let block = libc::SIG_BLOCK;
        libc::syscall(libc::SYS_rt_sigprocmask, block, &raw const BLOCKED, &raw mut before, size);
        libc::syscall(libc::SYS_rt_sigpending, &raw mut pending, size);
        let written = libc::syscall(libc::SYS_write, libc::STDERR_FILENO, data, len);
        let sent = match *libc::__errno_location() {
            libc::EPIPE if written < 0 => set_of(libc::SIGPIPE),
            libc::EFBIG if written < 0 => set_of(libc::SIGXFSZ),
            _ => 0,
        };
        if sent != 0 && pending & sent == 0 {
            let (at_once, info) =
                (libc::timespec { tv_sec: 0, tv_nsec: 0 }, ptr::null_mut::<libc::siginfo_t>());
            libc::syscall(libc::SYS_rt_sigtimedwait, &raw const sent, info, &raw const at_once, size);
        }
        let nothing = ptr::null_mut::<u64>();
        libc::syscall(libc::SYS_rt_sigprocmask, libc::SIG_SETMASK, &raw const before, nothing, size);
    }
}

/// Nearly the same. Another thread may fill or close a pipe between the two calls.
#[cfg(all(unix, not(target_os = "linux")))]
fn write_to_stderr(text: &[u8]) {
    let _errno = KeptErrno::new();
    let mut polled = libc::pollfd { fd: libc::STDERR_FILENO, events: libc::POLLOUT, revents: 0 };
    // SAFETY:
    // - `polled` is writable, and `text` readable for its length
    unsafe {
        if libc::poll(&raw mut polled, 1, 0) == 1 && polled.revents & (libc::POLLERR | libc::POLLHUP) == 0 {
            libc::write(libc::STDERR_FILENO, text.as_ptr().cast(), text.len());
        }
    }
}

#[cfg(not(unix))]
fn write_to_stderr(text: &[u8]) {
    use std::io::Write;
    let _ = std::io::stderr().write_all(text);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_cut_off() {
        let mut line = Line::new();
        line.add(format_args!("{:600}", 1));
        line.add(format_args!("more"));
        assert_eq!(line.len, 512);
        assert!(line.text.iter().all(|&byte| byte == b' '));
    }
}
