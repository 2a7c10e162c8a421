// bytepool for C++17 and later: pools, buffers by RAII, and memory for the standard library's containers.
//
//     here                    Pool, new_pool, PoolConfig, Stats
//     pooled_buffer.hpp       PooledBuffer: a buffer with one owner
//     shared_buffer.hpp       SharedBuffer: a buffer with many holders
//     allocator.hpp           allocator<T>: for std::vector<T, allocator<T>> and its like
//     memory_resource.hpp     memory_resource: for std::pmr containers
//     context.hpp             Context: the pool for C
//     error.hpp               get_error
//
// This header includes the others.
//
//     auto pool = bytepool::new_pool({{512, 1000}, {4096, 1000}});
//     bytepool::PooledBuffer buffer(*pool, 100);
//     std::memcpy(buffer.data(), "hello", 5);
//     // put back at the end of the scope, on whatever thread
//
// Threads   Any thread may call the free functions and the const functions of Pool, and allocate from a memory_resource
//           or an allocator, at any time. A Context may be read by any thread, but not while one moves, resets,
//           releases or destroys it. A PooledBuffer or a SharedBuffer is like any value: it may move between threads,
//           and one thread at a time may change it.
// Errors    A get that fails throws get_error, which is a std::bad_alloc and has a status. Its text names the limit and
//           the value where there are any. Other functions throw:
//
//           rust::Error, with a text    new_pool, pool_of_context, the members of Pool, PooledBuffer::adopt, and the
//           and no status               constructors of Context and memory_resource
//           std::runtime_error          new_pool, pool_of_context: this header does not fit the library
//           std::invalid_argument       general_classes
//           std::length_error           resize and append above the capacity; a copy of a SharedBuffer at 2^31 holders
//           std::out_of_range           at and slice
//           std::bad_array_new_length   allocator, if the bytes overflow
//           std::bad_alloc              general_classes, pinned_regions and dump_outstanding
//
//           Destructors and moves never throw. Functions whose name starts with try_ do not throw. Those that take a
//           `bytepool_status &why` say there why they failed. The others return false or nullopt, and a get sets
//           bytepool_last_error. Under -fno-exceptions the functions that throw are left out. The members of Pool,
//           pinned_regions, and copies and slices of a SharedBuffer stay; there they end the program if they fail. The
//           headers also work with -fno-rtti.
// cxx       rust::Box<Pool> owns one handle, like a std::unique_ptr. It is null only after a move. It is moved, not
//           copied; `pool->clone()` makes another. A class may hold a std::optional of it until there is a pool.
//           rust::Error is a std::exception. rust::Slice is a pointer and a length, like std::span.
// Memory    A PooledBuffer keeps its memory alive on its own: it may outlive every handle on its pool. A `const Pool &`
//           is used only during the call that takes it. A rust::Error takes memory for its text; without that the
//           process ends. get_error takes none.
#ifndef BYTEPOOL_BYTEPOOL_HPP
#define BYTEPOOL_BYTEPOOL_HPP

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <iosfwd>
#include <new>
#include <optional>
#include <type_traits>
#include <utility>
#include <vector>

#include "bytepool/allocator.hpp"
#include "bytepool/bytepool.h"
#include "bytepool/context.hpp"
#include "bytepool/error.hpp"
#include "bytepool/memory_resource.hpp"
#include "bytepool/pooled_buffer.hpp"
#include "bytepool/private/bridge.h"
#include "bytepool/private/cxx.h"
#include "bytepool/shared_buffer.hpp"

namespace bytepool {

// One handle on a pool. A program always holds it in a rust::Box. A Context, a memory_resource and a context of C have
// a handle, too. Buffers and allocators have none. A buffer keeps its memory, but not the pool open; an allocator keeps
// neither. The pool closes when its last handle ends. private/bridge.h declares it, as cxx made it, with these members
// and no others; a test compares them. Each may be called from any thread at any time.
//
//     struct Pool {
//         // Another handle on the same pool. Throws rust::Error if the system has no memory.
//         rust::Box<Pool> clone() const;
//
//         // Closes the pool for all its handles: gets fail, waiters wake, and idle memory goes back to the system at
//         // once, on Windows with the last buffer. Outstanding buffers stay good until they are put. A second close
//         // has no effect.
//         void close() const noexcept;
//
//         // Whether the pool was closed.
//         bool is_closed() const noexcept;
//
//         // Gives idle memory back to the system, and keeps at least `keep_idle_bytes` bytes of idle slots if there
//         // are as many. Only whole pages go, and none of a pinned pool or on Windows. Returns how many bytes of
//         // slots went back. It drains the thread caches.
//         std::size_t trim(std::size_t keep_idle_bytes) const noexcept;
//
//         // The alignment of every buffer, in bytes.
//         std::size_t alignment() const noexcept;
//
//         // The room that a buffer got for `size` bytes has at least, in bytes. A buffer that will grow can ask for
//         // that many at once. Throws rust::Error if the rounding function panics.
//         std::size_t good_size(std::size_t size) const;
//
//         // The pool's figures. `std::cout << pool->stats()` prints them.
//         Stats stats() const noexcept;
//
//         // The figures of a size class. Classes are counted from 0 by ascending buffer size. Throws rust::Error if
//         // there is no such class.
//         ClassStats class_stats(std::size_t index) const;
//
//         // Writes as many regions of a pinned pool's memory to `out` as there is room for. Returns how many the pool
//         // has. bytepool::pinned_regions gives them all.
//         std::size_t pinned_regions(rust::Slice<PinnedRegion> out) const noexcept;
//     };
struct Pool;

// The pool keeps `capacity` idle buffers of `buffer_size` bytes. Beyond that it keeps a slack: an eighth of the
// capacity, but at least 256 KiB and one buffer. What threads cache comes on top. More can be out.
using SizeClass = ::bytepool_size_class;
// A pool's figures; bytepool.h explains each.
using Stats = ::bytepool_stats;
// One class's figures.
using ClassStats = ::bytepool_class_stats;
// A part of a pinned pool's memory.
using PinnedRegion = ::bytepool_region;

// A tracked buffer that is outstanding; bytepool_outstanding explains each field.
using Outstanding = ::bytepool_outstanding;

// What a pool is built from. bytepool.h explains each field at bytepool_config, and the flags at BYTEPOOL_ZERO_ON_GET;
// each flag is a `bool` here. `thread_cache = false` is BYTEPOOL_NO_THREAD_CACHE. No pointer into the config is kept,
// but `round` is called as long as the pool lives. It must not throw.
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
// Whether the loaded library has this header's major version, and at least its minor version. The inline code here fits
// no other.
[[nodiscard]] inline bool version_fits() noexcept {
    static const bool fits = bytepool_version() / 1000000 == BYTEPOOL_VERSION_MAJOR &&
                             bytepool_version() / 1000 % 1000 >= BYTEPOOL_VERSION_MINOR;
    return fits;
}

[[nodiscard]] inline bytepool_config config_of(const PoolConfig &config) noexcept {
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
    return c;
}

// If the header does not fit the library, `why` is BYTEPOOL_ERR_INVALID_ARGUMENT.
[[nodiscard]] inline std::optional<rust::Box<Pool>> box_of(Pool *pool, bytepool_status &why) noexcept {
    if (pool == nullptr) {
        why = version_fits() ? why : bytepool_status{BYTEPOOL_ERR_INVALID_ARGUMENT};
        return std::nullopt;
    }
    return rust::Box<Pool>::from_raw(pool);
}
} // namespace detail

// Makes a pool, without exceptions. The Box is one handle on it. Returns nullopt on failure, and `why` says why:
// BYTEPOOL_ERR_INVALID_ARGUMENT for a contradictory config, or if this header does not fit the library; LIMIT if there
// are too many pools, or if pinned slots are above max_bytes; OUT_OF_MEMORY. It is BYTEPOOL_OK otherwise.
[[nodiscard]] inline std::optional<rust::Box<Pool>> try_new_pool(const PoolConfig &config,
                                                                 bytepool_status &why) noexcept {
    return detail::box_of(detail::version_fits() ? detail::try_new_pool(detail::config_of(config), why) : nullptr, why);
}

// A handle on the pool of a context from C, without exceptions. The context stays the caller's. Returns nullopt on
// failure, and `why` says why: BYTEPOOL_ERR_INVALID_CONTEXT or CLOSED if the context is not a live one, OUT_OF_MEMORY,
// or INVALID_ARGUMENT if this header does not fit the library. It is BYTEPOOL_OK otherwise.
[[nodiscard]] inline std::optional<rust::Box<Pool>> try_pool_of_context(void *context, bytepool_status &why) noexcept {
    auto *address = static_cast<std::uint8_t *>(context);
    return detail::box_of(detail::version_fits() ? detail::try_pool_of_context(address, why) : nullptr, why);
}

#ifdef BYTEPOOL_EXCEPTIONS
namespace detail {
[[noreturn]] void throw_version_error(const char *header);

// Throws std::runtime_error if the header does not fit the loaded library.
inline void check_version() {
    if (!version_fits()) {
        throw_version_error(BYTEPOOL_VERSION_STRING);
    }
}
} // namespace detail

// Makes a pool. The Box is one handle on it, and pool->clone() makes another. The pool closes when its last handle
// ends. Throws rust::Error if the config is contradictory, the system has no memory or addresses, or there are too many
// pools; and std::runtime_error if this header does not fit the library.
//
//     auto pool = bytepool::new_pool({{512, 1000}, {4096, 1000}});
//     bytepool::PooledBuffer buffer(*pool, 100);
//     pool->trim(0); // gives idle memory back
//     std::cout << pool->stats();
[[nodiscard]] inline rust::Box<Pool> new_pool(const PoolConfig &config) {
    detail::check_version();
    return detail::new_pool_of_config(detail::config_of(config));
}

// Makes a pool of these classes; everything else has its default. Throws what new_pool(PoolConfig) throws.
[[nodiscard]] inline rust::Box<Pool> new_pool(rust::Slice<const SizeClass> size_classes) {
    detail::check_version();
    return detail::new_pool_of_classes(size_classes);
}

namespace detail {
// Whether a type has contiguous SizeClasses: std::data and std::size tell where.
template <typename Classes, typename = void>
struct has_classes : std::false_type {};
template <typename Classes>
struct has_classes<Classes, std::void_t<decltype(std::data(std::declval<const Classes &>())),
                                        decltype(std::size(std::declval<const Classes &>()))>>
    : std::is_same<std::remove_cv_t<std::remove_pointer_t<decltype(std::data(std::declval<const Classes &>()))>>,
                   SizeClass> {};
} // namespace detail

// Makes a pool of the classes in a std::vector, std::span, std::array or array, constexpr or not; everything else has
// its default. Throws what new_pool(PoolConfig) throws.
template <typename Classes, std::enable_if_t<detail::has_classes<Classes>::value, int> = 0>
[[nodiscard]] rust::Box<Pool> new_pool(const Classes &size_classes) {
    return new_pool(rust::Slice<const SizeClass>(std::data(size_classes), std::size(size_classes)));
}

// Makes a pool of the classes that are written out; everything else has its default. Throws what new_pool(PoolConfig)
// throws.
[[nodiscard]] inline rust::Box<Pool> new_pool(std::initializer_list<SizeClass> size_classes) {
    return new_pool(rust::Slice<const SizeClass>(size_classes.begin(), size_classes.size()));
}

// A handle on the pool of a context from C. Throws rust::Error if the context is not a live one or the system has no
// memory; and std::runtime_error if this header does not fit the library.
[[nodiscard]] inline rust::Box<Pool> pool_of_context(void *context) {
    detail::check_version();
    return detail::pool_of_context(static_cast<std::uint8_t *>(context));
}

namespace detail {
[[noreturn]] void throw_no_classes(std::size_t smallest, std::size_t largest);
} // namespace detail

// Gives the general-purpose classes, for those who do not know which sizes they will ask for: from the first class that
// holds `smallest` bytes to the first that holds `largest`. They rise in steps of 64 bytes up to 512. Above, each
// doubling has four classes, and from 16 KiB on two. With a `smallest` below 64 the steps are of 16 bytes up to 128,
// and four a doubling begin there. That is for a pool whose alignment is 16. Each class keeps up to 64 MiB of idle
// buffers, but at most a million, and one at least. Throws std::invalid_argument if `largest` is 0, below `smallest` or
// above 3 GiB, or if more than 64 classes would be needed; and std::bad_alloc.
//
//     auto pool = bytepool::new_pool(bytepool::general_classes(64, 4 << 20));
[[nodiscard]] inline std::vector<SizeClass> general_classes(std::size_t smallest, std::size_t largest) {
    std::vector<SizeClass> classes(bytepool_general_classes(nullptr, 0, smallest, largest));
    if (classes.empty()) {
        detail::throw_no_classes(smallest, largest);
    }
    bytepool_general_classes(classes.data(), classes.size(), smallest, largest);
    return classes;
}
#endif

// The memory of a pool that was made `pinned`: all slots of all classes, in pieces of at most 1 GiB unless one slot is
// larger. The pool owns it, and it is good until the pool closes. For any other pool, and after it closed, the vector
// is empty. Throws std::bad_alloc. Any thread may call it.
//
//     for (const bytepool::PinnedRegion &region : bytepool::pinned_regions(*pool)) {
//         // to be registered with io_uring or a device: region.start, region.length
//     }
[[nodiscard]] inline std::vector<PinnedRegion> pinned_regions(const Pool &pool) {
    std::vector<PinnedRegion> regions(pool.pinned_regions(rust::Slice<PinnedRegion>()));
    const std::size_t count = pool.pinned_regions(rust::Slice<PinnedRegion>(regions.data(), regions.size()));
    regions.resize(count < regions.size() ? count : regions.size());
    return regions;
}

#ifdef BYTEPOOL_EXCEPTIONS
namespace detail {
// How many there are, or SIZE_MAX if there is no memory.
extern "C" std::size_t bytepool_cpp_dump_outstanding(const Pool &pool, bytepool_outstanding_handler handler,
                                                     void *user_data) noexcept;

// A bytepool_outstanding_handler for a vector. An element is left out if there is no memory for it.
inline void collect_outstanding(const Outstanding *buffer, void *all) noexcept {
    try {
        static_cast<std::vector<Outstanding> *>(all)->push_back(*buffer);
    } catch (const std::bad_alloc &) {
    }
}
} // namespace detail

// The tracked buffers that are outstanding, the oldest first; none if the pool does not track. File names in it are
// never freed; `data` is good while the buffer is out. Throws std::bad_alloc. Any thread may call it.
[[nodiscard]] inline std::vector<Outstanding> dump_outstanding(const Pool &pool) {
    std::vector<Outstanding> all;
    if (detail::bytepool_cpp_dump_outstanding(pool, detail::collect_outstanding, &all) != all.size()) {
        throw std::bad_alloc();
    }
    return all;
}
#endif

} // namespace bytepool

// Writes one line for each figure: its name and its value. The operators are in the global namespace, as the structs
// are, so that argument-dependent lookup finds them.
std::ostream &operator<<(std::ostream &out, const bytepool_stats &stats);
std::ostream &operator<<(std::ostream &out, const bytepool_class_stats &stats);

#endif
