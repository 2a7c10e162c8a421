//! The examples' work, less of it.

use io_example::echo::{self, Load};

/// Many more connections than buffers.
#[test]
fn the_echo_server_serves_more_connections_than_it_has_buffers() {
    let report = echo::run(Load { clients: 50, messages: 40, buffers: 2 }).unwrap();
    let stats = report.stats;
    stats.assert_consistent();
    assert_eq!((report.messages, stats.outstanding(), stats.misuse()), (2000, 0, 0), "{stats}");
    assert!(report.bytes > 2000 && stats.gets >= 2000 && stats.limit_failures == 0, "{stats}");
    assert!(stats.mapped_bytes <= 2 * echo::BUFFER, "{stats}");
}

#[cfg(target_os = "linux")]
#[test]
fn a_file_is_read_into_registered_buffers() {
    use io_example::uring::{BUFFER, Outcome, run};
    for bytes in [0, 1, BUFFER, 20 * BUFFER + 7] {
        match run(env!("CARGO_TARGET_TMPDIR").as_ref(), bytes).unwrap() {
            Outcome::Forbidden(error) => return eprintln!("left out: the kernel forbids io_uring: {error}"),
            Outcome::Read { bytes: read, stats } => {
                assert_eq!((read, stats.gets), (bytes, bytes.div_ceil(BUFFER) as u64));
                assert_eq!((stats.outstanding(), stats.system_allocations), (0, 0), "{stats}");
            }
        }
    }
}
