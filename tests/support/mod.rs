//! Builds C and C++ programs against the real static library, and runs them.
//!
//! The library is built once per test binary, by a Cargo inside this one and in a folder of its own, so the
//! first build takes its time and later ones none. What is missing on the machine is skipped with a line on
//! stderr, except in CI, which skips nothing.

// Each test binary uses a part of this.
#![allow(dead_code)]

#[allow(clippy::duplicate_mod)] // `valgrind.rs` has it, too: each may be there alone
pub mod emulator;
pub mod libraries;

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};
use std::{env, fs, thread};

pub use emulator::{is_emulated, start};

/// Rust's name of the machine that the tests run on: the build script tells.
const TARGET: &str = env!("BYTEPOOL_TARGET");
/// And of the one that builds them.
const HOST: &str = env!("BYTEPOOL_HOST");

/// Rust's name of the machine that C and C++ programs run on: the tests', unless `tests/aarch64` names another.
fn target() -> &'static str {
    static NAMED: OnceLock<Option<String>> = OnceLock::new();
    NAMED.get_or_init(|| env::var("BYTEPOOL_PROGRAMS_TARGET").ok()).as_deref().unwrap_or(TARGET)
}

/// The warnings that all of our C and C++ must be free of.
pub const WARNINGS: [&str; 5] = ["-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Werror"];

/// How long a compiler may take, or a program without a slow checker.
const TIME_LIMIT: Duration = Duration::from_secs(900);
/// How long a program may take under valgrind or in an emulator.
const SLOW_TIME_LIMIT: Duration = Duration::from_secs(1800);

/// Percent of the usual rounds that a program runs under valgrind.
const SLOW_PERCENT: &str = "2";
/// Percent of the usual rounds that a program runs in an emulator.
const EMULATED_PERCENT: &str = "5";

/// The root of the repository.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A folder for what this test binary makes, emptied by nobody: names must be chosen apart.
pub fn scratch(name: &str) -> PathBuf {
    let folder =
        Path::new(env!("CARGO_TARGET_TMPDIR")).join(env!("CARGO_CRATE_NAME")).join(target()).join(name);
    fs::create_dir_all(&folder).unwrap_or_else(|error| panic!("cannot create {}: {error}", folder.display()));
    folder
}

// ---- the library ----

/// The static library, and what it takes to use it.
pub struct Library {
    pub archive: PathBuf,
    /// With `bytepool/bytepool.h`, and with the `cxx` feature `bytepool/bytepool.hpp` and what that includes.
    pub headers: PathBuf,
    /// Linker arguments for the system libraries it needs.
    pub system: Vec<String>,
}

/// The library with this test binary's features, optimised as users have it.
pub fn library() -> &'static Library {
    static LIBRARY: OnceLock<Library> = OnceLock::new();
    LIBRARY.get_or_init(build_library)
}

fn build_library() -> Library {
    let features = if cfg!(feature = "cxx") { "cxx" } else { "capi" };
    let target_dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("library-{features}-{}", target()));
    let headers = target_dir.join("exported-headers");
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo
        .args(["rustc", "--lib", "--release", "--crate-type", "staticlib", "--no-default-features"])
        .args(["--features", features, "--target", target(), "--manifest-path"])
        .arg(root().join("Cargo.toml"))
        .arg("--target-dir")
        .arg(&target_dir)
        .args(["--", "--print", "native-static-libs"])
        .env("BYTEPOOL_EXPORT_HEADERS", &headers);
    if let Some(rustc) = env::var_os("BYTEPOOL_PROGRAMS_RUSTC") {
        cargo.env("RUSTC", rustc);
    }
    for (name, _) in env::vars_os() {
        // What the Cargo around this one told this test about itself.
        let about_us =
            ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_", "CARGO_CRATE_", "CARGO_PRIMARY_PACKAGE"];
        if name.to_str().is_some_and(|name| about_us.iter().any(|prefix| name.starts_with(prefix))) {
            cargo.env_remove(name);
        }
    }
    let output = cargo.output().expect("cargo can be run");
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "the static library could not be built:\n{text}");

    let archive = target_dir.join(target()).join("release/libbytepool.a");
    assert!(archive.is_file(), "cargo made no {}:\n{text}", archive.display());
    assert!(headers.join("bytepool/bytepool.h").is_file(), "no headers in {}", headers.display());
    // Cargo repeats this note when nothing had to be built.
    let system = text.lines().find_map(|line| line.split_once("native-static-libs:")).map(|(_, list)| list);
    let system = system.unwrap_or_else(|| panic!("no native-static-libs in:\n{text}"));
    Library { archive, headers, system: system.split_whitespace().map(String::from).collect() }
}

// ---- compilers ----

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Language {
    C,
    Cpp,
}

/// The user's compiler, as build scripts find it: from CC, CXX and so on.
pub fn compiler(language: Language) -> Command {
    let tool = cc::Build::new()
        .cpp(language == Language::Cpp)
        .cargo_metadata(false)
        .target(target())
        .host(HOST)
        .opt_level(1)
        .debug(true)
        .warnings(false)
        .get_compiler();
    tool.to_command()
}

/// Every compiler whose warnings count, by name: those that are installed. Without slow forms, the first of them.
pub fn compilers(language: Language) -> Vec<&'static str> {
    let known = [("gcc", "g++"), ("clang", "clang++"), ("clang-19", "clang++-19")];
    let installed = known.into_iter().filter_map(|(c, cpp)| {
        let name = if language == Language::C { c } else { cpp };
        (is_installed(name) || !skip(name, "its warnings")).then_some(name)
    });
    let mut installed: Vec<_> = installed.collect();
    if installed.len() > 1 && !runs_slow(&format!("the headers with {}", installed[1..].join(" and "))) {
        installed.truncate(1);
    }
    installed
}

/// Whether a program of this name can be run.
pub fn is_installed(name: &str) -> bool {
    let probe = Command::new(name).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    probe.is_ok_and(|status| status.success())
}

/// Says on stderr that `what` is skipped because `tool` is missing. In CI that is a failure.
pub fn skip(tool: &str, what: &str) -> bool {
    assert!(env::var_os("CI").is_none(), "{tool} is not installed, and CI skips nothing: {what}");
    // Past the test harness, which would swallow it.
    let _ = writeln!(std::io::stderr(), "skipped, because {tool} is not installed: {what}");
    true
}

// ---- slow forms ----

/// Whether tests run their slow forms as well: in CI, unless `BYTEPOOL_SLOW` says otherwise, and where `BYTEPOOL_SLOW=1`
/// asks for them. If not, says on stderr which ones are left out.
pub fn runs_slow(what: &str) -> bool {
    let slow = match env::var_os("BYTEPOOL_SLOW") {
        Some(value) => value == "1",
        None => env::var_os("CI").is_some(),
    };
    if !slow {
        // Past the test harness, as in `skip`.
        let _ = writeln!(std::io::stderr(), "skipped, because it is slow: {what}; BYTEPOOL_SLOW=1 runs it");
    }
    slow
}

// ---- running ----

/// What a program did.
#[derive(Debug)]
pub struct Outcome {
    pub status: Option<ExitStatus>,
    pub stdout: String,
    pub stderr: String,
    command: String,
}

impl Outcome {
    pub fn succeeded(&self) -> bool {
        self.status.is_some_and(|status| status.success())
    }

    /// All that is known, for a failed test.
    pub fn describe(&self) -> String {
        let Self { status, stdout, stderr, command } = self;
        let end = status.map_or("was ended at its time limit".into(), |status| status.to_string());
        format!("{command}\n{end}\n---- stdout\n{stdout}---- stderr\n{stderr}----")
    }

    #[track_caller]
    pub fn assert_succeeded(self) -> Self {
        assert!(self.succeeded(), "{}", self.describe());
        self
    }

    /// The program succeeded, and its last line says that it made checks and none failed.
    #[track_caller]
    pub fn assert_checked(self, program: &str) -> Self {
        let outcome = self.assert_succeeded();
        let last = outcome.stdout.lines().last().unwrap_or_default();
        let checks = last
            .strip_prefix(program)
            .and_then(|rest| rest.strip_prefix(": "))
            .and_then(|rest| rest.strip_suffix(" checks, 0 failed"))
            .and_then(|checks| checks.parse::<u64>().ok());
        assert!(checks.is_some_and(|checks| checks > 0), "no line of checks: {}", outcome.describe());
        outcome
    }
}

/// Runs to the end, or to the time limit.
pub fn run(command: &mut Command, limit: Duration) -> Outcome {
    let text = format!("{command:?}");
    let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut child = child.unwrap_or_else(|error| panic!("cannot run {text}: {error}"));
    let stdout = read_all(child.stdout.take());
    let stderr = read_all(child.stderr.take());
    let status = wait(&mut child, limit);
    let joined = |reader: thread::JoinHandle<String>| reader.join().expect("the reader does not panic");
    Outcome { status, stdout: joined(stdout), stderr: joined(stderr), command: text }
}

fn read_all(pipe: Option<impl Read + Send + 'static>) -> thread::JoinHandle<String> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut pipe) = pipe {
            let _ = pipe.read_to_end(&mut bytes);
        }
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

/// `None` if it had to be ended.
fn wait(child: &mut Child, limit: Duration) -> Option<ExitStatus> {
    let start = Instant::now();
    loop {
        if let Some(status) = child.try_wait().expect("our own child can be waited for") {
            return Some(status);
        }
        if start.elapsed() > limit {
            let _ = child.kill();
            let _ = child.wait();
            return None;
        }
        thread::sleep(Duration::from_millis(5));
    }
}

/// Compiles: a `command` whose last arguments are still to come, run within the usual limit.
pub fn compile(command: &mut Command) -> Outcome {
    run(command, TIME_LIMIT)
}

// ---- programs ----

/// A C or C++ program of this repository that links the library.
pub struct Program {
    name: String,
    executable: PathBuf,
}

impl Program {
    /// From sources in `tests/c`, C11. Its name is the first source's.
    pub fn c(sources: &[&str]) -> Self {
        Self::build(sources, "c11", None, &Build::plain())
    }

    /// From sources in `tests/cpp`, and in `tests/c` if they end in `.c`, which are compiled as C.
    pub fn cpp(sources: &[&str], standard: &str) -> Self {
        Self::build(sources, "c11", Some(standard), &Build::plain())
    }

    /// As [`c`](Self::c), or as [`cpp`](Self::cpp) if the first source is C++, built in a way of its own.
    pub fn built(sources: &[&str], build: &Build) -> Self {
        let is_cpp = sources[0].ends_with(".cpp");
        Self::build(sources, "c11", is_cpp.then_some("c++17"), build)
    }

    fn build(sources: &[&str], c_standard: &str, cpp_standard: Option<&str>, build: &Build) -> Self {
        let name = sources[0].rsplit_once('.').expect("a source has an extension").0.to_owned();
        let name = name.rsplit('/').next().expect("a name is not empty").to_owned();
        let folder = scratch(&format!("{name}-{}{}", cpp_standard.unwrap_or(c_standard), build.name));
        let objects: Vec<PathBuf> = sources
            .iter()
            .map(|source| {
                let (language, standard) = match (source.ends_with(".c"), cpp_standard) {
                    (false, Some(standard)) => (Language::Cpp, standard),
                    _ => (Language::C, c_standard),
                };
                let object = folder.join(format!("{}.o", source.replace('/', "-")));
                let mut compiler = build.compiler(language);
                compile_object(
                    compiler.args(&build.flags).args(&build.compile),
                    source,
                    language,
                    standard,
                    &object,
                );
                object
            })
            .collect();
        let executable = folder.join(&name);
        let language = if cpp_standard.is_some() { Language::Cpp } else { Language::C };
        let mut linker = build.compiler(language);
        linker.args(&build.flags);
        if !build.link.is_empty() {
            // Before what needs them.
            linker.arg("-Wl,--no-as-needed").args(&build.link);
        }
        match &build.shared_library {
            None => link(linker, &objects, &executable),
            Some(library) => link_with_shared(linker, &objects, &executable, library),
        }
        Self { name, executable }
    }

    /// Runs it with all rounds; with fewer in an emulator.
    #[track_caller]
    pub fn check(&self) -> Outcome {
        self.check_with(if emulator::has_fewer_rounds() { &[EMULATED_PERCENT] } else { &[] })
    }

    #[track_caller]
    pub fn check_with(&self, arguments: &[&str]) -> Outcome {
        let limit = if is_emulated() { SLOW_TIME_LIMIT } else { TIME_LIMIT };
        run(start(&self.executable).args(arguments), limit).assert_checked(&self.name)
    }

    /// Runs it with all rounds, and on the smallest stacks that the library promises to run on: its second argument says
    /// so where those are not a thread's smallest.
    #[track_caller]
    pub fn check_on_small_stacks(&self) -> Outcome {
        // `.ci/run` builds the library with debug assertions so.
        let is_debug = env::var_os("CARGO_PROFILE_RELEASE_DEBUG_ASSERTIONS").is_some();
        if is_debug { self.check_with(&["100", "65536"]) } else { self.check() }
    }

    /// Runs it with few rounds under valgrind: no error, and nothing leaked.
    #[track_caller]
    pub fn check_memory(&self) {
        if is_emulated() {
            return; // valgrind is the host's
        }
        if !is_installed("valgrind") {
            skip("valgrind", &format!("{} under valgrind", self.name));
            return;
        }
        self.run_under_valgrind(&[SLOW_PERCENT]).assert_checked(&self.name);
    }

    /// Runs it with few rounds, built with AddressSanitizer: no error, and nothing leaked.
    #[track_caller]
    pub fn check_addresses(sources: &[&str]) {
        if is_emulated() {
            return; // emulators have no room for the sanitizer's map of memory
        }
        let program = Self::built(sources, &Build::address_sanitizer());
        program.run(&[SLOW_PERCENT]).assert_checked(&program.name);
    }

    /// Runs it with few rounds, built with ThreadSanitizer: no data race.
    #[track_caller]
    pub fn check_threads(sources: &[&str]) {
        let sources: Vec<&str> = sources.iter().copied().chain(["sanitizers/thread_memory.c"]).collect();
        let program = Self::built(&sources, &Build::thread_sanitizer());
        program.run(&[SLOW_PERCENT]).assert_checked(&program.name);
    }

    pub fn run(&self, arguments: &[&str]) -> Outcome {
        run(start(&self.executable).args(arguments), SLOW_TIME_LIMIT)
    }

    /// With an environment variable set.
    pub fn run_with(&self, name: &str, value: &str) -> Outcome {
        run(start(&self.executable).env(name, value), SLOW_TIME_LIMIT)
    }

    pub fn run_under_valgrind(&self, arguments: &[&str]) -> Outcome {
        let mut command = Command::new("valgrind");
        command
            .args([
                "--quiet",
                "--error-exitcode=99",
                "--leak-check=full",
                "--errors-for-leak-kinds=definite,possible",
            ])
            // Threads take turns fairly: spinning ones would starve the one they wait for.
            .arg("--fair-sched=yes")
            .arg(&self.executable)
            .args(arguments);
        run(&mut command, SLOW_TIME_LIMIT)
    }
}

/// How a [`Program`] is built.
#[derive(Clone)]
pub struct Build {
    /// Tells its files apart from those built otherwise.
    pub name: String,
    /// The C and the C++ compiler; `None` for the user's.
    pub compilers: Option<(&'static str, &'static str)>,
    pub flags: Vec<&'static str>,
    /// What other libraries take.
    pub compile: Vec<String>,
    pub link: Vec<String>,
    /// Instead of the static library.
    pub shared_library: Option<PathBuf>,
}

impl Build {
    pub fn plain() -> Self {
        Self {
            name: String::new(),
            compilers: None,
            flags: Vec::new(),
            compile: Vec::new(),
            link: Vec::new(),
            shared_library: None,
        }
    }

    /// With gcc's AddressSanitizer.
    pub fn address_sanitizer() -> Self {
        let compilers = Some(("gcc", "g++"));
        let flags = vec!["-fsanitize=address", "-g", "-O1"];
        Self { name: "-address".into(), compilers, flags, ..Self::plain() }
    }

    /// With gcc's ThreadSanitizer. The library is instrumented if this test is: by `tests/sanitizers/thread`.
    pub fn thread_sanitizer() -> Self {
        let compilers = Some(("gcc", "g++"));
        let flags = vec!["-fsanitize=thread", "-g", "-O1"];
        Self { name: "-thread".into(), compilers, flags, ..Self::plain() }
    }

    fn compiler(&self, language: Language) -> Command {
        match self.compilers {
            None => compiler(language),
            Some((c, cpp)) => Command::new(if language == Language::C { c } else { cpp }),
        }
    }
}

/// Compiles `source` of `tests/c` or `tests/cpp`, or of another folder of `tests` that it names, warnings being
/// errors.
#[track_caller]
fn compile_object(compiler: &mut Command, source: &str, language: Language, standard: &str, object: &Path) {
    let folder = match (source.contains('/'), language) {
        (true, _) => "",
        (false, Language::C) => "c",
        (false, Language::Cpp) => "cpp",
    };
    compiler.arg(format!("-std={standard}")).args(WARNINGS).arg(include_path());
    compiler.arg("-c").arg(root().join("tests").join(folder).join(source)).arg("-o").arg(object);
    let (read, command) = (object.with_extension("d"), object.with_extension("command"));
    compiler.arg("-MD").arg("-MF").arg(&read);
    // Without the environment.
    let text = format!("{:?} {:?}", compiler.get_program(), compiler.get_args());
    if fs::read_to_string(&command).is_ok_and(|last| last == text) && is_newer(object, &read) {
        return;
    }
    let _ = fs::remove_file(&command);
    compile(compiler).assert_succeeded();
    fs::write(&command, text).expect("the scratch folder is writable");
}

/// Whether `object` is newer than each file that its compiler read, of which `read` is the list in make's words. What
/// is in doubt is older.
fn is_newer(object: &Path, read: &Path) -> bool {
    let time = |path: &Path| fs::metadata(path).and_then(|data| data.modified()).ok();
    let Some(made) = time(object) else { return false };
    let Some(list) = fs::read_to_string(read).ok() else { return false };
    let Some((_, files)) = list.split_once(": ") else { return false };
    let mut files = files.split_whitespace().filter(|&word| word != "\\");
    files.all(|file| time(Path::new(file)).is_some_and(|changed| changed < made))
}

/// Where a user has the headers; what cxx generated is held to the same warnings.
pub fn include_path() -> String {
    format!("-I{}", library().headers.display())
}

/// Links objects with the library.
#[track_caller]
pub fn link(mut linker: Command, objects: &[PathBuf], executable: &Path) {
    let Library { archive, system, .. } = library();
    linker.args(objects).arg("-o").arg(executable).arg(archive).args(system).arg("-pthread");
    compile(&mut linker).assert_succeeded();
}

/// Links objects with a shared library that is found where it is now.
#[track_caller]
fn link_with_shared(mut linker: Command, objects: &[PathBuf], executable: &Path, library: &Path) {
    let folder = library.parent().expect("a library is in a folder").display();
    linker.args(objects).arg("-o").arg(executable).arg(library).arg(format!("-Wl,-rpath,{folder}"));
    linker.args(&self::library().system).arg("-pthread");
    compile(&mut linker).assert_succeeded();
}

/// A shared object with the whole library in it.
#[track_caller]
pub fn link_shared(path: &Path) {
    link_shared_with(&[], path);
}

/// The same, with further arguments for the linker.
#[track_caller]
pub fn link_shared_with(arguments: &[&str], path: &Path) {
    let Library { archive, system, .. } = library();
    let mut linker = compiler(Language::C);
    linker
        .args(["-shared", "-Wl,-Bsymbolic", "-Wl,--whole-archive"])
        .args(arguments)
        .arg(archive)
        .arg("-Wl,--no-whole-archive");
    linker.args(system).arg("-o").arg(path);
    compile(&mut linker).assert_succeeded();
}
