// The C++ PooledBuffer, the memory_resource and the C functions in loops of one file, all through the shared library.
// Each returns the sum of the bytes that it wrote and read back.
#include <bytepool/bytepool.hpp>

#include <cstddef>
#include <cstdint>
#include <memory_resource>

namespace {

std::uint64_t touch(std::uint8_t *data, std::uint64_t mark) {
    volatile std::uint8_t *const byte = data;
    *byte = static_cast<std::uint8_t>(mark);
    return *byte;
}

} // namespace

extern "C" {

std::uint64_t raii_pooled_buffer(void *context, std::size_t size, std::uint64_t count) {
    const rust::Box<bytepool::Pool> pool = bytepool::pool_of_context(context);
    std::uint64_t sum = 0;
    for (std::uint64_t index = 0; index < count; index++) {
        bytepool::PooledBuffer buffer(*pool, size);
        sum += touch(buffer.data(), index);
    }
    return sum;
}

std::uint64_t raii_memory_resource(void *context, std::size_t size, std::uint64_t count) {
    const rust::Box<bytepool::Pool> pool = bytepool::pool_of_context(context);
    bytepool::memory_resource resource(*pool);
    std::pmr::memory_resource &general = resource; // as a container calls it
    std::uint64_t sum = 0;
    for (std::uint64_t index = 0; index < count; index++) {
        void *const data = general.allocate(size);
        sum += touch(static_cast<std::uint8_t *>(data), index);
        general.deallocate(data, size);
    }
    return sum;
}

std::uint64_t raii_c_functions(void *context, std::size_t size, std::uint64_t count) {
    std::uint64_t sum = 0;
    for (std::uint64_t index = 0; index < count; index++) {
        void *const data = bytepool_get(context, size);
        sum += touch(static_cast<std::uint8_t *>(data), index);
        bytepool_put(context, data, size);
    }
    return sum;
}
}
