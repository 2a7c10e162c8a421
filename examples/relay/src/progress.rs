//! The progress line of long runs.

use std::io::{self, Write};
use std::time::{Duration, Instant};

use crate::units::Bytes;

/// What is over sooner needs no line.
const FIRST: Duration = Duration::from_millis(500);
const PAUSE: Duration = Duration::from_millis(100);

/// A line on stderr that is rewritten now and then, and wiped at the end.
pub(crate) struct Progress {
    what: &'static str,
    total: u64,
    start: Instant,
    /// Elapsed time from which on the line is written next; `None` if nobody watches.
    next: Option<Duration>,
    is_shown: bool,
}

impl Progress {
    /// `total` in bytes.
    pub(crate) fn new(what: &'static str, total: u64, is_watched: bool) -> Self {
        Self { what, total, start: Instant::now(), next: is_watched.then_some(FIRST), is_shown: false }
    }

    pub(crate) fn update(&mut self, bytes: u64) {
        let Some(next) = self.next else { return };
        let elapsed = self.start.elapsed();
        if elapsed < next {
            return;
        }
        let line = line(self.what, bytes, self.total, elapsed);
        // A line that cannot be shown is no reason to stop.
        let _ = write!(io::stderr(), "\r{line}\x1b[K");
        self.next = Some(elapsed + PAUSE);
        self.is_shown = true;
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.is_shown {
            let _ = write!(io::stderr(), "\r\x1b[K");
        }
    }
}

fn line(what: &str, bytes: u64, total: u64, elapsed: Duration) -> String {
    // The file may have grown.
    let percent = if total == 0 { 100.0 } else { (bytes as f64 / total as f64 * 100.0).min(100.0) };
    let per_second = (bytes as f64 / elapsed.as_secs_f64()) as u64;
    format!("{what} {percent:3.0} %  {} of {}  {}/s", Bytes(bytes), Bytes(total), Bytes(per_second))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_has_share_bytes_and_rate() {
        let text = line("relaying", 512 << 20, 1 << 30, Duration::from_millis(500));
        assert_eq!(text, "relaying  50 %  512 MiB of 1.00 GiB  1.00 GiB/s");
        assert!(line("relaying", 10, 0, Duration::from_secs(1)).starts_with("relaying 100 %"));
    }
}
