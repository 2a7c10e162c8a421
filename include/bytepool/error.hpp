// Why a get failed, as an exception; and whether there are exceptions at all.
#ifndef BYTEPOOL_ERROR_HPP
#define BYTEPOOL_ERROR_HPP

#include <new>

#include "bytepool/bytepool.h"

// Defined if there are exceptions. Under -fno-exceptions the try_ forms serve, and bytepool.hpp says what is left that
// would throw.
#if defined(__cpp_exceptions) || defined(_CPPUNWIND)
#define BYTEPOOL_EXCEPTIONS 1
#endif

namespace bytepool {

// Thrown when a get fails. It is a std::bad_alloc, so what handles a lack of memory handles a pool at its limit. Copies
// do not throw: the text is inside, cut at 239 bytes.
//
//     try {
//         bytepool::PooledBuffer buffer(*pool, 4096);
//     } catch (const bytepool::get_error &error) {
//         if (error.status() == BYTEPOOL_ERR_LIMIT) { ... }
//         std::cerr << error.what();
//     }
class get_error : public std::bad_alloc {
  public:
    // Made of the calling thread's last error.
    get_error() noexcept;

    // BYTEPOOL_ERR_LIMIT, CLOSED, OUT_OF_MEMORY or another. INVALID_ARGUMENT: the alignment is no power of two.
    [[nodiscard]] bytepool_status status() const noexcept { return status_; }
    // Names the limit and the value where there are any.
    [[nodiscard]] const char *what() const noexcept override;

  private:
    bytepool_status status_;
    char text_[240];
};

#ifdef BYTEPOOL_EXCEPTIONS
namespace detail {
[[noreturn]] void throw_get_error();
} // namespace detail
#endif

} // namespace bytepool

#endif
