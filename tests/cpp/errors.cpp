// Why a get failed: the exception's status and text, the status of the try_ forms, and the thread's last error agree.

#include "expect.hpp"

#include <chrono>
#include <new>
#include <string>
#include <type_traits>
#include <utility>

namespace {

using bytepool::get_error;
using bytepool::PooledBuffer;
using std::chrono::milliseconds;

static_assert(std::is_base_of_v<std::bad_alloc, get_error>);
static_assert(std::is_nothrow_copy_constructible_v<get_error> && std::is_nothrow_copy_assignable_v<get_error>);

void ignore(const bytepool_misuse *, void *) {}

void forget_the_last_error() {
    (void)bytepool_get(nullptr, 1);
    REQUIRE(bytepool_last_error() == BYTEPOOL_ERR_INVALID_CONTEXT);
}

// `get` throws a get_error with this status, whose text has all of `parts`.
template <typename Get>
void throws(int line, bytepool_status status, std::initializer_list<const char *> parts, Get get) {
    forget_the_last_error();
    bytepool_status told = BYTEPOOL_OK;
    expect_error<get_error>(
        __FILE__, line,
        [&] {
            try {
                get();
            } catch (const get_error &error) {
                told = error.status();
                CHECK(std::string(error.what()).rfind("bytepool: ", 0) == 0);
                throw;
            }
        },
        parts);
    CHECK_EQ(told, status);
    CHECK_EQ(bytepool_last_error(), status);
    bool is_bad_alloc = false;
    try {
        get();
    } catch (const std::bad_alloc &) {
        is_bad_alloc = true;
    }
    CHECK(is_bad_alloc);
}
#define THROWS(status, get, ...) throws(__LINE__, status, {__VA_ARGS__}, [&] { get; })

// `get(why)` gives nothing, for this reason.
template <typename Get>
void refuses(int line, bytepool_status status, Get get) {
    forget_the_last_error();
    bytepool_status why = -1;
    const bool refused = !get(why).has_value();
    if (!check_counted(refused && why == status && bytepool_last_error() == status)) {
        std::printf("%s:%d: status %d, last error %d\n", __FILE__, line, why, bytepool_last_error());
    }
}
#define REFUSES(status, get) refuses(__LINE__, status, [&]([[maybe_unused]] bytepool_status &why) { return get; })

rust::Box<bytepool::Pool> limited() {
    bytepool::PoolConfig config;
    config.size_classes = {{4096, 4}};
    config.max_bytes = 8192;
    return bytepool::new_pool(config);
}

void the_limit() {
    auto pool = limited();
    bytepool::memory_resource resource(*pool);
    // Never.
    THROWS(BYTEPOOL_ERR_LIMIT, PooledBuffer(*pool, 10000).reset(), "10000", "8192");
    THROWS(BYTEPOOL_ERR_LIMIT, PooledBuffer::aligned(*pool, 8192, 10000).reset(), "8192");
    THROWS(BYTEPOOL_ERR_LIMIT, (void)PooledBuffer::get_timeout(*pool, 10000, milliseconds(1)), "10000", "8192");
    THROWS(BYTEPOOL_ERR_LIMIT, (void)PooledBuffer::copy(*pool, std::string(10000, 'x')), "10000", "8192");
    THROWS(BYTEPOOL_ERR_LIMIT, (void)resource.allocate(10000, 8), "10000", "8192");
    THROWS(BYTEPOOL_ERR_LIMIT, (void)resource.allocate(10000, 8192), "8192");
    REFUSES(BYTEPOOL_ERR_LIMIT, PooledBuffer::try_get(*pool, 10000, why));
    REFUSES(BYTEPOOL_ERR_LIMIT, PooledBuffer::try_aligned(*pool, 8192, 10000, why));
    REFUSES(BYTEPOOL_ERR_LIMIT, PooledBuffer::try_get_timeout(*pool, 10000, milliseconds(1), why));
    REFUSES(BYTEPOOL_ERR_LIMIT, PooledBuffer::try_copy(*pool, std::string(10000, 'x'), why));
    // Now.
    const PooledBuffer held[] = {PooledBuffer(*pool, 4096), PooledBuffer(*pool, 4096)};
    THROWS(BYTEPOOL_ERR_LIMIT, PooledBuffer(*pool, 1).reset(), "4096", "8192");
    THROWS(BYTEPOOL_ERR_LIMIT, (void)resource.allocate(1), "4096", "8192");
    REFUSES(BYTEPOOL_ERR_LIMIT, PooledBuffer::try_get(*pool, 1, why));
    REFUSES(BYTEPOOL_ERR_TIMEOUT, PooledBuffer::try_get_timeout(*pool, 1, milliseconds(1), why));
    REFUSES(BYTEPOOL_ERR_TIMEOUT, PooledBuffer::try_get_timeout(*pool, 1, milliseconds(0), why));
    CHECK(!PooledBuffer::get_timeout(*pool, 1, milliseconds(1)).has_value());
    CHECK(!PooledBuffer::get_timeout(*pool, 1, milliseconds(0)).has_value());
    CHECK_EQ(out(*pool), 2);
}

void other_reasons() {
    auto pool = limited();
    THROWS(BYTEPOOL_ERR_INVALID_ARGUMENT, PooledBuffer::aligned(*pool, 48, 100).reset(), "48");
    REFUSES(BYTEPOOL_ERR_INVALID_ARGUMENT, PooledBuffer::try_aligned(*pool, 48, 100, why));
    THROWS(BYTEPOOL_ERR_INVALID_ARGUMENT, PooledBuffer::aligned(*pool, 0, 100).reset(), "0");
    REFUSES(BYTEPOOL_ERR_INVALID_ARGUMENT, PooledBuffer::try_aligned(*pool, 0, 100, why));
    CHECK_EQ(PooledBuffer::aligned(*pool, 1, 100).size(), 100);
    auto unlimited = bytepool::new_pool({{512, 4}});
    THROWS(BYTEPOOL_ERR_OUT_OF_MEMORY, PooledBuffer(*unlimited, SIZE_MAX / 2).reset(), "9223372036854775807");
    REFUSES(BYTEPOOL_ERR_OUT_OF_MEMORY, PooledBuffer::try_get(*unlimited, SIZE_MAX / 2, why));
    pool->close();
    bytepool::memory_resource resource(*pool);
    THROWS(BYTEPOOL_ERR_CLOSED, PooledBuffer(*pool, 1).reset(), "closed");
    THROWS(BYTEPOOL_ERR_CLOSED, (void)resource.allocate(1), "closed");
    REFUSES(BYTEPOOL_ERR_CLOSED, PooledBuffer::try_get(*pool, 1, why));
    REFUSES(BYTEPOOL_ERR_CLOSED, PooledBuffer::try_get_timeout(*pool, 1, milliseconds(1), why));
}

void success_says_so() {
    auto pool = limited();
    bytepool_status why = -1;
    CHECK_EQ(PooledBuffer::try_get(*pool, 100, why)->size(), 100);
    CHECK_EQ(why, BYTEPOOL_OK);
    why = -1;
    CHECK(PooledBuffer::try_copy(*pool, "hello", why)->string_view() == "hello");
    CHECK_EQ(why, BYTEPOOL_OK);
    why = -1;
    CHECK_EQ(PooledBuffer::try_get_timeout(*pool, 100, std::chrono::seconds(1), why)->size(), 100);
    CHECK_EQ(why, BYTEPOOL_OK);
    why = -1;
    const auto page = PooledBuffer::try_aligned(*pool, 4096, 100, why);
    CHECK_EQ(reinterpret_cast<std::uintptr_t>(page->data()) % 4096, 0);
    CHECK_EQ(why, BYTEPOOL_OK);
}

void copies_keep_the_text() {
    auto pool = limited();
    std::string text;
    try {
        PooledBuffer(*pool, 10000).reset();
    } catch (const get_error &error) {
        text = error.what();
        get_error copy = error;
        get_error other = copy;
        other = copy;
        CHECK(other.what() == text && other.status() == BYTEPOOL_ERR_LIMIT && other.what() != error.what());
    }
    CHECK(!text.empty());
}

// No time is as long as it looks: what nanoseconds cannot say is without end.
void timeouts() {
    using bytepool::detail::nanoseconds_of;
    using std::chrono::nanoseconds;
    static_assert(nanoseconds_of(nanoseconds(7)) == 7 && nanoseconds_of(std::chrono::hours(1)) == 3600000000000u);
    static_assert(nanoseconds_of(nanoseconds::max()) == UINT64_MAX &&
                  nanoseconds_of(nanoseconds::max() / 2) < UINT64_MAX);
    static_assert(nanoseconds_of(std::chrono::hours::max()) == UINT64_MAX);
    static_assert(nanoseconds_of(nanoseconds(0)) == 0 && nanoseconds_of(nanoseconds::min()) == 0);
    static_assert(nanoseconds_of(std::chrono::duration<double>(0.5)) == 500000000);
    using std::chrono::milliseconds;
    static_assert(nanoseconds_of(milliseconds(1)) == 1000000 && nanoseconds_of(milliseconds(1001)) == 1001000000);
    static_assert(nanoseconds_of(std::chrono::microseconds(1)) == 1000 && nanoseconds_of(nanoseconds(1)) == 1);
    static_assert(nanoseconds_of(nanoseconds(15)) == 15 && nanoseconds_of(std::chrono::minutes(1)) == 60000000000u);
    static_assert(nanoseconds_of(std::chrono::duration<long long, std::ratio<1, 30>>(1)) == 33333333);
    static_assert(nanoseconds_of(std::chrono::duration<long long, std::pico>(3000)) == 3);
}

} // namespace

int main(int argc, char **argv) {
    check_begin(argc, argv);
    bytepool_set_misuse_handler(ignore, nullptr);
    the_limit();
    other_reasons();
    success_says_so();
    copies_keep_the_text();
    timeouts();
    return check_end("errors");
}
