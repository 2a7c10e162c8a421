//! The environment variables that turn tracking and guards on for pools that do not ask for it: `BYTEPOOL_TRACK` and
//! `BYTEPOOL_GUARD`. Each is a number: of so many gets one is chosen, and 0 means none.

use std::env;
use std::ffi::{OsStr, OsString};
use std::path::Path;

use crate::os::fork::ForkGuard;
use crate::os::lock::Once;
use crate::os::stderr::Line;

const TRACK: &str = "BYTEPOOL_TRACK";
const GUARD: &str = "BYTEPOOL_GUARD";

/// Of so many gets one is chosen; 0 means none.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Sampling {
    pub(crate) track_every: u32,
    pub(crate) guard_every: u32,
}

impl Sampling {
    /// Fills in what the environment says, where the pool asks for nothing. The environment is read when the first pool
    /// is made, but not by a privileged program, such as a setuid one. A value that is no number is reported once, on
    /// stderr.
    pub(crate) fn or_environment(self, guard: &mut ForkGuard) -> Self {
        let environment = of_environment(guard);
        let or = |asked: u32, said: u32| if asked == 0 { said } else { asked };
        Self {
            track_every: or(self.track_every, environment.track_every),
            guard_every: or(self.guard_every, environment.guard_every),
        }
    }
}

/// This is a function of its own and not inlined, because the lines need much stack.
#[inline(never)]
fn of_environment(guard: &mut ForkGuard) -> Sampling {
    static ENVIRONMENT: Once<Sampling> = Once::new();
    if let Some(known) = ENVIRONMENT.get() {
        return *known;
    }
    // Unguarded: the environment has a lock, which a thread that forks may hold.
    let mut bad = [None, None];
    let [track_every, guard_every] = guard.unguarded(|| {
        if is_privileged() {
            return [0, 0];
        }
        [number(TRACK, &mut bad[0]), number(GUARD, &mut bad[1])]
    });
    let mut is_first = false;
    let environment = *ENVIRONMENT.get_or_init(guard, || {
        is_first = true;
        Sampling { track_every, guard_every }
    });
    for (name, value) in [TRACK, GUARD].into_iter().zip(&bad).filter(|_| is_first) {
        if let Some(value) = value {
            guard.unguarded(|| complain(name, value));
        }
    }
    environment
}

/// Whether the program has rights that its user has not, as a setuid one has. Then the user's environment does not
/// decide what it writes.
#[cfg(any(target_os = "linux", target_os = "android"))]
fn is_privileged() -> bool {
    // SAFETY:
    // - only reads what the system told the process
    unsafe { libc::getauxval(libc::AT_SECURE) != 0 }
}

/// Elsewhere it is taken for none.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn is_privileged() -> bool {
    false
}

/// The value of a variable. It is 0 if the variable is not set, or is no number. Then `bad` becomes its text.
fn number(name: &str, bad: &mut Option<OsString>) -> u32 {
    let Some(value) = env::var_os(name) else { return 0 };
    match value.to_str().and_then(|value| value.trim().parse().ok()) {
        Some(number) => number,
        None => {
            *bad = Some(value);
            0
        }
    }
}

#[cold]
#[inline(never)]
fn complain(name: &str, value: &OsStr) {
    let mut line = Line::new();
    line.add(format_args!("bytepool: {name}={} is ignored: it is no number", Path::new(value).display()));
    line.print();
}
