// PooledBuffer as a container of bytes: what it holds, what fits, and what takes it as it stands.

#include "expect.hpp"

#include <algorithm>
#include <array>
#include <cstddef>
#include <iterator>
#include <memory_resource>
#include <stdexcept>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#if __cplusplus >= 202002L
#include <ranges>
#endif

namespace {

// Made before anything runs.
#ifdef __cpp_constinit
constinit bytepool::PooledBuffer no_buffer;
constinit bytepool::SharedBuffer no_shared_buffer;
#else
bytepool::PooledBuffer no_buffer;
bytepool::SharedBuffer no_shared_buffer;
#endif

using bytepool::PooledBuffer;
using namespace std::string_view_literals;

rust::Box<bytepool::Pool> small_pool() {
    return bytepool::new_pool({{64, 4}, {512, 4}});
}

void copies_of_whatever_has_bytes() {
    auto pool = small_pool();
    const char text[] = "hello";
    const std::string string = "hello";
    const std::vector<std::uint8_t> vector(string.begin(), string.end());
    const std::array<char, 5> array = {'h', 'e', 'l', 'l', 'o'};
    const std::uint8_t octets[] = {'h', 'e', 'l', 'l', 'o'};
    std::vector<std::byte> bytes(5);
    std::transform(string.begin(), string.end(), bytes.begin(), [](char c) { return static_cast<std::byte>(c); });
    const auto is_hello = [](const PooledBuffer &buffer) {
        CHECK_EQ(buffer.size(), 5);
        CHECK(buffer.string_view() == "hello");
    };
    is_hello(PooledBuffer::copy(*pool, "hello"));
    is_hello(PooledBuffer::copy(*pool, text)); // without its zero
    is_hello(PooledBuffer::copy(*pool, "hello"sv));
    is_hello(PooledBuffer::copy(*pool, string));
    is_hello(PooledBuffer::copy(*pool, vector));
    is_hello(PooledBuffer::copy(*pool, array));
    is_hello(PooledBuffer::copy(*pool, octets));
    is_hello(PooledBuffer::copy(*pool, bytes));
    is_hello(PooledBuffer::copy(*pool, PooledBuffer::copy(*pool, "hello")));
    is_hello(PooledBuffer::copy(*pool, rust::Slice<const std::uint8_t>(vector.data(), vector.size())));
#ifdef __cpp_lib_span
    is_hello(PooledBuffer::copy(*pool, std::span(vector)));
    is_hello(PooledBuffer::copy(*pool, std::span<const std::byte>(bytes)));
    is_hello(PooledBuffer::copy(*pool, std::as_bytes(std::span(vector))));
#endif
    const struct {
        char text[4];
        char behind;
    } unended = {{'a', 'b', 'c', 'd'}, 'x'};
    CHECK(PooledBuffer::copy(*pool, unended.text).string_view() == "abcd");
    char part[8] = "hello";
    is_hello(PooledBuffer::copy(*pool, part));
    is_hello(PooledBuffer::copy(*pool, u8"hello"));
    const char *pointer = part;
    is_hello(PooledBuffer::copy(*pool, pointer));
    CHECK_EQ(PooledBuffer::copy(*pool, "a\0b"sv).size(), 3);
    CHECK(PooledBuffer::copy(*pool, "").empty());
    CHECK(PooledBuffer::copy(*pool, std::string_view()).empty());
    CHECK_EQ(out(*pool), 0);
}

// What has other elements than bytes is nothing to copy.
static_assert(std::is_convertible_v<std::string, bytepool::detail::Bytes>);
static_assert(!std::is_convertible_v<std::vector<int>, bytepool::detail::Bytes>);
static_assert(std::is_convertible_v<char *, bytepool::detail::Bytes>);
static_assert(!std::is_convertible_v<std::nullptr_t, bytepool::detail::Bytes>);
template <typename Buffer, typename = void>
struct appends_zero : std::false_type {};
template <typename Buffer>
struct appends_zero<Buffer, std::void_t<decltype(std::declval<Buffer &>().append(0))>> : std::true_type {};
struct AppendsZero {
    void append(const char *);
};
static_assert(appends_zero<AppendsZero>::value && !appends_zero<PooledBuffer>::value);
static_assert(!std::is_convertible_v<std::u16string, bytepool::detail::Bytes>);
static_assert(!std::is_convertible_v<std::vector<std::string>, bytepool::detail::Bytes>);

void appending() {
    auto pool = small_pool();
    PooledBuffer buffer(*pool, 64);
    const std::size_t room = buffer.capacity();
    buffer.clear();
    CHECK(buffer.empty() && buffer.capacity() == room && buffer);
    buffer.append("head ");
    buffer.append(std::vector<std::uint8_t>{'b', 'o', 'd', 'y'});
    buffer.append(buffer);
    CHECK(buffer.string_view() == "head bodyhead body");
    buffer.append(std::string(room - buffer.size(), 'x'));
    CHECK_EQ(buffer.size(), room);
    buffer.append("");
    // Full: refused, and nothing changed.
    CHECK(!buffer.try_append("y"));
    EXPECT_ERROR(std::length_error, buffer.append("yz"), "66 bytes", "64");
    CHECK_EQ(buffer.size(), room);
    CHECK_EQ(buffer.back(), 'x');
    CHECK(!buffer.try_resize(room + 1) && buffer.size() == room);
    CHECK(buffer.try_resize(4) && buffer.string_view() == "head");
    // Bytes of its own that lie partly where they go to.
    buffer.append(std::string_view(reinterpret_cast<const char *>(buffer.data()) + 2, 4));
    CHECK(buffer.string_view() == "headad b");
    PooledBuffer none;
    CHECK(none.try_append("") && !none.try_append("x") && none.string_view().empty());
}

void elements() {
    auto pool = small_pool();
    PooledBuffer buffer = PooledBuffer::copy(*pool, "abc");
    const PooledBuffer &constant = buffer;
    CHECK(buffer.front() == 'a' && constant.front() == 'a' && buffer.back() == 'c' && constant.back() == 'c');
    CHECK(buffer.at(1) == 'b' && constant.at(2) == 'c');
    buffer.at(1) = 'B';
    buffer.front() = 'A';
    buffer.back() = 'C';
    CHECK(constant.string_view() == "ABC");
    EXPECT_ERROR(std::out_of_range, (void)buffer.at(3), "byte 3", "has 3");
    EXPECT_ERROR(std::out_of_range, (void)constant.at(SIZE_MAX), "18446744073709551615");
    EXPECT_ERROR(std::out_of_range, (void)PooledBuffer().at(0), "byte 0", "has 0");
#ifdef __cpp_lib_span
    CHECK_EQ(buffer.bytes().size(), 3);
    buffer.bytes()[2] = std::byte{'c'};
    CHECK(constant.bytes()[2] == std::byte{'c'});
    static_assert(std::is_same_v<decltype(buffer.bytes()), std::span<std::byte>>);
    static_assert(std::is_same_v<decltype(constant.bytes()), std::span<const std::byte>>);
    CHECK(PooledBuffer().bytes().empty());
#endif
}

void equality() {
    auto pool = small_pool();
    const PooledBuffer a = PooledBuffer::copy(*pool, "same");
    PooledBuffer b = PooledBuffer::copy(*pool, "same");
    PooledBuffer wide(*pool, 512);
    wide.clear();
    wide.append("same");
    CHECK(a == a && a == b && a == wide && !(a != b));
    b[3] = 'x';
    CHECK(a != b && !(a == b));
    CHECK(a != PooledBuffer::copy(*pool, "sam") && a != PooledBuffer());
    CHECK(PooledBuffer() == PooledBuffer() && PooledBuffer::copy(*pool, "") == PooledBuffer());
    const std::vector<PooledBuffer> none;
    CHECK(std::find(none.begin(), none.end(), a) == none.end());
}

void as_a_range() {
    auto pool = small_pool();
    PooledBuffer buffer = PooledBuffer::copy(*pool, "cab");
    std::sort(buffer.begin(), buffer.end());
    CHECK(buffer.string_view() == "abc");
    CHECK(std::data(buffer) == buffer.data() && std::size(buffer) == 3);
    const std::vector<PooledBuffer::value_type> copy(std::begin(buffer), std::end(buffer));
    CHECK_EQ(copy.size(), 3);
#ifdef __cpp_lib_ranges
    static_assert(std::ranges::contiguous_range<PooledBuffer> && std::ranges::sized_range<PooledBuffer>);
    static_assert(std::ranges::contiguous_range<const PooledBuffer>);
    static_assert(std::ranges::output_range<PooledBuffer, std::uint8_t>);
    static_assert(!std::ranges::output_range<const PooledBuffer, std::uint8_t>);
    std::ranges::reverse(buffer);
    CHECK(buffer.string_view() == "cba");
    CHECK_EQ(std::span<std::uint8_t>(buffer).size(), 3);
    CHECK_EQ(std::span<const std::uint8_t>(std::as_const(buffer)).size(), 3);
#endif
}

// It looks like Asio's mutable_buffer, and no other type does.
struct MutableBuffer {
    MutableBuffer(void *start, std::size_t size) noexcept : start_(start), size_(size) {}
    [[nodiscard]] void *data() const noexcept { return start_; }
    [[nodiscard]] std::size_t size() const noexcept { return size_; }

  private:
    void *start_;
    std::size_t size_;
};
struct ConstBuffer {
    ConstBuffer(const void *, std::size_t) noexcept {}
    ConstBuffer(const MutableBuffer &) noexcept {}
    [[nodiscard]] const void *data() const noexcept { return nullptr; }
};
int taken(const MutableBuffer &) {
    return 1;
}
int taken(const ConstBuffer &) {
    return 2;
}
static_assert(std::is_convertible_v<PooledBuffer &, MutableBuffer>);
static_assert(!std::is_convertible_v<const PooledBuffer &, MutableBuffer>);
static_assert(!std::is_convertible_v<PooledBuffer &, ConstBuffer>);
static_assert(!std::is_convertible_v<PooledBuffer &, std::string> && !std::is_convertible_v<PooledBuffer &, void *>);
static_assert(!std::is_convertible_v<PooledBuffer &, std::string_view> && !std::is_convertible_v<PooledBuffer &, int>);
static_assert(!std::is_convertible_v<PooledBuffer &, std::vector<std::uint8_t>>);
// Of a temporary it would dangle.
static_assert(!std::is_convertible_v<PooledBuffer, MutableBuffer>);
static_assert(!std::is_constructible_v<MutableBuffer, PooledBuffer>);
// What has no data() is asked, too.
struct View {
    View(void *, std::size_t) noexcept {}
};
static_assert(!std::is_convertible_v<PooledBuffer &, View>);
static_assert(!std::is_convertible_v<PooledBuffer &, std::pmr::monotonic_buffer_resource>);
static_assert(!std::is_convertible_v<bytepool::SharedBuffer &, View>);
static_assert(!std::is_convertible_v<bytepool::SharedBuffer &, std::pmr::monotonic_buffer_resource>);

void as_a_mutable_buffer() {
    auto pool = small_pool();
    PooledBuffer buffer(*pool, 100);
    CHECK_EQ(taken(buffer), 1);
    CHECK_EQ(taken(ConstBuffer(buffer.data(), buffer.size())), 2);
    const MutableBuffer view = buffer;
    CHECK(view.data() == buffer.data() && view.size() == 100);
}

} // namespace

int main(int argc, char **argv) {
    check_begin(argc, argv);
    CHECK(!no_buffer && !no_shared_buffer);
    copies_of_whatever_has_bytes();
    appending();
    elements();
    equality();
    as_a_range();
    as_a_mutable_buffer();
    return check_end("bytes");
}
