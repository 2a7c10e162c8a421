// What errors need out of line: the exception's text, and the cold throws.

#include "bytepool/bytepool.hpp"

#include <algorithm>
#include <stdexcept>
#include <string>

namespace bytepool {

get_error::get_error(const detail::Failure &failure) noexcept : status_(failure.status) {
    static_assert(sizeof(text_) == sizeof(failure.text));
    std::copy(failure.text.begin(), failure.text.end(), text_);
}

const char *get_error::what() const noexcept {
    return text_;
}

namespace detail {

void throw_get_error(const Failure &failure) {
    throw get_error(failure);
}

void throw_length_error(std::size_t size, std::size_t capacity) {
    throw std::length_error("bytepool: a size of " + std::to_string(size) + " bytes exceeds the buffer's capacity of " +
                            std::to_string(capacity));
}

void throw_out_of_range(std::size_t index, std::size_t size) {
    throw std::out_of_range("bytepool: there is no byte " + std::to_string(index) + ": the buffer has " +
                            std::to_string(size));
}

void throw_version_error(const char *header) {
    throw std::runtime_error("bytepool: the header is of version " + std::string(header) +
                             ", the library of version number " + std::to_string(bytepool_version()));
}

} // namespace detail

} // namespace bytepool
