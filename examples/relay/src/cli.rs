//! The command line, and the run from end to end.

use std::env;
use std::ffi::OsString;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Instant;

use bytepool::Pool;
use bytepool::ffi::status::Status;

use crate::error::Error;
use crate::files::{Output, refuse_same_file, size_of_regular_file};
use crate::misuse::put_twice;
use crate::progress::Progress;
use crate::relay::{build_pool, relay};
use crate::report::{Report, peak_resident_bytes};
use crate::verify::verify;

const HELP: &str = "\
Relays a file through Rust, C and C++ in the buffers of one bytepool, and proves that it arrived.

usage: cargo run --release --example relay -- [FILE [OUTPUT]]

  FILE     what to relay: any regular file. Default: this program
  OUTPUT   where to keep the delta-coded file, made or overwritten. Default: a temporary file, as large as FILE,
           removed at the end
  --help   this text
";

enum Command {
    Help,
    Relay { input: PathBuf, output: Option<PathBuf> },
}

/// Does what the arguments (without the program's name) say, and prints to `out`. A progress line goes to stderr if
/// somebody watches.
///
/// # Errors
/// [`Error`], whose text is one line for the user.
pub fn run(arguments: Vec<OsString>, out: &mut dyn Write, is_watched: bool) -> Result<(), Error> {
    let text = match parse(arguments)? {
        Command::Help => HELP.to_owned(),
        Command::Relay { input, output } => run_relay(&input, output, is_watched)?,
    };
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(Error::Print)
}

fn parse(arguments: Vec<OsString>) -> Result<Command, Error> {
    let mut paths = Vec::new();
    let mut options_end = false;
    for argument in arguments {
        match argument.to_str() {
            Some("--") if !options_end => options_end = true,
            Some("--help" | "-h") if !options_end => return Ok(Command::Help),
            Some(text) if !options_end && text.starts_with('-') => {
                return Err(Error::Usage(format!("there is no option {text}")));
            }
            _ => paths.push(PathBuf::from(argument)),
        }
    }
    if paths.len() > 2 {
        return Err(Error::Usage(format!("{} paths are given; at most 2 are used", paths.len())));
    }
    let mut paths = paths.into_iter();
    let input = paths.next().map_or_else(this_program, Ok)?;
    Ok(Command::Relay { input, output: paths.next() })
}

/// A file of some megabytes that everybody has who can run this.
fn this_program() -> Result<PathBuf, Error> {
    let file = env::current_exe().map_err(|source| Error::Read { path: "this program".into(), source })?;
    let here = env::current_dir().unwrap_or_default();
    Ok(file.strip_prefix(here).map(Path::to_path_buf).unwrap_or(file))
}

/// Relays, verifies, and looks back; the report.
fn run_relay(input: &Path, output: Option<PathBuf>, is_watched: bool) -> Result<String, Error> {
    let size = size_of_regular_file(input)?;
    let output = match output {
        Some(path) => Output::Named(path),
        None => Output::temporary()?,
    };
    refuse_same_file(input, output.path())?;
    let pool = build_pool()?;

    let start = Instant::now();
    let mut progress = Progress::new("relaying", size, is_watched);
    let summary = relay(&pool, input, output.path(), &mut |bytes| progress.update(bytes))?;
    drop(progress);
    let relay_time = start.elapsed();

    let start = Instant::now();
    let mut progress = Progress::new("verifying", size, is_watched);
    let verified = verify(&pool, input, output.path(), &mut |bytes| progress.update(bytes))?;
    drop(progress);
    let verify_time = start.elapsed();

    // Read before the misuse on purpose: whatever is counted here happened on its own.
    let stats = pool.stats();
    let double_puts_at_end = show_misuse(&pool)?;
    let peak_resident = peak_resident_bytes();
    let report = Report {
        input,
        output: &output,
        summary,
        relay_time,
        verified,
        verify_time,
        stats,
        double_puts_at_end,
        peak_resident,
    };
    Ok(report.to_string())
}

/// Has C put one buffer twice; how many double puts the pool has counted after that.
fn show_misuse(pool: &Pool) -> Result<u64, Error> {
    let before = pool.stats().double_puts;
    let verdict = put_twice(&pool.try_context()?);
    let after = pool.stats().double_puts;
    match verdict {
        Some(Status::DoublePut) if after == before + 1 => Ok(after),
        _ => Err(Error::NotRefused { verdict, counted: after - before }),
    }
}
