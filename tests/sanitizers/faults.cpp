// As faults.c, in a buffer that a C++ owner or container has.

#include "bytepool/bytepool.hpp"

#include <cstring>
#include <memory_resource>
#include <string>

// In the reports by its own name.
#ifdef __clang__
#define KEPT_APART __attribute__((noinline))
#else
#define KEPT_APART __attribute__((noipa))
#endif

namespace {

// Not a tail call, which leaves no trace of its caller.
std::uint8_t *volatile last;

KEPT_APART bytepool::PooledBuffer got_here(const bytepool::Pool &pool, std::size_t size) {
    bytepool::PooledBuffer buffer(pool, size);
    last = buffer.data();
    return buffer;
}

KEPT_APART std::uint8_t *allocated_here(std::pmr::memory_resource &resource, std::size_t size) {
    last = static_cast<std::uint8_t *>(resource.allocate(size));
    return last;
}

KEPT_APART void put_here(bytepool::PooledBuffer &buffer) {
    buffer.reset();
    last = nullptr;
}

KEPT_APART void deallocated_here(std::pmr::memory_resource &resource, std::uint8_t *data, std::size_t size) {
    resource.deallocate(data, size);
    last = nullptr;
}

KEPT_APART void used_here(std::uint8_t *data, std::size_t at) {
    last = data; // valgrind places what a function does first in its caller
    last[at] = 1;
    last = nullptr;
}

// What calls left on the stack, which LeakSanitizer takes for pointers in use.
KEPT_APART __attribute__((no_sanitize_address)) void wipe_dead_stack() {
    volatile char dead[1 << 16];
    for (volatile char &byte : dead) {
        byte = 0;
    }
}

void with_owner(const bytepool::Pool &pool, const std::string &fault, std::size_t size) {
    bytepool::PooledBuffer buffer = got_here(pool, size);
    std::uint8_t *data = buffer.data();
    if (fault == "use-after-put") {
        put_here(buffer);
        used_here(data, 5);
    } else if (fault == "overflow") {
        used_here(data, size);
    } else if (fault == "leak") {
        static_cast<void>(buffer.release());
        last = nullptr;
    }
}

void with_resource(const bytepool::Pool &pool, const std::string &fault, std::size_t size) {
    bytepool::memory_resource resource(pool);
    std::uint8_t *data = allocated_here(resource, size);
    std::memset(data, 1, size);
    if (fault == "leak") {
        last = nullptr;
        return;
    }
    if (fault == "overflow") {
        used_here(data, size);
    }
    deallocated_here(resource, data, size);
    if (fault == "use-after-put") {
        used_here(data, 5);
    }
}

KEPT_APART void in_a_pool(const std::string &fault, const std::string &kind) {
    auto pool = bytepool::new_pool({{512, 1}});
    const bytepool::PooledBuffer only = kind == "overflow" ? got_here(*pool, 1) : bytepool::PooledBuffer();
    const std::size_t size = kind == "oversize" ? 1000 : 100;
    if (kind == "resource") {
        with_resource(*pool, fault, size);
    } else {
        with_owner(*pool, fault, size);
    }
}

} // namespace

int main(int argc, char **argv) {
    if (argc != 3) {
        return 9;
    }
    in_a_pool(argv[1], argv[2]);
    wipe_dead_stack();
    return 0;
}
