// What errors need out of line: the exception's text, and the cold throws.

#include "bytepool/bytepool.hpp"

#include <cstring>
#include <stdexcept>
#include <string>

namespace bytepool {

get_error::get_error() noexcept : status_(bytepool_last_error()), text_("bytepool: ") {
    const std::size_t begun = std::strlen(text_);
    (void)bytepool_error_text(text_ + begun, sizeof(text_) - begun);
}

const char *get_error::what() const noexcept {
    return text_;
}

namespace detail {

void throw_get_error() {
    throw get_error();
}

void throw_length_error(std::size_t size, std::size_t capacity) {
    throw std::length_error("bytepool: a size of " + std::to_string(size) + " bytes exceeds the buffer's capacity of " +
                            std::to_string(capacity));
}

void throw_out_of_range(std::size_t index, std::size_t size) {
    throw std::out_of_range("bytepool: there is no byte " + std::to_string(index) + ": the buffer has " +
                            std::to_string(size));
}

void throw_too_many_shares() {
    throw std::length_error("bytepool: the buffer has its limit of 2147483648 holders");
}

void throw_bad_slice(std::size_t offset, std::size_t size, std::size_t whole) {
    throw std::out_of_range("bytepool: there are no " + std::to_string(size) + " bytes from byte " +
                            std::to_string(offset) + " on: the buffer has " + std::to_string(whole));
}

void throw_no_classes(std::size_t smallest, std::size_t largest) {
    throw std::invalid_argument("bytepool: no general-purpose classes for sizes from " + std::to_string(smallest) +
                                " to " + std::to_string(largest) + " bytes");
}

void throw_version_error(const char *header) {
    throw std::runtime_error("bytepool: the header is of version " + std::string(header) +
                             ", the library of version number " + std::to_string(bytepool_version()));
}

} // namespace detail

} // namespace bytepool
