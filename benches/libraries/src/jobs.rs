//! The jobs. The build script has this file, too.

/// A program of `c`, for one library.
pub struct Job {
    pub name: &'static str,
    pub library: &'static str,
    /// The library's header, by which its flags are found.
    pub header: &'static str,
    pub work: &'static str,
}

const fn job(name: &'static str, library: &'static str, header: &'static str, work: &'static str) -> Job {
    Job { name, library, header, work }
}

pub const JOBS: [Job; 17] = [
    job("zlib", "zlib", "zlib.h", "16 replies of 64 KB packed and unpacked"),
    job("bzip2", "bzip2", "bzlib.h", "1 MB packed and unpacked"),
    job("zstd", "zstd", "zstd.h", "1 MB packed and unpacked"),
    job("lz4", "LZ4 frames", "lz4frame.h", "16 frames of 64 KB packed and unpacked"),
    job("brotli", "Brotli", "brotli/encode.h", "1 MB packed and unpacked"),
    job("lzma", "liblzma", "lzma.h", "1 MB packed and unpacked"),
    job("lua", "Lua", "lua.h", "a script of tables and strings"),
    job("duktape", "Duktape", "duktape.h", "a script of objects and JSON"),
    job("nghttp2", "nghttp2", "nghttp2/nghttp2.h", "2,000 requests and replies, 100 at once"),
    job("png", "libpng", "png.h", "a picture of 256 x 256 written and read"),
    job("freetype", "FreeType", "ft2build.h", "1,000 glyphs of a font drawn"),
    job("expat", "expat", "expat.h", "1 MB of XML parsed"),
    job("jansson", "jansson", "jansson.h", "1 MB of JSON parsed and printed"),
    job("cjson", "cJSON", "cJSON.h", "1 MB of JSON parsed and printed"),
    job("sqlite", "SQLite", "sqlite3.h", "a table filled, indexed, asked and changed"),
    job("ffmpeg", "FFmpeg's buffers", "libavutil/buffer.h", "300 frames and their packets"),
    job("uv", "libuv", "uv.h", "16 MB through a pipe"),
];
