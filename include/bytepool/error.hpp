// Why a get failed, as an exception; and whether there are exceptions at all.
#ifndef BYTEPOOL_ERROR_HPP
#define BYTEPOOL_ERROR_HPP

#include <new>

#include "bytepool/bytepool.h"

// Defined if there are exceptions. Under -fno-exceptions the try_ forms serve, and bytepool.hpp says what is left that
// would throw. MSVC may throw without the standard's macro.
#if defined(__cpp_exceptions) || defined(_MSC_VER)
#define BYTEPOOL_EXCEPTIONS 1
#endif

namespace bytepool {

// No buffer, and why. It is a std::bad_alloc, so what handles a lack of memory handles a pool at its limit. Copies do
// not throw: the text is inside, cut at 239 bytes.
class get_error : public std::bad_alloc {
  public:
    // Of the calling thread's last error.
    get_error() noexcept;

    // BYTEPOOL_ERR_LIMIT, CLOSED, OUT_OF_MEMORY, INVALID_ARGUMENT (an alignment that is no power of two) or another.
    [[nodiscard]] bytepool_status status() const noexcept { return status_; }
    // Names limit and value.
    [[nodiscard]] const char *what() const noexcept override;

  private:
    bytepool_status status_;
    char text_[240];
};

} // namespace bytepool

#endif
