//! Other libraries' real jobs with a pool's memory, against the same with malloc's. The pool has general-purpose classes
//! from 16 bytes on, and the alignment of malloc's memory, 16.
//!
//! ```sh
//! cargo run --release --manifest-path benches/libraries/Cargo.toml [-- ROUNDS | once | draw]
//! ```
//!
//! Each job is a program of `c`. In each round it does its work with malloc and with the pool in turn, compares the
//! results, and checks that the pool has everything back and refused nothing. A proof that fails ends this program with
//! an error; a target that is missed does not.
//!
//! - **Time** is the CPU time of a job with the pool by that with malloc: the median of the rounds' ratios.
//! - **Memory** is what the pool has mapped at most in a job, by the most that the library had asked for. The latter a
//!   second run tells, with `asked.c` in place of bytepool. The pool's books come on top.
//!
//! That writes `results.json`, and from it the guide's table and picture, as `draw` does alone. `once` proves each job,
//! times none and writes nothing.

mod guide;
mod jobs;

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

use guide::{Results, picture, with_section};
use jobs::{JOBS, Job};

type Outcome<T> = Result<T, Box<dyn Error>>;

fn main() -> Outcome<()> {
    let argument = env::args().nth(1);
    match argument.as_deref() {
        Some("draw") => draw(),
        Some("once") => run(0).map(drop),
        rounds => {
            let rounds = rounds.map_or(Ok(21), str::parse)?;
            let lines = run(rounds)?;
            fs::write(file(guide::RESULTS), document(rounds, &lines)?)?;
            draw()
        }
    }
}

fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(name)
}

/// A line of the results for each job. What is missing is told, and in CI an error.
fn run(rounds: usize) -> Outcome<Vec<String>> {
    let mut lines = Vec::new();
    for job in JOBS {
        match measured(&job, rounds)? {
            Some(line) => {
                println!("{}: equal results, and nothing is left out", job.library);
                lines.push(line);
            }
            None if env::var_os("CI").is_some() => return Err(missing(&job).into()),
            None => println!("{}", missing(&job)),
        }
    }
    Ok(lines)
}

fn missing(job: &Job) -> String {
    format!("missing: {}, whose header is {}, or what its job works on", job.library, job.header)
}

/// `None` if the library, or what it works on, is not installed.
fn measured(job: &Job, rounds: usize) -> Outcome<Option<String>> {
    let folder = Path::new(env!("LIBRARIES_FOLDER"));
    let program = folder.join(job.name);
    if !program.exists() {
        return Ok(None);
    }
    let Some(asked) = output(Command::new(&program).arg("0").env("LD_PRELOAD", folder.join("asked.so")))?
    else {
        return Ok(None);
    };
    let text = output(Command::new(&program).arg(rounds.to_string()))?.ok_or("it ran before")?;
    let figures = |line: &str| -> Vec<f64> { line.split(' ').flat_map(str::parse).collect() };
    let (asked, mapped) = (figures(&asked), figures(text.lines().next().unwrap_or_default()));
    let times: Vec<Vec<f64>> = text.lines().skip(1).map(figures).collect();
    let milliseconds = |which: usize| median(times.iter().map(|time| time[which] / 1e6).collect());
    let ratio = median(times.iter().map(|time| time[1] / time[0]).collect());
    Ok(Some(format!(
        "{{ \"library\": \"{}\", \"job\": \"{}\", \"malloc_ms\": {:.2}, \"pool_ms\": {:.2}, \"time\": {ratio:.3}, \
         \"asked\": {}, \"mapped\": {}, \"books\": {} }}",
        job.library,
        job.work,
        milliseconds(0),
        milliseconds(1),
        asked[0],
        mapped[0],
        mapped[1],
    )))
}

/// What it printed; `None` if it says that it misses something.
fn output(command: &mut Command) -> Outcome<Option<String>> {
    const MISSING: i32 = 77;
    let output = command.output()?;
    let words = String::from_utf8(output.stderr)?;
    eprint!("{words}");
    match output.status.code() {
        Some(0) if words.is_empty() => Ok(Some(String::from_utf8(output.stdout)?)),
        Some(MISSING) => Ok(None),
        _ => Err(format!("proof failed: {command:?}: {}", output.status).into()),
    }
}

/// 0 of none.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}

/// `results.json`: a library on each line.
fn document(rounds: usize, lines: &[String]) -> Outcome<String> {
    let date = String::from_utf8(Command::new("date").args(["-u", "+%F"]).output()?.stdout)?;
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    Ok(format!(
        "{{\n  \"date\": \"{}\",\n  \"cpu\": \"{}\",\n  \"cores\": {cores},\n  \"rounds\": {rounds},\n  \
         \"results\": [\n    {}\n  ]\n}}\n",
        date.trim(),
        cpu_model(),
        lines.join(",\n    "),
    ))
}

/// The guide's table and picture, from the results as they are in the file.
fn draw() -> Outcome<()> {
    let results = Results::read(&file(guide::RESULTS))?;
    println!("\n{}", guide::section(&results));
    let text = fs::read_to_string(file(guide::PAGE))?;
    fs::write(
        file(guide::PAGE),
        with_section(&text, &results).ok_or("the guide has no place for the table")?,
    )?;
    fs::write(file(guide::PICTURE), picture(&results))?;
    Ok(())
}

fn cpu_model() -> String {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = text.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    model.map_or_else(|| "unknown".to_owned(), |(_, name)| name.to_owned())
}
