//! `zero_on_put`: what wipes a buffer stays in the program, although nobody can read the buffer any more.
//!
//! An optimiser drops stores to memory that is freed next, where it sees both. In the library it does not see both yet,
//! so here `memory.rs` is compiled alone, in a crate that does nothing in between.

use std::env;
use std::process::Command;

use crate::support::{compile, root, scratch, skip};

fn rustc(arguments: &[&str]) {
    let mut rustc = Command::new(env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()));
    rustc.args(["--edition", "2024", "-O"]).args(arguments).current_dir(scratch("wipe"));
    let outcome = compile(&mut rustc);
    assert!(outcome.succeeded(), "{}", outcome.describe());
}

#[test]
fn no_optimiser_drops_the_zeros() {
    let folder = root().join("tests/wipe");
    let [freeing, looking] = ["freeing.rs", "looking.rs"].map(|name| folder.join(name).display().to_string());
    rustc(&["--crate-type", "rlib", &freeing]);
    rustc(&["--extern", "freeing=libfreeing.rlib", &looking]);
    let output = Command::new(scratch("wipe").join("looking")).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let found: Vec<usize> = text.split_whitespace().map(|number| number.parse().unwrap()).collect();
    let &[overwritten, wiped] = &found[..] else { panic!("{text:?}, {}", output.status) };
    assert_eq!(wiped, 0, "bytes of a wiped buffer reached the allocator");
    if overwritten == 0 {
        skip("a compiler that drops such stores", "whether `wipe` keeps it from that");
    }
}
