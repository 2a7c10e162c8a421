// What PooledBuffer needs out of line: its cold failure.

#include "bytepool/bytepool.hpp"

#include <stdexcept>
#include <string>

namespace bytepool::detail {

void throw_length_error(std::size_t size, std::size_t capacity) {
    throw std::length_error("bytepool: a size of " + std::to_string(size) + " bytes exceeds the buffer's capacity of " +
                            std::to_string(capacity));
}

} // namespace bytepool::detail
