// error: operator+|invalid operands
// The test for memory is explicit: a buffer is no number.

#include "bytepool/bytepool.hpp"

#include <utility>

bool f(const bytepool::PooledBuffer &buffer) {
#ifdef MISUSE
    return buffer + 1;
#else
    return static_cast<bool>(buffer);
#endif
}
