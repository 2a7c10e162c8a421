// error: nodiscard
// An adopted buffer has an owner, or is put back at once.

#include "bytepool/bytepool.hpp"

#include <utility>

void f(const bytepool::Pool &pool, void *data) {
#ifdef MISUSE
    bytepool::PooledBuffer::adopt(pool, data, 100);
#else
    const bytepool::PooledBuffer buffer = bytepool::PooledBuffer::adopt(pool, data, 100);
#endif
}
