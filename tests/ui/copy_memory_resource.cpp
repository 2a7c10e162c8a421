// error: deleted
// A memory_resource is not copied: containers point to it.

#include "bytepool/bytepool.hpp"

#include <utility>

void f(bytepool::memory_resource &resource, const bytepool::Pool &pool) {
    (void)pool;
    (void)resource;
#ifdef MISUSE
    bytepool::memory_resource other(resource);
#else
    bytepool::memory_resource other(pool);
#endif
}
