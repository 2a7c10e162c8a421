//! Figures for the crate `serde`: a struct for the pool with a sequence of structs for its classes, by the fields'
//! names.

use serde::ser::{Serialize, SerializeStruct, Serializer};

use super::{ClassList, ClassStats, Stats};

/// Serializes all fields of a struct. One that is forgotten does not compile.
macro_rules! serialize {
    ($name:ident: $($field:ident)*) => {
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                let Self { $($field),* } = self;
                let count = [$(stringify!($field)),*].len();
                let mut fields = serializer.serialize_struct(stringify!($name), count)?;
                $(fields.serialize_field(stringify!($field), $field)?;)*
                fields.end()
            }
        }
    };
}

serialize! {
    Stats: classes max_bytes mapped_bytes allocated_bytes bookkeeping_bytes oversize_bytes oversize_buffers gets puts
    system_allocations limit_failures waits double_puts size_mismatches foreign_pointers
}

serialize! {
    ClassStats: buffer_size slot_size capacity touched outstanding idle cached overflow system_overflow peak
    allocated_bytes gets puts moves bias_ends
}

impl Serialize for ClassList {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self)
    }
}
