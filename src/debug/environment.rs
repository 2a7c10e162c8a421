//! The environment variables that turn tracking and guards on for pools that do not ask for it: `BYTEPOOL_TRACK` and
//! `BYTEPOOL_GUARD`, each a number as [`Builder::track_every`](crate::Builder::track_every) takes it.

use std::env;

use crate::os::fork::ForkGuard;
use crate::os::lock::Once;
use crate::os::stderr::Line;

/// One get in so many; 0: none.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Sampling {
    pub(crate) track_every: u32,
    pub(crate) guard_every: u32,
}

impl Sampling {
    /// With what the environment said when the first pool was made, where nothing was asked for. What is no number is said
    /// so, once.
    pub(crate) fn or_environment(self, guard: &mut ForkGuard) -> Self {
        static ENVIRONMENT: Once<Sampling> = Once::new();
        let mut bad = [None, None];
        let environment = *ENVIRONMENT.get_or_init(guard, || Self {
            track_every: number("BYTEPOOL_TRACK", &mut bad[0]),
            guard_every: number("BYTEPOOL_GUARD", &mut bad[1]),
        });
        for line in bad.into_iter().flatten() {
            guard.unguarded(|| line.print());
        }
        let or = |asked: u32, said: u32| if asked == 0 { said } else { asked };
        Self {
            track_every: or(self.track_every, environment.track_every),
            guard_every: or(self.guard_every, environment.guard_every),
        }
    }
}

/// The value of a variable; 0 if it is not set. If it is no number, `bad` becomes what to say.
fn number(name: &str, bad: &mut Option<Line>) -> u32 {
    let Some(value) = env::var_os(name) else { return 0 };
    value.to_str().and_then(|value| value.trim().parse().ok()).unwrap_or_else(|| {
        let line = bad.insert(Line::new());
        line.add(format_args!("bytepool: {name}={} is ignored: it is no number", value.display()));
        0
    })
}
