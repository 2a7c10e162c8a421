// The std::pmr adapter: raw gets and puts with the caller's size and alignment.

#include "bytepool/bytepool.hpp"

namespace bytepool {

namespace detail {
// The fast paths, past the bridge.
extern "C" std::uint8_t *bytepool_cpp_get_raw(const Pool &pool, std::size_t size) noexcept;
extern "C" void bytepool_cpp_put_raw(const Pool &pool, void *data, std::size_t size) noexcept;

namespace {
// Cold: what the fast path does not have.
[[gnu::noinline]] void *get_slow(const Pool &pool, std::size_t bytes, std::size_t alignment) {
    const GetRequest request = {bytes, alignment, 0, false, nullptr, 0, 0};
    void *data = get_raw_at(pool, request);
    if (data == nullptr) {
        throw_get_error();
    }
    return data;
}
} // namespace
} // namespace detail

memory_resource::memory_resource(const Pool &pool) : pool_(pool.clone()), alignment_(pool.alignment()) {}

memory_resource::~memory_resource() = default;

void *memory_resource::do_allocate(std::size_t bytes, std::size_t alignment) {
    const bool is_plain = alignment <= alignment_;
    if (is_plain) {
        if (void *data = detail::bytepool_cpp_get_raw(*pool_, bytes)) {
            return data;
        }
    }
    return detail::get_slow(*pool_, bytes, is_plain ? 0 : alignment);
}

void memory_resource::do_deallocate(void *data, std::size_t bytes, std::size_t) {
    detail::bytepool_cpp_put_raw(*pool_, data, bytes);
}

bool memory_resource::do_is_equal(const std::pmr::memory_resource &other) const noexcept {
    const auto *resource = dynamic_cast<const memory_resource *>(&other);
    return resource != nullptr && detail::same_pool(*pool_, *resource->pool_);
}

} // namespace bytepool
