use std::path::Path;

fn main() {
    cxx_build::bridge("src/lib.rs").std("c++17").compile("other_cxx");
    println!("cargo:rerun-if-changed=src");

    // The generated header, and cxx's own, for main.cpp.
    let out_dir = std::env::var_os("OUT_DIR").expect("Cargo sets OUT_DIR");
    let target = std::env::var_os("OTHER_HEADERS").expect("tests/consumers/run says where");
    std::os::unix::fs::symlink(Path::new(&out_dir).join("cxxbridge/include"), target)
        .expect("the headers are exported once");
}
