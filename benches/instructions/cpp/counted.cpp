// The C++ side of the instruction count: `counted CASE COUNT` runs one case's loop, over the shared library, as a
// user's program would. Callgrind collects inside the functions whose names start with counted_ and nowhere else. Each
// case proves itself as those of c/counted.c do, with which they are to be compared: the same loop, by other means.
#include <bytepool/bytepool.hpp>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory_resource>
#include <utility>

namespace {

constexpr std::size_t size = 4096;

void prove(bool holds, const char *what) {
    if (!holds) {
        std::fprintf(stderr, "proof failed: %s\n", what);
        std::exit(1);
    }
}

std::uint64_t touch(void *data, std::uint64_t mark) {
    volatile auto *byte = static_cast<std::uint8_t *>(data);
    *byte = static_cast<std::uint8_t>(mark);
    return *byte;
}

} // namespace

extern "C" {

__attribute__((noinline)) std::uint64_t counted_owner(const bytepool::Pool &pool, std::uint64_t count) {
    std::uint64_t sum = 0;
    for (std::uint64_t index = 0; index < count; index++) {
        bytepool::PooledBuffer buffer(pool, size);
        sum += touch(buffer.data(), index);
    }
    return sum;
}

__attribute__((noinline)) std::uint64_t counted_allocator(bytepool::allocator<std::uint64_t> allocator,
                                                          std::uint64_t count) {
    std::uint64_t sum = 0;
    for (std::uint64_t index = 0; index < count; index++) {
        std::uint64_t *data = allocator.allocate(size / 8);
        sum += touch(data, index);
        allocator.deallocate(data, size / 8);
    }
    return sum;
}

// As a container calls it: by the base class.
__attribute__((noinline)) std::uint64_t counted_resource(std::pmr::memory_resource *resource, std::uint64_t count) {
    std::uint64_t sum = 0;
    for (std::uint64_t index = 0; index < count; index++) {
        void *data = resource->allocate(size, 8);
        sum += touch(data, index);
        resource->deallocate(data, size, 8);
    }
    return sum;
}

__attribute__((noinline)) std::uint64_t counted_shares(const bytepool::SharedBuffer &shared, std::uint64_t count) {
    std::uint64_t sum = 0;
    for (std::uint64_t index = 0; index < count; index++) {
        const bytepool::SharedBuffer copy = shared; // NOLINT(performance-unnecessary-copy-initialization)
        sum += *static_cast<const volatile std::uint8_t *>(copy.data() + index % 256);
    }
    return sum;
}
}

int main(int argc, char **argv) {
    prove(argc == 3, "called as: counted CASE COUNT");
    const std::uint64_t count = std::strtoull(argv[2], nullptr, 10);
    const auto pool = bytepool::new_pool({{size, 1000}});
    std::uint64_t sum = 0;
    std::uint64_t gets = count;
    if (std::strcmp(argv[1], "owner") == 0) {
        sum = counted_owner(*pool, count);
    } else if (std::strcmp(argv[1], "allocator") == 0) {
        const bytepool::Context context(*pool);
        sum = counted_allocator(context, count);
    } else if (std::strcmp(argv[1], "resource") == 0) {
        bytepool::memory_resource resource(*pool);
        sum = counted_resource(&resource, count);
    } else if (std::strcmp(argv[1], "shares") == 0) {
        bytepool::PooledBuffer buffer(*pool, 256);
        for (std::size_t index = 0; index < 256; index++) {
            buffer[index] = static_cast<std::uint8_t>(index);
        }
        sum = counted_shares(std::move(buffer).share(), count);
        gets = 1;
    } else {
        prove(false, "the case is one of owner, allocator, resource and shares");
    }
    std::uint64_t marks = 0;
    for (std::uint64_t index = 0; index < count; index++) {
        marks += static_cast<std::uint8_t>(index);
    }
    prove(sum == marks, "what was written is read back");
    const bytepool::Stats stats = pool->stats();
    prove(stats.gets == gets && stats.puts == gets, "the pool counts each get and put");
    prove(stats.system_allocations == 0, "the pool serves each get");
    bytepool::PooledBuffer(*pool, size).reset();
    prove(pool->class_stats(0).cached != 0, "idle slots are in a thread cache");
}
