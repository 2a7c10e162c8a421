// error: nodiscard
// Nor is one discarded that a function returned.

#include "bytepool/bytepool.hpp"

#include <utility>

bytepool::PooledBuffer make();

void f() {
#ifdef MISUSE
    make();
#else
    const bytepool::PooledBuffer buffer = make();
#endif
}
