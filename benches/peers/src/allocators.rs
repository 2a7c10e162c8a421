//! General-purpose allocators: those that Debian ships as shared libraries, and those that crates bring, which the build
//! script makes into shared libraries.

use std::ffi::c_void;

use crate::library::Library;
use crate::peers::Peer;

type MallocFunction = unsafe extern "C" fn(usize) -> *mut c_void;
type FreeFunction = unsafe extern "C" fn(*mut c_void);
type FreeSizedFunction = unsafe extern "C" fn(*mut c_void, usize);
type ThreadFunction = unsafe extern "C" fn();

/// What a thread calls before its first get, and after its last put.
#[derive(Clone, Copy, Default)]
struct Threads {
    enter: Option<ThreadFunction>,
    leave: Option<ThreadFunction>,
}

impl Threads {
    fn enter(self) {
        if let Some(enter) = self.enter {
            // SAFETY:
            // - has no conditions
            unsafe { enter() }
        }
    }

    fn leave(self) {
        if let Some(leave) = self.leave {
            // SAFETY:
            // - the thread entered
            unsafe { leave() }
        }
    }
}

/// A library's own `malloc` and `free`.
#[derive(Clone, Copy)]
pub struct Malloc {
    malloc: MallocFunction,
    free: FreeFunction,
    threads: Threads,
}

impl Malloc {
    pub fn open(name: &'static str) -> Result<Self, String> {
        let library = Library::open(name)?;
        // SAFETY:
        // - the types of C's malloc and free
        let (malloc, free) = unsafe { (library.function("malloc"), library.function("free")) };
        Ok(Self { malloc, free, threads: Threads::default() })
    }
}

impl Peer for Malloc {
    #[inline(always)]
    unsafe fn get(self, size: usize) -> *mut u8 {
        // SAFETY:
        // - any size is allowed
        unsafe { (self.malloc)(size) }.cast()
    }

    #[inline(always)]
    unsafe fn put(self, buffer: *mut u8, _size: usize) {
        // SAFETY:
        // - malloc's own and not used again, says the caller
        unsafe { (self.free)(buffer.cast()) }
    }

    fn enter_thread(self) {
        self.threads.enter();
    }

    fn leave_thread(self) {
        self.threads.leave();
    }
}

/// An allocator whose free is told the size.
#[derive(Clone, Copy)]
pub struct SizedMalloc {
    malloc: MallocFunction,
    free: FreeSizedFunction,
    threads: Threads,
}

impl Peer for SizedMalloc {
    #[inline(always)]
    unsafe fn get(self, size: usize) -> *mut u8 {
        // SAFETY:
        // - any size is allowed
        unsafe { (self.malloc)(size) }.cast()
    }

    #[inline(always)]
    unsafe fn put(self, buffer: *mut u8, size: usize) {
        // SAFETY:
        // - malloc's own, got with this size and not used again, says the caller
        unsafe { (self.free)(buffer.cast(), size) }
    }

    fn enter_thread(self) {
        self.threads.enter();
    }

    fn leave_thread(self) {
        self.threads.leave();
    }
}

/// What `allocator` of `allocators/src/lib.rs` returns.
#[repr(C)]
struct Functions {
    malloc: MallocFunction,
    free: Option<FreeFunction>,
    free_sized: Option<FreeSizedFunction>,
    enter: Option<ThreadFunction>,
    leave: Option<ThreadFunction>,
}

/// An allocator of a crate.
pub enum OfCrate {
    Plain(Malloc),
    Sized(SizedMalloc),
}

impl OfCrate {
    pub fn open(name: &'static str) -> Result<Self, String> {
        let library = Library::open(name)?;
        // SAFETY:
        // - the type that allocators/src/lib.rs gives the function, which has no conditions
        let functions = unsafe {
            let allocator: unsafe extern "C" fn() -> Functions = library.function("allocator");
            allocator()
        };
        let Functions { malloc, free, free_sized, enter, leave } = functions;
        library.check_owner("its malloc", malloc as *mut c_void);
        let threads = Threads { enter, leave };
        match (free, free_sized) {
            (Some(free), _) => {
                library.check_owner("its free", free as *mut c_void);
                Ok(Self::Plain(Malloc { malloc, free, threads }))
            }
            (None, Some(free)) => {
                library.check_owner("its sized free", free as *mut c_void);
                Ok(Self::Sized(SizedMalloc { malloc, free, threads }))
            }
            (None, None) => Err("it exports no free".to_owned()),
        }
    }
}
