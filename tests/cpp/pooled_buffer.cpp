// PooledBuffer and memory_resource by themselves: ownership, accessors, sizes, failures, std::pmr containers.

#include "expect.hpp"

#include <algorithm>
#include <cstring>
#include <map>
#include <memory_resource>
#include <new>
#include <numeric>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <vector>

namespace {

using bytepool::PooledBuffer;

static_assert(!std::is_copy_constructible_v<PooledBuffer> && !std::is_copy_assignable_v<PooledBuffer>);
static_assert(std::is_nothrow_move_constructible_v<PooledBuffer> && std::is_nothrow_move_assignable_v<PooledBuffer>);
static_assert(std::is_nothrow_destructible_v<PooledBuffer> && std::is_nothrow_default_constructible_v<PooledBuffer>);
static_assert(std::is_nothrow_swappable_v<PooledBuffer>);
static_assert(!std::is_convertible_v<PooledBuffer, bool> && std::is_constructible_v<bool, PooledBuffer>);
static_assert(std::is_final_v<bytepool::memory_resource> && !std::is_copy_constructible_v<bytepool::memory_resource>);

static_assert(noexcept(std::declval<PooledBuffer &>().data()) &&noexcept(std::declval<PooledBuffer &>().size()));
static_assert(noexcept(std::declval<PooledBuffer &>().reset()) &&noexcept(std::declval<PooledBuffer &>().release()));
static_assert(noexcept(PooledBuffer::try_get(std::declval<const bytepool::Pool &>(), 1)));
static_assert(std::is_same_v<decltype(std::declval<const PooledBuffer &>().data()), const std::uint8_t *>);
static_assert(std::is_same_v<decltype(std::declval<const PooledBuffer &>()[0]), const std::uint8_t &>);
static_assert(std::is_same_v<decltype(std::declval<const PooledBuffer &>().begin()), const std::uint8_t *>);

void ignore(const bytepool_misuse *, void *) {}

void check_empty(const PooledBuffer &buffer) {
    CHECK(!buffer && buffer.empty());
    CHECK_PTR(buffer.data(), nullptr);
    CHECK_EQ(buffer.size() + buffer.capacity(), 0);
    CHECK(buffer.begin() == buffer.end());
}

// ---- ownership ----

void moves_leave_nothing_behind() {
    auto pool = bytepool::new_pool({{512, 4}});
    PooledBuffer none;
    check_empty(none);
    PooledBuffer a(*pool, 100);
    std::uint8_t *data = a.data();
    PooledBuffer b(std::move(a));
    check_empty(a); // NOLINT: moved-from is empty
    CHECK_PTR(b.data(), data);
    PooledBuffer c(*pool, 200);
    CHECK_EQ(out(*pool), 2);
    c = std::move(b);
    CHECK_EQ(out(*pool), 1);
    check_empty(b); // NOLINT
    CHECK_PTR(c.data(), data);
    PooledBuffer &self = c;
    c = std::move(self);
    CHECK_PTR(c.data(), data);
    CHECK_EQ(c.size(), 100);
    swap(b, c);
    check_empty(c);
    CHECK_PTR(b.data(), data);
    b.swap(c);
    std::swap(b, c);
    CHECK_PTR(b.data(), data);
    b = PooledBuffer();
    CHECK_EQ(out(*pool), 0);
    check_empty(b);
    b.reset();
    CHECK_PTR(b.release(), nullptr);
    {
        std::vector<PooledBuffer> many;
        for (std::size_t i = 0; i < 20; i++) {
            many.emplace_back(*pool, i * 100);
        }
        CHECK_EQ(out(*pool), 20);
        many.erase(many.begin(), many.begin() + 5);
        CHECK_EQ(out(*pool), 15);
        CHECK_EQ(many.front().size(), 500);
    }
    CHECK_EQ(out(*pool), 0);
}

void an_exception_puts_the_buffer() {
    auto pool = bytepool::new_pool({{512, 4}});
    EXPECT_ERROR(
        std::runtime_error,
        {
            PooledBuffer buffer(*pool, 100);
            throw std::runtime_error("on purpose");
        },
        "on purpose");
    CHECK_EQ(out(*pool), 0);
}

// ---- accessors and sizes ----

void accessors() {
    auto pool = bytepool::new_pool({{512, 4}});
    PooledBuffer buffer(*pool, 100);
    const PooledBuffer &view = buffer;
    CHECK(static_cast<bool>(buffer) && !buffer.empty());
    CHECK_EQ(buffer.size(), 100);
    CHECK_EQ(buffer.capacity(), room_of(100, 512));
    CHECK_EQ(reinterpret_cast<std::uintptr_t>(buffer.data()) % 64, 0);
    std::iota(buffer.begin(), buffer.end(), std::uint8_t{1});
    CHECK_EQ(view[0], 1);
    CHECK_EQ(view[99], 100);
    CHECK_EQ(std::accumulate(view.begin(), view.end(), 0u), 5050);
    CHECK_PTR(view.data(), buffer.data());
    CHECK_PTR(view.end(), buffer.data() + 100);
    std::size_t bytes = 0;
    for (std::uint8_t &byte : buffer) {
        byte = 7;
        bytes++;
    }
    CHECK_EQ(bytes, 100);
    CHECK_BYTES(view.data(), 7, 100);
#ifdef __cpp_lib_span
    static_assert(std::is_same_v<decltype(view.span()), std::span<const std::uint8_t>>);
    const std::span<std::uint8_t> span = buffer.span();
    CHECK_PTR(span.data(), buffer.data());
    CHECK_EQ(span.size(), 100);
    buffer.resize(10);
    CHECK_EQ(view.span().size(), 10);
    CHECK_EQ(PooledBuffer().span().size(), 0);
#endif
    PooledBuffer empty(*pool, 0);
    CHECK(empty.empty() && static_cast<bool>(empty) && empty.data() != nullptr);
    CHECK_EQ(empty.capacity(), room_of(0, 512));
}

#if __cplusplus >= 202002L && !defined(__cpp_lib_span)
#error "C++20 without span(): the program would not check it"
#endif

void resizing() {
    auto pool = bytepool::new_pool({{512, 4}});
    PooledBuffer buffer(*pool, is_watched() ? 512 : 100);
    std::uint8_t *data = buffer.data();
    std::memset(data, 3, 100);
    buffer.resize(512);
    CHECK_EQ(buffer.size(), 512);
    std::memset(data, 4, 512);
    buffer.resize(0);
    CHECK(buffer.empty() && static_cast<bool>(buffer));
    buffer.resize(300);
    CHECK_PTR(buffer.data(), data);
    CHECK_BYTES(data, 4, 300);
    EXPECT_ERROR(std::length_error, buffer.resize(513), "513", "512");
    EXPECT_ERROR(std::length_error, buffer.resize(SIZE_MAX), "18446744073709551615", "512");
    EXPECT_ERROR(std::length_error, PooledBuffer().resize(1), "size of 1 ", "of 0");
    CHECK_EQ(buffer.size(), 300);
    buffer.reset();
    CHECK_EQ(out(*pool), 0);
}

// ---- failures ----

void getting_at_the_limit() {
    bytepool::PoolConfig config;
    config.size_classes = {{4096, 4}};
    config.max_bytes = 8192;
    auto pool = bytepool::new_pool(config);
    PooledBuffer first(*pool, 100);
    auto second = PooledBuffer::try_get(*pool, 4000);
    REQUIRE(second.has_value());
    CHECK_EQ(second->size(), 4000);
    CHECK(!PooledBuffer::try_get(*pool, 1).has_value());
    EXPECT_ERROR(bytepool::get_error, PooledBuffer(*pool, 1).reset(), "4096", "8192", "limit");
    EXPECT_ERROR(bytepool::get_error, PooledBuffer(*pool, 70000).reset(), "70000", "8192", "limit");
    EXPECT_ERROR(bytepool::get_error, PooledBuffer(*pool, SIZE_MAX).reset(), "18446744073709551615");
    CHECK(!PooledBuffer::try_get(*pool, SIZE_MAX).has_value());
    CHECK_EQ(checked_stats(*pool).limit_failures, 3);
    CHECK_EQ(out(*pool), 2);
    EXPECT_ERROR(rust::Error, (void)pool->class_stats(1), "class 1", "has 1");
    second.reset();
    CHECK(PooledBuffer::try_get(*pool, 1).has_value());
}

// Where a failure has no text, the thread's last error says what it was; where it has one, too.
void every_failure_sets_the_last_error() {
    bytepool::PoolConfig config;
    config.size_classes = {{4096, 4}};
    config.max_bytes = 8192;
    auto pool = bytepool::new_pool(config);
    bytepool::memory_resource resource(*pool);
    void *data[3];
    const auto forget = [] {
        (void)bytepool_get(nullptr, 1);
        REQUIRE(bytepool_last_error() == BYTEPOOL_ERR_INVALID_CONTEXT);
    };
    const auto told = [&](bytepool_status expected) {
        const bool as_expected = bytepool_last_error() == expected;
        forget();
        return as_expected;
    };
    forget();
    CHECK(!PooledBuffer::try_get(*pool, 10000).has_value());
    CHECK(told(BYTEPOOL_ERR_LIMIT));
    EXPECT_ERROR(bytepool::get_error, PooledBuffer(*pool, 10000).reset(), "limit");
    CHECK(told(BYTEPOOL_ERR_LIMIT));
    EXPECT_ERROR(bytepool::get_error, (void)PooledBuffer::get_timeout(*pool, 10000, std::chrono::hours(1)), "limit");
    CHECK(told(BYTEPOOL_ERR_LIMIT));
    for (const std::size_t alignment : {std::size_t{8}, std::size_t{8192}}) {
        bool thrown = false;
        try {
            (void)resource.allocate(10000, alignment);
        } catch (const std::bad_alloc &) {
            thrown = true;
        }
        CHECK(thrown);
        CHECK(told(BYTEPOOL_ERR_LIMIT));
    }
    const auto context = bytepool::Context(*pool);
    CHECK_EQ(bytepool_get_many(context.get(), 4096, data, 3), BYTEPOOL_ERR_LIMIT);
    CHECK(told(BYTEPOOL_ERR_LIMIT));
    CHECK_EQ(out(*pool), 0);
}

// More than the class keeps, again and again: slots like all others, never from the system allocator.
void overflow_is_like_any_buffer() {
    auto pool = bytepool::new_pool({{512, 4}});
    for (int round = 0; round < 3; round++) {
        std::vector<PooledBuffer> many;
        for (std::size_t i = 0; i < 200; i++) {
            many.emplace_back(*pool, 512);
            const std::uint8_t was = many[i][0];
            CHECK(std::all_of(many[i].begin(), many[i].end(), [&](std::uint8_t byte) { return byte == was; }));
            CHECK(round > 0 || was == 0);
            std::memset(many[i].data(), static_cast<int>(i), 512);
        }
        const bytepool::ClassStats now = pool->class_stats(0);
        CHECK_EQ(now.overflow, 196);
        CHECK_EQ(now.system_overflow, 0);
        CHECK_EQ(now.peak, 200);
        CHECK(pool->stats().bookkeeping_bytes >= 200 * 8);
        for (std::size_t i = 0; i < 200; i++) {
            CHECK(std::all_of(many[i].begin(), many[i].end(), [&](std::uint8_t byte) { return byte == i; }));
        }
        std::uint8_t *raw = many[199].release();
        PooledBuffer again = PooledBuffer::adopt(*pool, raw, 512);
        CHECK_PTR(again.data(), raw);
        many.clear();
        CHECK_EQ(out(*pool), 1);
    }
    CHECK_EQ(out(*pool), 0);
    CHECK_EQ(pool->stats().system_allocations, 0);
    CHECK_EQ(pool->class_stats(0).system_overflow, 0);
}

void adopting_what_is_no_buffer() {
    auto pool = bytepool::new_pool({{512, 4}, {4096, 4}});
    auto other = bytepool::new_pool({{512, 4}});
    PooledBuffer owned(*pool, 100);
    PooledBuffer others(*other, 100);
    std::uint8_t *raw = PooledBuffer(*pool, 100).release();
    std::uint8_t *idle = PooledBuffer(*pool, 3000).release();
    CHECK_EQ(out(*pool), 3);
    PooledBuffer::adopt(*pool, idle, 3000).reset();
    const auto before = checked_stats(*pool);
    char foreign[1];

    EXPECT_ERROR(rust::Error, (void)PooledBuffer::adopt(*pool, nullptr, 100), "NULL");
    EXPECT_ERROR(rust::Error, (void)PooledBuffer::adopt(*pool, foreign, 100), "0x", "not the start of a buffer");
    EXPECT_ERROR(rust::Error, (void)PooledBuffer::adopt(*pool, raw + 1, 100), "not the start of a buffer");
    EXPECT_ERROR(rust::Error, (void)PooledBuffer::adopt(*pool, others.data(), 100), "not the start of a buffer");
    EXPECT_ERROR(rust::Error, (void)PooledBuffer::adopt(*pool, owned.data(), 100), "512 bytes",
                 "owned by a PooledBuffer");
    EXPECT_ERROR(rust::Error, (void)PooledBuffer::adopt(*pool, idle, 3000), "4096 bytes", "put twice");
    EXPECT_ERROR(rust::Error, (void)PooledBuffer::adopt(*pool, raw, 600), "512 bytes", "100 bytes", "not 600");
    const auto refused = [&](void *data, std::size_t size, bytepool_status expected) {
        bytepool_status why = -1;
        CHECK(!PooledBuffer::try_adopt(*pool, data, size, why).has_value());
        CHECK_EQ(why, expected);
        CHECK_EQ(bytepool_last_error(), expected);
    };
    refused(nullptr, 100, BYTEPOOL_ERR_INVALID_ARGUMENT);
    refused(raw + 1, 100, BYTEPOOL_ERR_FOREIGN_POINTER);
    refused(owned.data(), 100, BYTEPOOL_ERR_DOUBLE_PUT);
    refused(raw, 600, BYTEPOOL_ERR_SIZE_MISMATCH);

    // Refused and counted, and nothing else changed: all are still whose they were.
    const auto after = checked_stats(*pool);
    CHECK_EQ(after.foreign_pointers, before.foreign_pointers + 4);
    CHECK_EQ(after.double_puts, before.double_puts + 3);
    CHECK_EQ(after.size_mismatches, before.size_mismatches + 2);
    CHECK_EQ(after.gets - after.puts, 2);
    bytepool_status why = -1;
    auto tried = PooledBuffer::try_adopt(*pool, raw, 512, why); // another size of its class
    REQUIRE(tried.has_value());
    CHECK_EQ(why, BYTEPOOL_OK);
    CHECK_EQ(bytepool_last_error(), BYTEPOOL_ERR_SIZE_MISMATCH); // of the refusal before
    raw = tried->release();
    PooledBuffer adopted = PooledBuffer::adopt(*pool, raw, 512);
    CHECK_EQ(adopted.size(), room_of(100, 512));
    EXPECT_ERROR(rust::Error, (void)PooledBuffer::adopt(*pool, raw, 512), "owned by a PooledBuffer");
    adopted.reset();
    owned.reset();
    CHECK_EQ(out(*pool), 0);
    CHECK_EQ(out(*other), 1);
}

// ---- memory_resource ----

void containers_live_in_the_pool() {
    auto pool = bytepool::new_pool({{64, 1000}, {512, 100}, {4096, 10}});
    bytepool::memory_resource resource(*pool);
    {
        std::pmr::vector<std::uint64_t> numbers(&resource);
        std::pmr::map<int, std::pmr::string> names(&resource);
        std::pmr::string text("a text that is longer than any small-string buffer", &resource);
        for (int i = 0; i < 500; i++) {
            numbers.push_back(static_cast<std::uint64_t>(i) * 3);
            names[i] = std::pmr::string(static_cast<std::size_t>(i), 'x');
        }
        CHECK_EQ(numbers.size(), 500);
        CHECK_EQ(std::accumulate(numbers.begin(), numbers.end(), std::uint64_t{0}), 499 * 500 / 2 * 3);
        CHECK_EQ(names.at(499).size(), 499);
        CHECK(out(*pool) > 900);
        CHECK(checked_stats(*pool).oversize_buffers == 0);
        text += text;
        names.erase(names.begin(), names.find(250));
        numbers.resize(10000);
        CHECK_EQ(checked_stats(*pool).oversize_buffers, 1);
    }
    CHECK_EQ(out(*pool), 0);
    CHECK_EQ(checked_stats(*pool).size_mismatches + checked_stats(*pool).foreign_pointers, 0);
}

void alignments_and_sizes() {
    auto pool = bytepool::new_pool({{64, 4}, {4096, 4}});
    bytepool::memory_resource resource(*pool);
    for (std::size_t alignment = 1; alignment <= 4096; alignment *= 2) {
        for (const std::size_t size : {std::size_t{0}, std::size_t{1}, std::size_t{64}, std::size_t{5000}}) {
            void *data = resource.allocate(size, alignment);
            REQUIRE(data != nullptr);
            CHECK_EQ(reinterpret_cast<std::uintptr_t>(data) % alignment, 0);
            std::memset(data, 1, size);
            CHECK_EQ(checked_stats(*pool).oversize_buffers, size > 4096 ? 1 : 0);
            resource.deallocate(data, size, alignment);
            CHECK_EQ(out(*pool), 0);
        }
    }
    bool thrown = false;
    try {
        (void)resource.allocate(SIZE_MAX / 2, 8);
    } catch (const std::bad_alloc &) {
        thrown = true;
    }
    CHECK(thrown);
    CHECK_EQ(out(*pool), 0);
}

void owners_are_aligned() {
    auto pool = bytepool::new_pool({{512, 4}, {4096, 4}});
    for (std::size_t alignment = 64; alignment <= 4096; alignment *= 2) {
        const PooledBuffer buffer = PooledBuffer::aligned(*pool, alignment, 100);
        CHECK_EQ(reinterpret_cast<std::uintptr_t>(buffer.data()) % alignment, 0);
        CHECK_EQ(buffer.size(), 100);
        CHECK_EQ(buffer.capacity(), room_of(100, alignment > 512 ? 4096 : 512));
    }
    EXPECT_ERROR(bytepool::get_error, (void)PooledBuffer::aligned(*pool, 48, 100), "48");
    CHECK_EQ(checked_stats(*pool).system_allocations, 0);
    CHECK_EQ(out(*pool), 0);
}

void pinned_regions_hold_the_slots() {
    bytepool::PoolConfig config;
    config.size_classes = {{4096, 4}, {65536, 2}};
    config.pinned = true;
    auto pool = bytepool::new_pool(config);
    const auto regions = bytepool::pinned_regions(*pool);
    REQUIRE(regions.size() == 2);
    CHECK_EQ(regions[0].length, 4 * 4096);
    CHECK_EQ(regions[1].length, 2 * 65536);
    CHECK_EQ(checked_stats(*pool).mapped_bytes, regions[0].length + regions[1].length);
    const PooledBuffer buffer(*pool, 4096);
    const auto offset =
        reinterpret_cast<std::uintptr_t>(buffer.data()) - reinterpret_cast<std::uintptr_t>(regions[0].start);
    CHECK(is_watched() || (offset < regions[0].length && offset % regions[0].slot_size == 0));
    CHECK(bytepool::pinned_regions(*bytepool::new_pool({{4096, 4}})).empty());
}

void resources_of_one_pool_are_equal() {
    auto pool = bytepool::new_pool({{512, 4}});
    auto clone = pool->clone();
    auto other = bytepool::new_pool({{512, 4}});
    bytepool::memory_resource a(*pool);
    bytepool::memory_resource b(*clone);
    bytepool::memory_resource c(*other);
    CHECK(a == a && a == b && b.is_equal(a));
    CHECK(a != c && !c.is_equal(b));
    CHECK(a != *std::pmr::new_delete_resource() && *std::pmr::new_delete_resource() != a);
    // So what one allocated the other may deallocate.
    void *data = a.allocate(100);
    b.deallocate(data, 100);
    CHECK_EQ(out(*pool), 0);
}

void a_resource_is_a_handle() {
    auto pool = bytepool::new_pool({{512, 4}});
    auto watch = pool->clone();
    bytepool::memory_resource resource(*pool);
    { auto dropped = std::move(pool); }
    CHECK(!watch->is_closed());
    void *data = resource.allocate(100);
    watch->close();
    bool thrown = false;
    try {
        (void)resource.allocate(100);
    } catch (const std::bad_alloc &) {
        thrown = true;
    }
    CHECK(thrown);
    resource.deallocate(data, 100);
    CHECK_EQ(checked_stats(*watch).mapped_bytes, 0);
}

// A wrong deallocate is misuse as any: refused and counted.
void wrong_deallocations() {
    auto pool = bytepool::new_pool({{64, 4}, {512, 4}});
    bytepool::memory_resource resource(*pool);
    void *data = resource.allocate(50);
    resource.deallocate(data, 200);
    CHECK_EQ(checked_stats(*pool).size_mismatches, 1);
    CHECK_EQ(out(*pool), 1);
    resource.deallocate(data, 50);
    resource.deallocate(data, 50);
    resource.deallocate(&pool, 50);
    CHECK_EQ(checked_stats(*pool).double_puts, 1);
    CHECK_EQ(checked_stats(*pool).foreign_pointers, 1);
    CHECK_EQ(out(*pool), 0);
}

} // namespace

int main(int argc, char **argv) {
    check_begin(argc, argv);
    bytepool_set_misuse_handler(ignore, nullptr);
    moves_leave_nothing_behind();
    an_exception_puts_the_buffer();
    accessors();
    resizing();
    getting_at_the_limit();
    every_failure_sets_the_last_error();
    overflow_is_like_any_buffer();
    adopting_what_is_no_buffer();
    containers_live_in_the_pool();
    alignments_and_sizes();
    owners_are_aligned();
    pinned_regions_hold_the_slots();
    resources_of_one_pool_are_equal();
    a_resource_is_a_handle();
    wrong_deallocations();
    return check_end("pooled_buffer");
}
