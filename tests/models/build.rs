//! Lets `src/sync` name the models' replacements instead of the standard library.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rustc-cfg=bytepool_shuttle");
}
