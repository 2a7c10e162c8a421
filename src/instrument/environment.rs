//! The environment variables that turn instrumentation on for pools that do not ask for it: `BYTEPOOL_TRACK` and
//! `BYTEPOOL_GUARD`, each a number as [`Builder::track_every`](crate::Builder::track_every) takes it.

use crate::sync::OnceLock;
use std::env;

use crate::config::Flags;
use crate::line::Line;

/// What the environment said when the first pool was made.
struct Environment {
    track_every: u32,
    guard_every: u32,
}

impl Flags {
    /// With what the environment says where nothing was asked for.
    pub(crate) fn or_environment(self) -> Self {
        static ENVIRONMENT: OnceLock<Environment> = OnceLock::new();
        let environment = ENVIRONMENT.get_or_init(|| Environment {
            track_every: number("BYTEPOOL_TRACK"),
            guard_every: number("BYTEPOOL_GUARD"),
        });
        let or = |asked: u32, said: u32| if asked == 0 { said } else { asked };
        Self {
            track_every: or(self.track_every, environment.track_every),
            guard_every: or(self.guard_every, environment.guard_every),
            ..self
        }
    }
}

/// The value of a variable; 0 if it is not set. What is no number is said so, once.
fn number(name: &str) -> u32 {
    let Some(value) = env::var_os(name) else { return 0 };
    value.to_str().and_then(|value| value.trim().parse().ok()).unwrap_or_else(|| {
        let mut line = Line::new();
        line.add(format_args!("bytepool: {name}={} is ignored: it is no number", value.display()));
        line.print();
        0
    })
}
