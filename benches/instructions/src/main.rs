//! How many instructions bytepool's operations take, against the figures in `expected.txt`.
//!
//! ```sh
//! cargo run --release --manifest-path benches/instructions/Cargo.toml                # compares; 1 if one is off
//! cargo run --release --manifest-path benches/instructions/Cargo.toml -- --update    # writes the file anew
//! ```
//!
//! Callgrind runs each case with two counts of turns; the difference of what it collected, by the difference of the
//! counts, is what one turn takes, the loop around it included. Warming up and the making of threads and pools fall out.
//! Time plays no part, so a busy machine gives the same figures. Another version of the compiler may not, nor another C
//! library where a case calls its memset.
//!
//! Each case proves itself, as the benchmarks do. `c/counted.c` has the cases in C, and `cpp/counted.cpp` those in C++, over the shared library.

mod expected;
mod owner;

use std::env;
use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use expected::Figures;

/// The programs that are counted.
enum Program {
    /// c/counted.c
    C,
    /// cpp/counted.cpp
    Cpp,
    /// This one.
    Rust,
}

/// Name in the file, and who runs it under what name.
const CASES: [(&str, Program, &str); 13] = [
    ("pair in C, 4096 bytes", Program::C, "pair"),
    ("pair in C, put without size", Program::C, "put_unsized"),
    ("pair in C, grown in between", Program::C, "grown"),
    ("pair in C, the second class of a step", Program::C, "second"),
    ("pair in C, got by realloc of NULL", Program::C, "made"),
    ("pair in C, 64 zero bytes", Program::C, "calloc"),
    ("hand-over in C, 64 by turns", Program::C, "hand_over"),
    ("overflow in C", Program::C, "overflow"),
    ("PooledBuffer in Rust", Program::Rust, owner::CASE),
    ("PooledBuffer in C++", Program::Cpp, "owner"),
    ("allocator in C++", Program::Cpp, "allocator"),
    ("memory_resource in C++", Program::Cpp, "resource"),
    ("a share more and less in C++", Program::Cpp, "shares"),
];

/// Turns of the two runs: whole batches of the hand-over, and many times what a class holds.
const COUNTS: [u64; 2] = [64 * 100, 64 * 300];

fn main() -> ExitCode {
    run().unwrap_or_else(|error| {
        eprintln!("{error}");
        ExitCode::FAILURE
    })
}

fn run() -> Result<ExitCode, Box<dyn Error>> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("expected.txt");
    match arguments[..] {
        [case, count] if case == owner::CASE => {
            owner::run(count.parse()?);
            Ok(ExitCode::SUCCESS)
        }
        [] => {
            let verdict = Figures::read(&file)?.compare(&count_all()?);
            print!("{}", verdict.table);
            Ok(if verdict.good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
        }
        ["--update"] => {
            fs::write(&file, count_all()?.to_string())?;
            println!("written to {}", file.display());
            Ok(ExitCode::SUCCESS)
        }
        _ => Err("usage: bytepool-instructions [--update]".into()),
    }
}

fn count_all() -> Result<Figures, Box<dyn Error>> {
    let figure = |(name, program, case): &(&str, Program, &str)| {
        let path = match program {
            Program::C => PathBuf::from(env!("COUNTED_C")),
            Program::Cpp => PathBuf::from(env!("COUNTED_CPP")),
            Program::Rust => env::current_exe()?,
        };
        let [few, many] = COUNTS.map(|count| collected(&path, case, count));
        let turns = (COUNTS[1] - COUNTS[0]) as f64;
        Ok(((*name).to_owned(), (many? - few?) as f64 / turns))
    };
    Ok(Figures { cases: CASES.iter().map(figure).collect::<Result<_, Box<dyn Error>>>()? })
}

/// The instructions in the functions named `counted_...`, of all threads.
fn collected(program: &Path, case: &str, count: u64) -> Result<u64, Box<dyn Error>> {
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null", "--toggle-collect=counted_*"])
        .arg(program)
        .args([case, &count.to_string()])
        .output()
        .map_err(|error| format!("cannot run valgrind (Debian package valgrind): {error}"))?;
    let text = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        return Err(format!("{case} failed under callgrind:\n{text}").into());
    }
    let total = text.lines().find_map(|line| line.split_once("Collected : ")?.1.trim().parse().ok());
    total.filter(|&total| total > count).ok_or_else(|| format!("callgrind collected nothing:\n{text}").into())
}
