// SharedBuffer: a buffer with many holders, put back by the last.
//
//     bytepool::SharedBuffer message = std::move(buffer).share();
//     queue.push(message);                                             // another holder, on whatever thread
//     std::function<void()> later = [body = message.slice(4, 10)] { ... };
#ifndef BYTEPOOL_SHARED_BUFFER_HPP
#define BYTEPOOL_SHARED_BUFFER_HPP

#include "bytepool/pooled_buffer.hpp"

namespace bytepool {

namespace detail {
extern "C" void bytepool_cpp_share(const BufferParts &parts) noexcept;
extern "C" bool bytepool_cpp_add_share(const BufferParts &parts) noexcept;
extern "C" void bytepool_cpp_release_share(const BufferParts &parts) noexcept;
extern "C" bool bytepool_cpp_unshare(const BufferParts &parts) noexcept;

// The copy constructor must be there under -fno-exceptions, too. An exception that no caller can catch ends the
// program.
[[noreturn]] void throw_too_many_shares();
[[noreturn]] void throw_bad_slice(std::size_t offset, std::size_t size, std::size_t whole);

// Whether a type is Asio's or Boost's const_buffer.
template <typename T, typename = void>
struct is_const_buffer : std::false_type {};
template <typename T>
struct is_const_buffer<T, std::void_t<decltype(std::declval<const T &>().data())>>
    : std::conjunction<std::is_same<decltype(std::declval<const T &>().data()), const void *>,
                       std::is_constructible<T, const void *, std::size_t>> {};
} // namespace detail

// A buffer, or a part of it, with many holders. A copy or a slice is another holder of the same bytes, which nobody may
// change; it copies none, and allocates nothing. A copy and its end take about as long as a get and a put; of a buffer
// that is no slot each takes a lock. The last holder's end puts the buffer, on whatever thread. It counts as
// outstanding, once, as long as anything of it is held. A small slice keeps the whole buffer. PooledBuffer::copy(pool,
// slice) makes a small one of its own.
//
// Like any value it may move between threads, and one thread at a time may change it; its copies are independent. It
// keeps its memory alive on its own. A moved-from one is empty and has no memory.
//
// Under -fno-exceptions use try_share and try_slice: a copy or a slice that fails there ends the program.
class [[nodiscard]] SharedBuffer {
  public:
    using value_type = std::uint8_t;
    using size_type = std::size_t;
    using difference_type = std::ptrdiff_t;
    using reference = const std::uint8_t &;
    using const_reference = const std::uint8_t &;
    using pointer = const std::uint8_t *;
    using const_pointer = const std::uint8_t *;
    using iterator = const std::uint8_t *;
    using const_iterator = const std::uint8_t *;

    // No memory, size 0.
    [[nodiscard]] constexpr SharedBuffer() noexcept = default;
    // The first holder. `buffer` has no memory afterwards. If it had none before, this holder has none.
    [[nodiscard]] explicit SharedBuffer(PooledBuffer &&buffer) noexcept
        : parts_(std::exchange(buffer.parts_, PooledBuffer::none())), data_(parts_.data) {
        if (parts_.data != nullptr) {
            detail::bytepool_cpp_share(parts_);
        }
    }
    // Another holder. Throws std::length_error if there are 2^31 already; try_share does not throw.
    SharedBuffer(const SharedBuffer &other) : parts_(other.parts_), data_(other.data_) {
        if (parts_.data != nullptr && !detail::bytepool_cpp_add_share(parts_)) {
            detail::throw_too_many_shares();
        }
    }
    SharedBuffer(SharedBuffer &&other) noexcept
        : parts_(std::exchange(other.parts_, PooledBuffer::none())), data_(std::exchange(other.data_, nullptr)) {}
    // Assigns by copy or by move. A copy can throw what the copy constructor throws.
    SharedBuffer &operator=(SharedBuffer other) noexcept {
        swap(other);
        return *this;
    }
    ~SharedBuffer() {
        if (parts_.data != nullptr) {
            detail::bytepool_cpp_release_share(parts_);
        }
    }

    // Another holder, without exceptions: nullopt if there are 2^31 already.
    [[nodiscard]] std::optional<SharedBuffer> try_share() const noexcept {
        if (parts_.data != nullptr && !detail::bytepool_cpp_add_share(parts_)) {
            return std::nullopt;
        }
        return SharedBuffer(parts_, data_);
    }
    // Another holder, of `size` bytes from `offset` on. Returns nullopt if there are not so many bytes, or if there are
    // 2^31 holders already.
    [[nodiscard]] std::optional<SharedBuffer> try_slice(std::size_t offset, std::size_t size) const noexcept {
        if (!has(offset, size)) {
            return std::nullopt;
        }
        auto slice = try_share();
        if (slice) {
            slice->narrow(offset, size);
        }
        return slice;
    }
    // Another holder, of `size` bytes from `offset` on. Throws std::out_of_range if there are not so many bytes, and
    // what the copy constructor throws.
    [[nodiscard]] SharedBuffer slice(std::size_t offset, std::size_t size) const & {
        return SharedBuffer(*this).slice(offset, size);
    }
    // The same of a holder that is given up. If it throws, the holder is as it was.
    [[nodiscard]] SharedBuffer slice(std::size_t offset, std::size_t size) && {
        if (!has(offset, size)) {
            detail::throw_bad_slice(offset, size, parts_.size);
        }
        SharedBuffer slice(std::move(*this));
        slice.narrow(offset, size);
        return slice;
    }

    // Returns the buffer for writing if this is its only holder and starts at its first byte. The buffer's size is this
    // holder's, with all of its capacity. This holder then has no memory. Else returns nullopt, and this holder keeps
    // its share.
    [[nodiscard]] std::optional<PooledBuffer> try_into_buffer() &&noexcept {
        if (parts_.data == nullptr || data_ != parts_.data || !detail::bytepool_cpp_unshare(parts_)) {
            return std::nullopt;
        }
        data_ = nullptr;
        return PooledBuffer(std::exchange(parts_, PooledBuffer::none()));
    }

    // Gives this holder up; then there is no memory.
    void reset() noexcept { SharedBuffer().swap(*this); }

    // The first byte. It is good while this holder lasts. NULL if there is no memory.
    [[nodiscard]] const std::uint8_t *data() const noexcept { return data_; }
    // Bytes.
    [[nodiscard]] std::size_t size() const noexcept { return parts_.size; }
    // Whether the size is 0.
    [[nodiscard]] bool empty() const noexcept { return parts_.size == 0; }
    // Whether there is memory: false when default-made, moved from or reset.
    explicit operator bool() const noexcept { return parts_.data != nullptr; }

    [[nodiscard]] const_iterator begin() const noexcept { return data_; }
    [[nodiscard]] const_iterator end() const noexcept { return data_ + parts_.size; }
    // operator[], front and back do not check. front and back need a buffer that is not empty.
    [[nodiscard]] const std::uint8_t &operator[](std::size_t index) const noexcept { return data_[index]; }
    [[nodiscard]] const std::uint8_t &front() const noexcept { return data_[0]; }
    [[nodiscard]] const std::uint8_t &back() const noexcept { return data_[parts_.size - 1]; }
#ifdef BYTEPOOL_EXCEPTIONS
    // Throws std::out_of_range if there is no such byte.
    [[nodiscard]] const std::uint8_t &at(std::size_t index) const {
        if (index >= parts_.size) {
            detail::throw_out_of_range(index, parts_.size);
        }
        return data_[index];
    }
#endif

#ifdef __cpp_lib_span
    [[nodiscard]] std::span<const std::uint8_t> span() const noexcept {
        return {data_, parts_.size};
    }
    // The bytes as std::byte.
    [[nodiscard]] std::span<const std::byte> bytes() const noexcept {
        return std::as_bytes(span());
    }
#endif
    // The bytes as a text, good as long as this holder has them.
    [[nodiscard]] std::string_view string_view() const noexcept {
        return {reinterpret_cast<const char *>(data_), parts_.size};
    }
    // Converts to asio::const_buffer or Boost's: `asio::buffer(shared)`, and wherever one is taken. A temporary does
    // not convert: it may be the last holder.
    template <typename Buffer, std::enable_if_t<detail::is_const_buffer<Buffer>::value, int> = 0>
    operator Buffer() const &noexcept { // NOLINT(google-explicit-constructor)
        return Buffer(static_cast<const void *>(data_), parts_.size);
    }
    template <typename Buffer, std::enable_if_t<detail::is_const_buffer<Buffer>::value, int> = 0>
    operator Buffer() const && = delete;

    void swap(SharedBuffer &other) noexcept {
        std::swap(parts_, other.parts_);
        std::swap(data_, other.data_);
    }

    // Whether both have the same bytes.
    [[nodiscard]] friend bool operator==(const SharedBuffer &a, const SharedBuffer &b) noexcept {
        return a.string_view() == b.string_view();
    }
    [[nodiscard]] friend bool operator!=(const SharedBuffer &a, const SharedBuffer &b) noexcept {
        return !(a == b);
    }

  private:
    // Takes a share over that was counted.
    SharedBuffer(const detail::BufferParts &parts, const std::uint8_t *data) noexcept : parts_(parts), data_(data) {}

    [[nodiscard]] bool has(std::size_t offset, std::size_t size) const noexcept {
        return offset <= parts_.size && size <= parts_.size - offset;
    }
    void narrow(std::size_t offset, std::size_t size) noexcept {
        data_ += offset;
        parts_.size = size;
    }

    // `data` is where the buffer starts, and `size` that of these bytes.
    detail::BufferParts parts_ = PooledBuffer::none();
    const std::uint8_t *data_ = nullptr;
};

inline SharedBuffer PooledBuffer::share() &&noexcept {
    return SharedBuffer(std::move(*this));
}

inline void swap(SharedBuffer &a, SharedBuffer &b) noexcept {
    a.swap(b);
}

} // namespace bytepool

#endif
