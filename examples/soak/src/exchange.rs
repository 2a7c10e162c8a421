//! Where buffers wait for their next owner, of whatever language.

use std::ffi::c_void;
use std::sync::Mutex;

/// A raw buffer that changes hands: its first `size` bytes are all `mark`. The same struct is in worker.h.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub(crate) struct Parcel {
    pub(crate) data: *mut c_void,
    pub(crate) size: usize,
    pub(crate) pool: u32,
    pub(crate) mark: u8,
}

// SAFETY:
// - a parcel owns its buffer, which any thread may have
unsafe impl Send for Parcel {}

impl Parcel {
    pub(crate) fn check(&self) {
        // SAFETY:
        // - a parcel owns its buffer, of at least `size` bytes, all written
        let bytes = unsafe { std::slice::from_raw_parts(self.data.cast::<u8>(), self.size) };
        assert!(bytes.iter().all(|&byte| byte == self.mark), "Rust: a buffer is not as its owner left it");
    }
}

#[derive(Default)]
pub(crate) struct Exchange(Mutex<Vec<Parcel>>);

impl Exchange {
    const MOST: usize = 256;

    /// False if there are enough.
    pub(crate) fn offer(&self, parcel: Parcel) -> bool {
        let mut parcels = self.0.lock().unwrap();
        let has_room = parcels.len() < Self::MOST;
        if has_room {
            parcels.push(parcel);
        }
        has_room
    }

    pub(crate) fn take(&self, random: u64) -> Option<Parcel> {
        let mut parcels = self.0.lock().unwrap();
        if parcels.is_empty() {
            return None;
        }
        let index = random as usize % parcels.len();
        Some(parcels.swap_remove(index))
    }

    pub(crate) fn outstanding(&self, pool: usize) -> u64 {
        self.0.lock().unwrap().iter().filter(|parcel| parcel.pool as usize == pool).count() as u64
    }

    pub(crate) fn take_all(&self) -> Vec<Parcel> {
        std::mem::take(&mut *self.0.lock().unwrap())
    }
}
