//! A line of text made on the stack and written to stderr in one piece: what the library says about its user's
//! mistakes.
//!
//! Nothing here allocates or locks, so a line may be made and written in a signal handler too.

use std::fmt;

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

    /// Ends the line and writes it. A closed stderr is nobody's mistake.
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

/// The system's call itself: `std`'s stderr has a lock, and the C library's function ends a thread that was cancelled, in
/// the middle of ours.
#[cfg(target_os = "linux")]
fn write_to_stderr(text: &[u8]) {
    // SAFETY:
    // - `text` is readable for its length
    unsafe { libc::syscall(libc::SYS_write, libc::STDERR_FILENO, text.as_ptr(), text.len()) };
}

/// As above, as near as it can be had.
#[cfg(all(unix, not(target_os = "linux")))]
fn write_to_stderr(text: &[u8]) {
    // SAFETY:
    // - `text` is readable for its length
    unsafe { libc::write(libc::STDERR_FILENO, text.as_ptr().cast(), text.len()) };
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
