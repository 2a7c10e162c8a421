use std::env;

fn main() {
    // bytepool's build script gives its include paths to those who depend on it directly.
    let include = env::var_os("DEP_BYTEPOOL_INCLUDE").expect("bytepool gives its include paths");
    cxx_build::bridge("src/main.rs")
        .file("src/reverse.cc")
        .includes(env::split_paths(&include))
        .std("c++20")
        .warnings_into_errors(true)
        .compile("reverse");
    println!("cargo:rerun-if-changed=src");
}
