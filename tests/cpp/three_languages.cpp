// The main job: a Rust pool made from C++, its buffers filled in C++, worked on in C through the context, put
// on other threads.

#include "../c/c_side.h"
#include "expect.hpp"

#include <array>
#include <cstring>
#include <thread>
#include <vector>

#include <unistd.h>

namespace {

using bytepool::Context;
using bytepool::PooledBuffer;

std::uint64_t misuses = 0;
bytepool_misuse last_misuse = {};

void remember(const bytepool_misuse *misuse, void *) {
    misuses++;
    last_misuse = *misuse;
}

// ---- every way to make a pool ----

std::size_t round_up(std::size_t size) {
    return (size + 99) / 100 * 100;
}

void pools_of_every_form() {
    auto one_class = bytepool::new_pool({{512, 4}});
    CHECK_EQ(one_class->stats().size_class_count, 1);
    CHECK_EQ(one_class->class_stats(0).buffer_size, 512);
    CHECK_EQ(one_class->class_stats(0).capacity, 4);
    CHECK_EQ(one_class->alignment(), 64);

    const std::vector<bytepool::SizeClass> classes = {{4096, 2}, {512, 4}};
    auto from_slice = bytepool::new_pool(rust::Slice<const bytepool::SizeClass>(classes.data(), classes.size()));
    CHECK_EQ(from_slice->class_stats(0).buffer_size, 512);
    CHECK_EQ(from_slice->class_stats(1).buffer_size, 4096);

    bytepool::PoolConfig config;
    config.size_classes = classes;
    config.alignment = 256;
    config.max_bytes = 16384;
    config.round = round_up;
    config.zero_on_get = true;
    config.zero_on_put = true;
    config.thread_cache = false;
    config.huge_pages = true;
    auto from_config = bytepool::new_pool(config);
    CHECK_EQ(from_config->alignment(), 256);
    CHECK_EQ(from_config->stats().max_bytes, 16384);
    CHECK_EQ(from_config->class_stats(0).buffer_size, 600);
    CHECK_EQ(from_config->class_stats(0).slot_size, 768);
    {
        PooledBuffer buffer(*from_config, 600);
        std::memset(buffer.data(), 1, 600);
    }
    PooledBuffer again(*from_config, 600);
    CHECK_BYTES(again.data(), 0, 600);

    auto without_classes = bytepool::new_pool(bytepool::PoolConfig{});
    PooledBuffer oversize(*without_classes, 10);
    CHECK_EQ(without_classes->stats().oversize_buffers, 1);
}

void wrong_configs() {
    bytepool::PoolConfig config;
    EXPECT_ERROR(rust::Error, (void)bytepool::new_pool({{512, 4}, {0, 4}}), "size class 1", "0 bytes", "least is 1");
    EXPECT_ERROR(rust::Error, (void)bytepool::new_pool({{512, 0}}), "512 bytes", "0 buffers");
    EXPECT_ERROR(rust::Error, (void)bytepool::new_pool({{512, 4}, {512, 5}}), "512 bytes", "must differ");
    config.alignment = 48;
    EXPECT_ERROR(rust::Error, (void)bytepool::new_pool(config), "48 bytes", "power of two", "2097152");
    config.alignment = 0;
    config.size_classes.resize(65, {512, 4});
    EXPECT_ERROR(rust::Error, (void)bytepool::new_pool(config), "65 size classes", "limit of 64");
    config.size_classes = {{std::size_t{1} << 40, 1}};
    EXPECT_ERROR(rust::Error, (void)bytepool::new_pool(config), "1099511627776 bytes", "limit of 4294967293");
}

// ---- C++ to C and back ----

void a_buffer_goes_through_three_languages() {
    auto pool = bytepool::new_pool({{512, 4}, {4096, 4}});
    const Context context(*pool);
    for (const std::size_t size : {std::size_t{1}, std::size_t{100}, std::size_t{4096}, std::size_t{5000}}) {
        PooledBuffer buffer(*pool, size);
        for (std::size_t i = 0; i < size; i++) {
            buffer[i] = static_cast<std::uint8_t>(i * 7);
        }
        unsigned char *inverted = c_side_invert(context.get(), buffer.data(), buffer.size());
        REQUIRE(inverted != nullptr);
        std::thread([&pool, &buffer, inverted, size]() {
            PooledBuffer adopted = PooledBuffer::adopt(*pool, inverted, size);
            bool right = adopted.size() == size && adopted.data() == inverted;
            for (std::size_t i = 0; i < size; i++) {
                right = right && adopted[i] == static_cast<std::uint8_t>(~buffer[i]);
            }
            CHECK(right);
            const PooledBuffer put_here = std::move(buffer);
            CHECK_EQ(out(*pool), 2);
        }).join();
        CHECK(!buffer);
        CHECK_EQ(out(*pool), 0);
    }
    CHECK_EQ(misuses, 0);
}

// What C got is put by C++, and what C++ got and released is put by C.
void raw_pointers_go_both_ways() {
    auto pool = bytepool::new_pool({{512, 4}});
    const Context context(*pool);
    for (const std::size_t size : {std::size_t{0}, std::size_t{100}, std::size_t{512}, std::size_t{900}}) {
        unsigned char *raw = c_side_get(context.get(), size, 0x5A);
        PooledBuffer buffer = PooledBuffer::adopt(*pool, raw, size);
        CHECK_PTR(buffer.data(), raw);
        CHECK_EQ(buffer.size(), size);
        CHECK_EQ(buffer.capacity(), room_of(size, size > 512 ? size : 512));
        CHECK_BYTES(buffer.data(), 0x5A, size);
        buffer.resize(size / 2);
        unsigned char *released = buffer.release();
        CHECK_PTR(released, raw);
        CHECK(!buffer && buffer.data() == nullptr && buffer.size() == 0 && buffer.capacity() == 0);
        CHECK_EQ(out(*pool), 1);
        bytepool_status status = BYTEPOOL_ERR_PANIC;
        std::thread([&]() { status = c_side_put(context.get(), released, size / 2); }).join();
        CHECK_EQ(status, BYTEPOOL_OK);
        CHECK_EQ(out(*pool), 0);
    }
    CHECK_EQ(misuses, 0);
}

// While a PooledBuffer owns it, C can neither put nor reallocate it, whatever size it names.
void c_cannot_put_what_cpp_owns() {
    auto pool = bytepool::new_pool({{512, 1}});
    const Context context(*pool);
    misuses = 0;
    PooledBuffer buffers[] = {PooledBuffer(*pool, 100), PooledBuffer(*pool, 100), PooledBuffer(*pool, 9000)};
    for (PooledBuffer &buffer : buffers) { // a slot, overflow, oversize
        std::memset(buffer.data(), 0x77, buffer.size());
        for (const std::size_t size : {buffer.size(), std::size_t{0}, std::size_t{512}, SIZE_MAX}) {
            const std::uint64_t before = misuses;
            bytepool::Stats expected = checked_stats(*pool);
            CHECK_EQ(c_side_put(context.get(), buffer.data(), size), BYTEPOOL_ERR_DOUBLE_PUT);
            CHECK_PTR(bytepool_realloc(context.get(), buffer.data(), size), nullptr);
            CHECK_EQ(bytepool_last_error(), BYTEPOOL_ERR_DOUBLE_PUT);
            bytepool_put_unsized(context.get(), buffer.data());
            CHECK_EQ(misuses, before + 3);
            CHECK_EQ(last_misuse.kind, BYTEPOOL_ERR_DOUBLE_PUT);
            CHECK_PTR(last_misuse.context, context.get());
            CHECK_PTR(last_misuse.data, buffer.data());
            CHECK_EQ(last_misuse.buffer_size, buffer.size() > 512 ? buffer.size() : 512);
            expected.double_puts += 3;
            const bytepool::Stats now = checked_stats(*pool);
            CHECK(std::memcmp(&now, &expected, sizeof now) == 0);
        }
        CHECK_EQ(bytepool_usable_size(context.get(), buffer.data()), buffer.capacity());
        CHECK_BYTES(buffer.data(), 0x77, buffer.size());
    }
    for (PooledBuffer &buffer : buffers) {
        buffer.reset();
        buffer.reset();
    }
    CHECK_EQ(out(*pool), 0);
    misuses = 0;
}

// C and C++ share a thread's idle slots, dirty as they are.
void c_callocs_what_cpp_put() {
    auto pool = bytepool::new_pool({{512, 200}});
    const Context context(*pool);
    for (int round = 0; round < 3; round++) {
        {
            PooledBuffer buffers[] = {PooledBuffer(*pool, 100), PooledBuffer(*pool, 200)};
            for (PooledBuffer &buffer : buffers) {
                std::memset(buffer.data(), 0xDD, buffer.capacity());
            }
        }
        void *zeros[] = {bytepool_calloc(context.get(), 1, 512), bytepool_calloc(context.get(), 2, 256)};
        for (void *data : zeros) {
            REQUIRE(data != nullptr);
            CHECK_BYTES(data, 0, 512);
            CHECK_EQ(c_side_put(context.get(), data, 512), BYTEPOOL_OK);
        }
        const PooledBuffer again(*pool, 300);
        CHECK_EQ(again.capacity(), room_of(300, 512));
    }
    CHECK_EQ(out(*pool), 0);
}

// ---- lives ----

void a_buffer_outlives_its_pool() {
    auto pool = bytepool::new_pool({{512, 4}});
    Context context(*pool);
    void *stale = context.get();
    PooledBuffer slot(*pool, 100);
    PooledBuffer oversize(*pool, 70000);
    {
        auto clone = pool->clone();
        auto dropped = std::move(pool);
        CHECK(!clone->is_closed());
    }
    CHECK_EQ(c_side_put(context.get(), c_side_get(context.get(), 10, 1), 10), BYTEPOOL_OK);
    bytepool_free(context.release());
    CHECK_PTR(context.get(), nullptr);
    CHECK_PTR(bytepool_get(stale, 10), nullptr);
    CHECK_EQ(bytepool_last_error(), BYTEPOOL_ERR_CLOSED);

    std::memset(slot.data(), 1, slot.capacity());
    std::memset(oversize.data(), 2, oversize.size());
    std::thread([moved = std::move(slot)]() { CHECK_BYTES(moved.data(), 1, moved.capacity()); }).join();
    bytepool_stats stats = BYTEPOOL_STATS_INIT;
    CHECK_EQ(bytepool_read_stats(stale, &stats), BYTEPOOL_OK);
    CHECK_EQ(stats.oversize_buffers, 1);
    oversize.reset();
    CHECK_EQ(bytepool_read_stats(stale, &stats), BYTEPOOL_ERR_INVALID_CONTEXT);
    misuses = 0;
}

void closing() {
    // A whole page: what is idle can go.
    const auto page = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
    auto pool = bytepool::new_pool({{page, 4}});
    auto clone = pool->clone();
    PooledBuffer out_at_close(*pool, 100);
    PooledBuffer(*pool, 100).reset();
    CHECK_EQ(pool->trim(0), page);
    PooledBuffer(*pool, 100).reset();
    pool->close();
    pool->close();
    CHECK(pool->is_closed() && clone->is_closed());
    CHECK_EQ(checked_stats(*clone).mapped_bytes, page);
    EXPECT_ERROR(bytepool::get_error, PooledBuffer(*clone, 1).reset(), "closed");
    CHECK(!PooledBuffer::try_get(*clone, 1).has_value());
    out_at_close.reset();
    CHECK_EQ(checked_stats(*pool).mapped_bytes, 0);
}

void contexts() {
    static_assert(!std::is_copy_constructible_v<Context> && !std::is_copy_assignable_v<Context>);
    static_assert(std::is_nothrow_move_constructible_v<Context> && std::is_nothrow_move_assignable_v<Context>);
    static_assert(std::is_nothrow_swappable_v<Context>);
    auto pool = bytepool::new_pool({{512, 4}});
    auto other = bytepool::new_pool({{512, 4}});
    Context first(*pool);
    void *raw = first.get();
    Context second(std::move(first));
    CHECK_PTR(first.get(), nullptr); // NOLINT: moved-from is empty
    CHECK_PTR(second.get(), raw);
    Context third(*other);
    void *replaced = third.get();
    third = std::move(second);
    CHECK_PTR(third.get(), raw);
    CHECK_PTR(bytepool_get(replaced, 1), nullptr); // freed by the assignment
    CHECK_EQ(bytepool_last_error(), BYTEPOOL_ERR_CLOSED);

    auto same = bytepool::pool_of_context(raw);
    PooledBuffer buffer(*same, 100);
    CHECK_EQ(out(*pool), 1);
    buffer.reset();
    misuses = 0;
    EXPECT_ERROR(rust::Error, (void)bytepool::pool_of_context(nullptr), "context");
    EXPECT_ERROR(rust::Error, (void)bytepool::pool_of_context(&same), "context");
    CHECK_EQ(misuses, 2);
    CHECK_EQ(last_misuse.kind, BYTEPOOL_ERR_INVALID_CONTEXT);
    bytepool_free(third.release());
    EXPECT_ERROR(rust::Error, (void)bytepool::pool_of_context(raw), "closed");
    CHECK_EQ(misuses, 2);

    std::vector<Context> all;
    EXPECT_ERROR(
        rust::Error, for (;;) { all.emplace_back(*pool); }, "16384");
    CHECK_EQ(all.size(), 16384);
    misuses = 0;
}

// Many threads, each a producer for the next: buffers move by value, and every byte arrives.
void a_ring_of_threads() {
    constexpr std::size_t threads = 8;
    auto pool = bytepool::new_pool({{512, 16}, {4096, 4}});
    std::array<PooledBuffer, threads> ring;
    for (std::size_t i = 0; i < threads; i++) {
        ring[i] = PooledBuffer(*pool, 300 + 600 * i);
        std::memset(ring[i].data(), static_cast<int>(i), ring[i].size());
    }
    for (std::size_t round = 0; round < check_rounds(200); round++) {
        std::vector<std::thread> running;
        for (std::size_t i = 0; i < threads; i++) {
            running.emplace_back([&pool, i, buffer = std::move(ring[i]), target = &ring[i]]() mutable {
                CHECK_BYTES(buffer.data(), static_cast<unsigned char>(i), buffer.size());
                PooledBuffer next(*pool, buffer.size());
                std::memcpy(next.data(), buffer.data(), buffer.size());
                *target = std::move(next);
            });
        }
        for (std::thread &thread : running) {
            thread.join();
        }
    }
    CHECK_EQ(out(*pool), threads);
    ring = {};
    CHECK_EQ(out(*pool), 0);
}

} // namespace

int main(int argc, char **argv) {
    check_begin(argc, argv);
    bytepool_set_misuse_handler(remember, nullptr);
    pools_of_every_form();
    wrong_configs();
    a_buffer_goes_through_three_languages();
    raw_pointers_go_both_ways();
    c_cannot_put_what_cpp_owns();
    c_callocs_what_cpp_put();
    a_buffer_outlives_its_pool();
    closing();
    contexts();
    a_ring_of_threads();
    return check_end("three_languages");
}
