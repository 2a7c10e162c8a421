//! C libraries that the adapters and the guide's recipes are for: Debian's packages, and how a compiler finds them.

use std::process::Command;

use super::{Language, compile, compiler, is_emulated, scratch, skip};

/// A header, Debian's package that has it, and the name that pkg-config has for its library; or the library, where
/// pkg-config has no name.
const LIBRARIES: [(&str, &str, &str); 19] = [
    ("zlib.h", "zlib1g-dev", "zlib"),
    ("bzlib.h", "libbz2-dev", "-lbz2"),
    ("zstd.h", "libzstd-dev", "libzstd"),
    ("lz4frame.h", "liblz4-dev", "liblz4"),
    ("brotli/encode.h", "libbrotli-dev", "libbrotlienc libbrotlidec"),
    ("lzma.h", "liblzma-dev", "liblzma"),
    ("duktape.h", "duktape-dev", "duktape"),
    ("lua.h", "liblua5.4-dev", "lua5.4"),
    ("nghttp2/nghttp2.h", "libnghttp2-dev", "libnghttp2"),
    ("png.h", "libpng-dev", "libpng"),
    ("libavutil/buffer.h", "libavutil-dev", "libavutil"),
    ("uv.h", "libuv1-dev", "libuv"),
    ("sqlite3.h", "libsqlite3-dev", "sqlite3"),
    ("ft2build.h", "libfreetype-dev", "freetype2"),
    ("expat.h", "libexpat1-dev", "expat"),
    ("jansson.h", "libjansson-dev", "jansson"),
    ("cJSON.h", "libcjson-dev", "libcjson"),
    ("numpy/ndarraytypes.h", "python3-numpy", "python3-embed"),
    ("Python.h", "python3-dev", "python3-embed"),
];

/// What compilers and linkers must be told for programs that include this header.
pub struct Flags {
    pub compile: Vec<String>,
    pub link: Vec<String>,
}

/// The library of the first of these headers that is in the list; `None` if none is.
pub fn library_of<'a>(headers: impl Iterator<Item = &'a str> + Clone) -> Option<&'static str> {
    let mut known = LIBRARIES.iter().map(|&(header, ..)| header);
    known.find(|&known| headers.clone().any(|header| header == known))
}

/// For one of the headers in the list. `None` if the library is not installed: `what` is then skipped, and says so.
pub fn flags_of(header: &str, what: &str) -> Option<Flags> {
    let known = LIBRARIES.iter().find(|&&(name, ..)| name == header);
    let &(_, package, names) = known.unwrap_or_else(|| panic!("{header} is not in the list of libraries"));
    if is_emulated() {
        // The host's, for another machine than the programs.
        eprintln!("left out, because {package} is the host's: {what}");
        return None;
    }
    let flags = match names.starts_with("-l") {
        true => Some((String::new(), names.to_owned())),
        false => pkg_config("--cflags", names).zip(pkg_config("--libs", names)),
    };
    let flags = flags.map(|(compile, link)| Flags {
        // Of their headers we take no warnings.
        compile: compile.split_whitespace().map(|flag| flag.replacen("-I", "-isystem", 1)).collect(),
        link: link.split_whitespace().map(str::to_owned).collect(),
    });
    let flags = flags.filter(|flags| has(header, flags));
    if flags.is_none() {
        skip(package, what);
    }
    flags
}

fn pkg_config(question: &str, names: &str) -> Option<String> {
    let answer = Command::new("pkg-config").arg(question).args(names.split(' ')).output().ok()?;
    answer.status.success().then(|| String::from_utf8_lossy(&answer.stdout).into_owned())
}

/// Whether the header is where it should be.
fn has(header: &str, flags: &Flags) -> bool {
    let source = scratch("libraries").join(format!("{}.c", header.replace(['/', '.'], "-")));
    let first = if header.starts_with("numpy") { "#include <Python.h>\n" } else { "#include <stdio.h>\n" };
    std::fs::write(&source, format!("{first}#include <{header}>\n")).expect("the scratch folder is writable");
    let mut command = compiler(Language::C);
    compile(command.arg("-fsyntax-only").args(&flags.compile).arg(source)).succeeded()
}
