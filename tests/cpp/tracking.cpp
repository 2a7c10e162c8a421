// Tracked buffers, as C++ is told of them: a PooledBuffer knows where its constructor was called.

#include "expect.hpp"

#include <algorithm>
#include <cstdlib>
#include <memory_resource>
#include <new>
#include <thread>
#include <vector>

#ifdef __GLIBC__
#include <malloc.h>
#endif
#include <sys/resource.h>

namespace {

rust::Box<bytepool::Pool> tracking_pool(std::uint32_t every) {
    bytepool::PoolConfig config;
    config.size_classes = {{512, 2}, {4096, 64}};
    config.track_every = every;
    return bytepool::new_pool(config);
}

void check_told(const bytepool::Outstanding &told, const void *data, std::size_t size, unsigned line) {
    CHECK_PTR(told.data, data);
    CHECK_EQ(told.size, size);
    CHECK_EQ(told.language, BYTEPOOL_LANGUAGE_CPP);
    CHECK_EQ(told.line, line);
    if (line > 0) {
        CHECK_TEXT(told.file, __FILE__);
    } else {
        CHECK_PTR(told.file, nullptr);
    }
}

void a_constructor_and_try_get_tell_their_caller() {
    const auto pool = tracking_pool(1);
    {
        bytepool::PooledBuffer buffer(*pool, 100);
        const unsigned line = __LINE__ - 1;
        const auto tried = bytepool::PooledBuffer::try_get(*pool, 9000);
        const unsigned try_line = __LINE__ - 1;
        CHECK(tried.has_value());
        const auto all = bytepool::dump_outstanding(*pool);
        CHECK_EQ(all.size(), 2);
        check_told(all.at(0), buffer.data(), 100, line);
        check_told(all.at(1), tried->data(), 9000, try_line);
        const auto waited = bytepool::PooledBuffer::get_timeout(*pool, 5, std::chrono::seconds(1));
        check_told(bytepool::dump_outstanding(*pool).at(2), waited->data(), 5, __LINE__ - 1);
        // It stays what it was when it changes hands.
        std::uint8_t *raw = buffer.release();
        buffer = bytepool::PooledBuffer::adopt(*pool, raw, 100);
        check_told(bytepool::dump_outstanding(*pool).at(0), raw, 100, line);
    }
    CHECK_EQ(bytepool::dump_outstanding(*pool).size(), 0);
}

bytepool::PooledBuffer made_for(const bytepool::Pool &pool,
                                bytepool::source_location where = bytepool::source_location::current()) {
    return bytepool::PooledBuffer(pool, 10, where);
}

void a_place_can_be_passed_on() {
    const auto pool = tracking_pool(1);
    const auto buffer = made_for(*pool);
    check_told(bytepool::dump_outstanding(*pool).at(0), buffer.data(), 10, __LINE__ - 1);
}

void a_memory_resource_is_tracked_without_a_place() {
    const auto pool = tracking_pool(1);
    bytepool::memory_resource resource(*pool);
    for (const std::size_t alignment : {std::size_t{8}, std::size_t{8192}}) {
        void *data = resource.allocate(1000, alignment);
        check_told(bytepool::dump_outstanding(*pool).at(0), data, 1000, 0);
        resource.deallocate(data, 1000, alignment);
    }
    CHECK_EQ(bytepool::dump_outstanding(*pool).size(), 0);
}

void samples_threads_and_pools_that_do_not_track() {
    const auto pool = tracking_pool(4);
    std::vector<bytepool::PooledBuffer> buffers;
    std::thread([&] {
        for (int i = 0; i < 40; i++) {
            buffers.emplace_back(*pool, 1000);
        }
    }).join();
    CHECK_EQ(bytepool::dump_outstanding(*pool).size(), 10);
    const auto own = tracking_pool(1);
    const bytepool::PooledBuffer buffer(*own, 1);
    CHECK(bytepool::dump_outstanding(*own).at(0).thread != bytepool::dump_outstanding(*pool).at(0).thread);
    const auto plain = tracking_pool(0);
    const bytepool::PooledBuffer untold(*plain, 1);
    CHECK_EQ(bytepool::dump_outstanding(*plain).size(), 0);
}

void a_guarded_buffer_has_room_for_what_was_asked_for() {
    bytepool::PoolConfig config;
    config.size_classes = {{512, 2}};
    config.guard_every = 2;
    const auto pool = bytepool::new_pool(config);
    for (int i = 0; i < 4; i++) {
        bytepool::PooledBuffer buffer(*pool, 100);
        CHECK_EQ(buffer.capacity(), i % 2 == 0 ? 100 : room_of(100, 512));
        std::fill(buffer.begin(), buffer.end(), std::uint8_t{1});
    }
}

// Without memory for the list it throws: an empty one would say that nothing is outstanding.
void without_memory_it_throws() {
#ifdef __GLIBC__
    if (is_watched()) {
        std::printf("skipped: a checker of memory does without a limit on addresses\n");
        return;
    }
    // A large allocation is a mapping, so no free block of the heap serves it.
    REQUIRE(mallopt(M_MMAP_THRESHOLD, 1 << 16) == 1);
    const auto pool = tracking_pool(1);
    std::vector<bytepool::PooledBuffer> buffers;
    for (int i = 0; i < 4000; i++) {
        buffers.emplace_back(*pool, 100);
    }
    CHECK_EQ(bytepool::dump_outstanding(*pool).size(), 4000);
    rlimit old{};
    REQUIRE(getrlimit(RLIMIT_AS, &old) == 0);
    rlimit none = old;
    none.rlim_cur = 1 << 20;
    REQUIRE(setrlimit(RLIMIT_AS, &none) == 0);
    void *volatile probe = std::malloc(1 << 20);
    const bool is_limited = probe == nullptr;
    std::free(probe);
    bool is_thrown = false;
    try {
        (void)bytepool::dump_outstanding(*pool);
    } catch (const std::bad_alloc &) {
        is_thrown = true;
    }
    REQUIRE(setrlimit(RLIMIT_AS, &old) == 0);
    if (is_limited) {
        CHECK(is_thrown);
    } else {
        std::printf("skipped: here the limit on addresses does not hold\n");
    }
    CHECK_EQ(bytepool::dump_outstanding(*pool).size(), 4000);
#else
    std::printf("skipped: the allocations to fail are glibc's\n");
#endif
}

} // namespace

int main(int argc, char **argv) {
    check_begin(argc, argv);
    without_memory_it_throws(); // while there is one arena: those of threads have addresses in reserve
    a_constructor_and_try_get_tell_their_caller();
    a_place_can_be_passed_on();
    a_memory_resource_is_tracked_without_a_place();
    samples_threads_and_pools_that_do_not_track();
    a_guarded_buffer_has_room_for_what_was_asked_for();
    return check_end("tracking");
}
