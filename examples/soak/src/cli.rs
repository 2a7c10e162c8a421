//! The command line, and the run from end to end.

use std::ffi::c_void;
use std::io::Write;
use std::ptr;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytepool::ffi::capi::{bytepool_invalid_context_count, bytepool_set_misuse_handler};
use bytepool::ffi::misuse::Report as Misuse;

use crate::machine::Machine;
use crate::random::Random;
use crate::report::{Report, Totals};
use crate::round;

const HELP: &str = "\
Random work on shared pools in Rust, C and C++, with failures and misuse on purpose; every buffer and figure is checked.
What it prints, with what it prints on stderr if it fails, is a report to send.

usage: cargo run --release --example soak -- [--seconds N] [--seed N] [--threads N]

  --seconds N  how long; default 10
  --seed N     of the random choices, so that they come again; how threads interleave does not. Default: the time
  --threads N  at once; default 6
  --help       this text
";

struct Arguments {
    seconds: u64,
    seed: u64,
    threads: usize,
}

/// Does what the arguments (without the program's name) say, and prints a summary to `out`.
///
/// # Errors
/// A line for the user, if the arguments are no good or `out` cannot be written.
///
/// # Panics
/// If the pool broke a promise.
pub fn run(arguments: Vec<String>, out: &mut dyn Write) -> Result<(), String> {
    let mut say = |text: &str| {
        out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(|error| error.to_string())
    };
    let Some(arguments) = parse(arguments)? else { return say(HELP) };
    let Arguments { seconds, seed, threads } = arguments;
    // Before the work: a run that fails says what it was, too.
    say(&format!("{Machine}  {:<15}--seconds {seconds} --seed {seed} --threads {threads}\n\n", "arguments"))?;
    say(&soak(&arguments))
}

/// `None` if help is asked for.
fn parse(arguments: Vec<String>) -> Result<Option<Arguments>, String> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let mut parsed = Arguments { seconds: 10, seed: now.as_nanos() as u64 >> 10, threads: 6 };
    let mut arguments = arguments.into_iter();
    while let Some(option) = arguments.next() {
        if option == "--help" || option == "-h" {
            return Ok(None);
        }
        let value = arguments.next().and_then(|value| value.parse::<u64>().ok());
        let value = value.ok_or_else(|| format!("{option} needs a number; see --help"))?;
        match option.as_str() {
            "--seconds" => parsed.seconds = value,
            "--seed" => parsed.seed = value,
            "--threads" if (1..=64).contains(&value) => parsed.threads = value as usize,
            "--threads" => return Err(format!("{value} threads are given; 1 to 64 can be")),
            _ => return Err(format!("there is no option {option}; see --help")),
        }
    }
    Ok(Some(parsed))
}

/// In place of the default handler, which writes to stderr: the misuse is on purpose, and counted.
unsafe extern "C" fn say_nothing(_: *const Misuse, _: *mut c_void) {}

/// Rounds until the time is over; the summary.
fn soak(arguments: &Arguments) -> String {
    let start = Instant::now();
    let deadline = start + Duration::from_secs(arguments.seconds);
    // SAFETY:
    // - it may be called on any thread
    unsafe { bytepool_set_misuse_handler(Some(say_nothing), ptr::null_mut()) };
    let refused_before = bytepool_invalid_context_count();
    let mut random = Random(arguments.seed);
    let mut totals = Totals::default();
    while totals.rounds == 0 || Instant::now() < deadline {
        round::run(&mut random, arguments.threads, deadline, &mut totals);
        totals.rounds += 1;
    }
    let refused = bytepool_invalid_context_count() - refused_before;
    assert_eq!(refused, totals.counts.invalid_contexts, "calls refused for an invalid context");
    Report { seed: arguments.seed, time: start.elapsed(), totals: &totals }.to_string()
}
