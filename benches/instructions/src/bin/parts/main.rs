//! What the parts of the fast path cost: a pair of get and put in C with one part after the other left out.
//!
//! ```sh
//! cargo run --release --manifest-path benches/instructions/Cargo.toml --bin parts [-- ROUNDS | once]
//! ```
//!
//! `fast_path.s` has both functions in assembly, as the compiler makes them, in parts. All variants work on one pool
//! and one thread cache, and take turns. Each round runs each of them for 19,200 gets and puts of 4 KiB: one buffer at a
//! time, three, and 64. What a row shows is the median over the rounds, in cycles of the processor's time stamp counter.
//! A variant without a part is wrong as an allocator, but in these loops it does the same: a mark is written into each
//! buffer, and read back.
//!
//! `once` proves every variant, and times none.

#[cfg(all(target_arch = "x86_64", target_os = "linux", target_env = "gnu"))]
mod x86_64;

#[cfg(all(target_arch = "x86_64", target_os = "linux", target_env = "gnu"))]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    match std::env::args().nth(1).as_deref() {
        Some("once") => drop(x86_64::run(1)),
        rounds => x86_64::print(&x86_64::run(rounds.map_or(Ok(121), str::parse)?)),
    }
    Ok(())
}

#[cfg(not(all(target_arch = "x86_64", target_os = "linux", target_env = "gnu")))]
fn main() {
    println!("the parts are written in assembly for x86-64 Linux with glibc, and this is another target");
}
