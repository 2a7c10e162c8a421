//! Lets `src/sync.rs` name the models' stand-ins instead of the standard library.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rustc-cfg=bytepool_shuttle");
}
