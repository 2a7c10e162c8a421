// error: deleted
// A PooledBuffer has one owner: it moves, and is not copied.

#include "bytepool/bytepool.hpp"

#include <utility>

void f(bytepool::PooledBuffer &buffer) {
#ifdef MISUSE
    bytepool::PooledBuffer other(buffer);
#else
    bytepool::PooledBuffer other(std::move(buffer));
#endif
}
