// error: nodiscard
// A released context that nobody frees is a leak.

#include "bytepool/bytepool.hpp"

#include <utility>

void f(bytepool::Context &context) {
#ifdef MISUSE
    context.release();
#else
    bytepool_free(context.release());
#endif
}
