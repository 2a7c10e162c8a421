// The std::pmr adapter: raw gets and puts with the caller's size and alignment.

#include "bytepool/bytepool.hpp"

#include <cstring>

namespace bytepool {

namespace detail {
// Past the bridge, whose every call is two.
extern "C" std::uint8_t *bytepool_cpp_get_raw(std::uint64_t key, std::size_t size, const Pool &pool) noexcept;
extern "C" void bytepool_cpp_put_raw(std::uint64_t key, void *data, std::size_t size, const Pool &pool) noexcept;
} // namespace detail

memory_resource::memory_resource(const Pool &pool)
    : pool_(pool.clone()), key_(detail::key_of(pool)), alignment_(pool.alignment()) {}

memory_resource::~memory_resource() = default;

void *memory_resource::do_allocate(std::size_t bytes, std::size_t alignment) {
    void *data = alignment <= alignment_ ? detail::bytepool_cpp_get_raw(key_, bytes, *pool_)
                                         : detail::get_raw_aligned(*pool_, alignment, bytes);
    if (data == nullptr) {
        detail::throw_get_error();
    }
    return data;
}

void memory_resource::do_deallocate(void *data, std::size_t bytes, std::size_t) {
    detail::bytepool_cpp_put_raw(key_, data, bytes, *pool_);
}

// The class is final, so an object of it has its table of virtual functions. A dynamic_cast would read type information
// that another resource does not have if it was compiled with -fno-rtti.
bool memory_resource::do_is_equal(const std::pmr::memory_resource &other) const noexcept {
    const auto table_of = [](const std::pmr::memory_resource &resource) {
        const void *table = nullptr;
        std::memcpy(&table, static_cast<const void *>(&resource), sizeof table);
        return table;
    };
    return table_of(other) == table_of(*this) &&
           detail::same_pool(*pool_, *static_cast<const memory_resource &>(other).pool_);
}

} // namespace bytepool
