//! What a peer makes of wrong puts, as tried: each in a child process, which may crash.

use std::hint::black_box;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::peers::Peer;

/// What is tried. Each gets its buffers with [`SIZE`].
pub const TRIALS: [&str; 5] = ["put twice", "twice, not in turn", "inside a buffer", "foreign", "other size"];
const SIZE: usize = 4096;

/// What a child came to.
#[derive(Clone, Copy, PartialEq)]
pub enum Verdict {
    /// It went on as if nothing were wrong.
    Nothing,
    /// Refused and counted, or ended on purpose.
    Found,
    /// A fault, or no end: nobody found anything.
    Crash,
}

impl Verdict {
    pub fn word(self) -> &'static str {
        match self {
            Self::Nothing => "-",
            Self::Found => "found",
            Self::Crash => "crash",
        }
    }
}

/// All trials. Called before there are threads: a child has only the one that forks.
pub fn try_all<P: Peer>(peer: P) -> [Verdict; TRIALS.len()] {
    std::array::from_fn(|number| in_child(peer, number))
}

fn in_child<P: Peer>(peer: P, number: usize) -> Verdict {
    const FOUND: i32 = 3;
    // SAFETY:
    // - no thread of ours is there, so no lock is held in the child
    let child = unsafe { libc::fork() };
    assert!(child >= 0, "no child process");
    if child == 0 {
        // SAFETY:
        // - the calls have no conditions; what the trial breaks is the child's alone, which ends without cleaning up
        unsafe {
            libc::close(libc::STDERR_FILENO);
            libc::alarm(5);
            let found = catch_unwind(AssertUnwindSafe(|| {
                wrong(peer, number);
                // bytepool's tells, by a panic, that it refused a call.
                peer.counts();
            }));
            libc::_exit(if found.is_err() { FOUND } else { 0 });
        }
    }
    let mut status = 0;
    // SAFETY:
    // - a child of this process, and the status may be written
    let waited = unsafe { libc::waitpid(child, &mut status, 0) };
    assert_eq!(waited, child, "the child is gone");
    let on_purpose = [libc::SIGABRT, libc::SIGILL, libc::SIGTRAP];
    if libc::WIFEXITED(status) {
        if libc::WEXITSTATUS(status) == 0 { Verdict::Nothing } else { Verdict::Found }
    } else if on_purpose.contains(&libc::WTERMSIG(status)) {
        Verdict::Found
    } else {
        Verdict::Crash
    }
}

/// # Safety
/// - the process is one that may break
unsafe fn wrong<P: Peer>(peer: P, number: usize) {
    static FOREIGN: [u64; 1024] = [0; 1024];
    // SAFETY:
    // - as the caller says: the contract is broken on purpose
    unsafe {
        let (first, second) = (peer.get(SIZE), peer.get(SIZE));
        match number {
            0 => {
                peer.put(first, SIZE);
                peer.put(first, SIZE);
            }
            1 => {
                peer.put(first, SIZE);
                peer.put(second, SIZE);
                peer.put(first, SIZE);
            }
            2 => peer.put(first.add(64), SIZE),
            3 => peer.put(black_box(FOREIGN.as_ptr()).cast_mut().cast::<u8>().add(64), SIZE),
            _ => peer.put(first, 512),
        }
        black_box(peer.get(SIZE));
    }
}
