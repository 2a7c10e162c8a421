//! `cargo run --release -p io-example --example echo`: an echo server under load, checked to the last byte.

use std::io;

use io_example::echo::{self, Load};

fn main() -> io::Result<()> {
    let report = echo::run(Load { clients: 200, messages: 500, buffers: 2 })?;
    let seconds = report.time.as_secs_f64();
    println!(
        "{} messages came back right: {:.0} a second, {:.0} MB a second",
        report.messages,
        report.messages as f64 / seconds,
        report.bytes as f64 / seconds / 1e6
    );
    println!("{}", report.stats);
    report.stats.assert_consistent();
    match (report.stats.outstanding(), report.stats.misuse()) {
        (0, 0) => Ok(()),
        (out, misuse) => Err(io::Error::other(format!("{out} buffers are out, {misuse} calls were misuse"))),
    }
}
