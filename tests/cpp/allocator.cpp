// allocator<T>: containers of the standard library in a pool.

#include "expect.hpp"

#include <cstdint>
#include <list>
#include <map>
#include <memory>
#include <new>
#include <optional>
#include <string>
#include <type_traits>
#include <unordered_map>
#include <utility>
#include <vector>

namespace {

using bytepool::allocator;
using bytepool::Context;

template <typename T>
using Vector = std::vector<T, allocator<T>>;
using String = std::basic_string<char, std::char_traits<char>, allocator<char>>;

static_assert(!std::is_polymorphic_v<allocator<int>> && std::is_nothrow_copy_constructible_v<allocator<int>>);
static_assert(std::is_trivially_copyable_v<allocator<int>>);
// Of a context that is gone before anything is got.
static_assert(std::is_constructible_v<allocator<int>, const bytepool::Context &>);
static_assert(!std::is_constructible_v<allocator<int>, bytepool::Context>);
static_assert(std::is_same_v<std::allocator_traits<allocator<int>>::rebind_alloc<long>, allocator<long>>);

void containers() {
    auto pool = bytepool::new_pool({{64, 1000}, {512, 100}, {8192, 10}});
    Context context(*pool);
    {
        Vector<std::uint64_t> numbers(context);
        std::list<int, allocator<int>> list(context);
        std::map<int, String, std::less<>, allocator<std::pair<const int, String>>> names(context);
        std::unordered_map<int, int, std::hash<int>, std::equal_to<>, allocator<std::pair<const int, int>>> squares(
            context);
        for (int i = 0; i < 500; i++) {
            numbers.push_back(static_cast<std::uint64_t>(i) * 3);
            list.push_front(i);
            names.emplace(i, String(static_cast<std::size_t>(i), 'x', context));
            squares[i] = i * i;
        }
        CHECK(numbers.size() == 500 && numbers[499] == 1497 && list.front() == 499 && names.at(499).size() == 499);
        CHECK_EQ(squares.at(22), 484);
        CHECK(out(*pool) > 1500);
        CHECK_EQ(checked_stats(*pool).oversize_buffers, 0);
        numbers.resize(10000);
        CHECK(checked_stats(*pool).oversize_buffers >= 1);
    }
    CHECK_EQ(out(*pool), 0);
    const auto stats = checked_stats(*pool);
    CHECK_EQ(stats.size_mismatches + stats.foreign_pointers + stats.double_puts, 0);
}

void alignments() {
    struct alignas(128) Wide {
        char bytes[128];
    };
    struct alignas(4096) Page {
        char bytes[4096];
    };
    bytepool::PoolConfig unaligned;
    unaligned.alignment = 1;
    unaligned.guard_every = 1;
    unaligned.size_classes = {{100, 4}, {4096, 4}};
    for (const auto &pool : {bytepool::new_pool({{128, 1000}, {4096, 1000}}), bytepool::new_pool(unaligned)}) {
        Context context(*pool);
        const auto is_aligned = [](const auto &vector) {
            using Element = typename std::decay_t<decltype(vector)>::value_type;
            return reinterpret_cast<std::uintptr_t>(vector.data()) % alignof(Element) == 0;
        };
        for (std::size_t count = 1; count < 40; count++) {
            CHECK(is_aligned(Vector<std::uint64_t>(count, context)));
            CHECK(is_aligned(Vector<long double>(count, context)));
            CHECK(is_aligned(Vector<Wide>(count, context)));
            CHECK(is_aligned(Vector<Page>(count, context)));
        }
        CHECK_EQ(out(*pool), 0);
    }
}

void equality_moves_and_swaps() {
    auto pool = bytepool::new_pool({{4096, 4}});
    Context context(*pool);
    Context other(*pool);
    CHECK(allocator<int>(context) == allocator<int>(context) && allocator<int>(context) == allocator<long>(context));
    CHECK(allocator<int>(context) != allocator<int>(other));
    Vector<int> a({1, 2, 3}, context);
    const int *data = a.data();
    Vector<int> b(other);
    b = std::move(a); // takes the memory and the allocator, not the elements
    CHECK(b.data() == data && b.get_allocator() == allocator<int>(context));
    Vector<int> c({4}, other);
    swap(b, c);
    CHECK(c.data() == data && b[0] == 4 && b.get_allocator() == allocator<int>(other));
    b = c; // keeps its own
    CHECK(b.get_allocator() == allocator<int>(other) && b == c);
}

void it_outlives_its_context() {
    auto pool = bytepool::new_pool({{4096, 4}});
    auto watch = pool->clone();
    std::optional<Context> context(*pool);
    Vector<int> vector({1, 2, 3}, *context);
    context.reset();
    bool thrown = false;
    try {
        vector.resize(2000);
    } catch (const bytepool::get_error &error) {
        thrown = error.status() == BYTEPOOL_ERR_CLOSED;
    }
    CHECK(thrown && vector.size() == 3 && vector[2] == 3);
    CHECK_EQ(out(*watch), 1);
    const Context other(*watch);
    vector = Vector<int>(other);
    CHECK_EQ(out(*watch), 0);
}

void failures() {
    bytepool::PoolConfig config;
    config.size_classes = {{4096, 4}};
    config.max_bytes = 4096;
    auto pool = bytepool::new_pool(config);
    Context context(*pool);
    Vector<char> vector(4096, context);
    EXPECT_ERROR(bytepool::get_error, (void)Vector<char>(1, context), "4096", "limit");
    EXPECT_ERROR(bytepool::get_error, (void)Vector<char>(10000, context), "10000", "4096");
    bool thrown = false;
    try {
        (void)allocator<std::uint64_t>(context).allocate(SIZE_MAX / 8 + 1);
    } catch (const std::bad_array_new_length &) {
        thrown = true;
    }
    CHECK(thrown);
    CHECK_EQ(out(*pool), 1);
}

} // namespace

int main(int argc, char **argv) {
    check_begin(argc, argv);
    containers();
    alignments();
    equality_moves_and_swaps();
    it_outlives_its_context();
    failures();
    return check_end("allocator");
}
