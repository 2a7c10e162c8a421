// error: nodiscard
// Whether try_get succeeded must be looked at.

#include "bytepool/bytepool.hpp"

#include <utility>

void f(const bytepool::Pool &pool) {
#ifdef MISUSE
    bytepool::PooledBuffer::try_get(pool, 100);
#else
    (void)bytepool::PooledBuffer::try_get(pool, 100).has_value();
#endif
}
