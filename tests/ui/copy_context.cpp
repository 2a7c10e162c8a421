// error: deleted
// A Context is one handle: it is not copied.

#include "bytepool/bytepool.hpp"

#include <utility>

void f(bytepool::Context &context) {
#ifdef MISUSE
    bytepool::Context other = context;
#else
    bytepool::Context other = std::move(context);
#endif
}
