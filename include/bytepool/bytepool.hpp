// bytepool for C++: pools by rust::Box, buffers by RAII, and a std::pmr::memory_resource. C++17; std::span from C++20
// on.
//
//     auto pool = bytepool::new_pool({{512, 1000}, {4096, 1000}});
//     bytepool::PooledBuffer buffer(*pool, 100);
//     std::memcpy(buffer.data(), "hello", 5);
//     // put back at the end of the scope, on whatever thread
//
// Threads   Every function of Pool, Context and memory_resource may be called from any thread at any time. A
//           PooledBuffer is like any value: it may move between threads, and one thread at a time may change it.
// Errors    What fails throws rust::Error with a text that names limit and value, unless it says otherwise. Destructors
//           and moves never throw. So this header needs exceptions; -fno-rtti will do.
// Memory    A PooledBuffer keeps its memory alive on its own: it may outlive every handle on its pool.
#ifndef BYTEPOOL_BYTEPOOL_HPP
#define BYTEPOOL_BYTEPOOL_HPP

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <memory_resource>
#include <new>
#include <optional>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#if __cplusplus >= 202002L && __has_include(<span>)
#include <span>
#endif
#if __cplusplus >= 202002L && __has_include(<source_location>)
#include <source_location>
#endif

#include "bytepool/bytepool.h"
#include "bytepool/private/cxx.h"

#include "bytepool/private/bridge.h"

namespace bytepool {

// Up to `capacity` buffers of `buffer_size` bytes are kept.
using SizeClass = ::bytepool_size_class;
// A pool's figures; bytepool.h explains each.
using Stats = ::bytepool_stats;
// One class's figures.
using ClassStats = ::bytepool_class_stats;
// A part of a pinned pool's memory.
using PinnedRegion = ::bytepool_region;

// A tracked buffer that is outstanding; bytepool_outstanding explains each field.
using Outstanding = ::bytepool_outstanding;

// Where a get is called: remembered by pools that track. The standard's from C++20 on.
#ifdef __cpp_lib_source_location
using source_location = std::source_location;
#else
struct source_location {
#ifdef __GNUC__
    [[nodiscard]] static constexpr source_location current(const char *file = __builtin_FILE(),
                                                           std::uint_least32_t line = __builtin_LINE()) noexcept {
#else
    [[nodiscard]] static constexpr source_location current(const char *file = nullptr,
                                                           std::uint_least32_t line = 0) noexcept {
#endif
        source_location here;
        here.file_ = file;
        here.line_ = line;
        return here;
    }
    [[nodiscard]] constexpr const char *file_name() const noexcept {
        return file_;
    }
    [[nodiscard]] constexpr std::uint_least32_t line() const noexcept {
        return line_;
    }
    // 0: unknown.
    [[nodiscard]] constexpr std::uint_least32_t column() const noexcept {
        return 0;
    }

  private:
    const char *file_ = nullptr;
    std::uint_least32_t line_ = 0;
};
#endif

// What a pool is built from; bytepool_config explains each field.
struct PoolConfig {
    std::vector<SizeClass> size_classes{};
    std::size_t alignment = 0;
    std::size_t max_bytes = 0;
    std::size_t (*round)(std::size_t) = nullptr;
    bool zero_on_get = false;
    bool zero_on_put = false;
    bool thread_cache = true;
    bool huge_pages = false;
    std::uint32_t track_every = 0;
    std::uint32_t guard_every = 0;
    bool pinned = false;
    bool coloring = false;
};

namespace detail {
// Throws std::runtime_error if the loaded library is of another major version than this header, or of an earlier minor
// one: the inline code here would not fit it.
inline void check_version() {
    static const bool fits = bytepool_version() / 1000000 == BYTEPOOL_VERSION_MAJOR &&
                             bytepool_version() / 1000 % 1000 >= BYTEPOOL_VERSION_MINOR;
    if (!fits) {
        throw std::runtime_error("bytepool: the header is of version " BYTEPOOL_VERSION_STRING
                                 ", the library of version number " +
                                 std::to_string(bytepool_version()));
    }
}
} // namespace detail

// A pool; the Box is one handle on it, and pool->clone() makes another. The last handle's end closes the pool. Throws
// rust::Error.
[[nodiscard]] inline rust::Box<Pool> new_pool(const PoolConfig &config) {
    detail::check_version();
    bytepool_config c = BYTEPOOL_CONFIG_INIT;
    c.size_classes = config.size_classes.data();
    c.size_class_count = config.size_classes.size();
    c.alignment = config.alignment;
    c.max_bytes = config.max_bytes;
    c.round = config.round;
    c.flags = (config.zero_on_get ? std::uint32_t{BYTEPOOL_ZERO_ON_GET} : 0u) |
              (config.zero_on_put ? std::uint32_t{BYTEPOOL_ZERO_ON_PUT} : 0u) |
              (config.thread_cache ? 0u : std::uint32_t{BYTEPOOL_NO_THREAD_CACHE}) |
              (config.huge_pages ? std::uint32_t{BYTEPOOL_HUGE_PAGES} : 0u) |
              (config.pinned ? std::uint32_t{BYTEPOOL_PINNED} : 0u) |
              (config.coloring ? std::uint32_t{BYTEPOOL_COLORING} : 0u);
    c.track_every = config.track_every;
    c.guard_every = config.guard_every;
    return detail::new_pool_of_config(c);
}

// The same of these classes, all else by default. Throws rust::Error.
[[nodiscard]] inline rust::Box<Pool> new_pool(rust::Slice<const SizeClass> size_classes) {
    detail::check_version();
    return detail::new_pool_of_classes(size_classes);
}

// The same with the classes written out. Throws rust::Error.
[[nodiscard]] inline rust::Box<Pool> new_pool(std::initializer_list<SizeClass> size_classes) {
    return new_pool(rust::Slice<const SizeClass>(size_classes.begin(), size_classes.size()));
}

// Classes for those who do not know which sizes they will ask for, as bytepool_general_classes. Throws
// std::invalid_argument where there are none, and std::bad_alloc.
[[nodiscard]] inline std::vector<SizeClass> general_classes(std::size_t smallest, std::size_t largest) {
    std::vector<SizeClass> classes(bytepool_general_classes(nullptr, 0, smallest, largest));
    if (classes.empty()) {
        throw std::invalid_argument("bytepool: no general-purpose classes for sizes from " + std::to_string(smallest) +
                                    " to " + std::to_string(largest) + " bytes");
    }
    bytepool_general_classes(classes.data(), classes.size(), smallest, largest);
    return classes;
}

// The memory of a pool that was made `pinned`, all slots of all classes, in pieces of at most 1 GiB; none of any other pool.
[[nodiscard]] inline std::vector<PinnedRegion> pinned_regions(const Pool &pool) {
    std::vector<PinnedRegion> regions(pool.pinned_regions(rust::Slice<PinnedRegion>()));
    pool.pinned_regions(rust::Slice<PinnedRegion>(regions.data(), regions.size()));
    return regions;
}

// A handle on the pool of a context from C. Throws rust::Error if the context is not a live one.
[[nodiscard]] inline rust::Box<Pool> pool_of_context(void *context) {
    detail::check_version();
    return detail::pool_of_context(static_cast<std::uint8_t *>(context));
}

// A context for C: another handle on the pool, freed by the destructor. Move-only.
class [[nodiscard]] Context {
  public:
    // Throws rust::Error if the pool has its limit of live contexts.
    [[nodiscard]] explicit Context(const Pool &pool) : context_(detail::context_of_pool(pool)) {}
    Context(const Context &) = delete;
    Context &operator=(const Context &) = delete;
    Context(Context &&other) noexcept : context_(other.release()) {}
    Context &operator=(Context &&other) noexcept {
        Context(std::move(other)).swap(*this);
        return *this;
    }
    ~Context() {
        if (context_ != nullptr) {
            bytepool_free(context_);
        }
    }

    // The `void *context` of the C functions; NULL once moved from or released.
    [[nodiscard]] void *get() const noexcept { return context_; }
    // Gives it up, to be freed by bytepool_free.
    [[nodiscard]] void *release() noexcept { return std::exchange(context_, nullptr); }
    void swap(Context &other) noexcept { std::swap(context_, other.context_); }

  private:
    void *context_;
};

namespace detail {
// A bytepool_outstanding_handler for a vector. What there is no memory for is missing from it.
inline void collect_outstanding(const Outstanding *buffer, void *all) noexcept {
    try {
        static_cast<std::vector<Outstanding> *>(all)->push_back(*buffer);
    } catch (const std::bad_alloc &) {
    }
}
} // namespace detail

// The tracked buffers that are outstanding, the oldest first; none if the pool does not track. Throws rust::Error as
// Context, and std::bad_alloc.
[[nodiscard]] inline std::vector<Outstanding> dump_outstanding(const Pool &pool) {
    std::vector<Outstanding> all;
    const Context context(pool);
    if (bytepool_dump_outstanding(context.get(), detail::collect_outstanding, &all) != all.size()) {
        throw std::bad_alloc();
    }
    return all;
}

namespace detail {
// The fast paths of PooledBuffer, past the bridge.
extern "C" bool bytepool_cpp_get(const Pool &pool, std::size_t size, BufferParts &parts) noexcept;
extern "C" void bytepool_cpp_put(const BufferParts &parts) noexcept;

[[noreturn]] void throw_length_error(std::size_t size, std::size_t capacity);
} // namespace detail

// A buffer with one owner, put back by the destructor. Move-only; a moved-from one is empty and has no memory.
class [[nodiscard]] PooledBuffer {
  public:
    using value_type = std::uint8_t;
    using iterator = std::uint8_t *;
    using const_iterator = const std::uint8_t *;

    // No memory, size and capacity 0.
    [[nodiscard]] PooledBuffer() noexcept = default;
    // A buffer of `size` bytes, holding what it held last, or zeros. Throws rust::Error.
    [[nodiscard]] PooledBuffer(const Pool &pool, std::size_t size,
                               const source_location where = source_location::current())
        : parts_(got(pool, size, where)) {}
    PooledBuffer(const PooledBuffer &) = delete;
    PooledBuffer &operator=(const PooledBuffer &) = delete;
    PooledBuffer(PooledBuffer &&other) noexcept : parts_(std::exchange(other.parts_, none())) {}
    PooledBuffer &operator=(PooledBuffer &&other) noexcept {
        PooledBuffer(std::move(other)).swap(*this);
        return *this;
    }
    ~PooledBuffer() {
        if (parts_.data != nullptr) {
            detail::bytepool_cpp_put(parts_);
        }
    }

    // As the constructor, without exceptions: nullopt on failure.
    [[nodiscard]] static std::optional<PooledBuffer>
    try_get(const Pool &pool, std::size_t size, const source_location where = source_location::current()) noexcept {
        PooledBuffer buffer;
        if (!detail::bytepool_cpp_get(pool, size, buffer.parts_) &&
            !detail::try_get_at(pool, size, where.file_name(), where.line(), where.column(), buffer.parts_)) {
            return std::nullopt;
        }
        return buffer;
    }

    // A buffer that starts at a multiple of `alignment` bytes, a power of two: from the smallest class that fits and whose
    // slots are all so aligned, else from the system allocator. Throws rust::Error.
    [[nodiscard]] static PooledBuffer aligned(const Pool &pool, std::size_t alignment, std::size_t size,
                                              const source_location where = source_location::current()) {
        PooledBuffer buffer;
        buffer.parts_ = detail::get_aligned_at(pool, alignment, size, where.file_name(), where.line(), where.column());
        return buffer;
    }

    // As the constructor, but where that fails at the limit, waits until memory is put or given back, up to `timeout`,
    // as bytepool_get_timeout; nanoseconds::max() means without end, and 0 or less does not wait. nullopt if there was
    // no room in time. Throws rust::Error for everything else: what could never fit the limit, a closed pool, a system
    // without memory.
    [[nodiscard]] static std::optional<PooledBuffer>
    get_timeout(const Pool &pool, std::size_t size, std::chrono::nanoseconds timeout,
                const source_location where = source_location::current()) {
        const std::uint64_t timeout_ns = timeout == std::chrono::nanoseconds::max() ? UINT64_MAX
                                         : timeout.count() < 0                      ? 0
                                                               : static_cast<std::uint64_t>(timeout.count());
        PooledBuffer buffer;
        if (!detail::bytepool_cpp_get(pool, size, buffer.parts_) &&
            !detail::get_timeout_at(pool, size, timeout_ns, where.file_name(), where.line(), where.column(),
                                    buffer.parts_)) {
            return std::nullopt;
        }
        return buffer;
    }

    // Takes over a raw buffer that is outstanding from `pool`: got by C, or released. `size` is as for bytepool_put,
    // and becomes the size (at most the capacity, which in a pool that guards or under a checker is the size asked for).
    // Throws rust::Error if it is no such buffer; then it is still the caller's.
    [[nodiscard]] static PooledBuffer adopt(const Pool &pool, void *data, std::size_t size) {
        PooledBuffer buffer;
        buffer.parts_ = detail::adopt(pool, static_cast<std::uint8_t *>(data), size);
        return buffer;
    }

    // Gives the raw pointer up, to be put by bytepool_put with the size it has now, or adopted again. NULL if there
    // is no memory.
    [[nodiscard]] std::uint8_t *release() noexcept {
        const detail::BufferParts parts = std::exchange(parts_, none());
        if (parts.data != nullptr) {
            detail::release(parts);
        }
        return parts.data;
    }

    // Puts the buffer back now; then there is no memory.
    void reset() noexcept {
        const detail::BufferParts parts = std::exchange(parts_, none());
        if (parts.data != nullptr) {
            detail::bytepool_cpp_put(parts);
        }
    }

    [[nodiscard]] std::uint8_t *data() noexcept { return parts_.data; }
    [[nodiscard]] const std::uint8_t *data() const noexcept { return parts_.data; }
    // Bytes.
    [[nodiscard]] std::size_t size() const noexcept { return parts_.size; }
    // The most bytes the buffer can have: its class's size; where the pool guards (by environment, too) or a checker of
    // memory watches, the size asked for.
    [[nodiscard]] std::size_t capacity() const noexcept { return parts_.capacity; }
    // Whether the size is 0.
    [[nodiscard]] bool empty() const noexcept { return parts_.size == 0; }
    // Whether there is memory: false when default-made, moved from, reset or released.
    explicit operator bool() const noexcept { return parts_.data != nullptr; }

    [[nodiscard]] iterator begin() noexcept { return parts_.data; }
    [[nodiscard]] iterator end() noexcept { return parts_.data + parts_.size; }
    [[nodiscard]] const_iterator begin() const noexcept { return parts_.data; }
    [[nodiscard]] const_iterator end() const noexcept { return parts_.data + parts_.size; }
    // Unchecked, as std::vector's.
    [[nodiscard]] std::uint8_t &operator[](std::size_t index) noexcept { return parts_.data[index]; }
    [[nodiscard]] const std::uint8_t &operator[](std::size_t index) const noexcept { return parts_.data[index]; }

#ifdef __cpp_lib_span
    [[nodiscard]] std::span<std::uint8_t> span() noexcept {
        return {parts_.data, parts_.size};
    }
    [[nodiscard]] std::span<const std::uint8_t> span() const noexcept {
        return {parts_.data, parts_.size};
    }
#endif

    // Changes the size; bytes that appear hold whatever was there. Throws std::length_error above the capacity.
    void resize(std::size_t size) {
        if (size > parts_.capacity) {
            detail::throw_length_error(size, parts_.capacity);
        }
        parts_.size = size;
    }

    void swap(PooledBuffer &other) noexcept {
        std::swap(parts_, other.parts_);
    }

  private:
    static detail::BufferParts none() noexcept {
        return {nullptr, 0, 0, nullptr, 0, 0};
    }

    static detail::BufferParts got(const Pool &pool, std::size_t size, const source_location where) {
        detail::BufferParts parts; // written whole by what follows
        if (!detail::bytepool_cpp_get(pool, size, parts)) {
            parts = detail::get_at(pool, size, where.file_name(), where.line(), where.column());
        }
        return parts;
    }

    detail::BufferParts parts_ = none();
};

inline void swap(PooledBuffer &a, PooledBuffer &b) noexcept {
    a.swap(b);
}
inline void swap(Context &a, Context &b) noexcept {
    a.swap(b);
}

// Puts std::pmr containers into a pool. It is a handle on the pool, and must outlive what was allocated through it,
// as any memory_resource. Above the pool's alignment an allocation comes from a class whose slots are so aligned, else from
// the system allocator. Failure throws std::bad_alloc.
class memory_resource final : public std::pmr::memory_resource {
  public:
    explicit memory_resource(const Pool &pool);
    ~memory_resource() override;
    memory_resource(const memory_resource &) = delete;
    memory_resource &operator=(const memory_resource &) = delete;

  private:
    void *do_allocate(std::size_t bytes, std::size_t alignment) override;
    void do_deallocate(void *data, std::size_t bytes, std::size_t alignment) override;
    [[nodiscard]] bool do_is_equal(const std::pmr::memory_resource &other) const noexcept override;

    rust::Box<Pool> pool_;
};

} // namespace bytepool

#endif
