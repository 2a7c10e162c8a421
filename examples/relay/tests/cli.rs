//! The program as its user sees it, but for the exit code: `main.rs` only makes that of the result.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::{env, fs, process};

use relay_example::{CHUNK, Error, cli};

/// A fresh folder of the test's own.
fn folder(test: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("cli").join(test);
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).unwrap();
    folder
}

/// What the program prints.
fn run<A: Into<OsString>>(arguments: impl IntoIterator<Item = A>) -> Result<String, Error> {
    let mut out = Vec::new();
    cli::run(arguments.into_iter().map(Into::into).collect(), &mut out, false)?;
    Ok(String::from_utf8(out).unwrap())
}

/// The error's text, which must be one line.
fn run_to_error<A: Into<OsString>>(arguments: impl IntoIterator<Item = A>) -> String {
    let text = run(arguments).unwrap_err().to_string();
    assert!(!text.contains('\n'), "{text}");
    text
}

/// This process's temporary output files. Only one test may make any.
fn temporary_files() -> Vec<PathBuf> {
    let start = format!("relay-{}-", process::id());
    let entries = fs::read_dir(env::temp_dir()).unwrap().map(|entry| entry.unwrap());
    entries
        .filter(|entry| entry.file_name().to_string_lossy().starts_with(&start))
        .map(|e| e.path())
        .collect()
}

#[test]
fn without_arguments_the_program_itself_is_relayed() {
    let text = run([""; 0]).unwrap();
    let program = env::current_exe().unwrap();
    for part in [
        program.file_name().unwrap().to_str().unwrap(),
        "equal to the input, byte for byte",
        "CRC-32",
        "top bytes",
        ", of which 0 needed the system's allocator",
        "0 double puts, 0 wrong sizes, 0 foreign pointers",
        "refused and counted, double puts are 1 now",
    ] {
        assert!(text.contains(part), "no {part:?} in\n{text}");
    }
    assert_eq!(temporary_files(), Vec::<PathBuf>::new());
}

#[test]
fn the_report_has_the_figures_of_the_file() {
    let folder = folder("the_report_has_the_figures_of_the_file");
    let (input, output) = (folder.join("input"), folder.join("output"));

    fs::write(&input, "123456789").unwrap();
    let text = run([&input, &output]).unwrap();
    assert!(text.contains("9 bytes  in 1 chunk of up to 64 KiB") && text.contains("cbf43926"), "{text}");
    assert_eq!(fs::read(&output).unwrap(), [b'1', 1, 1, 1, 1, 1, 1, 1, 1]);

    fs::write(&input, "").unwrap();
    let text = run([&input, &output]).unwrap();
    assert!(text.contains("0 bytes  in 0 chunks") && text.contains("00000000"), "{text}");
    assert!(!text.contains("NaN") && !text.contains("inf"), "{text}");
    assert_eq!(fs::read(&output).unwrap(), []);

    fs::write(&input, vec![7; CHUNK + 1]).unwrap();
    let text = run([&input, &output]).unwrap();
    assert!(text.contains("64.0 KiB  in 2 chunks"), "{text}");
    assert!(text.contains("0x07   100.0 %"), "{text}");
    assert!(text.contains(&output.display().to_string()), "{text}");
}

#[test]
fn help_and_wrong_usage() {
    for option in ["--help", "-h"] {
        assert!(run([option]).unwrap().contains("usage: cargo run --release --example relay"));
    }
    assert_eq!(run_to_error(["--fast"]), "there is no option --fast; --help explains");
    assert_eq!(run_to_error(["a", "b", "c"]), "3 paths are given; at most 2 are used; --help explains");
    // After `--` nothing is an option.
    assert!(run_to_error(["--", "--help"]).starts_with("cannot read --help: "));
}

#[test]
fn what_cannot_be_read_twice_is_refused() {
    let folder = folder("what_cannot_be_read_twice_is_refused");
    let text = run_to_error([folder.join("missing")]);
    assert!(text.starts_with("cannot read ") && text.contains("missing: No such file"), "{text}");
    assert!(run_to_error([&folder]).ends_with("it is not a regular file"));
    let device = Path::new("/dev/null");
    if device.exists() {
        assert!(run_to_error([device]).ends_with("it is not a regular file"));
    }
}

#[test]
fn an_output_that_cannot_be_written_is_an_error() {
    let folder = folder("an_output_that_cannot_be_written_is_an_error");
    let input = folder.join("input");
    fs::write(&input, "some bytes").unwrap();
    let text = run_to_error([&input, &folder.join("missing/output")]);
    assert!(
        text.ends_with("missing/output: cannot open it for writing: No such file or directory"),
        "{text}"
    );
    assert!(run_to_error([&input, &folder]).ends_with("cannot open it for writing: Is a directory"));
}

#[test]
fn the_input_is_never_overwritten() {
    let folder = folder("the_input_is_never_overwritten");
    let input = folder.join("input");
    fs::write(&input, "precious").unwrap();
    let mut names = vec![input.clone(), folder.join("../the_input_is_never_overwritten/input")];
    #[cfg(unix)]
    {
        names.extend([folder.join("symbolic"), folder.join("hard")]);
        std::os::unix::fs::symlink(&input, folder.join("symbolic")).unwrap();
        fs::hard_link(&input, folder.join("hard")).unwrap();
    }
    for output in &names {
        assert!(run_to_error([&input, output]).starts_with("the output would overwrite the input"));
        assert_eq!(fs::read(&input).unwrap(), b"precious");
    }
}
