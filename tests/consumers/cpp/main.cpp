// An installed bytepool from C++: real work, every result checked. With an argument one expectation is wrong on purpose,
// which shows that the checks can fail.
#include <bytepool/bytepool.hpp>

#include "check.hpp"

#include <algorithm>
#include <cstring>
#include <memory_resource>
#include <string>
#include <thread>
#include <utility>
#include <vector>

// every_symbol.cpp
void use_every_symbol(const bytepool::Pool &pool);

int main(int argc, char **) {
    constexpr std::size_t rounds = 1000;
    auto pool = bytepool::new_pool({{512, 16}, {4096, 16}});

    // Filled on one thread, read and put on another.
    for (std::size_t round = 0; round < rounds; round++) {
        std::vector<bytepool::PooledBuffer> buffers;
        for (std::size_t size = 1; size <= 8192; size *= 2) {
            bytepool::PooledBuffer &buffer = buffers.emplace_back(*pool, size);
            std::fill(buffer.begin(), buffer.end(), static_cast<std::uint8_t>(round));
        }
        if (round % 100 == 0) {
            std::thread([moved = std::move(buffers), round] {
                for (const auto &buffer : moved) {
                    const auto expected = static_cast<std::uint8_t>(round);
                    check(std::all_of(buffer.begin(), buffer.end(), [=](auto byte) { return byte == expected; }),
                          "a buffer keeps its bytes");
                }
            }).join();
        }
    }
    bytepool_stats stats = pool->stats();
    check(stats.gets == 14 * rounds + (argc > 1 ? 1 : 0) && stats.puts == stats.gets, "every get and put is counted");

    // From C++ to C and back.
    bytepool::Context context(*pool);
    void *raw = bytepool_get(context.get(), 100);
    auto adopted = bytepool::PooledBuffer::adopt(*pool, raw, 100);
    check(adopted.data() == raw && adopted.capacity() == 512, "a buffer of C is adopted");
    check(bytepool_put_checked(context.get(), raw, 100) == BYTEPOOL_ERR_DOUBLE_PUT, "C cannot put what C++ owns");
    adopted.reset();

    // An error of Rust is an exception here, whichever library threw it.
    try {
        (void)bytepool::new_pool({{0, 1}});
        check(false, "a class of no bytes is refused");
    } catch (const rust::Error &error) {
        check(std::string(error.what()).find("0 bytes") != std::string::npos, "the error says why");
    }

    {
        bytepool::memory_resource resource(*pool);
        std::pmr::vector<int> numbers(&resource);
        for (int i = 0; i < 1000; i++) {
            numbers.push_back(i);
        }
        check(numbers.back() == 999, "a container lives in the pool");
    }
    use_every_symbol(*pool);
    stats = pool->stats();
    check(stats.gets == stats.puts && stats.gets > 14 * rounds, "all is put back");
    std::puts("ok");
}
