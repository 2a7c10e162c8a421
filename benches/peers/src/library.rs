//! Shared libraries, opened by `dlopen` as a plug-in would be, and their functions.

use std::ffi::{CStr, CString, c_void};

/// An open shared library. It is never closed: the functions stay good.
pub struct Library {
    handle: *mut c_void,
    name: &'static str,
}

impl Library {
    /// `None` if it is not installed or cannot be opened; then `why` has the loader's words.
    pub fn open(name: &'static str) -> Result<Self, String> {
        let path = CString::new(name).expect("no name has a NUL");
        // SAFETY:
        // - the path ends with NUL
        // - initialisers of these libraries are safe to run in any thread
        let handle = unsafe { libc::dlopen(path.as_ptr(), libc::RTLD_NOW | libc::RTLD_LOCAL) };
        if handle.is_null() {
            // SAFETY:
            // - dlopen failed on this thread just now, so there is a message; copied before the next call
            return Err(unsafe { CStr::from_ptr(libc::dlerror()) }.to_string_lossy().into_owned());
        }
        Ok(Self { handle, name })
    }

    /// The function `symbol`, proven to be this library's own and not one that another library put before it.
    ///
    /// # Safety
    /// - `F` is the `extern "C"` function pointer type of that function
    pub unsafe fn function<F: Copy>(&self, symbol: &str) -> F {
        assert_eq!(size_of::<F>(), size_of::<*mut c_void>(), "{symbol}: not a function pointer");
        let text = CString::new(symbol).expect("no symbol has a NUL");
        // SAFETY:
        // - the handle is open
        // - the symbol ends with NUL
        let address = unsafe { libc::dlsym(self.handle, text.as_ptr()) };
        assert!(!address.is_null(), "{} has no {symbol}", self.name);
        self.check_owner(symbol, address);
        // SAFETY:
        // - the caller vouches for the type, whose size was compared
        unsafe { std::mem::transmute_copy(&address) }
    }

    /// Proves that a function is this library's own.
    pub fn check_owner(&self, symbol: &str, address: *mut c_void) {
        let owner = owner(address);
        let file = self.name.rsplit('/').next().unwrap_or(self.name);
        assert!(owner.contains(file), "proof failed: {symbol} of {} is in fact {owner}'s", self.name);
    }
}

/// The file that an address was loaded from.
fn owner(address: *mut c_void) -> String {
    // SAFETY:
    // - all zeros is a valid value of this plain C struct
    let mut info: libc::Dl_info = unsafe { std::mem::zeroed() };
    // SAFETY:
    // - dladdr takes any address, and `info` is writable
    let found = unsafe { libc::dladdr(address, &mut info) };
    assert!(found != 0 && !info.dli_fname.is_null(), "an address of no library");
    // SAFETY:
    // - dladdr found a name: a string with NUL that lasts as long as the library
    unsafe { CStr::from_ptr(info.dli_fname) }.to_string_lossy().into_owned()
}
