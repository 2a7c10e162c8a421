//! Builds bytepool's shared library, a program for each job, and what counts in place of the library. They lie in the
//! folder `LIBRARIES_FOLDER`.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

// This uses a part of both.
#[allow(dead_code)]
#[path = "src/jobs.rs"]
mod jobs;
#[allow(dead_code)]
#[path = "../../tests/support/libraries.rs"]
mod libraries;
#[path = "../support/shared_library.rs"]
mod shared_library;

use jobs::JOBS;
use libraries::flags_of;
use shared_library::{Language, SharedBytepool, run};

fn main() {
    let root = Path::new("../..").canonicalize().expect("bytepool's root is two folders up");
    for path in ["build.rs", "c", "src/jobs.rs", "../support", "../../tests/support/libraries.rs"] {
        println!("cargo:rerun-if-changed={path}");
    }
    let bytepool = SharedBytepool::build(&root, &out_dir());
    let include = format!("-I{}", bytepool.headers.display());
    let mut asked = compiler(Language::C);
    asked.args(["-shared", "c/asked.c", &include, "-o"]).arg(out_dir().join("asked.so"));
    run(&mut asked).expect("asked.c compiles");

    for job in JOBS {
        let program = out_dir().join(job.name);
        let _ = fs::remove_file(&program);
        // The program that runs the jobs says what is missing.
        let Some(flags) = flags_of(job.header, job.name) else { continue };
        let mut compile = compiler(Language::C);
        compile.args(["-std=gnu11", &include]).args(flags.compile).arg("-o").arg(program);
        compile.arg(format!("c/{}.c", job.name)).arg(&bytepool.library).args(flags.link);
        run(compile.arg(format!("-Wl,-rpath,{}", out_dir().display()))).expect("a job compiles");
    }
    println!("cargo:rustc-env=LIBRARIES_FOLDER={}", out_dir().display());
}

fn out_dir() -> PathBuf {
    env::var_os("OUT_DIR").expect("Cargo sets OUT_DIR").into()
}

// ---- what `libraries.rs` asks its parent for ----

struct Compiled(bool);

impl Compiled {
    fn succeeded(&self) -> bool {
        self.0
    }
}

fn compile(command: &mut Command) -> Compiled {
    Compiled(command.output().is_ok_and(|output| output.status.success()))
}

fn compiler(language: Language) -> Command {
    shared_library::compiler(language)
}

fn is_emulated() -> bool {
    false
}

fn scratch(name: &str) -> PathBuf {
    let folder = out_dir().join(name);
    fs::create_dir_all(&folder).expect("OUT_DIR is writable");
    folder
}

fn skip(package: &str, what: &str) {
    println!("cargo:warning={what} needs Debian's {package}");
}
