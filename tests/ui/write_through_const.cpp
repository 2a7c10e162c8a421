// error: read-only|const
// A const buffer's bytes are not changed.

#include "bytepool/bytepool.hpp"

#include <utility>

void f(const bytepool::PooledBuffer &buffer, bytepool::PooledBuffer &writable) {
    (void)buffer;
    (void)writable;
#ifdef MISUSE
    buffer[0] = 1;
#else
    writable[0] = 1;
#endif
}
