// allocator<T>: containers of the standard library in a pool, without virtual calls. Not there under -fno-exceptions,
// as it fails by std::bad_alloc.
//
//     bytepool::Context context(*pool);
//     std::vector<int, bytepool::allocator<int>> numbers(context);
#ifndef BYTEPOOL_ALLOCATOR_HPP
#define BYTEPOOL_ALLOCATOR_HPP

#include <cstddef>
#include <cstdint>
#include <new>
#include <type_traits>

#include "bytepool/bytepool.h"
#include "bytepool/context.hpp"
#include "bytepool/error.hpp"

#ifdef BYTEPOOL_EXCEPTIONS

namespace bytepool {

// Takes memory from the pool of a context, by bytepool_get and bytepool_put. It does not own the context. A container
// may outlive the context, and every handle on the pool. Once its context is freed it can free memory but not get any,
// even if the pool has other handles.
//
// Two allocators are equal if they have the same context; two contexts of one pool make unequal ones. Move assignment
// and swap take the allocator along. Copy construction takes the source's allocator. Copy assignment keeps the
// target's. There is no default constructor. Do not make one from a Context that was moved from: every allocation
// throws. Moving the Context afterwards is fine. Any thread may use an allocator.
template <typename T>
class allocator {
  public:
    using value_type = T;
    using propagate_on_container_move_assignment = std::true_type;
    using propagate_on_container_swap = std::true_type;
    using is_always_equal = std::false_type;

    // Not explicit, as containers take an allocator for their last argument.
    allocator(const Context &context) noexcept // NOLINT(google-explicit-constructor)
        : context_(context.get()), alignment_(context.alignment()) {}
    // A temporary context would be freed before the container gets anything.
    allocator(const Context &&) = delete;
    template <typename U>
    allocator(const allocator<U> &other) noexcept // NOLINT(google-explicit-constructor)
        : context_(other.context_), alignment_(other.alignment_) {}

    // Allocates `count` elements. For 0 it returns a pointer that is to be deallocated, too. Throws get_error, which is
    // a std::bad_alloc, or std::bad_array_new_length if their bytes overflow. Where T is aligned more strictly than the
    // pool, the memory comes from a class whose slots are so aligned, else from the system allocator.
    [[nodiscard]] T *allocate(std::size_t count) {
        if (count > SIZE_MAX / sizeof(T)) {
            throw std::bad_array_new_length();
        }
        const std::size_t bytes = count * sizeof(T);
        void *data = alignof(T) <= alignment_ ? bytepool_get(context_, bytes)
                                              : bytepool_get_aligned(context_, alignof(T), bytes);
        if (data == nullptr) {
            detail::throw_get_error();
        }
        return static_cast<T *>(data);
    }
    // Frees what `allocate` gave for as many elements. A wrong pointer or count changes nothing and goes to the misuse
    // handler. It frees on any thread.
    void deallocate(T *data, std::size_t count) noexcept { bytepool_put(context_, data, count * sizeof(T)); }

    template <typename U>
    [[nodiscard]] bool operator==(const allocator<U> &other) const noexcept {
        return context_ == other.context_;
    }
    template <typename U>
    [[nodiscard]] bool operator!=(const allocator<U> &other) const noexcept {
        return context_ != other.context_;
    }

  private:
    template <typename U>
    friend class allocator;

    void *context_;
    std::size_t alignment_;
};

} // namespace bytepool

#endif
#endif
