//! bytepool against what people would use instead, in one run.
//!
//! ```sh
//! cargo run --release --manifest-path benches/peers/Cargo.toml [-- ROUNDS [MILLISECONDS]]
//! cargo run --release --manifest-path benches/peers/Cargo.toml -- quick
//! cargo run --release --manifest-path benches/peers/Cargo.toml -- draw
//! ```
//!
//! The first prints a table of ratios and one of targets, writes `results.json` beside this package, and from that file
//! the picture `speed.svg` and the README's table. The second runs everything once and writes nothing: its figures mean
//! little, its proofs hold. The third only does what follows the file. Everything is interleaved: each round runs each
//! case with each peer for two milliseconds, and the ratios are of the medians over the rounds. Times are CPU time,
//! but for one hand-over, whose threads wait for each other and for locks. Two runs on a shared machine differ by a factor of two;
//! ratios within a run do not.
//!
//! bytepool's C functions and their peers are called through pointers into shared libraries opened by `dlopen`, as
//! a plug-in would. Each loop proves itself: what is written into a buffer is read back, several buffers that are out
//! have marks of their own, and bytepool's own count of gets and puts is the loop's. A proof that fails ends the program
//! with an error; a target that is missed does not.
//!
//! | file | holds |
//! | --- | --- |
//! | `library.rs` | `dlopen` and `dlsym` |
//! | `ours.rs`, `allocators.rs`, `peers.rs`, `owners.rs` | what is measured; owners with the loops of one thread |
//! | `allocators/` | the allocators of crates, as shared libraries |
//! | `cases.rs`, `packets.rs`, `classes.rs`, `threads.rs`, `scale.rs`, `channel.rs`, `cpp.rs` | the loops |
//! | `misuse.rs` | what peers make of wrong puts |
//! | `plan.rs` | which peers run which cases |
//! | `measure.rs` | rounds, calibration, proofs |
//! | `targets.rs`, `reach.rs` | the comparisons, and what they are to reach |
//! | `table.rs`, `json.rs` | the output |
//! | `readme.rs`, `picture.rs` | what the README shows of it |

mod allocators;
mod cases;
mod channel;
mod classes;
mod cpp;
mod json;
mod library;
mod measure;
mod misuse;
mod ours;
mod owners;
mod packets;
mod peers;
mod picture;
mod plan;
mod reach;
mod readme;
mod scale;
mod table;
mod targets;
mod threads;

use std::error::Error;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;
use std::{env, fs};

use measure::Suite;
use plan::Missing;
use targets::Row;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    if arguments == ["draw"] {
        return draw();
    }
    set_tunables()?;
    if arguments == ["quick"] {
        run(1, Duration::from_micros(50));
        return Ok(());
    }
    let is_part = arguments.first().is_some_and(|first| first == PART);
    let mut numbers = arguments.iter().skip(usize::from(is_part)).map(|text| text.parse());
    let rounds: u64 = numbers.next().unwrap_or(Ok(31))?;
    let milliseconds = numbers.next().unwrap_or(Ok(2))?;
    if is_part {
        let (mut suite, _) = plan::suite();
        suite.run(rounds as usize, Duration::from_millis(milliseconds));
        println!("{}", serde_json::json!(suite.samples()));
        return Ok(());
    }
    let measured = run_in_processes(rounds, milliseconds)?;
    json::write(&file(RESULTS), &measured)?;
    println!("written to {}", file(RESULTS).display());
    draw()
}

/// What a run found.
pub struct Measured {
    rounds: usize,
    suite: Suite,
    rows: Vec<Row>,
    missing: Vec<Missing>,
}

/// The first argument of a process that measures some of the rounds.
const PART: &str = "part";
/// Where buffers and stacks lie, and which keys meet in a table, is chance once for a process. So the rounds are divided
/// among so many.
const PROCESSES: u64 = 11;

/// Measures in processes, one after another, and prints the tables.
fn run_in_processes(rounds: u64, milliseconds: u64) -> Result<Measured, Box<dyn Error>> {
    let (mut suite, missing) = plan::suite();
    for process in 0..PROCESSES.min(rounds) {
        let part = rounds / PROCESSES + u64::from(process < rounds % PROCESSES);
        let arguments = [PART.to_owned(), part.to_string(), milliseconds.to_string()];
        let output = Command::new(env::current_exe()?).args(arguments).stderr(Stdio::inherit()).output()?;
        if !output.status.success() {
            return Err(format!("a process that measured ended with {}", output.status).into());
        }
        suite.add_samples(serde_json::from_slice(&output.stdout)?);
    }
    Ok(report(rounds as usize, suite, missing))
}

/// Measures in this process, and prints the tables.
fn run(rounds: usize, time: Duration) -> Measured {
    let (mut suite, missing) = plan::suite();
    suite.run(rounds, time);
    report(rounds, suite, missing)
}

fn report(rounds: usize, suite: Suite, missing: Vec<Missing>) -> Measured {
    let rows = targets::rows(&suite);
    println!("{}, {}, {rounds} rounds", json::today(), json::cpu_model());
    print!("{}", table::render(&rows, &missing));
    print!("\n{}", table::render_misuse(&suite.misuse));
    print!("\n{}", table::render_targets(&rows));
    Measured { rounds, suite, rows, missing }
}

/// The picture and the README's table, from the results as they are in the file.
fn draw() -> Result<(), Box<dyn Error>> {
    let results = readme::Results::read(&file(RESULTS))?;
    let picture = picture::draw(&results)?;
    fs::write(file(LINK), readme::link_with(&picture))?;
    fs::write(file(PICTURE), picture)?;
    let text = fs::read_to_string(file(README))?;
    fs::write(
        file(README),
        readme::with_section(&text, &results).ok_or("the README has no place for the table")?,
    )?;
    println!("drawn to {} and {}", file(PICTURE).display(), file(README).display());
    Ok(())
}

const RESULTS: &str = "results.json";
const PICTURE: &str = "speed.svg";
/// The picture again, for the crate's documentation, which has no other files.
const LINK: &str = "../../docs/speed.md";
const README: &str = "../../README.md";

fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

/// jemalloc's thread-locals need more room than glibc keeps for libraries opened later. Google's tcmalloc keeps its caches
/// by restartable sequences, and takes them for itself only if glibc leaves them alone. Only the environment of a new
/// process can ask for either: this program starts itself again.
fn set_tunables() -> std::io::Result<()> {
    const VARIABLE: &str = "GLIBC_TUNABLES";
    const TUNABLES: &str = "glibc.rtld.optional_static_tls=65536:glibc.pthread.rseq=0";
    if env::var(VARIABLE).is_ok_and(|value| value.contains(TUNABLES)) {
        return Ok(());
    }
    Err(Command::new(env::current_exe()?).args(env::args_os().skip(1)).env(VARIABLE, TUNABLES).exec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_picture_is_drawn_from_the_results() {
        let results = readme::Results::read(&file(RESULTS)).unwrap();
        let picture = picture::draw(&results).unwrap();
        assert_eq!(fs::read_to_string(file(PICTURE)).unwrap(), picture);
        assert_eq!(fs::read_to_string(file(LINK)).unwrap(), readme::link_with(&picture));
    }
}
