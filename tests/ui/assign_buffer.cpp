// error: deleted
// A PooledBuffer is assigned by moving only.

#include "bytepool/bytepool.hpp"

#include <utility>

void f(bytepool::PooledBuffer &a, bytepool::PooledBuffer &b) {
#ifdef MISUSE
    a = b;
#else
    a = std::move(b);
#endif
}
