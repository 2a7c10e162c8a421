// PooledBuffer: a buffer with one owner, put back by the destructor.
//
//     bytepool::PooledBuffer buffer(*pool, 100);
//     auto copy = bytepool::PooledBuffer::copy(*pool, "hello");
//     asio::async_read(socket, asio::buffer(buffer), ...);
//
// It is a contiguous range of std::uint8_t. It never reallocates: resize and append work within the capacity.
#ifndef BYTEPOOL_POOLED_BUFFER_HPP
#define BYTEPOOL_POOLED_BUFFER_HPP

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#if __cplusplus >= 202002L && __has_include(<span>)
#include <span>
#endif

#include "bytepool/bytepool.h"
#include "bytepool/error.hpp"
#include "bytepool/private/bridge.h"
#include "bytepool/private/cxx.h"
#include "bytepool/source_location.hpp"

namespace bytepool {

namespace detail {
// The fast paths of PooledBuffer, past the bridge.
extern "C" bool bytepool_cpp_get(const Pool &pool, std::size_t size, BufferParts &parts) noexcept;
extern "C" void bytepool_cpp_put(const BufferParts &parts) noexcept;

#ifdef BYTEPOOL_EXCEPTIONS
[[noreturn]] void throw_length_error(std::size_t size, std::size_t capacity);
[[noreturn]] void throw_out_of_range(std::size_t index, std::size_t size);
#endif

inline GetRequest request_of(std::size_t size, const source_location &where) noexcept {
    return {size, 1, 0, false, where.file_name(), where.line(), where.column()};
}

// Converts a std::chrono::duration without including <chrono>, which takes as long to compile as all else here.
// nanoseconds::max() and anything longer mean no deadline.
template <typename Duration>
[[nodiscard]] constexpr std::uint64_t nanoseconds_of(const Duration &timeout) noexcept {
    using Period = typename Duration::period;
    // One factor, which is exact for all usual units. Other products are rounded.
    constexpr bool divides = 1000000000 % Period::den == 0;
    constexpr long double factor =
        divides ? static_cast<long double>(Period::num) * (1000000000 / Period::den) : Period::num * 1e9L / Period::den;
    const long double nanoseconds = static_cast<long double>(timeout.count()) * factor;
    return nanoseconds >= 9223372036854775807.0L ? UINT64_MAX
           : nanoseconds > 0                     ? static_cast<std::uint64_t>(nanoseconds + 0.5L)
                                                 : 0;
}

// Whether a type is the element of something that is read as bytes.
template <typename T>
inline constexpr bool is_byte = sizeof(T) == 1 && std::is_trivially_copyable<T>::value;

// Whether a type is the element of a text.
#ifdef __cpp_char8_t
template <typename T>
inline constexpr bool is_char = std::is_same<T, char>::value || std::is_same<T, char8_t>::value;
#else
template <typename T>
inline constexpr bool is_char = std::is_same<T, char>::value;
#endif

template <typename T>
inline constexpr bool is_text_pointer = std::is_same<T, const char *>::value || std::is_same<T, char *>::value;

// Whether a type is a contiguous range of bytes, but not an array of characters, because that is taken as a text.
template <typename Range, typename = void>
struct is_bytes : std::false_type {};
template <typename Range>
struct is_bytes<Range, std::void_t<decltype(std::size(std::declval<const Range &>())),
                                   decltype(*std::data(std::declval<const Range &>()))>>
    : std::bool_constant<is_byte<std::remove_reference_t<decltype(*std::data(std::declval<const Range &>()))>> &&
                         !std::is_convertible<const Range &, const char *>::value &&
                         !(std::is_array<Range>::value && is_char<std::remove_extent_t<Range>>)> {};

// Bytes to copy: of a text, or of any contiguous range of bytes.
class Bytes {
  public:
    // A text ends at its first zero, or at the end of its array. So an array of char that holds binary data is cut at
    // its first zero: pass a std::string_view. A pointer must not be null. These are templates: otherwise an array
    // or 0 would become a pointer.
    template <typename Text, std::enable_if_t<is_text_pointer<Text>, int> = 0>
    Bytes(const Text &text) noexcept // NOLINT(google-explicit-constructor)
        : data_(text), size_(std::strlen(text)) {}
    template <typename Char, std::size_t N, std::enable_if_t<is_char<Char>, int> = 0>
    Bytes(const Char (&text)[N]) noexcept // NOLINT(google-explicit-constructor)
        : data_(reinterpret_cast<const char *>(text)), size_(length_of(text)) {}
    template <typename Range, std::enable_if_t<is_bytes<Range>::value, int> = 0>
    Bytes(const Range &range) noexcept // NOLINT(google-explicit-constructor)
        : data_(reinterpret_cast<const char *>(std::data(range))), size_(std::size(range)) {}

    [[nodiscard]] std::size_t size() const noexcept { return size_; }
    void copy_to(std::uint8_t *place) const noexcept {
        std::char_traits<char>::move(reinterpret_cast<char *>(place), data_, size_); // may overlap
    }

  private:
    template <typename Char, std::size_t N>
    static std::size_t length_of(const Char (&text)[N]) noexcept {
        const void *zero = std::memchr(text, 0, N);
        return zero == nullptr ? N : static_cast<std::size_t>(static_cast<const Char *>(zero) - text);
    }

    const char *data_;
    std::size_t size_;
};

// Whether a type is Asio's or Boost's mutable_buffer, of which this header knows nothing.
template <typename T, typename = void>
struct is_mutable_buffer : std::false_type {};
template <typename T>
struct is_mutable_buffer<T, std::void_t<decltype(std::declval<const T &>().data())>>
    : std::conjunction<std::is_same<decltype(std::declval<const T &>().data()), void *>,
                       std::is_constructible<T, void *, std::size_t>> {};
} // namespace detail

class SharedBuffer;

// A buffer with one owner, put back by the destructor. Move-only; a moved-from one is empty and has no memory.
//
// Like any value it may move between threads, and one thread at a time may change it. It keeps its memory alive on its
// own: it may outlive every handle on its pool. Functions whose name starts with try_ do not throw. Those that throw
// are not there under -fno-exceptions.
class [[nodiscard]] PooledBuffer {
  public:
    using value_type = std::uint8_t;
    using size_type = std::size_t;
    using difference_type = std::ptrdiff_t;
    using reference = std::uint8_t &;
    using const_reference = const std::uint8_t &;
    using pointer = std::uint8_t *;
    using const_pointer = const std::uint8_t *;
    using iterator = std::uint8_t *;
    using const_iterator = const std::uint8_t *;

    // No memory, size and capacity 0.
    [[nodiscard]] constexpr PooledBuffer() noexcept : parts_(none()) {}
    PooledBuffer(const PooledBuffer &) = delete;
    PooledBuffer &operator=(const PooledBuffer &) = delete;
    PooledBuffer(PooledBuffer &&other) noexcept : parts_(std::exchange(other.parts_, none())) {}
    PooledBuffer &operator=(PooledBuffer &&other) noexcept {
        PooledBuffer taken(std::move(other));
        taken.swap(*this);
        return *this;
    }
    ~PooledBuffer() {
        if (parts_.data != nullptr) {
            detail::bytepool_cpp_put(parts_);
        }
    }

#ifdef BYTEPOOL_EXCEPTIONS
    // Gets a buffer of `size` bytes. They are what the last owner left, or zeros. Throws get_error.
    [[nodiscard]] PooledBuffer(const Pool &pool, std::size_t size,
                               const source_location where = source_location::current()) {
        if (!detail::bytepool_cpp_get(pool, size, parts_)) {
            get(pool, detail::request_of(size, where));
        }
    }

    // Gets a buffer with a copy of a text without its zero, of a std::string_view, of a std::span of bytes, or of
    // another contiguous range of bytes. A char array is a text, so binary data in one is cut at its first zero. Throws
    // get_error.
    [[nodiscard]] static PooledBuffer copy(const Pool &pool, const detail::Bytes &bytes,
                                           const source_location where = source_location::current()) {
        PooledBuffer buffer(pool, bytes.size(), where);
        bytes.copy_to(buffer.data());
        return buffer;
    }

    // Gets a buffer that starts at a multiple of `alignment` bytes, a power of two: from the smallest class that fits
    // and whose slots are all so aligned, else from the system allocator. Throws get_error.
    //
    //     auto block = PooledBuffer::aligned(*pool, 4096, 8192); // for O_DIRECT
    [[nodiscard]] static PooledBuffer aligned(const Pool &pool, std::size_t alignment, std::size_t size,
                                              const source_location where = source_location::current()) {
        PooledBuffer buffer;
        buffer.get(pool, aligned_request(alignment, size, where));
        return buffer;
    }

    // Gets a buffer as the constructor does. Where that fails at the limit, or others wait already, it waits for
    // memory, for at most `timeout`, a std::chrono::duration. nanoseconds::max() means no deadline. Zero or less does
    // not wait, and is over at once. Those who wait are served first come first served, and a plain get may overtake
    // them. The thread sleeps, so a buffer that it holds itself cannot serve it. Returns nullopt if there was no room
    // in time. Throws get_error for everything else: what could never fit the limit, a closed pool, a system without
    // memory.
    //
    //     if (auto buffer = PooledBuffer::get_timeout(*pool, 4096, std::chrono::milliseconds(10))) {
    //         use(buffer->data(), buffer->size());
    //     }
    template <typename Duration>
    [[nodiscard]] static std::optional<PooledBuffer>
    get_timeout(const Pool &pool, std::size_t size, const Duration &timeout,
                const source_location where = source_location::current()) {
        const detail::GetRequest request = timed_request(size, timeout, where);
        PooledBuffer buffer;
        if (buffer.is_got_fast(pool, request)) {
            return buffer;
        }
        switch (detail::get_at(pool, request, buffer.parts_)) {
        case BYTEPOOL_OK:
            return buffer;
        case BYTEPOOL_ERR_TIMEOUT:
            return std::nullopt;
        default:
            detail::throw_get_error();
        }
    }

    // Takes over a raw buffer that is outstanding from `pool`: got by C, or released. `size` is as for bytepool_put. It
    // becomes the size of the PooledBuffer, cut to the capacity. Throws rust::Error if it is no such buffer, or if the
    // rounding function panics; then it is still the caller's. The misuse is counted, unless `data` is NULL, and not
    // reported to the handler.
    //
    //     void *data = bytepool_get(context, 100); // C
    //     auto buffer = PooledBuffer::adopt(*pool, data, 100);
    [[nodiscard]] static PooledBuffer adopt(const Pool &pool, void *data, std::size_t size) {
        PooledBuffer buffer;
        buffer.parts_ = detail::adopt(pool, static_cast<std::uint8_t *>(data), size);
        return buffer;
    }
#endif

    // Gets a buffer as the constructor does. Returns nullopt on failure, and bytepool_last_error says why.
    [[nodiscard]] static std::optional<PooledBuffer>
    try_get(const Pool &pool, std::size_t size, const source_location where = source_location::current()) noexcept {
        bytepool_status why = BYTEPOOL_OK;
        return try_get(pool, size, why, where);
    }
    // Gets a buffer as the constructor does, and writes the status to `why`: BYTEPOOL_OK, BYTEPOOL_ERR_LIMIT, CLOSED,
    // OUT_OF_MEMORY or PANIC.
    [[nodiscard]] static std::optional<PooledBuffer>
    try_get(const Pool &pool, std::size_t size, bytepool_status &why,
            const source_location where = source_location::current()) noexcept {
        return tried(pool, detail::request_of(size, where), why);
    }
    // Gets a buffer as `copy` does, and writes the status to `why`: BYTEPOOL_OK, BYTEPOOL_ERR_LIMIT, CLOSED,
    // OUT_OF_MEMORY or PANIC.
    [[nodiscard]] static std::optional<PooledBuffer>
    try_copy(const Pool &pool, const detail::Bytes &bytes, bytepool_status &why,
             const source_location where = source_location::current()) noexcept {
        auto buffer = try_get(pool, bytes.size(), why, where);
        if (buffer) {
            bytes.copy_to(buffer->data());
        }
        return buffer;
    }
    // Gets a buffer as `aligned` does, and writes the status to `why`: BYTEPOOL_OK, BYTEPOOL_ERR_INVALID_ARGUMENT if
    // `alignment` is no power of two, LIMIT, CLOSED, OUT_OF_MEMORY or PANIC.
    [[nodiscard]] static std::optional<PooledBuffer>
    try_aligned(const Pool &pool, std::size_t alignment, std::size_t size, bytepool_status &why,
                const source_location where = source_location::current()) noexcept {
        return tried(pool, aligned_request(alignment, size, where), why);
    }
    // Gets a buffer as `get_timeout` does, and writes the status to `why`: BYTEPOOL_OK, BYTEPOOL_ERR_TIMEOUT if there
    // was no room in time, LIMIT for what could never fit, CLOSED, OUT_OF_MEMORY or PANIC.
    template <typename Duration>
    [[nodiscard]] static std::optional<PooledBuffer>
    try_get_timeout(const Pool &pool, std::size_t size, const Duration &timeout, bytepool_status &why,
                    const source_location where = source_location::current()) noexcept {
        return tried(pool, timed_request(size, timeout, where), why);
    }
    // Takes over a raw buffer as `adopt` does, and writes the status to `why`: BYTEPOOL_OK,
    // BYTEPOOL_ERR_FOREIGN_POINTER, DOUBLE_PUT, SIZE_MISMATCH, INVALID_ARGUMENT if `data` is NULL, or PANIC. On failure
    // it returns nullopt, and the buffer is still the caller's. The misuse is counted, unless `data` is NULL, and not
    // reported to the handler.
    //
    //     if (auto buffer = PooledBuffer::try_adopt(*pool, data, 100, why)) {
    //         use(buffer->data(), buffer->size());
    //     }
    [[nodiscard]] static std::optional<PooledBuffer> try_adopt(const Pool &pool, void *data, std::size_t size,
                                                               bytepool_status &why) noexcept {
        PooledBuffer buffer;
        why = detail::try_adopt(pool, static_cast<std::uint8_t *>(data), size, buffer.parts_);
        return why == BYTEPOOL_OK ? std::optional<PooledBuffer>(std::move(buffer)) : std::nullopt;
    }

    // Gives the raw pointer up, to be put by C or adopted again. Returns NULL if there is no memory; it never fails.
    // bytepool_put and adopt need the size: read it first, because it is 0 afterwards. bytepool_put_unsized needs none.
    //
    //     const std::size_t size = buffer.size();
    //     bytepool_put(context, buffer.release(), size);
    [[nodiscard]] std::uint8_t *release() noexcept {
        const detail::BufferParts parts = std::exchange(parts_, none());
        if (parts.data != nullptr) {
            detail::release(parts);
        }
        return parts.data;
    }

    // The same bytes with many holders, none of whom may change them: shared_buffer.hpp. Nothing is allocated.
    [[nodiscard]] SharedBuffer share() &&noexcept;

    // Puts the buffer back now; then there is no memory.
    void reset() noexcept {
        const detail::BufferParts parts = std::exchange(parts_, none());
        if (parts.data != nullptr) {
            detail::bytepool_cpp_put(parts);
        }
    }

    // The first byte. It is good until the buffer is put. NULL if there is no memory; a buffer of size 0 has some.
    [[nodiscard]] std::uint8_t *data() noexcept {
        return parts_.data;
    }
    [[nodiscard]] const std::uint8_t *data() const noexcept {
        return parts_.data;
    }
    // Bytes.
    [[nodiscard]] std::size_t size() const noexcept {
        return parts_.size;
    }
    // The most bytes that the buffer can have: its class's size, or an oversize buffer's own. For a guarded buffer,
    // and under a checker of memory, it is the size asked for. The environment variable BYTEPOOL_GUARD makes any pool
    // guard.
    [[nodiscard]] std::size_t capacity() const noexcept {
        return parts_.capacity;
    }
    // Whether the size is 0, with memory or without.
    [[nodiscard]] bool empty() const noexcept {
        return parts_.size == 0;
    }
    // Whether there is memory: false when default-made, moved from, reset or released.
    explicit operator bool() const noexcept {
        return parts_.data != nullptr;
    }

    [[nodiscard]] iterator begin() noexcept {
        return parts_.data;
    }
    [[nodiscard]] iterator end() noexcept {
        return parts_.data + parts_.size;
    }
    [[nodiscard]] const_iterator begin() const noexcept {
        return parts_.data;
    }
    [[nodiscard]] const_iterator end() const noexcept {
        return parts_.data + parts_.size;
    }
    // operator[], front and back do not check. front and back need a buffer that is not empty.
    [[nodiscard]] std::uint8_t &operator[](std::size_t index) noexcept {
        return parts_.data[index];
    }
    [[nodiscard]] const std::uint8_t &operator[](std::size_t index) const noexcept {
        return parts_.data[index];
    }
    [[nodiscard]] std::uint8_t &front() noexcept {
        return parts_.data[0];
    }
    [[nodiscard]] const std::uint8_t &front() const noexcept {
        return parts_.data[0];
    }
    [[nodiscard]] std::uint8_t &back() noexcept {
        return parts_.data[parts_.size - 1];
    }
    [[nodiscard]] const std::uint8_t &back() const noexcept {
        return parts_.data[parts_.size - 1];
    }
#ifdef BYTEPOOL_EXCEPTIONS
    // Throws std::out_of_range if there is no such byte.
    [[nodiscard]] std::uint8_t &at(std::size_t index) {
        return parts_.data[checked(index)];
    }
    [[nodiscard]] const std::uint8_t &at(std::size_t index) const {
        return parts_.data[checked(index)];
    }
#endif

#ifdef __cpp_lib_span
    [[nodiscard]] std::span<std::uint8_t> span() noexcept {
        return {parts_.data, parts_.size};
    }
    [[nodiscard]] std::span<const std::uint8_t> span() const noexcept {
        return {parts_.data, parts_.size};
    }
    // The bytes as std::byte.
    [[nodiscard]] std::span<std::byte> bytes() noexcept {
        return std::as_writable_bytes(span());
    }
    [[nodiscard]] std::span<const std::byte> bytes() const noexcept {
        return std::as_bytes(span());
    }
#endif
    // The bytes as a text, good as long as the buffer is not put.
    [[nodiscard]] std::string_view string_view() const noexcept {
        return {reinterpret_cast<const char *>(parts_.data), parts_.size};
    }
    // Converts to the mutable_buffer of Asio and of Boost, wherever one is taken: `asio::buffer(buffer)`. For a const
    // buffer write `asio::buffer(buffer.string_view())`; Asio 1.28 and later take it as it is. A temporary does not
    // convert, because it would put the memory before it is used. Do not pass a temporary to a function of Asio that
    // takes containers, either: it compiles, and dangles.
    template <typename Buffer, std::enable_if_t<detail::is_mutable_buffer<Buffer>::value, int> = 0>
    operator Buffer() &noexcept { // NOLINT(google-explicit-constructor)
        return Buffer(static_cast<void *>(parts_.data), parts_.size);
    }
    template <typename Buffer, std::enable_if_t<detail::is_mutable_buffer<Buffer>::value, int> = 0>
    operator Buffer() && = delete;

    // Makes the size 0. The memory stays.
    void clear() noexcept {
        parts_.size = 0;
    }
    // Changes the size. New bytes are what an earlier owner left, or zeros. Returns `false`, and changes nothing, above
    // the capacity.
    [[nodiscard]] bool try_resize(std::size_t size) noexcept {
        const bool fits = size <= parts_.capacity;
        parts_.size = fits ? size : parts_.size;
        return fits;
    }
    // Adds a copy of these bytes at the end. They are given as to `copy`, and may be bytes of this buffer. Returns
    // `false`, and changes nothing, if they do not fit the capacity.
    [[nodiscard]] bool try_append(const detail::Bytes &bytes) noexcept {
        const bool fits = bytes.size() <= parts_.capacity - parts_.size;
        if (fits) {
            bytes.copy_to(parts_.data + parts_.size);
            parts_.size += bytes.size();
        }
        return fits;
    }
#ifdef BYTEPOOL_EXCEPTIONS
    // Changes the size as try_resize does. Throws std::length_error above the capacity.
    void resize(std::size_t size) {
        if (!try_resize(size)) {
            detail::throw_length_error(size, parts_.capacity);
        }
    }
    // Adds bytes as try_append does. Throws std::length_error above the capacity.
    void append(const detail::Bytes &bytes) {
        if (!try_append(bytes)) {
            detail::throw_length_error(parts_.size + bytes.size(), parts_.capacity);
        }
    }
#endif

    void swap(PooledBuffer &other) noexcept {
        std::swap(parts_, other.parts_);
    }

    // Whether both have the same bytes.
    [[nodiscard]] friend bool operator==(const PooledBuffer &a, const PooledBuffer &b) noexcept {
        return a.string_view() == b.string_view();
    }
    [[nodiscard]] friend bool operator!=(const PooledBuffer &a, const PooledBuffer &b) noexcept {
        return !(a == b);
    }

  private:
    friend SharedBuffer;

    explicit PooledBuffer(const detail::BufferParts &parts) noexcept : parts_(parts) {}

    static constexpr detail::BufferParts none() noexcept {
        return {nullptr, 0, 0, nullptr, 0};
    }

    static detail::GetRequest aligned_request(std::size_t alignment, std::size_t size,
                                              const source_location &where) noexcept {
        detail::GetRequest request = detail::request_of(size, where);
        request.alignment = alignment;
        return request;
    }
    template <typename Duration>
    static detail::GetRequest timed_request(std::size_t size, const Duration &timeout,
                                            const source_location &where) noexcept {
        detail::GetRequest request = detail::request_of(size, where);
        request.timeout_ns = detail::nanoseconds_of(timeout);
        request.is_timed = true;
        return request;
    }

    // Whether the thread's cache had it.
    [[nodiscard]] bool is_got_fast(const Pool &pool, const detail::GetRequest &request) noexcept {
        return request.alignment == 1 && detail::bytepool_cpp_get(pool, request.size, parts_);
    }
    static std::optional<PooledBuffer> tried(const Pool &pool, const detail::GetRequest &request,
                                             bytepool_status &why) noexcept {
        PooledBuffer buffer;
        why = buffer.is_got_fast(pool, request) ? BYTEPOOL_OK : detail::get_at(pool, request, buffer.parts_);
        return why == BYTEPOOL_OK ? std::optional(std::move(buffer)) : std::nullopt;
    }

#ifdef BYTEPOOL_EXCEPTIONS
    void get(const Pool &pool, const detail::GetRequest &request) {
        if (detail::get_at(pool, request, parts_) != BYTEPOOL_OK) {
            detail::throw_get_error();
        }
    }

    [[nodiscard]] std::size_t checked(std::size_t index) const {
        if (index >= parts_.size) {
            detail::throw_out_of_range(index, parts_.size);
        }
        return index;
    }
#endif

    // In a union, so that the constructor that gets a buffer does not write zeros first.
    union {
        detail::BufferParts parts_;
    };
};

inline void swap(PooledBuffer &a, PooledBuffer &b) noexcept {
    a.swap(b);
}

} // namespace bytepool

#endif
