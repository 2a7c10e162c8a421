// std::pmr::synchronized_pool_resource behind C functions.
#include <cstddef>
#include <memory_resource>
#include <new>

namespace {
constexpr std::size_t alignment = 64; // as bytepool's buffers have
}

extern "C" {

void *pmr_new() {
    return new (std::nothrow) std::pmr::synchronized_pool_resource();
}

void *pmr_get(void *resource, std::size_t size) {
    return static_cast<std::pmr::synchronized_pool_resource *>(resource)->allocate(size, alignment);
}

void pmr_put(void *resource, void *data, std::size_t size) {
    static_cast<std::pmr::synchronized_pool_resource *>(resource)->deallocate(data, size, alignment);
}
}
