// Where a get is called.
#ifndef BYTEPOOL_SOURCE_LOCATION_HPP
#define BYTEPOOL_SOURCE_LOCATION_HPP

#include <cstdint>

#if __cplusplus >= 202002L && __has_include(<source_location>)
#include <source_location>
#endif

#include "bytepool/bytepool.h"

namespace bytepool {

// Where a get is called: remembered by pools that track. The standard's from C++20 on.
#ifdef __cpp_lib_source_location
using source_location = std::source_location;
#else
struct source_location {
#if defined(__GNUC__) && (!defined(__clang__) || __clang_major__ >= 9)
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

} // namespace bytepool

#endif
