// error: nodiscard
// A pool that nobody holds closes at once.

#include "bytepool/bytepool.hpp"

#include <utility>

void f() {
#ifdef MISUSE
    bytepool::new_pool({{512, 4}});
#else
    const auto pool = bytepool::new_pool({{512, 4}});
#endif
}
