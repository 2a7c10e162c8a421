// A pool from whatever has its classes in a row.

#include "expect.hpp"

#include <array>
#include <initializer_list>
#include <vector>

namespace {

using bytepool::SizeClass;

void has_both(const rust::Box<bytepool::Pool> &pool) {
    REQUIRE(pool->stats().size_class_count == 2);
    CHECK_EQ(pool->class_stats(0).buffer_size, 512);
    CHECK_EQ(pool->class_stats(0).capacity, 10);
    CHECK_EQ(pool->class_stats(1).buffer_size, 4096);
    CHECK_EQ(pool->class_stats(1).capacity, 3);
}

constexpr SizeClass in_the_program[] = {{512, 10}, {4096, 3}};
constexpr std::array<SizeClass, 2> in_an_array = {{{512, 10}, {4096, 3}}};

// Has classes in a row, and a name of its own for that.
struct Derived : std::vector<SizeClass> {
    using std::vector<SizeClass>::vector;
};

void containers() {
    std::vector<SizeClass> vector{{512, 10}, {4096, 3}};
    has_both(bytepool::new_pool(vector));
    const std::vector<SizeClass> constant = vector;
    has_both(bytepool::new_pool(constant));
    has_both(bytepool::new_pool(std::vector<SizeClass>{{512, 10}, {4096, 3}}));
    has_both(bytepool::new_pool(Derived{{512, 10}, {4096, 3}}));
    CHECK_EQ(bytepool::new_pool(std::vector<SizeClass>())->stats().size_class_count, 0);
}

void arrays() {
    SizeClass array[] = {{512, 10}, {4096, 3}};
    has_both(bytepool::new_pool(array));
    has_both(bytepool::new_pool(in_the_program));
    has_both(bytepool::new_pool(in_an_array));
    has_both(bytepool::new_pool(std::array<SizeClass, 2>{{{512, 10}, {4096, 3}}}));
}

void views() {
    std::vector<SizeClass> vector{{512, 10}, {4096, 3}};
    has_both(bytepool::new_pool(rust::Slice<const SizeClass>(vector.data(), vector.size())));
    has_both(bytepool::new_pool(rust::Slice<SizeClass>(vector.data(), vector.size())));
    const std::initializer_list<SizeClass> list = {{512, 10}, {4096, 3}};
    has_both(bytepool::new_pool(list));
#ifdef __cpp_lib_span
    has_both(bytepool::new_pool(std::span(vector)));
    has_both(bytepool::new_pool(std::span<const SizeClass>(vector)));
    has_both(bytepool::new_pool(std::span<const SizeClass, 2>(in_the_program)));
#endif
}

void others_as_before() {
    has_both(bytepool::new_pool({{512, 10}, {4096, 3}}));
    bytepool::PoolConfig config;
    config.size_classes = {{512, 10}, {4096, 3}};
    has_both(bytepool::new_pool(config));
}

// Elements of another size would be read wrongly, so they do not compile.
struct Wider : SizeClass {
    int more;
};
template <typename Classes, typename = void>
struct makes_a_pool : std::false_type {};
template <typename Classes>
struct makes_a_pool<Classes, std::void_t<decltype(bytepool::new_pool(std::declval<Classes>()))>> : std::true_type {};
static_assert(makes_a_pool<std::vector<SizeClass> &>::value);
static_assert(!makes_a_pool<std::vector<Wider> &>::value);
static_assert(!makes_a_pool<std::vector<int> &>::value);
static_assert(!makes_a_pool<SizeClass &>::value);

void what_is_refused_is_said() {
    const std::vector<SizeClass> twice{{512, 10}, {512, 3}};
    EXPECT_ERROR(rust::Error, (void)bytepool::new_pool(twice), "two classes", "512 bytes");
}

} // namespace

int main(int argc, char **argv) {
    check_begin(argc, argv);
    containers();
    arrays();
    views();
    others_as_before();
    what_is_refused_is_said();
    return check_end("new_pool");
}
