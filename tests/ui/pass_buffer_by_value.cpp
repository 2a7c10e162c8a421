// error: deleted
// A PooledBuffer is not passed on by accident.

#include "bytepool/bytepool.hpp"

#include <utility>

void take(bytepool::PooledBuffer);

void f(bytepool::PooledBuffer &buffer) {
#ifdef MISUSE
    take(buffer);
#else
    take(std::move(buffer));
#endif
}
