//! bytepool against what people would use instead, in one run.
//!
//! ```sh
//! cargo run --release --manifest-path benches/peers/Cargo.toml [-- ROUNDS [MILLISECONDS]]
//! ```
//!
//! prints a table of ratios and writes `benches/peers/results.json`. Everything is interleaved: each round runs each
//! case with each peer for two milliseconds, and the ratios are of the medians over the rounds. Times are CPU time, but
//! for the hand-over, where one thread waits for the other. Two runs on a shared machine differ by a factor of two;
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
//! | `ours.rs`, `peers.rs` | what is measured |
//! | `cases.rs`, `threads.rs`, `rust_and_cpp.rs` | the loops |
//! | `plan.rs` | which peers run which cases |
//! | `measure.rs` | rounds, calibration, proofs |
//! | `targets.rs` | the comparisons and the targets of issue 3 |
//! | `table.rs`, `json.rs` | the output |

mod cases;
mod json;
mod library;
mod measure;
mod ours;
mod peers;
mod plan;
mod rust_and_cpp;
mod table;
mod targets;
mod threads;

use std::env;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    make_room_for_thread_locals()?;
    let mut arguments = env::args().skip(1);
    let rounds = arguments.next().map_or(Ok(31), |text| text.parse())?;
    let milliseconds = arguments.next().map_or(Ok(2), |text| text.parse())?;

    let (mut suite, missing) = plan::suite();
    suite.run(rounds, Duration::from_millis(milliseconds));

    let rows = targets::rows(&suite);
    println!("{}, {}, {rounds} rounds", json::today(), json::cpu_model());
    print!("{}", table::render(&rows, &missing));
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("results.json");
    json::write(&path, &suite, &rows, &missing)?;
    println!("written to {}", path.display());
    Ok(())
}

/// jemalloc's thread-locals need more room than glibc keeps for libraries opened later, and only the environment of a
/// new process can ask for more: this program starts itself again.
fn make_room_for_thread_locals() -> std::io::Result<()> {
    const VARIABLE: &str = "GLIBC_TUNABLES";
    const ROOM: &str = "glibc.rtld.optional_static_tls=65536";
    if env::var(VARIABLE).is_ok_and(|value| value.contains(ROOM)) {
        return Ok(());
    }
    Err(Command::new(env::current_exe()?).args(env::args_os().skip(1)).env(VARIABLE, ROOM).exec())
}
