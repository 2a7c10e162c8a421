//! The program; what it does is told in `cli.rs`, and how in `relay.rs`.

use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;

use relay_example::{Error, cli};

fn main() -> ExitCode {
    let arguments = std::env::args_os().skip(1).collect();
    let is_watched = io::stderr().is_terminal();
    match cli::run(arguments, &mut io::stdout().lock(), is_watched) {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever reads the report has read enough, as `| head` does.
        Err(Error::Print(error)) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            // Not `eprintln`, which panics where stderr cannot be written.
            let _ = writeln!(io::stderr(), "relay: {error}");
            ExitCode::FAILURE
        }
    }
}
