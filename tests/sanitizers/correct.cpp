// A correct program: no checker of memory has anything to say about it.

#include "bytepool/bytepool.hpp"

#include <cstdlib>
#include <cstring>
#include <memory>
#include <memory_resource>
#include <new>
#include <string>
#include <thread>
#include <vector>

namespace {

// In a buffer of the pool: the only pointer to a string on the heap.
struct Node {
    std::unique_ptr<std::string> text;
};

void require(bool condition) {
    if (!condition) {
        std::abort();
    }
}

// Slots, overflow and oversize, each to its last byte.
void owners(const bytepool::Pool &pool) {
    std::vector<bytepool::PooledBuffer> buffers;
    for (const std::size_t size : {std::size_t{0}, std::size_t{100}, std::size_t{512}, std::size_t{3000}}) {
        for (int i = 0; i < 3; i++) {
            buffers.emplace_back(pool, size);
            std::memset(buffers.back().data(), 7, buffers.back().capacity());
        }
    }
    std::uint8_t *raw = buffers.back().release();
    buffers.back() = bytepool::PooledBuffer::adopt(pool, raw, 3000);
    require(buffers.back().data()[2999] == 7);
}

void only_pointers(const bytepool::Pool &pool) {
    bytepool::PooledBuffer buffer(pool, sizeof(Node));
    Node *node = new (buffer.data()) Node{std::make_unique<std::string>(100, 'x')};
    require(node->text->size() == 100);
    node->~Node();
}

void containers(const bytepool::Pool &pool) {
    bytepool::memory_resource resource(pool);
    std::pmr::vector<std::pmr::string> words(&resource);
    for (std::size_t i = 0; i < 50; i++) {
        words.emplace_back(i * 10, 'x');
    }
    require(words.back().size() == 490);
}

void work(const bytepool::Pool &pool) {
    for (int round = 0; round < 10; round++) {
        owners(pool);
        only_pointers(pool);
        containers(pool);
    }
}

// Still out when the program ends.
bytepool::PooledBuffer *volatile kept;

} // namespace

int main() {
    auto pool = bytepool::new_pool({{64, 2}, {512, 8}});
    std::thread other([&]() { work(*pool); });
    work(*pool);
    other.join();
    kept = new bytepool::PooledBuffer(*pool, sizeof(Node));
    new (kept->data()) Node{std::make_unique<std::string>(100, 'x')};
    return 0;
}
