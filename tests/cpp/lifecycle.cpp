// The end of pools and of threads: closing in any order of handles and buffers of C and C++, and puts from
// destructors of thread-locals, from pthread keys, from atexit and from destructors of statics.

#include "expect.hpp"

#include "../c/process.h"

#include <algorithm>
#include <array>
#include <cinttypes>
#include <cstring>
#include <functional>
#include <memory_resource>
#include <optional>
#include <thread>
#include <vector>

#include <pthread.h>
#include <unistd.h>

namespace {

using bytepool::Context;
using bytepool::PooledBuffer;

constexpr std::size_t buffer_size = 256 << 10;
constexpr std::size_t buffer_count = 64;

// Whether the process's maps have the address; what a checker watches is not in the region.
bool is_mapped(std::uintptr_t address, bool expected) {
    if (is_watched()) {
        return expected;
    }
    std::FILE *file = std::fopen("/proc/self/maps", "r");
    REQUIRE(file != nullptr);
    std::array<char, 4096> line;
    bool found = false;
    while (std::fgets(line.data(), line.size(), file) != nullptr) {
        std::uintptr_t start = 0;
        std::uintptr_t end = 0;
        REQUIRE(std::sscanf(line.data(), "%" SCNxPTR "-%" SCNxPTR, &start, &end) == 2);
        found = found || (start <= address && address < end);
    }
    std::fclose(file);
    return found;
}

std::uintptr_t address_of(const void *data) {
    return reinterpret_cast<std::uintptr_t>(data);
}

void ignore(const bytepool_misuse *, void *) {}

// ---- closing ----

// All there is of a pool: handles of C and C++, and buffers of both.
struct Everything {
    std::optional<rust::Box<bytepool::Pool>> pool = bytepool::new_pool({{buffer_size, buffer_count}});
    std::optional<rust::Box<bytepool::Pool>> clone = (*pool)->clone();
    std::optional<Context> context = Context(**pool);
    void *raw_context = context->get();

    std::optional<PooledBuffer> buffer = PooledBuffer(**pool, 1000);
    std::optional<PooledBuffer> oversize = PooledBuffer(**pool, 2 * buffer_size);
    void *raw = bytepool_get(raw_context, buffer_size);
    std::uintptr_t region = address_of(buffer->data());

    // Touches all slots, so that there is idle memory to give back.
    void fill() {
        std::vector<PooledBuffer> all;
        while ((*pool)->class_stats(0).overflow == 0) {
            all.emplace_back(**pool, buffer_size);
            std::memset(all.back().data(), 7, buffer_size);
        }
        std::memset(raw, 7, buffer_size);
        std::memset(buffer->data(), 7, 1000);
    }
};

using Steps = std::vector<std::function<void(Everything &)>>;

const Steps handles = {
    [](Everything &all) { all.pool.reset(); },
    [](Everything &all) { all.clone.reset(); },
    [](Everything &all) { all.context.reset(); },
};

const Steps buffers = {
    [](Everything &all) { all.buffer.reset(); },
    [](Everything &all) { all.oversize.reset(); },
    // The context was freed: a put works all the same.
    [](Everything &all) { CHECK_EQ(bytepool_put_checked(all.raw_context, all.raw, buffer_size), BYTEPOOL_OK); },
};

// The last handle's end gives idle memory back, and the last slot's put the region.
void close_in_order(const std::vector<std::size_t> &handle_order, const std::vector<std::size_t> &buffer_order) {
    Everything all;
    all.fill();
    CHECK(is_mapped(all.region, true));
    std::size_t before = 0;
    for (std::size_t handle : handle_order) {
        before = resident_bytes();
        handles[handle](all);
    }
    const std::size_t idle = buffer_size * (buffer_count - 2);
    CHECK(!check_is_full() || resident_bytes() + idle / 2 < before);
    CHECK_PTR(bytepool_get(all.raw_context, 1), nullptr);
    CHECK_EQ(bytepool_last_error(), BYTEPOOL_ERR_CLOSED);
    std::size_t slots = 2;
    for (std::size_t buffer : buffer_order) {
        CHECK_EQ(is_mapped(all.region, slots > 0), slots > 0);
        if (slots > 0 && all.buffer) {
            CHECK_BYTES(all.buffer->data(), 7, 1000);
        }
        slots -= buffer == 1 ? 0 : 1;
        buffers[buffer](all);
    }
    CHECK(!is_mapped(all.region, false));
    bytepool_stats stats = BYTEPOOL_STATS_INIT;
    CHECK_EQ(bytepool_read_stats(all.raw_context, &stats), BYTEPOOL_ERR_INVALID_CONTEXT);
}

void closing_in_any_order() {
    std::vector<std::size_t> handle_order = {0, 1, 2};
    do {
        std::vector<std::size_t> buffer_order = {0, 1, 2};
        do {
            close_in_order(handle_order, buffer_order);
        } while (std::next_permutation(buffer_order.begin(), buffer_order.end()));
    } while (check_is_full() && std::next_permutation(handle_order.begin(), handle_order.end()));
}

void an_explicit_close_needs_no_end_of_handles() {
    Everything all;
    all.fill();
    const std::size_t before = resident_bytes();
    (*all.clone)->close();
    CHECK(!check_is_full() || resident_bytes() + buffer_size * (buffer_count - 2) / 2 < before);
    CHECK_EQ(out(**all.pool), 3);
    for (const auto &put : buffers) {
        CHECK(is_mapped(all.region, true) || out(**all.pool) < 2);
        put(all);
    }
    CHECK(!is_mapped(all.region, false));
    CHECK_EQ(checked_stats(**all.pool).mapped_bytes, 0);
}

// ---- the ends of threads ----

// Puts its buffers when its thread ends, and gets others then.
struct Late {
    const bytepool::Pool *pool = nullptr;
    void *context = nullptr;
    void *raw = nullptr;
    PooledBuffer buffer;

    ~Late() {
        if (pool == nullptr) {
            return;
        }
        buffer.reset();
        CHECK_EQ(bytepool_put_checked(context, raw, 100), BYTEPOOL_OK);
        for (int i = 0; i < 20; i++) {
            CHECK(!PooledBuffer(*pool, 100).empty());
            bytepool_put(context, bytepool_get(context, 100), 100);
        }
    }

    void take(const bytepool::Pool &from, void *through) {
        pool = &from;
        context = through;
        raw = bytepool_get(through, 100);
        buffer = PooledBuffer(from, 100);
    }
};

thread_local Late before_the_cache;
thread_local Late after_the_cache;
pthread_key_t key;

void end_of_key(void *late) {
    delete static_cast<Late *>(late);
}

void churn(const bytepool::Pool &pool) {
    for (int i = 0; i < 3; i++) {
        std::vector<PooledBuffer> many;
        for (int j = 0; j < 40; j++) {
            many.emplace_back(pool, 100);
        }
    }
}

void threads_that_put_as_they_end() {
    auto pool = bytepool::new_pool({{512, 4096}});
    const Context context(*pool);
    REQUIRE(pthread_key_create(&key, end_of_key) == 0);
    for (std::size_t i = 0; i < check_rounds(200); i++) {
        std::thread([&] {
            before_the_cache.pool = nullptr; // its destructor is registered now
            churn(*pool);
            before_the_cache.take(*pool, context.get());
            after_the_cache.take(*pool, context.get());
            auto *late = new Late;
            late->take(*pool, context.get());
            REQUIRE(pthread_setspecific(key, late) == 0);
        }).join();
        CHECK_EQ(out(*pool), 0);
        CHECK_EQ(pool->class_stats(0).cached, 0);
    }
    CHECK_EQ(pthread_key_delete(key), 0);
}

void short_threads() {
    auto pool = bytepool::new_pool({{512, 4096}});
    auto some = [&](std::size_t count) {
        for (std::size_t i = 0; i < count; i++) {
            std::thread([&] { churn(*pool); }).join();
        }
    };
    some(100);
    const std::size_t before = resident_bytes();
    some(check_rounds(10000));
    CHECK(!check_is_full() || resident_bytes() < before + (1 << 20));
    CHECK_EQ(pool->class_stats(0).cached, 0);
    CHECK_EQ(out(*pool), 0);
}

// ---- the end of the process ----

// Made before main, so destroyed after all else of this program.
struct Last {
    std::optional<rust::Box<bytepool::Pool>> pool;
    void *context = nullptr;
    void *raw = nullptr;
    PooledBuffer buffer;
    std::uint64_t expected = 0;

    ~Last() {
        if (!pool) {
            return;
        }
        CHECK_EQ(out(**pool), expected);
        buffer.reset();
        CHECK_EQ(bytepool_put_checked(context, raw, 100), BYTEPOOL_OK);
        CHECK_EQ(out(**pool), expected - 2);
        bytepool_free(context);
        pool.reset();
        if (check_failures > 0) {
            std::fflush(stdout);
            _exit(1); // the line of checks was printed already
        }
    }
} last;

void *at_exit = nullptr;

void put_at_exit() {
    CHECK_EQ(bytepool_put_checked(last.context, at_exit, 100), BYTEPOOL_OK);
    last.expected--;
}

void buffers_put_at_exit() {
    last.pool = bytepool::new_pool({{512, 4096}});
    last.context = Context(**last.pool).release();
    churn(**last.pool);
    last.raw = bytepool_get(last.context, 100);
    last.buffer = PooledBuffer(**last.pool, 100);
    at_exit = bytepool_get(last.context, 100);
    last.expected = 3;
    REQUIRE(std::atexit(put_at_exit) == 0);
    // The main thread's thread-locals come first, and put two more.
    after_the_cache.take(**last.pool, last.context);
}

} // namespace

int main(int argc, char **argv) {
    check_begin(argc, argv);
    bytepool_set_misuse_handler(ignore, nullptr);
    closing_in_any_order();
    an_explicit_close_needs_no_end_of_handles();
    threads_that_put_as_they_end();
    short_threads();
    buffers_put_at_exit();
    return check_end("lifecycle");
}
