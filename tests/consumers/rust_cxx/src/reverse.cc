#include "bytepool-cxx-consumer/src/reverse.h"

#include <algorithm>
#include <stdexcept>

namespace consumer {

rust::String reverse(const bytepool::Pool &pool, rust::Str text) {
    if (text.empty()) {
        throw std::invalid_argument("nothing to reverse");
    }
    bytepool::PooledBuffer buffer(pool, text.size());
    std::reverse_copy(text.begin(), text.end(), buffer.begin());
    return rust::String(reinterpret_cast<const char *>(buffer.data()), buffer.size());
}

} // namespace consumer
