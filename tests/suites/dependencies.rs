//! The core stands on crossbeam-queue and one crate of system calls; the C side adds nothing, the C++ side cxx.

use std::collections::BTreeSet;
use std::env;
use std::path::Path;
use std::process::Command;

/// The crates that `cargo tree` says are linked in with these features, without their versions.
fn crates(features: &[&str], depth: &str) -> BTreeSet<String> {
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    // What is built for the building only, proc macros and what they stand on, is no part of the library.
    cargo.args([
        "tree",
        "--edges",
        "normal,no-proc-macro",
        "--prefix",
        "none",
        "--no-dedupe",
        "--depth",
        depth,
    ]);
    cargo.args(["--offline", "--package", "bytepool", "--no-default-features", "--manifest-path"]);
    cargo.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml")).args(features);
    let output = cargo.output().expect("cargo can be run");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).expect("cargo writes UTF-8");
    text.lines().filter_map(|line| line.split(' ').next()).map(str::to_owned).collect()
}

#[track_caller]
fn check(features: &[&str], direct: &[&str], beyond: &[&str]) {
    let set = |names: &[&[&str]]| names.concat().into_iter().map(str::to_owned).collect::<BTreeSet<_>>();
    assert_eq!(crates(features, "1"), set(&[&["bytepool"], direct]));
    assert_eq!(crates(features, "99"), set(&[&["bytepool"], direct, beyond]));
}

#[test]
#[cfg(unix)]
fn the_core_s_dependencies_are_two() {
    check(&[], &["crossbeam-queue", "libc"], &["crossbeam-utils"]);
    check(&["--features", "capi"], &["crossbeam-queue", "libc"], &["crossbeam-utils"]);
}

#[test]
#[cfg(unix)]
fn the_features_for_other_crates_add_those_and_no_more() {
    let core = ["crossbeam-queue", "libc"];
    for (feature, beyond) in [("bytes", vec![]), ("allocator-api2", vec![]), ("serde", vec!["serde_core"])] {
        let direct = [&core[..], &[feature]].concat();
        check(&["--features", feature], &direct, &[&["crossbeam-utils"], &*beyond].concat());
    }
}

#[test]
#[cfg(unix)]
fn the_cpp_side_adds_cxx() {
    let of_cxx = ["crossbeam-utils", "foldhash", "link-cplusplus"];
    check(&["--features", "cxx"], &["crossbeam-queue", "libc", "cxx"], &of_cxx);
}
