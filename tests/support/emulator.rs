//! How a program of the machine that the tests are built for starts, where another machine emulates that one.

// Each test binary uses a part of this.
#![allow(dead_code)]

use std::env;
use std::ffi::OsStr;
use std::process::Command;

/// The emulator with its arguments, where the tests run in one, or the programs that they start: `tests/aarch64` sets
/// this.
const RUNNER: &str = "BYTEPOOL_RUNNER";

/// Whether the tests, or the programs that they start, run in an emulator: that is slow, and checkers of memory do not
/// run in it.
pub fn is_emulated() -> bool {
    env::var_os(RUNNER).is_some()
}

/// Whether fewer rounds are to run therefore; `tests/aarch64 --all` wants all of them.
pub fn has_fewer_rounds() -> bool {
    is_emulated() && env::var_os("BYTEPOOL_ALL_ROUNDS").is_none()
}

/// A program, arguments still to come.
pub fn start(program: impl AsRef<OsStr>) -> Command {
    let runner = env::var(RUNNER).unwrap_or_default();
    let mut words = runner.split_whitespace();
    let Some(emulator) = words.next() else { return Command::new(program) };
    let mut command = Command::new(emulator);
    command.args(words).arg(program);
    command
}
