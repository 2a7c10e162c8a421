//! C++: `PooledBuffer` and `memory_resource` against the C functions, all in loops of cpp/raii.cpp.

use std::ffi::c_void;

use crate::library::Library;
use crate::measure::{Sample, Start, check_marks, proven};
use crate::ours::Pooled;

/// Which loop of cpp/raii.cpp.
pub enum Cpp {
    PooledBuffer,
    MemoryResource,
    CFunctions,
}

pub fn run(which: &Cpp, pool: Pooled, size: usize) -> impl FnMut(u64) -> Sample + use<> {
    let library = Library::open(env!("PEERS_RAII")).expect("the build script linked it");
    let symbol = match which {
        Cpp::PooledBuffer => "raii_pooled_buffer",
        Cpp::MemoryResource => "raii_memory_resource",
        Cpp::CFunctions => "raii_c_functions",
    };
    // SAFETY:
    // - the type that cpp/raii.cpp gives each
    let run: unsafe extern "C" fn(*mut c_void, usize, u64) -> u64 = unsafe { library.function(symbol) };
    move |count| {
        proven(pool, count, || {
            let start = Start::now();
            // SAFETY:
            // - a live context
            let sum = unsafe { run(pool.context(), size, count) };
            let sample = Sample::since(start, count);
            check_marks(sum, count);
            sample
        })
    }
}
