//! `cargo run --release -p io-example --example uring`: a file through io_uring's fixed buffers, checked to the last byte.

#[cfg(target_os = "linux")]
fn main() -> std::io::Result<()> {
    use io_example::uring::{Outcome, run};
    match run(&std::env::temp_dir(), 50_000_000)? {
        Outcome::Forbidden(error) => println!("the kernel forbids io_uring here: {error}"),
        Outcome::Read { bytes, stats } => {
            println!("{bytes} bytes read into pinned buffers, each of them right");
            println!("{stats}");
            stats.assert_consistent();
            if stats.outstanding() != 0 || stats.misuse() != 0 {
                return Err(std::io::Error::other("a buffer is out, or a call was misuse"));
            }
        }
    }
    Ok(())
}

#[cfg(not(target_os = "linux"))]
fn main() {
    println!("io_uring is Linux's");
}
