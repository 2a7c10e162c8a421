// The std::pmr adapter: raw gets and puts with the caller's size and alignment.

#include "bytepool/bytepool.hpp"

#include <new>

namespace bytepool {

memory_resource::memory_resource(const Pool &pool) : pool_(pool.clone()) {}

memory_resource::~memory_resource() = default;

void *memory_resource::do_allocate(std::size_t bytes, std::size_t alignment) {
    if (void *data = detail::get_raw(*pool_, bytes, alignment)) {
        return data;
    }
    throw std::bad_alloc();
}

void memory_resource::do_deallocate(void *data, std::size_t bytes, std::size_t) {
    detail::put_raw(*pool_, static_cast<std::uint8_t *>(data), bytes);
}

bool memory_resource::do_is_equal(const std::pmr::memory_resource &other) const noexcept {
    const auto *resource = dynamic_cast<const memory_resource *>(&other);
    return resource != nullptr && detail::same_pool(*pool_, *resource->pool_);
}

} // namespace bytepool
