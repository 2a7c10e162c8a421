// PooledBuffer::get_timeout: what waits, what wakes it, and what comes of it.

#include "expect.hpp"

#include <atomic>
#include <chrono>
#include <cstring>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include <unistd.h>

namespace {

using bytepool::PooledBuffer;
using namespace std::chrono_literals;
using std::chrono::nanoseconds;

// The system's.
const auto page = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));

rust::Box<bytepool::Pool> limited_pool(std::size_t max_bytes) {
    bytepool::PoolConfig config;
    config.size_classes = {{page, 8}, {2 * page, 4}};
    config.max_bytes = max_bytes;
    return bytepool::new_pool(config);
}

// Runs `body`, which waits once, on a thread of its own; returns when it waits.
template <typename Body>
std::thread start_to_wait(const bytepool::Pool &pool, Body body) {
    const std::uint64_t waits = pool.stats().waits;
    std::thread thread(body);
    while (pool.stats().waits == waits) {
        std::this_thread::yield();
    }
    return thread;
}

void without_waiting() {
    auto pool = limited_pool(2 * page);
    {
        auto buffer = PooledBuffer::get_timeout(*pool, 100, nanoseconds::max());
        CHECK(buffer.has_value() && buffer->size() == 100);
        CHECK_EQ(buffer->capacity(), room_of(100, page));
        auto other = PooledBuffer::get_timeout(*pool, page, 0ns);
        CHECK(other.has_value());
        CHECK(!PooledBuffer::get_timeout(*pool, 1, 0ns).has_value());
        CHECK(!PooledBuffer::get_timeout(*pool, 1, -5s).has_value());
        CHECK(!PooledBuffer::get_timeout(*pool, 1, nanoseconds::min()).has_value());
        const std::size_t most = 2 * page;
        const std::string more = std::to_string(most + 1) + " more bytes";
        const std::string limit = "limit of " + std::to_string(most) + " bytes";
        EXPECT_ERROR(bytepool::get_error, (void)PooledBuffer::get_timeout(*pool, most + 1, nanoseconds::max()),
                     more.c_str(), limit.c_str());
        EXPECT_ERROR(bytepool::get_error, (void)PooledBuffer::get_timeout(*pool, most + 1, 0ns), more.c_str());
    }
    CHECK_EQ(checked_stats(*pool).waits, 0);
    CHECK_EQ(checked_stats(*pool).limit_failures, 5);
    CHECK_EQ(out(*pool), 0);
    pool->close();
    EXPECT_ERROR(bytepool::get_error, (void)PooledBuffer::get_timeout(*pool, 1, nanoseconds::max()), "closed");
}

// A pinned pool keeps its slots, so what they leave no room for can never fit, though it is below the limit.
void what_pinned_slots_leave_no_room_for_fails_at_once() {
    bytepool::PoolConfig config;
    config.size_classes = {{page, 4}};
    config.pinned = true;
    config.max_bytes = 6 * page;
    auto pool = bytepool::new_pool(config);
    const nanoseconds timeouts[] = {nanoseconds::max(), 1ns, 0ns};
    for (const nanoseconds timeout : timeouts) {
        bytepool_status why = BYTEPOOL_OK;
        CHECK(!PooledBuffer::try_get_timeout(*pool, 2 * page + 1, timeout, why).has_value());
        CHECK_EQ(why, BYTEPOOL_ERR_LIMIT);
        EXPECT_ERROR(bytepool::get_error, (void)PooledBuffer::get_timeout(*pool, 2 * page + 1, timeout), "pinned");
    }
    // What fits when others are back has a timeout.
    auto rest = PooledBuffer::get_timeout(*pool, 2 * page, 0ns);
    CHECK(rest.has_value());
    bytepool_status why = BYTEPOOL_OK;
    CHECK(!PooledBuffer::try_get_timeout(*pool, 2 * page, 0ns, why).has_value());
    CHECK_EQ(why, BYTEPOOL_ERR_TIMEOUT);
    CHECK_EQ(checked_stats(*pool).waits, 0);
    CHECK_EQ(checked_stats(*pool).limit_failures, 7);
}

void the_deadline_passes() {
    auto pool = limited_pool(page);
    const PooledBuffer held(*pool, page);
    const auto start = std::chrono::steady_clock::now();
    CHECK(!PooledBuffer::get_timeout(*pool, page, 20ms).has_value());
    CHECK(std::chrono::steady_clock::now() - start >= 20ms);
    CHECK_EQ(pool->stats().waits, 1);
    // So soon a deadline may have passed before there is anything to wait for.
    CHECK(!PooledBuffer::get_timeout(*pool, page, 1ns).has_value());
    CHECK_EQ(pool->stats().limit_failures, 2);
}

// The destructor, reset, an assignment, a resource's container, and C with what was released.
void every_put_wakes() {
    for (int way = 0; way < 5; way++) {
        auto pool = limited_pool(2 * page);
        bytepool::Context context(*pool);
        bytepool::memory_resource resource(*pool);
        const PooledBuffer held(*pool, page);
        std::optional<PooledBuffer> buffer;
        std::optional<std::pmr::vector<char>> container;
        if (way == 3) {
            container.emplace(page, 'x', &resource);
        } else {
            buffer.emplace(*pool, page);
        }
        std::optional<PooledBuffer> got;
        std::thread waiter =
            start_to_wait(*pool, [&] { got = PooledBuffer::get_timeout(*pool, page, nanoseconds::max()); });
        switch (way) {
        case 0:
            std::thread([&] { const PooledBuffer last(std::move(*buffer)); }).join();
            break;
        case 1:
            buffer->reset();
            break;
        case 2:
            *buffer = PooledBuffer();
            break;
        case 3:
            container.reset();
            break;
        default:
            bytepool_put(context.get(), buffer->release(), page);
            break;
        }
        waiter.join();
        CHECK(got.has_value() && got->size() == page);
        CHECK_EQ(pool->stats().waits, 1);
        CHECK_EQ(pool->stats().limit_failures, 0);
    }
}

void closing_wakes() {
    auto pool = limited_pool(page);
    PooledBuffer held(*pool, page);
    std::string text;
    std::thread waiter = start_to_wait(*pool, [&] {
        try {
            (void)PooledBuffer::get_timeout(*pool, page, nanoseconds::max());
        } catch (const bytepool::get_error &error) {
            text = error.what();
        }
    });
    pool->close();
    waiter.join();
    CHECK(text.find("closed") != std::string::npos);
}

void many_threads() {
    auto pool = limited_pool(3 * page);
    std::atomic<std::size_t> missed{0};
    std::vector<std::thread> threads;
    for (unsigned char thread = 1; thread <= 8; thread++) {
        threads.emplace_back([&, thread] {
            for (std::size_t i = 0; i < check_rounds(3000); i++) {
                const nanoseconds timeout = thread % 2 == 0 ? nanoseconds::max() : nanoseconds(i * 37 % 40000);
                auto buffer = PooledBuffer::get_timeout(*pool, page, timeout);
                if (buffer.has_value()) {
                    std::memset(buffer->data(), thread, page);
                    std::this_thread::yield();
                    CHECK_BYTES(buffer->data(), thread, page);
                } else {
                    CHECK(thread % 2 != 0);
                    missed++;
                }
            }
        });
    }
    for (std::thread &thread : threads) {
        thread.join();
    }
    const bytepool::Stats stats = checked_stats(*pool);
    CHECK_EQ(stats.gets + missed, 8 * check_rounds(3000));
    CHECK_EQ(stats.limit_failures, missed);
    CHECK(stats.waits > 0);
    CHECK_EQ(out(*pool), 0);
    const PooledBuffer all(*pool, 3 * page);
}

} // namespace

int main(int argc, char **argv) {
    check_begin(argc, argv);
    without_waiting();
    what_pinned_slots_leave_no_room_for_fails_at_once();
    the_deadline_passes();
    every_put_wakes();
    closing_wakes();
    many_threads();
    return check_end("waiting");
}
