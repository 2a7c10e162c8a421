// SharedBuffer: many holders of one buffer, put once, on whatever thread.

#include "expect.hpp"

#include <functional>
#include <memory>
#include <mutex>
#include <queue>
#include <stdexcept>
#include <string>
#include <thread>
#include <type_traits>
#include <utility>
#include <vector>

namespace {

using bytepool::PooledBuffer;
using bytepool::SharedBuffer;

static_assert(std::is_copy_constructible_v<SharedBuffer> && std::is_copy_assignable_v<SharedBuffer>);
static_assert(std::is_nothrow_move_constructible_v<SharedBuffer> && std::is_nothrow_destructible_v<SharedBuffer>);
static_assert(!std::is_convertible_v<PooledBuffer, SharedBuffer>);

// It looks like Asio's const_buffer, which would dangle if it came of a temporary.
struct ConstBuffer {
    ConstBuffer(const void *, std::size_t) noexcept {}
    [[nodiscard]] const void *data() const noexcept { return nullptr; }
};
static_assert(std::is_convertible_v<SharedBuffer &, ConstBuffer>);
static_assert(std::is_convertible_v<const SharedBuffer &, ConstBuffer>);
static_assert(!std::is_convertible_v<SharedBuffer, ConstBuffer>);
static_assert(!std::is_convertible_v<const SharedBuffer, ConstBuffer>);

// In a class, and larger than any.
const std::size_t sizes[] = {100, 100000};

rust::Box<bytepool::Pool> small_pool() {
    return bytepool::new_pool({{512, 4}, {4096, 4}});
}

SharedBuffer text_of(const bytepool::Pool &pool, std::size_t size) {
    PooledBuffer buffer(pool, size);
    for (std::size_t i = 0; i < size; i++) {
        buffer[i] = static_cast<std::uint8_t>('a' + i % 26);
    }
    return std::move(buffer).share();
}

void the_last_holder_puts() {
    auto pool = small_pool();
    for (const std::size_t size : sizes) {
        const std::uint64_t puts = pool->stats().puts;
        SharedBuffer first = text_of(*pool, size);
        CHECK(first && first.size() == size && first[25] == 'z');
        SharedBuffer second = first;
        SharedBuffer third;
        CHECK(!third && third.empty() && third.begin() == third.end());
        third = second;
        CHECK(third.data() == first.data() && third == first);
        SharedBuffer moved = std::move(second);
        CHECK(!second && moved == first); // NOLINT(bugprone-use-after-move)
        const SharedBuffer &same = third;
        third = same;
        third = std::move(moved);
        CHECK_EQ(out(*pool), 1);
        first.reset();
        CHECK_EQ(pool->stats().puts, puts);
        CHECK_EQ(third.string_view().substr(0, 3) == "abc", true);
        third = SharedBuffer();
        CHECK_EQ(pool->stats().puts, puts + 1);
        CHECK_EQ(out(*pool), 0);
    }
    CHECK(!std::move(*std::make_unique<PooledBuffer>()).share());
}

void slices_keep_the_buffer() {
    auto pool = small_pool();
    for (const std::size_t size : sizes) {
        SharedBuffer whole = text_of(*pool, size);
        SharedBuffer part = whole.slice(10, 20);
        CHECK(part.data() == whole.data() + 10 && part.size() == 20 && part.string_view().substr(0, 2) == "kl");
        const std::uint8_t *start = whole.data();
        SharedBuffer rest = std::move(whole).slice(0, 4);
        CHECK(!whole && rest.data() == start && rest.string_view() == "abcd"); // NOLINT(bugprone-use-after-move)
        SharedBuffer of_part = part.slice(20, 0);
        CHECK(of_part.empty() && of_part);
        EXPECT_ERROR(std::out_of_range, (void)part.slice(0, 21), "21 bytes", "byte 0", "has 20");
        EXPECT_ERROR(std::out_of_range, (void)part.slice(21, 0), "byte 21");
        EXPECT_ERROR(std::out_of_range, (void)part.slice(1, SIZE_MAX), "18446744073709551615");
        CHECK(part.front() == 'k' && part.at(1) == 'l' && &part.back() == part.end() - 1);
        EXPECT_ERROR(std::out_of_range, (void)part.at(20), "byte 20", "has 20");
        CHECK(!part.try_slice(0, 21) && !part.try_slice(21, 0) && !part.try_slice(1, SIZE_MAX));
        rest.reset();
        of_part.reset();
        CHECK_EQ(out(*pool), 1);
        CHECK(part[0] == 'k');
        const PooledBuffer copy = PooledBuffer::copy(*pool, part);
        part.reset();
        CHECK_EQ(out(*pool), 1);
        CHECK_EQ(copy.size(), 20);
    }
    CHECK_EQ(out(*pool), 0);
}

void an_only_holder_may_write_again() {
    auto pool = small_pool();
    for (const std::size_t size : sizes) {
        SharedBuffer shared = text_of(*pool, size);
        SharedBuffer other = shared;
        CHECK(!std::move(shared).try_into_buffer() && shared == other); // NOLINT(bugprone-use-after-move)
        other.reset();
        SharedBuffer tail = shared.slice(1, 5);
        shared.reset();
        CHECK(!std::move(tail).try_into_buffer() && tail.size() == 5); // NOLINT(bugprone-use-after-move)
        SharedBuffer again = text_of(*pool, size).slice(0, 5);
        auto buffer = std::move(again).try_into_buffer();
        REQUIRE(buffer.has_value());
        CHECK(!again && buffer->string_view() == "abcde"); // NOLINT(bugprone-use-after-move)
        CHECK_EQ(buffer->capacity(), room_of(size, size > 4096 ? size : 512));
        buffer->resize(size);
        (*buffer)[0] = 'A';
    }
    CHECK(!SharedBuffer().try_into_buffer());
    CHECK_EQ(out(*pool), 0);
}

// What must be copyable.
void functions_and_queues() {
    auto pool = small_pool();
    const SharedBuffer shared = text_of(*pool, 100);
    std::function<std::size_t()> function = [shared] { return shared.size(); };
    const std::function<std::size_t()> copy = function;
    std::queue<SharedBuffer> queue;
    for (int i = 0; i < 5; i++) {
        queue.push(shared);
    }
    const std::queue<SharedBuffer> queues = queue;
    std::vector<SharedBuffer> vector(10, shared);
    vector.insert(vector.begin() + 3, shared);
    CHECK(function() == 100 && copy() == 100 && queues.size() == 5 && vector[10] == shared);
    CHECK_EQ(out(*pool), 1);
}

void it_outlives_the_pool() {
    auto pool = small_pool();
    SharedBuffer shared = text_of(*pool, 100);
    { auto dropped = std::move(pool); }
    const SharedBuffer copy = shared;
    shared.reset();
    CHECK(copy[25] == 'z');
}

// Nobody's put by pointer reaches it.
void c_cannot_put_it() {
    auto pool = small_pool();
    bytepool::Context context(*pool);
    const SharedBuffer shared = text_of(*pool, 100);
    const auto before = checked_stats(*pool);
    CHECK_EQ(bytepool_put_checked(context.get(), const_cast<std::uint8_t *>(shared.data()), 100),
             BYTEPOOL_ERR_DOUBLE_PUT);
    EXPECT_ERROR(rust::Error, (void)PooledBuffer::adopt(*pool, const_cast<std::uint8_t *>(shared.data()), 100), "0x");
    CHECK_EQ(checked_stats(*pool).double_puts, before.double_puts + 2);
    CHECK(shared[25] == 'z');
}

// Threads copy, slice, read and drop; each buffer is put once.
void many_threads() {
    auto pool = small_pool();
    const int rounds = static_cast<int>(check_rounds(200));
    for (int round = 0; round < rounds; round++) {
        SharedBuffer shared = text_of(*pool, sizes[round % 8 == 7 ? 1 : 0]);
        std::vector<std::thread> threads;
        for (int i = 0; i < 4; i++) {
            threads.emplace_back([mine = shared] {
                std::vector<SharedBuffer> held;
                for (std::size_t turn = 0; turn < 50; turn++) {
                    held.push_back(turn % 3 == 0 ? mine : mine.slice(turn, 26));
                    REQUIRE(held.back()[0] == 'a' + (turn % 3 == 0 ? 0 : turn) % 26);
                    if (turn % 4 == 3) {
                        held.clear();
                    }
                }
            });
        }
        shared.reset();
        for (auto &thread : threads) {
            thread.join();
        }
    }
    CHECK_EQ(out(*pool), 0);
    CHECK_EQ(pool->stats().puts, rounds);
}

void ignore(const bytepool_misuse *, void *) {}

void assigned_to_itself() {
    auto pool = small_pool();
    SharedBuffer shared = PooledBuffer::copy(*pool, "hello").share();
    SharedBuffer &self = shared;
    shared = self;
    shared = std::move(self);
    CHECK(shared.string_view() == "hello");
    bytepool::Context context(*pool);
    void *address = context.get();
    bytepool::Context &own = context;
    context = std::move(own);
    CHECK_PTR(context.get(), address);
    shared.reset();
    CHECK_EQ(checked_stats(*pool).puts, 1);
}

} // namespace

int main(int argc, char **argv) {
    check_begin(argc, argv);
    bytepool_set_misuse_handler(ignore, nullptr);
    the_last_holder_puts();
    slices_keep_the_buffer();
    an_only_holder_may_write_again();
    functions_and_queues();
    it_outlives_the_pool();
    c_cannot_put_it();
    many_threads();
    assigned_to_itself();
    return check_end("shared_buffer");
}
