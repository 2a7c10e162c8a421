//! What a `PooledBuffer` and `PooledBytes` have in common with slices of bytes: comparison and iteration.

use std::borrow::Borrow;
use std::hash::{Hash, Hasher};
use std::slice;

use super::buffer::PooledBuffer;
use super::bytes::PooledBytes;

/// Compares the bytes with those of another type, from both sides.
macro_rules! equals {
    ($($this:ty, $other:ty $(, $N:ident)?;)*) => { $(
        impl $(<const $N: usize>)? PartialEq<$other> for $this {
            fn eq(&self, other: &$other) -> bool {
                **self == other[..]
            }
        }
        impl $(<const $N: usize>)? PartialEq<$this> for $other {
            fn eq(&self, other: &$this) -> bool {
                self[..] == **other
            }
        }
    )* };
}

macro_rules! like_slices {
    ($($this:ty)*) => { $(
        impl PartialEq for $this {
            fn eq(&self, other: &Self) -> bool {
                **self == **other
            }
        }

        impl Eq for $this {}

        equals! {
            $this, [u8];
            $this, &[u8];
            $this, [u8; N], N;
            $this, &[u8; N], N;
            $this, Vec<u8>;
        }

        impl AsRef<[u8]> for $this {
            fn as_ref(&self) -> &[u8] {
                self
            }
        }

        impl<'a> IntoIterator for &'a $this {
            type Item = &'a u8;
            type IntoIter = slice::Iter<'a, u8>;
            fn into_iter(self) -> Self::IntoIter {
                self.iter()
            }
        }
    )* };
}

like_slices!(PooledBuffer PooledBytes);
equals!(PooledBuffer, PooledBytes;);

impl<'a> IntoIterator for &'a mut PooledBuffer {
    type Item = &'a mut u8;
    type IntoIter = slice::IterMut<'a, u8>;
    fn into_iter(self) -> Self::IntoIter {
        self.iter_mut()
    }
}

/// Hashes like the slice of its bytes. So a map with such keys can be searched by a slice.
impl Hash for PooledBytes {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (**self).hash(state);
    }
}

impl Borrow<[u8]> for PooledBytes {
    fn borrow(&self) -> &[u8] {
        self
    }
}
