//! See the library's documentation.

use std::process::ExitCode;

fn main() -> ExitCode {
    match soak_example::cli::run(std::env::args().skip(1).collect(), &mut std::io::stdout()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(text) => {
            eprintln!("soak: {text}");
            ExitCode::FAILURE
        }
    }
}
