// error: nodiscard
// A released pointer that nobody keeps is a leak.

#include "bytepool/bytepool.hpp"

#include <utility>

std::uint8_t *f(bytepool::PooledBuffer &buffer) {
#ifdef MISUSE
    buffer.release();
    return nullptr;
#else
    return buffer.release();
#endif
}
