// error: nodiscard
// A buffer that nobody holds would be put back at once.

#include "bytepool/bytepool.hpp"

#include <utility>

void f(const bytepool::Pool &pool) {
#ifdef MISUSE
    bytepool::PooledBuffer(pool, 100);
#else
    bytepool::PooledBuffer buffer(pool, 100);
#endif
}
