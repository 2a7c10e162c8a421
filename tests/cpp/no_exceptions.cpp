// The header under -fno-exceptions: what has a form that does not throw is usable from a pool to its end.

#include "bytepool/bytepool.hpp"

#include "../c/check.h"

#include <chrono>
#include <type_traits>
#include <vector>

#ifdef __cpp_exceptions
#error "this program shows what there is without exceptions"
#endif

namespace {

using bytepool::PooledBuffer;

void ignore(const bytepool_misuse *, void *) {}

// What throws is absent, so that a call of it does not compile.
static_assert(!std::is_constructible_v<PooledBuffer, const bytepool::Pool &, std::size_t>);
static_assert(!std::is_constructible_v<bytepool::Context, const bytepool::Pool &>);
template <typename Buffer, typename = void>
struct throws_on_resize : std::false_type {};
template <typename Buffer>
struct throws_on_resize<Buffer, std::void_t<decltype(std::declval<Buffer &>().resize(1))>> : std::true_type {};
static_assert(throws_on_resize<std::vector<int>>::value && !throws_on_resize<PooledBuffer>::value);

void a_pool_s_life() {
    bytepool::PoolConfig config;
    config.size_classes = {{4096, 4}};
    config.max_bytes = 8192;
    bytepool_status why = -1;
    auto pool = bytepool::try_new_pool(config, why);
    REQUIRE(pool.has_value() && why == BYTEPOOL_OK);
    auto buffer = PooledBuffer::try_get(**pool, 100);
    REQUIRE(buffer.has_value());
    CHECK(buffer->try_resize(4096) && !buffer->try_resize(5000));
    CHECK_EQ(buffer->size(), 4096);
    buffer->clear();
    CHECK(buffer->try_append("hello") && buffer->string_view() == "hello");

    auto context = bytepool::Context::try_new(**pool, why);
    REQUIRE(context.has_value() && why == BYTEPOOL_OK);
    auto same = bytepool::try_pool_of_context(context->get(), why);
    REQUIRE(same.has_value() && why == BYTEPOOL_OK);
    auto aligned = PooledBuffer::try_aligned(**same, 4096, 100, why);
    CHECK(aligned.has_value() && why == BYTEPOOL_OK);
    CHECK(!PooledBuffer::try_get(**same, 100, why).has_value());
    CHECK_EQ(why, BYTEPOOL_ERR_LIMIT);
    CHECK(!PooledBuffer::try_get_timeout(**same, 100, std::chrono::milliseconds(1), why).has_value());
    CHECK_EQ(why, BYTEPOOL_ERR_TIMEOUT);
    CHECK(*context);
    context->reset();
    CHECK(!*context && context->get() == nullptr);
    buffer.reset();
    aligned.reset();
    CHECK_EQ((*pool)->stats().puts, 2);
    auto raw = PooledBuffer::try_get(**pool, 100);
    REQUIRE(raw.has_value());
    std::uint8_t *data = raw->release();
    auto adopted = PooledBuffer::try_adopt(**pool, data, 100, why);
    CHECK(adopted.has_value() && why == BYTEPOOL_OK && adopted->data() == data && adopted->size() == 100);
    CHECK(!PooledBuffer::try_adopt(**pool, data, 100, why).has_value());
    CHECK_EQ(why, BYTEPOOL_ERR_DOUBLE_PUT);
    adopted.reset();
    CHECK_EQ((*pool)->stats().puts, 3);
}

void holders() {
    bytepool::PoolConfig config;
    config.size_classes = {{64, 4}};
    bytepool_status why = -1;
    auto pool = bytepool::try_new_pool(config, why);
    REQUIRE(pool.has_value());
    auto buffer = PooledBuffer::try_copy(**pool, "hello", why);
    REQUIRE(buffer.has_value());
    bytepool::SharedBuffer shared = std::move(*buffer).share();
    {
        const auto same = shared.try_share();
        REQUIRE(same.has_value());
        CHECK(same->data() == shared.data() && *same == shared);
        const auto part = same->try_slice(1, 3);
        REQUIRE(part.has_value());
        CHECK(part->data() == shared.data() + 1 && part->string_view() == "ell");
        CHECK(!part->try_slice(0, 4) && part->try_slice(3, 0)->empty());
        CHECK(!std::move(shared).try_into_buffer().has_value()); // NOLINT(bugprone-use-after-move)
    }
    CHECK_EQ((*pool)->stats().puts, 0);
    CHECK(bytepool::SharedBuffer().try_share()->empty() && !bytepool::SharedBuffer().try_slice(1, 0));
    shared.reset(); // the last: each holder was counted, and given up, once
    CHECK_EQ((*pool)->stats().puts, 1);
}

void what_is_refused() {
    bytepool::PoolConfig config;
    config.size_classes = {{512, 4}, {512, 5}};
    bytepool_status why = BYTEPOOL_OK;
    CHECK(!bytepool::try_new_pool(config, why).has_value());
    CHECK_EQ(why, BYTEPOOL_ERR_INVALID_ARGUMENT);
    CHECK_EQ(bytepool_last_error(), BYTEPOOL_ERR_INVALID_ARGUMENT);
    CHECK(!bytepool::try_pool_of_context(nullptr, why).has_value());
    CHECK_EQ(why, BYTEPOOL_ERR_INVALID_CONTEXT);

    config.size_classes = {{64, 1}};
    auto pool = bytepool::try_new_pool(config, why);
    REQUIRE(pool.has_value());
    std::vector<bytepool::Context> all;
    while (auto context = bytepool::Context::try_new(**pool, why)) {
        all.push_back(std::move(*context));
    }
    CHECK_EQ(all.size(), 16384);
    CHECK_EQ(why, BYTEPOOL_ERR_LIMIT);
}

} // namespace

int main(int argc, char **argv) {
    check_begin(argc, argv);
    bytepool_set_misuse_handler(ignore, nullptr);
    a_pool_s_life();
    holders();
    what_is_refused();
    return check_end("no_exceptions");
}
