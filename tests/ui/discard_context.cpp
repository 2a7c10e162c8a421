// error: nodiscard
// A context that nobody holds is freed at once.

#include "bytepool/bytepool.hpp"

#include <utility>

void f(const bytepool::Pool &pool) {
#ifdef MISUSE
    bytepool::Context(*pool.clone());
#else
    bytepool::Context context(*pool.clone());
#endif
}
