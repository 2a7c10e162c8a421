// Context: a pool for C, as C++ holds it.
#ifndef BYTEPOOL_CONTEXT_HPP
#define BYTEPOOL_CONTEXT_HPP

#include <cstddef>
#include <optional>
#include <utility>

#include "bytepool/bytepool.h"
#include "bytepool/error.hpp"
#include "bytepool/private/bridge.h"
#include "bytepool/private/cxx.h"

namespace bytepool {

// A context for C: another handle on the pool, freed by the destructor. Move-only. Any thread may read it, but not
// while one moves, resets, releases or destroys it.
//
//     bytepool::Context context(*pool);
//     library_set_allocator(&bytepool_get, &bytepool_put, context.get());
class [[nodiscard]] Context {
  public:
#ifdef BYTEPOOL_EXCEPTIONS
    // Makes a context. Throws rust::Error if the pool already has 16384 live contexts, or if the system has no memory.
    [[nodiscard]] explicit Context(const Pool &pool)
        : context_(detail::context_of_pool(pool)), alignment_(pool.alignment()) {}
#endif
    // Makes a context. Returns nullopt on failure, and `why` says why: BYTEPOOL_ERR_LIMIT if the pool already has 16384
    // live contexts, or OUT_OF_MEMORY. It is BYTEPOOL_OK otherwise.
    [[nodiscard]] static std::optional<Context> try_new(const Pool &pool, bytepool_status &why) noexcept {
        void *context = detail::try_context(pool, why);
        return context == nullptr ? std::nullopt : std::optional(Context(context, pool.alignment()));
    }
    Context(const Context &) = delete;
    Context &operator=(const Context &) = delete;
    Context(Context &&other) noexcept : context_(other.release()), alignment_(other.alignment_) {}
    Context &operator=(Context &&other) noexcept {
        Context taken(std::move(other));
        taken.swap(*this);
        return *this;
    }
    ~Context() {
        reset();
    }

    // The `void *context` of the C functions; NULL once moved from, reset or released.
    [[nodiscard]] void *get() const noexcept {
        return context_;
    }
    // Whether there is a context: false once moved from, reset or released.
    explicit operator bool() const noexcept {
        return context_ != nullptr;
    }
    // The alignment of every buffer of the pool, in bytes.
    [[nodiscard]] std::size_t alignment() const noexcept {
        return alignment_;
    }
    // Gives it up, to be freed by bytepool_free. Returns NULL if there is none.
    [[nodiscard]] void *release() noexcept {
        return std::exchange(context_, nullptr);
    }
    // Frees it now.
    void reset() noexcept {
        if (context_ != nullptr) {
            bytepool_free(release());
        }
    }
    void swap(Context &other) noexcept {
        std::swap(context_, other.context_);
        std::swap(alignment_, other.alignment_);
    }

  private:
    Context(void *context, std::size_t alignment) noexcept : context_(context), alignment_(alignment) {}

    void *context_;
    std::size_t alignment_;
};

inline void swap(Context &a, Context &b) noexcept {
    a.swap(b);
}

} // namespace bytepool

#endif
